"""Which annotations of a corpus are most likely to be wrong, by a model that was not trained on them (or that was).

An annotation is weighed against the model's reading at the same place. Each gets the probability of its entity as a whole: the sum over all
tag sequences that IOB2 allows and that hold exactly this entity. The probability of "no entity here" is that of O at all the words.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from ner.scoring import pair
from ner.sentences import Sentence, Span, entity_spans

NONE = "O"  # as the type of a span: none of its words is of an entity


class Readings:
    """The probabilities of entities under a model of tag sequences, by the forward-backward algorithm over all sentences at once."""

    def __init__(self, scores: np.ndarray, lengths: Sequence[int], names: Sequence[str], steps: np.ndarray, end: np.ndarray | float = 0.0):
        """Sum over the sequences.

        Args:
            scores: float [words of all sentences, tags], the score or log-probability of each word's tags.
            lengths: the number of words of each sentence.
            names: the tags by id.
            steps: float [tags + 1, tags], added for neighbouring tags, last row for the first tag; -inf where a tag may not follow.
            end: [tags], added for the last tag.
        """
        self.scores, self.names, self.steps = scores.astype(np.float64), {name: i for i, name in enumerate(names)}, steps
        self.end = np.broadcast_to(end, len(names))
        lengths = np.asarray(lengths)
        self.starts = np.cumsum(lengths) - lengths
        self.lengths = lengths
        self.before = np.zeros_like(self.scores)  # log-sum over the beginnings that end in a word's tag, this one's score included
        self.after = np.zeros_like(self.scores)  # over the ends that follow a word's tag
        for position in range(lengths.max(initial=0)):
            here = self.starts[lengths > position] + position
            alpha = steps[-1] if position == 0 else np.logaddexp.reduce(self.before[here - 1, :, None] + steps[:-1], axis=1)
            self.before[here] = alpha + self.scores[here]
            last = (self.starts + lengths - 1 - position)[lengths > position]  # the same from the other side
            following = (self.scores[last + 1] + self.after[last + 1])[:, None] if position else None
            self.after[last] = self.end if following is None else np.logaddexp.reduce(following + steps[:-1], axis=2)
        self.total = np.logaddexp.reduce(self.before[self.starts] + self.after[self.starts], axis=1)  # [sentences]

    def knows(self, type_: str) -> bool:
        """Whether the model can give this type."""
        return type_ == NONE or f"B-{type_}" in self.names or f"I-{type_}" in self.names

    def log_probability(self, sentence: int, span: Span) -> float:
        """Of exactly this entity: its tags at its words, and no I- of it right after them. Type ``O``: of no entity at these words."""
        type_, first, end = span
        inside = self.names.get(NONE if type_ == NONE else f"I-{type_}", -1)
        opening = self.names.get(NONE if type_ == NONE else f"B-{type_}", inside)
        if opening < 0 or (inside < 0 and end > first + 1):
            return -np.inf
        first, end = (int(self.starts[sentence]) + word for word in (first, end))
        logp = self.before[first, opening]
        last = opening
        for word in range(first + 1, end):
            logp += self.steps[last, inside] + self.scores[word, inside]
            last = inside
        if end == self.starts[sentence] + self.lengths[sentence]:
            logp += self.end[last]
        else:
            following = self.steps[last] + self.scores[end] + self.after[end]
            if type_ != NONE and inside >= 0:
                following[inside] = -np.inf
            logp += np.logaddexp.reduce(following)
        return min(0.0, float(logp - self.total[sentence]))


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
        score: the rank, higher is more likely wrong, in [0, 1].
    """

    sentence: int
    kind: str
    gold: Span | None
    predicted: Span | None
    p_gold: float
    p_predicted: float
    score: float


def doubts(readings: Readings, gold: Sequence[list[str]], predicted: Sequence[list[str]], numbers: Sequence[int]) -> list[Doubt]:
    """All disagreements between annotation and model, and the annotated entities that the model shares and yet finds unlikely.

    gold, predicted: the tags of the sentences of ``readings``; numbers: what the sentences are called. Entities of a type that the model
    does not know are left out.
    """
    found = []
    for number, tags, others in zip(range(len(gold)), gold, predicted, strict=True):
        for _, annotated, read in pair(entity_spans(tags), entity_spans(others)):
            if annotated and not readings.knows(annotated[0]):
                continue
            if annotated == read:
                other = _likeliest_other(readings, number, annotated, len(tags))
                if other is None:
                    continue
                (read,) = other
            here = annotated or read
            assert here is not None
            p_gold, p_read = (np.exp(readings.log_probability(number, span or (NONE, *here[1:]))) for span in (annotated, read))
            found.append(Doubt(numbers[number], _kind(annotated, read), annotated, read, float(p_gold), float(p_read), 0.0))
    return found


def _likeliest_other(readings: Readings, number: int, annotated: Span, length: int) -> tuple[Span | None] | None:
    """The likeliest other reading of an annotated entity, in a tuple: another type, a border moved by a word, or no entity. None if the
    annotated one is as likely as that."""
    type_, first, end = annotated
    types = {tag[2:] for tag in readings.names if tag != NONE}
    moved = [(first - 1, end), (first + 1, end), (first, end - 1), (first, end + 1)]
    others = [(other, first, end) for other in sorted(types - {type_})]
    others += [(type_, a, b) for a, b in moved if 0 <= a < b <= length]
    others.append((NONE, first, end))
    likeliest = max(others, key=lambda span: readings.log_probability(number, span))
    if readings.log_probability(number, likeliest) <= readings.log_probability(number, annotated):
        return None
    return (likeliest if likeliest[0] != NONE else None,)


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
        """The name's places but this one: how often it is of each type, ``O`` or part of something else; and the places."""
        places = [place for place in self.places[name] if place[:2] != (sentence, first)]
        return Counter(label for _, _, label in places), places


OTHER_WORDS = "other words"  # annotated, but not with exactly the name's words


def name_of(sentence: Sentence, span: Span) -> tuple[str, ...]:
    """The words of an entity in small letters."""
    return tuple(word.lower() for word in sentence.words[span[1] : span[2]])
