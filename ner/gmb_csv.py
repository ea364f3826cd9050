"""CSV as the Groningen Meaning Bank (GMB) is distributed: one word per row.

The columns ``Sentence #``, ``Word`` and ``Tag`` and, if there is one, ``document_id`` or ``doc_id`` are found by name; others (``POS``) are
ignored. The id of a sentence may stand on its first row only or on all its rows: a non-empty id that differs from the cell above it starts
a sentence.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from itertools import chain, repeat
from operator import itemgetter
from pathlib import Path
from typing import NoReturn

from ner.errors import InputError
from ner.sentences import DOCUMENT, InvalidSentence, Known, Sentence, all_or_none, valid_tag, valid_word
from ner.text import Lines

COLUMNS = ("Sentence #", "Word", "Tag")

_ROWS_INSIDE = re.compile("\n.*,", re.DOTALL)  # a word that swallowed rows: a " that was to be a word opened it


def read(text: Lines, path: Path, places: list[tuple[int, int, int]] | None = None) -> Iterator[Sentence]:
    """The sentences of a CSV text.

    places: is filled with where each word's tag is: the first and the last line of its row, from 1, and its column, from 0.

    Raises InputError with the line of a row that is not valid; ``path`` is the file that the message names.
    """
    # Python's csv module is as fast here as pandas (0.5 s for a million rows), strict about quotes, and it counts physical lines.
    # A line ends with \n: every other character, \x85 and a lone \r among them, stays inside words.
    reader = csv.reader(text, strict=True)
    sentence: Sentence | None = None
    words: list[str] = []
    tags: list[str] = []
    previous = document = ""
    line = end = 0  # the first and the last physical line of a row
    known_words = Known(lambda word: _checked_word(word, path, line))
    known_tags = Known(lambda tag: valid_tag(tag, path, line))
    try:
        header = next(reader, [])
        columns = _columns(header, path)
        width, tag_at, cells = len(header), columns[2], itemgetter(*columns)
        document_at = _document_column(header, path)
        end = reader.line_num
        for row in reader:
            line, end = end + 1, reader.line_num
            if not row:
                continue
            if len(row) != width:
                _refuse_row(row, width, path, line, end)
            number, word, tag = cells(row)
            word, tag = known_words[word], known_tags[tag]
            starts = number and number != previous
            if document_at is not None:
                named = row[document_at]
                starts = starts or number and named and named != document  # ids that start again in each document
                document = _document_of(named, document, bool(starts), path, line)
            if starts:
                if sentence:
                    yield sentence
                words, tags = [], []
                sentence = Sentence(words, tags, document)
            elif not sentence:
                hint = "fill 'Sentence #' on the first row of every sentence"
                raise InputError("the first row has no sentence id", hint=hint, path=path, line=line)
            previous = number
            words.append(word)
            tags.append(tag)
            if places is not None:
                places.append((line, end, tag_at))
    except csv.Error as error:
        what = f"a row that is not CSV ({str(error).partition(' - ')[0]})"
        hint = "balance its quotes (write a quote inside a quoted field twice) and end rows with line feeds"
        raise InputError(what, hint=hint, path=path, line=end + 1) from None
    if sentence:
        yield sentence


def _checked_word(word: str, path: Path, line: int) -> str:
    if _ROWS_INSIDE.search(word):
        hint = 'write the word " as """"'
        raise InputError("a quote opens a word that goes over several rows", hint=hint, path=path, line=line)
    return valid_word(word, path, line)


def _columns(header: list[str], path: Path) -> list[int]:
    """The positions of the columns that are needed."""
    if all(header.count(name) == 1 for name in COLUMNS):
        return [header.index(name) for name in COLUMNS]
    delimiters = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
    found = next((name for c, name in delimiters.items() if len(header) == 1 and c in header[0]), None)
    if found:
        what, hint = f"columns are separated by {found}, not commas", "save it with commas"
    else:
        absent = ", ".join(repr(name) for name in COLUMNS if header.count(name) != 1)
        what, hint = f"the header lacks, or repeats, {absent}", f"start the file with {','.join(COLUMNS)}"
    raise InputError(what, hint=hint + ", or name another --format", path=path, line=1)


def _document_column(header: list[str], path: Path) -> int | None:
    """The position of the column with the documents, if there is one."""
    found = [position for position, name in enumerate(header) if name in DOCUMENT]
    if len(found) > 1:
        raise InputError("more than one column for documents", hint=f"keep one {' or '.join(DOCUMENT)}", path=path, line=1)
    return found[0] if found else None


def _document_of(named: str, before: str, starts: bool, path: Path, line: int) -> str:
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


def lines(sentence: Sentence, number: int, before: str | None) -> str:
    """The rows of a sentence, before the first one the header. Raises InvalidSentence where ``read`` would not give it back."""
    all_or_none(sentence, before)
    if any(map(_ROWS_INSIDE.search, sentence.words)):
        raise InvalidSentence("csv cannot hold a word with a line feed and a comma behind it")
    if max(map(len, chain(sentence.words, sentence.tags, [sentence.document]))) > csv.field_size_limit():
        raise InvalidSentence(f"csv holds words of up to {csv.field_size_limit()} characters")
    columns = (*COLUMNS, DOCUMENT[0]) if sentence.document else COLUMNS
    header = ",".join(columns) + "\r\n" if number == 1 else ""
    # The document stands on the first row of the sentence.
    ends = chain([f",{cell(sentence.document)}"], repeat(",")) if sentence.document else repeat("")
    pairs = zip(sentence.words, sentence.tags, strict=True)
    rows = (f",{cell(word)},{cell(tag)}{end}\r\n" for (word, tag), end in zip(pairs, ends, strict=False))
    return f"{header}Sentence: {number}" + "".join(rows)


def cell(text: str) -> str:
    """A field, quoted where CSV needs it."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in '",\r\n') else text
