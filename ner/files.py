"""Writing files and folders so that a reader, or a run killed at any instant, finds the old content or the new, never half of one.

Everything is written beside its target as ``.NAME.partial`` (files: ``.NAME.PID.partial``), synced to the disk, and renamed into place.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

OPEN_FILE = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/[^/]+(/task/\d+)?/fd/\d+")


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of ``path`` at the end of the block, unless the block raises.

    Missing folders are made. A link stays a link: its target is replaced. A pipe or a device (such as /dev/null) is written to directly.

    Raises:
        OSError: the file cannot be written, or ``path`` is a folder.
    """
    target = Path(os.path.realpath(path))
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
    if is_stream(path):
        with open(path, "ab") as file:
            yield file
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            if sys.platform != "win32" and target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a pipe, a device, or a name of an open file such as /dev/stdout: written to, never replaced."""
    given = os.path.abspath(path)
    return os.path.exists(given) and (not os.path.isfile(given) or OPEN_FILE.fullmatch(given) is not None)


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Replace the file ``path`` by ``content``; text is written as UTF-8."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new, empty folder that takes the place of ``path`` at the end of the block, unless the block raises.

    A reader sees the old folder or the new one, or for an instant none.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    recover_folder(path)
    partial, previous = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.previous")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    for inside in (*partial.rglob("*"), partial):
        sync(inside)
    shutil.rmtree(previous, ignore_errors=True)
    if path.exists():
        os.rename(path, previous)
    os.rename(partial, path)
    sync(path.parent)
    shutil.rmtree(previous, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Bring back the old folder if a kill fell between the two renames of ``replacing_folder``."""
    previous = path.with_name(f".{path.name}.previous")
    if previous.is_dir() and not path.exists():
        os.rename(previous, path)


def sync(path: Path) -> None:
    """Wait until the disk holds the file or folder. Windows does not let folders be opened, so there it is left to the system."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def tensorflow_errors_as_os_errors(path: Path) -> Iterator[None]:
    """Raise TensorFlow's file errors (a full disk, a folder that may not be written) as OSError, which run_main prints as one line."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        reason = str(error.message).strip().split("\n")[0]
        raise OSError(errno.ENOSPC if isinstance(error, tf.errors.ResourceExhaustedError) else errno.EIO, reason, str(path)) from None
