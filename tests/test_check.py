"""check.py: what it says of a corpus."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from programs import call

import check
from ner import formats, pretrained
from ner.sentences import Sentence
from ner.wordpieces import WordPieces

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
    few, *lines = check.split_lines(SPLITS)
    assert few.startswith("warning: only 3 training sentences with 3 entities")
    assert lines == [
        "warning: fewer than 20 training entities, too few to learn a type well: geo 2, per 1",
        "warning: test has types that training lacks: org; their entities count as missed",
        "test sentences that training has too: 1 of 2",
    ]
    many = {"train": [Sentence(["Mali"], ["B-geo"])] * 100, "test": [Sentence(["Togo"], ["B-geo"])]}
    assert list(check.split_lines(many)) == []
    twice = {"train": many["train"], "test": many["train"]}
    assert list(check.split_lines(twice)) == ["warning: test sentences that training has too: 100 of 100"]


@pytest.mark.parametrize(
    ("words", "warned", "every", "case"),
    [
        (["Alex", "lives", "in", "London"], False, 2, "on"),
        (["alex", "lives"], False, 2, "off"),
        (["虎牢之戰", "Alex", "in"], True, 4, "on"),
    ],
)
def test_an_encoder_that_cannot_read_the_words_is_warned_of_and_the_budget_shown(tmp_path, tiny, words, warned, every, case):
    path = tmp_path / "x.conll"
    formats.write(path, [Sentence([*words, str(n)], [*["O"] * len(words), "B-a"]) for n in range(40)])
    done = call("check", path, "--encoder", tiny)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert ("warning: the encoder cannot read " in done.stdout) is warned
    assert f"updates of 4 x 64; learning rate 0.0002; validation every {every} updates; case {case}\ntime: roughly" in done.stdout


def test_a_folder_that_cannot_be_trained_on_is_refused_in_a_line(tmp_path):
    formats.write(tmp_path / "test.conll", SPLITS["test"])
    done = call("check", tmp_path)
    assert done.returncode == 2 and done.stderr == f"error: {tmp_path}: has no training split, only test; give a file of it\n"
    formats.write(tmp_path / "other-test.conll", SPLITS["test"])
    done = call("check", tmp_path)
    assert done.returncode == 2 and "2 files for one split that are not its shards" in done.stderr and not done.stdout


def test_what_train_refuses_is_said(tmp_path, tiny):
    formats.write(tmp_path / "x.conll", [Sentence([f"w{n}"], ["O"]) for n in range(60)])
    done = call("check", tmp_path / "x.conll", "--encoder", tiny)
    assert done.returncode == 0 and done.stdout.endswith("train.py refuses it: the training sentences have no entity, only O tags\n")
    formats.write(tmp_path / "x.conll", [Sentence([f"w{n}"], ["B-x"]) for n in range(60)])
    done = call("check", tmp_path / "x.conll", "--encoder", tiny, "--row-length", 5000)
    assert done.returncode == 2 and "error: --row-length 5000 is more than the encoder's" in done.stderr


def test_a_file_that_is_too_small_to_split_is_described_all_the_same(tmp_path, tiny):
    formats.write(tmp_path / "x.conll", SPLITS["train"][:2])
    done = call("check", tmp_path / "x.conll", "--encoder", tiny)
    assert done.returncode == 0 and done.stdout.startswith("train.py cannot split it: no "), done.stdout + done.stderr
    assert "sentences: 2 (2 train)" in done.stdout
    (tmp_path / "y.conll").write_text("a split\n")
    done = call("check", tmp_path / "y.conll", "--encoder", tiny)
    assert done.returncode == 2 and done.stdout == "" and f"{tmp_path / 'y.conll'}:1: " in done.stderr


# Annotations that may be wrong


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    """A model that finds a person of one word at every word."""
    source = pretrained.read(tiny)
    model = pretrained.build(source, ("B-per", "I-per", "O"))
    model.head.tag_kernel.assign(np.zeros(model.head.tag_kernel.shape, np.float32))
    model.head.tag_bias.assign(np.array([2, 0, 1], np.float32))
    folder = tmp_path_factory.mktemp("run") / "model"
    pretrained.save(model, folder, source=source, pieces=WordPieces.load(source), notes={"row_length": 32})
    return folder


CORPUS = "Alex\tS-per\nsings O\n\nIn O\nMali\tS-geo\n"


def test_doubts_are_listed_written_decided_and_applied(tmp_path, model):
    path = tmp_path / "x.conll"
    path.write_text(CORPUS)
    done = call("check", path, "--ckpt", model, "--json", tmp_path / "x.jsonl", "--html", tmp_path / "x.html")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    warning = f"{path}: tags converted from IOBES to IOB2\nwarning: the model does not know geo; such annotations are not judged\n"
    assert done.stdout.startswith(warning) and "3 places in doubt" not in done.stdout
    assert "sentence 0      missed    no entity -> 'sings' per" in done.stdout
    assert f"{path}: 2 places in doubt (missed 2, spurious 0, type 0, border 0) of 2 annotated entities" in done.stdout
    records = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    keys = ["sentence", "start_word", "end_word", "kind", "gold", "predicted", "score", "text"]
    assert [list(record) for record in records] == [keys, keys]
    assert [(r["sentence"], r["start_word"], r["end_word"], r["gold"], r["predicted"]["type"]) for r in records] == [
        (0, 1, 2, None, "per"),
        (1, 0, 1, None, "per"),
    ]
    assert (tmp_path / "x.html").read_text().count('"kind":"missed"') == 2

    decided = tmp_path / "decisions.jsonl"
    decided.write_text(json.dumps(records[0] | {"decision": "model"}) + "\n")
    done = call("check", path, "--apply", decided, "--output", tmp_path / "y.conll")
    assert done.returncode == 0 and (tmp_path / "y.conll").read_text() == CORPUS.replace("sings O", "sings S-per"), done.stderr
    assert "sentence 0: no entity -> 'sings' per\n" in done.stdout and "1 changes in 1 sentences" in done.stdout


def test_each_fold_is_judged_by_a_model_that_has_not_seen_it(tmp_path, monkeypatch, model):
    seen = []

    def trained(arguments):  # instead of train.py, which other tests run
        flags = dict(zip(arguments[::2], arguments[1::2], strict=True))
        assert flags["--head"] == "linear"  # which tunes nothing on the sentences that it is to judge
        seen.append([{s.words[0] for s in formats.read(flags[name])} for name in ("--train", "--validation")])
        shutil.copytree(model, f"{flags['--output']}/model")
        return 0

    monkeypatch.setattr("train.main", trained)
    path = tmp_path / "x.conll"
    path.write_text("".join(f"w{n} O\n\n" for n in range(5)) + "a B-per\n")
    done = call("check", path, "--folds", 3, "--json", tmp_path / "x.jsonl")
    assert done.returncode == 0, done.stderr
    everything = {f"w{n}" for n in range(5)} | {"a"}
    assert all(rest | judged == everything and not rest & judged for rest, judged in seen)
    assert sorted(word for _, judged in seen for word in judged) == sorted(everything)
    assert [json.loads(line)["sentence"] for line in (tmp_path / "x.jsonl").read_text().splitlines()] == [0, 1, 2, 3, 4]
    done = call("check", path, "--folds", 7)
    assert (
        done.returncode == 2
        and done.stderr == f"error: {path}: 6 documents or different sentences, fewer than --folds 7; give a smaller number\n"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--ckpt", "m", "--folds", "3"], "--ckpt and --folds do not go together"),
        (["--json", "x.json"], "--json and --html hold the annotations in doubt; give --ckpt DIR or --folds K too"),
        (["--apply", "d.jsonl"], "--apply and --output go together"),
        (["--folds", "1"], "folds = 1 is out of range"),
        (["--folds", "3", "--test", "y.conll"], "--validation and --test do not go with --folds"),
        (["--apply", "d.jsonl", "--output", "x.conll"], "x.conll: --output is the file itself"),
        (["--ckpt", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("check", "x.conll", *flags)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1, done.stderr
