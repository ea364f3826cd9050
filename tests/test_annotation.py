"""Annotations in doubt: the probability of an entity against all tag sequences, and which places are in doubt and why."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ner.annotation import Readings
from ner.decoding import legal_steps
from ner.sentences import entity_spans

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
    lengths = [1, 4, 3]
    scores = random.normal(0, 2, (sum(lengths), len(NAMES)))
    steps = np.where(legal_steps(NAMES), random.normal(size=(6, 5)) * learnt, -np.inf)
    end = random.normal(size=5) * learnt
    readings = Readings(scores, lengths, NAMES, steps, end)
    for number, length in enumerate(lengths):
        first = sum(lengths[:number])
        sequences = all_sequences(scores[first : first + length], steps, end)
        for a, b in itertools.combinations(range(length + 1), 2):
            for type_ in ("a", "b"):
                expected = sum(p for path, p in sequences.items() if (type_, a, b) in entity_spans(path))
                assert np.exp(readings.log_probability(number, (type_, a, b))) == pytest.approx(expected, abs=1e-9)
            expected = sum(p for path, p in sequences.items() if set(path[a:b]) == {"O"})
            assert np.exp(readings.log_probability(number, ("O", a, b))) == pytest.approx(expected, abs=1e-9)
    assert readings.log_probability(0, ("c", 0, 1)) == -np.inf and not readings.knows("c")
