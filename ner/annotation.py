"""Which annotations of a corpus are most likely to be wrong, by a model that was not trained on them (or that was).

An annotation is weighed against the model's reading at the same place. Each gets the probability of its entity as a whole: the sum over all
tag sequences that IOB2 allows and that hold exactly this entity. The probability of "no entity here" is that of O at all the words.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ner.scoring import pair
from ner.sentences import Sentence, Span, entity_spans

if TYPE_CHECKING:
    from ner.inference import Tagger

KINDS = ("missed", "spurious", "type", "border")
WEIGHT = 2  # the model's reading counts as much as so many other places of the name
NONE = ""  # as the type of a span: none of its words is of an entity


class Reading:
    """One sentence under a model of tag sequences: the probabilities of the entities that it may have."""

    def __init__(self, scores: np.ndarray, names: Sequence[str], steps: np.ndarray, end: np.ndarray):
        """scores: float [words, tags], of each word's tags; names: the tags by id; steps, end: as ``head.chain()`` gives them."""
        self.scores, self.names, self.steps, self.end = scores.astype(np.float64), list(names), steps, end
        self.total = self._sum(self.scores)

    def _sum(self, scores: np.ndarray) -> float:
        """The log-sum over all sequences (the forward algorithm)."""
        paths = self.steps[-1] + scores[0]
        for here in scores[1:]:
            paths = np.logaddexp.reduce(paths[:, None] + self.steps[:-1], axis=0) + here
        return float(np.logaddexp.reduce(paths + self.end))

    def probability(self, span: Span) -> float:
        """Of exactly this entity: of the sequences that have its tags at its words and no I- of it right after.
        Type NONE: of no entity at these words."""
        type_, first, end = span
        opening, inside = ("O", "O") if type_ == NONE else (f"B-{type_}", f"I-{type_}")
        if opening not in self.names:
            opening = inside  # of a model from elsewhere, without B-
        held = self.scores.copy()
        for word in range(first, end):
            held[word, [name != (opening if word == first else inside) for name in self.names]] = -np.inf
        if end < len(held) and type_ != NONE:
            held[end, [name == inside for name in self.names]] = -np.inf
        return min(1.0, float(np.exp(self._sum(held) - self.total)))


@dataclasses.dataclass(frozen=True)
class Doubt:
    """An annotation that may be wrong.

    Attributes:
        sentence: its number, from 0.
        kind: what is wrong if the model is right. ``missed``: an entity is not annotated; ``spurious``: what is annotated is none;
            ``type``: it is of another type; ``border``: it has other words.
        gold: the annotated entity, None for no entity.
        predicted: the model's reading, None for no entity.
        p_gold, p_predicted: the probabilities of the two under the model.
    """

    sentence: int
    kind: str
    gold: Span | None
    predicted: Span | None
    p_gold: float
    p_predicted: float

    @property
    def here(self) -> Span:
        """The annotated entity, or else the predicted one."""
        found = self.gold or self.predicted
        assert found is not None
        return found

    @property
    def cell(self) -> tuple[str, str, str]:
        """Its kind and the types of the two."""
        return self.kind, self.gold[0] if self.gold else NONE, self.predicted[0] if self.predicted else NONE

    @property
    def differing(self) -> int:
        """The number of words whose tags differ between the two, at least 1."""
        tags: list[dict[int, str]] = []
        for span in (self.gold, self.predicted):
            type_, first, end = span or (NONE, 0, 0)
            tags.append({word: f"{'B' if word == first else 'I'}-{type_}" for word in range(first, end)})
        return max(1, sum(tags[0].get(word) != tags[1].get(word) for word in tags[0].keys() | tags[1].keys()))


def doubts(reading: Reading, gold: list[str], predicted: list[str], number: int) -> list[Doubt]:
    """All disagreements between annotation and model in a sentence, and the annotated entities that the model shares and yet finds less
    likely than another reading.

    gold, predicted: the tags; number: what the sentence is called. Entities of a type that the model does not know are left out.
    """
    found = []
    known = {name[2:] for name in reading.names}
    spans, read_spans = entity_spans(gold), entity_spans(predicted)
    for _, annotated, read in pair(spans, read_spans):
        # An entity that lost its partner to another one is weighed against what it overlaps, not against no entity.
        annotated = annotated or _overlapping(read, spans)
        read = read or _overlapping(annotated, read_spans)
        if annotated and annotated[0] not in known:
            continue
        here = annotated or read
        assert here is not None
        p_gold = reading.probability(annotated or (NONE, *here[1:]))
        if annotated and annotated == read:
            if p_gold >= 0.5:
                continue  # no other reading can be likelier
            read = max(_others(reading, annotated), key=reading.probability)
            if reading.probability(read) <= p_gold:
                continue
        p_read = reading.probability(read or (NONE, *here[1:]))
        read = None if read and read[0] == NONE else read
        found.append(Doubt(number, _kind(annotated, read), annotated, read, p_gold, p_read))
    return found


def _overlapping(span: Span | None, others: Sequence[Span]) -> Span | None:
    """The first of the others that shares a word with the span."""
    return next((other for other in others if span and other[1] < span[2] and span[1] < other[2]), None)


def _others(reading: Reading, annotated: Span) -> list[Span]:
    """The other readings of an annotated entity: another type, a border moved by a word, or no entity."""
    type_, first, end = annotated
    types = sorted({name[2:] for name in reading.names if name != "O"} - {type_})
    moved = [(first - 1, end), (first + 1, end), (first, end - 1), (first, end + 1)]
    others = [(type_, a, b) for a, b in moved if 0 <= a < b <= len(reading.scores)]
    return [(other, first, end) for other in types] + others + [(NONE, first, end)]


def _kind(gold: Span | None, predicted: Span | None) -> str:
    if gold is None or predicted is None:
        return "missed" if gold is None else "spurious"
    return "type" if gold[0] != predicted[0] else "border"


# What else the corpus says ---------------------------------------------------------------------------------------------


class Mentions:
    """Where a corpus has the names that are in doubt, whatever the case of their letters, and how they are annotated there."""

    def __init__(self, sentences: Sequence[Sentence], names: set[tuple[str, ...]]):
        """One pass over the corpus. names: their words, in small letters."""
        by_first: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for name in names:
            by_first[name[0]].append(name)
        self.places: dict[tuple[str, ...], list[tuple[int, int, str]]] = defaultdict(list)  # sentence, first word, annotated as
        for number, sentence in enumerate(sentences):
            words = [word.lower() for word in sentence.words]
            spans: list[Span] | None = None
            for first, word in enumerate(words):
                for name in by_first.get(word, ()):
                    end = first + len(name)
                    if tuple(words[first:end]) == name:
                        spans = entity_spans(sentence.tags) if spans is None else spans
                        over = [span for span in spans if span[1] < end and first < span[2]]
                        exact = next((span[0] for span in over if span[1:] == (first, end)), None)
                        self.places[name].append((number, first, exact or (OTHER_WORDS if over else NONE)))

    def others(self, sentence: int, name: tuple[str, ...], first: int) -> tuple[Counter[str], list[tuple[int, int, str]]]:
        """The name's places but this one: how often it is of each type, of none or part of something else; and the places."""
        places = [place for place in self.places[name] if place[:2] != (sentence, first)]
        return Counter(label for _, _, label in places), places


OTHER_WORDS = "other words"  # annotated, but not with exactly the name's words


def name_of(sentence: Sentence, span: Span) -> tuple[str, ...]:
    """The words of an entity in small letters."""
    return tuple(word.lower() for word in sentence.words[span[1] : span[2]])


# A model, or several, and a corpus -------------------------------------------------------------------------------------


def check(tagger: Tagger, sentences: Sequence[Sentence], numbers: Sequence[int], say: Callable[[str], None]) -> list[Doubt]:
    """What a model doubts of these sentences of a corpus. numbers: what the corpus calls them."""
    found: list[Doubt] = []
    known = {tag[2:] for tag in tagger.tags}
    if unknown := sorted({tag[2:] for sentence in sentences for tag in sentence.tags} - known):
        say(f"warning: the model does not know {', '.join(unknown)}; such annotations are not judged")
    steps, end = tagger.head.chain()
    words = [sentence.words for sentence in sentences]
    for first, last, scores in tagger.scores(words, [sentence.document for sentence in sentences]):
        predicted, _ = tagger.head.decode(scores, words[first:last], iob2=tagger.trained_here)
        ends = np.cumsum([len(tags) for tags in predicted])[:-1]
        for place, tags, of_words in zip(range(first, last), predicted, np.split(scores, ends), strict=True):
            found += doubts(Reading(of_words, tagger.tags, steps, end), sentences[place].tags, tags, numbers[place])
    return found


def folds(sentences: Sequence[Sentence], count: int) -> list[list[int]]:
    """The numbers of the sentences in each of ``count`` parts of about the same size. A model must not have seen what it judges, so
    documents stay whole and, of sentences without a document, copies together."""
    units: dict[str, list[int]] = defaultdict(list)
    for number, sentence in enumerate(sentences):
        units[sentence.document or "\0".join(sentence.words)].append(number)
    parts: list[list[int]] = [[] for _ in range(count)]
    for unit in sorted(units, key=lambda unit: hashlib.blake2b(unit.encode("utf-8", "surrogatepass")).digest()):
        min(parts, key=len).extend(units[unit])
    return [sorted(part) for part in parts]


def scores(found: Sequence[Doubt], sentences: Sequence[Sentence], mentions: Mentions) -> list[float]:
    """How likely each annotation is wrong, as log-odds up to a constant; higher is worse. Three things count:

    - The probabilities of the two readings. A model takes the words of a sentence one by one, so it is surer of many words than of one, and
      errs in them together. So of each probability the root is taken, of as many words as have other tags.
    - The other places of the name, each as one place. The model's probabilities count as WEIGHT places.
    - How often annotation and model disagree in the same way. What they often disagree about is a weakness of the model (Northcutt et al.
      2021 correct for it by thresholds for each class); what they seldom disagree about is a slip of the annotator.
    """
    often = Counter(doubt.cell for doubt in found)

    def support(doubt: Doubt, span: Span | None, p: float) -> float:
        here = span or doubt.here
        counts, _ = mentions.others(doubt.sentence, name_of(sentences[doubt.sentence], here), here[1])
        places = counts[span[0]] if span else counts[NONE] + counts[OTHER_WORDS]
        return max(1e-6, WEIGHT * p ** (1 / doubt.differing) + places)

    odds = [support(doubt, doubt.predicted, doubt.p_predicted) / support(doubt, doubt.gold, doubt.p_gold) for doubt in found]
    return [float(np.log(one / often[doubt.cell])) for one, doubt in zip(odds, found, strict=True)]


def records(found: Sequence[Doubt], sentences: Sequence[Sentence]) -> list[dict]:
    """The doubts as ``check.py --json`` writes them, the likeliest errors first. ``evidence``, for the page: the probabilities, and what
    else the corpus says of the names."""
    names = {name_of(sentences[d.sentence], span) for d in found for span in (d.gold, d.predicted) if span}
    mentions = Mentions(sentences, names)
    rounded = [round(score, 6) for score in scores(found, sentences, mentions)]  # what is alike stays in the corpus's order
    ranked = sorted(zip(rounded, found, strict=True), key=lambda both: (-both[0], both[1].sentence, both[1].here[1]))
    copies: dict[str, list[int]] = defaultdict(list)
    for number, sentence in enumerate(sentences):
        copies["\0".join(sentence.words)].append(number)
    lines = []
    for score, doubt in ranked:
        sentence = sentences[doubt.sentence]
        _, first, end = doubt.here
        both = [span for span in (doubt.gold, doubt.predicted) if span]
        region = slice(min(span[1] for span in both), max(span[2] for span in both))
        same = [number for number in copies["\0".join(sentence.words)] if number != doubt.sentence]
        elsewhere = {}
        for span in both:
            if (name := name_of(sentence, span)) not in elsewhere:
                elsewhere[name] = _elsewhere(mentions, sentences, doubt, name, span[1])
        lines.append(
            {
                "sentence": doubt.sentence,
                "start_word": first,
                "end_word": end,
                "kind": doubt.kind,
                "gold": _entity(sentence, doubt.gold),
                "predicted": _entity(sentence, doubt.predicted),
                "score": score,
                "text": " ".join(sentence.words[first:end]),
                "evidence": {
                    "p_gold": round(doubt.p_gold, 6),
                    "p_predicted": round(doubt.p_predicted, 6),
                    "elsewhere": list(elsewhere.values()),
                    "copies": len(same),
                    "copies_that_differ": sum(sentences[number].tags[region] != sentence.tags[region] for number in same),
                },
            }
        )
    return lines


def _entity(sentence: Sentence, span: Span | None) -> dict | None:
    if span is None:
        return None
    return {"type": span[0], "start_word": span[1], "end_word": span[2], "text": " ".join(sentence.words[span[1] : span[2]])}


def _elsewhere(mentions: Mentions, sentences: Sequence[Sentence], doubt: Doubt, name: tuple[str, ...], first: int) -> dict:
    """A name's other places: how often it is annotated as what, and two of them, such that differ from the annotation in doubt first."""
    counts, places = mentions.others(doubt.sentence, name, first)
    annotated = doubt.gold[0] if doubt.gold else NONE
    examples = []
    for number, at, label in sorted(places, key=lambda place: place[2] == annotated)[:2]:
        text = " ".join(sentences[number].words[max(0, at - 4) : at + len(name) + 4])
        examples.append({"sentence": number, "type": label or "no entity", "text": text})
    return {"name": " ".join(name), "counts": {label or "no entity": count for label, count in counts.most_common()}, "examples": examples}
