"""A headless Chromium to look at the project's pages with."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import threading
import time
from pathlib import Path


class Browser:
    """Headless Chromium, spoken to over its debugging pipe (file descriptors 3 and 4), so no driver is needed."""

    def __init__(self, command: str, profile: Path):
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        pipe = ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
        shell = ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "sh"]
        self.process = subprocess.Popen([*shell, command, *flags, *pipe], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.watchdog = threading.Timer(0, lambda: None)
        self.watch()
        self.numbers, self.session, self.rest = itertools.count(1), {}, b""
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")
        attached = self.call("Target.attachToTarget", flatten=True, **target)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def watch(self) -> None:
        """A browser that hangs is killed, so that it fails its test, not stops it: this many seconds after the last page was opened."""
        self.watchdog.cancel()
        self.watchdog = threading.Timer(300, self.process.kill)
        self.watchdog.start()

    def receive(self) -> dict:
        while b"\0" not in self.rest:
            chunk = self.process.stdout.read1(1 << 16)
            assert chunk, "the browser ended"
            self.rest += chunk
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def call(self, method: str, **params) -> dict:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params, **self.session}
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while (answer := self.receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, address: str) -> None:
        self.watch()
        for place in ("about:blank", address):  # the first, because a change of fragment alone loads nothing
            self.events.clear()
            self.call("Page.navigate", url=place)
            while not self.named("Page.loadEventFired"):
                self.events.append(self.receive())

    def named(self, *methods: str) -> list[dict]:
        return [event["params"] for event in self.events if event["method"] in methods]

    def complaints(self) -> list[dict]:
        """What the console shows, uncaught errors and refusals of the content security policy included."""
        self.run("0")
        return self.named("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")

    def run(self, expression: str):
        options = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = self.call("Runtime.evaluate", **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60.0) -> None:
        """Until the expression is true."""
        end = time.monotonic() + seconds
        while not self.run(expression):
            assert time.monotonic() < end, f"not true after {seconds} s: {expression}"
            time.sleep(0.2)

    def screenshot(self, path: Path, width: int, height: int) -> None:
        """A PNG of the window's first ``height`` pixels."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", clip=clip)["data"]))

    def close(self) -> None:
        self.process.stdin.close()  # the end of its pipe ends the browser; if it does not, the watchdog will
        self.process.wait()
        self.process.stdout.close()
        self.watchdog.cancel()
