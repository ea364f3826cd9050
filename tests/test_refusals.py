"""Every bad corpus, through train.py itself: status 2, one line that names file and line, nothing left behind; good ones train."""

from __future__ import annotations

import sys

import pytest
from test_formats import REFUSED, TWO_CONLL
from test_spans import REFUSED as REFUSED_SPANS

import train
from ner.errors import run_main

BAD_FILES = REFUSED | REFUSED_SPANS
GOOD = b"alex B-per\nsings O\n\nthe O\nmayor O\nof O\nlondon B-geo\nleft O\n\n"


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, tiny):
    """``call(flags) -> (status, stderr)`` of train.py in this process, with an output folder that must not be there before."""

    def call(*flags):
        fixed = ("--tpu", "none", "--encoder", tiny, "--output", tmp_path / "run", "--epochs", 1, "--row-length", 32)
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, flags), *map(str, fixed)])
        return run_main(train.main), capsys.readouterr().err

    return call


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name, data, options, line, part", BAD_FILES.values(), ids=BAD_FILES)
@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_bad_file_is_refused_as_training_or_validation_file(call, tmp_path, role, name, data, options, line, part):
    bad, good = tmp_path / name, tmp_path / "good.conll"
    bad.write_bytes(data)
    good.write_bytes(GOOD)
    files = {"train": good, "validation": good, role: bad}
    flags = [x for key, value in options.items() for x in (f"--{key}", value)]
    status, error = call("--train", files["train"], "--validation", files["validation"], *flags)
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    if not options:
        assert f"{bad}:{line}: " in error if line else f"{bad}: " in error
        assert part in error
    assert not (tmp_path / "run").exists()


TAGS = {  # what: (train, validation, flags, a part of the message)
    "tags unseen in training": (GOOD, b"x B-art\n\n", ["--unseen-tags", "refuse"], "B-art"),
    "IOB1 and IOBES mixed": (b"a I-x\n\nb S-x\nc E-y\n\n", GOOD, [], "train.conll"),
    "only O": (b"a O\n\nb O\n\n", b"a O\n\n", [], "only O"),
    "one sentence": (b"a B-x\n\n", b"a B-x\n\n", [], "1 training sentence"),
}


@pytest.mark.parametrize("training, validation, flags, part", TAGS.values(), ids=TAGS)
def test_tags_that_cannot_be_learnt_are_refused(call, tmp_path, training, validation, flags, part):
    (tmp_path / "train.conll").write_bytes(training)
    (tmp_path / "validation.conll").write_bytes(validation)
    status, error = call("--train", tmp_path / "train.conll", "--validation", tmp_path / "validation.conll", *flags)
    assert status == 2 and error.count("\n") == 1 and part in error and not (tmp_path / "run").exists()


def test_fewer_sentences_than_a_split_needs_are_refused(call, tmp_path):
    (tmp_path / "x.conll").write_bytes(TWO_CONLL)
    status, error = call("--data", tmp_path / "x.conll")
    assert status == 2 and str(tmp_path / "x.conll") in error and not (tmp_path / "run").exists()


def test_good_files_train(call, tmp_path):
    (tmp_path / "good.conll").write_bytes(GOOD)
    (tmp_path / "unseen.conll").write_bytes(GOOD + b"x B-art\n\n")
    status, error = call("--train", tmp_path / "good.conll", "--validation", tmp_path / "unseen.conll", "--unseen-tags", "missed")
    assert status == 0 and error == "" and (tmp_path / "run" / "model" / "config.json").is_file()
