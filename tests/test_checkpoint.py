"""A checkpoint is whole or not seen: every file of it damaged in turn, and writes that fail midway."""

from __future__ import annotations

import os

import pytest
import tensorflow as tf

from ner.checkpoint import Checkpoints, State
from ner.errors import InputError
from ner.optimizer import AdamW


@pytest.fixture
def checkpoints(tmp_path):
    """Two checkpoints, of steps 1 and 2, of a weight that holds its step."""
    weight = tf.Variable([0.0, 0.0])
    named = {"weight": weight}
    made = Checkpoints(tmp_path / "checkpoints", named, AdamW(named, weight_decay=0.0), keep=2, fingerprint={"a": 1})
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


def test_a_record_that_is_no_object_is_passed_over(checkpoints):
    (checkpoints.steps()[-1] / "state.json").write_text("[]")
    step, said = newest(checkpoints)
    assert step == 1 and len(said) == 1


def test_none_is_intact(checkpoints):
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


def test_what_a_kill_left_half_written_is_removed_by_the_next_save(checkpoints):
    (checkpoints.folder / ".step-000000009.partial").mkdir()
    checkpoints.save(State(step=3))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-000000002", "step-000000003"]


def test_layers_that_change_places_are_restored_into_the_right_ones(tmp_path):
    """Two variables of one shape, saved in one order and read in the other."""
    variables = {name: tf.Variable([value]) for name, value in (("query", 1.0), ("key", 2.0))}
    Checkpoints(tmp_path / "c", variables, AdamW(variables, weight_decay=0.0), keep=1, fingerprint={}).save(State(step=1))
    swapped = {name: tf.Variable([0.0]) for name in ("key", "query")}
    other = Checkpoints(tmp_path / "c", swapped, AdamW(swapped, weight_decay=0.0), keep=1, fingerprint={})
    assert newest(other) == (1, [])
    assert {name: float(variable[0]) for name, variable in swapped.items()} == {"query": 1.0, "key": 2.0}


def test_a_checkpoint_of_other_variables_is_refused(checkpoints):
    named = {"weight": tf.Variable([0.0, 0.0]), "new": tf.Variable([0.0])}
    other = Checkpoints(checkpoints.folder, named, AdamW(named, weight_decay=0.0), keep=2, fingerprint={})
    with pytest.raises(InputError, match="other variables"):
        newest(other)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_one_that_the_run_went_back_behind_does_not_push_out_the_new_one(checkpoints, keep):
    newest_folder = checkpoints.steps()[-1]
    (newest_folder / "state.json").write_text("{}")
    newest_folder.rename(newest_folder.with_name("step-000000009"))
    checkpoints.keep = keep
    checkpoints.save(State(step=3))
    assert newest(checkpoints) == (3, [])
