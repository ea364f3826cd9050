"""Everything a resume needs: weights, optimizer, and where the run stands; written whole or not at all, checked before it is trusted.

A checkpoint is a folder ``checkpoints/step-N`` of a tf.train.Checkpoint and ``state.json``, which holds the sha256 of every other file.
It is written under another name, synced and renamed, so a half-written one is never seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from ner.files import sha256

STATE = "state.json"


@dataclasses.dataclass
class State:
    """Where a run stands. ``step`` counts updates over the run, ``step_in_epoch`` those of the current epoch (from 0).

    ``seconds``: wall-clock time of the updates so far; evaluation, saving and start-up are not in it.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    best_f1: float = -1.0
    best_epoch: int = 0
    stale_epochs: int = 0
    finished: bool = False
    seconds: float = 0.0


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, weights: list[tf.Variable], optimizer: tf.Module, *, keep: int, fingerprint: dict, chief: bool = True):
        """``fingerprint``: what must be the same for a resume to make sense (see ``differences``). Only the ``chief`` saves."""
        self.folder, self.keep, self.fingerprint, self.chief = folder, keep, fingerprint, chief
        self.checkpoint = tf.train.Checkpoint(weights=weights, optimizer=optimizer)
        self.saved = time.monotonic()  # when the last one was written, or the run began

    def save(self, state: State) -> None:
        """Write ``step-N`` for ``state.step`` and delete all but the newest ``keep``."""
        self.saved = time.monotonic()
        if not self.chief:
            return
        final = self.folder / f"step-{state.step:09d}"
        partial = self.folder / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with as_os_error(partial):
            self.checkpoint.write(str(partial / "variables"))
        files = {path.name: sha256(path) for path in sorted(partial.iterdir())}
        record = {"state": dataclasses.asdict(state), "fingerprint": self.fingerprint, "sha256": files}
        (partial / STATE).write_text(json.dumps({**record, "self": _digest(record)}, indent=1), encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)
        _sync(self.folder)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def steps(self) -> list[Path]:
        """The checkpoint folders, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def newest(self, say: Callable[[str], None]) -> tuple[Path, dict] | None:
        """The newest whole checkpoint and its record; damaged ones are named through ``say`` and passed over."""
        for path in reversed(self.steps()):
            try:
                record = json.loads((path / STATE).read_text(encoding="utf-8"))
                if record.pop("self") != _digest(record):
                    raise ValueError(f"{STATE} does not match its checksum")
                for name, expected in record["sha256"].items():
                    if sha256(path / name) != expected:
                        raise ValueError(f"{name} does not match its checksum")
                return path, record
            except (OSError, ValueError, KeyError, AttributeError) as error:
                say(f"checkpoint {path} is damaged ({error}); looking for the one before it")
        return None

    def restore(self, path: Path, record: dict) -> State:
        """Load the variables of a checkpoint found by ``newest``; every variable must be there."""
        self.checkpoint.read(str(path / "variables")).assert_consumed()
        return State(**record["state"])


@contextlib.contextmanager
def as_os_error(path: Path):
    """TensorFlow's errors of files (a full disk, a folder that may not be written) as Python's, which the entry points make one line of."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = str(error.message).strip().split("\n")[0]
        raise OSError(errno.ENOSPC if isinstance(error, tf.errors.ResourceExhaustedError) else errno.EIO, reason, str(path)) from None


def differences(now: dict, then: dict) -> list[str]:
    """``key: then -> now`` for each key of two fingerprints that differs."""
    return [f"{key}: {then.get(key)!r} -> {now.get(key)!r}" for key in sorted({*now, *then}) if now.get(key) != then.get(key)]


def _digest(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Have the disk hold the file or folder before anything refers to it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
