"""The sentences of a corpus of any size: words as text and tags as small numbers, in arrays that are mapped into memory (ner/cache.py).

A sentence is made when it is looked at. Where all words or tags are needed, ``blocks`` gives parts of a size that memory holds easily.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, overload

import numpy as np

from ner.cache import Growing
from ner.sentences import Sentence, interned, joined

CHUNK = 4096  # sentences that are written or read at a time
BLOCK = 2**18  # words of a block


class Sentences(Sequence[Sentence]):
    """Sentences in their order: those of a file, or with ``numbers`` some of them.

    Attributes:
        arrays: of all sentences of the file. ``text``: uint8, UTF-8, the document and the words of each sentence with a NUL between two;
            ``places``: int64 [sentences + 1], where each sentence begins in it; ``bounds``: int64 [sentences + 1], how many words are
            before each sentence; ``tags``: an unsigned integer [words], each word's tag in ``names``.
        names: the tags by these numbers.
        key: a text that differs where the sentences do, under which something is cached about them; "" for sentences of no file.
        numbers: int64 [sentences], which sentences of the file these are.
    """

    def __init__(self, arrays: dict[str, np.ndarray], names: Sequence[str], key: str = "", numbers: np.ndarray | None = None):
        self.arrays, self.names, self.key = arrays, list(names), key
        self.numbers = np.arange(len(arrays["places"]) - 1) if numbers is None else numbers
        self._text = arrays["text"].data

    @classmethod
    def of(cls, sentences: Iterable[Sentence]) -> Sentences:
        """These sentences, put away one by one."""
        text, places, bounds, tags = Growing(np.uint8), Growing(np.int64), Growing(np.int64), Growing(np.uint32)
        index: defaultdict[str, int] = defaultdict(lambda: len(index))  # a new tag gets the next number
        size = count = 0
        places.append(0)
        bounds.append(0)
        rest = iter(sentences)
        while chunk := list(islice(rest, CHUNK)):
            texts = [joined([sentence.document, *sentence.words]) for sentence in chunk]
            text.append(np.frombuffer(b"".join(texts), np.uint8))
            sizes, counts = np.cumsum([len(part) for part in texts]), np.cumsum([len(sentence.words) for sentence in chunk])
            places.append(size + sizes)
            bounds.append(count + counts)
            size, count = size + int(sizes[-1]), count + int(counts[-1])
            tags.append(list(map(index.__getitem__, chain.from_iterable(sentence.tags for sentence in chunk))))
        arrays = {"text": text.array(), "places": places.array(), "bounds": bounds.array()}
        return cls({**arrays, "tags": smallest(tags.array(), len(index))}, [*index])

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Sentence: ...
    @overload
    def __getitem__(self, at: slice) -> Sentences: ...
    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return self.chosen(at, f"{at.start}:{at.stop}:{at.step}")
        number = range(len(self))[at]
        return next(self._made(self.numbers[number : number + 1]))

    def __iter__(self) -> Iterator[Sentence]:
        for first in range(0, len(self), CHUNK):
            yield from self._made(self.numbers[first : first + CHUNK])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Sentence.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def chosen(self, index: np.ndarray | slice, name: str) -> Sentences:
        """Those at ``index``, a NumPy index. name: what tells this choice from others."""
        return Sentences(self.arrays, self.names, self.key and f"{self.key} {name}", self.numbers[index])

    def retagged(self, names: Sequence[str], tags: np.ndarray) -> Sentences:
        """The same sentences of a whole file with other tags, numbers [words] in ``names``."""
        return Sentences({**self.arrays, "tags": smallest(tags, len(names))}, names)

    def _raw(self, numbers: np.ndarray) -> Iterator[bytes]:
        """The text of each: its document, and behind a NUL each of its words."""
        places = self.arrays["places"]
        for begin, end in zip(places[numbers].tolist(), places[numbers + 1].tolist(), strict=True):
            yield bytes(self._text[begin:end])

    def _spans(self, numbers: np.ndarray) -> Iterator[tuple[int, int]]:
        """Which words of the file, [first, end), are those of each."""
        bounds = self.arrays["bounds"]
        return zip(bounds[numbers].tolist(), bounds[numbers + 1].tolist(), strict=True)

    def _made(self, numbers: np.ndarray) -> Iterator[Sentence]:
        tags, names = self.arrays["tags"], self.names
        for raw, (first, end) in zip(self._raw(numbers), self._spans(numbers), strict=True):
            document, *words = raw.decode("utf-8", "surrogatepass").split("\0")
            yield interned(Sentence(words, [names[tag] for tag in tags[first:end].tolist()], document))

    def as_bytes(self) -> Iterator[tuple[bytes, bytes]]:
        """The words of each, and its tags, as bytes that are equal where these are."""
        tags = self.arrays["tags"].data
        for first in range(0, len(self), CHUNK):
            numbers = self.numbers[first : first + CHUNK]
            for raw, (begin, end) in zip(self._raw(numbers), self._spans(numbers), strict=True):
                yield raw.partition(b"\0")[2], bytes(tags[begin:end])

    @property
    def lengths(self) -> np.ndarray:
        """How many words each has, int64 [sentences]."""
        bounds = self.arrays["bounds"]
        return bounds[self.numbers + 1] - bounds[self.numbers]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """All sentences as [first, end), of about BLOCK words each."""
        return blocks(self.lengths)

    def words(self, first: int, end: int) -> list[str]:
        """The words of sentences [first, end), one after another."""
        texts = b"".join(raw[raw.find(b"\0") :] for raw in self._raw(self.numbers[first:end]) if b"\0" in raw)
        return texts[1:].decode("utf-8", "surrogatepass").split("\0") if texts else []

    def documents(self) -> Iterator[str]:
        """The document of each."""
        return (raw.partition(b"\0")[0].decode("utf-8", "surrogatepass") for raw in self._raw(self.numbers))

    def tags(self, first: int, end: int) -> np.ndarray:
        """The tags of the words of sentences [first, end) as numbers in ``names``, one after another."""
        numbers, bounds = self.numbers[first:end], self.arrays["bounds"]
        return self.arrays["tags"][ranges(bounds[numbers], bounds[numbers + 1] - bounds[numbers])]

    @functools.cached_property
    def distinct_tags(self) -> set[str]:
        """The tags that occur."""
        seen = np.zeros(len(self.names), bool)
        for first, end in self.blocks():
            seen[self.tags(first, end)] = True
        return {name for name, is_there in zip(self.names, seen.tolist(), strict=True) if is_there}


class Words(Sequence[list[str]]):
    """The words of sentences, made when they are looked at."""

    def __init__(self, sentences: Sentences):
        self.sentences = sentences

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, at: Any) -> Any:
        return Words(self.sentences[at]) if isinstance(at, slice) else self.sentences[at].words

    def __iter__(self) -> Iterator[list[str]]:
        return (sentence.words for sentence in self.sentences)


def blocks(lengths: np.ndarray, most: int = BLOCK) -> Iterator[tuple[int, int]]:
    """[first, end) of runs of items that have about ``most`` words together, at least one item each. lengths: words of each item."""
    ends = np.cumsum(lengths)
    first = before = 0
    while first < len(lengths):
        end = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield first, end
        first, before = end, int(ends[end - 1])


def smallest(numbers: np.ndarray, count: int) -> np.ndarray:
    """Numbers below ``count`` as the smallest unsigned integers that hold them."""
    small = Growing(np.min_scalar_type(max(0, count - 1)))
    for begin in range(0, len(numbers), BLOCK):
        small.append(numbers[begin : begin + BLOCK])
    return small.array()


def ranges(begins: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """``concatenate([arange(b, b + s) for b, s in zip(begins, sizes)])`` without the loop."""
    total = np.cumsum(sizes)
    if len(total) == 0:
        return np.zeros(0, np.int64)
    return np.arange(total[-1]) + np.repeat(begins - (total - sizes), sizes)
