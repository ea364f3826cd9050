"""Tags and their ids. Tagging schemes: which one a file uses, whether all its tags follow it, and the conversion to IOB2."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ner.cache import Growing
from ner.corpus import Sentences
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
    def fit(cls, tags: Iterable[str]) -> TagSet:
        """For the tags that training sentences in IOB2 have, sorted as scikit-learn's LabelEncoder sorts them."""
        from sklearn.preprocessing import LabelEncoder

        types = {tag[2:] for tag in set(tags) - {"O"}}
        names = ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]
        return cls(tuple(str(name) for name in LabelEncoder().fit(names).classes_))

    @property
    def num_tags(self) -> int:
        """How many tags can be predicted."""
        return len(self.names)

    def encode(self, sentences: Sentences) -> np.ndarray:
        """The ids of all words of all sentences, one after another: the smallest unsigned integers that hold them, [words].

        Raises:
            InputError: a tag is not in the set (see `unseen`).
        """
        index = {name: i for i, name in enumerate(self.names)}
        if lacking := unseen(self, sentences.distinct_tags):
            what = f"the tag {lacking[0]!r} is not among the model's: {', '.join(self.names)}"
            raise InputError(what, hint="train on sentences that have it, or remove it from the data")
        id_of = np.array([index.get(name, 0) for name in sentences.names], np.min_scalar_type(self.num_tags - 1))
        ids = Growing(id_of.dtype)
        for first, end in sentences.blocks():
            ids.append(id_of[sentences.tags(first, end)])
        return ids.array()


def unseen(tagset: TagSet, tags: Iterable[str]) -> list[str]:
    """Those of the tags that the set lacks, sorted."""
    return sorted(set(tags) - set(tagset.names))


def to_iob2(sentences: Iterable[Sentence], path: str | os.PathLike[str] | None = None) -> tuple[Sentences, str]:
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
    corpus = Sentences.of(sentences)
    parts = _Parts(corpus, path)
    opening, plain = parts.count(_opening_i), parts.count(_plain_b)
    if {tag[0] for tag in corpus.distinct_tags} & set("ESLU"):
        return _from_segments(parts)
    if not opening:
        return corpus, "IOB2"
    if not plain:
        return parts.retagged(lambda flat: np.where(_opening_i(flat), "B", flat.prefix)), "IOB1"
    counts = f"the file opens {plain} entities with B- and {opening} with I- that follow none of their type"
    if plain >= opening:
        parts.refuse_any(
            _opening_i, f"in IOB2 an entity opens with B-, and {counts}", "write B- there, or correct the type of the tag before it"
        )
    parts.refuse_any(_plain_b, f"in IOB1 an entity opens with B- only right after another of its type, and {counts}", "write I- there")
    raise AssertionError("both kinds were counted")


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
    """All words of some sentences, one after another. The arrays have the shape [words]."""

    prefix: np.ndarray  # "O" or the letter before the hyphen
    type: np.ndarray  # each word's type in the list of types, -1 for O
    follows_type: np.ndarray  # whether the word before, in the same sentence, has the same type


class _Parts:
    """The tags of a corpus, part by part: memory holds those of one part at a time."""

    def __init__(self, corpus: Sentences, path: str | os.PathLike[str] | None):
        """Raises InputError at the first tag that is none."""
        self.corpus, self.path = corpus, path
        self.types = sorted({name[2:] for name in corpus.names if name != "O"})
        number = {name: i for i, name in enumerate(self.types)}
        self.prefix_of = np.array([name[:1] for name in corpus.names], "<U1")
        self.type_of = np.array([number[name[2:]] if name != "O" else -1 for name in corpus.names], np.int64)
        illegal = np.array([not is_tag(name) for name in corpus.names], bool)
        if illegal.any():
            for first, end in corpus.blocks():
                tags = corpus.tags(first, end)
                if (wrong := illegal[tags]).any():
                    self.refuse(first, wrong, f"a tag is {TAG_RULE}", tag_hint(corpus.names[tags[wrong.argmax()]]))

    def __iter__(self) -> Iterator[tuple[int, _Flat]]:
        """The number of each part's first sentence, and its tags."""
        for first, end in self.corpus.blocks():
            ids, lengths = self.corpus.tags(first, end), self.corpus.lengths[first:end]
            type_ = self.type_of[ids]
            follows_type = (type_ >= 0) & (type_ == np.append(-1, type_[:-1]))
            follows_type[(np.cumsum(lengths) - lengths)[lengths > 0]] = False
            yield first, _Flat(self.prefix_of[ids], type_, follows_type)

    def count(self, which: Callable[[_Flat], np.ndarray]) -> int:
        """For how many words ``which`` is true."""
        return sum(int(np.count_nonzero(which(flat))) for _, flat in self)

    def retagged(self, prefix: Callable[[_Flat], np.ndarray]) -> Sentences:
        """The sentences with these prefixes (B, I or O) before their types."""
        table = ["O", *(f"B-{name}" for name in self.types), *(f"I-{name}" for name in self.types)]
        codes = Growing(np.uint32)
        for _, flat in self:
            new = prefix(flat)
            codes.append(np.where(new == "O", 0, 1 + flat.type + len(self.types) * (new == "I")))
        return self.corpus.retagged(table, codes.array())

    def refuse_any(self, wrong: Callable[[_Flat], np.ndarray], rule: str, hint: str) -> None:
        """Raise InputError at the first word, if there is one, that is wrong."""
        for first, flat in self:
            self.refuse(first, wrong(flat), rule, hint)

    def refuse(self, first: int, wrong: np.ndarray, rule: str, hint: str) -> None:
        """Raise InputError at the first word, if there is one, that is wrong. wrong: of the words from sentence ``first`` on."""
        if not wrong.any():
            return
        at = int(wrong.argmax())
        ends = np.cumsum(self.corpus.lengths[first:])
        number = int(np.searchsorted(ends, at, side="right"))
        sentence = self.corpus[first + number]
        position = at - int(ends[number]) + len(sentence.words)
        word, tag = sentence.words[position], sentence.tags[position]
        what = f"sentence {first + number + 1}, word {position + 1} ({word!r}): tag {tag!r}; {rule}"
        raise InputError(what, hint=hint, path=self.path)


def _opening_i(flat: _Flat) -> np.ndarray:
    return (flat.prefix == "I") & ~flat.follows_type


def _plain_b(flat: _Flat) -> np.ndarray:
    return (flat.prefix == "B") & ~flat.follows_type


def _from_segments(parts: _Parts) -> tuple[Sentences, str]:
    """Check and convert IOBES or BILOU, which differ only in two letters."""
    iobes, bilou = (lambda flat: np.isin(flat.prefix, ["E", "S"])), (lambda flat: np.isin(flat.prefix, ["L", "U"]))
    if parts.count(iobes) and parts.count(bilou):
        later = next(bilou if _before(iobes(flat), bilou(flat)) else iobes for _, flat in parts if (iobes(flat) | bilou(flat)).any())
        parts.refuse_any(later, "E- and S- are IOBES, L- and U- are BILOU, and the file has both", "keep to one scheme")
    scheme, last, single = ("IOBES", "E", "S") if parts.count(iobes) else ("BILOU", "L", "U")

    def wrong(flat: _Flat) -> np.ndarray:
        unfinished = (flat.prefix == "B") | (flat.prefix == "I")
        continues = (flat.prefix == "I") | (flat.prefix == last)
        linked = continues & flat.follows_type & np.append(False, unfinished[:-1])
        return (continues & ~linked) | (unfinished & ~np.append(linked[1:], False))

    parts.refuse_any(
        wrong, f"in {scheme} an entity is B-, I-, ..., {last}- of one type, or {single}- alone", "tag the whole entity this way"
    )
    return parts.retagged(lambda flat: np.where(flat.prefix == single, "B", np.where(flat.prefix == last, "I", flat.prefix))), scheme


def _before(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the first word of the one kind stands before the first of the other kind; there is one of either."""
    return bool(one.any() and (not other.any() or one.argmax() < other.argmax()))
