"""Files of annotated sentences: reading and writing each format.

Five formats are known:

- ``csv``: one word per row, as the Groningen Meaning Bank (GMB) is distributed; see ner/gmb_csv.py.
- ``conll``: one word per line, columns separated by ASCII spaces or tabs, the word first, the tag last unless said otherwise. A blank
  line ends a sentence; see ner/conll.py.
- ``jsonl``: one sentence per line: ``{"tokens": ["Kofi", ...], "tags": ["B-per", ...]}``.
- ``spans``: one text per line with the character spans of its entities, as Doccano and Prodigy export them; see ner/spans.py.
- ``parquet``: the only one that is not text; see ner/parquet.py.

A sentence's document is the column (csv) or key (jsonl, spans) ``document_id`` or ``doc_id``; conll has lines of its own for documents. A
file whose name ends in ``.gz`` is packed by gzip; see ner/text.py.

To add a text format, write a function that reads it and one that writes it, as in ner/conll.py. Add a line to ``FORMATS``, at the end of
this file, and its suffix to ``SUFFIXES``. For ``check.py --apply`` it also needs a function in ``_EDITS`` of ner/retag.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ner import conll, files, gmb_csv, parquet, spans
from ner.errors import InputError
from ner.sentences import DOCUMENT, InvalidSentence, Sentence, check, interned
from ner.text import Lines, Text, packing, suffix_of

SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"} | dict.fromkeys(
    (".conll", ".conll03", ".conllu", ".conllup", ".txt", ".tsv", ".bio", ".iob", ".iob1", ".iob2", ".bioes", ".iobes", ".bilou"), "conll"
)


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
    if named_format(path, format) == "parquet":
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


def named_format(path: Path, format: str | None) -> str | None:
    """The format named or, without a name, that of the file's suffix; None if it tells none."""
    return format or SUFFIXES.get(suffix_of(path))


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
    _, written = FORMATS[name]
    hint = "name a file in an existing folder that you may write to"
    if not path.parent.is_dir():
        raise InputError(f"cannot be written (no such folder: {path.parent})", hint=hint, path=path)
    try:
        with files.replacing(path) as replacing, packing(replacing, path) as file:
            number, before = 0, None
            for number, sentence in enumerate(sentences, 1):
                file.write(_checked_text(sentence, number, before, written, path).encode())
                before = sentence.document
            if not number:
                raise InputError("no sentence to write", hint="give at least one", path=path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be written ({getattr(error, 'strerror', None) or error})", hint=hint, path=path) from error


def _checked_text(sentence: Sentence, number: int, before: str | None, written: Write, path: Path) -> str:
    try:
        check(sentence)
        return written(sentence, number, before)
    except InvalidSentence as error:
        hint = "correct it or write another format (jsonl holds any word)"
        raise InputError(f"sentence {number}: {error}", hint=hint, path=path) from None


def _format_of(path: Path, format: str | None) -> str:
    """``named_format``; refused where it is unknown."""
    if format is not None and format not in NAMES:
        raise InputError(f"unknown format {format!r}", hint=f"choose one of {', '.join(NAMES)}", path=path)
    suffix = suffix_of(path)
    name = named_format(path, format)
    if name is None:
        what = f"the suffix {suffix!r} does not tell the format" if suffix else "no suffix to tell the format"
        raise InputError(what, hint=f"save it in one of these formats and name it: --format {'|'.join(NAMES)}", path=path)
    return name


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
    values = [record[name] for name in DOCUMENT if name in record]
    if not values:
        return None
    if len(values) > 1:
        raise InvalidSentence(f'both "{DOCUMENT[0]}" and "{DOCUMENT[1]}"')
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
    document = {DOCUMENT[0]: sentence.document} if sentence.document else {}
    return json.dumps({"tokens": sentence.words, "tags": sentence.tags, **document}, ensure_ascii=False) + "\n"


def _spans_line(sentence: Sentence, number: int, before: str | None) -> str:
    # null: without the key the text would be a document of its own
    return json.dumps({**spans.to_record(sentence), DOCUMENT[0]: sentence.document or None}, ensure_ascii=False) + "\n"


# A format's functions. The first: (lines of a file, path) -> its sentences; the lines can be read several times. The
# second: (sentence, its number from 1, the document of the sentence before it or None) -> its text, or InvalidSentence if it
# cannot be held.
Read = Callable[[Lines, Path], Iterator[Sentence]]
Write = Callable[[Sentence, int, str | None], str]
FORMATS: dict[str, tuple[Read, Write]] = {
    "csv": (gmb_csv.read, gmb_csv.lines),
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
