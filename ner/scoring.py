"""Entity scores over whole words and whole sentences: precision, recall, F1, their uncertainty, the kinds of errors.

Everywhere ``gold`` and ``predicted`` are lists of sentences, each a list of IOB2 tags (``O``, ``B-geo``, ``I-geo``),
one per word. F1 without another word is that of seqeval's default mode, which counts as the CoNLL shared tasks' ``conlleval``
does: an ``I-`` tag without a preceding tag of its type starts an entity. Strict mode (IOB2) drops such entities.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np

from ner.errors import InputError
from ner.sentences import Span, entity_spans

PerWord = Sequence[list[str]]  # one text per word, sentence by sentence

MODE = "seqeval default mode"
STRICT_MODE = "strict IOB2"
BLOCK = 1000  # sentences that seqeval is given at a time
ERROR_CLASSES = ("correct", "missed", "spurious", "wrong type", "wrong boundary", "wrong type and boundary")


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions; fractions in [0, 1], 0.0 where there is nothing to count.

    Attributes:
        precision, recall, f1: micro-averaged over entities, seqeval's default (conlleval) mode.
        f1_strict: micro F1 in seqeval's ``mode="strict"``, scheme IOB2.
        macro_f1: unweighted mean F1 over the types found in gold or predictions, default mode.
        per_type: each of these types' ``precision``, ``recall``, ``f1``, ``support`` (gold entities), default mode.
        sentences, words, entities: how many were scored; entities are gold ones.
    """

    precision: float
    recall: float
    f1: float
    f1_strict: float
    macro_f1: float
    per_type: dict[str, dict[str, float]]
    sentences: int
    words: int
    entities: int

    def as_dict(self) -> dict:
        """The attributes as plain Python numbers and dictionaries, ready for JSON."""
        return asdict(self)


class Evaluation:
    """One set of predictions beside the annotation. Entities are read and paired once, when they are first asked for.

    Attributes:
        words, gold, predicted: sentences, each a list of strings, one per word.
        confidence: the probability of each word's predicted tag, in [0, 1]; None if it is not known.
    """

    def __init__(self, words: PerWord, gold: PerWord, predicted: PerWord, confidence: Sequence[Sequence[float]] | None = None) -> None:
        """Keep the sentences.

        Raises:
            ValueError: the arguments differ in their number of sentences or of words in a sentence.
            InputError: a tag is not IOB2.
        """
        for name, other in (("words", words), ("predicted", predicted), ("confidence", confidence)):
            if other is not None and list(map(len, other)) != list(map(len, gold)):
                raise ValueError(f"gold and {name} differ in their number of sentences or of words in a sentence")
        for tag in sorted({*chain.from_iterable(gold), *chain.from_iterable(predicted)}):
            if not re.fullmatch(r"O|[BI]-.+", tag, re.DOTALL):
                raise InputError(f"tag {tag!r} is not an IOB2 tag", hint="use O, B-TYPE and I-TYPE tags only")
        self.words, self.gold, self.predicted, self.confidence = words, gold, predicted, confidence

    @cached_property
    def spans(self) -> list[tuple[list[Span], list[Span]]]:
        """The gold and the predicted entities of each sentence."""
        return [(entity_spans(g), entity_spans(p)) for g, p in zip(self.gold, self.predicted, strict=True)]

    @cached_property
    def pairings(self) -> list[list[Pairing]]:
        """The pairings of each sentence (see ``pair``)."""
        return [pair(*sentence) for sentence in self.spans]

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 [sentences, 3]: numbers of correct, predicted and gold entities, default mode."""
        found = [(len(set(g).intersection(p)), len(p), len(g)) for g, p in self.spans]
        return np.array(found, np.int64).reshape(-1, 3)

    @cached_property
    def scores(self) -> Scores:
        """Default mode counted from ``spans``, which are seqeval's; strict mode by seqeval itself."""
        correct, predicted, gold = Counter[str](), Counter[str](), Counter[str]()
        for g, p in self.spans:
            correct.update(type_ for type_, _, _ in set(g).intersection(p))
            predicted.update(type_ for type_, _, _ in p)
            gold.update(type_ for type_, _, _ in g)
        types = sorted({*predicted, *gold})
        rows = [_precision_recall_f1(correct[type_], predicted[type_], gold[type_]) for type_ in types]
        precision, recall, f1 = _precision_recall_f1(correct.total(), predicted.total(), gold.total())
        strict = _precision_recall_f1(*strict_counts(self.gold, self.predicted))[2]
        return Scores(
            precision=precision,
            recall=recall,
            f1=f1,
            f1_strict=strict,
            macro_f1=float(np.mean([row[2] for row in rows])) if rows else 0.0,
            per_type={
                type_: {"precision": row[0], "recall": row[1], "f1": row[2], "support": gold[type_]}
                for type_, row in zip(types, rows, strict=True)
            },
            sentences=len(self.gold),
            words=sum(map(len, self.gold)),
            entities=gold.total(),
        )

    @cached_property
    def errors(self) -> dict[str, int]:
        """How many pairings there are of each of ``ERROR_CLASSES``."""
        found = Counter(pairing.error for pairing in chain.from_iterable(self.pairings))
        return {error: found[error] for error in ERROR_CLASSES}

    @cached_property
    def confusion(self) -> tuple[list[str], np.ndarray]:
        """Which type was taken for which.

        The types in alphabetical order followed by ``"O"`` (no entity), and int64 [labels, labels] counts of pairings, row gold,
        column predicted: column ``O`` holds the missed, row ``O`` the spurious entities. A wrong boundary with the right type is
        on the diagonal.
        """
        pairs = Counter((g and g[0], p and p[0]) for _, g, p in chain.from_iterable(self.pairings))
        types: list[str | None] = [*sorted({type_ for both in pairs for type_ in both if type_ is not None}), None]
        matrix = np.array([[pairs[row, column] for column in types] for row in types], np.int64)
        return [type_ or "O" for type_ in types], matrix

    def word_calibration_error(self) -> float:
        """The expected calibration error over words: is a word's tag right as often as its score says? Most words are easy ones."""
        assert self.confidence is not None
        right = [g == p for g, p in zip(chain.from_iterable(self.gold), chain.from_iterable(self.predicted), strict=True)]
        return expected_calibration_error(np.array([*chain.from_iterable(self.confidence)], np.float64), np.array(right, bool))

    def entity_calibration_error(self) -> float:
        """The same over predicted entities. An entity's score is the one that predict.py reports; right means it is a gold entity."""
        return expected_calibration_error(*self._scored())

    def cut_for(self, precision: float) -> tuple[float, float, float] | None:
        """The lowest score such that the predicted entities with this score or a higher one reach ``precision``, and these entities'
        precision and recall. None if no score does.
        """
        scores, right = self._scored()
        order = np.argsort(-scores, kind="stable")
        scores, correct = scores[order], np.cumsum(right[order])
        last = np.append(scores[1:] < scores[:-1], True)[: len(scores)]  # entities of one score stay or go together
        reached = np.flatnonzero(last & (correct >= precision * np.arange(1, len(scores) + 1)))
        if not len(reached):
            return None
        end = reached[-1]
        return float(scores[end]), float(correct[end] / (end + 1)), float(correct[end] / max(self.counts[:, 2].sum(), 1))

    def _scored(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each predicted entity the score, float64 [n], and whether it is a gold entity, bool [n]."""
        assert self.confidence is not None
        scores, right = [], []
        for (g, p), confidence in zip(self.spans, self.confidence, strict=True):
            true = set(g)
            scores += [entity_score(confidence, span) for span in p]
            right += [span in true for span in p]
        return np.array(scores, np.float64), np.array(right, bool)


def strict_counts(gold: PerWord, predicted: PerWord) -> tuple[int, int, int]:
    """Numbers of correct, predicted and gold entities by seqeval's strict mode, which makes an object of each word: block by block."""
    from seqeval.scheme import IOB2, Entities

    counts = np.zeros(3, np.int64)
    for first in range(0, len(gold), BLOCK):
        g, p = (set(chain.from_iterable(Entities(tags[first : first + BLOCK], IOB2).entities)) for tags in (gold, predicted))
        counts += len(g & p), len(p), len(g)
    correct, found, there = counts.tolist()
    return correct, found, there


def score(gold: PerWord, predicted: PerWord) -> Scores:
    """The scores alone; raises as ``Evaluation`` does."""
    return Evaluation(gold, gold, predicted).scores  # the words make no difference


# Errors ---------------------------------------------------------------------------------------------------------------


class Pairing(NamedTuple):
    """One gold entity, one predicted entity or the two as a pair, and its class, one of ``ERROR_CLASSES``."""

    error: str
    gold: Span | None
    predicted: Span | None


def pair(gold: Sequence[Span], predicted: Sequence[Span]) -> list[Pairing]:
    """Pair the gold and predicted entities of one sentence and class each pair, left to right.

    Every entity is in exactly one pairing. An entity predicted with exactly a gold span is paired with it; of the
    others, the two that share most words are paired first (ties: same type, then leftmost). What shares no word with a
    free partner stays alone: gold is missed, predicted is spurious. ``correct`` is what default mode counts as correct.
    Both lists are in the order of the sentence, as ``spans`` gives them.
    """

    def closest_first(both: tuple[Span, Span]) -> tuple:
        g, p = both
        return max(g[1], p[1]) - min(g[2], p[2]), g[0] != p[0], g[1], p[1]  # minus the words they share, ...

    pairings: list[Pairing] = []
    free_gold, free_predicted = set(gold), set(predicted)
    # Entities of one side never overlap, so an exact match has no rival and needs no rule of its own.
    for g, p in sorted(overlapping(gold, predicted), key=closest_first):
        if g in free_gold and p in free_predicted:
            free_gold.remove(g)
            free_predicted.remove(p)
            pairings.append(Pairing(_pair_class(g, p), g, p))
    pairings += [Pairing("missed", g, None) for g in free_gold]
    pairings += [Pairing("spurious", None, p) for p in free_predicted]
    return sorted(pairings, key=lambda pairing: [span[1:] for span in pairing[1:] if span])


def overlapping(gold: Sequence[Span], predicted: Sequence[Span]) -> list[tuple[Span, Span]]:
    """All pairs of a gold and a predicted entity that share a word: one pass over both lists, which are in order."""
    found = []
    i = j = 0
    while i < len(gold) and j < len(predicted):
        g, p = gold[i], predicted[j]
        if max(g[1], p[1]) < min(g[2], p[2]):
            found.append((g, p))
        # The one that ends first shares nothing with what follows in the other list.
        if g[2] <= p[2]:
            i += 1
        else:
            j += 1
    return found


def _pair_class(gold: Span, predicted: Span) -> str:
    same_type, same_span = gold[0] == predicted[0], gold[1:] == predicted[1:]
    if same_span:
        return "correct" if same_type else "wrong type"
    return "wrong boundary" if same_type else "wrong type and boundary"


def _f1(counts: np.ndarray) -> np.ndarray:
    """[...] micro F1 from [..., 3] counts: 2 correct / (predicted + gold), 0 where there is no entity."""
    return 2 * counts[..., 0] / np.maximum(counts[..., 1] + counts[..., 2], 1)


def _precision_recall_f1(correct: int, predicted: int, gold: int) -> tuple[float, float, float]:
    """From numbers of entities, in seqeval's order of operations, so the floats are equal to its floats."""
    precision, recall = correct / max(predicted, 1), correct / max(gold, 1)
    return precision, recall, 2 * precision * recall / (precision + recall) if correct else 0.0


# Uncertainty ----------------------------------------------------------------------------------------------------------


def bootstrap_f1(counts: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of micro F1 (default mode), drawing whole sentences with replacement.

    ``counts`` is of ``Evaluation.counts``. The interval says how much F1 depends on which sentences were in the test set. It says
    nothing about the training run's seed.
    """
    from scipy.stats import bootstrap

    if len(counts) < 2:  # nothing to draw from, which scipy refuses
        f1 = float(_f1(counts.sum(0)))
        return f1, f1
    low, high = bootstrap(
        tuple(counts.T),
        lambda *columns, axis: _f1(np.stack([column.sum(axis) for column in columns], -1)),
        paired=True,  # one draw of sentences for all three columns
        n_resamples=resamples,
        batch=max(1, 2**19 // len(counts)),  # of numbers drawn at a time: tens of megabytes, whatever the corpus
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(low), float(high)


def paired_test(a: np.ndarray, b: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value of "two systems have the same micro F1" (default mode) by approximate randomisation.

    ``a`` and ``b`` are the ``Evaluation.counts`` of both on the same sentences.

    Noreen 1989, "Computer-intensive methods for testing hypotheses"; for F1: Yeh 2000, "More accurate tests".
    If the two systems are alike, which of them produced which output of a sentence is a coin's toss: p is the share of
    ``resamples`` such tosses with a difference in F1 at least as large as the one seen, (n + 1) / (resamples + 1).
    """
    # scipy.stats.permutation_test takes four times as long (3.0 s against 0.75 s for 5,000 sentences) and refuses fewer than two sentences.
    total_a, total_b = a.sum(0), b.sum(0)
    change = (b - a)[(a != b).any(1)]  # a swap of equal counts changes nothing
    random = np.random.default_rng(seed)
    moved = np.array([change[random.random(len(change)) < 0.5].sum(0) for _ in range(resamples)]).reshape(-1, 3)
    seen = abs(_f1(total_a) - _f1(total_b))
    as_large = abs(_f1(total_a + moved) - _f1(total_b - moved)) >= seen - 1e-12
    return float((as_large.sum() + 1) / (resamples + 1))


def entity_score(confidence: Sequence[float], span: Span) -> float:
    """How sure the model is of an entity: the mean probability of its words' tags."""
    return float(np.mean(confidence[span[1] : span[2]]))


def confident(tags: Sequence[str], confidence: Sequence[float], least: float) -> list[str]:
    """The tags of a sentence, ``O`` in place of those of entities with a lower score than ``least``."""
    kept = list(tags)
    for span in entity_spans(tags):
        if entity_score(confidence, span) < least:
            kept[span[1] : span[2]] = ["O"] * (span[2] - span[1])
    return kept


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy over bins (Guo et al. 2017, eq. 3).

    Args:
        confidence: [n], the probability of what was predicted, in [0, 1].
        correct: [n], whether it was right.
        bins: number of equally wide bins, each open below and closed above.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if confidence.shape != correct.shape or confidence.ndim != 1:
        raise ValueError(f"confidence {confidence.shape} and correct {correct.shape} must be vectors of one length")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence must lie in [0, 1]")
    members = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    gaps = np.bincount(members, weights=confidence - correct, minlength=bins)  # bin size * (confidence - accuracy)
    return float(np.abs(gaps).sum() / max(len(confidence), 1))
