"""Which files of a folder, or of a dataset on the hub, belong to which split: their names tell.

``train-00000-of-00002.parquet``, ``data/dev.conll`` and ``english/test/0000.parquet`` are files of the training, validation and test
split. The last one belongs to the configuration ``english``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ner.errors import InputError

WORDS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev", "devel"), "test": ("test", "testing")}
DEFAULT = "default"  # the configuration of files that stand in no folder of their own

_SHARD = re.compile(r"-([0-9]+)-of-([0-9]+)[^/]*\Z")


def split_of(name: str) -> str | None:
    """The split that a file's or a folder's name has a word of; None if it has none, or words of two."""
    words = re.split(r"[-._ 0-9]+", name.lower())
    found = [split for split, known in WORDS.items() if any(word in known for word in words)]
    return found[0] if len(found) == 1 else None


def sort(paths: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Configuration -> split -> its files, of relative paths with ``/``. Files whose names tell no split are left out."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in in_order(paths):
        *folders, name = path.split("/")
        split = split_of(name) or (split_of(folders[-1]) if folders else None)
        if split is None:
            continue
        if folders and split_of(folders[-1]) == split:
            folders.pop()
        config = "/".join(folder for folder in folders if folder != "data") or DEFAULT
        found.setdefault(config, {}).setdefault(split, []).append(path)
    return found


def in_order(paths: Iterable[str]) -> list[str]:
    """Paths sorted by their text and, where they have numbers, by these."""
    return sorted(paths, key=lambda path: [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split("([0-9]+)", path)])


def check_alike(files: list[str], where: str) -> None:
    """Refuse files of one split whose names differ in more than numbers: they are not parts of one corpus."""
    if len({re.sub("[0-9]+", "0", _SHARD.sub("", file)) for file in files}) > 1:
        what = f"{len(files)} files for one split that are not its shards: {', '.join(files[:3])}"
        raise InputError(what, hint="keep the files of one corpus, or give --train, --validation and --test", path=where)


def check_whole(files: list[str], where: str) -> None:
    """Refuse files named ``-00000-of-00002`` of which one is missing or there twice."""
    shards: dict[tuple[str, int], list[int]] = {}
    for file in files:
        if match := _SHARD.search(file):
            shards.setdefault((file[: match.start()], int(match[2])), []).append(int(match[1]))
    for (name, total), numbers in shards.items():
        if sorted(numbers) != list(range(total)):
            there = ", ".join(map(str, sorted(numbers)))
            raise InputError(f"{name} has {total} shards from 0 on, and {there} are there", hint="fetch each of them once", path=where)
