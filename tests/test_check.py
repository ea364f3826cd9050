"""check.py: what it says of a corpus."""

from __future__ import annotations

import pytest
from programs import call

import check
from ner import formats
from ner.sentences import Sentence

SPLITS = {
    "train": [
        Sentence(["Kofi", "Annan", "left", "Mali"], ["B-per", "I-per", "O", "B-geo"], "1"),
        Sentence(["Mali"], ["B-geo"], "1"),
        Sentence(["Mali"], ["O"], "2"),
    ],
    "test": [Sentence(["Togo"], ["B-geo"]), Sentence(["Mali"], ["B-org"])],
}


def test_a_corpus_is_described_by_splits_documents_copies_and_types():
    first, documents, copies, entities, *table = check.corpus_lines(SPLITS)
    assert first == "sentences: 5 (3 train, 2 test); words: 8"
    assert documents == "documents: 2, 2.5 sentences each"
    assert copies == "copies of a sentence: 2; sentences that occur more than once with different tags: 1"
    assert entities == "entities: 5"
    head, *rows = [line.split() for line in table]
    assert head == ["type", "entities", "distinct", "train", "test"]
    assert rows == [["geo", "3", "2", "2", "1"], ["org", "1", "1", "0", "1"], ["per", "1", "1", "1", "0"]]
    assert list(check.corpus_lines({"train": [Sentence(["a"], ["O"])]}))[1:] == [
        "documents: not known",
        "copies of a sentence: 0; sentences that occur more than once with different tags: 0",
        "entities: 0",
    ]


def test_what_training_lacks_and_shares_is_said():
    assert list(check.split_lines(SPLITS)) == [
        "warning: fewer than 20 training entities, too few to learn a type well: geo 2, per 1",
        "warning: test has types that training lacks: org; their entities count as missed",
        "test sentences that training has too: 1 of 2",
    ]
    many = {"train": [Sentence(["Mali"], ["B-geo"])] * 20, "test": [Sentence(["Togo"], ["B-geo"])]}
    assert list(check.split_lines(many)) == []


@pytest.mark.parametrize(
    ("words", "warned", "case"),
    [(["Alex", "lives", "in", "London"], False, "on"), (["alex", "lives"], False, "off"), (["虎牢之戰", "Alex", "in"], True, "on")],
)
def test_an_encoder_that_cannot_read_the_words_is_warned_of_and_the_budget_shown(tmp_path, tiny, words, warned, case):
    path = tmp_path / "x.conll"
    formats.write(path, [Sentence([*words, str(n)], [*["O"] * len(words), "B-a"]) for n in range(40)])
    done = call("check", path, "--encoder", tiny)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert ("warning: the encoder cannot read " in done.stdout) is warned
    assert f"updates of 4 x 64; learning rate 0.0002; validation every 2 updates; case {case}\ntime: roughly" in done.stdout


def test_a_folder_that_cannot_be_trained_on_is_refused_in_a_line(tmp_path):
    formats.write(tmp_path / "test.conll", SPLITS["test"])
    done = call("check", tmp_path)
    assert done.returncode == 2 and done.stderr == f"error: {tmp_path}: has no training split, only test; give a file of it\n"
    formats.write(tmp_path / "other-test.conll", SPLITS["test"])
    done = call("check", tmp_path)
    assert done.returncode == 2 and "2 files for one split that are not its shards" in done.stderr and not done.stdout


def test_a_file_that_is_too_small_to_split_is_described_all_the_same(tmp_path, tiny):
    formats.write(tmp_path / "x.conll", SPLITS["train"][:2])
    done = call("check", tmp_path / "x.conll", "--encoder", tiny)
    assert done.returncode == 0 and done.stdout.startswith("train.py cannot split it: no "), done.stdout + done.stderr
    assert "sentences: 2 (2 train)" in done.stdout
