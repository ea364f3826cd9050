"""Datasets on the Hugging Face hub by name: ``OWNER/NAME``, ``OWNER/NAME:CONFIG``, ``OWNER/NAME@REVISION``.

Their Parquet files are read: those of the repository itself or, where it has none, those that the hub converts it to (the branch
``refs/convert/parquet``). Fetching, the cache, offline mode and tokens are the work of huggingface_hub.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import logging
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ner import parquet, shards
from ner.errors import InputError
from ner.formats import is_known
from ner.sentences import SPLITS

CONVERTED = "refs/convert/parquet"

_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([^:@]+))?(?:@([^:@]+))?", re.ASCII)
_SPLIT_OF = {word: split for split, words in shards.WORDS.items() for word in words}  # of the split names in a card
_COMMIT = re.compile("[0-9a-f]{40}")


class Name(NamedTuple):
    """What a user wrote: a repository, a configuration and a branch, tag or commit."""

    repo: str
    config: str | None
    revision: str | None


def parse(text: str) -> Name | None:
    """The parts of a dataset's name; None for what can only be a path, such as ``corpora/train.conll``."""
    match = _NAME.fullmatch(text)
    if match is None or is_known(Path(match[1])):
        return None
    return Name(match[1], match[2], match[3])


def is_name(text: str | None, folder: str | os.PathLike[str] = ".") -> bool:
    """Whether this names a dataset on the hub. A path of that spelling, relative to ``folder``, wins."""
    return bool(text) and parse(str(text)) is not None and not os.path.exists(os.path.join(folder, str(text)))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One configuration of a dataset at one commit.

    Attributes:
        name: ``OWNER/NAME[:CONFIG]@COMMIT``, with the configuration if the user named one.
        repo, commit: where its files are.
        files: split -> the paths of its files in the repository, in order.
        tag_names: the tags that numbers stand for, if its card says so.
    """

    name: str
    repo: str
    commit: str
    files: dict[str, list[str]]
    tag_names: tuple[str, ...]


def pinned(text: str) -> str:
    """The name with the commit that it stands for now. Raises InputError as `find` does."""
    name = parse(text)
    assert name is not None
    return text if name.revision and _COMMIT.fullmatch(name.revision) else find(text).name


def find(text: str, splits: Iterable[str] = SPLITS) -> Dataset:
    """The dataset of that name: the copy in the hub's cache if it has the files of these splits, else what is on the hub.

    Raises:
        InputError: there is no such dataset, revision or configuration, it has no Parquet files, or it is neither cached nor reached.
    """
    name = parse(text)
    assert name is not None
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    with contextlib.suppress(InputError, OSError, ValueError, CachedRepoTreeNotFoundError):
        dataset = _locate(name, text, cached_only=True)
        _snapshot(name.repo, dataset.commit, _chosen(dataset, splits), cached_only=True)
        return dataset
    at = f" at {name.revision}" if name.revision else ""
    with _refusals(text, f"no such file or folder here, no such dataset{at} in the hub's cache, and the hub did not give it"):
        return _locate(name, text, cached_only=False)


def fetch(dataset: Dataset, splits: Iterable[str]) -> dict[str, list[str]]:
    """The files of these splits on this machine, fetched if they are not cached. Raises InputError."""
    splits = list(splits)
    with _refusals(dataset.name, "not whole in the hub's cache, and the hub did not give the rest"):
        folder = _snapshot(dataset.repo, dataset.commit, _chosen(dataset, splits), cached_only=False)
    local = {split: [str(folder / file) for file in dataset.files[split]] for split in splits if split in dataset.files}
    if absent := [file for files in local.values() for file in files if not os.path.isfile(file)]:
        raise InputError(f"not whole in the hub's cache: {absent[0]} is missing", hint="go online", path=dataset.name)
    return local


def _chosen(dataset: Dataset, splits: Iterable[str]) -> list[str]:
    return [file for split in splits for file in dataset.files.get(split, [])]


def _snapshot(repo: str, revision: str, files: Iterable[str], cached_only: bool) -> Path:
    """The folder of a revision, which holds these files if they are in the repository."""
    from huggingface_hub import snapshot_download

    # It warns if nothing matches; a repository may well have no README.md.
    logging.getLogger("huggingface_hub._snapshot_download").setLevel(logging.ERROR)
    patterns = [glob.escape(file) for file in files]
    return Path(snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns=patterns, local_files_only=cached_only))


def _locate(name: Name, text: str, cached_only: bool) -> Dataset:
    """The dataset at the named revision; without one at the newest, or else where the hub has converted it."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError

    revisions = [name.revision] if name.revision else ["main", CONVERTED]
    absent: Exception | None = None
    for revision in revisions:
        try:
            folder = _snapshot(name.repo, revision, ["README.md"], cached_only)
        except LocalEntryNotFoundError as error:
            absent = absent or error
            continue
        except RevisionNotFoundError:
            if name.revision:
                raise
            continue
        card = _card(folder)
        files = [file for file in _listing(name.repo, folder, cached_only) if file.endswith(".parquet")]
        if configs := _configs_of_card(card, files) or shards.sort(files):
            config = _config(configs, name.config, text)
            for split_files in configs[config].values():
                shards.check_whole(split_files, text)
            pin = f"{name.repo}{f':{name.config}' if name.config else ''}@{folder.name}"
            return Dataset(pin, name.repo, folder.name, configs[config], _tag_names(card, config))
    if absent:
        raise absent
    where = f"at {name.revision}" if name.revision else f"in it, nor on its branch {CONVERTED}"
    hint = "load it with the datasets library of its script, save each split by to_parquet, and give that folder"
    raise InputError(f"no Parquet files named for train, validation or test {where}", hint=hint, path=text)


def _listing(repo: str, folder: Path, cached_only: bool) -> list[str]:
    """The names of all files at a commit; of those that are cached if the hub was not reached and its listing is not cached."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return [file.path for file in get_cached_repo_tree(repo, repo_type="dataset", revision=folder.name)]
    except CachedRepoTreeNotFoundError:
        if cached_only:
            raise
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _config(configs: dict[str, Any], wanted: str | None, text: str) -> str:
    known = ", ".join(sorted(configs)[:30]) + (f" and {len(configs) - 30} more" if len(configs) > 30 else "")
    if wanted is not None and wanted not in configs:
        raise InputError(f"no configuration {wanted!r}", hint=f"name one of {known}", path=text)
    if wanted is None and len(configs) > 1:
        raise InputError(f"has {len(configs)} configurations", hint=f"name one, as OWNER/NAME:CONFIG, of {known}", path=text)
    return wanted or next(iter(configs))


# --- the card: the YAML at the head of the repository's README.md -----------------------------------------------------


def _card(folder: Path) -> dict[str, Any]:
    """The card's settings; empty where there is no card, or one that is not valid."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        return metadata_load(folder / "README.md") or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _entries(card: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = card.get(key)
    return [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, dict)]


def _configs_of_card(card: dict[str, Any], files: list[str]) -> dict[str, dict[str, list[str]]]:
    """Configuration -> split -> its files, of those that the card's ``configs`` lists; empty where it lists none of these files."""
    found: dict[str, dict[str, list[str]]] = {}
    for entry in _entries(card, "configs"):
        splits: dict[str, list[str]] = {}
        named = sorted(_data_files(entry.get("data_files")), key=lambda part: part[0] not in SPLITS)  # test goes before testing
        for split, patterns in named:
            patterns = [posixpath.join(str(entry.get("data_dir") or ""), pattern) for pattern in patterns]
            if split in _SPLIT_OF and (matching := [file for pattern in patterns for file in _matching(files, pattern)]):
                splits.setdefault(_SPLIT_OF[split], list(dict.fromkeys(matching)))
        if splits:
            found[str(entry.get("config_name") or shards.DEFAULT)] = splits
    return found


def _data_files(value: Any) -> Iterator[tuple[str, list[str]]]:
    """The splits of a configuration, each with its patterns. Patterns without a split are of the training split."""
    if isinstance(value, dict):
        value = [{"split": split, "path": paths} for split, paths in value.items()]
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        value = [{"split": "train", "path": value}]
    for entry in value or []:
        paths = entry.get("path") if isinstance(entry, dict) else None
        paths = [paths] if isinstance(paths, str) else paths
        if isinstance(paths, list) and all(isinstance(path, str) for path in paths):
            yield str(entry.get("split")), paths


def _matching(files: list[str], pattern: str) -> list[str]:
    from fsspec.utils import glob_translate  # as datasets reads these patterns: ** is any number of folders

    matches = re.compile(glob_translate(posixpath.normpath(pattern))).match
    return shards.in_order(file for file in files if matches(file))


def _tag_names(card: dict[str, Any], config: str) -> tuple[str, ...]:
    """The names of the tags by their number, as the card's ``dataset_info`` tells of the configuration."""
    infos = _entries(card, "dataset_info")
    for info in infos:
        if info.get("config_name", config if len(infos) == 1 else shards.DEFAULT) == config:
            features = {entry.get("name"): entry for entry in _entries(info, "features")}
            column = next((name for name in parquet.TAGS if name in features), None)
            return tuple(parquet.class_names(features.get(column)))
    return ()


# --- errors -----------------------------------------------------------------------------------------------------------


def reason(error: Exception) -> str:
    """Why the hub did not give something, on one line. Its client raises many kinds of errors: unknown name, no network, offline mode."""
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return "its owner asks you to agree to conditions on its page and to log in with: hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such name, or it is private"
    if isinstance(error, RevisionNotFoundError):
        return "it has no such branch, tag or commit"
    if isinstance(error, LocalEntryNotFoundError):
        return "it was not reached"
    return str(error).split("\n")[0] or type(error).__name__


@contextlib.contextmanager
def _refusals(text: str, what: str) -> Iterator[None]:
    """Errors of the hub's client as an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what} ({reason(error)})", hint="check the spelling, go online, or give a file", path=text) from None
