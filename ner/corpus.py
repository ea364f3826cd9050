"""Annotated sentences: from files and back, from running text to words, and into train, validation and test.

Four layouts are read and written:

- ``csv``, as the Groningen Meaning Bank (GMB) is spread: columns ``Sentence #``, ``Word`` and ``Tag`` found by name,
  others (``POS``) ignored. A sentence's id stands on its first row only or on all its rows: a filled id that differs
  from the cell above it starts a sentence.
- ``conll``: a word a line, columns parted by ASCII spaces or tabs, word first, tag last; a blank line ends a sentence,
  and so does a ``-DOCSTART-`` line, which is not data.
- ``jsonl``: ``{"tokens": ["Kofi", ...], "tags": ["B-per", ...]}``, a sentence a line.
- ``spans``: a text a line with the character spans of its entities, as Doccano (``label``, ``labels`` or
  ``entities``) and Prodigy (``spans``, perhaps ``tokens``) export them.

A word is any text but nothing: empty words and words of only ASCII white space are refused, as are NUL and unpaired
surrogates; ``None``, ``null``, ``NA`` and ``nan`` are words. A tag is ``O`` or B-, I-, E-, S-, L- or U- and a type.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import math
import os
import re
import secrets
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import accumulate, chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TextIO

from ner.errors import InputError


class Sentence(NamedTuple):
    """The words of one sentence and one tag for each, lists of the same length."""

    words: list[str]
    tags: list[str]


FORMATS = ("csv", "conll", "jsonl", "spans")
SPLITS = ("train", "validation", "test")

_SUFFIXES = {".csv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json"} | dict.fromkeys(
    (".conll", ".conll03", ".txt", ".tsv", ".bio", ".iob", ".iob1", ".iob2", ".bioes", ".iobes", ".bilou"), "conll"
)
_CSV_COLUMNS = ("Sentence #", "Word", "Tag")
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

_TAG = re.compile(r"O|[BIESLU]-(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+(?<!\s)")
TAG_RULE = "O or B-, I-, E-, S-, L- or U- and a type"
_BLANK = re.compile(r"[ \t\r\n]*")
_UNWRITABLE = re.compile(r"[\0\ud800-\udfff]")
_NOT_IN_CONLL = re.compile(r"[ \t\r\n]|\A\ufeff|\A-DOCSTART-\Z")

# cp1252 leaves five bytes undefined (81 8d 8f 90 9d); they become the C1 control characters of the same number, as in
# the WHATWG's windows-1252, so that every byte string has a reading.
_CP1252 = "".join(bytes([i]).decode("cp1252", "ignore") or chr(i) for i in range(256))


def is_tag(tag: str) -> bool:
    """Whether ``tag`` is ``O`` or a prefix of IOB, IOBES or BILOU, a hyphen and a printable type."""
    return _TAG.fullmatch(tag) is not None


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str], *, format: str | None = None, encoding: str | None = None) -> list[Sentence]:
    """All sentences of a file, in its order.

    Args:
        path: the file.
        format: one of ``FORMATS``; without it the suffix decides, and for JSON the keys of the first object.
        encoding: a Python text encoding; without it UTF-8, else cp1252.

    Raises:
        InputError: the file cannot be read or is not what the format says; names the 1-based line where there is one.
    """
    path = Path(path)
    text = _text(path, encoding)
    layout = _layout(path, format)
    if layout == "csv":
        sentences = _read_csv(text, path)
    elif layout == "conll":
        sentences = _read_conll(text, path)
    else:
        sentences = _read_json(text, path, layout)
    if not sentences:
        raise InputError("holds no sentence", hint="give a file with at least one annotated sentence", path=path)
    return sentences


def _layout(path: Path, format: str | None) -> str:
    """One of ``FORMATS``, or ``json`` where the first object is still to decide."""
    if format is not None and format not in FORMATS:
        raise InputError(f"unknown format {format!r}", hint=f"choose one of {', '.join(FORMATS)}", path=path)
    layout = format or _SUFFIXES.get(path.suffix.lower())
    if layout is None:
        what = f"the suffix {path.suffix!r} does not tell the format" if path.suffix else "no suffix to tell the format"
        raise InputError(what, hint=f"name it with --format {'|'.join(FORMATS)}", path=path)
    return layout


def _text(path: Path, encoding: str | None) -> str:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(what, hint="give an existing file that you may read", path=path) from None
    for magic, name in _PACKED.items():
        if data.startswith(magic):
            raise InputError(f"is a {name} file, not text", hint="unpack it and give what is inside", path=path)
    text = (_guess(data, path) if encoding is None else _decode(data, path, encoding)).removeprefix("\ufeff")
    if not text.strip():
        raise InputError("is empty", hint="give a file with at least one annotated sentence", path=path)
    if bad := _UNWRITABLE.search(text):
        raise InputError(
            "holds a NUL character" if bad.group() == "\0" else "holds an unpaired surrogate",
            hint="it is not the text that was meant: a binary file, a damaged one or another encoding (see --encoding)",
            path=path,
            line=text.count("\n", 0, bad.start()) + 1,
        )
    return text if "\n" in text else text.replace("\r", "\n")


def _decode(data: bytes, path: Path, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"byte 0x{data[error.start : error.start + 1].hex()} is not {encoding} ({error.reason})"
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(what, hint="name another --encoding, or none to have it found", path=path, line=line) from None
    except (LookupError, ValueError):  # no such codec, one that is not for text, a name with a NUL in it
        hint = "name one that Python knows, such as utf-8, cp1252 or utf-16"
        raise InputError(f"{encoding!r} is no text encoding", hint=hint, path=path) from None


def _guess(data: bytes, path: Path) -> str:
    """UTF-8, else cp1252. A file that is mostly sound UTF-8 is damaged rather than cp1252, and refused."""
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


def _read_csv(text: str, path: Path) -> list[Sentence]:
    # Python's csv module: as fast here as pandas (0.5 s for a million rows, and no import to pay), strict about quotes,
    # and it counts physical lines. newline="\n" keeps every other character, \x85 and lone \r among them, inside words.
    rows = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    previous = ""
    known_words: dict[str, str] = {}  # checked once, and kept as one str object for all copies
    known_tags: dict[str, str] = {}
    end = 0  # the last physical line of the rows so far
    try:
        header = next(rows, [])
        width, cells = len(header), itemgetter(*_columns(header, path))
        end = rows.line_num
        for row in rows:
            line, end = end + 1, rows.line_num
            if len(row) != width:
                if not row:
                    continue
                _refuse_row(row, width, path, line, end)
            number, word, tag = cells(row)
            if word not in known_words:
                known_words[word] = _word(word, path, line)
            if tag not in known_tags:
                known_tags[tag] = _tag(tag, path, line)
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
        hint = "balance its quotes (one inside a quoted field is written twice) and end rows with line feeds"
        raise InputError(what, hint=hint, path=path, line=end + 1) from None
    return sentences


def _columns(header: list[str], path: Path) -> list[int]:
    """Where the columns that are needed stand."""
    if all(header.count(name) == 1 for name in _CSV_COLUMNS):
        return [header.index(name) for name in _CSV_COLUMNS]
    delimiters = {";": "semicolons", "\t": "tabs", "|": "bars"}
    found = next((name for c, name in delimiters.items() if len(header) == 1 and c in header[0]), None)
    if found:
        what, hint = f"columns are parted by {found}, not commas", "save it with commas"
    else:
        absent = ", ".join(repr(name) for name in _CSV_COLUMNS if header.count(name) != 1)
        what, hint = f"the header lacks, or repeats, {absent}", f"start the file with {','.join(_CSV_COLUMNS)}"
    raise InputError(what, hint=hint + ", or name another --format", path=path, line=1)


def _refuse_row(row: list[str], width: int, path: Path, line: int, end: int) -> NoReturn:
    what = f"{len(row)} fields where the header has {width}"
    hint = "give the row one field per column and quote a field that holds a comma"
    if end > line:
        what, hint = f"{what}, in a row that runs on to line {end}", "close the quote that is left open in it"
    raise InputError(what, hint=hint, path=path, line=line)


def _read_conll(text: str, path: Path) -> list[Sentence]:
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    known_words: dict[str, str] = {}
    known_tags: dict[str, str] = {}
    columns, width = re.compile(r"[^ \t]+").findall, 0
    for line, row in enumerate(text.split("\n"), 1):
        row = row.rstrip("\r")
        if "\r" in row:
            raise InputError("a carriage return inside a line", hint="end lines all one way", path=path, line=line)
        fields = columns(row)
        if not fields or fields[0] == "-DOCSTART-":
            words, tags = [], []
            continue
        if len(fields) != width:
            if width or len(fields) == 1:
                wanted = f"{width} as in the lines above" if width else "a word, a space or tab, and a tag"
                _refuse_columns(len(fields), wanted, path, line)
            width = len(fields)
        word, tag = fields[0], fields[-1]
        if word not in known_words:
            known_words[word] = _word(word, path, line)
        if tag not in known_tags:
            known_tags[tag] = _tag(tag, path, line)
        if not words:
            sentences.append(Sentence(words, tags))
        words.append(known_words[word])
        tags.append(known_tags[tag])
    return sentences


def _refuse_columns(found: int, wanted: str, path: Path, line: int) -> NoReturn:
    what = f"{found} column{'s' * (found > 1)}"
    raise InputError(what, hint=f"give the line {wanted}, or name another --format", path=path, line=line)


def _word(word: str, path: Path, line: int) -> str:
    """``word``, or an error where it is none."""
    if fault := _word_fault(word):
        raise InputError(f"a word {fault}", hint="give it a text or delete the row", path=path, line=line)
    return word


def _tag(tag: str, path: Path, line: int) -> str:
    """``tag``, or an error where it is none."""
    if not is_tag(tag):
        raise InputError(f"tag {tag!r} is not {TAG_RULE}", hint="correct it", path=path, line=line)
    return tag


def _word_fault(word: str) -> str:
    if _BLANK.fullmatch(word):
        return "is empty"
    return "holds a NUL or an unpaired surrogate" if _UNWRITABLE.search(word) else ""


def _sentence_fault(words: Sequence[str], tags: Sequence[str]) -> str:
    """What makes these no sentence, or nothing."""
    if not words:
        return "a sentence without words"
    if len(words) != len(tags):
        return f"{len(words)} words but {len(tags)} tags"
    for number, (word, tag) in enumerate(zip(words, tags, strict=True), 1):
        if fault := _word_fault(word):
            return f"word {number} {fault}"
        if not is_tag(tag):
            return f"the tag {tag!r} of word {number} is not {TAG_RULE}"
    return ""


def _read_json(text: str, path: Path, layout: str) -> list[Sentence]:
    """JSON Lines of either kind; ``layout`` is ``jsonl``, ``spans`` or ``json``: as the first object's keys say."""
    sentences: list[Sentence] = []
    for line, record in _objects(text, path):
        if layout == "json":
            layout = "spans" if "text" in record and "tags" not in record else "jsonl"
        if layout == "spans" and record.get("answer", "accept") != "accept":
            continue  # what Prodigy's annotator rejected or skipped is no gold
        try:
            sentence = _from_spans(record) if layout == "spans" else _from_tokens(record)
            fault = _sentence_fault(*sentence)
        except _Unfit as error:
            fault = str(error)
        if fault:
            raise InputError(fault, hint="correct the line or name another --format", path=path, line=line)
        sentences.append(sentence)
    return sentences


class _Unfit(Exception):
    """A JSON object that is not the sentence it should be; the message says why."""


def _objects(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, row in enumerate(text.split("\n"), 1):
        if _BLANK.fullmatch(row):
            continue
        try:
            record = json.loads(row)
        except (ValueError, RecursionError) as error:
            what = f"broken JSON ({getattr(error, 'msg', None) or error})"
            raise InputError(what, hint="write one whole object a line", path=path, line=line) from None
        if not isinstance(record, dict):
            what = f"a JSON {type(record).__name__}, not an object"
            raise InputError(what, hint="write one whole object a line (JSON Lines)", path=path, line=line)
        yield line, record


def _from_tokens(record: dict[str, Any]) -> Sentence:
    words, tags = record.get("tokens"), record.get("tags")
    for key, values in (("tokens", words), ("tags", tags)):
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise _Unfit(f'"{key}" is missing or not a list of strings')
    return Sentence(words, tags)  # type: ignore[arg-type]


def _from_spans(record: dict[str, Any]) -> Sentence:
    """The words of a text, tagged by its spans in IOB2.

    Words are those given (Prodigy's ``tokens``) or found by `tokenize`. A word that a span's edge cuts becomes two
    words, so that every gold entity keeps exactly the extent that its annotator gave it; white space at a span's ends
    is left out of it. Offsets count characters (Unicode code points).
    """
    text = record.get("text")
    if not isinstance(text, str):
        raise _Unfit('"text" is missing or not a string')
    spans = _spans(record, text)
    words = _cut(_given_words(record, text), sorted({edge for start, end, _ in spans for edge in (start, end)}))
    starts = [start for start, _, _ in words]
    tags = ["O"] * len(words)
    for start, end, label in spans:
        first, last = bisect_left(starts, start), bisect_left(starts, end)
        if first == last:
            raise _Unfit(f"the span {start}-{end} covers no word")
        tags[first:last] = [f"B-{label}"] + [f"I-{label}"] * (last - first - 1)
    return Sentence([word for _, _, word in words], tags)


def _spans(record: dict[str, Any], text: str) -> list[tuple[int, int, str]]:
    """``(start, end, label)`` in the text's order, without white space at the ends; they may not overlap."""
    found = next((record[k] for k in ("spans", "entities", "labels", "label") if isinstance(record.get(k), list)), None)
    if found is None and "answer" not in record:  # Prodigy may leave an empty list out
        raise _Unfit('no list "label", "labels", "entities" or "spans"')
    spans = []
    for span in found or []:
        if isinstance(span, dict):
            start, end = (span.get(edge, span.get(f"{edge}_offset")) for edge in ("start", "end"))
            span = [start, end, span.get("label")]
        if not isinstance(span, list) or len(span) != 3 or not isinstance(span[2], str):
            raise _Unfit("a span that is not [start, end, type]")
        start, end = _range(span[0], span[1], text)
        inside = text[start:end]
        spans.append((start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip()), span[2]))
    spans.sort()
    for (_, end, _), (start, _, _) in zip(spans, spans[1:], strict=False):
        if start < end:
            raise _Unfit(f"spans that overlap at character {start}")
    return spans


def _range(start: object, end: object, text: str) -> tuple[int, int]:
    if type(start) is int and type(end) is int and 0 <= start < end <= len(text) and not text[start:end].isspace():
        return start, end
    raise _Unfit(f"the span {start!r}-{end!r} is no part of the text's {len(text)} characters with a word in it")


def _given_words(record: dict[str, Any], text: str) -> list[tuple[str, int, int]]:
    """Prodigy's tokens, without those that are only white space; where there are none, `tokenize`'s words."""
    tokens = record.get("tokens")
    if tokens is None:
        return tokenize(text)
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise _Unfit('"tokens" is not a list of objects with "start" and "end"')
    words = []
    reached = 0
    for token in tokens:
        start, end = token.get("start"), token.get("end")
        if type(start) is not int or type(end) is not int or not reached <= start <= end <= len(text):
            raise _Unfit(f"the token {start!r}-{end!r} is out of order or outside the text")
        reached = end
        if text[start:end].strip():
            words.append((text[start:end], start, end))
    return words


def _cut(words: list[tuple[str, int, int]], edges: list[int]) -> list[tuple[int, int, str]]:
    """``(start, end, word)`` of the words, cut wherever an edge falls inside one."""
    pieces = []
    for word, start, end in words:
        inner = edges[bisect_right(edges, start) : bisect_left(edges, end)]
        for a, b in zip([start, *inner], [*inner, end], strict=True):
            pieces.append((a, b, word[a - start : b - start]))
    return pieces


# --- writing ----------------------------------------------------------------------------------------------------------


def write(path: str | os.PathLike[str], sentences: Iterable[Sentence], *, format: str | None = None) -> None:
    """Write sentences as UTF-8 in ``csv``, ``conll`` or ``jsonl`` (by suffix, or as ``format`` says) or, if it says so, ``spans``.

    Spans are written as Prodigy exports them: the words joined by spaces, their places as ``tokens``, the entities as ``spans``.
    `read` gives back the same sentences. The file appears whole or not at all.

    Raises:
        InputError: the format cannot hold a word (names the sentence), or the file cannot be written.
    """
    path = Path(path)
    layout = {"json": "jsonl"}.get(chosen := _layout(path, format), chosen)
    try:
        with _replacing(path) as file:
            if layout == "csv":
                file.write(",".join(_CSV_COLUMNS) + "\r\n")
            number = 0
            for number, sentence in enumerate(sentences, 1):
                if fault := _sentence_fault(*sentence) or _unholdable(sentence, layout):
                    hint = "correct it or write another format (jsonl holds any word)"
                    raise InputError(f"sentence {number}: {fault}", hint=hint, path=path)
                file.write(_lines(sentence, number, layout))
            if not number:
                raise InputError("no sentence to write", hint="give at least one", path=path)
    except (OSError, ValueError) as error:
        what = f"cannot be written ({getattr(error, 'strerror', None) or error})"
        raise InputError(what, hint="name a file in an existing folder that you may write to", path=path) from error


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A new text file that takes ``path``'s place at the end, unless there was an error."""
    if path.exists() and not path.is_file():
        raise OSError("it is there and not a file")
    target = Path(os.path.realpath(path))  # a link stays one
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            yield file
        os.replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _unholdable(sentence: Sentence, layout: str) -> str:
    """Why this layout cannot hold the sentence, or nothing."""
    if layout == "conll":
        for word, tag in zip(*sentence, strict=True):
            if _NOT_IN_CONLL.search(word) or " " in tag:
                return f"conll cannot hold {word!r} {tag!r} (white space, a -DOCSTART- or a byte order mark)"
    if layout == "csv" and max(map(len, chain(*sentence))) > csv.field_size_limit():
        return f"csv holds words of up to {csv.field_size_limit()} characters"
    if layout == "spans":
        try:
            if _from_spans(_span_record(sentence)) == sentence:
                return ""
        except _Unfit:
            pass
        return "spans hold IOB2 entities only, and no white space at the ends of words"
    return ""


def _span_record(sentence: Sentence) -> dict[str, Any]:
    from ner import scoring  # which needs numpy; this module alone does not

    ends = list(accumulate(len(word) + 1 for word in sentence.words))
    places = [(end - 1 - len(word), end - 1) for word, end in zip(sentence.words, ends, strict=True)]
    tokens = [{"text": w, "start": a, "end": b, "id": i} for i, (w, (a, b)) in enumerate(zip(sentence.words, places, strict=True))]
    entities = [{"start": places[a][0], "end": places[b - 1][1], "label": kind} for kind, a, b in scoring.spans(sentence.tags)]
    return {"text": " ".join(sentence.words), "tokens": tokens, "spans": entities}


def _lines(sentence: Sentence, number: int, layout: str) -> str:
    if layout == "spans":
        return json.dumps(_span_record(sentence), ensure_ascii=False) + "\n"
    if layout == "jsonl":
        return json.dumps({"tokens": sentence.words, "tags": sentence.tags}, ensure_ascii=False) + "\n"
    pairs = zip(*sentence, strict=True)
    if layout == "conll":
        return "".join(f"{word} {tag}\n" for word, tag in pairs) + "\n"
    return f"Sentence: {number}" + "".join(f",{_cell(word)},{_cell(tag)}\r\n" for word, tag in pairs)


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in '",\r\n') else text


# --- words of running text --------------------------------------------------------------------------------------------

# Abbreviations that keep their period inside a sentence; at the end of the text the period ends the sentence.
_ABBREVIATIONS = (
    "Mr Mrs Ms Dr Prof St Gen Lt Col Maj Capt Sgt Brig Adm Rep Sen Gov Pres Rev Hon Jr Sr Corp Inc Co Ltd Bros vs "
    "Jan Feb Mar Apr Jun Jul Aug Sept Sep Oct Nov Dec"
)
# Chinese characters are words of their own, as in BERT's tokenizer (Devlin et al. 2019, multilingual models).
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f\U00030000-\U000323af"


@cache
def _word_pattern() -> re.Pattern[str]:
    # Letters are what is no punctuation, symbol, control character or ideograph: `\w` would cut combining marks off.
    # Beyond the basic plane one range, emoji and other pictures: `re` looks each further range up for every character.
    apart = re.escape("".join(c for c in map(chr, range(0x10000)) if _stands_apart(c))) + "\U0001f000-\U0001faff"
    letter = rf"[^\s{apart}{_IDEOGRAPHS}]"
    end = rf"(?!{letter})"
    clitic = rf"(?:s|d|m|ll|re|ve){end}"
    return re.compile(
        rf"""
          https?://\S*{letter}/? | www\.\S*{letter}/?
        | [\w.+-]{{1,64}}@\w[\w-]{{0,62}}(?:\.\w[\w-]{{0,62}})+ | @\w+
        | \.{{2,}} | -{{2,}}                                                # ... --
        | ['’]\d\ds{end}                                                    # '80s
        | (?i:['’]{clitic} | n['’]t{end})                                   # 's n't
        | (?:{letter}+-)*(?:[^\W\d_]\.){{2,}}(?!-?{letter})                 # U.S. a.m. anti-U.S. but U.S.-led below
        | (?:{_ABBREVIATIONS.replace(" ", "|")})\.(?!["'”’)\]\s]*\Z)        # Mr.
        | No\.(?=\s*\d)
        | [A-HJ-ZÀ-ÖØ-Þ]\.(?=\s+[A-ZÀ-ÖØ-Þ])                                # George W. Bush
        | (?i:can(?=not{end}) | {letter}+(?=n['’]t{end}))                   # can not, do n't
        | {letter}+(?:(?:\.?[-‐‑] | \. | & | (?<=\d)[,:/](?=\d) | ['’](?!(?i:{clitic}))){letter}+)*
        | \S\ufe0f?
        """,
        re.VERBOSE,
    )


def _stands_apart(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "PS" and category != "Pc" or category == "Cc"


def tokenize(text: str) -> list[tuple[str, int, int]]:
    """Words of running text as ``(word, start, end)``, ``text[start:end] == word``, split as GMB is split.

    Punctuation and currency signs stand apart; ``'s``, ``'ll`` and ``n't`` are words; hyphenated words, ``U.S.``,
    ``Mr.``, ``O'Connor``, ``AT&T``, ``3.5``, ``1,000``, ``1990s`` and addresses are whole; ``cannot`` is ``can not``,
    ``HIV/AIDS`` three words. ``U.S.`` at the end of a sentence keeps its period, which is then not a word of its own.
    (GMB glued together by simple rules and split again gives 99.8 % of its sentences back, 99.98 % of its words.)
    Every character that is not white space belongs to exactly one word.
    """
    return [(match.group(), *match.span()) for match in _word_pattern().finditer(text)]


def pre_split(text: str) -> list[tuple[str, int, int]]:
    """Words as white space parts them, with the same offsets as `tokenize`: for text that is split already."""
    return [(match.group(), *match.span()) for match in re.finditer(r"\S+", text)]


# --- sets of sentences ------------------------------------------------------------------------------------------------


def split(
    sentences: Iterable[Sentence], *, seed: int, fractions: Sequence[float] = (0.8, 0.1, 0.1), path: str | None = None
) -> dict[str, list[Sentence]]:
    """Sentences parted into ``train``, ``validation`` and ``test``, each in the order given.

    Where a sentence goes depends on the seed and its words alone (a hash keyed by the seed), so copies of a sentence
    stay together, sentences added later move none, and every machine gets the same split.

    Args:
        sentences: what to part.
        seed: chooses the split.
        fractions: expected shares of train, validation and test; they are above 0 and sum to 1.
        path: the file they came from, for messages.

    Raises:
        InputError: the fractions are not such, or a split would be empty.
    """
    if len(fractions) != 3 or not all(f > 0 for f in fractions) or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        given = ", ".join(map(str, fractions))
        raise InputError(f"split fractions {given}", hint="give three numbers above 0 that sum to 1")
    parts: dict[str, list[Sentence]] = {name: [] for name in SPLITS}
    key = str(seed).encode()
    for sentence in sentences:
        text = "\0".join(sentence.words).encode("utf-8", "surrogatepass")
        share = int.from_bytes(hashlib.blake2b(text, digest_size=8, key=key).digest(), "big") / 2**64
        part = 0 if share < fractions[0] else 1 if share < fractions[0] + fractions[1] else 2
        parts[SPLITS[part]].append(sentence)
    for name, part_sentences in parts.items():
        if not part_sentences:
            total = sum(map(len, parts.values()))
            hint = "use more sentences, other fractions or a file for each split"
            raise InputError(f"no sentence of {total} falls to the {name} split", hint=hint, path=path)
    return parts


def content_hash(sentences: Iterable[Sentence]) -> str:
    """BLAKE2b-128 in hex over all words and tags, framed as JSON; says whether two corpora are the same."""
    return hashlib.blake2b(json.dumps(list(sentences)).encode(), digest_size=16).hexdigest()


def conflicts(sentences: Iterable[Sentence]) -> int:
    """How many distinct sentences occur more than once with different tags."""
    seen: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for words, tags in sentences:
        seen.setdefault(tuple(words), set()).add(tuple(tags))
    return sum(len(taggings) > 1 for taggings in seen.values())
