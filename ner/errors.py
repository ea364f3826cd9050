"""How errors reach the user: a mistake of theirs is one line on stderr and exit status 2, without a traceback."""

from __future__ import annotations

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # the disk is at fault, not what the user typed


class InputError(Exception):
    """Bad input or usage. ``str(error)`` is the whole message, always a single line: ``FILE:LINE: what; hint``.

    Args:
        what: what is wrong, in plain words.
        hint: what the user can do about it.
        path: the file or folder at fault, if any; control characters in it are escaped.
        line: the 1-based line in that file, if known.
    """

    def __init__(self, what: str, *, hint: str, path: str | os.PathLike | None = None, line: int | None = None):
        self.what, self.hint, self.path, self.line = what, hint, path, line
        where = "" if path is None else printable(os.fspath(path)) + (f":{line}" if line else "") + ": "
        super().__init__(f"{where}{printable(what)}; {printable(hint)}")

    def __reduce__(self):
        """To be raised again in another process."""
        return functools.partial(InputError, self.what, hint=self.hint, path=self.path, line=self.line), ()


class RunStopped(Exception):
    """A program ended early though its input was right: it was asked to stop, a value was not finite, or workers or rows were lost. One
    line, exit status 1."""


class WorkerLost(RunStopped):
    """A run ended because another worker is gone."""


def run_main(main: Callable[[list[str]], int]) -> int:
    """Call ``main`` with the command line's arguments and return the exit status: 0 done, 2 bad usage or input, 1 anything else.

    An error that has a line of its own here is printed without its traceback, unless the environment variable NER_TRACEBACK is 1.
    """
    try:
        return main(sys.argv[1:])
    except InputError as error:
        return _failed(f"error: {error}", 2)
    except RunStopped as stop:
        return _failed(str(stop), 1)
    except KeyboardInterrupt:
        return 130  # what a shell gives for Ctrl-C
    except BrokenPipeError:  # as in predict.py | head: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if (error.name or "ner").partition(".")[0] == "ner":  # a bug of ours
            raise
        what = f"the package {error.name!r} is not installed for {sys.executable}"
        hint = "make setup installs everything into .venv, with Python 3.11 to 3.13: then start .venv/bin/python in place of python"
        return _failed(f"error: {printable(what)}; {hint}", 2)
    except OSError as error:  # such as a full disk, a name that is too long, a folder that may not be read; or a bug
        hint = "check the path, its permissions and the space left (NER_TRACEBACK=1 shows where it happened)"
        return _failed(f"error: {printable(str(error))}; {hint}", 1 if error.errno in FULL else 2)


def _failed(message: str, status: int) -> int:
    if os.environ.get("NER_TRACEBACK") == "1":
        traceback.print_exc()
    print(message, file=sys.stderr)
    return status


def printable(text: str, limit: int = 500) -> str:
    """``text`` with control, format and unpaired surrogate characters escaped, cut in the middle beyond ``limit`` characters."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[-limit // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
