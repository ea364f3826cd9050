"""What goes on around the loop: requests to stop, when a checkpoint is due, errors that name no file."""

from __future__ import annotations

import errno
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from ner.checkpoint import State
from ner.config import Config
from ner.run import Run
from ner.strategy import Devices


@pytest.fixture
def run(tmp_path):
    """A Run of which only what these tests look at is there: its model and corpus are not."""
    run = Run.__new__(Run)
    run.config, run.folder, run.asked = Config(), tmp_path / "run", False
    run.devices = Devices(strategy=None, kind="cpu", reason="a test")
    run.state, run.checkpoints = State(step=6, step_in_epoch=2, epoch=1, total_steps=8), SimpleNamespace(saved=time.monotonic())
    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_a_stop_and_a_second_ctrl_c_ends_the_process(run, capfd, number):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with run:
        assert not run.stop_asked()
        signal.raise_signal(number)
        assert run.stop_asked()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    assert capfd.readouterr().err == "stopping after this host call; Ctrl-C again stops at once\n"


def test_a_run_outside_the_main_thread_leaves_the_signals_alone(run):
    """Python lets only the main thread set handlers."""
    before, problems = signal.getsignal(signal.SIGTERM), []

    def enter():
        try:
            with run:
                assert signal.getsignal(signal.SIGTERM) == before and not run.stop_asked()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert problems == []


def test_a_full_disk_is_reported_with_the_run_folder_where_python_names_no_file(run, tmp_path):
    with pytest.raises(OSError, match="No space left") as found, run:
        raise OSError(errno.ENOSPC, "No space left on device")
    assert found.value.filename == str(tmp_path / "run")
    with pytest.raises(OSError, match="No space left") as found, run:
        raise OSError(errno.ENOSPC, "No space left on device", "x.csv")
    assert found.value.filename == "x.csv"
    with pytest.raises(BrokenPipeError) as found, run:  # a reader that has seen enough, as in train.py | head
        raise BrokenPipeError
    assert found.value.filename is None


@pytest.mark.parametrize(
    ("settings", "due"),
    [
        ({}, False),
        ({"checkpoint_every_steps": 3}, True),
        ({"checkpoint_every_steps": 4}, False),
        ({"checkpoint_every_minutes": 1.9}, True),
        ({"checkpoint_every_minutes": 2.1}, False),
        ({"checkpoint_every_steps": 4, "checkpoint_every_minutes": 1.9}, True),
    ],
)
def test_a_checkpoint_is_due_by_steps_or_by_minutes(run, monkeypatch, settings, due):
    """Six updates into the run, two minutes after the last checkpoint."""
    monkeypatch.setattr(time, "monotonic", lambda: run.checkpoints.saved + 120.0)
    run.config = Config(**settings)
    assert run.checkpoint_due() is due
