"""What the entry points share: bad input is one line on stderr and status 2."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from ner.errors import InputError, RunStopped, printable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # nothing that the user typed


def run_main(main: Callable[[list[str]], int]) -> int:
    """Run ``main(arguments)`` and return the exit status: 0 done, 2 bad usage or input (one line), 1 anything else."""
    try:
        return main(sys.argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunStopped as stop:
        print(stop, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # what a shell gives for Ctrl-C
    except BrokenPipeError:  # predict.py | head: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a disk that is full, a name that is too long, a folder that may not be read
        print(f"error: {printable(str(error))}; check the path, its permissions and the space left", file=sys.stderr)
        return 1 if error.errno in FULL else 2
