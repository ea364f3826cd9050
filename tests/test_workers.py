"""Two worker processes over loopback are one run: the same losses and scores as a single process, written once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ner import corpus

ROOT = Path(__file__).parent.parent


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_two_workers_train_as_one_process(tmp_path, tiny, toy_sentences):
    corpus.write(tmp_path / "train.conll", toy_sentences[:64])
    corpus.write(tmp_path / "validation.conll", toy_sentences[64:])
    command = [
        *(sys.executable, "train.py", "--train", tmp_path / "train.conll", "--validation", tmp_path / "validation.conll"),
        *("--encoder", tiny, "--epochs", 2, "--rows", 5, "--row-length", 64, "--learning-rate", "1e-2", "--steps-per-call", 2),
        *("--dropout", 0, "--encoder-dropout", 0, "--compute-dtype", "float32", "--tpu", "none"),
    ]
    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        cluster = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        arguments = list(map(str, [*command, "--output", tmp_path / "two"]))
        environment = {**os.environ, "TF_CONFIG": cluster}
        processes.append(
            subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
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
