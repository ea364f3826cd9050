"""tag.py: every row once, with predict.py's tags, also after kills. What starts Ray is slow, and skipped where Ray is not installed."""

from __future__ import annotations

import json

import bulk_kills
import pytest
from programs import call, needs_ray, process
from pyarrow import parquet

import tag


@pytest.fixture(scope="module")
def model(tiny, corpus, tmp_path_factory):
    """A model that has learnt some of the toy sentences."""
    run = tmp_path_factory.mktemp("run")
    files = ["--train", corpus / "train.conll", "--validation", corpus / "validation.conll", "--encoder", tiny, "--output", run]
    sizes = "--epochs 8 --rows 4 --row-length 64 --learning-rate 1e-2 --compute-dtype float32 --no-case --tpu none"
    done = call("train", *files, *sizes.split())
    assert done.returncode == 0, done.stderr
    return run / "model"


@pytest.mark.parametrize(
    ("workers", "resources", "cpus", "shares"),
    [
        (None, {"CPU": 19.0}, 16, (8, 2, 0.0)),
        (4, {"CPU": 19.0}, 16, (4, 4, 0.0)),
        (None, {"CPU": 19.0, "GPU": 2.0}, 16, (2, 8, 1.0)),
        (4, {"CPU": 19.0, "GPU": 2.0}, 16, (4, 4, 0.5)),
        (1, {"CPU": 19.0, "GPU": 2.0}, 16, (1, 16, 1.0)),
        (None, {"CPU": 4.0}, 1, (1, 1, 0.0)),
        (None, {"CPU": 19.0}, None, (8, 2, 0.0)),  # a cluster, where a few must be left
        (5, {"CPU": 19.0}, None, (5, 2, 0.0)),
    ],
)
def test_workers_share_cpus_and_gpus(workers, resources, cpus, shares):
    assert tag.shares(workers, resources, cpus) == shares


@pytest.mark.parametrize("name", ["model.safetensors", "model.int8.onnx", "spiece.model", "config.json"])
def test_another_model_is_told_by_its_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"1")
    before = tag.digest(tmp_path)
    (tmp_path / "README.md").write_bytes(b"other scores")
    assert tag.digest(tmp_path) == before
    (tmp_path / name).write_bytes(b"2")
    assert tag.digest(tmp_path) != before


def test_progress_says_rows_speed_and_time_left():
    assert tag.standing(3_000, 2_000, 20.0, 13_000) == "3,000 of about 13,000 rows  100 rows/s  2 min left"
    assert tag.standing(3_000, 0, 20.0, None) == "3,000 rows  0 rows/s"


def test_bad_usage_ends_before_ray_starts(tmp_path, model):
    (tmp_path / "x.txt").write_text("alex\n")
    for arguments, part in (
        (["--ckpt", tmp_path / "no", "--input", tmp_path / "x.txt"], "no such folder"),
        (["--ckpt", model, "--input", tmp_path / "no"], "no such file or folder"),
        (["--ckpt", model, "--input", tmp_path / "x.txt", "--workers", "0"], "workers = 0 is out of range"),
    ):
        done = process("tag.py", *arguments, "--output", tmp_path / "out")
        assert done.returncode == 2 and part in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    done = process("tag.py", "--ckpt", model, "--input", tmp_path / "x.txt", "--output", tmp_path)
    assert done.returncode == 2 and "the output is not empty" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
@needs_ray
def test_lines_of_text_are_tagged_as_predict_tags_them_and_once(tmp_path, model):
    lines = ["alex lives in london", "", "(mary) sings, and sings"] * 40
    (tmp_path / "x.txt").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    command = ["tag.py", "--ckpt", model, "--input", tmp_path / "x.txt", "--output", tmp_path / "out", "--keep-text", "--workers", "1"]
    done = process(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"tagged {len(lines)} rows, 1 rejected: see {tmp_path / 'out'}/rejected")
    predicted = process("predict.py", "--ckpt", model, "--input", "-", "--format", "jsonl", input="\n".join(lines) + "\n")
    rows = parquet.read_table(tmp_path / "out" / "data").to_pylist()
    assert [row.pop("id") for row in rows] == [f"x.txt:{number}" for number in range(1, len(lines) + 1)]
    for row, line in zip(rows, predicted.stdout.splitlines(), strict=True):
        expected = json.loads(line)
        for ours, theirs in zip(row["entities"], expected["entities"], strict=True):
            assert ours.pop("score") == pytest.approx(theirs.pop("score"), abs=1e-4)
        assert row == expected
    assert any(row["entities"] for row in rows)
    again = process(*command, "--resume")
    assert again.returncode == 0 and again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]


@pytest.mark.slow
@needs_ray
def test_a_damaged_model_is_refused_in_one_line(tmp_path, model):
    damaged = tmp_path / "model"
    damaged.mkdir()
    for path in model.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes()[: 1_000 if path.suffix == ".safetensors" else None])
    (tmp_path / "x.txt").write_text("alex\n")
    done = process("tag.py", "--ckpt", damaged, "--input", tmp_path / "x.txt", "--output", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "model.safetensors" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.slow
@needs_ray
def test_no_row_is_lost_or_doubled_by_kills(tmp_path, model):
    tally = bulk_kills.try_kills(model, 3, seed=1, folder=tmp_path, each=3)
    assert tally.wrong == [] and tally.kills == 3
