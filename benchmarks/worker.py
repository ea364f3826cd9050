"""A contender's side of the protocol: set up, say so, and work only when told to.

run.py writes a line to a worker's standard input for every round, ``{"seconds": S}``; the worker starts its clock, works in steps until S
seconds are over, answers with one line on its standard output and waits, idle, for the next. Runs in both environments, so it imports
nothing of either.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "torch", "transformers", "accelerate", "tokenizers", "numpy", "pandas")


class Meter:
    """The clock of a contender. Its loop calls ``start`` once and ``step`` after each step; both wait there while others are measured."""

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print goes to the log, not between the answers

    def start(self, cycle: int = 1) -> None:
        """Set-up is over. A round ends only after a whole number of ``cycle`` steps, where steps differ in a cycle."""
        self.cycle = cycle
        self._answer({"versions": versions()})

    def step(self, work: float, **more) -> None:
        """A step is done, ``work`` (tokens, sentences, FLOPs) of it; ``more`` goes into the answer if the round ends here."""
        self.work, self.steps = self.work + work, self.steps + 1
        if self.steps % self.cycle == 0 and time.perf_counter() - self.began >= self.seconds:
            self.report(**more)

    def stop(self) -> None:
        """Stop the clock before the round ends: what follows (an evaluation) is not measured."""
        self.elapsed = time.perf_counter() - self.began

    def report(self, **more) -> None:
        """End the round now."""
        if self.elapsed is None:
            self.stop()
        self._answer({"work": self.work, "steps": self.steps, "seconds": self.elapsed, "peak_mib": peak_mib(), **more})

    def _answer(self, answer: dict) -> None:
        print(json.dumps(answer), file=self.answers)
        line = sys.stdin.readline()
        if not line:  # run.py has closed the pipe; there may be someone else's training loop around this call
            os._exit(0)
        self.seconds = json.loads(line)["seconds"]
        self.work, self.steps, self.elapsed = 0.0, 0, None
        self.began = time.perf_counter()


def main(contenders: list[Callable]) -> None:
    """``python SCRIPT CONTENDER OPTIONS``: run one of ``contenders(meter, **options)``; the options are a JSON object."""
    meter = Meter()
    {contender.__name__: contender for contender in contenders}[sys.argv[1]](meter, **json.loads(sys.argv[2]))


def read(path: str) -> list[dict]:
    """The sentences of a JSONL file: ``{"tokens": [...], "tags": [...]}``."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_conll(path: str | Path) -> list[list[list[str]]]:
    """The sentences of a file with a word a line: the columns of each line, as evaluate.py writes word, gold and predicted tag."""
    blocks = Path(path).read_text(encoding="utf-8").strip().split("\n\n")
    return [[line.split(" ") for line in block.split("\n")] for block in blocks]


def versions() -> dict[str, str]:
    """Versions of the packages that matter, of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB (Linux)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
