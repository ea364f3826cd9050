"""evaluate.py in this process, on tiny models that give every word the tags their biases prefer."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

import evaluate
from ner import pretrained
from ner.config import Config, to_toml
from ner.errors import InputError, run_main
from ner.wordpieces import WordPieces

TAGS = ("B-per", "I-per", "O")
DATA = "alex B-per\nlee I-per\nsings O\n\nlondon O\n\n"


def save(tiny, folder, *bias, **notes):
    """A model that gives each word these log-odds of TAGS; trained here if there are ``notes``."""
    source = pretrained.read(tiny)
    model = pretrained.build(source, TAGS)
    model.head.tag_kernel.assign(np.zeros(model.head.tag_kernel.shape, np.float32))
    model.head.tag_bias.assign(np.resize(np.array(bias, np.float32), model.head.tag_bias.shape))
    pretrained.save(model, folder, source=source, pieces=WordPieces.load(source), notes=notes)
    return folder


@pytest.fixture(scope="module")
def here(tiny, tmp_path_factory):
    """The model/ of a model trained here: valid IOB2, so B-per and then I-per, of every word."""
    return save(tiny, tmp_path_factory.mktemp("here") / "model", 1.0, 2.0, 0.0, row_length=32)


@pytest.fixture(scope="module")
def elsewhere(tiny, tmp_path_factory):
    """A model from elsewhere that finds no entity."""
    return save(tiny, tmp_path_factory.mktemp("elsewhere") / "model", 0.0, 0.0, 2.0)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "x.conll"
    path.write_text(DATA)
    return path


def run(monkeypatch, capsys, *arguments):
    """``(status, what it printed)`` of evaluate.py with these arguments, its real entry."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    status = run_main(evaluate.main)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_compare_scores_both_models_and_says_that_they_decode_differently(monkeypatch, capsys, tmp_path, data, here, elsewhere):
    scores = tmp_path / "s.json"
    status, said, _ = run(monkeypatch, capsys, "--ckpt", here, "--data", data, "--compare", elsewhere, "--json", scores)
    assert status == 0
    found = json.loads(scores.read_text())
    # Both sentences are predicted as one entity each; one entity is annotated, over two of three words.
    assert found["f1"] == 0.0 and found["errors"]["wrong boundary"] == 1 and found["errors"]["spurious"] == 1
    assert found["calibration_error"].keys() == {"words", "entities"} and 0 <= found["calibration_error"]["words"] <= 1
    assert found["compare"] == {"model": str(elsewhere), "f1": 0.0, "p": 1.0, "decoding": ["Viterbi", "word by word"]}
    (warning,) = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert f"({here}: Viterbi, {elsewhere}: word by word)" in warning
    assert f"{elsewhere}: F1 0.0 (seqeval default mode); p = 1 (two-sided" in said


def test_entities_of_a_low_score_can_be_left_out(monkeypatch, capsys, tmp_path, here):
    data, scores = tmp_path / "x.conll", tmp_path / "s.json"
    data.write_text("alex B-per\nlee I-per\n\n")
    for least, right, missed in ((0.1, 1, 0), (1.0, 0, 1)):
        status, said, _ = run(monkeypatch, capsys, "--ckpt", here, "--data", data, "--min-score", least, "--json", scores)
        assert status == 0 and f"{missed} missed" in said
        found = json.loads(scores.read_text())
        assert found["f1"] == right and found["errors"]["missed"] == missed and "calibration_error" not in found


def test_a_precision_of_0_is_reached_by_all_entities(monkeypatch, capsys, tmp_path, here):
    (tmp_path / "x.conll").write_text("alex B-per\nlee I-per\n\n")
    status, said, _ = run(monkeypatch, capsys, "--ckpt", here, "--data", tmp_path / "x.conll", "--precision", 0)
    assert status == 0 and "precision 0.0: entities with a score of" in said


def test_compare_of_two_models_that_decode_alike_warns_of_nothing(monkeypatch, capsys, tmp_path, here, tiny):
    # One model is right in all six sentences, the other in none. Of the 64 ways to swap their outputs, two keep the whole difference.
    data, scores = tmp_path / "x.conll", tmp_path / "s.json"
    data.write_text("alex B-per\nlee I-per\n\n" * 6)
    none = save(tiny, tmp_path / "none" / "model", 0.0, 0.0, 2.0, row_length=32)
    status, said, _ = run(monkeypatch, capsys, "--ckpt", here, "--data", data, "--compare", none, "--json", scores)
    assert status == 0 and "warning" not in said
    found = json.loads(scores.read_text())
    assert found["f1"] == 1.0 and found["compare"]["f1"] == 0.0 and found["compare"]["decoding"] == ["Viterbi", "Viterbi"]
    assert math.isclose(found["compare"]["p"], 2 / 64, rel_tol=0.2)


def test_types_that_the_model_lacks_are_warned_of_and_scored(monkeypatch, capsys, tmp_path, here, elsewhere):
    data, scores = tmp_path / "x.conll", tmp_path / "s.json"
    data.write_text("alex B-PER\nin O\nrome B-LOC\n\nlee B-per\n\n")
    status, said, error = run(monkeypatch, capsys, "--ckpt", here, "--data", data, "--compare", elsewhere, "--json", scores)
    assert status == 0 and error == ""
    warnings = [line for line in said.splitlines() if "cannot predict" in line]
    assert warnings == [
        f"warning: {folder} cannot predict LOC, PER: these entities count as missed; it predicts per" for folder in (here, elsewhere)
    ]
    found = json.loads(scores.read_text())
    assert (
        found["per_type"]["PER"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1} and found["per_type"]["per"]["recall"] == 1
    )


def test_how_to_read_the_data_is_said_by_flags(monkeypatch, capsys, tmp_path, here):
    path = tmp_path / "x.tsv"
    path.write_text("1\talex\tB-per\tO\n2\tlee\tI-per\tO\n")
    columns = ("--word-column", 2, "--tag-column", 3)
    status, said, _ = run(monkeypatch, capsys, "--ckpt", here, "--data", path, *columns)
    assert status == 0 and f"{path}: F1 1.0" in said
    for flags in (columns[:2], ("--documents", "file")):
        status, _, error = run(monkeypatch, capsys, "--ckpt", here, *flags)
        assert status == 2 and "say how to read --data" in error


def test_a_run_with_a_key_of_another_version_is_refused_with_the_reason(monkeypatch, capsys, data, here):
    config = here.parent / "config.toml"
    config.write_text(to_toml(Config(train=str(data), validation=str(data), output=str(here.parent))) + "new_key = 1\n")
    line = len(config.read_text().splitlines())
    try:
        for ckpt in (here.parent, here):
            status, _, error = run(monkeypatch, capsys, "--ckpt", ckpt)
            assert status == 2 and error.startswith(f"error: {config}:{line}: unknown key 'new_key'; ") and error.count("\n") == 1
        status, said, _ = run(monkeypatch, capsys, "--ckpt", here, "--data", data)  # no key of the run is needed
        assert status == 0 and f"{data}: F1 " in said
    finally:
        config.unlink()


def test_a_model_beside_some_other_config_toml_is_no_run(tmp_path):
    (tmp_path / "config.toml").write_text("title = 'of another program'\n")
    assert evaluate.run_config(str(tmp_path / "some-model")) is None
    (tmp_path / "config.toml").write_text("epochs = 3\n")  # a recipe: it has no output
    assert evaluate.run_config(str(tmp_path)) is None
    with pytest.raises(InputError, match="not a run folder, so it names no corpus; give --data"):
        evaluate.corpus_of(evaluate.Arguments(ckpt=str(tmp_path)), print)
