"""What a configuration names -> checked IOB2 sentences, split for training."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ner import cache, corpus, tagset
from ner.config import Config
from ner.corpus import Sentence
from ner.errors import InputError

SAMPLE = Path(__file__).resolve().parent.parent / "sample"
SPLITS = ("train", "validation", "test")


def resolve(config: Config) -> Config:
    """The configuration with its data source filled in and its paths absolute.

    Without one: ``ner_dataset.csv`` in the working folder if it is there, else the sample corpus shipped with the repository.
    """
    if not config.data and not config.train:
        local = Path("ner_dataset.csv")
        if local.is_file():
            config = dataclasses.replace(config, data=str(local))
        else:
            config = dataclasses.replace(config, train=str(SAMPLE / "train.csv"), validation=str(SAMPLE / "validation.csv"))
    paths: dict[str, Any] = {key: os.path.abspath(getattr(config, key)) for key in ("data", *SPLITS) if getattr(config, key)}
    if os.path.isdir(config.encoder):
        paths["encoder"] = os.path.abspath(config.encoder)
    return dataclasses.replace(config, **paths)


def read(path: str, config: Config, say: Callable[[str], None]) -> list[Sentence]:
    """One file's sentences in IOB2, kept in the cache under the hash of the file.

    ``say`` is told of a conversion of the tags and of copies of a sentence with other tags.
    """

    def parse() -> tuple[list[str], list[Sentence]]:
        return _parse(path, config)

    if Path(path).is_file():
        sources = [_content(path), *(str(value).encode() for value in (Path(path).suffix, config.format, config.encoding))]
        notes, sentences = cache.remembered("corpus", sources, parse, _dump, _load)
    else:  # a pipe can be read once only; what does not exist the reader refuses
        notes, sentences = parse()
    for note in notes:
        say(f"{path}: {note}")
    return sentences


def _parse(path: str, config: Config) -> tuple[list[str], list[Sentence]]:
    sentences, scheme = tagset.to_iob2(corpus.read(path, format=config.format, encoding=config.encoding), path)
    notes = [f"tags converted from {scheme} to IOB2"] if scheme != "IOB2" else []
    if conflicts := corpus.conflicts(sentences):
        notes.append(f"{conflicts} sentences occur more than once with different tags")
    return notes, sentences


def _content(path: str) -> bytes:
    """The digest of a file; empty where it cannot be read, which the reader then refuses with the reason."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


def _dump(value: tuple[list[str], list[Sentence]]) -> bytes:
    return json.dumps(value).encode()


def _load(content: bytes) -> tuple[list[str], list[Sentence]]:
    notes, sentences = json.loads(content)
    return notes, [Sentence(words, tags) for words, tags in sentences]


def load(config: Config, say: Callable[[str], None]) -> dict[str, list[Sentence]]:
    """The splits of a resolved configuration: ``train``, ``validation`` and, where there is one, ``test``."""
    if config.data:
        return corpus.split(read(config.data, config, say), seed=config.split_seed, path=config.data)
    return {name: read(getattr(config, name), config, say) for name in SPLITS if getattr(config, name)}


def check_trainable(splits: dict[str, list[Sentence]], config: Config) -> None:
    """Refuse a training set that nothing can be learnt from, and tags that only the other splits have."""
    where = config.train or config.data
    train = splits["train"]
    if len(train) < 2:
        raise InputError(f"{len(train)} training sentence", path=where, hint="train on at least two")
    if all(tag == "O" for sentence in train for tag in sentence.tags):
        raise InputError("the training sentences have no entity, only O tags", path=where, hint="annotate some entities")
    known = tagset.TagSet.fit(train)
    for name in SPLITS[1:]:
        unseen = tagset.unseen(known, splits.get(name, []))
        if unseen and config.unseen_tags == "refuse":
            raise InputError(
                f"tags of the {name} split that training lacks: {', '.join(unseen)}",
                path=getattr(config, name) or where,
                hint="add training sentences with them, or --unseen-tags missed scores their entities as missed",
            )
