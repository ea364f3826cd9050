"""launch.py: the run of workers started by hand, to the bit. What starts Ray is slow, and skipped where Ray is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bulk_kills import kill, workers
from programs import ROOT, needs_ray, process, weights, without_clock
from test_workers import LONGEST, end_of_two

import launch


@pytest.fixture
def command(corpus, tiny):
    """Arguments of train.py, but for --output."""
    files = ["--train", corpus / "train.conll", "--validation", corpus / "validation.conll", "--encoder", tiny]
    sizes = "--no-case --tpu none --epochs 30 --rows 5 --row-length 64 --validate-every 0 --steps-per-call 2 --checkpoint-every-steps 4"
    return [*map(str, files), *sizes.split(), "--learning-rate", "1e-2", "--compute-dtype", "float32"]


def test_a_restart_continues_the_run():
    assert launch.continued(["--overwrite", "--output", "x"]) == ["--output", "x", "--resume"]


def test_after_an_error_of_its_own_a_worker_is_not_started_again():
    desk = launch.Desk()
    assert [desk.begin(0), desk.begin(1), desk.begin(1)] == [0, 0, 1]
    desk.end(0, 0)
    assert desk.begin(0) == 1 and desk.ends() == {}
    desk.end(1, 2)
    assert desk.begin(0) is None and desk.ends() == {1: 2}


def test_a_line_says_what_the_cluster_lacks():
    needed = {"CPU": 4.0, "GPU": 0.0}
    assert launch.lacking(needed, {"CPU": 4.0, "memory": 1.0}) == ""
    assert launch.lacking(needed, {"CPU": 3.0}) == "waiting for machines: the workers need 4 CPU, there are 3"
    assert launch.lacking({"CPU": 1.0, "GPU": 2.0}, {"CPU": 3.0}).endswith("need 2 GPU, there are 0")


def test_bad_usage_ends_before_ray_starts(tmp_path):
    for arguments, part in (([], "give them after --"), (["--", "--epoch", "3"], "--epochs?"), (["--", "--epochs", "3"], "--output")):
        done = process("launch.py", "--workers", "2", *arguments)
        assert done.returncode == 2 and part in done.stderr and done.stderr.count("\n") == 1


def kill_a_worker(driver: int, run: Path) -> None:
    """Kill one of the processes that train, once the run has a checkpoint."""
    end = time.monotonic() + LONGEST
    while not any((run / "checkpoints").glob("step-*")):
        assert time.monotonic() < end
        time.sleep(0.02)
    training = [p for p in workers(driver) if b"RayTrainWorker" in Path(f"/proc/{p}/cmdline").read_bytes()]
    assert len(training) == 2
    kill(training[-1])


@pytest.mark.slow
@needs_ray
def test_workers_of_which_one_is_killed_end_with_the_bits_of_two_started_by_hand(tmp_path, command, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    statuses, outputs = end_of_two([*command, "--output", tmp_path / "hand"])
    assert statuses == [0, 0], outputs
    run = tmp_path / "run"
    start = ["launch.py", "--workers", "2", "--cpus-per-worker", "1", "--restarts", "1", "--", *command, "--output", str(run)]
    launched = subprocess.Popen([sys.executable, *start], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        kill_a_worker(launched.pid, run)
        output = launched.communicate(timeout=LONGEST)[0]
    finally:
        launched.kill()
    assert launched.returncode == 0, output
    assert "resumed from step-" in output and "best validation F1" in output
    assert weights(run) == weights(tmp_path / "hand") and without_clock(run) == without_clock(tmp_path / "hand")


# As launch.py, but for worker 1, which is given another corpus.
OTHER = """
import sys
import launch
from ner.errors import run_main

def other(config, work=launch.work):
    from ray.train import get_context
    if get_context().get_world_rank() == 1:
        config["arguments"] = [*config["arguments"], "--train", OTHER]
    work(config)

launch.work = other
sys.exit(run_main(launch.main))
"""


@pytest.mark.slow
@needs_ray
def test_workers_with_different_corpora_are_refused_on_all_in_one_line(tmp_path, command, corpus):
    other = tmp_path / "train.conll"
    other.write_text((corpus / "train.conll").read_text().split("\n\n", 1)[1])
    script = tmp_path / "other.py"
    script.write_text(OTHER.replace("OTHER", repr(str(other))))
    start = [sys.executable, script, "--workers", "2", "--restarts", "2", "--", *command, "--output", tmp_path / "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, start)), cwd=ROOT, env=environment, capture_output=True, text=True)
    line = "error: the workers differ in settings, corpus, encoder or number type; start all of them with the same command"
    assert done.returncode == 2 and sorted(done.stderr.splitlines()) == [line, f"worker 1: {line}"], done.stderr
    assert not (tmp_path / "run").exists()
