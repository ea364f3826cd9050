"""Files of annotated sentences: reading and writing each format.

Five formats are known:

- ``csv``: as the Groningen Meaning Bank (GMB) is distributed. The columns ``Sentence #``, ``Word`` and ``Tag`` are found by name; others
  (``POS``) are ignored. The id of a sentence may stand on its first row only or on all its rows: a non-empty id that differs from the cell
  above it starts a sentence.
- ``conll``: one word per line, columns separated by ASCII spaces or tabs, the word first, the tag last unless said otherwise. A blank
  line ends a sentence; see ner/conll.py.
- ``jsonl``: one sentence per line: ``{"tokens": ["Kofi", ...], "tags": ["B-per", ...]}``.
- ``spans``: one text per line with the character spans of its entities, as Doccano and Prodigy export them; see ner/spans.py.
- ``parquet``: the only one that is not text; see ner/parquet.py.

A sentence's document is the column (csv) or key (jsonl, spans) ``document_id`` or ``doc_id``; conll has lines of its own for documents. A
file whose name ends in ``.gz`` is packed by gzip.

To add a text format, write a function that reads it and one that writes it, and add a line to ``FORMATS`` at the end of this file.
For ``check.py --apply`` it also needs a function in ``_EDITS`` of ner/retag.py.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NoReturn

from ner import conll, files, parquet, spans
from ner.errors import InputError
from ner.sentences import FORBIDDEN, MANY, InvalidSentence, Sentence, all_or_none, check, interned, valid_tag, valid_word

Lines = Iterable[str]
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"} | dict.fromkeys(
    (".conll", ".conll03", ".conllu", ".conllup", ".txt", ".tsv", ".bio", ".iob", ".iob1", ".iob2", ".bioes", ".iobes", ".bilou"), "conll"
)

_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}  # by their first bytes
_ROWS_INSIDE = re.compile("\n.*,", re.DOTALL)  # a word that swallowed rows: a " that was to be a word opened it
_CSV_COLUMNS = ("Sentence #", "Word", "Tag")
_DOCUMENT = ("document_id", "doc_id")  # the names of the csv column and the JSON key

CHUNK = 2**20  # characters that are read at a time

# cp1252 leaves five bytes undefined (81 8d 8f 90 9d). They become the C1 control characters of the same number, as in the WHATWG's
# windows-1252, so that every byte string can be read.
C1 = "ner-cp1252"


def _undefined(error: UnicodeError) -> tuple[str | bytes, int]:
    """The error handler ``C1``, of both ways."""
    if isinstance(error, UnicodeDecodeError):
        return chr(error.object[error.start]), error.start + 1
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] in "\x81\x8d\x8f\x90\x9d":
        return error.object[error.start].encode("latin-1"), error.start + 1
    raise error


codecs.register_error(C1, _undefined)


def read(path: str | os.PathLike[str], **options: Any) -> list[Sentence]:
    """All sentences of a file, in its order: `stream` as a list, with its arguments."""
    return list(stream(path, **options))


def stream(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    encoding: str | None = None,
    documents: str = "marked",
    word_column: int | None = None,
    tag_column: int | None = None,
    tag_names: Sequence[str] = (),
    say: Callable[[str], object] = lambda note: None,
) -> Iterator[Sentence]:
    """The sentences of a file, in its order, one by one: memory does not hold the file.

    Args:
        path: the file.
        format: one of ``NAMES``. Without it, the suffix decides; for JSON, the keys of the first object tell ``jsonl`` from ``spans``.
        encoding: a Python text encoding. Without it, UTF-8, or else cp1252. Parquet needs none.
        documents: ``marked``: the documents are those that the file marks; ``file``: the whole file is one document.
        word_column, tag_column: of ``conll``, from 1. Without them, the first and the last.
        tag_names: the tags that the numbers in a Parquet file stand for, if the file does not name them itself.
        say: is told if the encoding was guessed.

    Raises:
        InputError: the file cannot be read or is not valid in its format. Names the 1-based line where there is one.
    """
    path = Path(path)
    if (format or SUFFIXES.get(suffix_of(path))) == "parquet":
        if word_column or tag_column:
            _refuse_column_flags("parquet", path)
        sentences = parquet.read(path, tag_names)
    else:
        text, name = text_of(path, format, encoding)
        if encoding is None and text.encoding != "utf-8":
            say(f"not UTF-8, so read as {text.encoding}; --encoding names another")
        sentences = _read_text(text, name, path, word_column, tag_column)
    empty = True
    for sentence in sentences:
        yield sentence._replace(document="1") if documents == "file" else sentence
        empty = False
    if empty:
        raise InputError("holds no sentence", hint="give a file with at least one annotated sentence", path=path)


def _read_text(text: Text, name: str, path: Path, word_column: int | None, tag_column: int | None) -> Iterator[Sentence]:
    if name == "conll":
        return conll.read(text, path, word_column, tag_column)
    if word_column or tag_column:
        _refuse_column_flags(name, path)
    return FORMATS[name][0](text, path)


def text_of(path: Path, format: str | None, encoding: str | None) -> tuple[Text, str]:
    """The text of a file that is not Parquet, and the name of its format."""
    text = Text(path, encoding)
    name = _format_of(path, format)
    if format is None and name == "jsonl" and spans.is_record(next(objects(text, path))[1]):
        name = "spans"
    return text, name


def _refuse_column_flags(name: str, path: Path) -> NoReturn:
    hint = "leave them out, or give --format conll"
    raise InputError(f"--word-column and --tag-column are for conll, and this is {name}", hint=hint, path=path)


def is_known(path: Path) -> bool:
    """Whether a file's suffix tells its format."""
    return suffix_of(path) in SUFFIXES


def write(path: str | os.PathLike[str], sentences: Iterable[Sentence], *, format: str | None = None) -> None:
    """Write sentences as UTF-8, in the format named or else that of the suffix. `read` gives the same sentences back.

    The file is replaced whole or, after an error, not at all.

    Raises:
        InputError: a sentence is not valid or the format cannot hold it (names the sentence), the file cannot be written, or it is to be
            Parquet, which is only read.
    """
    path = Path(path)
    name = _format_of(path, format)
    if name == "parquet":
        raise InputError("Parquet is read, not written", hint="write jsonl, which holds any word", path=path)
    _, text_of = FORMATS[name]
    hint = "name a file in an existing folder that you may write to"
    if not path.parent.is_dir():
        raise InputError(f"cannot be written (no such folder: {path.parent})", hint=hint, path=path)
    try:
        with files.replacing(path) as replacing, packing(replacing, path) as file:
            number, before = 0, None
            for number, sentence in enumerate(sentences, 1):
                file.write(_checked_text(sentence, number, before, text_of, path).encode())
                before = sentence.document
            if not number:
                raise InputError("no sentence to write", hint="give at least one", path=path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be written ({getattr(error, 'strerror', None) or error})", hint=hint, path=path) from error


def packing(file: BinaryIO, path: Path) -> contextlib.AbstractContextManager[Any]:
    """The file to write to, whose bytes reach ``file`` packed where the path's name says so."""
    # The same sentences give the same bytes: neither a name nor a time is kept.
    return gzip.GzipFile("", "wb", fileobj=file, mtime=0) if is_gzip(path) else contextlib.nullcontext(file)


def _checked_text(sentence: Sentence, number: int, before: str | None, text_of: Write, path: Path) -> str:
    try:
        check(sentence)
        return text_of(sentence, number, before)
    except InvalidSentence as error:
        hint = "correct it or write another format (jsonl holds any word)"
        raise InputError(f"sentence {number}: {error}", hint=hint, path=path) from None


def _format_of(path: Path, format: str | None) -> str:
    """The format named or, without a name, that of the file's suffix."""
    if format is not None and format not in NAMES:
        raise InputError(f"unknown format {format!r}", hint=f"choose one of {', '.join(NAMES)}", path=path)
    suffix = suffix_of(path)
    name = format or SUFFIXES.get(suffix)
    if name is None:
        what = f"the suffix {suffix!r} does not tell the format" if suffix else "no suffix to tell the format"
        raise InputError(what, hint=f"save it in one of these formats and name it: --format {'|'.join(NAMES)}", path=path)
    return name


def suffix_of(path: Path) -> str:
    """The suffix in small letters; of a file packed by gzip, the one before ``.gz``."""
    return (path.with_suffix("") if is_gzip(path) else path).suffix.lower()


def is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


# --- bytes -> text ----------------------------------------------------------------------------------------------------


class Text:
    """The text of a file, which is checked as a whole and then read line by line, each time anew: memory holds a piece of it.

    It is not empty and has no byte order mark. If its lines end with carriage returns alone, they become line feeds.
    """

    def __init__(self, path: Path, encoding: str | None):
        """Raises InputError if the file cannot be read or is not text. A pipe is read into memory, because it can be read once only."""
        self.path = path
        self.source: Path | bytes = path
        self.decoded: str | None = None  # where it cannot be read line by line
        try:
            if not path.is_file():
                self.source = path.read_bytes()
            with self._bytes() as file:
                start = file.read(8)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._refuse_gzip(error)
        except (OSError, ValueError) as error:
            what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
            raise InputError(what, hint="give an existing file that you may read", path=path) from None
        for magic, name in _PACKED.items():
            if start.startswith(magic):
                hint = "unpack it and give the file inside" + (", or add .gz to its name" if name == "gzip" else "")
                raise InputError(f"is a {name} file, not text", hint=hint, path=path)
        try:
            self._set_encoding(encoding, start)
        except (OSError, EOFError, zlib.error) as error:
            self._refuse_gzip(error)

    def __iter__(self) -> Iterator[str]:
        """The lines, each with its line feed, which the last one may lack."""
        with self._open(self.newline) as file:
            yield next(file, "").removeprefix("\ufeff")
            yield from file

    def _bytes(self) -> Any:
        source = self.source if isinstance(self.source, Path) else io.BytesIO(self.source)
        return gzip.open(source) if is_gzip(self.path) else source.open("rb") if isinstance(source, Path) else source

    def _open(self, newline: str | None = "\n") -> io.TextIOBase:
        """newline: what ends a line (of io.TextIOWrapper)."""
        if self.decoded is not None:
            return io.StringIO(self.decoded, newline=newline)
        return io.TextIOWrapper(self._bytes(), self.encoding, self.errors, newline)

    def _refuse_gzip(self, error: Exception) -> NoReturn:
        hint = "fetch it again, or give the unpacked file"
        raise InputError(f"is not a whole gzip file ({error})", hint=hint, path=self.path) from None

    def _set_encoding(self, encoding: str | None, start: bytes) -> None:
        """Find the encoding, and read the whole text once."""
        self.encoding, self.errors = encoding or "utf-8", "strict"
        try:
            self._check()
        except InputError:
            raise
        except UnicodeError:
            if encoding is None:
                self._guess(start)
            else:  # what is read at once may be valid all the same: UTF-16 without a byte order mark
                self.decoded = _decode(self.content(), self.path, encoding)
            self._check()
        except (LookupError, ValueError):  # an unknown codec, one that is not for text, or a name with a NUL in it
            hint = "name one that Python knows, such as utf-8, cp1252 or utf-16"
            raise InputError(f"{encoding!r} is not a text encoding", hint=hint, path=self.path) from None

    def _check(self) -> None:
        """Read the whole text: whether there is any, and a line feed in it."""
        line, empty, fed, bad = 1, True, False, None
        with self._open() as file:
            chunk = file.read(1).removeprefix("\ufeff") + file.read(CHUNK)
            while chunk:
                if bad is None and (found := FORBIDDEN.search(chunk)):  # said at the end: a wrong encoding goes before
                    bad = found.group(), line + chunk.count("\n", 0, found.start())
                feeds = chunk.count("\n")
                line, empty, fed = line + feeds, empty and not chunk.strip(), fed or feeds > 0
                chunk = file.read(CHUNK)
        if empty:
            raise InputError("is empty", hint="give a file with at least one annotated sentence", path=self.path)
        if bad:
            what = "holds a NUL character" if bad[0] == "\0" else "holds an unpaired surrogate"
            hint = "the file may be binary, damaged or in another encoding (see --encoding)"
            raise InputError(what, hint=hint, path=self.path, line=bad[1])
        self.newline = "\n" if fed else None

    def _guess(self, start: bytes) -> None:
        """cp1252, as it is not UTF-8. A file that is mostly valid UTF-8 is refused: it is damaged UTF-8 rather than cp1252."""
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError("is UTF-16 text", hint="save it as UTF-8 or give --encoding utf-16", path=self.path)
        self.errors, damaged, valid = "replace", 0, 0
        with self._open() as file:
            while chunk := file.read(CHUNK):
                damaged += chunk.count("\ufffd")
                valid += len(re.findall(r"[^\x00-\x7f\ufffd]", chunk))
        if valid > damaged:
            data = self.content()
            try:
                data.decode()
            except UnicodeDecodeError as error:
                what = f"byte 0x{data[error.start]:02x} breaks a file that is otherwise UTF-8"
                line = data.count(b"\n", 0, error.start) + 1
                raise InputError(what, hint="repair it or name its --encoding", path=self.path, line=line) from None
        self.encoding, self.errors = "cp1252", C1

    def content(self) -> bytes:
        """The bytes of the file, unpacked."""
        with self._bytes() as file:
            return file.read()


def _decode(data: bytes, path: Path, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"byte 0x{data[error.start : error.start + 1].hex()} is not valid in {encoding} ({error.reason})"
        line = data.count(b"\n", 0, error.start) + 1
        hint = "name another --encoding, or none to have it detected"
        raise InputError(what, hint=hint, path=path, line=line) from None


# --- csv: a word per row ----------------------------------------------------------------------------------------------


def read_csv(text: Lines, path: Path, places: list[tuple[int, int, int]] | None = None) -> Iterator[Sentence]:
    """``places`` is given where each word's tag is: the first and the last line of its row, from 1, and its column, from 0."""
    # Python's csv module is as fast here as pandas (0.5 s for a million rows), strict about quotes, and it counts physical lines.
    # A line ends with \n: every other character, \x85 and a lone \r among them, stays inside words.
    rows = csv.reader(text, strict=True)
    sentence: Sentence | None = None
    words: list[str] = []
    tags: list[str] = []
    previous = document = ""
    known_words: dict[str, str] = {}  # checked once; all copies of a word share one str object
    known_tags: dict[str, str] = {}
    end = 0  # the last physical line of the rows so far
    try:
        header = next(rows, [])
        columns = _columns(header, path)
        width, tag_at, cells = len(header), columns[2], itemgetter(*columns)
        document_at = _document_column(header, path)
        end = rows.line_num
        for row in rows:
            line, end = end + 1, rows.line_num
            if not row:
                continue
            if len(row) != width:
                _refuse_row(row, width, path, line, end)
            number, word, tag = cells(row)
            if word not in known_words:
                if len(known_words) >= MANY:
                    known_words = {}
                if _ROWS_INSIDE.search(word):
                    hint = 'write the word " as """"'
                    raise InputError("a quote opens a word that goes over several rows", hint=hint, path=path, line=line)
                known_words[word] = valid_word(word, path, line)
            if tag not in known_tags:
                known_tags[tag] = valid_tag(tag, path, line)
            starts = number and number != previous
            if document_at is not None:
                named = row[document_at]
                starts = starts or number and named and named != document  # ids that start again in each document
                document = _csv_document(named, document, bool(starts), path, line)
            if starts:
                if sentence:
                    yield sentence
                words, tags = [], []
                sentence = Sentence(words, tags, document)
            elif not sentence:
                hint = "fill 'Sentence #' on the first row of every sentence"
                raise InputError("the first row has no sentence id", hint=hint, path=path, line=line)
            previous = number
            words.append(known_words[word])
            tags.append(known_tags[tag])
            if places is not None:
                places.append((line, end, tag_at))
    except csv.Error as error:
        what = f"a row that is not CSV ({str(error).partition(' - ')[0]})"
        hint = "balance its quotes (write a quote inside a quoted field twice) and end rows with line feeds"
        raise InputError(what, hint=hint, path=path, line=end + 1) from None
    if sentence:
        yield sentence


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


def _document_column(header: list[str], path: Path) -> int | None:
    """The position of the column with the documents, if there is one."""
    found = [position for position, name in enumerate(header) if name in _DOCUMENT]
    if len(found) > 1:
        raise InputError("more than one column for documents", hint=f"keep one {' or '.join(_DOCUMENT)}", path=path, line=1)
    return found[0] if found else None


def _csv_document(named: str, before: str, starts: bool, path: Path, line: int) -> str:
    """The document of a row in which ``named`` stands, below a row of the document ``before``. A sentence's other rows may repeat it."""
    if starts and not named:
        hint = "fill in the document on the first row of every sentence, or delete the column"
        raise InputError("a sentence without a document", hint=hint, path=path, line=line)
    if not starts and named and named != before:
        hint = "give each document's sentences ids of their own"
        raise InputError(f"a sentence of two documents, {before!r} and {named!r}", hint=hint, path=path, line=line)
    return sys.intern(named or before)


def _refuse_row(row: list[str], width: int, path: Path, line: int, end: int) -> NoReturn:
    what = f"{len(row)} fields where the header has {width}"
    hint = "give the row one field per column and quote a field that holds a comma"
    if end > line:
        what, hint = f"{what}, in a row that continues to line {end}", "close the quote that is left open in it"
    raise InputError(what, hint=hint, path=path, line=line)


def _csv_rows(sentence: Sentence, number: int, before: str | None) -> str:
    all_or_none(sentence, before)
    if any(map(_ROWS_INSIDE.search, sentence.words)):
        raise InvalidSentence("csv cannot hold a word with a line feed and a comma behind it")
    if max(map(len, chain(sentence.words, sentence.tags, [sentence.document]))) > csv.field_size_limit():
        raise InvalidSentence(f"csv holds words of up to {csv.field_size_limit()} characters")
    columns = (*_CSV_COLUMNS, _DOCUMENT[0]) if sentence.document else _CSV_COLUMNS
    header = ",".join(columns) + "\r\n" if number == 1 else ""
    # The document stands on the first row of the sentence.
    ends = chain([f",{csv_cell(sentence.document)}"], repeat(",")) if sentence.document else repeat("")
    pairs = zip(sentence.words, sentence.tags, strict=True)
    rows = (f",{csv_cell(word)},{csv_cell(tag)}{end}\r\n" for (word, tag), end in zip(pairs, ends, strict=False))
    return f"{header}Sentence: {number}" + "".join(rows)


def csv_cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in '",\r\n') else text


# --- jsonl and spans: a JSON object per line --------------------------------------------------------------------------


def objects(text: Lines, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON object of each line that is not blank, with the 1-based number of the line."""
    for line, row in enumerate(text, 1):
        row = row.removesuffix("\n")
        if not row.strip(" \t\r"):
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


def _read_jsonl(text: Lines, path: Path) -> Iterator[Sentence]:
    return (_sentence(_from_tokens, record, path, line) for line, record in objects(text, path))


def _read_spans(text: Lines, path: Path) -> Iterator[Sentence]:
    return (_sentence(spans.from_record, record, path, line) for line, record in objects(text, path) if spans.is_accepted(record))


def _sentence(convert: Callable[[dict[str, Any]], Sentence], record: dict[str, Any], path: Path, line: int) -> Sentence:
    try:
        sentence = convert(record)
        document = _named_document(record)
        if document is not None:
            sentence = sentence._replace(document=document)
        check(sentence)
    except InvalidSentence as error:
        raise InputError(str(error), hint="correct the line or name another --format", path=path, line=line) from None
    return interned(sentence)


def _named_document(record: dict[str, Any]) -> str | None:
    """The document that a record names: "" (not known) for null, None where it names none."""
    values = [record[name] for name in _DOCUMENT if name in record]
    if not values:
        return None
    if len(values) > 1:
        raise InvalidSentence(f'both "{_DOCUMENT[0]}" and "{_DOCUMENT[1]}"')
    if type(values[0]) not in (str, int, type(None)):
        raise InvalidSentence("the document's id is not a string, a whole number or null")
    return "" if values[0] is None else str(values[0])


def _from_tokens(record: dict[str, Any]) -> Sentence:
    for key in ("tokens", "tags"):
        values = record.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise InvalidSentence(f'"{key}" is missing or not a list of strings')
    return Sentence(record["tokens"], record["tags"])


def _jsonl_line(sentence: Sentence, number: int, before: str | None) -> str:
    document = {_DOCUMENT[0]: sentence.document} if sentence.document else {}
    return json.dumps({"tokens": sentence.words, "tags": sentence.tags, **document}, ensure_ascii=False) + "\n"


def _spans_line(sentence: Sentence, number: int, before: str | None) -> str:
    # null: without the key the text would be a document of its own
    return json.dumps({**spans.to_record(sentence), _DOCUMENT[0]: sentence.document or None}, ensure_ascii=False) + "\n"


# A format's functions. The first: (lines of a file, path) -> its sentences; the lines can be read several times. The
# second: (sentence, its number from 1, the document of the sentence before it or None) -> its text, or InvalidSentence if it
# cannot be held.
Read = Callable[[Lines, Path], Iterator[Sentence]]
Write = Callable[[Sentence, int, str | None], str]
FORMATS: dict[str, tuple[Read, Write]] = {
    "csv": (read_csv, _csv_rows),
    "conll": (conll.read, conll.lines),
    "jsonl": (_read_jsonl, _jsonl_line),
    "spans": (_read_spans, _spans_line),
}
Documents = Literal["marked", "file"]  # the choices of --documents
NAMES = (*FORMATS, "parquet")
if TYPE_CHECKING:
    Format = str
else:
    Format = Literal[NAMES]  # the choices of --format
