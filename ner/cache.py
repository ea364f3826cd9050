"""Disk cache keyed by a hash of its inputs: parsed corpora and encoded sentences.

The folder is ``NER_CACHE``, or else ``ner-tensorflow`` in the user's cache folder. It can be deleted at any time: the values are computed
again. Each file starts with a checksum of its content and of the code that computed it. A file that is damaged, or was written by other
code, is computed again and replaced. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ner import files

SOURCES = Path(__file__).parent  # of the package
Value = TypeVar("Value")


def folder() -> Path:
    """The folder of the cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("NER_CACHE") or os.path.join(home, "ner-tensorflow"))


def remembered(
    kind: str, sources: list[bytes], make: Callable[[], Value], dump: Callable[[Value], bytes | memoryview], load: Callable[[bytes], Value]
) -> Value:
    """``load`` of the file kept for (kind, sources); if there is no valid one, ``make()``, whose ``dump`` is then kept.

    A cache that cannot be read or written only costs time: ``make()`` is called.
    """
    key = hashlib.blake2b(digest_size=16)
    for source in sources:
        key.update(len(source).to_bytes(8, "big"))
        key.update(source)
    path = folder() / f"{kind}-{key.hexdigest()}"
    with contextlib.suppress(Exception):  # whatever is wrong with the file, make() does not need it
        with open(path, "rb") as file:
            checksum, payload = file.read(32), file.read()
        if checksum == _checksum(payload):
            return load(payload)
    value = make()
    with contextlib.suppress(OSError):
        content = dump(value)
        with files.replacing(path) as file:
            file.write(_checksum(content))
            file.write(content)
    return value


def _checksum(payload: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(code().encode())
    digest.update(payload)
    return digest.digest()


@functools.cache
def code() -> str:
    """A digest, in hex, of what computes the values: this package's source files, the tokenizers library, Python and its Unicode tables."""
    digest = hashlib.sha256(f"{importlib.metadata.version('tokenizers')} {sys.version}".encode())
    for source in sorted(SOURCES.glob("*.py")):
        digest.update(f"{source.name} {files.sha256(source)} ".encode())
    return digest.hexdigest()
