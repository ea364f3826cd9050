"""What the entry points share: bad input is one line on stderr and status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ner.errors import InputError, RunStopped


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
    except BrokenPipeError:  # predict.py | head: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
