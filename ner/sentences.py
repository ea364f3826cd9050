"""What a sentence is, which words and tags are valid, its entities, and sets of sentences: splits, copies, content hash.

A word is any non-empty string that is not only white space (ASCII spaces, tabs and line ends). It holds no NUL and no unpaired
surrogate. ``None``, ``null``, ``NA`` and ``nan`` are words like any other. A tag is ``O``, or one of B-, I-, E-, S-, L- and U- followed by
a type. A document is named by any text without NUL and unpaired surrogates.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from ner.errors import InputError

if TYPE_CHECKING:
    import numpy as np  # imported where it is needed: --help needs none

MANY = 100_000  # distinct words that a reader remembers at a time
DOCUMENT = ("document_id", "doc_id")  # the columns and JSON keys that name a sentence's document
SPLITS = ("train", "validation", "test")
TAG_RULE = "O or B-, I-, E-, S-, L- or U- and a type"
FORBIDDEN = re.compile(r"[\0\ud800-\udfff]")  # characters that no text may hold: NUL and unpaired surrogates

_TAG = re.compile(r"O|[BIESLU]-(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+(?<!\s)")

Span = tuple[str, int, int]  # an entity: its type, its first word, one past its last word


class Sentence(NamedTuple):
    """The words of one sentence and one tag for each, lists of the same length, and the document it belongs to.

    Sentences of one file with the same ``document`` belong together. "" means that the document is not known.
    """

    words: list[str]
    tags: list[str]
    document: str = ""


class Known(dict[str, str]):
    """Valid texts, at most MANY at a time: each is checked when it first comes, and all its copies share one str object."""

    def __init__(self, check: Callable[[str], str]):
        """check: gives the text back, or raises an error."""
        self.check = check

    def __missing__(self, text: str) -> str:
        if len(self) >= MANY:
            self.clear()
        self[text] = text = self.check(text)
        return text


class InvalidSentence(Exception):
    """Words and tags that are not a valid sentence, or that a file format cannot hold. The message says why."""


def is_tag(tag: str) -> bool:
    """Whether ``tag`` is ``O``, or a prefix of IOB, IOBES or BILOU, a hyphen and a printable type."""
    return _TAG.fullmatch(tag) is not None


def tag_hint(tag: str) -> str:
    """What to write in place of a tag that is not valid."""
    if tag.lower() in ("o", "none", "null", "nan") or not any(map(str.isalpha, tag)):
        return "write O, the capital letter, where there is no entity"
    if re.fullmatch("[BIESLU]-?", tag.upper()):
        return f"give it a type, such as {tag[0].upper()}-name"
    if tag.startswith("M-"):
        return f"write I-{tag[2:]} for {tag}, the M of BMES"
    near = re.sub("[_:/ ]", "-", tag[:1].upper() + tag[1:], count=1)
    if is_tag(near):
        return f"write {near}"
    if is_tag(f"I-{tag}"):
        return f"write I-{tag} on all words of an entity (I- alone is read as IOB1), or B-{tag} on its first word and I-{tag} on the others"
    return "correct it"


def word_fault(word: str) -> str:
    """Why this is not a valid word; "" if it is."""
    if not word.strip(" \t\r\n"):
        return "is empty"
    if FORBIDDEN.search(word):
        return "holds a NUL or an unpaired surrogate"
    return ""


def check(sentence: Sentence) -> None:
    """Raise InvalidSentence unless there are words, as many tags, and each word, each tag and the document is valid."""
    words, tags, document = sentence
    if not words:
        raise InvalidSentence("a sentence without words")
    if len(words) != len(tags):
        raise InvalidSentence(f"{len(words)} words but {len(tags)} tags")
    for number, (word, tag) in enumerate(zip(words, tags, strict=True), 1):
        if fault := word_fault(word):
            raise InvalidSentence(f"word {number} {fault}")
        if not is_tag(tag):
            raise InvalidSentence(f"the tag {tag!r} of word {number} is not {TAG_RULE} ({tag_hint(tag)})")
    if FORBIDDEN.search(document):
        raise InvalidSentence(f"the document {document!r} holds a NUL or an unpaired surrogate")


def valid_word(word: str, path: str | os.PathLike[str], line: int) -> str:
    """Return the word; raise InputError at this line of this file if it is not valid."""
    if fault := word_fault(word):
        raise InputError(f"a word {fault}", hint="fill it in or delete the row", path=path, line=line)
    return word


def valid_tag(tag: str, path: str | os.PathLike[str], line: int) -> str:
    """Return the tag; raise InputError at this line of this file if it is not valid."""
    if not is_tag(tag):
        raise InputError(f"tag {tag!r} is not {TAG_RULE}", hint=tag_hint(tag), path=path, line=line)
    return tag


def all_or_none(sentence: Sentence, before: str | None) -> None:
    """Raise InvalidSentence if of this sentence and the one before it (its document; None: no sentence) only one knows its document."""
    if before is not None and bool(before) != bool(sentence.document):
        raise InvalidSentence("only some sentences know their document; this format holds all documents or none")


def interned(sentence: Sentence) -> Sentence:
    """The same sentence with Python's one interned object for each distinct text: a large corpus holds each word, tag and document once."""
    return Sentence(list(map(sys.intern, sentence.words)), list(map(sys.intern, sentence.tags)), sys.intern(sentence.document))


def entity_spans(tags: Sequence[str]) -> list[Span]:
    """The entities of one sentence as ``(type, start, end)``, end exclusive, as seqeval's default mode finds them.

    ``B-`` always starts an entity; ``I-`` does so after ``O`` or another type.
    """
    found: list[Span] = []
    open_type, start = None, 0
    for position, tag in enumerate([*tags, "O"]):
        prefix, type_ = tag[0], tag[2:]
        if open_type is not None and (prefix != "I" or type_ != open_type):
            found.append((open_type, start, position))
            open_type = None
        if open_type is None and prefix != "O":
            open_type, start = type_, position
    return found


def span_tags(spans: Iterable[Span], length: int) -> list[str]:
    """The IOB2 tags of a sentence of ``length`` words with these entities, of which no two share a word."""
    tags = ["O"] * length
    for type_, first, end in spans:
        tags[first:end] = [f"B-{type_}"] + [f"I-{type_}"] * (end - first - 1)
    return tags


# --- sets of sentences ------------------------------------------------------------------------------------------------


def split(
    sentences: Sequence[Sentence], *, seed: int, fractions: Sequence[float] = (0.8, 0.1, 0.1), path: str | None = None
) -> dict[str, np.ndarray]:
    """The numbers of the sentences of ``train``, ``validation`` and, with three fractions, ``test``: int64, ascending.

    The split of a sentence depends only on the seed and its document or, where that is not known, its words (by a hash keyed with the
    seed). So documents stay whole, copies of a sentence without a document stay together, what is added later moves nothing else, and
    every machine gets the same splits. The fractions hold roughly: the fewer and the longer the documents, the more roughly.

    Args:
        sentences: what to divide.
        seed: chooses the splits.
        fractions: expected fractions of train, validation and perhaps test. Each is above 0, and they sum to 1.
        path: the file the sentences came from, for messages.

    Raises:
        InputError: the fractions are not valid, or a split would be empty.
    """
    if len(fractions) not in (2, 3) or not all(f > 0 for f in fractions) or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        given = ", ".join(map(str, fractions))
        raise InputError(f"split fractions {given}", hint="give two or three numbers above 0 that sum to 1")
    import numpy as np

    ends = list(accumulate(fractions[:-1]))  # where all but the last end in [0, 1)

    def part_of(sentence: Sentence) -> int:
        whole = [sentence.document] if sentence.document else sentence.words
        digest = hashlib.blake2b(joined(whole), digest_size=8, key=str(seed).encode()).digest()
        return bisect_right(ends, int.from_bytes(digest, "big") / 2**64)

    part = np.fromiter(map(part_of, sentences), np.int8)
    parts = {name: np.flatnonzero(part == number) for number, name in enumerate(SPLITS[: len(fractions)])}
    for name, numbers in parts.items():
        if not len(numbers):
            _refuse_empty(name, sentences, path)
    return parts


def _refuse_empty(name: str, sentences: Sequence[Sentence], path: str | None) -> NoReturn:
    documents = {sentence.document for sentence in sentences} - {""}
    what = f"no sentence of {len(sentences)} falls to the {name} split"
    if documents:
        what += f": a document stays whole, and there {'is 1' if len(documents) == 1 else f'are {len(documents)}'}"
    units = "documents" if documents else "sentences" if len(sentences) > 1 else "sentences (in conll a blank line ends one)"
    raise InputError(what, hint=f"use more {units}, another --split-seed, or --train and --validation", path=path)


def joined(texts: Iterable[str]) -> bytes:
    """The texts one after another. They hold no NUL, so it can stand between them."""
    return "\0".join(texts).encode("utf-8", "surrogatepass")


def content_hash(sentences: Iterable[Sentence]) -> str:
    """BLAKE2b-128 in hex over all words, tags and documents, written as one JSON array. Two corpora with the same hash are the same.

    A sentence without a document is written as words and tags only, so its hash is the one that older runs kept.
    """
    digest = hashlib.blake2b(b"[", digest_size=16)
    for number, sentence in enumerate(sentences):
        known = sentence if sentence.document else sentence[:2]
        digest.update((", " if number else "").encode() + json.dumps(known).encode())
    digest.update(b"]")
    return digest.hexdigest()


def conflicts(sentences: Iterable[tuple[bytes, bytes]]) -> int:
    """How many distinct sentences occur more than once with different tags. sentences: the words of each as bytes, and the tags."""
    import numpy as np

    found = bytearray()  # 24 bytes a sentence, however long it is
    for words, tags in sentences:
        found += hashlib.blake2b(words, digest_size=16).digest() + hashlib.blake2b(tags, digest_size=8).digest()
    digests = np.frombuffer(found, np.uint64).reshape(-1, 3)
    digests = digests[np.lexsort(digests.T[::-1])]
    same = (digests[1:, :2] == digests[:-1, :2]).all(axis=1)
    differs = same & (digests[1:, 2] != digests[:-1, 2])
    first = np.concatenate([[True], ~same])[: len(digests)]  # of the sentences with the same words
    return len(np.unique(np.cumsum(first)[1:][differs]))
