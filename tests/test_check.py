"""check.py: what it says of a file."""

from __future__ import annotations

import check
from ner.sentences import Sentence

SENTENCES = [
    Sentence(["Kofi", "Annan", "left", "Mali"], ["B-per", "I-per", "O", "B-geo"]),
    Sentence(["Mali"], ["B-geo"]),
    Sentence(["Mali"], ["O"]),
    Sentence(["Togo"], ["B-geo"]),
]


def test_entity_types_are_counted_most_frequent_first():
    first, *table = check.entity_lines(SENTENCES)
    assert first == "entities: 4"
    assert [line.split() for line in table] == [["type", "entities", "distinct"], ["geo", "3", "2"], ["per", "1", "1"]]
    assert check.entity_lines([Sentence(["a"], ["O"])]) == ["entities: 0"]


def test_copies_are_counted():
    assert check.copies_line(SENTENCES) == "copies of a sentence: 1; sentences that occur more than once with different tags: 1"
