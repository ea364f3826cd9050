"""What was computed from files once is kept on disk under the hash of what it came from: parsed corpora and encoded sentences.

The folder is ``NER_CACHE``, else ``ner-tensorflow`` in the user's cache folder; deleting it loses nothing but seconds. Each file starts
with the SHA-256 of the rest, so a damaged one is noticed and made anew; nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

VERSION = "1"  # raise it when what is kept, or how it is computed, changes
Value = TypeVar("Value")


def folder() -> Path:
    """Where the cache lies."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("NER_CACHE") or os.path.join(home, "ner-tensorflow"))


def sha256(path: Path) -> str:
    """The content of a file in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered(
    kind: str, sources: list[bytes], make: Callable[[], Value], dump: Callable[[Value], bytes], load: Callable[[bytes], Value]
) -> Value:
    """``load`` of what is kept for (kind, sources), else ``make()``, which is then kept as ``dump`` of it.

    A cache that cannot be read or written costs the time it would have saved, and nothing else.
    """
    key = hashlib.blake2b(VERSION.encode(), digest_size=16)
    for source in sources:
        key.update(len(source).to_bytes(8, "big"))
        key.update(source)
    path = folder() / f"{kind}-{key.hexdigest()}"
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            return load(content[32:])
    value = make()
    with contextlib.suppress(OSError):
        payload = dump(value)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        try:
            partial.write_bytes(hashlib.sha256(payload).digest() + payload)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return value
