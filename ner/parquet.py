"""Annotated sentences in Parquet files, one sentence a row, as the Hugging Face ``datasets`` library writes them.

A row has a list of words (column ``tokens`` or ``words``) and a list of as many tags (``ner_tags``, ``tags`` or ``labels``). Tags are
strings, or numbers whose names stand in the file's schema under ``huggingface``. ``document_id`` or ``doc_id`` names the document.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ner.errors import InputError
from ner.sentences import DOCUMENT, InvalidSentence, Sentence, check, interned

# The names that a column may have. Where a file has several of them, the first in this order is read.
WORDS = ("tokens", "words")
TAGS = ("ner_tags", "tags", "labels")


def read(path: Path, names: Sequence[str] = ()) -> Iterator[Sentence]:
    """All sentences of a file, row group by row group. A row with no word and no tag is skipped.

    ``names`` are the tags that numbers stand for, from 0 on, where the file itself does not name them.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a row that is not valid. Names the row, from 1.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            words, tags, document = (_column(schema, choice) for choice in (WORDS, TAGS, DOCUMENT))
            if words is None or tags is None:
                _refuse_columns(schema, path)
            tag_of = _tag_of(schema, tags, names, path)
            _check_type(schema, words, _is_text, "a list of words", path)
            wanted = [words, tags, *([document] if document else [])]
            groups = (file.read_row_group(number, columns=wanted) for number in range(file.num_row_groups))
            yield from _sentences(groups, words, tags, document, tag_of, path)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise InputError(f"cannot be read as Parquet ({reason})", hint="give a whole Parquet file that you may read", path=path) from None


def _sentences(
    groups: Iterable[Any], words: str, tags: str, document: str | None, tag_of: Callable[[Any], str], path: Path
) -> Iterator[Sentence]:
    number = 0
    for group in groups:
        documents = group[document].to_pylist() if document else [None] * len(group)
        for row_words, row_tags, row_document in zip(group[words].to_pylist(), group[tags].to_pylist(), documents, strict=True):
            number += 1
            if row_words == [] == row_tags:
                continue
            try:
                sentence = _sentence(row_words, row_tags, row_document, tag_of)
            except InvalidSentence as error:
                raise InputError(f"row {number}: {error}", hint="correct the row, or write the file again", path=path) from None
            yield interned(sentence)


def _sentence(words: list | None, tags: list | None, document: Any, tag_of: Callable[[Any], str]) -> Sentence:
    """One row's sentence, checked. Raises InvalidSentence."""
    if words is None or tags is None or None in words or None in tags:
        raise InvalidSentence("a word, a tag or a whole list is null")
    unknown = document is None or document != document  # NaN, which some programs write for null
    sentence = Sentence(words, [tag_of(tag) for tag in tags], "" if unknown else str(document))
    check(sentence)
    return sentence


def _column(schema: Any, choice: Sequence[str]) -> str | None:
    return next((name for name in choice if schema.names.count(name) == 1), None)


def _refuse_columns(schema: Any, path: Path) -> NoReturn:
    what = f"no column of words ({' or '.join(WORDS)}) or of tags ({', '.join(TAGS)})"
    found = ", ".join(schema.names) or "none"
    raise InputError(f"{what}; its columns are {found}", hint="rename the columns that hold them", path=path)


def _tag_of(schema: Any, column: str, names: Sequence[str], path: Path) -> Callable[[Any], str]:
    """What gives the tag of a cell: the cell itself, or the name of its number."""
    import pyarrow.types

    if _is_text(_item(schema, column)):
        return str
    _check_type(schema, column, pyarrow.types.is_integer, "a list of tags", path)
    names = _names(schema, column) or list(names)
    if not names:
        hint = "write the tags as text, or write the file with a datasets feature that names them (ClassLabel)"
        raise InputError(f"column {column!r} holds numbers, and the file does not say which tags they are", hint=hint, path=path)

    def tag_of(number: int) -> str:
        if not 0 <= number < len(names):
            raise InvalidSentence(f"tag {number} has no name; the file names 0 to {len(names) - 1}")
        return names[number]

    return tag_of


def _names(schema: Any, column: str) -> list[str]:
    """The names of a column's tags by their number, from the schema's metadata; empty where it has none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return class_names(features[column])
    except (KeyError, TypeError, ValueError):
        return []


def class_names(feature: Any) -> list[str]:
    """The names in the description of a feature, as ``datasets`` writes it to a schema or to a dataset's card; empty for other features.

    In a schema a list of labels is ``{"feature": {"names": [...], "_type": "ClassLabel"}, "_type": "List"}`` (datasets 4; before it
    ``"Sequence"``), or a Python list of one description (the oldest). A card has ``list`` (before: ``sequence``), then ``class_label``.
    """
    while True:
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, dict) and "names" in feature:
            break
        elif isinstance(feature, dict):
            inside = ("feature", "list", "sequence", "large_list", "dtype", "class_label")
            feature = next((feature[key] for key in inside if key in feature), None)
        else:
            return []
    names = feature["names"]
    if isinstance(names, dict):  # a card numbers them: {"0": "O", "1": "B-PER"}
        names = [names.get(str(number), names.get(number)) for number in range(len(names))]
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _check_type(schema: Any, column: str, holds: Callable[[Any], bool], wanted: str, path: Path) -> None:
    item = _item(schema, column)
    if item is None or not holds(item):
        found = schema.field(column).type
        raise InputError(f"column {column!r} is {found}, not {wanted}", hint="write one sentence a row, its words in a list", path=path)


def _item(schema: Any, column: str) -> Any:
    """The type of the items of a column of lists; None for any other column."""
    from pyarrow import types

    kind = schema.field(column).type
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return kind.value_type if any(is_kind(kind) for is_kind in lists) else None


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if kind is not None and types.is_dictionary(kind):
        kind = kind.value_type
    return kind is not None and (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
