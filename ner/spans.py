"""One line of the ``spans`` format -> a sentence, and back: a text and the character spans of its entities.

Read are the exports of Doccano (the spans in ``label``, ``labels`` or ``entities``) and of Prodigy (``spans``, perhaps ``tokens``).
Written is Prodigy's form. Offsets count characters (Unicode code points).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from typing import Any

from ner.sentences import InvalidSentence, Sentence, entity_spans, span_tags
from ner.words import tokenize

Record = dict[str, Any]  # a JSON object


def is_record(record: Record) -> bool:
    """Whether a JSON object is of this format, by its keys."""
    return "text" in record and "tags" not in record


def is_accepted(record: Record) -> bool:
    """Whether the annotator kept it: Prodigy also exports what was rejected or skipped, which is not annotation."""
    return record.get("answer", "accept") == "accept"


def from_record(record: Record) -> Sentence:
    """The words of a text, tagged by its spans in IOB2.

    Each text is a document of its own, named by a hash of it. So copies of a text are the same document.

    The words are Prodigy's ``tokens``; without them, those `tokenize` finds. If the edge of a span falls inside a word, the word becomes
    two. So every entity keeps exactly the extent that its annotator gave it, except for white space at its ends.

    Raises:
        InvalidSentence: the record lacks a key, or a span is not in the text, overlaps another or covers no word.
    """
    words, spans = words_and_spans(record)
    text = record["text"]
    starts = [start for _, start, _ in words]
    entities = []
    for start, end, label in spans:
        first, last = bisect_left(starts, start), bisect_left(starts, end)
        if first == last:
            raise InvalidSentence(f"the span {start}-{end} covers no word")
        entities.append((label, first, last))
    document = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return Sentence([word for word, _, _ in words], span_tags(entities, len(words)), document)


def words_and_spans(record: Record) -> tuple[list[tuple[str, int, int]], list[tuple[int, int, str]]]:
    """The words of a text as ``(word, start, end)`` and its spans as ``(start, end, label)``, in its order; raises as `from_record`."""
    text = record.get("text")
    if not isinstance(text, str):
        raise InvalidSentence('"text" is missing or not a string')
    spans = _spans(record, text)
    return _cut(_words(record, text), sorted({edge for start, end, _ in spans for edge in (start, end)})), spans


def _spans(record: Record, text: str) -> list[tuple[int, int, str]]:
    """``(start, end, label)`` in the order of the text, without white space at the ends. Overlaps are refused."""
    key = list_key(record)
    if key is None and "answer" not in record:  # Prodigy may leave an empty list out
        raise InvalidSentence('no list "label", "labels", "entities" or "spans"')
    spans = sorted(span_of(span, text) for span in (record[key] if key else []))
    for (_, end, _), (start, _, _) in zip(spans, spans[1:], strict=False):
        if start < end:
            raise InvalidSentence(f"spans that overlap at character {start}")
    return spans


def list_key(record: Record) -> str | None:
    """The key of the list with the spans; None if there is none."""
    return next((key for key in ("spans", "entities", "labels", "label") if isinstance(record.get(key), list)), None)


def span_of(span: object, text: str) -> tuple[int, int, str]:
    """One entry of the list as ``(start, end, label)``, without white space at the ends."""
    if isinstance(span, dict):
        start, end = (span.get(edge, span.get(f"{edge}_offset")) for edge in ("start", "end"))
        span = [start, end, span.get("label")]
    if not isinstance(span, list) or len(span) != 3 or not isinstance(span[2], str):
        raise InvalidSentence("a span that is not [start, end, type]")
    start, end, label = span
    if not (type(start) is int and type(end) is int and 0 <= start < end <= len(text)):
        raise InvalidSentence(f"the span {start!r}-{end!r} is not a range within the text of length {len(text)}")
    inside = text[start:end]
    if inside.isspace():
        raise InvalidSentence(f"the span {start}-{end} holds only white space")
    return start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip()), label


def _words(record: Record, text: str) -> list[tuple[str, int, int]]:
    """``(word, start, end)``: Prodigy's tokens that are not only white space; without ``tokens``, the words `tokenize` finds."""
    tokens = record.get("tokens")
    if tokens is None:
        return tokenize(text)
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise InvalidSentence('"tokens" is not a list of objects with "start" and "end"')
    words = []
    reached = 0
    for token in tokens:
        start, end = token.get("start"), token.get("end")
        if type(start) is not int or type(end) is not int or not reached <= start <= end <= len(text):
            raise InvalidSentence(f"the token {start!r}-{end!r} is out of order or outside the text")
        reached = end
        if text[start:end].strip():
            words.append((text[start:end], start, end))
    return words


def _cut(words: list[tuple[str, int, int]], edges: list[int]) -> list[tuple[str, int, int]]:
    """The words, cut wherever one of the edges (sorted) falls inside one."""
    pieces = []
    for word, start, end in words:
        inner = edges[bisect_right(edges, start) : bisect_left(edges, end)]
        for a, b in zip([start, *inner], [*inner, end], strict=True):
            pieces.append((word[a - start : b - start], a, b))
    return pieces


def to_record(sentence: Sentence) -> Record:
    """The sentence as Prodigy exports it: ``text`` (the words joined by spaces), the words as ``tokens``, the entities as ``spans``.

    Raises:
        InvalidSentence: `from_record` would not give the same words and tags back.
    """
    tokens = []
    start = 0
    for number, word in enumerate(sentence.words):
        tokens.append({"text": word, "start": start, "end": start + len(word), "id": number})
        start += len(word) + 1  # and the space after it
    entities = [
        {"start": tokens[first]["start"], "end": tokens[end - 1]["end"], "label": label}
        for label, first, end in entity_spans(sentence.tags)
    ]
    record = {"text": " ".join(sentence.words), "tokens": tokens, "spans": entities}
    if not _gives_back(record, sentence):
        raise InvalidSentence("spans hold IOB2 entities only, and no white space at the ends of words")
    return record


def _gives_back(record: Record, sentence: Sentence) -> bool:
    try:
        return from_record(record)[:2] == sentence[:2]
    except InvalidSentence:
        return False
