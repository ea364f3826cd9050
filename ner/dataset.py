"""What a configuration names -> checked IOB2 sentences, split for training."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ner import cache, formats, tagset
from ner.batches import Targets
from ner.config import READING_KEYS, Config
from ner.errors import InputError
from ner.files import sha256
from ner.sentences import SPLITS, Sentence, conflicts, interned, split
from ner.wordpieces import Windows, WordPieces, document_bounds

if TYPE_CHECKING:
    from ner.pretrained import Pretrained

SAMPLE = Path(__file__).resolve().parent.parent / "sample"


def resolve(config: Config) -> Config:
    """The configuration with its data source filled in and its paths absolute.

    Without one: ``ner_dataset.csv`` in the current directory if it is there, else the sample corpus shipped with the repository.
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
    """The sentences of one file in IOB2, kept in the cache under the hash of the file.

    ``say`` is told if tags were converted, and how many sentences occur more than once with different tags.
    """

    def parse() -> tuple[list[str], list[Sentence]]:
        return _parse(path, config)

    if Path(path).is_file():
        sources = [_content(path), json.dumps([Path(path).suffixes, _reading(config)]).encode()]
        notes, sentences = cache.remembered("corpus", sources, parse, _dump, _load)
    else:  # a pipe can be read only once; a file that does not exist is refused by the reader
        notes, sentences = parse()
    for note in notes:
        say(f"{path}: {note}")
    return sentences


def _parse(path: str, config: Config) -> tuple[list[str], list[Sentence]]:
    sentences, scheme = tagset.to_iob2(formats.read(path, **_reading(config)), path)
    notes = [f"tags converted from {scheme} to IOB2"] if scheme != "IOB2" else []
    if number := conflicts(sentences):
        notes.append(f"sentences that occur more than once with different tags: {number}")
    return notes, sentences


def _reading(config: Config) -> dict[str, Any]:
    """How the corpus files are read: the arguments of `formats.read`."""
    return {name: getattr(config, name) for name in READING_KEYS}


def _content(path: str) -> bytes:
    """The digest of a file. Empty if it cannot be read: the reader then refuses it and says why."""
    try:
        return sha256(path).encode()
    except OSError:
        return b""


def _dump(value: tuple[list[str], list[Sentence]]) -> bytes:
    """JSON Lines: the notes, then one sentence per line."""
    notes, sentences = value
    return b"\n".join(json.dumps(line).encode() for line in (notes, *sentences))


def _load(content: bytes) -> tuple[list[str], list[Sentence]]:
    notes, *lines = content.split(b"\n")
    return json.loads(notes), [interned(Sentence(*json.loads(line))) for line in lines]


def load(config: Config, say: Callable[[str], None]) -> dict[str, list[Sentence]]:
    """The splits of a resolved configuration: ``train``, ``validation`` and, where there is one, ``test``."""
    if config.data:
        return split(read(config.data, config, say), seed=config.split_seed, path=config.data)
    return {name: read(getattr(config, name), config, say) for name in SPLITS if getattr(config, name)}


@dataclasses.dataclass(frozen=True)
class Data:
    """A corpus made ready for training.

    Attributes:
        splits: the sentences of ``train``, ``validation`` and, where there is one, ``test``.
        tags: the tags and their ids.
        train, validation: the word pieces of these splits. With document context training's documents are whole here
            (``Windows.cut_documents``).
        targets: the training sentences' tags.
    """

    splits: dict[str, list[Sentence]]
    tags: tagset.TagSet
    train: Windows
    validation: Windows
    targets: Targets


def prepare(config: Config, encoder: Pretrained, say: Callable[[str], None]) -> Data:
    """Read the corpus of a resolved configuration, check it, and encode it in the encoder's word pieces.

    Raises InputError for a corpus that cannot be trained on, and rows longer than the encoder has positions for. Warns of a validation
    split without the context that training has.
    """
    splits = load(config, say)
    check_trainable(splits, config)
    if config.context == "document" and not has_neighbours(splits["validation"]):
        say("warning: no sentence of the validation split has a neighbour in its document, so it is scored without context")
    longest = encoder.shape.longest_row
    if config.row_length and config.row_length > longest:
        raise InputError(f"--row-length {config.row_length} is more than the encoder's {longest} positions", hint=f"give at most {longest}")
    tags = tagset.TagSet.fit(splits["train"])
    pieces = WordPieces.load(encoder, case=config.case)
    documents = {name: [s.document for s in sentences] if config.context == "document" else None for name, sentences in splits.items()}
    train = pieces.encode_cached([s.words for s in splits["train"]], config.row_length, longest, documents=documents["train"], whole=True)
    validation = pieces.encode_cached([s.words for s in splits["validation"]], train.row_length, documents=documents["validation"])
    if cut := train.cut_words + validation.cut_words:
        limit = (train.row_length - 2) // 2
        hint = "a larger --row-length reads more of them"
        say(f"warning: {cut} distinct words are longer than {limit} word pieces and were truncated; {hint}")
    sizes = ", ".join(f"{len(sentences):,} {name}" for name, sentences in splits.items())
    say(
        f"data: {sizes} sentences from {config.data or config.train}; {tags.num_tags} tags; {config.batching} rows of "
        f"{train.row_length} word pieces"
    )
    targets = Targets(tags.encode([s.tags for s in splits["train"]]), config.label_pieces)
    return Data(splits, tags, train, validation, targets)


def check_trainable(splits: dict[str, list[Sentence]], config: Config) -> None:
    """Refuse a training set that nothing can be learnt from, and tags that only the other splits have."""
    where = config.train or config.data
    train = splits["train"]
    if len(train) < 2:
        raise InputError(f"{len(train)} training sentence", path=where, hint="train on at least two")
    if all(tag == "O" for sentence in train for tag in sentence.tags):
        raise InputError("the training sentences have no entity, only O tags", path=where, hint="annotate some entities")
    if config.context == "document" and not has_neighbours(train):
        hint = "give a corpus that marks its documents, --documents file, or --context sentence"
        raise InputError("--context document, and no training sentence has a neighbour in its document", path=where, hint=hint)
    known = tagset.TagSet.fit(train)
    for name in SPLITS[1:]:
        unseen = tagset.unseen(known, splits.get(name, []))
        if unseen and config.unseen_tags == "refuse":
            raise InputError(
                f"tags of the {name} split that training lacks: {', '.join(unseen)}",
                path=getattr(config, name) or where,
                hint="add training sentences with them, or --unseen-tags missed scores their entities as missed",
            )


def has_neighbours(sentences: list[Sentence]) -> bool:
    """Whether two adjacent sentences are of one document."""
    return len(document_bounds([s.document for s in sentences])) <= len(sentences)
