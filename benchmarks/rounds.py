"""Workers, and rounds over them: one is measured while the others wait idle."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
HOLD = HERE / "hold"  # while it exists no round begins
OURS, PEERS = "ours.py", "peers.py"
WARM_UP_ROUNDS = 2  # the second, because a compiler may meet its second shape only then
OTHERS = 0.05  # a round is repeated if other processes took more of the CPUs: PyTorch's threads spin, and lose 10x to any other load


@dataclasses.dataclass(frozen=True)
class Contender:
    """``kind`` is a function of ``script``, ``options`` its arguments; ``name`` is for the tables."""

    name: str
    script: str
    kind: str
    options: dict


class Ended(Exception):
    """The worker has ended: well (no reason), or with a reason."""

    def __init__(self, reason: str = ""):
        super().__init__(reason)
        self.reason = reason


class Worker:
    """A running contender, set up when the constructor returns."""

    def __init__(self, contender: Contender, peers: str, logs: Path):
        """``peers``: the Python of the peers' environment; ``logs``: folder for what the worker prints and its temporary files."""
        self.name, self.log = contender.name, logs / f"{contender.name.replace(' ', '_').replace('/', '_')}.log"
        python = peers if contender.script == PEERS else sys.executable
        command = [python, str(HERE / contender.script), contender.kind, json.dumps(contender.options)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "TMPDIR": str(logs)}
        if not os.access(python, os.X_OK):
            raise Ended(f"no {python}: make bench installs it")
        began = time.perf_counter()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=ROOT
            )
        self.versions = self._answer()["versions"]
        self.setup_seconds = time.perf_counter() - began

    def measure(self, seconds: float) -> dict:
        """One round. ``others`` in the answer is the share of the CPUs that other processes took meanwhile (Linux)."""
        assert self.process.stdin
        while HOLD.exists():
            time.sleep(1)
        began, busy, own = time.perf_counter(), machine_seconds(), process_seconds(self.process.pid)
        with contextlib.suppress(BrokenPipeError):  # it has ended; there is no answer then, which is told below
            print(json.dumps({"seconds": seconds}), file=self.process.stdin, flush=True)
        answer = self._answer()
        busy, own = machine_seconds() - busy, process_seconds(self.process.pid) - own
        others = max(0.0, busy - own) / (time.perf_counter() - began) / (os.cpu_count() or 1)
        return {**answer, "others": round(others, 3)}

    def _answer(self) -> dict:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        status = self.process.wait()
        last = self.log.read_text(errors="replace").strip().split("\n")[-1]
        raise Ended("" if status == 0 else f"status {status}: {last}")

    def close(self) -> None:
        """Close its standard input, at which it ends, and wait until it has."""
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(contenders: list[Contender], peers: str, logs: Path, left_out: dict[str, str]) -> list[Worker]:
    """Set them up one after another; one that cannot be is noted in ``left_out``."""
    workers = []
    for contender in contenders:
        try:
            workers.append(Worker(contender, peers, logs))
            print(f"{contender.name}: ready after {workers[-1].setup_seconds:.1f} s", flush=True)
        except Ended as end:
            left_out[contender.name] = end.reason
            print(f"{contender.name}: left out ({end.reason})", flush=True)
    return workers


def alternate(workers: list[Worker], rounds: int, seconds: float, busy: bool, left_out: dict[str, str]) -> dict[str, list[dict]]:
    """Warm up, then ``rounds`` rounds, there and back in turn so that a drift of the machine falls on all; the workers are closed.

    A round that other processes disturbed is repeated, unless ``busy``.
    """
    measured: dict[str, list[dict]] = {worker.name: [] for worker in workers}
    try:
        for number in range(-WARM_UP_ROUNDS, rounds):
            for worker in workers if number % 2 == 0 else workers[::-1]:
                if worker.name in left_out:
                    continue
                try:
                    answer = worker.measure(seconds)
                    while not answer["work"] or (number >= 0 and answer["others"] > OTHERS and not busy):
                        if answer["work"]:  # none: an epoch's end fell on the end of the last round
                            print(f"{worker.name}: other processes took {answer['others']:.0%} of the CPUs; once more", flush=True)
                        answer = worker.measure(seconds)
                except Ended as end:
                    left_out[worker.name] = end.reason
                    print(f"{worker.name}: left out ({end.reason})", flush=True)
                    continue
                label = f"round {number + 1}/{rounds}" if number >= 0 else "warm-up"
                print(f"{label}  {worker.name}: {answer['work'] / answer['seconds']:,.0f} a second", flush=True)
                if number >= 0:
                    measured[worker.name].append(answer)
    finally:
        for worker in workers:
            worker.close()
    return {name: answers for name, answers in measured.items() if name not in left_out}


def machine_seconds() -> float:
    """CPU seconds that all processes together have used, time stolen by other virtual machines included."""
    user, nice, system, _, _, irq, soft, steal = (int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """CPU seconds a process has used; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
