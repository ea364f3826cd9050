"""Everything a resume needs: weights, optimizer, and where the run stands; written whole or not at all, checked before it is trusted.

A checkpoint is a folder ``checkpoints/step-N`` of a tf.train.Checkpoint and ``state.json``, which holds the sha256 of every other file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from ner import files
from ner.errors import InputError

STATE = "state.json"


@dataclasses.dataclass
class State:
    """Where a run stands.

    Attributes:
        epoch: epochs done.
        step, step_in_epoch: updates done over the run, and in the current epoch.
        total_steps: updates of the whole run, counted on its first epoch; the learning rate follows it.
        best_f1, best_step: the best validation F1 so far, and after how many updates it was.
        not_better: validations since then.
        finished: whether the run is at its end.
        seconds: wall-clock time of the updates; tracing, compiling, evaluating and saving are not in it.
        recent_updates, recent_loss, recent_pieces, recent_seconds: since the last validation: updates not skipped, the sum of their
            losses, real word pieces, seconds.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    total_steps: int = 0
    best_f1: float = -1.0
    best_step: int = 0
    not_better: int = 0
    finished: bool = False
    seconds: float = 0.0
    recent_updates: int = 0
    recent_loss: float = 0.0
    recent_pieces: int = 0
    recent_seconds: float = 0.0

    def advance(self, steps: int, epoch_steps: int) -> None:
        """Go on by the ``steps`` updates of a host call, and behind an epoch's last to the start of the next."""
        self.step += steps
        self.step_in_epoch += steps
        if self.step_in_epoch == epoch_steps:
            self.epoch, self.step_in_epoch = self.epoch + 1, 0

    def note_validation(self, f1: float) -> bool:
        """Take note of a validation; whether it is the best so far (the first one always is)."""
        if f1 > self.best_f1:
            self.best_f1, self.best_step, self.not_better = f1, self.step, 0
            return True
        self.not_better += 1
        return False


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self,
        folder: Path,
        weights: dict[str, tf.Variable],
        optimizer: tf.Module,
        *,
        keep: int,
        fingerprint: dict,
        environment: dict | None = None,
        chief: bool = True,
    ):
        """Variables are stored under their names, so layers that change places are still restored into the right ones.

        fingerprint: what must be the same for a resume to make sense. environment: what must be the same for it to give the same bits.
        Only the ``chief`` saves.
        """
        self.folder, self.keep, self.chief = folder, keep, chief
        self.fingerprint, self.environment = fingerprint, environment or {}
        self.checkpoint = tf.train.Checkpoint(weights=weights, optimizer=optimizer)
        self.saved = time.monotonic()  # when the last one was written, or the run began

    def save(self, state: State) -> None:
        """Write ``step-N`` for ``state.step`` and delete all but the newest ``keep``."""
        self.saved = time.monotonic()
        if not self.chief:
            return
        final = self.folder / f"step-{state.step:09d}"
        later = [path for path in self.steps() if path > final]  # damaged ones that the run went back behind
        for left in (*self.folder.glob(".step-*"), *later):
            shutil.rmtree(left, ignore_errors=True)
        with files.replacing_folder(final) as partial:
            with files.tensorflow_errors_as_os_errors(partial):
                self.checkpoint.write(str(partial / "variables"))
            sums = {path.name: files.sha256(path) for path in sorted(partial.iterdir())}
            record = {"state": dataclasses.asdict(state), "fingerprint": self.fingerprint, "environment": self.environment, "sha256": sums}
            (partial / STATE).write_text(json.dumps({**record, "self": _digest(record)}, indent=1), encoding="utf-8")
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def steps(self) -> list[Path]:
        """The checkpoint folders, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def newest(self, say: Callable[[str], None]) -> tuple[Path, dict] | None:
        """The newest intact checkpoint and its record; damaged ones are named through ``say`` and passed over."""
        for path in reversed(self.steps()):
            try:
                record = json.loads((path / STATE).read_text(encoding="utf-8"))
                if record.pop("self") != _digest(record):
                    raise ValueError(f"{STATE} does not match its checksum")
                for name, expected in record["sha256"].items():
                    if files.sha256(path / name) != expected:
                        raise ValueError(f"{name} does not match its checksum")
                return path, record
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                say(f"checkpoint {path} is damaged ({error}); looking for the one before it")
        return None

    def restore(self, path: Path, record: dict) -> State:
        """Load the variables of a checkpoint found by ``newest``. Raises InputError where it holds other variables than the model."""
        try:
            self.checkpoint.read(str(path / "variables")).assert_consumed()
            return State(**record["state"])
        except (AssertionError, ValueError, TypeError):
            what = "holds other variables than this version of the code trains"
            raise InputError(what, path=path, hint="continue with the version that wrote it, or --overwrite the run") from None


def differences(now: dict, then: dict) -> list[str]:
    """``key: then -> now`` for each key of two fingerprints that differs."""
    return [f"{key}: {then.get(key)!r} -> {now.get(key)!r}" for key in sorted({*now, *then}) if now.get(key) != then.get(key)]


def _digest(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
