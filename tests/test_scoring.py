from __future__ import annotations

import csv
import io
import itertools
import json
import os
import random
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner import report, scoring
from ner.errors import InputError
from ner.progress import table
from ner.scoring import (
    ERROR_CLASSES,
    Evaluation,
    Pairing,
    Span,
    bootstrap_f1,
    confident,
    expected_calibration_error,
    paired_test,
    score,
)
from ner.sentences import entity_spans

TAGS = ["O", "B-geo", "I-geo", "B-per", "I-per", "B-org-unit", "I-org-unit"]
tag_pairs = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=12)
corpora = st.lists(tag_pairs, min_size=1, max_size=8).map(
    lambda sentences: tuple([[pair[side] for pair in sentence] for sentence in sentences] for side in (0, 1))
)
few = settings(deadline=None, max_examples=150)


def evaluated(gold: list[list[str]], predicted: list[list[str]]) -> Evaluation:
    return Evaluation(gold, gold, predicted)


def counts_of(gold: list[list[str]], predicted: list[list[str]]) -> np.ndarray:
    return evaluated(gold, predicted).counts


def noisy(gold: list[list[str]], share: float, seed: int) -> list[list[str]]:
    """``gold`` with ``share`` of its tags replaced by random ones."""
    rng = random.Random(seed)
    tags = sorted({tag for sentence in gold for tag in sentence})
    return [[rng.choice(tags) if rng.random() < share else tag for tag in sentence] for sentence in gold]


@pytest.fixture(scope="module")
def gmb() -> list[list[str]]:
    path = os.environ.get("GMB_CSV")
    if not path or not os.path.exists(path):
        pytest.skip("GMB_CSV does not name the GMB corpus")
    sentences: list[list[str]] = []
    with open(path, encoding="latin-1", newline="") as file:
        for name, *_, tag in itertools.islice(csv.reader(file), 1, None):
            if name:
                sentences.append([])
            sentences[-1].append(tag)
    return sentences


def conlleval(gold: list[list[str]], predicted: list[list[str]]) -> tuple[int, int, int]:
    """Correct, predicted and gold chunks, counted token by token as in the CoNLL-2000 ``conlleval`` script."""

    def parse(tag: str) -> tuple[str, str]:
        prefix, _, type_ = tag.partition("-")
        return prefix, type_

    def ends(before: tuple[str, str], now: tuple[str, str]) -> bool:
        (prefix_before, type_before), (prefix, type_) = before, now
        return (prefix_before in "BI" and prefix in "BO") or (prefix_before != "O" and type_before != type_)

    def starts(before: tuple[str, str], now: tuple[str, str]) -> bool:
        (prefix_before, type_before), (prefix, type_) = before, now
        return prefix == "B" or (prefix_before == "O" and prefix == "I") or (prefix != "O" and type_before != type_)

    correct = found_predicted = found_gold = 0
    inside_correct = False
    last_gold = last_predicted = ("O", "")
    tokens = [pair for g, p in zip(gold, predicted, strict=True) for pair in [*zip(g, p, strict=True), ("O", "O")]]
    for now_gold, now_predicted in ((parse(g), parse(p)) for g, p in tokens):
        end_gold, end_predicted = ends(last_gold, now_gold), ends(last_predicted, now_predicted)
        start_gold, start_predicted = starts(last_gold, now_gold), starts(last_predicted, now_predicted)
        if inside_correct:
            if end_gold and end_predicted and last_gold[1] == last_predicted[1]:
                inside_correct = False
                correct += 1
            elif end_gold != end_predicted or now_gold[1] != now_predicted[1]:
                inside_correct = False
        if start_gold and start_predicted and now_gold[1] == now_predicted[1]:
            inside_correct = True
        found_gold += start_gold
        found_predicted += start_predicted
        last_gold, last_predicted = now_gold, now_predicted
    return correct, found_predicted, found_gold


def f1(correct: int, found_predicted: int, found_gold: int) -> float:
    return 2 * correct / max(found_predicted + found_gold, 1)


@few
@given(corpora)
def test_default_f1_counts_as_conlleval(pair):
    correct, found_predicted, found_gold = counts = conlleval(*pair)
    scores = score(*pair)
    assert scores.f1 == pytest.approx(f1(*counts))
    assert scores.precision == pytest.approx(correct / max(found_predicted, 1))
    assert scores.recall == pytest.approx(correct / max(found_gold, 1))
    assert scores.entities == found_gold


@few
@given(corpora)
def test_a_file_of_predictions_scores_the_same_by_conlleval(tmp_path_factory, pair):
    path = tmp_path_factory.mktemp("predictions") / "p.txt"
    report.write_predictions(path, [["word"] * len(sentence) for sentence in pair[0]], *pair)
    sentences = [[line.split()[-2:] for line in block.split("\n") if line] for block in path.read_text().split("\n\n")]
    gold, predicted = ([[columns[n] for columns in sentence] for sentence in sentences] for n in (0, 1))
    assert f1(*conlleval(gold, predicted)) == pytest.approx(score(*pair).f1)


def assert_equals_seqeval(gold: list[list[str]], predicted: list[list[str]]) -> None:
    from seqeval.metrics import classification_report, f1_score
    from seqeval.scheme import IOB2

    scores = score(gold, predicted)
    assert scores.f1 == pytest.approx(f1_score(gold, predicted, zero_division=0))
    assert scores.f1_strict == pytest.approx(f1_score(gold, predicted, mode="strict", scheme=IOB2, zero_division=0))
    if not scores.per_type:
        return
    assert scores.macro_f1 == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0))
    report = classification_report(gold, predicted, output_dict=True, zero_division=0)
    assert set(report) == {*scores.per_type, "micro avg", "macro avg", "weighted avg"}
    for type_, row in scores.per_type.items():
        theirs = [report[type_][name] for name in ("precision", "recall", "f1-score", "support")]
        assert [*row.values()] == pytest.approx(theirs)


@few
@given(corpora)
def test_scores_equal_seqeval(pair):
    assert_equals_seqeval(*pair)


def test_scores_equal_seqeval_and_conlleval_on_gmb(gmb):
    gold = gmb[:4796]
    predicted = noisy(gold, 0.05, seed=1)
    assert_equals_seqeval(gold, predicted)
    scores = score(gold, predicted)
    assert scores.f1 == pytest.approx(f1(*conlleval(gold, predicted)))
    assert scores.f1 != scores.f1_strict
    assert (scores.sentences, scores.words) == (4796, sum(map(len, gold)))


EXAMPLE_GOLD = [["B-per", "I-per", "O", "B-geo"], ["O", "B-geo", "O"]]
EXAMPLE_PREDICTED = [["B-per", "I-per", "O", "B-per"], ["O", "I-geo", "O"]]


def test_scores_of_a_worked_example():
    scores = score(EXAMPLE_GOLD, EXAMPLE_PREDICTED)
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert scores.f1_strict == pytest.approx(2 * 1 / (2 + 3))  # the lone I-geo is no entity in strict mode
    assert scores.per_type["geo"] == pytest.approx({"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2})
    assert scores.per_type["per"] == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1})
    assert scores.macro_f1 == pytest.approx(2 / 3)
    assert (scores.sentences, scores.words, scores.entities) == (2, 7, 3)


def test_as_dict_is_ready_for_json():
    values = json.loads(json.dumps(score(EXAMPLE_GOLD, EXAMPLE_PREDICTED).as_dict()))
    assert " ".join(values) == "precision recall f1 f1_strict macro_f1 per_type sentences words entities"
    assert values["per_type"]["geo"]["support"] == 2


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        ([], []),
        ([[]], [[]]),
        ([["O", "O"]], [["O", "O"]]),
        ([["O", "O"]], [["B-geo", "O"]]),
        ([["B-geo", "O"]], [["O", "O"]]),
        ([["B-geo"]], [["B-per"]]),
    ],
)
def test_nothing_right_gives_zero_without_warning(gold, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(gold, predicted)
        assert bootstrap_f1(counts_of(gold, predicted), resamples=10) == (0.0, 0.0)
        assert paired_test(*[counts_of(gold, predicted)] * 2, resamples=10) == 1.0
    assert [scores.precision, scores.recall, scores.f1, scores.f1_strict, scores.macro_f1] == [0.0] * 5


def test_input_that_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="number of sentences"):
        score([["O"]], [["O", "O"]])
    with pytest.raises(ValueError, match="number of sentences"):
        evaluated([["O"], []], [["O"]])
    with pytest.raises(ValueError, match="gold and words differ"):
        Evaluation([["a"]], [["O", "O"]], [["O", "O"]])
    with pytest.raises(ValueError, match="gold and confidence differ"):
        Evaluation([["a"]], [["O"]], [["O"]], [[0.5, 0.5]])
    for tag in ("geo", "B-", "E-geo", "", "o", "I"):
        with pytest.raises(InputError, match="is not an IOB2 tag; use O, B-TYPE"):
            score([["O"]], [[tag]])


def test_table_names_the_modes():
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    console.print(table(score([["B-[red]", "O"]], [["B-[red]", "O"]])))
    text = console.file.getvalue()
    for part in ("F1 (seqeval default mode)", "F1 strict IOB2", "[red]", "all (micro)", "all (macro)", "1.0000"):
        assert part in text


@few
@given(st.lists(st.sampled_from(TAGS), max_size=15))
def test_spans_are_seqevals(tags):
    from seqeval.metrics.sequence_labeling import get_entities

    assert entity_spans(tags) == [(type_, first, last + 1) for type_, first, last in get_entities(tags)]


def test_spans_are_seqevals_on_noisy_gmb(gmb):
    from seqeval.metrics.sequence_labeling import get_entities

    for tags in noisy(gmb[:2000], 0.2, seed=3):
        assert entity_spans(tags) == [(type_, first, last + 1) for type_, first, last in get_entities(tags)]


# Uncertainty


def sampled(sentences: int, share: float, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    rng = random.Random(seed)
    gold = [rng.choice([["B-geo", "O"], ["O", "B-per", "I-per"], ["O"]]) for _ in range(sentences)]
    return gold, noisy(gold, share, seed + 1)


def test_bootstrap_brackets_f1_and_narrows_with_more_sentences():
    widths = []
    for sentences in (50, 800):
        gold, predicted = sampled(sentences, 0.2, seed=4)
        low, high = bootstrap_f1(counts_of(gold, predicted))
        assert 0 <= low < score(gold, predicted).f1 < high <= 1
        widths.append(high - low)
    assert widths[0] > 2.5 * widths[1]


def test_bootstrap_depends_on_the_seed_alone():
    pair = sampled(60, 0.3, seed=5)
    assert bootstrap_f1(counts_of(*pair)) == bootstrap_f1(counts_of(*pair))
    assert bootstrap_f1(counts_of(*pair)) != bootstrap_f1(counts_of(*pair), seed=1)
    assert bootstrap_f1(counts_of(pair[0], pair[0])) == (1.0, 1.0)


def test_bootstrap_is_the_middle_95_percent_of_scores_of_drawn_sentences():
    gold, predicted = sampled(40, 0.3, seed=6)
    rng = np.random.default_rng(0)
    draws = [rng.integers(40, size=40) for _ in range(100)]
    values = [f1(*conlleval([gold[i] for i in draw], [predicted[i] for i in draw])) for draw in draws]
    expected = np.quantile(values, [0.025, 0.975])
    assert bootstrap_f1(counts_of(gold, predicted), resamples=100) == pytest.approx(tuple(expected))


def test_paired_test_approximates_the_exact_permutation_test():
    gold, a = sampled(9, 0.15, seed=7)
    b = noisy(gold, 0.6, seed=8)
    seen = abs(score(gold, a).f1 - score(gold, b).f1)
    as_large = 0
    for swaps in itertools.product([False, True], repeat=len(gold)):
        mixed_a = [y if swap else x for x, y, swap in zip(a, b, swaps, strict=True)]
        mixed_b = [x if swap else y for x, y, swap in zip(a, b, swaps, strict=True)]
        difference = abs(f1(*conlleval(gold, mixed_a)) - f1(*conlleval(gold, mixed_b)))
        as_large += difference >= seen - 1e-12
    exact = as_large / 2 ** len(gold)
    assert 0 < exact < 1
    counts_a, counts_b = counts_of(gold, a), counts_of(gold, b)
    assert paired_test(counts_a, counts_b) == pytest.approx(exact, abs=0.02)
    assert paired_test(counts_b, counts_a) == pytest.approx(exact, abs=0.02)


def test_paired_test_tells_like_from_unlike():
    gold, good = sampled(400, 0.05, seed=9)
    counts, like, unlike = (counts_of(gold, p) for p in (good, noisy(gold, 0.05, seed=77), noisy(gold, 0.4, seed=11)))
    assert paired_test(counts, counts) == 1.0
    assert paired_test(counts, like) > 0.05
    assert paired_test(counts, unlike, resamples=999) == pytest.approx(1 / 1000)


def test_expected_calibration_error():
    confidence = np.array([0.1, 0.1, 0.9, 0.9])
    assert expected_calibration_error(confidence, np.array([False, False, True, True])) == pytest.approx(0.1)
    assert expected_calibration_error(confidence, np.array([False, True, True, True]), bins=2) == pytest.approx(0.25)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0.0
    assert expected_calibration_error(np.array([]), np.array([])) == 0.0
    # A bin is closed above (Guo et al. 2017): 0.5 belongs to (0, 0.5] and its gap cannot cancel that of 0.6.
    assert expected_calibration_error(np.array([0.5, 0.6]), np.array([True, False]), bins=2) == pytest.approx(0.55)


@pytest.mark.parametrize("confidence", [[1.5], [-0.1], [float("nan")], [0.5, 0.5], [[0.5]]])
def test_expected_calibration_error_refuses_what_is_no_probability(confidence):
    with pytest.raises(ValueError, match="confidence"):
        expected_calibration_error(np.array(confidence), np.array([True]))


def test_tags_without_the_entities_of_a_low_score():
    tags, scores = ["B-a", "I-a", "O", "B-b"], [0.9, 0.7, 0.1, 0.6]
    assert confident(tags, scores, 0.0) == confident(tags, scores, 0.6) == tags
    assert confident(tags, scores, 0.7) == ["B-a", "I-a", "O", "O"]
    assert confident(tags, scores, 0.9) == ["O"] * 4 and tags[0] == "B-a"


def test_the_score_from_which_on_a_precision_is_reached():
    gold = [["B-a", "B-a", "O", "B-a", "O", "O"]]
    predicted = [["B-a", "B-a", "B-a", "B-a", "B-a", "O"]]
    evaluation = Evaluation(gold, gold, predicted, [[0.9, 0.8, 0.7, 0.6, 0.6, 1.0]])  # right: 0.9, 0.8 and one of the two at 0.6
    assert evaluation.cut_for(1.0) == (0.8, 1.0, 2 / 3)
    assert evaluation.cut_for(0.6) == (0.6, 0.6, 1.0)
    assert evaluation.cut_for(0.75) == (0.8, 1.0, 2 / 3)  # three of the first four would do, but the fourth and the fifth go together
    wrong = Evaluation(gold, gold, [["O", "O", "B-a", "O", "O", "O"]], [[1.0] * 6])
    assert wrong.cut_for(0.5) is None and Evaluation(gold, gold, [["O"] * 6], [[1.0] * 6]).cut_for(0.5) is None


# Errors


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("O O", "O O", []),
        ("B-a I-a O", "B-a I-a O", [("correct", ("a", 0, 2), ("a", 0, 2))]),
        ("B-a O", "I-a O", [("correct", ("a", 0, 1), ("a", 0, 1))]),
        ("B-a O", "O O", [("missed", ("a", 0, 1), None)]),
        ("O O", "O B-a", [("spurious", None, ("a", 1, 2))]),
        ("B-a I-a", "B-b I-b", [("wrong type", ("a", 0, 2), ("b", 0, 2))]),
        ("B-a I-a", "B-a O", [("wrong boundary", ("a", 0, 2), ("a", 0, 1))]),
        ("B-a I-a", "O B-b", [("wrong type and boundary", ("a", 0, 2), ("b", 1, 2))]),
        ("B-a O", "O B-a", [("missed", ("a", 0, 1), None), ("spurious", None, ("a", 1, 2))]),
        # one entity predicted as two: the larger share is its partner, of equal shares the one of its type
        (
            "B-a I-a I-a",
            "B-a B-b I-b",
            [("wrong type and boundary", ("a", 0, 3), ("b", 1, 3)), ("spurious", None, ("a", 0, 1))],
        ),
        ("B-a I-a", "B-b B-a", [("spurious", None, ("b", 0, 1)), ("wrong boundary", ("a", 0, 2), ("a", 1, 2))]),
        # two entities predicted as one
        ("B-a B-a I-a", "B-a I-a I-a", [("missed", ("a", 0, 1), None), ("wrong boundary", ("a", 1, 3), ("a", 0, 3))]),
    ],
)
def test_error_classes(gold, predicted, expected):
    assert sorted(evaluated([gold.split()], [predicted.split()]).pairings[0], key=str) == sorted(expected, key=str)


@few
@given(corpora)
def test_error_classes_pair_every_entity_once_and_agree_with_f1(pair):
    evaluation = evaluated(*pair)
    for gold, predicted, pairings in zip(*pair, evaluation.pairings, strict=True):
        assert sorted(p.gold for p in pairings if p.gold) == sorted(entity_spans(gold))
        assert sorted(p.predicted for p in pairings if p.predicted) == sorted(entity_spans(predicted))
        for error, g, p in pairings:
            assert (error == "missed") == (p is None)
            assert (error == "spurious") == (g is None)
            assert g is None or p is None or min(g[2], p[2]) > max(g[1], p[1])
    counts = evaluation.errors
    correct, found_predicted, found_gold = conlleval(*pair)
    assert [*counts] == [*ERROR_CLASSES]
    assert counts["correct"] == correct
    assert sum(counts.values()) == found_gold + counts["spurious"] == found_predicted + counts["missed"]


def closest_of_all_pairs(gold: list[Span], predicted: list[Span]) -> list[Pairing]:
    """The rule of ``scoring.pair`` as it reads: of every gold with every predicted entity, the closest are paired first."""
    every = [(g, p, min(g[2], p[2]) - max(g[1], p[1])) for g in gold for p in predicted]
    found = []
    for g, p, shared in sorted(every, key=lambda x: (-x[2], x[0][0] != x[1][0], x[0][1], x[1][1])):
        if shared > 0 and all(g != pairing.gold and p != pairing.predicted for pairing in found):
            alike = {(True, True): "correct", (False, True): "wrong type", (True, False): "wrong boundary"}
            found.append(Pairing(alike.get((g[0] == p[0], g[1:] == p[1:]), "wrong type and boundary"), g, p))
    found += [Pairing("missed", g, None) for g in gold if all(g != pairing.gold for pairing in found)]
    return found + [Pairing("spurious", None, p) for p in predicted if all(p != pairing.predicted for pairing in found)]


@few
@given(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=40))
def test_the_pairing_is_that_of_all_pairs_compared(tags):
    gold, predicted = (entity_spans([both[side] for both in tags]) for side in (0, 1))
    assert sorted(scoring.pair(gold, predicted), key=str) == sorted(closest_of_all_pairs(gold, predicted), key=str)


class Looked(tuple):
    """A span that counts how often it is looked into."""

    times = 0

    def __getitem__(self, key):
        Looked.times += 1
        return super().__getitem__(key)


def test_candidate_pairs_grow_with_the_sentence_not_with_its_square():
    gold, predicted = ([Looked(("a", start, start + 2)) for start in range(first, 9000 + first, 3)] for first in (0, 1))
    Looked.times = 0
    candidates = scoring.overlapping(gold, predicted)
    assert len(gold) == len(predicted) == len(candidates) == 3000
    assert Looked.times <= 10 * (len(gold) + len(predicted))
    assert [pairing.error for pairing in scoring.pair(gold, predicted)] == ["wrong boundary"] * 3000


def test_a_validation_reads_and_pairs_each_sentence_once(tmp_path, monkeypatch):
    from ner import dashboard, markdown

    calls = {"entity_spans": 0, "pair": 0}

    def counting(name, function):
        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        return call

    for name in calls:
        monkeypatch.setattr(scoring, name, counting(name, getattr(scoring, name)))
    gold, predicted = sampled(30, 0.3, seed=12)
    evaluation = Evaluation(gold, gold, predicted, [[0.5] * len(sentence) for sentence in gold])
    dashboard.validation_scalars(evaluation)
    markdown.sample(evaluation), markdown.worst(evaluation)
    report.write_html(tmp_path / "r.html", evaluation, title="t")
    assert evaluation.counts.shape == (30, 3) and calls == {"entity_spans": 60, "pair": 30}


def test_confusion_of_a_worked_example():
    gold, predicted = [["B-a", "I-a", "O", "B-b"], ["B-a", "O", "B-a"]], [["B-a", "O", "O", "B-a"], ["O", "B-c", "B-a"]]
    labels, matrix = evaluated(gold, predicted).confusion
    assert labels == ["a", "b", "c", "O"]
    assert matrix.tolist() == [[2, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]


@few
@given(corpora)
def test_confusion_adds_up(pair):
    evaluation = evaluated(*pair)
    (labels, matrix), counts = evaluation.confusion, evaluation.errors
    assert labels[-1] == "O" and labels[:-1] == sorted(labels[:-1])
    assert matrix.sum() == sum(counts.values())
    assert np.trace(matrix) == counts["correct"] + counts["wrong boundary"]
    assert (matrix[:-1, -1].sum(), matrix[-1].sum()) == (counts["missed"], counts["spurious"])
