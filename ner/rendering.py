"""How predict.py writes a tagged text: a table for reading, JSON lines and CoNLL columns for programs."""

from __future__ import annotations

import dataclasses
import json
import sys

from rich.table import Column, Table
from rich.text import Text

from ner.errors import printable
from ner.inference import Tagged
from ner.progress import console
from ner.report import field

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta")


def table(tagged: Tagged) -> None:
    """One row a word with its tag and score, then one row an entity; coloured by type on a terminal."""
    words = Table(Column("word", overflow="fold"), "tag", "score", box=None, pad_edge=False)
    for word, tag, score in zip(tagged.words, tagged.tags, tagged.scores, strict=True):
        words.add_row(Text(printable(word), style=_colour(tag)), Text(tag, style=_colour(tag)), f"{score:.4f}")
    console.print(words)
    entities = Table(Column("entity", overflow="fold"), "type", "characters", "score", box=None, pad_edge=False)
    for entity in tagged.entities:
        style = _colour(entity.type)
        entities.add_row(
            Text(printable(entity.text), style=style), Text(entity.type, style=style), f"{entity.start}-{entity.end}", f"{entity.score:.4f}"
        )
    console.print(entities if tagged.entities else "no entities")
    console.print()


def jsonl(tagged: Tagged) -> None:
    """One object a line: text, entities (each start, end, text, type, score; characters of ``text``), words, tags."""
    entities = [dataclasses.asdict(entity) for entity in tagged.entities]
    record = {"text": tagged.text, "entities": entities, "words": tagged.words, "tags": tagged.tags}
    sys.stdout.write(json.dumps(record) + "\n")


def conll(tagged: Tagged) -> None:
    """``word tag`` lines and a blank line; white space inside a word is written as ``_``."""
    sys.stdout.write("".join(f"{field(word)} {field(tag)}\n" for word, tag in zip(tagged.words, tagged.tags, strict=True)) + "\n")


def _colour(tag: str) -> str:
    """A colour for an entity type, the same in every run; none outside entities."""
    kind = tag.removeprefix("B-").removeprefix("I-")
    return "" if kind == "O" else COLOURS[sum(kind.encode()) % len(COLOURS)]
