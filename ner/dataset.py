"""What a configuration names -> checked IOB2 sentences, split for training."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ner import cache, formats, hub, shards, tagset
from ner.batches import Targets
from ner.config import DATA_KEYS, READING_KEYS, Config, load_toml
from ner.corpus import Sentences
from ner.errors import InputError
from ner.files import sha256
from ner.sentences import SPLITS, Sentence, conflicts, content_hash, split
from ner.windows import Windows, longest_word
from ner.wordpieces import WordPieces

if TYPE_CHECKING:
    from ner.pretrained import Pretrained

FEW = 100  # training sentences that are too few for a score to mean much
MANY_UNKNOWN = 0.01  # of the words
MANY_PIECES = 1.9  # a word, in text of another kind than the encoder's own
_HASH = re.compile("[0-9a-f]{16}")  # a document's name by ner/spans.py
SAMPLE = Path(__file__).resolve().parent.parent / "sample"


def resolve(config: Config) -> Config:
    """The configuration with its data source filled in, its paths absolute, and a dataset on the hub with its commit.

    Without a source: ``ner_dataset.csv`` in the current directory if it is there, else the sample corpus shipped with the repository.
    """
    if not config.data and not config.train:
        local = Path("ner_dataset.csv")
        if local.is_file():
            config = dataclasses.replace(config, data=str(local))
        else:
            config = dataclasses.replace(config, train=str(SAMPLE / "train.csv"), validation=str(SAMPLE / "validation.csv"))
    paths: dict[str, Any] = {key: os.path.abspath(getattr(config, key)) for key in DATA_KEYS if getattr(config, key)}
    if hub.is_name(config.data):
        paths["data"] = hub.pinned(_recorded(config) or str(config.data))
    if os.path.isdir(config.encoder):
        paths["encoder"] = os.path.abspath(config.encoder)
    return dataclasses.replace(config, **paths)


def _recorded(config: Config) -> str | None:
    """The dataset on the hub, with its commit, that a run to be resumed began with, if it is the one that is named without a revision."""
    recorded = Path(config.output or "", "config.toml")
    if not (config.resume and config.output and recorded.is_file()):
        return None
    data = load_toml(recorded).data
    then, now = hub.parse(data or ""), hub.parse(str(config.data))
    return data if then and now and now.revision is None and then[:2] == now[:2] else None


def read(path: str, config: Config, say: Callable[[str], None], files: Iterable[str] = (), tag_names: tuple[str, ...] = ()) -> Sentences:
    """The sentences of one file in IOB2, or of the several ``files`` that ``path`` then stands for; kept in the cache under their hash.

    ``say`` is told if tags were converted, and how many sentences occur more than once with different tags. ``tag_names``: what numbers
    in Parquet files stand for.
    """
    files = list(files) or [path]
    names = [""]
    if len(files) > 1:  # they become part of the documents' names
        folder = os.path.commonpath([os.path.dirname(file) for file in files])
        names = [os.path.relpath(file, folder) for file in files]
    sources: list[bytes] | None = None

    def make() -> cache.Made:
        notes: list[str] = []
        parts = (_in_file(*pair, config, tag_names, notes.append) for pair in zip(files, names, strict=True))
        sentences, scheme = tagset.to_iob2(itertools.chain.from_iterable(parts), path)
        if scheme != "IOB2":
            notes.append(f"tags converted from {scheme} to IOB2")
        if number := conflicts(sentences.as_bytes()):
            notes.append(f"sentences that occur more than once with different tags: {number}")
        return sentences.arrays, {"notes": list(dict.fromkeys(notes)), "names": sentences.names}

    if all(Path(file).is_file() for file in files):
        what = names if len(files) > 1 else Path(files[0]).suffixes
        sources = [*map(_content, files), json.dumps([what, _reading(config), tag_names]).encode()]
    # A pipe can be read only once, so it is not kept; a file that does not exist is refused by the reader.
    arrays, facts, checksum = cache.mapped("corpus", sources, make)
    for note in facts["notes"]:
        say(f"{path}: {note}")
    return Sentences(arrays, facts["names"], checksum)


def _in_file(file: str, name: str, config: Config, tag_names: tuple[str, ...], say: Callable[[str], None]) -> Iterator[Sentence]:
    """The sentences of one file. name: that of one of several files, else ""."""
    for sentence in formats.stream(file, **_reading(config), tag_names=tag_names, say=say):
        # Each text file may count its documents from 1; a Parquet file's ids, and a hash, are those of the whole corpus.
        counted = config.documents == "file" or not (file.endswith(".parquet") or _HASH.fullmatch(sentence.document))
        if name and sentence.document and counted:
            sentence = sentence._replace(document=f"{name} {sentence.document}")
        yield sentence


def _reading(config: Config) -> dict[str, Any]:
    """How the corpus files are read: the arguments of `formats.read`."""
    return {name: getattr(config, name) for name in READING_KEYS}


def _content(path: str) -> bytes:
    """The digest of a file. Empty if it cannot be read: the reader then refuses it and says why."""
    try:
        return sha256(path).encode()
    except OSError:
        return b""


def _kept(kind: str, sentences: Sentences, make: Callable[[], cache.Made], *more: str) -> cache.Stored:
    """What ``make()`` gives for these sentences, kept in the cache. more: what it depends on besides."""
    return cache.mapped(kind, [text.encode() for text in (sentences.key, *more)] if sentences.key else None, make)


def _split(sentences: Sentences, config: Config, fractions: tuple[float, ...], path: str) -> dict[str, Sentences]:
    """``sentences.split``, kept in the cache."""

    def make() -> cache.Made:
        return dict(split(sentences, seed=config.split_seed, fractions=fractions, path=path)), {}

    asked = f"{config.split_seed} {fractions}"
    parts = _kept("split", sentences, make, asked).arrays
    return {name: sentences.chosen(numbers, f"{name} of {asked}") for name, numbers in parts.items()}


def _fact(kind: str, sentences: Sentences, find: Callable[[], Any], *more: str) -> Any:
    """What ``find()`` says of these sentences, which JSON can hold, kept in the cache. more: what it depends on besides."""
    return _kept(kind, sentences, lambda: ({}, {"found": find()}), *more).facts["found"]


def kept_hash(sentences: Sentences) -> str:
    """``sentences.content_hash``, kept in the cache."""
    return _fact("hash", sentences, lambda: content_hash(sentences))


def _tags_of(sentences: Sentences) -> list[str]:
    """The tags that occur, sorted, kept in the cache."""
    return _fact("tags", sentences, lambda: sorted(sentences.distinct_tags))


def _tag_set(sentences: Sentences) -> tagset.TagSet:
    """The tags that a model of these sentences predicts, kept in the cache: scikit-learn, which sorts them, takes a second to import."""
    return tagset.TagSet(tuple(_fact("tag set", sentences, lambda: list(tagset.TagSet.fit(_tags_of(sentences)).names))))


class _Source(NamedTuple):
    """Where a split's sentences are: a name for messages, the files, and what numbers in them stand for."""

    name: str
    files: list[str]
    tag_names: tuple[str, ...] = ()


def load(config: Config, say: Callable[[str], None], wanted: Iterable[str] = SPLITS) -> dict[str, Sentences]:
    """The splits of a resolved configuration: ``train``, ``validation`` and ``test``, those of them that it has.

    A single file is split by a hash. Of a folder or a dataset on the hub only those splits are read that are ``wanted``. If it has no
    validation split, a tenth of its training split becomes one.
    """
    if config.data and not has_splits(config.data):
        return split_file(read(config.data, config, say), config)
    wanted = set(wanted)
    sources = _on_hub(config, wanted) if hub.is_name(config.data) else _given(config, wanted, say)
    splits = {name: read(source.name, config, say, source.files, source.tag_names) for name, source in sources.items()}
    if "train" in splits and "validation" not in splits:
        where = str(config.data)
        parts = _split(splits["train"], config, (0.9, 0.1), where)
        say(f"{where}: no validation split; a tenth of training became one, by a hash")
        splits |= parts
    return {name: splits[name] for name in SPLITS if name in splits}


def split_file(sentences: Sentences, config: Config) -> dict[str, Sentences]:
    """The splits of the file ``--data``: 80 % training, 10 % validation, 10 % test, by a hash."""
    return _split(sentences, config, (0.8, 0.1, 0.1), str(config.data))


def has_splits(data: str) -> bool:
    """Whether --data names a corpus with splits of its own: a folder, or a dataset on the hub."""
    return os.path.isdir(data) or hub.is_name(data)


def _needed(there: Iterable[str], wanted: set[str]) -> list[str]:
    """The splits to read: those that are wanted. Without a validation split, one comes out of the training split, so either needs both."""
    there = set(there)
    if "train" in wanted or ("validation" in wanted and "validation" not in there):
        wanted = wanted | {"train", "validation"}
    return [name for name in SPLITS if name in there & wanted]


def _on_hub(config: Config, wanted: set[str]) -> dict[str, _Source]:
    """The splits of a dataset on the hub. What is needed of it is fetched."""
    if config.format:
        raise InputError("--format does not go with a dataset on the hub: its files are Parquet", hint="leave it out", path=config.data)
    dataset = hub.find(str(config.data), wanted)
    fetched = hub.fetch(dataset, _needed(dataset.files, wanted))
    return {name: _Source(f"{dataset.name} ({name})", files, dataset.tag_names) for name, files in fetched.items()}


def _given(config: Config, wanted: set[str], say: Callable[[str], None]) -> dict[str, _Source]:
    """The splits of a folder, or the files given one by one."""
    if not config.data:
        return {name: _Source(getattr(config, name), []) for name in SPLITS if getattr(config, name)}
    files = _in_folder(Path(config.data), config.format, say)
    return {name: _Source(f"{config.data} ({name})", files[name]) for name in _needed(files, wanted)}


def _in_folder(folder: Path, format: str | None, say: Callable[[str], None]) -> dict[str, list[str]]:
    """Split -> its files, of a folder whose files, or folders in it, are named for the splits. format: that of all files."""
    there = [path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth) if path.is_file()]
    found = [path for path in there if format or formats.is_known(path)]
    paths = [path.relative_to(folder).as_posix() for path in found]
    configs = shards.sort(path for path in paths if not path.startswith(".") and "/." not in path)
    if not configs:
        what = "a folder in which no file's name tells its split, such as train-00000-of-00002.parquet, dev.conll, test.jsonl"
        hint = f"give a file{f', such as {folder / min(paths)}' if paths else ''}, or --train and --validation"
        raise InputError(what, hint=hint, path=folder)
    if shards.DEFAULT not in configs and len(configs) > 1:
        raise InputError(f"holds {len(configs)} corpora", hint=f"give one folder in it, of {', '.join(sorted(configs)[:30])}", path=folder)
    splits = configs.get(shards.DEFAULT) or next(iter(configs.values()))
    for files in splits.values():
        shards.check_alike(files, str(folder))
        shards.check_whole(files, str(folder))
    unread = [path for path in shards.in_order(paths) if "/" not in path and shards.split_of(path) is None]
    if unread:
        say(f"{folder}: not read, because their names tell no split: {', '.join(unread[:10])}")
    if others := [file for parts in configs.values() if parts is not splits for files in parts.values() for file in files]:
        say(f"{folder}: not read, because a folder is a corpus of its own: {', '.join(others[:10])}")
    return {name: [str(folder / file) for file in files] for name, files in splits.items()}


@dataclasses.dataclass(frozen=True)
class Data:
    """A corpus made ready for training.

    Attributes:
        splits: the sentences of ``train``, ``validation`` and, where there is one, ``test``.
        tags: the tags and their ids.
        pieces: the tokenizer that the words are read by; with ``cased`` if the encoder is told of case.
        train, validation: the word pieces of these splits. With document context training's documents are whole here
            (``Windows.cut_documents``).
        targets: the training sentences' tags.
    """

    splits: dict[str, Sentences]
    tags: tagset.TagSet
    pieces: WordPieces
    train: Windows
    validation: Windows
    targets: Targets

    @property
    def case(self) -> bool:
        """Whether the encoder is told of case."""
        return self.pieces.cased is not None


def prepare(config: Config, encoder: Pretrained, say: Callable[[str], None]) -> Data:
    """Read the corpus of a resolved configuration, check it, and encode it in the encoder's word pieces.

    Raises InputError for a corpus that cannot be trained on, and rows longer than the encoder has positions for. Warns of a validation
    split without the context that training has.
    """
    splits = load(config, say)
    if "train" not in splits:
        raise InputError(f"has no training split, only {', '.join(splits)}", hint="give --train and --validation", path=config.data)
    check_trainable(splits, config, say)
    documents = config.context == "document"
    if documents and not has_neighbours(splits["validation"]):
        say("warning: no sentence of the validation split has a neighbour in its document, so it is scored without context")
    check_row_length(config, encoder)
    tags = _tag_set(splits["train"])
    pieces = told_of_case(WordPieces.load(encoder), config.case, encoder, splits["train"], say)
    train = pieces.encode_cached(splits["train"], config.row_length, documents=documents, whole=True)
    validation = pieces.encode_cached(splits["validation"], train.row_length, documents=documents)
    if cut := train.cut_words + validation.cut_words:
        limit = longest_word(train.row_length)
        hint = "a larger --row-length reads more of them"
        say(f"warning: {cut} distinct words are longer than {limit} word pieces and were truncated; {hint}")
    sizes = ", ".join(f"{len(sentences):,} {name}" for name, sentences in splits.items())
    say(
        f"data: {sizes} sentences from {config.data or config.train}; {tags.num_tags} tags; {config.batching} rows of "
        f"{train.row_length} word pieces"
    )
    for warning in filter(None, (sameness(splits), scarcity(splits), misfit(train, pieces.unk))):
        say(warning)
    targets = _kept("targets", splits["train"], lambda: ({"tag_ids": tags.encode(splits["train"])}, {}), json.dumps(tags.names))
    return Data(splits, tags, pieces, train, validation, Targets(targets.arrays["tag_ids"], config.label_pieces))


def sameness(splits: dict[str, Sentences]) -> str:
    """A warning that a split has the sentences of training; "" if none has."""
    same = [name for name in SPLITS[1:] if name in splits and splits[name].key == splits["train"].key != ""]
    return f"warning: {' and '.join(same)}: the sentences of training, so F1 there says nothing of other text" if same else ""


def scarcity(splits: Mapping[str, Sequence[Sentence]]) -> str:
    """A warning of too few training sentences; "" if there are more."""
    if len(splits["train"]) >= FEW:
        return ""
    train, validation = (sum(tag[0] == "B" for s in splits.get(name, []) for tag in s.tags) for name in ("train", "validation"))
    what = f"only {len(splits['train'])} training sentences with {train} entities, and {validation} entities in validation"
    return f"warning: {what}: F1 may be 0, and another seed gives another F1; docs/recipes.md says what helps"


def misfit(windows: Windows, unknown: int) -> str:
    """A warning that the encoder was hardly trained on such text; "" if it seems to fit. unknown: the piece of what it cannot read."""
    pieces, lost, total = windows.count_pieces(), len(windows.words_with(unknown)), max(windows.num_words, 1)
    if lost > MANY_UNKNOWN * total:
        what = f"the encoder cannot read {lost / total:.1%} of the words"
    elif pieces > MANY_PIECES * total:
        what = f"the encoder needs {pieces / total:.1f} word pieces a word, so it hardly knows such words"
    else:
        return ""
    return f"warning: {what}; for another language, script or field choose another --encoder (docs/encoders.md)"


def told_of_case(pieces: WordPieces, asked: bool | None, encoder: Pretrained, train: Sentences, say: Callable[[str], None]) -> WordPieces:
    """The tokenizer that tells capitals, if that is asked for (``--case``), or if nothing is and the corpus calls for it."""

    tokenizer = pieces.tokenizer.to_str()
    if not (asked or _fact("case", train, lambda: pieces.lacks_case(s.words for s in train), tokenizer)):
        return pieces
    told = pieces.with_case(encoder.shape.vocab_size)
    if told is None and asked:
        say(f"--case is for uncased encoders, and has no effect on {encoder.folder.name}: its word pieces tell capitals already")
    elif told is not None and asked is False:
        say("case off: this encoder does not see the capitals of this corpus; --case tells it")
    return pieces if told is None or asked is False else told


def check_row_length(config: Config, encoder: Pretrained) -> None:
    """Refuse rows that are longer than the encoder has positions for."""
    longest = encoder.shape.longest_row
    if config.row_length and config.row_length > longest:
        raise InputError(f"--row-length {config.row_length} is more than the encoder's {longest} positions", hint=f"give at most {longest}")


def check_trainable(splits: dict[str, Sentences], config: Config, say: Callable[[str], None]) -> None:
    """Refuse a training set that nothing can be learnt from; warn of tags that only the other splits have, or refuse them too."""
    where = config.train or config.data
    train = splits["train"]
    if len(train) < 2:
        raise InputError(f"{len(train)} training sentence", path=where, hint="train on at least two")
    known = _tag_set(train)
    if known.names == ("O",):
        raise InputError("the training sentences have no entity, only O tags", path=where, hint="annotate some entities")
    if config.context == "document" and not has_neighbours(train):
        hint = "give a corpus that marks its documents, --documents file, or --context sentence"
        raise InputError("--context document, and no training sentence has a neighbour in its document", path=where, hint=hint)
    unseen = {name: tagset.unseen(known, _tags_of(splits[name])) for name in SPLITS[1:] if name in splits}
    lacking = [f"{name} has {', '.join(tags)}" for name, tags in unseen.items() if tags]
    if lacking and config.unseen_tags == "refuse":
        hint = "add training sentences with them, or --unseen-tags missed scores their entities as missed"
        raise InputError(f"tags that training lacks: {'; '.join(lacking)}", path=where, hint=hint)
    if lacking:
        say(f"warning: tags that training lacks: {'; '.join(lacking)}; their entities count as missed")
    if "validation" in splits and _tags_of(splits["validation"]) == ["O"]:
        say("warning: validation has no entity, so its F1 is 0 and cannot choose the best model: the first validated one is kept")


def has_neighbours(sentences: Sentences) -> bool:
    """Whether two adjacent sentences are of one document."""
    return any(before == name != "" for before, name in pairwise(sentences.documents()))
