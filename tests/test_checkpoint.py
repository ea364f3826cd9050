"""A checkpoint is whole or not seen: every file of it damaged in turn, and writes that fail midway."""

from __future__ import annotations

import os

import pytest
import tensorflow as tf

from ner.checkpoint import Checkpoints, State
from ner.optimizer import AdamW


@pytest.fixture
def checkpoints(tmp_path):
    """Two checkpoints, of steps 1 and 2, of a weight that holds its step."""
    weight = tf.Variable([0.0, 0.0])
    made = Checkpoints(tmp_path / "checkpoints", [weight], AdamW([weight], weight_decay=0.0, clip_norm=0.0), keep=2, fingerprint={"a": 1})
    for step in (1, 2):
        weight.assign([float(step)] * 2)
        made.save(State(step=step))
    return made


def newest(checkpoints):
    said = []
    found = checkpoints.newest(said.append)
    return found and checkpoints.restore(*found).step, said


FILES = ("state.json", "variables.index", "variables.data-00000-of-00001")


def test_the_newest_is_found_and_restored(checkpoints):
    assert sorted(p.name for p in checkpoints.steps()[-1].iterdir()) == sorted(FILES)
    assert newest(checkpoints) == (2, [])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete"])
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_used(checkpoints, name, damage):
    path = checkpoints.steps()[-1] / name
    content = path.read_bytes()
    for position in sorted({0, 1, *range(0, len(content), 1 + len(content) // 20), len(content) - 1}) if damage == "flip" else [0]:
        if damage == "flip":
            path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        elif damage == "delete":
            path.unlink()
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"")
        step, said = newest(checkpoints)
        assert step == 1 and len(said) == 1 and str(path.parent) in said[0], position


def test_none_is_whole(checkpoints):
    for folder in checkpoints.steps():
        (folder / "state.json").write_text("{}")
    step, said = newest(checkpoints)
    assert step is None and len(said) == 2


def test_a_write_that_fails_leaves_the_last_one(checkpoints, monkeypatch):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(checkpoints.checkpoint, "write", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(State(step=3))
    assert newest(checkpoints) == (2, [])


def test_a_rename_that_never_comes_is_not_seen(checkpoints, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(State(step=3))
    assert newest(checkpoints) == (2, [])
    checkpoints.save(State(step=3))
    assert newest(checkpoints) == (3, []) and len(checkpoints.steps()) == 2
