"""A run with counted transitions from end to end: train, resume, evaluate, predict, and the files of its model. tests/test_families_run.py
has one with a CRF."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from programs import call, scores, weights, whole_and_interrupted, without_clock
from safetensors.numpy import load_file, save_file
from test_decoding import is_iob2

from ner import formats

FILE = "transitions.safetensors"


@pytest.fixture(scope="module")
def flags(corpus, tiny):
    return [
        *("--train", corpus / "train.conll", "--validation", corpus / "validation.conll", "--encoder", tiny, "--tpu", "none"),
        *("--no-case", "--validate-every", 0, "--epochs", 2, "--rows", 4, "--row-length", 64),
        *("--learning-rate", "2e-2", "--dropout", 0.1, "--encoder-dropout", 0, "--layer-decay", 1),  # as in test_train.py
        *("--head", "counted", "--steps-per-call", 2, "--checkpoint-every-steps", 3, "--compute-dtype", "float32"),
    ]


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    """A whole run, and its folder as it stood inside the second epoch."""
    return whole_and_interrupted(flags, tmp_path_factory.mktemp("runs"), after=3)


def test_it_counts_transitions_and_tags(trained):
    assert max(scores(trained[0])) > 0.2
    (table,) = load_file(trained[0] / "model" / FILE).values()
    tags = len(json.loads((trained[0] / "model" / "config.json").read_text())["id2label"])
    assert table.shape == (tags + 1, tags) and np.abs(table).max() > 0.1  # it begins at 0


def test_it_is_continued_to_the_same_bits(trained, flags, tmp_path):
    whole, output = trained[0], shutil.copytree(trained[1], tmp_path / "run")
    done = call("train", *flags, "--output", output, "--resume")
    assert done.returncode == 0 and "resumed from step-" in done.stdout, done.stderr
    assert weights(output) == weights(whole) and without_clock(output) == without_clock(whole)
    assert (output / "model" / FILE).read_bytes() == (whole / "model" / FILE).read_bytes()


def test_evaluate_and_predict_give_the_tags_of_its_validation(trained, corpus, tmp_path):
    done = call("evaluate", "--ckpt", trained[0], "--json", tmp_path / "s.json", "--predictions", tmp_path / "p.txt")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["f1"] == max(scores(trained[0]))
    blocks = (tmp_path / "p.txt").read_text().strip().split("\n\n")
    expected = [[line.split(" ")[2] for line in block.split("\n")] for block in blocks]
    lines = [" ".join(sentence.words) for sentence in formats.read(corpus / "validation.conll")]
    done = call("predict", "--ckpt", trained[0], "--pre-split", "--format", "jsonl", "--input", "-", input="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    predicted = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["tags"] for line in predicted] == expected and all(map(is_iob2, expected))
    assert all(0 < entity["score"] <= 1 for line in predicted for entity in line["entities"])


def test_export_says_that_the_saved_model_has_no_transitions(trained, tmp_path):
    done = call("export", "--ckpt", trained[0], "--output", tmp_path / "1")
    assert done.returncode == 0 and "warning: its tags are each word's most probable one: the transitions" in done.stdout, done.stderr


def test_damaged_transitions_are_named(trained, tmp_path):
    assert f"  {FILE}\n" in (trained[0] / "model" / "SHA256SUMS").read_text()
    model = shutil.copytree(trained[0] / "model", tmp_path / "model")
    path = model / FILE
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for damage in ("changed", "missing"):
        done = call("predict", "--ckpt", model, "alex")
        assert done.returncode == 2 and done.stderr.count("\n") == 1, damage
        assert f"{FILE!r} is not what SHA256SUMS says" in done.stderr
        path.unlink(missing_ok=True)
    (model / "SHA256SUMS").unlink()
    done = call("predict", "--ckpt", model, "alex")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and str(path) in done.stderr
    save_file({"transitions": np.zeros((2, 2), np.float32)}, path)
    done = call("predict", "--ckpt", model, "alex")
    assert done.returncode == 2 and f"{path}: weights do not fit config.json: transitions is [2, 2], not" in done.stderr
