"""Other tags in a corpus file, and nothing else of it touched: only the tags that differ are replaced, in the scheme of the file.

The readers of ner/formats.py tell where each tag stands. A JSON line whose tags change is written anew, with all its keys and values;
every other byte of a file stays as it was.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ner import conll, files, formats, gmb_csv, spans, tagset
from ner.errors import InputError
from ner.sentences import Sentence, entity_spans
from ner.text import C1, Lines, is_gzip, packing, suffix_of

Columns = tuple[int | None, int | None]  # of the words and of the tags of a conll file, from 1; None as `conll.read` takes it
Tags = dict[int, list[str]]  # sentence, from 0 -> its tags
Edit = tuple[int, int, str]  # the lines [first, last] of the text, from 1, and what takes their place

_CELL = re.compile(r'(?:^|,)("(?:[^"]|"")*"|[^,\r\n]*)', re.DOTALL)


def retag(path: Path, output: Path, wanted: Tags, *, format: str | None, encoding: str | None, columns: Columns) -> None:
    """Write the file ``path`` again as ``output``, in which the sentences in ``wanted`` have these IOB2 tags.

    Raises:
        InputError: the file is Parquet or cannot be read, the output's name calls for another format, or it cannot be written.
    """
    if formats.named_format(path, format) == "parquet":
        raise InputError("Parquet is read, not written", hint="write it as jsonl first, and check that", path=path)
    if (suffix_of(output), is_gzip(output)) != (suffix_of(path), is_gzip(path)):
        raise InputError("the output has the format of the input", hint=f"end its name as {path.name} ends", path=output)
    source, name = formats.text_of(path, format, encoding)
    text = "".join(source)
    codec, mark, end = _form(text, source.content(), path, encoding)
    lines = text.split("\n")
    # From the last to the first, so that the numbers of the lines before stay right.
    for first, last, new in reversed(list(_EDITS[name](source, lines, path, wanted, columns))):
        lines[first - 1 : last] = [new]
    try:
        content = _encoded("\n".join(lines), codec, mark, end)
        with files.replacing(output) as replacing, packing(replacing, output) as file:
            file.write(content)
    except (OSError, ValueError) as error:
        what = f"cannot be written ({getattr(error, 'strerror', None) or error})"
        raise InputError(what, hint="name a file in a folder you may write to", path=output) from None


def _form(text: str, data: bytes, path: Path, encoding: str | None) -> tuple[str, str, str]:
    """The encoding, byte order mark and line end that make the file's bytes of its text."""
    for form in itertools.product([encoding] if encoding else ["utf-8", "cp1252"], ["", "\ufeff"], ["\n", "\r"]):
        try:
            if _encoded(text, *form) == data:
                return form
        except UnicodeEncodeError:
            pass
    raise InputError("its encoding does not give the same bytes back", hint="save the file as UTF-8 first", path=path)


def _encoded(text: str, codec: str, mark: str, end: str) -> bytes:
    return (mark + text.replace("\n", end)).encode(codec, C1 if codec == "cp1252" else "strict")


def _changes(read: Iterable[Sentence], wanted: Tags, path: Path) -> Iterator[tuple[int, str]]:
    """The number of each word whose tag changes, counted over the whole file, and its new tag in the file's scheme."""
    sentences = list(read)
    _, scheme = tagset.to_iob2(sentences, path)
    first = 0
    for number, sentence in enumerate(sentences):
        if number in wanted:
            tags = tagset.from_iob2(wanted[number], scheme)
            yield from ((first + i, new) for i, (old, new) in enumerate(zip(sentence.tags, tags, strict=True)) if old != new)
        first += len(sentence.words)


def _conll(text: Lines, lines: list[str], path: Path, wanted: Tags, columns: Columns) -> Iterator[Edit]:
    places: list[tuple[int, int]] = []
    for word, tag in _changes(conll.read(text, path, *columns, places), wanted, path):
        line, column = places[word]
        if re.search("[ \t]", tag):
            raise InputError(f"conll cannot hold the tag {tag!r}", hint="give its type without blanks", path=path, line=line)
        row = lines[line - 1]
        start, end = list(re.finditer("[^ \t\r]+", row))[column].span()
        yield line, line, row[:start] + tag + row[end:]


def _csv(text: Lines, lines: list[str], path: Path, wanted: Tags, columns: Columns) -> Iterator[Edit]:
    places: list[tuple[int, int, int]] = []
    for word, tag in _changes(gmb_csv.read(text, path, places), wanted, path):
        first, last, column = places[word]
        row = "\n".join(lines[first - 1 : last])
        start, end = list(_CELL.finditer(row))[column].span(1)
        new = gmb_csv.cell(tag)
        if row[start : start + 1] == '"' != new[0]:  # as the cell was quoted
            new = f'"{new}"'
        yield first, last, row[:start] + new + row[end:]


def _jsonl(text: Lines, lines: list[str], path: Path, wanted: Tags, columns: Columns) -> Iterator[Edit]:
    records = list(formats.objects(text, path))
    _, scheme = tagset.to_iob2([Sentence(record["tokens"], record["tags"]) for _, record in records], path)
    for number, tags in sorted(wanted.items()):
        line, record = records[number]
        yield line, line, _dumped(record | {"tags": tagset.from_iob2(tags, scheme)}, lines[line - 1])


def _spans(text: Lines, lines: list[str], path: Path, wanted: Tags, columns: Columns) -> Iterator[Edit]:
    """Spans that stay keep what else they hold; new ones are in the form of the file's."""
    records = [(line, record) for line, record in formats.objects(text, path) if spans.is_accepted(record)]
    form: Any = next((record[key][0] for _, record in records if (key := spans.list_key(record)) and record[key]), None)
    for number, tags in sorted(wanted.items()):
        line, record = records[number]
        words, old = spans.words_and_spans(record)
        new = {(words[first][1], words[end - 1][2], type_) for type_, first, end in entity_spans(tags)}
        key = spans.list_key(record)
        entries = [entry for entry in (record[key] if key else []) if spans.span_of(entry, record["text"]) in new]
        entries += [_entry(span, [] if form is None and key == "label" else form) for span in new.difference(old)]
        entries.sort(key=lambda entry: spans.span_of(entry, record["text"]))
        yield line, line, _dumped(record | {key or "spans": entries}, lines[line - 1])


def _entry(span: tuple[int, int, str], like: Any) -> Any:
    """A span in the form of another entry."""
    start, end, label = span
    if isinstance(like, list):
        return [start, end, label]
    suffix = "_offset" if like and "start_offset" in like else ""
    return {f"start{suffix}": start, f"end{suffix}": end, "label": label}


def _dumped(record: dict, line: str) -> str:
    """A JSON line in the place of another, with its line end, and with other characters than ASCII escaped if it has none."""
    return json.dumps(record, ensure_ascii=line.isascii()) + "\r" * line.endswith("\r")


_EDITS = {"conll": _conll, "csv": _csv, "jsonl": _jsonl, "spans": _spans}
