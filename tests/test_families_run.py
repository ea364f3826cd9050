"""Encoders other than BERT through the programs, from the dry run to the SavedModel."""

from __future__ import annotations

import json

import pytest
from programs import call, copied, scores, weights, without_clock
from test_families import folder_of
from test_train import check_served, served_and_predicted

from ner import formats


@pytest.mark.slow
@pytest.mark.parametrize(("family", "head"), [("roberta", "linear"), ("modernbert", "crf")])
def test_every_program_knows_the_family(family, head, corpus, tmp_path):
    """With two replicas, two micro-batches and dropout: trained, resumed, evaluated, predicted, exported."""
    files = [
        "--train",
        corpus / "train.conll",
        "--validation",
        corpus / "validation.conll",
        "--encoder",
        folder_of(family),
        "--tpu",
        "none",
    ]
    flags = [*files, "--head", head, "--cpu-replicas", 2, "--accumulate", 2, "--rows", 4, "--row-length", 64, "--epochs", 3]
    flags += ["--no-case", "--learning-rate", "5e-3", "--encoder-dropout", 0.05, "--steps-per-call", 2, "--checkpoint-every-steps", 3]
    flags += ["--compute-dtype", "float32", "--validate-every", 0]
    done = call("train", *flags, "--output", tmp_path / "run", "--dry-run")
    assert done.returncode == 0 and "dry run: " in done.stdout, done.stderr
    with copied(3, tmp_path / "interrupted"):
        done = call("train", *flags, "--output", tmp_path / "run")
    assert done.returncode == 0 and "2 CPU replicas" in done.stdout, done.stderr
    done = call("train", *flags, "--output", tmp_path / "interrupted", "--resume")
    assert done.returncode == 0 and "resumed from step-" in done.stdout, done.stderr
    assert weights(tmp_path / "interrupted") == weights(tmp_path / "run")
    assert without_clock(tmp_path / "interrupted") == without_clock(tmp_path / "run")
    done = call("evaluate", "--ckpt", tmp_path / "run", "--json", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["f1"] == max(scores(tmp_path / "run"))
    lines = [" ".join(s.words) for s in formats.read(corpus / "validation.conll") if len(s.words) < 7]
    served, predicted = served_and_predicted(tmp_path / "run", tmp_path / "served" / "1", lines)
    if head == "linear":  # the SavedModel has no transitions
        check_served(served, predicted)
    done = call("check", corpus / "train.conll", "--encoder", folder_of(family))
    assert done.returncode == 0 and "\nbudget: " in done.stdout and "time: roughly" in done.stdout, done.stderr
