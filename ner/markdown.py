"""Tagged sentences as the Markdown that TensorBoard shows: gold and predicted entities side by side.

Nothing from the data acts as Markdown or HTML. ``words``, ``gold`` and ``predicted`` are sentences: a list of strings each, one per word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ner.scoring import ERROR_CLASSES, error_classes, spans

Sentences = Sequence[Sequence[str]]
HEADER = ["| errors | gold | predicted |", "|---|---|---|"]


def sample(words: Sentences, gold: Sentences, predicted: Sentences, count: int = 20) -> str:
    """The first ``count`` sentences, a table row each: the kinds of errors, the sentence as annotated and as predicted."""
    return "\n".join(HEADER + [_row(*sentence) for sentence in list(zip(words, gold, predicted, strict=True))[:count]])


def worst(words: Sentences, gold: Sentences, predicted: Sentences, count: int = 20) -> str:
    """The same for the ``count`` sentences with most errors, the first ones of those with as many; none without an error."""
    sentences = list(zip(words, gold, predicted, strict=True))
    errors = {number: sum(_errors(g, p).values()) for number, (_, g, p) in enumerate(sentences) if list(g) != list(p)}
    chosen = sorted((number for number in errors if errors[number]), key=lambda number: (-errors[number], number))[:count]
    return "\n".join(HEADER + [_row(*sentences[number]) for number in chosen])


def _errors(gold: Sequence[str], predicted: Sequence[str]) -> Counter[str]:
    return Counter(pairing.error for pairing in error_classes(gold, predicted) if pairing.error != "correct")


def _row(words: Sequence[str], gold: Sequence[str], predicted: Sequence[str]) -> str:
    found = _errors(gold, predicted)
    errors = ", ".join(f"{found[kind]} {kind}" for kind in ERROR_CLASSES if found[kind])
    return f"| {errors} | {_marked(words, gold)} | {_marked(words, predicted)} |"


def _marked(words: Sequence[str], tags: Sequence[str]) -> str:
    """Entities in bold, each with its type behind it as code: TensorBoard's sanitiser leaves no other mark."""
    parts, done = [], 0
    for kind, start, end in spans(list(tags)):
        parts += [*map(_escape, words[done:start]), f"**{' '.join(map(_escape, words[start:end]))}** `{kind.replace('`', '')}`"]
        done = end
    return " ".join([*parts, *map(_escape, words[done:])])


def _escape(text: str) -> str:
    """Backslashes before Markdown's characters, and a zero-width space after those that open a tag or an entity, which have no escape."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text[:200])
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|~>" else f"{c}\u200b" if c in "<&" else c for c in text)
