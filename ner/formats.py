"""Files of annotated sentences: reading and writing each format.

Four formats are known:

- ``csv``: as the Groningen Meaning Bank (GMB) is distributed. The columns ``Sentence #``, ``Word`` and ``Tag`` are found by name; others
  (``POS``) are ignored. The id of a sentence may stand on its first row only or on all its rows: a non-empty id that differs from the cell
  above it starts a sentence.
- ``conll``: one word per line, columns separated by ASCII spaces or tabs, the word first, the tag last. A blank line ends a sentence. So
  does a ``-DOCSTART-`` line, which is not data.
- ``jsonl``: one sentence per line: ``{"tokens": ["Kofi", ...], "tags": ["B-per", ...]}``.
- ``spans``: one text per line with the character spans of its entities, as Doccano and Prodigy export them; see ner/spans.py.

To add a format, write a function that reads it and one that writes it, and add a line to ``FORMATS`` at the end of this file.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ner import files, spans
from ner.errors import InputError
from ner.sentences import FORBIDDEN, TAG_RULE, InvalidSentence, Sentence, check, interned, is_tag, word_fault

SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"} | dict.fromkeys(
    (".conll", ".conll03", ".txt", ".tsv", ".bio", ".iob", ".iob1", ".iob2", ".bioes", ".iobes", ".bilou"), "conll"
)

_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}  # by their first bytes
_CSV_COLUMNS = ("Sentence #", "Word", "Tag")
_NOT_IN_CONLL = re.compile(r"[ \t\r\n]|\A\ufeff|\A-DOCSTART-\Z")

# cp1252 leaves five bytes undefined (81 8d 8f 90 9d). They become the C1 control characters of the same number, as in the WHATWG's
# windows-1252, so that every byte string can be read.
_CP1252 = "".join(bytes([i]).decode("cp1252", "ignore") or chr(i) for i in range(256))


def read(path: str | os.PathLike[str], *, format: str | None = None, encoding: str | None = None) -> list[Sentence]:
    """All sentences of a file, in its order.

    Args:
        path: the file.
        format: a key of ``FORMATS``. Without it, the suffix decides; for JSON, the keys of the first object tell ``jsonl`` from ``spans``.
        encoding: a Python text encoding. Without it, UTF-8, or else cp1252.

    Raises:
        InputError: the file cannot be read or is not valid in its format. Names the 1-based line where there is one.
    """
    path = Path(path)
    text = _text(path, encoding)
    name = _format_of(path, format)
    if format is None and name == "jsonl" and spans.is_record(next(_objects(text, path))[1]):
        name = "spans"
    read_text, _ = FORMATS[name]
    sentences = read_text(text, path)
    if not sentences:
        raise InputError("holds no sentence", hint="give a file with at least one annotated sentence", path=path)
    return sentences


def write(path: str | os.PathLike[str], sentences: Iterable[Sentence], *, format: str | None = None) -> None:
    """Write sentences as UTF-8, in the format named or else that of the suffix. `read` gives the same sentences back.

    The file is replaced whole or, after an error, not at all.

    Raises:
        InputError: a sentence is not valid or the format cannot hold it (names the sentence), or the file cannot be written.
    """
    path = Path(path)
    _, text_of = FORMATS[_format_of(path, format)]
    hint = "name a file in an existing folder that you may write to"
    if not path.parent.is_dir():
        raise InputError(f"cannot be written (no such folder: {path.parent})", hint=hint, path=path)
    try:
        with files.replacing(path) as file:
            number = 0
            for number, sentence in enumerate(sentences, 1):
                file.write(_checked_text(sentence, number, text_of, path).encode())
            if not number:
                raise InputError("no sentence to write", hint="give at least one", path=path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be written ({getattr(error, 'strerror', None) or error})", hint=hint, path=path) from error


def _checked_text(sentence: Sentence, number: int, text_of: Callable[[Sentence, int], str], path: Path) -> str:
    try:
        check(sentence)
        return text_of(sentence, number)
    except InvalidSentence as error:
        hint = "correct it or write another format (jsonl holds any word)"
        raise InputError(f"sentence {number}: {error}", hint=hint, path=path) from None


def _format_of(path: Path, format: str | None) -> str:
    """The format named or, without a name, that of the file's suffix."""
    if format is not None and format not in FORMATS:
        raise InputError(f"unknown format {format!r}", hint=f"choose one of {', '.join(FORMATS)}", path=path)
    name = format or SUFFIXES.get(path.suffix.lower())
    if name is None:
        what = f"the suffix {path.suffix!r} does not tell the format" if path.suffix else "no suffix to tell the format"
        raise InputError(what, hint=f"name it with --format {'|'.join(FORMATS)}", path=path)
    return name


# --- bytes -> text ----------------------------------------------------------------------------------------------------


def _text(path: Path, encoding: str | None) -> str:
    """The text of a file: not empty, without a byte order mark. If its lines end with carriage returns alone, they become line feeds."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(what, hint="give an existing file that you may read", path=path) from None
    for magic, name in _PACKED.items():
        if data.startswith(magic):
            raise InputError(f"is a {name} file, not text", hint="unpack it and give the file inside", path=path)
    text = (_guess(data, path) if encoding is None else _decode(data, path, encoding)).removeprefix("\ufeff")
    if not text.strip():
        raise InputError("is empty", hint="give a file with at least one annotated sentence", path=path)
    if bad := FORBIDDEN.search(text):
        raise InputError(
            "holds a NUL character" if bad.group() == "\0" else "holds an unpaired surrogate",
            hint="the file may be binary, damaged or in another encoding (see --encoding)",
            path=path,
            line=text.count("\n", 0, bad.start()) + 1,
        )
    return text if "\n" in text else text.replace("\r", "\n")


def _decode(data: bytes, path: Path, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"byte 0x{data[error.start : error.start + 1].hex()} is not valid in {encoding} ({error.reason})"
        line = data.count(b"\n", 0, error.start) + 1
        hint = "name another --encoding, or none to have it detected"
        raise InputError(what, hint=hint, path=path, line=line) from None
    except (LookupError, ValueError):  # an unknown codec, one that is not for text, or a name with a NUL in it
        hint = "name one that Python knows, such as utf-8, cp1252 or utf-16"
        raise InputError(f"{encoding!r} is not a text encoding", hint=hint, path=path) from None


def _guess(data: bytes, path: Path) -> str:
    """UTF-8, or else cp1252. A file that is mostly valid UTF-8 is refused: it is damaged UTF-8 rather than cp1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError("is UTF-16 text", hint="save it as UTF-8 or give --encoding utf-16", path=path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        lenient = data.decode("utf-8", "replace")
        damaged = lenient.count("\ufffd")
        if len(re.findall(r"[^\x00-\x7f\ufffd]", lenient)) > damaged:
            what = f"byte 0x{data[error.start]:02x} breaks a file that is otherwise UTF-8"
            line = data.count(b"\n", 0, error.start) + 1
            raise InputError(what, hint="repair it or name its --encoding", path=path, line=line) from None
        return codecs.charmap_decode(data, "strict", _CP1252)[0]


# --- csv and conll: a word per line -----------------------------------------------------------------------------------


def _valid_word(word: str, path: Path, line: int) -> str:
    """Return the word; raise InputError if it is not valid."""
    if fault := word_fault(word):
        raise InputError(f"a word {fault}", hint="fill it in or delete the row", path=path, line=line)
    return word


def _valid_tag(tag: str, path: Path, line: int) -> str:
    """Return the tag; raise InputError if it is not valid."""
    if not is_tag(tag):
        raise InputError(f"tag {tag!r} is not {TAG_RULE}", hint="correct it", path=path, line=line)
    return tag


def _read_csv(text: str, path: Path) -> list[Sentence]:
    # Python's csv module is as fast here as pandas (0.5 s for a million rows), strict about quotes, and it counts physical lines.
    # newline="\n" keeps every other character, \x85 and a lone \r among them, inside words.
    rows = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    previous = ""
    known_words: dict[str, str] = {}  # checked once; all copies of a word share one str object
    known_tags: dict[str, str] = {}
    end = 0  # the last physical line of the rows so far
    try:
        header = next(rows, [])
        width, cells = len(header), itemgetter(*_columns(header, path))
        end = rows.line_num
        for row in rows:
            line, end = end + 1, rows.line_num
            if not row:
                continue
            if len(row) != width:
                _refuse_row(row, width, path, line, end)
            number, word, tag = cells(row)
            if word not in known_words:
                known_words[word] = _valid_word(word, path, line)
            if tag not in known_tags:
                known_tags[tag] = _valid_tag(tag, path, line)
            if number and number != previous:
                words, tags = [], []
                sentences.append(Sentence(words, tags))
            elif not sentences:
                hint = "fill 'Sentence #' on the first row of every sentence"
                raise InputError("the first row has no sentence id", hint=hint, path=path, line=line)
            previous = number
            words.append(known_words[word])
            tags.append(known_tags[tag])
    except csv.Error as error:
        what = f"a row that is not CSV ({str(error).partition(' - ')[0]})"
        hint = "balance its quotes (write a quote inside a quoted field twice) and end rows with line feeds"
        raise InputError(what, hint=hint, path=path, line=end + 1) from None
    return sentences


def _columns(header: list[str], path: Path) -> list[int]:
    """The positions of the columns that are needed."""
    if all(header.count(name) == 1 for name in _CSV_COLUMNS):
        return [header.index(name) for name in _CSV_COLUMNS]
    delimiters = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
    found = next((name for c, name in delimiters.items() if len(header) == 1 and c in header[0]), None)
    if found:
        what, hint = f"columns are separated by {found}, not commas", "save it with commas"
    else:
        absent = ", ".join(repr(name) for name in _CSV_COLUMNS if header.count(name) != 1)
        what, hint = f"the header lacks, or repeats, {absent}", f"start the file with {','.join(_CSV_COLUMNS)}"
    raise InputError(what, hint=hint + ", or name another --format", path=path, line=1)


def _refuse_row(row: list[str], width: int, path: Path, line: int, end: int) -> NoReturn:
    what = f"{len(row)} fields where the header has {width}"
    hint = "give the row one field per column and quote a field that holds a comma"
    if end > line:
        what, hint = f"{what}, in a row that continues to line {end}", "close the quote that is left open in it"
    raise InputError(what, hint=hint, path=path, line=line)


def _csv_rows(sentence: Sentence, number: int) -> str:
    if max(map(len, chain(sentence.words, sentence.tags))) > csv.field_size_limit():
        raise InvalidSentence(f"csv holds words of up to {csv.field_size_limit()} characters")
    header = ",".join(_CSV_COLUMNS) + "\r\n" if number == 1 else ""
    rows = (f",{_csv_cell(word)},{_csv_cell(tag)}\r\n" for word, tag in zip(sentence.words, sentence.tags, strict=True))
    return f"{header}Sentence: {number}" + "".join(rows)


def _csv_cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in '",\r\n') else text


def _read_conll(text: str, path: Path) -> list[Sentence]:
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    known_words: dict[str, str] = {}  # as in _read_csv
    known_tags: dict[str, str] = {}
    columns, width = re.compile(r"[^ \t]+").findall, 0
    for line, row in enumerate(text.split("\n"), 1):
        row = row.rstrip("\r")
        if "\r" in row:
            raise InputError("a carriage return inside a line", hint="end all lines the same way", path=path, line=line)
        fields = columns(row)
        if not fields or fields[0] == "-DOCSTART-":
            words, tags = [], []
            continue
        if len(fields) != width:
            if width or len(fields) == 1:
                _refuse_columns(len(fields), width, path, line)
            width = len(fields)
        word, tag = fields[0], fields[-1]
        if word not in known_words:
            known_words[word] = _valid_word(word, path, line)
        if tag not in known_tags:
            known_tags[tag] = _valid_tag(tag, path, line)
        if not words:
            sentences.append(Sentence(words, tags))
        words.append(known_words[word])
        tags.append(known_tags[tag])
    return sentences


def _refuse_columns(found: int, width: int, path: Path, line: int) -> NoReturn:
    what = "1 column" if found == 1 else f"{found} columns"
    wanted = f"{width} as in the lines above" if width else "a word, a space or tab, and a tag"
    raise InputError(what, hint=f"give the line {wanted}, or name another --format", path=path, line=line)


def _conll_lines(sentence: Sentence, number: int) -> str:
    for word, tag in zip(sentence.words, sentence.tags, strict=True):
        if _NOT_IN_CONLL.search(word) or " " in tag:
            raise InvalidSentence(f"conll cannot hold {word!r} {tag!r} (white space, a -DOCSTART- or a byte order mark)")
    return "".join(f"{word} {tag}\n" for word, tag in zip(sentence.words, sentence.tags, strict=True)) + "\n"


# --- jsonl and spans: a JSON object per line --------------------------------------------------------------------------


def _objects(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON object of each line that is not blank, with the 1-based number of the line."""
    for line, row in enumerate(text.split("\n"), 1):
        if not row.strip(" \t\r\n"):
            continue
        try:
            record = json.loads(row)
        except (ValueError, RecursionError) as error:
            what = f"broken JSON ({getattr(error, 'msg', None) or error})"
            raise InputError(what, hint="write one whole object per line", path=path, line=line) from None
        if not isinstance(record, dict):
            what = f"a JSON {type(record).__name__}, not an object"
            raise InputError(what, hint="write one whole object per line (JSON Lines)", path=path, line=line)
        yield line, record


def _read_jsonl(text: str, path: Path) -> list[Sentence]:
    return [_sentence(_from_tokens, record, path, line) for line, record in _objects(text, path)]


def _read_spans(text: str, path: Path) -> list[Sentence]:
    return [_sentence(spans.from_record, record, path, line) for line, record in _objects(text, path) if spans.is_accepted(record)]


def _sentence(convert: Callable[[dict[str, Any]], Sentence], record: dict[str, Any], path: Path, line: int) -> Sentence:
    try:
        sentence = convert(record)
        check(sentence)
    except InvalidSentence as error:
        raise InputError(str(error), hint="correct the line or name another --format", path=path, line=line) from None
    return interned(sentence)


def _from_tokens(record: dict[str, Any]) -> Sentence:
    for key in ("tokens", "tags"):
        values = record.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise InvalidSentence(f'"{key}" is missing or not a list of strings')
    return Sentence(record["tokens"], record["tags"])


def _jsonl_line(sentence: Sentence, number: int) -> str:
    return json.dumps({"tokens": sentence.words, "tags": sentence.tags}, ensure_ascii=False) + "\n"


def _spans_line(sentence: Sentence, number: int) -> str:
    return json.dumps(spans.to_record(sentence), ensure_ascii=False) + "\n"


# A format's functions: (text, path) -> its sentences; (sentence, its number from 1) -> its text, or InvalidSentence if it cannot be held.
FORMATS: dict[str, tuple[Callable[[str, Path], list[Sentence]], Callable[[Sentence, int], str]]] = {
    "csv": (_read_csv, _csv_rows),
    "conll": (_read_conll, _conll_lines),
    "jsonl": (_read_jsonl, _jsonl_line),
    "spans": (_read_spans, _spans_line),
}
if TYPE_CHECKING:
    Format = str
else:
    Format = Literal[tuple(FORMATS)]  # the choices of --format
