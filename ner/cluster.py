"""Ray, started on this machine or found on a cluster, for tag.py and launch.py."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ner.errors import InputError, RunStopped
from ner.strategy import silent_stderr

STORE = 1 << 30  # bytes of memory for what is on its way from one process to the next
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its notes on itself; what goes wrong is raised
    "RAY_DATA_LOG_LEVEL": "CRITICAL",  # an error that ends the job is raised
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # print() prints
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # as on those systems: Ray takes 127.0.0.1 for its address, and listens nowhere else


@contextlib.contextmanager
def started(address: str | None, cpus: int) -> Iterator[None]:
    """Ray for the block: the cluster at ``address``, or without it one of this machine alone, which listens on the loopback address.

    cpus: how many Ray counts here; it only reserves them.

    Errors of a worker that have a line of their own are raised here as they were there.

    Raises InputError where Ray is not installed, and where no cluster answers.
    """
    os.environ |= ENVIRONMENT if address else ENVIRONMENT | LOOPBACK
    try:
        import ray
    except ImportError:
        raise InputError("Ray is not installed", hint="run it in the environment of make ray, or pip install -e .[ray]") from None
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address:
        failed = None
        with silent_stderr():
            try:
                ray.init(address, runtime_env={"py_modules": [str(Path(__file__).parent)]}, **quiet)
            except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
                failed = str(error).strip().split("\n")[0]
        if failed is not None:
            raise InputError(f"no Ray cluster answers at {address} ({failed})", hint="check --address, or leave it out")
    else:
        with silent_stderr():
            ray.init("local", num_cpus=cpus, object_store_memory=STORE, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    try:
        yield
    except Exception as error:
        raise _own(error) or error from None
    finally:
        ray.shutdown()


def _own(error: BaseException | None) -> Exception | None:
    """The error of this project that Ray wrapped, if it is one: the innermost, since Ray gives what is around it the same class."""
    own = None
    while error is not None:
        own = error if isinstance(error, (InputError, RunStopped)) else own
        error = getattr(error, "cause", None) or error.__cause__
    return own
