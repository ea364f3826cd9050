"""Tagged sentences as the Markdown that TensorBoard shows: gold and predicted entities side by side.

Nothing from the data acts as Markdown or HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ner.scoring import ERROR_CLASSES, Evaluation, Span

HEADER = ["| errors | gold | predicted |", "|---|---|---|"]


def sample(evaluation: Evaluation, count: int = 20) -> str:
    """The first ``count`` sentences, a table row each: the kinds of errors, the sentence as annotated and as predicted."""
    return _table(evaluation, range(min(count, len(evaluation.words))))


def worst(evaluation: Evaluation, count: int = 20) -> str:
    """The same for the ``count`` sentences with most errors, the first ones of those with as many; none without an error."""
    errors = [sum(pairing.error != "correct" for pairing in pairings) for pairings in evaluation.pairings]
    wrong = [number for number, found in enumerate(errors) if found]
    return _table(evaluation, sorted(wrong, key=lambda number: -errors[number])[:count])


def _table(evaluation: Evaluation, numbers: Iterable[int]) -> str:
    rows = []
    for number in numbers:
        found = Counter(pairing.error for pairing in evaluation.pairings[number])
        errors = ", ".join(f"{found[error]} {error}" for error in ERROR_CLASSES if found[error] and error != "correct")
        gold, predicted = (_marked(evaluation.words[number], spans) for spans in evaluation.spans[number])
        rows.append(f"| {errors} | {gold} | {predicted} |")
    return "\n".join(HEADER + rows)


def _marked(words: Sequence[str], spans: Sequence[Span]) -> str:
    """Entities in bold, each with its type behind it as code: TensorBoard's sanitiser leaves no other mark."""
    parts, done = [], 0
    for kind, start, end in spans:
        parts += [*map(_escape, words[done:start]), f"**{' '.join(map(_escape, words[start:end]))}** {_code(kind)}"]
        done = end
    return " ".join([*parts, *map(_escape, words[done:])])


def _code(text: str) -> str:
    """A code span, in which only the backtick has a meaning: it ends the span. An empty span would not be one."""
    return f"`{_printable(text).replace('`', chr(39)).strip() or '?'}`"


def _escape(text: str) -> str:
    """Backslashes before Markdown's characters, and a zero-width space after those that open a tag or an entity, which have no escape."""
    text = _printable(text)
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|~>" else f"{c}\u200b" if c in "<&" else c for c in text)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:200])
