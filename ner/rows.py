"""Texts to tag in bulk: rows of Parquet, JSON Lines and plain text, on any filesystem that pyarrow opens, a block at a time.

A row that cannot be tagged is not an error: it comes with the reason.
"""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ner.errors import InputError

if TYPE_CHECKING:
    import pyarrow

BLOCK = 2_000  # rows of a table
PARQUET, JSON_LINES, TEXT = (".parquet", ".pq"), (".jsonl", ".ndjson", ".json"), (".txt", ".text")
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")  # plain text and JSON Lines; Parquet compresses inside
SAMPLE = 1 << 20  # bytes read to guess how many rows there are


class File(NamedTuple):
    """A file of the input: its path on its filesystem, its name below the input, its size in bytes, its number among the files."""

    path: str
    name: str
    size: int
    number: int


class Row(NamedTuple):
    """A row: its id and text, or its id where known, where it stands (``FILE:ROW``) and the reason why it cannot be tagged."""

    id: str | None
    text: str | None
    source: str | None = None
    reason: str | None = None


def open_filesystem(path: str) -> tuple[Any, str]:
    """The pyarrow filesystem of a local path or an address such as s3://bucket/x, and the path on it. Raises InputError."""
    import pyarrow
    from pyarrow import fs

    if "://" not in path:
        return fs.LocalFileSystem(), os.path.abspath(path)
    try:
        return fs.FileSystem.from_uri(path)
    except (ImportError, ValueError, OSError, pyarrow.ArrowException) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"cannot be opened ({reason})", hint="give a local path, or an address that pyarrow opens", path=path) from None


def find(path: str) -> tuple[list[File], list[str]]:
    """The files of an input, by name, and the names of those in a folder that are not read. A file alone may have any name.

    Raises InputError where there is nothing to read.
    """
    from pyarrow import fs

    filesystem, root = open_filesystem(path)
    try:
        (about,) = filesystem.get_file_info([root])
        if about.type == fs.FileType.NotFound:
            raise InputError("no such file or folder", hint="give --input a file or a folder", path=path)
        if about.is_file:
            found = [(os.path.basename(root), about)]
        else:
            inside = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
            found = sorted((info.path[len(root.rstrip("/")) + 1 :], info) for info in inside if info.is_file)
    except OSError as error:
        raise InputError(error.strerror or str(error), hint="give --input a file or a folder that you may read", path=path) from None
    found = [(name, info) for name, info in found if about.is_file or not any(part.startswith((".", "_")) for part in name.split("/"))]
    read = [about.is_file or _ending(name) in PARQUET + JSON_LINES + TEXT for name, _ in found]
    files = [File(info.path, name, info.size, number) for number, (name, info) in enumerate(itertools.compress(found, read))]
    if not any(file.size for file in files):
        what = "it is empty" if files else "no Parquet, JSON Lines or text file in it (.parquet, .jsonl, .txt)"
        raise InputError(what, hint="give --input something to tag", path=path)
    return files, [name for (name, _), taken in zip(found, read, strict=True) if not taken]


def _ending(name: str) -> str:
    """The end of a file's name in small letters, what compression adds left out."""
    path = PurePosixPath(name.lower())
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


def id_column(filesystem: Any, file: File, text_column: str, asked: str | None) -> str | None:
    """The column of ids, by the input's first file: ``asked``, or where nothing was asked ``id`` if there is one, else None.

    Raises InputError where the file lacks the column of texts, or the column that was asked for.
    """
    ending = _ending(file.name)
    if ending in PARQUET:
        names = _in_parquet(filesystem, file, lambda parquet: parquet.schema_arrow.names)
    elif ending in JSON_LINES:
        lines = (line for _, line in _lines(filesystem, file) if line.strip())
        names = list(_object(next(lines, b"")) or {})
    else:
        return asked
    for name in (text_column, asked):
        if name is not None and name not in names:
            what = f"no column {name!r}; its first row has {', '.join(names) or 'none'}"
            raise InputError(what, hint="name the columns with --text-column and --id-column", path=file.name)
    return asked or ("id" if "id" in names else None)


def guess_rows(filesystem: Any, files: list[File]) -> int | None:
    """About how many rows there are, from the first file's rows a byte; None where it is compressed text."""
    first = next(file for file in files if file.size)
    total = sum(file.size for file in files)
    if _ending(first.name) in PARQUET:
        return round(_in_parquet(filesystem, first, lambda parquet: parquet.metadata.num_rows) * total / first.size)
    if first.name.lower().endswith(COMPRESSED):
        return None
    with filesystem.open_input_stream(first.path) as stream:
        sample = stream.read(SAMPLE)
    return round(max(1, sample.count(b"\n")) * total / len(sample))


def blocks(filesystem: Any, file: File, text_column: str, id_column: str | None) -> Iterator[pyarrow.Table]:
    """The rows of a file as tables of at most BLOCK rows: place, id, text, source, reason; the last two null where a row can be tagged.

    place: int64, the file's number and the row's, different for every row of the input and the same in every reading.

    Raises InputError where the file cannot be read, or lacks a column.
    """
    import pyarrow as pa

    read = _parquet_rows if _ending(file.name) in PARQUET else _json_rows if _ending(file.name) in JSON_LINES else _text_rows
    schema = pa.schema([("place", pa.int64()), *((name, pa.string()) for name in Row._fields)])
    rows = enumerate(read(filesystem, file, text_column, id_column))
    while chunk := list(itertools.islice(rows, BLOCK)):
        columns = zip(*((file.number << 40 | number, *row) for number, row in chunk), strict=True)
        yield pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def _parquet_rows(filesystem: Any, file: File, text_column: str, id_column: str | None) -> Iterator[Row]:
    import pyarrow as pa

    def table_rows(parquet):
        wanted = [text_column, *([id_column] if id_column else [])]
        for name in wanted:
            if name not in parquet.schema_arrow.names:
                raise InputError(f"no column {name!r}", hint="give all files the same columns", path=file.name)
        kind = parquet.schema_arrow.field(text_column).type
        if not _is_text(kind):
            hint = "name the column of texts with --text-column"
            raise InputError(f"column {text_column!r} is {kind}, not text", hint=hint, path=file.name)
        number = 0
        for batch in parquet.iter_batches(BLOCK, columns=wanted):
            texts = batch.column(text_column)
            texts = texts.dictionary_decode() if pa.types.is_dictionary(texts.type) else texts
            ids = batch.column(id_column).to_pylist() if id_column else itertools.repeat("")
            for text, id in zip(texts.cast(pa.large_binary()).to_pylist(), ids, strict=bool(id_column)):
                number += 1
                yield _row(text, id if id_column else f"{file.name}:{number}", f"{file.name}:{number}")

    yield from _in_parquet(filesystem, file, table_rows, several=True)


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary, types.is_null)
    return any(test(kind) for test in tests)


def _in_parquet(filesystem: Any, file: File, ask, several: bool = False):
    """What ``ask`` makes of the ParquetFile; with ``several``, one thing after another."""
    import pyarrow
    from pyarrow import parquet

    def each():
        try:
            with parquet.ParquetFile(filesystem.open_input_file(file.path)) as opened:
                yield from ask(opened) if several else [ask(opened)]
        except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
            reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
            hint = "give whole Parquet files that you may read"
            raise InputError(f"cannot be read as Parquet ({reason})", hint=hint, path=file.name) from None

    return each() if several else next(each())


def _json_rows(filesystem: Any, file: File, text_column: str, id_column: str | None) -> Iterator[Row]:
    for number, line in _lines(filesystem, file):
        if not line.strip():
            continue
        source = f"{file.name}:{number}"
        record = _object(line)
        if record is None:
            yield Row(None if id_column else source, None, source, "not a JSON object in UTF-8")
        else:
            yield _row(record.get(text_column), record.get(id_column) if id_column else source, source)


def _object(line: bytes) -> dict | None:
    """The JSON object of a line; None where it is none."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _text_rows(filesystem: Any, file: File, text_column: str, id_column: str | None) -> Iterator[Row]:
    for number, line in _lines(filesystem, file):
        yield _row(line, f"{file.name}:{number}", f"{file.name}:{number}")


def _lines(filesystem: Any, file: File) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, without their ends and without a byte-order mark."""
    try:
        with filesystem.open_input_stream(file.path, compression="detect") as stream:
            for number, line in enumerate(io.BufferedReader(stream, SAMPLE), 1):  # type: ignore[type-var]
                yield number, (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).rstrip(b"\r\n")
    except OSError as error:
        reason = error.strerror or str(error).split("\n")[0]
        raise InputError(f"cannot be read ({reason})", hint="give whole files that you may read", path=file.name) from None


def _row(text: Any, id: Any, source: str) -> Row:
    """The row of a text (bytes or str) and an id (text or number), or the reason why it cannot be tagged."""
    known = str(id) if isinstance(id, (str, int)) and not isinstance(id, bool) and _decoded(str(id)) is not None else None
    decoded = _decoded(text) if isinstance(text, (bytes, str)) else None
    if text is None:
        reason = "the text is null or missing"
    elif not isinstance(text, (bytes, str)):
        reason = f"the text is not text but {type(text).__name__}"
    elif decoded is None:
        reason = "the text is not UTF-8"
    elif known is None:
        reason = "the id is null or missing" if id is None else f"the id is neither text nor a whole number but {type(id).__name__}"
    else:
        return Row(known, decoded)
    return Row(known, None, source, reason)


def _decoded(text: bytes | str) -> str | None:
    """A text that UTF-8 can hold; None for others, such as one with half of a surrogate pair."""
    try:
        return (text.encode() if isinstance(text, str) else text).decode()
    except UnicodeError:
        return None
