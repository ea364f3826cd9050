"""A run with --context document from end to end: train, resume, evaluate, predict."""

from __future__ import annotations

import json
import shutil

import pytest
from programs import call, scores, weights, whole_and_interrupted, without_clock

import evaluate
import predict
from ner import pretrained

WANTS = "reads neighbouring sentences"


def write(path, sentences, size):
    """A CoNLL file of documents of ``size`` sentences."""
    lines = []
    for number, sentence in enumerate(sentences):
        lines += [] if number % size else ["-DOCSTART- O", ""]
        lines += [*(f"{word} {tag}" for word, tag in zip(sentence.words, sentence.tags, strict=True)), ""]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory, toy_sentences):
    folder = tmp_path_factory.mktemp("documents")
    return write(folder / "train.conll", toy_sentences[:64], 16), write(folder / "validation.conll", toy_sentences[64:], 4)


@pytest.fixture(scope="module")
def flags(files, tiny):
    return [
        *("--train", files[0], "--validation", files[1], "--encoder", tiny, "--tpu", "none", "--context", "document"),
        *("--epochs", 5, "--rows", 2, "--learning-rate", "1e-2", "--dropout", 0.1, "--encoder-dropout", 0),
        *("--steps-per-call", 2, "--checkpoint-every-steps", 3, "--compute-dtype", "float32"),
    ]


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    """A whole run, and its folder as it stood inside the second epoch or later."""
    return whole_and_interrupted(flags, tmp_path_factory.mktemp("runs"), after=4)


def test_it_learns_and_says_what_it_reads(trained):
    assert max(scores(trained[0])) > 0.5
    source = pretrained.read(trained[0] / "model")
    assert (source.context, source.row_length) == ("document", 64)
    assert "neighbours in the document" in (trained[0] / "model" / "README.md").read_text()


def test_it_is_continued_to_the_same_bits(trained, flags, tmp_path):
    whole, output = trained[0], shutil.copytree(trained[1], tmp_path / "run")
    done = call("train", *flags, "--output", output, "--resume")
    assert done.returncode == 0 and "resumed from step-" in done.stdout, done.stderr
    assert weights(output) == weights(whole) and without_clock(output) == without_clock(whole)
    other = call("train", *flags, "--output", output, "--resume", "--context", "sentence")
    assert other.returncode == 2 and "context: 'document' -> 'sentence'" in other.stderr


def test_evaluate_and_predict_read_the_neighbours_or_say_that_there_are_none(trained, files, toy_sentences, tmp_path):
    def evaluated(*arguments):
        done = call("evaluate", "--ckpt", trained[0], "--json", tmp_path / "s.json", "--predictions", tmp_path / "p.txt", *arguments)
        assert done.returncode == 0, done.stderr
        blocks = (tmp_path / "p.txt").read_text().strip().split("\n\n")
        tags = [[line.split(" ")[2] for line in block.split("\n")] for block in blocks]
        return json.loads((tmp_path / "s.json").read_text())["f1"], tags, WANTS in done.stdout

    def predicted(text, *arguments):
        options = ["--pre-split", "--format", "jsonl", *arguments]
        done = call("predict", "--ckpt", trained[0], "--input", "-", *options, input=text)
        assert done.returncode == 0, done.stderr
        return [line["tags"] for line in map(json.loads, done.stdout.splitlines()) if line["words"]], WANTS in done.stderr

    f1, with_context, warned = evaluated()
    assert f1 == max(scores(trained[0])) and not warned
    _, alone, warned = evaluated("--context", "sentence")
    assert not warned
    no_documents = write(tmp_path / "alone.conll", toy_sentences[64:], 1)
    assert evaluated("--data", no_documents)[1:] == (alone, True)

    lines = [" ".join(s.words) for s in toy_sentences[64:]]
    paragraphs = "\n\n".join("\n".join(lines[i : i + 4]) for i in range(0, 16, 4)) + "\n"
    assert predicted(paragraphs) == (with_context, False)
    assert predicted(paragraphs, "--context", "sentence") == (alone, False)
    assert predicted("\n\n".join(lines) + "\n") == (alone, True)
    done = call("predict", "--ckpt", trained[0], *lines[:2], "--pre-split", "--format", "jsonl")
    assert [json.loads(line)["tags"] for line in done.stdout.splitlines()] == alone[:2] and WANTS in done.stderr


def test_all_splits_together_keep_their_documents_apart(trained):
    sentences, _ = evaluate.corpus_of(evaluate.Arguments(ckpt=str(trained[0]), split="all"), lambda text: None)
    assert len({s.document for s in sentences}) == 8  # four in each file, numbered from 1 in both


def test_a_corpus_without_documents_is_refused(corpus, tiny, tmp_path):
    files = ["--train", corpus / "train.conll", "--validation", corpus / "validation.conll", "--encoder", tiny, "--tpu", "none"]
    done = call("train", *files, "--context", "document", "--output", tmp_path / "run")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not (tmp_path / "run").exists()
    assert "--context document, and no training sentence has a neighbour in its document; give" in done.stderr


def test_predict_reads_a_paragraph_whole_unless_it_is_very_long(monkeypatch):
    monkeypatch.setattr(predict, "CHUNK", 3)
    lines = ["a", "b", " ", "c", "d", "e", "f", "", *"ghijklmnop", "", "q"]
    assert list(predict.chunks(iter(lines), longest=3)) == [lines[i : i + 3] for i in range(0, len(lines), 3)]
    assert list(predict.chunks(iter(lines), longest=8)) == [lines[:3], lines[3:8], lines[8:16], lines[16:19], lines[19:]]
    assert predict.paragraphs(["a", "b", " ", "", "c"]) == ["0", "0", "", "", "2"]
