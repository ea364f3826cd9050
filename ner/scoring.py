"""Entity scores over whole words and whole sentences: precision, recall, F1, their uncertainty, the kinds of errors.

Everywhere ``gold`` and ``predicted`` are lists of sentences, each a list of IOB2 tags (``O``, ``B-geo``, ``I-geo``),
one per word. F1 without another word is seqeval's default mode, which counts as the CoNLL shared tasks' ``conlleval``
does: an ``I-`` that continues nothing starts an entity. Strict mode (IOB2) drops such entities.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ner.errors import InputError
from ner.sentences import Span
from ner.sentences import entity_spans as spans

if TYPE_CHECKING:
    from rich.table import Table

Sentences = Sequence[list[str]]

MODE = "seqeval default mode"
STRICT_MODE = "strict IOB2"
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


def score(gold: Sentences, predicted: Sentences) -> Scores:
    """Score ``predicted`` against ``gold`` with seqeval.

    Raises:
        ValueError: the two differ in their number of sentences or of words in a sentence.
        InputError: a tag is not IOB2.
    """
    from seqeval.metrics import f1_score
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    _check(gold, predicted)
    # One empty sentence more changes no count, and seqeval refuses to score no sentences at all.
    pair = [[], *gold], [[], *predicted]
    by_type = precision_recall_fscore_support(*pair, average=None, zero_division=0)
    precision, recall, f1, _ = precision_recall_fscore_support(*pair, average="micro", zero_division=0)
    types = sorted({tag[2:] for sentences in pair for sentence in sentences for tag in sentence if tag != "O"})
    per_type = {
        type_: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for type_, p, r, f, n in zip(types, *by_type, strict=True)
    }
    return Scores(
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        f1_strict=float(f1_score(*pair, mode="strict", scheme=IOB2, zero_division=0)),
        macro_f1=float(np.mean(by_type[2])) if types else 0.0,
        per_type=per_type,
        sentences=len(gold),
        words=sum(map(len, gold)),
        entities=int(sum(by_type[3])),
    )


def table(scores: Scores, title: str = "Entity scores") -> Table:
    """``scores`` for the terminal: one row per type, then the averages, each with its mode."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title))
    grid.add_column("type")
    for name in ("precision", "recall", f"F1 ({MODE})", "entities"):
        grid.add_column(name, justify="right")
    for type_, row in scores.per_type.items():
        numbers = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
        grid.add_row(Text(type_), *numbers, f"{row['support']:,}")  # Text: a type may hold rich's [markup]
    grid.add_section()
    micro = (f"{value:.4f}" for value in (scores.precision, scores.recall, scores.f1))
    grid.add_row("all (micro)", *micro, f"{scores.entities:,}", style="bold")
    grid.add_row("all (macro)", "", "", f"{scores.macro_f1:.4f}", "")
    grid.add_row(f"F1 {STRICT_MODE}", "", "", f"{scores.f1_strict:.4f}", "")
    return grid


# Uncertainty ----------------------------------------------------------------------------------------------------------


def sentence_counts(gold: Sentences, predicted: Sentences) -> np.ndarray:
    """int64 [sentences, 3]: numbers of correct, predicted and gold entities, default mode."""
    _check(gold, predicted)
    found = [(set(spans(g)), set(spans(p))) for g, p in zip(gold, predicted, strict=True)]
    return np.array([(len(g & p), len(p), len(g)) for g, p in found], np.int64).reshape(-1, 3)


def bootstrap_f1(counts: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of micro F1 (default mode), drawing whole sentences with replacement.

    ``counts`` is of ``sentence_counts``. It answers how much F1 depends on which sentences were in the test set, not on the training
    run's seed.
    """
    if len(counts) == 0:
        return 0.0, 0.0
    random = np.random.default_rng(seed)
    totals = [counts[random.integers(len(counts), size=len(counts))].sum(0) for _ in range(resamples)]
    low, high = np.percentile(_f1(np.array(totals)), [2.5, 97.5])
    return float(low), float(high)


def paired_test(a: np.ndarray, b: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> float:
    """The two-sided p-value of "two systems have the same micro F1" (default mode) by approximate randomisation.

    ``a`` and ``b`` are the ``sentence_counts`` of both on the same sentences.

    Noreen 1989, "Computer-intensive methods for testing hypotheses"; for F1: Yeh 2000, "More accurate tests".
    If the two systems are alike, which of them produced which output of a sentence is a coin's toss: p is the share of
    ``resamples`` such tosses with a difference in F1 at least as large as the one seen, (n + 1) / (resamples + 1).
    """
    total_a, total_b = a.sum(0), b.sum(0)
    change = (b - a)[(a != b).any(1)]  # a swap of equal counts changes nothing
    random = np.random.default_rng(seed)
    moved = np.array([change[random.random(len(change)) < 0.5].sum(0) for _ in range(resamples)]).reshape(-1, 3)
    seen = abs(_f1(total_a) - _f1(total_b))
    as_large = abs(_f1(total_a + moved) - _f1(total_b - moved)) >= seen - 1e-12
    return float((as_large.sum() + 1) / (resamples + 1))


def word_calibration(gold: Sentences, predicted: Sentences, confidence: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """For ``expected_calibration_error``: every word's score, and whether its tag is the gold one. Most words are easy ones."""
    right = [g == p for pair in zip(gold, predicted, strict=True) for g, p in zip(*pair, strict=True)]
    return np.array([score for sentence in confidence for score in sentence], np.float64), np.array(right, bool)


def entity_calibration(gold: Sentences, predicted: Sentences, confidence: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """The same for predicted entities: the score is the mean over the words, as predict.py reports it; right is a gold entity."""
    scores, right = [], []
    for g, p, c in zip(gold, predicted, confidence, strict=True):
        true = set(spans(g))
        for span in spans(p):
            scores.append(entity_score(c, span))
            right.append(span in true)
    return np.array(scores, np.float64), np.array(right, bool)


def entity_score(confidence: Sequence[float], span: Span) -> float:
    """How sure the model is of an entity: the mean probability of its words' tags."""
    return float(np.mean(confidence[span[1] : span[2]]))


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


# Errors ---------------------------------------------------------------------------------------------------------------


class Pairing(NamedTuple):
    """One gold entity, one predicted entity or the two as a pair, and its class, one of ``ERROR_CLASSES``."""

    error: str
    gold: Span | None
    predicted: Span | None


def error_classes(gold_tags: Sequence[str], predicted_tags: Sequence[str]) -> list[Pairing]:
    """Pair the gold and predicted entities of one sentence and class each pair, left to right.

    Every entity is in exactly one pairing. An entity predicted with exactly a gold span is paired with it; of the
    others, the two that share most words are paired first (ties: same type, then leftmost). What shares no word with a
    free partner stays alone: gold is missed, predicted is spurious. ``correct`` is what default mode counts as correct.
    """
    gold, predicted = spans(gold_tags), spans(predicted_tags)
    # Entities of one side never overlap, so an exact match has no rival and needs no rule of its own.
    overlapping = sorted(
        (-shared, g[0] != p[0], g[1], p[1], g, p) for g in gold for p in predicted if (shared := min(g[2], p[2]) - max(g[1], p[1])) > 0
    )
    pairings: list[Pairing] = []
    free_gold, free_predicted = set(gold), set(predicted)
    for *_, g, p in overlapping:
        if g in free_gold and p in free_predicted:
            free_gold.remove(g)
            free_predicted.remove(p)
            pairings.append(Pairing(_pair_class(g, p), g, p))
    pairings += [Pairing("missed", g, None) for g in free_gold]
    pairings += [Pairing("spurious", None, p) for p in free_predicted]
    return sorted(pairings, key=lambda pairing: [span[1:] for span in pairing[1:] if span])


def error_counts(gold: Sentences, predicted: Sentences) -> dict[str, int]:
    """How many pairings of each of ``ERROR_CLASSES`` there are (see ``error_classes``)."""
    found = Counter(pairing.error for pairing in _pairings(gold, predicted))
    return {error: found[error] for error in ERROR_CLASSES}


def confusion(gold: Sentences, predicted: Sentences) -> tuple[list[str], np.ndarray]:
    """Which type was taken for which.

    Returns:
        The types in alphabetical order followed by ``"O"`` (no entity), and [labels, labels] counts of pairings (see
        ``error_classes``), row gold, column predicted: column ``O`` holds the missed, row ``O`` the spurious
        entities. A wrong boundary with the right type is on the diagonal.
    """
    pairs = Counter((g and g[0], p and p[0]) for _, g, p in _pairings(gold, predicted))
    types: list[str | None] = [*sorted({type_ for pair in pairs for type_ in pair if type_ is not None}), None]
    matrix = np.array([[pairs[row, column] for column in types] for row in types], np.int64)
    return [type_ or "O" for type_ in types], matrix


def _pairings(gold: Sentences, predicted: Sentences) -> list[Pairing]:
    _check(gold, predicted)
    return [pairing for g, p in zip(gold, predicted, strict=True) for pairing in error_classes(g, p)]


def _pair_class(gold: Span, predicted: Span) -> str:
    same_type, same_span = gold[0] == predicted[0], gold[1:] == predicted[1:]
    if same_span:
        return "correct" if same_type else "wrong type"
    return "wrong boundary" if same_type else "wrong type and boundary"


# Counting -------------------------------------------------------------------------------------------------------------


def _check(gold: Sentences, predicted: Sentences) -> None:
    """Refuse tags that cannot be scored."""
    if list(map(len, gold)) != list(map(len, predicted)):
        raise ValueError("gold and predicted differ in their number of sentences or of words in a sentence")
    for tag in sorted({tag for sentences in (gold, predicted) for sentence in sentences for tag in sentence}):
        if not re.fullmatch(r"O|[BI]-.+", tag, re.DOTALL):
            raise InputError(f"tag {tag!r} is not an IOB2 tag", hint="use O, B-TYPE and I-TYPE tags only")


def _f1(counts: np.ndarray) -> np.ndarray:
    """[...] micro F1 from [..., 3] counts: 2 correct / (predicted + gold), 0 where there is no entity."""
    return 2 * counts[..., 0] / np.maximum(counts[..., 1] + counts[..., 2], 1)
