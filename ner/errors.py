"""The one way a user's mistake reaches the user: one line, exit status 2, no traceback."""

from __future__ import annotations

import os


class InputError(Exception):
    """Bad input or usage. ``str(error)`` is the whole message, always a single line: ``FILE:LINE: what; hint``.

    Args:
        what: what is wrong, in plain words.
        hint: what the user can do about it.
        path: the file or folder at fault, if any; control characters in it are escaped.
        line: the 1-based line in that file, if known.
    """

    def __init__(self, what: str, *, hint: str, path: str | os.PathLike | None = None, line: int | None = None):
        where = "" if path is None else printable(os.fspath(path)) + (f":{line}" if line else "") + ": "
        super().__init__(f"{where}{printable(what)}; {printable(hint)}")


class RunStopped(Exception):
    """A run ended before its end, with its last checkpoint kept: asked to stop, or a loss that is not finite. One line, exit status 1."""


def printable(text: str, limit: int = 500) -> str:
    """``text`` with control, format and unpaired surrogate characters escaped, cut in the middle beyond ``limit`` characters."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[-limit // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
