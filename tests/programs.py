"""The programs, called as the command line calls them, and what a run leaves in its folder."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
import tensorflow as tf

from ner.checkpoint import Checkpoints
from ner.dashboard import is_timing
from ner.errors import run_main

ROOT = Path(__file__).parent.parent


def needs_ray(test):
    """Marks a test that starts Ray: skipped where that is not installed, and run by one worker of pytest-xdist, with no other beside it."""
    test = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (make test-ray)")(test)
    return pytest.mark.xdist_group("ray")(test)


class Done(NamedTuple):
    """A program that ended: its exit status, and what it wrote to standard output and standard error."""

    returncode: int
    stdout: str
    stderr: str


def call(program: str, *arguments, input: str = "") -> Done:
    """``python PROGRAM.py ARGUMENTS`` in this process, which has imported TensorFlow already."""
    module = importlib.import_module(program)
    given = io.TextIOWrapper(io.BytesIO(input.encode()), encoding="utf-8")
    out, error = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    argv = [f"{program}.py", *map(str, arguments)]
    with (
        mock.patch.multiple(sys, argv=argv, stdin=given, stdout=out, stderr=error),
        # conftest.py has made eight logical CPUs, for --cpu-replicas up to 8; a process can do so only once.
        mock.patch.object(tf.config, "set_logical_device_configuration"),
    ):
        status = run_main(module.main)
    return Done(status, *(stream.buffer.getvalue().decode() for stream in (out, error)))


@contextlib.contextmanager
def copied(after: int, folder: Path) -> Iterator[None]:
    """Copy the folder of a run made inside to ``folder`` right after its checkpoint number ``after``: what a crash then would leave."""
    saves, save = itertools.count(1), Checkpoints.save

    def save_and_copy(self, state):
        save(self, state)
        if next(saves) == after:
            shutil.copytree(self.folder.parent, folder)

    with mock.patch.object(Checkpoints, "save", save_and_copy):
        yield
    assert folder.is_dir(), f"the run wrote fewer than {after} checkpoints"


def whole_and_interrupted(flags: list, folder: Path, *, after: int) -> tuple[Path, Path]:
    """A whole run of train.py in ``folder``, and its folder as it stood right after its checkpoint number ``after``."""
    with copied(after, folder / "interrupted"):
        done = call("train", *flags, "--output", folder / "whole")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return folder / "whole", folder / "interrupted"


def process(*command, input: str | None = None) -> Done:
    """``python COMMAND`` in a process of its own."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, input=input)
    return Done(done.returncode, done.stdout, done.stderr)


def records(folder: Path) -> list[dict]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_clock(folder: Path) -> list[dict]:
    """``records`` without what differs between two runs of the same bits."""
    return [{k: v for k, v in record.items() if not is_timing(k)} for record in records(folder)]


def weights(folder: Path) -> bytes:
    """The weights of a run's best model, as its file holds them."""
    return (folder / "model" / "model.safetensors").read_bytes()


def scores(folder: Path) -> list[float]:
    """The validation F1 of each epoch."""
    return [record["validation/f1"] for record in records(folder) if "validation/f1" in record]


def events(folder: Path) -> dict[str, list[tuple]]:
    """Tag -> (step, value) of each point in a run's TensorBoard files."""
    found: dict[str, list[tuple]] = {}
    for path in sorted((folder / "tensorboard").glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, tf.make_ndarray(value.tensor)))
    return found
