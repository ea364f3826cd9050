"""Disk cache keyed by a hash of its inputs: parsed corpora and encoded sentences, as arrays in files that are mapped into memory.

The folder is ``NER_CACHE``, or else ``ner-tensorflow`` in the user's cache folder. It can be deleted at any time: the values are computed
again. Each file starts with a checksum of its content and of the code that computed it. A file that is damaged, or was written by other
code, is computed again and replaced. Nothing is unpickled.

A mapped array takes no memory of its own: the system reads its pages when they are looked at, lets processes share them, and drops them
where memory is needed. Arrays are written in pieces (``Growing``), so that making one takes little memory either.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import mmap
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ner import files

SOURCES = Path(__file__).parent  # of the package
HELD = 2**24  # bytes of a growing array that are held in memory
PIECE = 2**24  # bytes that are written at a time
ALIGNED = 64  # an array begins at a multiple of so many bytes

Made = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays of one dimension; facts that JSON can hold


class Stored(NamedTuple):
    """What a file of the cache holds: arrays (read-only, mapped), facts, and the checksum of both in hex."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]
    checksum: str


def folder() -> Path:
    """The folder of the cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("NER_CACHE") or os.path.join(home, "ner-tensorflow"))


def mapped(kind: str, sources: list[bytes] | None, make: Callable[[], Made]) -> Stored:
    """The file kept for (kind, sources); if there is no valid one, it is written from what ``make()`` gives.

    Without sources, or in a cache that cannot be read or written, the file has no name and ends with the process.
    """
    key = hashlib.blake2b(digest_size=16)
    for source in sources or []:
        key.update(len(source).to_bytes(8, "big"))
        key.update(source)
    path = folder() / f"{kind}-{key.hexdigest()}"
    if sources is not None:
        with contextlib.suppress(Exception):  # whatever is wrong with the file, make() does not need it
            return _read(path)
    arrays, facts = make()
    if sources is not None:
        with contextlib.suppress(OSError):
            with files.replacing(path) as file:
                _write(file, arrays, facts)
            with contextlib.suppress(ValueError):  # another process with other code has replaced it meanwhile
                return _read(path)
    file = temporary()
    with _full_disk_named():
        _write(file, arrays, facts)
        file.flush()
    return _read(file.fileno())


def _write(file: BinaryIO, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    digest = hashlib.sha256(code().encode())

    def put(content) -> None:
        digest.update(content)
        file.write(content)

    shapes = [[name, array.dtype.str, len(array)] for name, array in arrays.items()]
    header = json.dumps([shapes, facts]).encode()
    header += b" " * (-(40 + len(header)) % ALIGNED)
    file.write(bytes(32))
    put(len(header).to_bytes(8, "little"))
    put(header)
    for array in arrays.values():
        content = np.ascontiguousarray(array).view(np.uint8).data
        for begin in range(0, len(content), PIECE):
            put(content[begin : begin + PIECE])
        put(bytes(-len(content) % ALIGNED))
    file.seek(0)
    file.write(digest.digest())
    file.seek(0, os.SEEK_END)


def _read(path: Path | int) -> Stored:
    """Raises an exception of any kind for a file that is damaged or of other code."""
    with open(path, "rb", closefd=isinstance(path, Path)) as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    content = memoryview(whole)
    digest = hashlib.sha256(code().encode())
    digest.update(content[32:])
    if content[:32] != digest.digest():
        raise ValueError("the checksum differs")
    begin = 40 + int.from_bytes(content[32:40], "little")
    shapes, facts = json.loads(bytes(content[40:begin]))
    arrays = {}
    for name, dtype, count in shapes:
        arrays[name] = np.frombuffer(whole, dtype, count, begin) if count else np.zeros(0, dtype)
        begin += -(-arrays[name].nbytes // ALIGNED) * ALIGNED
    return Stored(arrays, facts, digest.hexdigest())


class Growing:
    """An array of one dimension that grows at its end. Beyond HELD bytes it lies in a file without a name, and is mapped."""

    def __init__(self, dtype: Any):
        self.dtype, self.chunks, self.held = np.dtype(dtype), list[np.ndarray](), 0
        self.file: BinaryIO | None = None

    def append(self, values: Any) -> None:
        """Add a copy of these values at the end."""
        self.chunks.append(np.array(values, self.dtype).reshape(-1))
        self.held += self.chunks[-1].nbytes
        if self.held > HELD:
            self._put_away()

    def _put_away(self) -> None:
        self.file = self.file or temporary()
        with _full_disk_named():
            for chunk in self.chunks:
                self.file.write(chunk.data)
            self.file.flush()
        self.chunks, self.held = [], 0

    def array(self) -> np.ndarray:
        """All values so far."""
        if self.file is None:
            return np.concatenate([np.zeros(0, self.dtype), *self.chunks])
        self._put_away()
        return np.frombuffer(mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ), self.dtype)


def temporary() -> BinaryIO:
    """A file without a name: in the cache, or else where the system has temporary files."""
    with contextlib.suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder())  # type: ignore[return-value]
    return tempfile.TemporaryFile()  # type: ignore[return-value]


@contextlib.contextmanager
def _full_disk_named():
    """Python names no file where a write fails."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror, f"{folder()} or {tempfile.gettempdir()}") from None


@functools.cache
def code() -> str:
    """A digest, in hex, of what computes the values: this package's source files, the tokenizers library, Python and its Unicode tables."""
    digest = hashlib.sha256(f"{importlib.metadata.version('tokenizers')} {sys.version}".encode())
    for source in sorted(SOURCES.glob("*.py")):
        digest.update(f"{source.name} {files.sha256(source)} ".encode())
    return digest.hexdigest()
