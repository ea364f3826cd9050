"""Texts to tag in bulk: rows of Parquet, JSON Lines and plain text, on any filesystem that pyarrow opens, a block at a time.

A row that cannot be tagged is not an error: it comes with the reason.
"""

from __future__ import annotations

import contextlib
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
FIRST = 100  # lines of JSON in which the columns must be found
PARQUET, JSON_LINES, TEXT = (".parquet", ".pq"), (".jsonl", ".ndjson", ".json"), (".txt", ".text")
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")  # plain text and JSON Lines; Parquet compresses inside
SAMPLE = 1 << 20  # bytes read to guess how many rows there are


class File(NamedTuple):
    """A file of the input: its path on its filesystem, its name below the input, its size in bytes, its number among the files."""

    path: str
    name: str
    size: int
    number: int


class Input(NamedTuple):
    """A filesystem of pyarrow's, the files to read, by name, and the names of those in the folder that are of another kind."""

    filesystem: Any
    files: list[File]
    others: list[str]


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


def find(path: str) -> Input:
    """What stands at a path, which is a file of any name, or a folder with its subfolders. Names that begin with . or _ are left out.

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
    return Input(filesystem, files, [name for (name, _), taken in zip(found, read, strict=True) if not taken])


def _ending(name: str) -> str:
    """The end of a file's name in small letters, what compression adds left out."""
    path = PurePosixPath(name.lower())
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


def id_column(found: Input, text_column: str, asked: str | None) -> str | None:
    """The column of ids, by the first rows of the input: ``asked``, or where nothing was asked ``id`` if there is one, else None.

    Raises InputError where they lack the column of texts, or the column that was asked for.
    """
    file = next(file for file in found.files if file.size)
    ending = _ending(file.name)
    if ending in PARQUET:
        with _parquet(found.filesystem, file) as parquet:
            names = parquet.schema_arrow.names
    elif ending in JSON_LINES:
        lines = itertools.islice(_lines(found.filesystem, file), FIRST)
        names = list(dict.fromkeys(name for _, line in lines for name in _object(line) or {}))
    elif asked:
        raise InputError("plain text has no column of ids", hint="leave out --id-column", path=file.name)
    else:
        return None
    for name in (text_column, asked):
        if name is not None and name not in names:
            what = f"no column {name!r}; there is {', '.join(names) or 'none'}"
            raise InputError(what, hint="name the columns with --text-column and --id-column", path=file.name)
    return asked or ("id" if "id" in names else None)


def guess_rows(found: Input) -> int | None:
    """About how many rows there are, from the first file's rows a byte; None where it is compressed text."""
    first = next(file for file in found.files if file.size)
    total = sum(file.size for file in found.files)
    if _ending(first.name) in PARQUET:
        with _parquet(found.filesystem, first) as parquet:
            return round(parquet.metadata.num_rows * total / first.size)
    if first.name.lower().endswith(COMPRESSED):
        return None
    with found.filesystem.open_input_stream(first.path) as stream:
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
    wanted = [text_column, *([id_column] if id_column else [])]
    number = 0
    with _parquet(filesystem, file) as parquet:
        for name in wanted:
            if parquet.schema_arrow.names.count(name) != 1:
                raise InputError(f"not one column {name!r}", hint="give all files the same columns", path=file.name)
        for batch in parquet.iter_batches(BLOCK, columns=wanted):
            ids = _values(batch.column(id_column)) if id_column else [None] * len(batch)
            for text, id in zip(_values(batch.column(text_column)), ids, strict=True):
                number += 1
                source = f"{file.name}:{number}"
                yield _row(text, id if id_column else source, source)


def _values(column: pyarrow.Array) -> list[Any]:
    """The values of a column, texts as bytes: they may be no UTF-8."""
    import pyarrow as pa

    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return (column.cast(pa.large_binary()) if any(test(column.type) for test in tests) else column).to_pylist()


@contextlib.contextmanager
def _parquet(filesystem: Any, file: File) -> Iterator[Any]:
    """The ParquetFile. Raises InputError where it cannot be read, also in the block."""
    from pyarrow.parquet import ParquetFile

    with _readable(file), ParquetFile(filesystem.open_input_file(file.path)) as parquet:
        yield parquet


@contextlib.contextmanager
def _readable(file: File) -> Iterator[None]:
    """Raises InputError where the file cannot be read in the block."""
    import pyarrow

    try:
        yield
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise InputError(f"cannot be read ({reason})", hint="give whole files that you may read", path=file.name) from None


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
    with _readable(file), filesystem.open_input_stream(file.path, compression="detect") as stream:
        for number, line in enumerate(io.BufferedReader(stream, SAMPLE), 1):  # type: ignore[type-var]
            yield number, (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).rstrip(b"\r\n")


def _row(text: Any, id: Any, source: str) -> Row:
    """The row of a text (bytes or str) and an id (bytes, str or int), or the reason why it cannot be tagged."""
    id = str(id) if isinstance(id, int) and not isinstance(id, bool) else id
    known, decoded = _decoded(id), _decoded(text)
    for name, value, found in (("text", text, decoded), ("id", id, known)):
        if found is None:
            fault = "null or missing" if value is None else "not UTF-8" if isinstance(value, (bytes, str)) else "not text"
            return Row(known, None, source, f"the {name} is {fault}")
    return Row(known, decoded)


def _decoded(text: Any) -> str | None:
    """A text that UTF-8 can hold; None for others, such as one with half of a surrogate pair."""
    if not isinstance(text, (bytes, str)):
        return None
    try:
        return (text.encode() if isinstance(text, str) else text).decode()
    except UnicodeError:
        return None
