"""A run with each head that has transitions, from end to end: train, resume, evaluate, predict, and the files of its model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from programs import call, copied, scores, weights, without_clock
from safetensors.numpy import load_file
from test_decoding import is_iob2

from ner import formats

FILES = {"crf": "crf.safetensors", "counted": "transitions.safetensors"}


@pytest.fixture(scope="module", params=FILES)
def head(request):
    return request.param


@pytest.fixture(scope="module")
def flags(corpus, tiny, head):
    return [
        *("--train", corpus / "train.conll", "--validation", corpus / "validation.conll", "--encoder", tiny, "--tpu", "none"),
        *(
            "--no-case",
            "--validate-every",
            0,
            "--epochs",
            3,
            "--rows",
            4,
            "--row-length",
            64,
            "--learning-rate",
            "2e-2",
            "--dropout",
            0.1,
            "--encoder-dropout",
            0,
        ),
        *("--head", head, "--steps-per-call", 2, "--checkpoint-every-steps", 3, "--compute-dtype", "float32"),
    ]


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    """A whole run, and its folder as it stood inside the second epoch."""
    folder = tmp_path_factory.mktemp("runs")
    with copied(3, folder / "interrupted"):
        done = call("train", *flags, "--output", folder / "whole")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return folder / "whole", folder / "interrupted"


def test_it_learns_transitions_and_tags(trained, head):
    assert max(scores(trained[0])) > 0.2
    tensors = load_file(trained[0] / "model" / FILES[head])
    tags = len(json.loads((trained[0] / "model" / "config.json").read_text())["id2label"])
    shapes = {"crf": [(tags,), (tags,), (tags, tags)], "counted": [(tags + 1, tags)]}
    assert sorted(tensor.shape for tensor in tensors.values()) == shapes[head]
    assert all(np.abs(tensor).max() > 0.001 for tensor in tensors.values())  # they begin at 0


def test_it_is_continued_to_the_same_bits(trained, flags, head, tmp_path):
    whole, output = trained[0], shutil.copytree(trained[1], tmp_path / "run")
    done = call("train", *flags, "--output", output, "--resume")
    assert done.returncode == 0 and "resumed from step-" in done.stdout, done.stderr
    assert weights(output) == weights(whole) and without_clock(output) == without_clock(whole)
    assert (output / "model" / FILES[head]).read_bytes() == (whole / "model" / FILES[head]).read_bytes()


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


def test_damaged_transitions_are_named(trained, head, tmp_path):
    assert f"  {FILES[head]}\n" in (trained[0] / "model" / "SHA256SUMS").read_text()
    model = shutil.copytree(trained[0] / "model", tmp_path / "model")
    path = model / FILES[head]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for damage in ("changed", "missing"):
        done = call("predict", "--ckpt", model, "alex")
        assert done.returncode == 2 and done.stderr.count("\n") == 1, damage
        assert f"{FILES[head]!r} is not what SHA256SUMS says" in done.stderr
        path.unlink(missing_ok=True)
    (model / "SHA256SUMS").unlink()
    done = call("predict", "--ckpt", model, "alex")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and str(path) in done.stderr
