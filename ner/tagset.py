"""Tags and their ids. Tagging schemes: which one a file uses, whether all its tags follow it, and the conversion to IOB2."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, NoReturn

import numpy as np

from ner.errors import InputError
from ner.sentences import TAG_RULE, Sentence, is_tag, tag_hint


@dataclass(frozen=True)
class TagSet:
    """The tags a model can predict, in the order of their ids.

    ``O``, and B- and I- of each type of the training sentences, also of a type that has one-word entities only.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names or len(set(self.names)) < len(self.names):
            what = f"{len(self.names)} tags, {len(set(self.names))} of them distinct"
            raise InputError(what, hint="give each tag of the model once")

    @classmethod
    def fit(cls, sentences: Iterable[Sentence]) -> TagSet:
        """The tags of training sentences in IOB2, sorted as scikit-learn's LabelEncoder sorts them."""
        from sklearn.preprocessing import LabelEncoder

        types = {tag[2:] for tag in _distinct(sentences) - {"O"}}
        names = ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]
        return cls(tuple(str(name) for name in LabelEncoder().fit(names).classes_))

    @property
    def num_tags(self) -> int:
        """How many tags can be predicted."""
        return len(self.names)

    def encode(self, tags: Sequence[Sequence[str]]) -> np.ndarray:
        """The ids of all words of all sentences, one after another: int32 [words].

        Raises:
            InputError: a tag is not in the set (see `unseen`).
        """
        index = {name: i for i, name in enumerate(self.names)}
        try:
            return np.fromiter(map(index.__getitem__, chain.from_iterable(tags)), np.int32, sum(map(len, tags)))
        except KeyError as error:
            what = f"the tag {error.args[0]!r} is not among the model's: {', '.join(self.names)}"
            raise InputError(what, hint="train on sentences that have it, or remove it from the data") from None


def unseen(tagset: TagSet, sentences: Iterable[Sentence]) -> list[str]:
    """The sentences' tags that the set lacks, sorted."""
    return sorted(_distinct(sentences) - set(tagset.names))


def _distinct(sentences: Iterable[Sentence]) -> set[str]:
    return set().union(*(sentence.tags for sentence in sentences))


def to_iob2(sentences: Sequence[Sentence], path: str | os.PathLike[str] | None = None) -> tuple[list[Sentence], str]:
    """The sentences in IOB2, and the name of the scheme they were in: ``IOB2``, ``IOB1``, ``IOBES`` or ``BILOU``.

    All sentences together show the scheme, and every tag is checked against it:

    - E- or S- means IOBES, L- or U- means BILOU (both: an error). Every entity must end as the scheme says.
    - With B- and I- only: call an I- tag that starts an entity (it follows O, another type or the start of the sentence) an opening I-.
      Call a B- tag that does not directly follow its own type a plain B-. IOB2 has no opening I- (Ratnaparkhi 1998), IOB1 has no plain B-
      (Ramshaw and Marcus 1995). A file with neither is called IOB2.
    - A file with both kinds breaks both schemes. The more frequent kind shows which scheme was meant (after a tie: IOB2). The first tag of
      the other kind is refused. Nothing is repaired by guessing.

    Args:
        sentences: what to convert. They are not changed.
        path: the file they came from, for messages.

    Raises:
        InputError: names the first word that breaks the scheme.
    """
    flat = _flatten(sentences, path)
    used = {tag[0] for tag in flat.names}
    if used & set("ESLU"):
        return _from_segments(flat)
    opening_i = (flat.prefix == "I") & ~flat.follows_type
    plain_b = (flat.prefix == "B") & ~flat.follows_type
    if not opening_i.any():
        return list(sentences), "IOB2"
    if not plain_b.any():
        return _retag(flat, np.where(opening_i, "B", flat.prefix)), "IOB1"
    counts = f"the file opens {plain_b.sum()} entities with B- and {opening_i.sum()} with I- that follow none of their type"
    if plain_b.sum() >= opening_i.sum():
        _refuse(flat, opening_i, f"in IOB2 an entity opens with B-, and {counts}", "write B- there")
    _refuse(flat, plain_b, f"in IOB1 an entity opens with B- only right after another of its type, and {counts}", "write I- there")


def from_iob2(tags: Sequence[str], scheme: str) -> list[str]:
    """The IOB2 tags of one sentence in another scheme that `to_iob2` names."""
    if scheme == "IOB2":
        return list(tags)
    found = []
    for before, tag, after in zip(["O", *tags[:-1]], tags, [*tags[1:], "O"], strict=True):
        prefix, type_ = tag[0], tag[2:]
        if tag == "O":
            found.append(tag)
        elif scheme == "IOB1":
            found.append(f"{'B' if prefix == 'B' and before[2:] == type_ else 'I'}-{type_}")
        else:
            last, single = ("E", "S") if scheme == "IOBES" else ("L", "U")
            ends = after != f"I-{type_}"
            found.append(f"{(single if ends else 'B') if prefix == 'B' else (last if ends else 'I')}-{type_}")
    return found


class _Flat(NamedTuple):
    """All words of all sentences, one after another. The arrays have the shape [words]."""

    sentences: Sequence[Sentence]
    path: str | os.PathLike[str] | None
    starts: np.ndarray  # [sentences], where each sentence starts
    names: list[str]  # the distinct tags
    ids: np.ndarray  # each word's tag in names
    prefix: np.ndarray  # "O" or the letter before the hyphen
    types: list[str]  # the distinct entity types
    type: np.ndarray  # each word's type in types, -1 for O
    follows_type: np.ndarray  # whether the word before, in the same sentence, has the same type


def _flatten(sentences: Sequence[Sentence], path: str | os.PathLike[str] | None) -> _Flat:
    names = sorted(_distinct(sentences))
    index = {name: i for i, name in enumerate(names)}
    lengths = np.array([len(sentence.tags) for sentence in sentences], np.int64)
    tags = chain.from_iterable(sentence.tags for sentence in sentences)
    ids = np.fromiter(map(index.__getitem__, tags), np.int64, lengths.sum())
    types = sorted({name[2:] for name in names if name != "O"})
    prefix = np.array([name[:1] for name in names], "<U1")[ids]
    type_ = np.array([types.index(name[2:]) if name != "O" else -1 for name in names], np.int64)[ids]
    starts = np.cumsum(lengths) - lengths
    follows_type = (type_ >= 0) & (type_ == np.append(-1, type_[:-1]))
    follows_type[starts[lengths > 0]] = False
    flat = _Flat(sentences, path, starts, names, ids, prefix, types, type_, follows_type)
    illegal = np.array([not is_tag(name) for name in names], bool)[ids]
    if illegal.any():
        _refuse(flat, illegal, f"a tag is {TAG_RULE}", tag_hint(flat.names[flat.ids[illegal.argmax()]]))
    return flat


def _from_segments(flat: _Flat) -> tuple[list[Sentence], str]:
    """Check and convert IOBES or BILOU, which differ only in two letters."""
    iobes = (flat.prefix == "E") | (flat.prefix == "S")
    bilou = (flat.prefix == "L") | (flat.prefix == "U")
    if iobes.any() and bilou.any():
        later = bilou if iobes.argmax() < bilou.argmax() else iobes
        _refuse(flat, later, "E- and S- are IOBES, L- and U- are BILOU, and the file has both", "keep to one scheme")
    scheme, last, single = ("IOBES", "E", "S") if iobes.any() else ("BILOU", "L", "U")
    unfinished = (flat.prefix == "B") | (flat.prefix == "I")
    continues = (flat.prefix == "I") | (flat.prefix == last)
    linked = continues & flat.follows_type & np.append(False, unfinished[:-1])
    wrong = (continues & ~linked) | (unfinished & ~np.append(linked[1:], False))
    if wrong.any():
        rule = f"in {scheme} an entity is B-, I-, ..., {last}- of one type, or {single}- alone"
        _refuse(flat, wrong, rule, "tag the whole entity this way")
    prefix = np.where(flat.prefix == single, "B", np.where(flat.prefix == last, "I", flat.prefix))
    return _retag(flat, prefix), scheme


def _retag(flat: _Flat, prefix: np.ndarray) -> list[Sentence]:
    """The sentences with these prefixes (B, I or O) before their types."""
    table = ["O", *(f"B-{name}" for name in flat.types), *(f"I-{name}" for name in flat.types)]
    codes = np.where(prefix == "O", 0, 1 + flat.type + len(flat.types) * (prefix == "I"))
    tags = [table[code] for code in codes.tolist()]
    starts = flat.starts.tolist()
    return [
        sentence._replace(tags=tags[start : start + len(sentence.tags)]) for start, sentence in zip(starts, flat.sentences, strict=True)
    ]


def _refuse(flat: _Flat, wrong: np.ndarray, rule: str, hint: str) -> NoReturn:
    """Raise InputError at the first of the words that are wrong."""
    at = int(wrong.argmax())
    number = int(np.searchsorted(flat.starts, at, side="right"))
    position = at - int(flat.starts[number - 1])
    word, tag = flat.sentences[number - 1].words[position], flat.names[flat.ids[at]]
    what = f"sentence {number}, word {position + 1} ({word!r}): tag {tag!r}; {rule}"
    raise InputError(what, hint=hint, path=flat.path)
