"""Run a command on a Ray cluster of two simulated hosts, and cut one off in the middle. For root, on Linux.

    sudo .venv-ray/bin/python tools/two_hosts.py --cut-after 'runs/two/checkpoints/step-*' --back 60 -- \\
        .venv-ray/bin/python launch.py --address 10.99.0.1:6379 --workers 2 --cpus-per-worker 1 --restarts 1 -- --output runs/two ...

Each host is a network namespace with an address and a /tmp/ray (also its TMPDIR) of its own; all other files are shared. Packets from one
to the other pass through this program, which holds each for ``--delay`` ms. The command runs on host a, beside the head of Ray. As soon as
a path matches ``--cut-after`` all packets are dropped. ``--back`` seconds later they pass again, and host b starts Ray anew.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import glob
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

HOSTS = {"a": "10.99.0.1", "b": "10.99.0.2"}
PORT = 6379
TUNSETIFF, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001  # of linux/if_tun.h
MTU = 9000
BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:.0f} s] {text}", flush=True)


class Wire:
    """Brings each packet from one host to the other, ``delay`` seconds later; none while ``cut``."""

    def __init__(self, delay: float):
        self.delay, self.cut = delay, False
        a, b = self._end("a", "b"), self._end("b", "a")
        self.other = {a: b, b: a}
        threading.Thread(target=self._carry, daemon=True).start()

    def _end(self, name: str, other: str) -> int:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", f"wire-{name}".encode(), TUN_WITHOUT_HEADER))
        inside = f"ip -n host-{name}"
        for command in (
            f"ip netns add host-{name}",
            f"ip link set wire-{name} netns host-{name}",
            f"{inside} link set lo up",
            f"{inside} link set wire-{name} mtu {MTU} txqueuelen 10000 up",
            f"{inside} addr add {HOSTS[name]} peer {HOSTS[other]} dev wire-{name}",
        ):
            subprocess.run(command.split(), check=True)
        return device

    def _carry(self) -> None:
        under_way: collections.deque[tuple[float, int, bytes]] = collections.deque()
        with contextlib.suppress(OSError):  # at the end the devices go
            while True:
                wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
                for end in select.select(self.other, [], [], wait)[0]:
                    packet = os.read(end, MTU)
                    if not self.cut:
                        under_way.append((time.monotonic() + self.delay, self.other[end], packet))
                while under_way and under_way[0][0] <= time.monotonic():
                    _, end, packet = under_way.popleft()
                    os.write(end, packet)


def start(host: str, command: list[str], folder: str, **options) -> subprocess.Popen:
    own = f'mount --bind {folder}/{host} /tmp/ray && TMPDIR=/tmp/ray exec "$0" "$@"'
    return subprocess.Popen(["ip", "netns", "exec", f"host-{host}", "bash", "-c", own, *command], **options)


def start_ray(host: str, cpus: int, folder: str) -> None:
    role = f"--head --port {PORT} --include-dashboard=false" if host == "a" else f"--address {HOSTS['a']}:{PORT}"
    options = f"--node-ip-address {HOSTS[host]} --num-cpus {cpus} --object-store-memory 500000000 --disable-usage-stats"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *role.split(), *options.split()]
    if start(host, command, folder, stdout=subprocess.DEVNULL).wait():
        sys.exit(f"Ray did not start on host {host}")


def processes(host: str) -> list[int]:
    return [int(line) for line in subprocess.check_output(["ip", "netns", "pids", f"host-{host}"]).split()]


def kill_all(host: str) -> None:
    for process in processes(host):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def run(given: argparse.Namespace, wire: Wire, folder: str) -> int:
    for host in HOSTS:
        os.mkdir(f"{folder}/{host}")
        start_ray(host, given.cpus, folder)
    say("Ray runs on both hosts")
    job = start("a", given.command, folder)
    while given.cut_after and job.poll() is None and not glob.glob(given.cut_after):
        time.sleep(0.1)
    if given.cut_after and job.poll() is None:
        for host in HOSTS:
            names = subprocess.run(["ps", "-o", "args=", *map(str, processes(host))], capture_output=True, text=True).stdout.splitlines()
            say(f"at work on {host}: {', '.join(sorted(name.strip() for name in names if name.startswith('ray::')))}")
        wire.cut = True
        say("host b is cut off")
        if given.back is not None:
            time.sleep(given.back)
            kill_all("b")
            wire.cut = False
            start_ray("b", given.cpus, folder)
            say("host b is back")
    status = job.wait()
    say(f"exit status {status}")
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=3.0, help="ms that a packet takes from one host to the other")
    parser.add_argument("--cpus", type=int, default=1, help="that Ray counts on each host")
    parser.add_argument("--cut-after", metavar="GLOB", help="cut host b off once a path matches")
    parser.add_argument("--back", type=float, help="seconds from the cut to the return of host b")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    os.makedirs("/tmp/ray", exist_ok=True)
    os.environ["RAY_AUTH_MODE"] = "disabled"  # nothing from outside reaches the two
    with tempfile.TemporaryDirectory() as folder:
        try:
            return run(given, Wire(given.delay / 1000), folder)
        finally:
            for host in HOSTS:
                kill_all(host)
                subprocess.run(["ip", "netns", "delete", f"host-{host}"], check=False)


if __name__ == "__main__":
    sys.exit(main())
