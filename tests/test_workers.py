"""Two worker processes over loopback are one run: the same losses and scores as a single process, written once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest
from programs import ROOT, call, records

LONGEST = 300.0  # seconds; the docs promise an end within two minutes of a lost worker, and a busy machine takes its time


@pytest.fixture
def command(corpus, tiny):
    """train.py with everything but --output."""
    return [
        *("--train", corpus / "train.conll", "--validation", corpus / "validation.conll"),
        *("--no-case", "--validate-every", 0),
        *("--encoder", tiny, "--epochs", 2, "--rows", 5, "--row-length", 64, "--learning-rate", "1e-2", "--steps-per-call", 2),
        *("--dropout", 0, "--encoder-dropout", 0, "--compute-dtype", "float32", "--tpu", "none"),
    ]


def free_ports(count):
    """Ports that nothing listens on, below those that systems give to clients: so none is taken before the workers listen."""
    ports = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(20_000, 32_768)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("localhost", port))
            ports.append(port)
    return ports


def start_two(command, *other):
    """Two processes of the command, each told of the other by TF_CONFIG; the second with ``other`` flags as well."""
    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = []
    for index, flags in enumerate(([], other)):
        cluster = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        processes.append(
            subprocess.Popen(
                list(map(str, [sys.executable, "train.py", *command, *flags])),
                cwd=ROOT,
                env={**os.environ, "TF_CONFIG": cluster},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return processes


def end_of_two(command, *other, meanwhile=lambda processes: None):
    """Start two workers, do something ``meanwhile``, and wait: (exit statuses, what each printed)."""
    processes = start_two(command, *other)
    try:
        meanwhile(processes)
        outputs = [process.communicate(timeout=LONGEST)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def when_there_is(path, act):
    """A ``meanwhile`` that waits for a file of this pattern and then acts; a worker that ends before that fails the test."""

    def wait(processes):
        end = time.monotonic() + LONGEST
        while not any(path.parent.glob(path.name)):
            assert time.monotonic() < end and all(process.poll() is None for process in processes), [p.poll() for p in processes]
            time.sleep(0.05)
        act(processes)

    return wait


def test_two_workers_train_as_one_process(tmp_path, command):
    statuses, outputs = end_of_two([*command, "--output", tmp_path / "two"])
    assert statuses == [0, 0], outputs
    assert "worker 1 of 2 workers" in outputs[1]
    alone = call("train", *command, "--output", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    two, one = records(tmp_path / "two"), records(tmp_path / "one")
    assert [r["step"] for r in two] == [r["step"] for r in one]
    for ours, theirs in zip(two, one, strict=True):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], abs=1e-5)
    assert [r.get("validation/f1") for r in two] == [r.get("validation/f1") for r in one]


@pytest.mark.slow
def test_a_stop_asked_of_one_worker_stops_both_and_they_continue(tmp_path, command):
    run = [*command, "--epochs", 40, "--output", tmp_path / "run"]
    stop = when_there_is(tmp_path / "run" / "checkpoints" / "step-*", lambda processes: processes[1].send_signal(signal.SIGTERM))
    statuses, outputs = end_of_two(run, meanwhile=stop)
    assert statuses == [1, 1], outputs
    assert all("--resume continues" in output for output in outputs), outputs
    statuses, outputs = end_of_two([*run, "--resume"])
    assert statuses == [0, 0], outputs
    assert all("resumed from step-" in output for output in outputs)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_other_with_a_message(tmp_path, command):
    kill = when_there_is(tmp_path / "run" / "checkpoints" / "step-*", lambda processes: processes[1].kill())
    statuses, outputs = end_of_two([*command, "--epochs", 4000, "--output", tmp_path / "run"], meanwhile=kill)
    assert statuses == [1, -signal.SIGKILL], outputs
    assert "another worker is gone" in outputs[0] and "--resume" in outputs[0] and "Traceback" not in outputs[0]


def last_lines(outputs):
    return [output.splitlines()[-1] for output in outputs]


@pytest.mark.slow
@pytest.mark.parametrize("differing", ["corpus", "seed", "length of host calls"])
def test_workers_that_are_to_train_something_else_are_refused_in_one_line_each(tmp_path, command, corpus, differing):
    other = ["--seed", 1] if differing == "seed" else ["--steps-per-call", 3]
    if differing == "corpus":
        sentences = (corpus / "train.conll").read_text().split("\n\n")
        (tmp_path / "train.conll").write_text("\n\n".join(sentences[1:]))
        other = ["--train", tmp_path / "train.conll"]
    statuses, outputs = end_of_two([*command, "--output", tmp_path / "run"], *other)
    assert statuses == [2, 2], outputs
    line = "error: the workers differ in settings, corpus, encoder or number type; start all of them with the same command"
    assert last_lines(outputs) == [line, line] and not any("Traceback" in output for output in outputs)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_bad_input_of_one_worker_ends_the_other_with_one_line(tmp_path, command, corpus):
    bad = tmp_path / "train.conll"
    bad.write_text("alex B-per\nsings Q_per\n\n" + (corpus / "train.conll").read_text())
    statuses, outputs = end_of_two([*command, "--output", tmp_path / "run"], "--train", bad)
    assert statuses == [1, 2], outputs
    first, second = last_lines(outputs)
    assert first == "another worker stopped before the first update; its own message says why"
    assert second.startswith(f"error: {bad}:2: ") and "Q_per" in second
    assert not any("Traceback" in output for output in outputs) and not (tmp_path / "run").exists()
