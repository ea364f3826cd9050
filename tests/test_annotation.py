"""Annotations in doubt: the probability of an entity against all tag sequences, and which places are in doubt and why."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ner import annotation, decisions, report
from ner.annotation import Reading
from ner.decoding import legal_steps
from ner.sentences import Sentence, entity_spans

NAMES = ("B-a", "B-b", "I-a", "I-b", "O")


def all_sequences(scores, steps, end):
    """Each legal sequence of tags and its probability."""
    found = {}
    for path in itertools.product(range(len(NAMES)), repeat=len(scores)):
        score = sum(steps[a, b] for a, b in zip((-1, *path), path, strict=False)) + end[path[-1]]
        found[tuple(NAMES[i] for i in path)] = score + sum(scores[i, tag] for i, tag in enumerate(path))
    total = np.logaddexp.reduce(list(found.values()))
    return {path: np.exp(score - total) for path, score in found.items() if score > -np.inf}


@pytest.mark.parametrize("learnt", [False, True])  # the linear head; the CRF's transitions
def test_an_entity_has_the_probability_of_all_sequences_that_hold_it(learnt):
    random = np.random.default_rng(0)
    steps = np.where(legal_steps(NAMES), random.normal(size=(6, 5)) * learnt, -np.inf)
    end = random.normal(size=5) * learnt
    for length in (1, 4):
        scores = random.normal(0, 2, (length, len(NAMES)))
        reading, sequences = Reading(scores, NAMES, steps, end), all_sequences(scores, steps, end)
        for a, b in itertools.combinations(range(length + 1), 2):
            for type_ in ("a", "b"):
                expected = sum(p for path, p in sequences.items() if (type_, a, b) in entity_spans(path))
                assert reading.probability((type_, a, b)) == pytest.approx(expected, abs=1e-9)
            expected = sum(p for path, p in sequences.items() if set(path[a:b]) == {"O"})
            assert reading.probability((annotation.NONE, a, b)) == pytest.approx(expected, abs=1e-9)


def sure_of(*tags):
    """Scores with a probability of 0.9 or so for each of these tags."""
    return np.log([[0.9 if name == tag else 0.025 for name in NAMES] for tag in tags])


STEPS = np.where(legal_steps(NAMES), 0.0, -np.inf)
GOLD = [["B-a", "O", "O", "B-b"], ["B-a", "I-a", "O"], ["B-a", "O"]]
READ = [["B-b", "O", "B-a", "O"], ["B-a", "O", "O"], ["B-a", "O"]]


def test_doubts_are_the_disagreements_by_kind_and_what_the_model_finds_unlikely():
    scores = [sure_of(*tags) for tags in READ]
    scores[2][0] = np.log([0.35, 0.05, 0.05, 0.05, 0.5])  # of the tags alone, no entity is likelier here
    readings = [Reading(of_words, NAMES, STEPS, np.zeros(5)) for of_words in scores]
    found = [doubt for i in range(3) for doubt in annotation.doubts(readings[i], GOLD[i], READ[i], 10 + i)]
    assert [(d.sentence, d.kind, d.gold, d.predicted) for d in found] == [
        (10, "type", ("a", 0, 1), ("b", 0, 1)),
        (10, "missed", None, ("a", 2, 3)),
        (10, "spurious", ("b", 3, 4), None),
        (11, "border", ("a", 0, 2), ("a", 0, 1)),
        (12, "spurious", ("a", 0, 1), None),
    ]
    assert all(d.p_gold < d.p_predicted for d in found)
    # A type that the model does not have is not judged.
    assert [d.kind for d in annotation.doubts(readings[0], ["B-c", "O", "O", "B-b"], READ[0], 0)] == ["missed", "spurious"]


def test_a_type_named_o_is_an_entity():
    scores = np.log([[0.7, 0.1, 0.2]])
    reading = annotation.Reading(scores, ("B-O", "I-O", "O"), np.zeros((4, 3)), np.zeros(3))
    assert reading.probability(("O", 0, 1)) == pytest.approx(0.7) and reading.probability((annotation.NONE, 0, 1)) == pytest.approx(0.2)
    (doubt,) = annotation.doubts(reading, ["O"], ["B-O"], 0)
    assert (doubt.kind, doubt.gold, doubt.predicted) == ("missed", None, ("O", 0, 1))
    (record,) = annotation.records([doubt], [Sentence(["Acme"], ["O"]), Sentence(["acme"], ["B-O"])])[:1]
    assert record["evidence"]["elsewhere"][0]["counts"] == {"O": 1}


def test_a_record_tells_the_other_places_of_the_name_and_the_copies():
    corpus = [
        Sentence(["Mali", "won"], ["B-b", "O"]),
        Sentence(["mali", "won"], ["B-a", "O"]),
        Sentence(["In", "Mali"], ["O", "O"]),
        Sentence(["Mali", "Air"], ["B-b", "I-b"]),
        Sentence(["Mali", "won"], ["B-a", "O"]),
    ]
    doubts = [
        annotation.Doubt(2, "missed", None, ("a", 1, 2), 0.3, 0.6),
        annotation.Doubt(0, "type", ("b", 0, 1), ("a", 0, 1), 0.1, 0.9),
    ]
    first, second = annotation.records(doubts, corpus)
    mali = {"type": "b", "start_word": 0, "end_word": 1, "text": "Mali"}
    counts = {"a": 2, "no entity": 1, "other words": 1}
    examples = [{"sentence": 1, "type": "a", "text": "mali won"}, {"sentence": 2, "type": "no entity", "text": "In Mali"}]
    assert first == {
        "sentence": 0,
        "start_word": 0,
        "end_word": 1,
        "kind": "type",
        "gold": mali,
        "predicted": mali | {"type": "a"},
        "score": round(float(np.log((2 * 0.9 + 2) / (2 * 0.1))), 6),
        "text": "Mali",
        "evidence": {
            "p_gold": 0.1,
            "p_predicted": 0.9,
            "elsewhere": [{"name": "mali", "counts": counts, "examples": examples}],
            "copies": 1,
            "copies_that_differ": 1,
        },
    }
    assert second["score"] == round(float(np.log((2 * 0.6 + 2) / (2 * 0.3 + 1))), 6)
    assert second["gold"] is None and (second["start_word"], second["end_word"], second["text"]) == (1, 2, "Mali")


def test_a_rank_takes_the_root_over_the_words_that_differ_and_divides_by_how_often_the_two_disagree_so():
    corpus = [Sentence(["a", "b", "c", "d"], ["O"] * 4), Sentence(["e"], ["O"])]
    long, short = (
        annotation.Doubt(0, "missed", None, ("a", 0, 4), 0.1**4, 0.9**4),
        annotation.Doubt(1, "missed", None, ("a", 0, 1), 0.1, 0.9),
    )
    border = annotation.Doubt(0, "border", ("a", 0, 3), ("a", 0, 4), 0.1, 0.9)
    assert (long.differing, border.differing, annotation.Doubt(0, "border", ("a", 0, 3), ("a", 1, 3), 0.1, 0.9).differing) == (4, 1, 2)
    first, second = (record["score"] for record in annotation.records([long, short], corpus))
    assert first == second == pytest.approx(np.log(9 / 2), abs=1e-6)
    assert annotation.records([border], corpus)[0]["score"] == pytest.approx(np.log(9), abs=1e-6)


def test_folds_keep_documents_and_copies_together():
    corpus = [Sentence([f"w{number // 2}"], ["O"]) for number in range(20)] + [Sentence([f"v{n}"], ["O"], f"d{n % 3}") for n in range(9)]
    parts = annotation.folds(corpus, 3)
    assert sorted(number for part in parts for number in part) == list(range(29))
    assert max(map(len, parts)) - min(map(len, parts)) <= 3
    fold = {number: i for i, part in enumerate(parts) for number in part}
    assert all(fold[number] == fold[number + 1] for number in range(0, 20, 2))
    assert all(fold[20 + n] == fold[20 + n % 3] for n in range(9))


@pytest.fixture
def page(tmp_path):
    corpus = [Sentence(["<b>Mali</b>", "won"], ["B-b", "O"]), Sentence(["in", "Togo"], ["O", "O"]), Sentence(["New", "York"], ["B-b", "O"])]
    doubts = [
        annotation.Doubt(0, "type", ("b", 0, 1), ("a", 0, 1), 0.1, 0.9),
        annotation.Doubt(1, "missed", None, ("a", 1, 2), 0.1, 0.9),
        annotation.Doubt(2, "border", ("b", 0, 1), ("b", 0, 2), 0.1, 0.9),
    ]
    report.write_annotation_html(tmp_path / "p.html", annotation.records(doubts, corpus), corpus, {"corpus": "x"})
    return corpus, (tmp_path / "p.html").as_uri()


ITEMS = "[...document.querySelectorAll('#sentences li')].map(li => Number(li.dataset.index))"


@pytest.mark.parametrize(("fragment", "shown"), [("", [0, 1, 2]), ("#type=a", [0, 1]), ("#kind=border&type=b", [2]), ("#q=TOGO", [1])])
def test_the_page_filters(browser, page, fragment, shown):
    browser.open(page[1] + fragment)
    assert browser.run(ITEMS) == shown
    assert browser.complaints() == []


def test_decisions_are_made_by_keys_kept_by_the_browser_and_exported_as_what_apply_reads(browser, page, tmp_path):
    corpus, address = page
    browser.open(address)
    browser.run("'jmamj'.split('').forEach(key => dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })))")
    browser.open(address + "#decided=any")  # as after the browser was closed
    assert browser.run(f"[{ITEMS}, summary.textContent]") == [[0, 1, 2], "3 places, 3 decided"]
    browser.run("dispatchEvent(new KeyboardEvent('keydown', { key: 'j' })); dispatchEvent(new KeyboardEvent('keydown', { key: 'x' }))")
    browser.run("[...list.querySelectorAll('button')].find(b => b.textContent.startsWith('model')).click()")
    path = tmp_path / "decisions.jsonl"
    path.write_text(browser.run("exported()"))
    found = decisions.read(path)
    assert [(record["sentence"], record["decision"]) for _, record in found] == [(1, "model"), (2, "model")]
    assert decisions.applied(corpus, found, path)[0] == {1: ["O", "B-a"], 2: ["B-b", "I-b"]}
    assert browser.complaints() == []
