"""The ``conll`` format: one word per line, its tag in another column. Columns are separated by ASCII spaces or tabs.

A blank line ends a sentence. A ``-DOCSTART-`` line, or CoNLL-U's comment ``# newdoc``, starts a document. It may name it:
``-DOCSTART- (ID)`` or ``# newdoc id = ID``. Comments are left out (see `_is_comment`), and CoNLL-U's lines that are no words (`_is_extra`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import NoReturn

from ner.errors import InputError
from ner.sentences import InvalidSentence, Known, Sentence, all_or_none, is_tag, valid_tag, valid_word
from ner.text import Lines

_ID = re.compile(r"-DOCSTART-[ \t]+\((.+)\)|#[ \t]+newdoc[ \t]+id[ \t]*=[ \t]*(.+)")
_NOT_A_WORD = re.compile(r"[ \t\r\n]|\A\ufeff|\A-DOCSTART-\Z")
_MULTIWORD = re.compile(r"(\d+)-\d+")
_EMPTY_NODE = re.compile(r"\d+\.\d+")
_columns = re.compile(r"[^ \t]+").findall


def read(
    text: Lines,
    path: Path,
    word_column: int | None = None,
    tag_column: int | None = None,
    places: list[tuple[int, int]] | None = None,
) -> Iterator[Sentence]:
    """The sentences of a text. ``word_column`` and ``tag_column`` count from 1; None is the first and the last column. ``places`` is given
    where each word's tag is: its line, from 1, and its column, from 0.

    A document without an id gets its number, from 1. Sentences before the first start of a document are document 0.

    Args:
        text: the lines, as often as they are asked for.

    Raises:
        InputError: a line is not valid. ``path`` is the file that the message names.
    """
    columns = word_column, tag_column
    likely = any(row.startswith(("-DOCSTART-", "#", " ", "\t")) for row in text)
    marked = likely and any(isinstance(item, str) for item in _items(text, path, *columns))
    number, name = 0, ""
    ids: set[str] = set()  # of documents, and their numbers where they have none
    numbers: set[str] = set()
    for item in _items(text, path, *columns, places):
        if isinstance(item, str):
            number, name = number + 1, item
        elif marked:
            document = name or str(number)
            (ids if name else numbers).add(document)
            yield item._replace(document=document)
        else:
            yield item
    if both := numbers & ids:
        what = f"{min(both)!r} is the id of a document, and the number of another that has no id"
        raise InputError(what, hint="give all documents an id, or none", path=path)


def _items(
    text: Lines, path: Path, word_column: int | None, tag_column: int | None, places: list[tuple[int, int]] | None = None
) -> Iterator[Sentence | str]:
    """The sentences, and where a document starts its id, "" for none."""
    words: list[str] = []
    tags: list[str] = []
    line, fields = 0, list[str]()
    known_words = Known(lambda word: valid_word(word, path, line))
    known_tags = Known(lambda tag: _checked_tag(fields, word_at, tag_at, path, line))
    width = word_at = tag_at = count = 0
    counts = word_column is None  # whether the words of all sentences so far are numbers that count
    expected = _width(_rows(text))
    for line, (row, following) in enumerate(pairwise(chain(_rows(text), [""])), 1):
        if "\r" in row:
            raise InputError("a carriage return inside a line", hint="end all lines the same way", path=path, line=line)
        fields = _columns(row)
        if not fields or fields[0] == "-DOCSTART-":
            if words:
                count, counts = count + 1, counts and _counts(words)
                yield Sentence(words, tags)
            words, tags = [], []
            if fields:
                yield _id(row)
            continue
        if fields[0] == "#" and not words and _is_comment(fields, expected, path, line):
            if fields[1] == "newdoc":
                yield _id(row)
            continue
        if len(fields) != width:
            if width or len(fields) == 1:
                _refuse_columns(len(fields), width, path, line)
            width = len(fields)
            word_at, tag_at = _positions(width, word_column, tag_column, path, line)
        word, tag = fields[word_at], fields[tag_at]
        if word_at and _is_extra(fields[0], tag, following, path, line):
            continue
        words.append(known_words[word])
        tags.append(known_tags[tag])
        if places is not None:
            places.append((line, tag_at))
    if words:
        count, counts = count + 1, counts and _counts(words)
        yield Sentence(words, tags)
    if counts and width > 2 and count:
        raise InputError("the first column counts the words", hint="say where they are: --word-column 2", path=path)


def _rows(text: Iterable[str]) -> Iterator[str]:
    """The lines without their ends."""
    return (row.removesuffix("\n").rstrip("\r") for row in text)


def _width(rows: Iterable[str]) -> int:
    """The number of columns of the first line that can only be a word's; 0 if there is none."""
    found = (fields for row in rows if (fields := _columns(row)) and fields[0] not in ("#", "-DOCSTART-"))
    return len(next(found, []))


def _positions(width: int, word_column: int | None, tag_column: int | None, path: Path, line: int) -> tuple[int, int]:
    """Where in a line the word and the tag are."""
    word, tag = word_column or 1, tag_column or width
    if max(word, tag) > width:
        hint = f"give --word-column and --tag-column from 1 to {width}"
        raise InputError(f"{width} columns, so there is no column {max(word, tag)}", hint=hint, path=path, line=line)
    if word == tag:
        what = f"column {word} of {width} would be the word and the tag"
        raise InputError(what, hint="give --word-column and --tag-column", path=path, line=line)
    return word - 1, tag - 1


def _is_comment(fields: list[str], width: int, path: Path, line: int) -> bool:
    """Whether a line that starts with ``#`` and a blank, before the first word of a sentence, is a comment. Else it is the word ``#``.

    It is a comment if none of its columns is a tag. So no word with a tag is ever left out. ``# KEY = VALUE`` is free text, which may
    hold what looks like a tag. It is a comment if it has too many or too few columns for a word, and refused if it could be both.
    ``width`` is the number of columns of a word's line, 0 if no line tells.
    """
    if len(fields) > 1 and not any(map(is_tag, fields)):
        return True
    if "=" not in fields[2:4]:  # KEY may be of two words, as in "newdoc id"
        return False
    if width in (0, len(fields)):
        hint = "delete it if it is a comment"
        raise InputError(f"a comment, or the word '#' with the tag {fields[-1]!r}", hint=hint, path=path, line=line)
    return True


def _is_extra(index: str, tag: str, following: str, path: Path, line: int) -> bool:
    """Whether a line is no word, by the first column of CoNLL-U: an empty node (``8.1``), or a multiword token (``1-2``).

    The words of a multiword token follow in lines of their own, so its own tag must not open an entity.
    """
    if _EMPTY_NODE.fullmatch(index):
        return tag == "_"
    match = _MULTIWORD.fullmatch(index)
    if not match or _columns(following)[:1] != [match[1]]:
        return False
    if tag not in ("_", "O"):
        hint = "tag the words in the lines after it, and write _ here"
        raise InputError(f"the multiword token {index} has the tag {tag!r}", hint=hint, path=path, line=line)
    return True


def _counts(words: list[str]) -> bool:
    """Whether the words are numbers, each one more than the one before; lines of CoNLL-U that are no words aside."""
    numbers = [word for word in words if not (_MULTIWORD.fullmatch(word) or _EMPTY_NODE.fullmatch(word))]
    first = numbers[0] if numbers else ""
    return first.isdecimal() and numbers == [str(int(first) + i) for i in range(len(numbers))]


def _refuse_columns(found: int, width: int, path: Path, line: int) -> NoReturn:
    what = "1 column" if found == 1 else f"{found} columns"
    wanted = f"{width} columns, like the lines above" if width else "a word, a space or tab, and a tag"
    raise InputError(what, hint=f"give the line {wanted}, or name another --format", path=path, line=line)


def _checked_tag(fields: list[str], word: int, tag: int, path: Path, line: int) -> str:
    """The tag of a line. Refuses one whose words or tags stand elsewhere than they are looked for, and a first line that is plain text."""
    if is_tag(fields[tag]):
        return fields[tag]
    if is_tag(fields[word]):
        hint = f"say where words and tags are, such as --word-column {tag + 1} --tag-column {word + 1}"
        raise InputError(
            f"{fields[word]!r}, in the column of the words, is a tag, and {fields[tag]!r} is none", hint=hint, path=path, line=line
        )
    if word == 0 and (_MULTIWORD.fullmatch(fields[0]) or _EMPTY_NODE.fullmatch(fields[0])):
        raise InputError("the first column counts the words", hint="say where they are: --word-column 2", path=path, line=line)
    tags = [number for number, field in enumerate(fields, 1) if is_tag(field)]
    if len(tags) == 1:
        what = f"{fields[tag]!r}, in the column of the tags, is none, and {fields[tags[0] - 1]!r} is"
        raise InputError(what, hint=f"say where the tags are, such as --tag-column {tags[0]}", path=path, line=line)
    if line == 1 and len(fields) > 4 and not any(map(is_tag, fields)):
        hint = "write a word and its tag on each line; predict.py --input tags plain text"
        raise InputError(f"none of {len(fields)} columns is a tag", hint=hint, path=path, line=line)
    return valid_tag(fields[tag], path, line)


def _id(row: str) -> str:
    """The document's id on a line that starts one; "" for none."""
    match = _ID.fullmatch(row.strip(" \t"))
    return (match[1] or match[2]) if match else ""


def lines(sentence: Sentence, number: int, before: str | None) -> str:
    """The text of a sentence. ``before`` is the document of the sentence before it, None for the first.

    Raises:
        InvalidSentence: `read` would not give the same sentence back.
    """
    all_or_none(sentence, before)
    for word, tag in zip(sentence.words, sentence.tags, strict=True):
        if _NOT_A_WORD.search(word) or " " in tag:
            raise InvalidSentence(f"conll cannot hold {word!r} {tag!r} (white space, a -DOCSTART- or a byte order mark)")
    start = ""
    if sentence.document and sentence.document != before:
        start = f"-DOCSTART- ({sentence.document})\n\n"
        if "\r" in start or "\n" in sentence.document:
            raise InvalidSentence(f"conll cannot hold the document {sentence.document!r} (a line end)")
    return start + "".join(f"{word} {tag}\n" for word, tag in zip(sentence.words, sentence.tags, strict=True)) + "\n"
