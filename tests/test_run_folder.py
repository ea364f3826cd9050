"""What is in an output folder is the user's until a run wrote it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ner import run_folder
from ner.checkpoint import State
from ner.config import Config, to_toml
from ner.errors import InputError


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def config_for(output, **keys):
    return run_folder.named(Config(output=str(output), **keys))


def written_by_a_run(output):
    (output / "config.toml").write_text(to_toml(config_for(output)))
    (output / "metrics.jsonl").write_text("")
    (output / "checkpoints").mkdir()


def test_a_new_or_empty_folder_is_taken(output):
    for folder in (output, output / "deeper" / "new"):
        config = config_for(folder)
        run_folder.check(config)
        run_folder.prepare(config, State())
        assert (folder / "config.toml").is_file()


@pytest.mark.parametrize("keys", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_of_something_else_is_left_alone(output, keys):
    (output / "config.toml").write_text('baseURL = "x"\n')
    (output / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="run"):
        run_folder.check(config_for(output, **keys))
    assert sorted(p.name for p in output.iterdir()) == ["config.toml", "thesis.txt"]


def test_a_run_with_a_key_that_this_version_does_not_know_is_named_so(output):
    written_by_a_run(output)
    with open(output / "config.toml", "a") as file:
        file.write("novelty = 3\n")
    with pytest.raises(InputError, match="unknown key 'novelty'"):
        run_folder.check(config_for(output, resume=True))


def test_overwrite_refuses_what_no_run_wrote_and_inputs_inside_the_folder(output):
    written_by_a_run(output)
    (output / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="notes.txt"):
        run_folder.check(config_for(output, overwrite=True))
    (output / "notes.txt").unlink()
    (output / "model").mkdir()
    with pytest.raises(InputError, match="would delete encoder"):
        run_folder.check(config_for(output, overwrite=True, encoder=str(output / "model")))


def test_overwrite_removes_a_runs_own_parts(output):
    written_by_a_run(output)
    config = config_for(output, overwrite=True)
    run_folder.check(config)
    run_folder.prepare(config, State())
    assert sorted(p.name for p in output.iterdir()) == ["checkpoints", "config.toml"]


def test_resume_without_a_checkpoint_starts_but_never_over_a_model(output):
    written_by_a_run(output)
    (output / "notes.txt").write_text("mine")
    config = config_for(output, resume=True)
    run_folder.check(config)
    run_folder.prepare(config, State())
    assert (output / "notes.txt").read_text() == "mine"
    (output / "model").mkdir()
    run_folder.prepare(config, State())  # it ended between its first model and its first checkpoint
    assert (output / "model").is_dir()
    (output / "checkpoints").rmdir()
    with pytest.raises(InputError, match="checkpoints are gone"):
        run_folder.prepare(config, State())


def test_a_continued_run_is_left_as_it_is(output):
    written_by_a_run(output)
    run_folder.prepare(dataclasses.replace(config_for(output, resume=True), epochs=9), State(step=5))
    assert "epochs = 9" not in (output / "config.toml").read_text()


def test_a_folder_killed_while_it_was_prepared_can_be_taken(output, monkeypatch):
    written_by_a_run(output)
    config = config_for(output, overwrite=True)
    for module, name in ((run_folder.shutil, "rmtree"), (run_folder.files.os, "replace")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, lambda *a, **k: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run_folder.prepare(config, State())
        run_folder.check(config_for(output, resume=True))
        run_folder.check(config)
    new = output.parent / "new"
    new.mkdir()
    (new / ".config.toml.12.partial").write_text("epo")
    run_folder.check(config_for(new))


def test_what_killed_writes_left_is_no_stranger_and_is_removed(output):
    written_by_a_run(output)
    for name in (".metrics.jsonl.12.partial", ".config.toml.7.partial"):
        (output / name).write_text("half")
    for name in (".model.partial", ".model.previous"):
        (output / name).mkdir()
    config = config_for(output, overwrite=True)
    run_folder.check(config)
    run_folder.prepare(config, State())
    assert sorted(p.name for p in output.iterdir()) == ["checkpoints", "config.toml"]


def test_a_part_that_is_a_link_is_unlinked_and_what_it_points_at_kept(output, tmp_path):
    written_by_a_run(output)
    elsewhere = tmp_path / "elsewhere"
    (output / "checkpoints").rename(elsewhere)
    (elsewhere / "step-1").mkdir()
    (output / "checkpoints").symlink_to(elsewhere)
    run_folder.prepare(config_for(output, overwrite=True), State())
    assert (output / "checkpoints").is_dir() and not (output / "checkpoints").is_symlink()
    assert (elsewhere / "step-1").is_dir()


@pytest.mark.parametrize("keys", [{"overwrite": True}, {"resume": True}])
def test_a_file_put_into_the_model_folder_is_not_deleted_with_it(output, keys):
    written_by_a_run(output)
    (output / "model").mkdir()
    for own in ("config.json", "transitions.safetensors", "crf.safetensors"):
        (output / "model" / own).write_text("{}")
    run_folder.check(config_for(output, **keys))
    (output / "model" / "model.onnx").write_text("mine")
    with pytest.raises(InputError, match="model.onnx"):
        run_folder.check(config_for(output, **keys))


def test_what_a_forks_save_lists_in_its_checksums_is_the_models_own(output):
    written_by_a_run(output)
    (output / "model").mkdir()
    (output / "model" / "extra.bin").write_text("the fork's")
    (output / "model" / "SHA256SUMS").write_text("0  extra.bin\n")
    run_folder.check(config_for(output, resume=True))


def test_several_workers_need_one_output():
    with pytest.raises(InputError, match="shared --output"):
        run_folder.named(Config(), workers=2)
    assert run_folder.named(Config(output="x"), workers=2).output


class FakeCheckpoints:
    """One checkpoint with this record; what restores it says that it did."""

    folder, fingerprint, environment = Path("run/checkpoints"), {"seed": 0, "case": False}, {"tensorflow": "2.21"}

    def __init__(self, **record):
        self.record = record

    def newest(self, say):
        return Path("run/checkpoints/step-3"), self.record

    def restore(self, path, record):
        return State(step=3)


def test_a_key_newer_than_the_run_counts_as_its_default(output, monkeypatch):
    config = config_for(output, resume=True)
    monkeypatch.setattr(run_folder, "_lasting", lambda config: {"case": False})
    same = {"tensorflow": "2.21"}
    assert run_folder.restore(config, FakeCheckpoints(fingerprint={"seed": 0}, environment=same)).step == 3
    with pytest.raises(InputError, match="seed: 1 -> 0"):
        run_folder.restore(config, FakeCheckpoints(fingerprint={"seed": 1}, environment=same))


def test_a_run_older_than_layer_decay_is_not_continued_at_other_rates(output, monkeypatch):
    config = config_for(output, resume=True)
    monkeypatch.setattr(FakeCheckpoints, "fingerprint", run_folder._lasting(config))
    old = {key: value for key, value in FakeCheckpoints.fingerprint.items() if key != "layer_decay"}
    with pytest.raises(InputError, match="layer_decay: 1.0 -> 0.9"):
        run_folder.restore(config, FakeCheckpoints(fingerprint=old, environment={"tensorflow": "2.21"}))


def test_a_resume_says_where_the_bits_may_differ(output, monkeypatch):
    config = config_for(output, resume=True)
    said = []
    monkeypatch.setattr(run_folder, "say", said.append)
    monkeypatch.setattr(run_folder, "_lasting", lambda config: {})
    run_folder.restore(config, FakeCheckpoints(fingerprint=FakeCheckpoints.fingerprint, environment={"tensorflow": "2.20"}))
    assert len(said) == 2 and "tensorflow: '2.20' -> '2.21'" in said[1]
    run_folder.restore(config, FakeCheckpoints(fingerprint=FakeCheckpoints.fingerprint, environment={"tensorflow": "2.21"}))
    assert len(said) == 3


def test_a_dry_run_is_for_one_process_and_a_resume_needs_its_folder():
    with pytest.raises(InputError, match="--dry-run"):
        run_folder.named(Config(output="x", dry_run=True), workers=2)
    with pytest.raises(InputError, match="--resume needs"):
        run_folder.named(Config(resume=True))


def test_a_run_whose_checkpoints_were_emptied_is_not_started_over_its_model(output):
    written_by_a_run(output)
    (output / "model").mkdir()
    config = config_for(output, resume=True)
    record = '{"step": 1, "validation/f1": 0.5}\n'
    (output / "metrics.jsonl").write_text(record)  # killed between its first validation and its first checkpoint
    assert not run_folder._checkpoints_are_gone(output)
    (output / "metrics.jsonl").write_text(record * 2)
    with pytest.raises(InputError, match="checkpoints are gone"):
        run_folder.prepare(config, State())
