"""Other tags in a corpus file, and nothing else of it touched: every other byte stays as it was.

The text is read as ner/formats.py reads it, which tells where each tag stands; only those that differ are replaced. The tags are written
in the scheme of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ner import conll, files, formats, spans, tagset
from ner.errors import InputError
from ner.sentences import Sentence, entity_spans

Edit = tuple[int, int, str]  # the characters [start, end) of the text, and what takes their place
Columns = tuple[int | None, int | None]  # of the words and of the tags of a conll file, from 1; None as `conll.read` takes it
Tags = dict[int, list[str]]  # sentence, from 0 -> its tags

_SPACE = re.compile(r"[ \t\r\n]*")
_CELL = re.compile(r'(?:^|,)("(?:[^"]|"")*"|[^,\r\n]*)', re.DOTALL)
_decode = json.JSONDecoder().raw_decode


def retag(path: Path, output: Path, wanted: Tags, *, format: str | None, encoding: str | None, columns: Columns) -> None:
    """Write the file ``path`` again as ``output``, in which the sentences in ``wanted`` have these IOB2 tags.

    Raises:
        InputError: the file is Parquet or cannot be read, the output's name calls for another format, or it cannot be written.
    """
    if (format or formats.SUFFIXES.get(formats.suffix_of(path))) == "parquet":
        raise InputError("Parquet is read, not written", hint="write it as jsonl first, and check that", path=path)
    text, name = formats.text_of(path, format, encoding)
    if formats.is_gzip(path) != formats.is_gzip(output):
        raise InputError("one of the input and the output is packed (.gz)", hint="end both names with .gz, or neither", path=output)
    suffix = formats.suffix_of(output)
    if suffix != formats.suffix_of(path) and formats.SUFFIXES.get(suffix, name) != ("jsonl" if name == "spans" else name):
        raise InputError(f"its name calls for another format than {name}", hint="end it as the input ends", path=output)
    data = path.read_bytes()
    data = formats.unpacked(data, path) if formats.is_gzip(path) else data
    encode = _encoder(text, data, encoding, path)
    edits = {"conll": _conll, "csv": _csv, "jsonl": _jsonl, "spans": _spans}[name](text, path, wanted, columns)
    parts, at = [], 0
    for start, end, new in sorted(edits):
        parts += [text[at:start], new]
        at = end
    try:
        content = encode("".join([*parts, text[at:]]))
        with files.replacing(output) as replacing, formats.packing(replacing, output) as file:
            file.write(content)
    except (OSError, ValueError) as error:
        what = f"cannot be written ({getattr(error, 'strerror', None) or error})"
        raise InputError(what, hint="name a file in a folder you may write to", path=output) from None


def _encoder(text: str, data: bytes, encoding: str | None, path: Path) -> Callable[[str], bytes]:
    """What makes the file's own bytes of its text: its encoding, byte order mark and line ends."""
    import codecs

    def encode(text: str, mark: str, end: str, codec: str) -> bytes:
        text = mark + text.replace("\n", end)
        return codecs.charmap_encode(text, "strict", codecs.charmap_build(formats.CP1252))[0] if codec == "" else text.encode(codec)

    for codec in [encoding] if encoding else ["utf-8", ""]:
        for mark in ("", "\ufeff"):
            for end in ("\n", "\r"):
                try:
                    if encode(text, mark, end, codec) == data:
                        return lambda text, how=(mark, end, codec): encode(text, *how)  # type: ignore[misc]
                except UnicodeEncodeError:
                    pass
    raise InputError("its encoding does not give the same bytes back", hint="save the file as UTF-8 first", path=path)


def _in_scheme(sentences: Sequence[Sentence], wanted: Tags, path: Path) -> Iterator[tuple[int, str]]:
    """The number of each word whose tag changes, counted over the whole file, and its new tag in the file's scheme."""
    _, scheme = tagset.to_iob2(sentences, path)
    first = 0
    for number, sentence in enumerate(sentences):
        if number in wanted:
            tags = tagset.from_iob2(wanted[number], scheme)
            yield from ((first + i, new) for i, (old, new) in enumerate(zip(sentence.tags, tags, strict=True)) if old != new)
        first += len(sentence.words)


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _conll(text: str, path: Path, wanted: Tags, columns: Columns) -> Iterator[Edit]:
    places: list[tuple[int, int]] = []
    sentences = conll.read(text, path, *columns, places)
    starts = _line_starts(text)
    for word, tag in _in_scheme(sentences, wanted, path):
        line, column = places[word]
        cell = list(re.compile("[^ \t\r\n]+").finditer(text, starts[line - 1], (*starts, len(text))[line]))[column]
        yield cell.start(), cell.end(), tag


def _csv(text: str, path: Path, wanted: Tags, columns: Columns) -> Iterator[Edit]:
    places: list[tuple[int, int, int]] = []
    sentences = formats.read_csv(text, path, places=places)
    starts = [*_line_starts(text), len(text)]
    for word, tag in _in_scheme(sentences, wanted, path):
        first, last, column = places[word]
        row = text[starts[first - 1] : starts[last]]
        start, end = [cell.span(1) for cell in _CELL.finditer(row)][column]
        new = formats.csv_cell(tag)
        if row[start] == '"' != new[0]:  # as the cell was quoted
            new = f'"{new}"'
        yield starts[first - 1] + start, starts[first - 1] + end, new


def _jsonl(text: str, path: Path, wanted: Tags, columns: Columns) -> Iterator[Edit]:
    starts = _line_starts(text)
    records = [(line, record) for line, record in formats.objects(text, path)]
    sentences = [Sentence(record["tokens"], record["tags"]) for _, record in records]
    _, scheme = tagset.to_iob2(sentences, path)
    for number, tags in wanted.items():
        line, record = records[number]
        _, at, _ = _member(text, starts[line - 1], "tags")
        for (_, start, end), old, new in zip(_members(text, at), record["tags"], tagset.from_iob2(tags, scheme), strict=True):
            if old != new:
                yield start, end, json.dumps(new, ensure_ascii=False)


def _spans(text: str, path: Path, wanted: Tags, columns: Columns) -> Iterator[Edit]:
    """The list of spans of a record is written anew, each span that stays as it was."""
    starts = _line_starts(text)
    records = [(line, record) for line, record in formats.objects(text, path) if spans.is_accepted(record)]
    form = [record[key][0] for _, record in records if (key := spans.list_key(record)) and record[key]][:1]
    for number, tags in wanted.items():
        line, record = records[number]
        words, old = spans.words_and_spans(record)
        new = {(words[first][1], words[end - 1][2], type_) for type_, first, end in entity_spans(tags)}
        key = spans.list_key(record)
        entries = [] if key is None else record[key]
        like: Any = next(iter((*entries, *form)), [] if key == "label" else {})
        kept = [entry for entry in entries if spans.span_of(entry, record["text"]) in new]
        kept += [_entry(span, like) for span in sorted(new - set(old))]
        kept.sort(key=lambda entry: spans.span_of(entry, record["text"]))
        written = json.dumps(kept, ensure_ascii=False)
        if key is None:
            start = _SPACE.match(text, starts[line - 1]).end() + 1  # type: ignore[union-attr]
            yield start, start, f'"spans": {written}, '
        else:
            _, start, end = _member(text, starts[line - 1], key)
            yield start, end, written


def _entry(span: tuple[int, int, str], like: Any) -> Any:
    """A span in the form of another entry."""
    start, end, label = span
    if isinstance(like, list):
        return [start, end, label]
    suffix = "_offset" if "start_offset" in like else ""
    return {f"start{suffix}": start, f"end{suffix}": end, "label": label}


def _member(text: str, at: int, key: str) -> tuple[Any, int, int]:
    """The key and the bounds in the text of a member of the object that starts at or after ``at``; of two with one key, the last."""
    at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
    return [member for member in _members(text, at) if member[0] == key][-1]


def _members(text: str, at: int) -> Iterator[tuple[Any, int, int]]:
    """``(key or index, start, end)`` of each value in the JSON object or array that starts at ``at``."""

    def skip(at: int) -> int:
        return _SPACE.match(text, at).end()  # type: ignore[union-attr]

    close = "}" if text[at] == "{" else "]"
    at, key = skip(at + 1), -1
    while text[at] != close:
        if close == "}":
            key, at = _decode(text, at)
            at = skip(skip(at) + 1)  # the colon
        else:
            key += 1
        _, end = _decode(text, at)
        yield key, at, end
        at = skip(end)
        at = skip(at + 1) if text[at] == "," else at
