"""Decisions on annotations that may be wrong (``check.py --apply``): a JSON object a line -> other tags, each change in words.

A line is one that ``check.py --json`` or its page wrote, with ``decision``: ``model`` puts ``predicted`` in the place of ``gold``; ``gold``
keeps the annotation; ``unsure`` and null change nothing. ``predicted`` may have been edited by hand.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ner.errors import InputError
from ner.sentences import Sentence, Span, entity_spans, is_tag, span_tags

CHOICES = ("model", "gold", "unsure")

Decision = tuple[int, dict[str, Any]]  # a line's number and its object


def read(path: Path) -> list[Decision]:
    """The lines that decide something, each with its number.

    Raises:
        InputError: the file cannot be read or a line is no decision.
    """
    try:
        rows = path.read_text("utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or 'it is not UTF-8 text'})"
        raise InputError(what, hint="give the file that the page exported", path=path) from None
    found = []
    for line, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            record = json.loads(row)
            choice = record["decision"]
        except (ValueError, RecursionError, TypeError, KeyError):
            hint = f"write {', '.join(CHOICES)} or null there, as the page does"
            raise InputError('no JSON object with a "decision"', hint=hint, path=path, line=line) from None
        if choice not in (*CHOICES, None):
            raise InputError(f"the decision {choice!r}", hint=f"give one of {', '.join(CHOICES)}, or null", path=path, line=line)
        if choice in ("model", "gold"):
            found.append((line, record))
    if not found:
        raise InputError("decides nothing", hint=f"decide a line as {CHOICES[0]} or {CHOICES[1]}", path=path)
    return found


def applied(sentences: Sequence[Sentence], decisions: Sequence[Decision], path: Path) -> tuple[dict[int, list[str]], list[str]]:
    """The tags of each sentence that changes, and each change as a line. Annotations that a new entity overlaps go too.

    sentences: in IOB2. path: the file of the decisions, for messages.

    Raises:
        InputError: a decision does not fit the corpus, or two contradict each other.
    """
    numbers = [_number(record, len(sentences), path, line) for line, record in decisions]
    spans = {number: set(entity_spans(sentences[number].tags)) for number in numbers}
    kept: dict[int, set[Span]] = defaultdict(set)
    changes: list[tuple[int, int, Span | None, Span | None]] = []
    for number, (line, record) in zip(numbers, decisions, strict=True):
        gold, predicted = (_span(record, key, sentences[number], path, line) for key in ("gold", "predicted"))
        text = record.get("text")
        here = gold or predicted
        if here is None or (gold and gold not in spans[number]) or (text is not None and text != _text(sentences[number], here)):
            what = f"sentence {number} has no such annotation: {_shown(sentences[number], gold or predicted)}"
            raise InputError(what, hint="give the file that was checked, as it was then", path=path, line=line)
        if record["decision"] == "model":
            changes.append((line, number, gold, predicted))
        elif gold:
            kept[number].add(gold)
    lines = []
    deleted: dict[tuple[int, Span], bool] = {}  # a sentence's annotation -> whether the first decision on it deletes it
    for line, number, gold, predicted in changes:
        now, words = spans[number], sentences[number]
        torn = {gold} if gold and deleted.setdefault((number, gold), predicted is None) != (predicted is None) else set()
        gone = {span for span in now if span == gold or (predicted and span[1] < predicted[2] and predicted[1] < span[2])}
        if gone == {predicted} and not torn:
            continue  # the same decision twice
        both = torn or gone & kept[number] or gone - set(entity_spans(words.tags))
        if both:
            what = f"sentence {number}: {_shown(words, predicted or gold)} contradicts another decision, {_shown(words, min(both))}"
            raise InputError(what, hint="take back one of the two", path=path, line=line)
        spans[number] = now - gone | ({predicted} if predicted else set())
        before = ", ".join(_shown(words, span) for span in sorted(gone, key=lambda span: span[1]))
        if gone or predicted:
            lines.append(f"sentence {number}: {before or 'no entity'} -> {_shown(words, predicted)}")
    changed = {number: span_tags(found, len(sentences[number].tags)) for number, found in spans.items()}
    return {number: tags for number, tags in changed.items() if tags != sentences[number].tags}, lines


def _number(record: dict[str, Any], count: int, path: Path, line: int) -> int:
    number = record.get("sentence")
    if type(number) is int and 0 <= number < count:
        return number
    what = f"no sentence {number!r}: the corpus has {count:,}, from 0"
    raise InputError(what, hint="give the file that was checked", path=path, line=line)


def _span(record: dict[str, Any], key: str, sentence: Sentence, path: Path, line: int) -> Span | None:
    value = record.get(key)
    if value is None:
        return None
    try:
        type_, first, end = value["type"], value["start_word"], value["end_word"]
        fits = type(first) is int and type(end) is int and 0 <= first < end <= len(sentence.words)
        fits = fits and type(type_) is str and is_tag(f"B-{type_}")
    except (TypeError, KeyError):
        fits = False
    if not fits:
        hint = f"give null or its type, start_word and end_word, from 0 to {len(sentence.words)}"
        raise InputError(f'"{key}" is no entity of the sentence', hint=hint, path=path, line=line)
    return type_, first, end


def _text(sentence: Sentence, span: Span) -> str:
    return " ".join(sentence.words[span[1] : span[2]])


def _shown(sentence: Sentence, span: Span | None) -> str:
    return "no entity" if span is None else f"{_text(sentence, span)!r} {span[0]}"
