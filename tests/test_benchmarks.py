"""The benchmarks' contenders: what is measured is what train.py does."""

from __future__ import annotations

import json
import tempfile

import pytest

import train
from benchmarks import annotation, ours, worker
from ner import formats
from ner.sentences import entity_spans


class Rounds(worker.Meter):
    """A meter whose rounds are one step long; it notes the answers, and ends an endless contender after ``most`` of them."""

    def __init__(self, most: int = 10**6):
        self.most, self.found = most, []

    def _answer(self, answer: dict) -> None:
        self.found.append(answer)
        if len(self.found) > self.most:
            raise EOFError
        self.seconds, self.work, self.steps, self.elapsed, self.began = 0.0, 0.0, 0, None, 0.0


@pytest.fixture
def arguments(tiny, toy_sentences, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    formats.write("train.jsonl", toy_sentences[:60])
    formats.write("validation.jsonl", toy_sentences[60:])
    files = ["--train", "train.jsonl", "--validation", "validation.jsonl", "--encoder", str(tiny), "--unseen-tags", "missed"]
    size = ["--epochs", "2", "--validate-every", "0", "--rows", "4", "--row-length", "64", "--steps-per-call", "3"]
    return [*files, *size, "--learning-rate", "5e-3", "--compute-dtype", "float32", "--tpu", "none"]


@pytest.mark.slow
def test_training_is_that_of_train_py(arguments, tmp_path):
    meter = Rounds()
    ours.training(meter, arguments, score=True)
    train.main([*arguments, "--output", "run"])
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    f1 = [answer["f1"] for answer in meter.found if "f1" in answer]
    assert f1 == [record["validation/f1"] for record in records if "validation/f1" in record] and f1[-1] > 0
    steps = [answer for answer in meter.found if answer.get("work")]
    assert len(steps) == len(records)
    words = sum(len(sentence.words) for sentence in formats.read("train.jsonl"))
    assert sum(answer["work"] for answer in steps) >= 2 * words  # two epochs of real pieces, [CLS] and [SEP] among them


def test_encoding_counts_the_pieces_of_the_corpus(arguments, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("NER_CACHE", "")  # encoding sets its own; this puts back what was there
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    meter = Rounds(most=2)
    with pytest.raises(EOFError):
        ours.encoding(meter, "train.jsonl", str(tiny), cached=True)
    (first, second) = meter.found[1:]
    assert first["work"] == second["work"] > sum(len(sentence.words) for sentence in formats.read("train.jsonl"))
    assert set(first["stages"]) == {"CSV", "word pieces", "labels and packing"}


def test_what_is_damaged_is_told_and_can_be_corrected(toy_sentences):
    damaged, places = annotation.damage(toy_sentences, share=0.2)
    assert {kind for _, _, _, kind in places} == {"missed", "spurious", "border", "type"}
    changed = {number for number, (old, new) in enumerate(zip(toy_sentences, damaged, strict=True)) if old.tags != new.tags}
    assert changed == {number for number, _, _, _ in places}

    def entity(tags, low, high):
        found = [span for span in entity_spans(tags) if low <= span[1] and span[2] <= high]
        return dict(zip(("type", "start_word", "end_word"), found[0], strict=True)) if found else None

    records = [
        {"sentence": n, "gold": entity(damaged[n].tags, low, high), "predicted": entity(toy_sentences[n].tags, low, high)}
        for n, low, high, _ in places
    ]
    assert annotation.corrected(damaged, records) == toy_sentences
    found = annotation.hits([annotation.span_of(record) for record in records], places)
    assert found["recall"] == 1 and found["precision at 100"] == len(places[:100]) / 100
    again = annotation.hits([annotation.span_of(records[0])] * 2, places)
    assert again["damaged places at 100"] == 1 and again["recall"] == 1 / len(places)


def test_a_correction_that_contradicts_an_earlier_one_is_left_out(toy_sentences):
    number, sentence = next((n, s) for n, s in enumerate(toy_sentences) if entity_spans(s.tags))
    type_, first, end = entity_spans(sentence.tags)[0]
    gold = {"type": type_, "start_word": first, "end_word": end}
    taken = {"sentence": number, "gold": gold, "predicted": gold | {"type": "x"}}
    found = annotation.corrected(toy_sentences, [taken, taken | {"predicted": gold | {"type": "y"}}])
    assert ("x", first, end) in entity_spans(found[number].tags)
