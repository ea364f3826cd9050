"""Two worker processes over loopback are one run: the same losses and scores as a single process, written once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ner import formats

ROOT = Path(__file__).parent.parent


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture
def command(tmp_path, tiny, toy_sentences):
    """train.py with everything but --output."""
    formats.write(tmp_path / "train.conll", toy_sentences[:64])
    formats.write(tmp_path / "validation.conll", toy_sentences[64:])
    return [
        *(sys.executable, "train.py", "--train", tmp_path / "train.conll", "--validation", tmp_path / "validation.conll"),
        *("--encoder", tiny, "--epochs", 2, "--rows", 5, "--row-length", 64, "--learning-rate", "1e-2", "--steps-per-call", 2),
        *("--dropout", 0, "--encoder-dropout", 0, "--compute-dtype", "float32", "--tpu", "none"),
    ]


def start_two(command):
    """Two processes of the command, each told of the other by TF_CONFIG."""
    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        cluster = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        environment = {**os.environ, "TF_CONFIG": cluster}
        processes.append(
            subprocess.Popen(
                list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    return processes


def test_two_workers_train_as_one_process(tmp_path, command):
    processes = start_two([*command, "--output", tmp_path / "two"])
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "worker 1 of 2 workers" in outputs[1]
    alone = subprocess.run(list(map(str, [*command, "--output", tmp_path / "one"])), cwd=ROOT, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr

    def records(name):
        return [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]

    two, one = records("two"), records("one")
    assert [r["step"] for r in two] == [r["step"] for r in one]
    for ours, theirs in zip(two, one, strict=True):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], abs=1e-5)
    assert [r.get("validation/f1") for r in two] == [r.get("validation/f1") for r in one]


def wait_for(path, processes):
    """Until a file is there; a worker that ends before it fails the test."""
    end = time.monotonic() + 200
    while not any(path.parent.glob(path.name)):
        assert time.monotonic() < end and all(process.poll() is None for process in processes), [p.poll() for p in processes]
        time.sleep(0.05)


def test_a_stop_asked_of_one_worker_stops_both_and_they_continue(tmp_path, command):
    long = [*command, "--epochs", 40, "--output", tmp_path / "run"]
    processes = start_two(long)
    wait_for(tmp_path / "run" / "checkpoints" / "step-*", processes)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], outputs
    assert all("--resume continues" in output for output in outputs), outputs
    processes = start_two([*command, "--epochs", 40, "--output", tmp_path / "run", "--resume", "--patience", 0])
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all("resumed from step-" in output for output in outputs)


def test_a_worker_that_is_killed_ends_the_other_with_a_message(tmp_path, command):
    processes = start_two([*command, "--epochs", 4000, "--output", tmp_path / "run"])
    wait_for(tmp_path / "run" / "checkpoints" / "step-*", processes)
    processes[1].kill()
    output = processes[0].communicate(timeout=120)[0]
    assert processes[0].returncode == 1, output
    assert "another worker is gone" in output and "--resume" in output and "Traceback" not in output
