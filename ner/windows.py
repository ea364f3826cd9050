"""Long sentences or whole documents -> windows that fit a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from ner.cache import Growing
from ner.corpus import BLOCK, blocks, ranges

# With document context rows need not be longer: in half-overlapping windows of 256 a word inside a document has at least about 63 pieces
# of context on either side.
CONTEXT_ROW = 256
CHUNK = 2**14  # documents' names that are read at a time


@dataclasses.dataclass(frozen=True)
class Windows:
    """Every window's word pieces end to end, [CLS] and [SEP] included; window w is ``[starts[w]:starts[w + 1]]``.

    Windows are cut from units: a unit is one sentence, or with document context the adjacent sentences of one document.

    Attributes:
        pieces: int32 [pieces], ids in the tokenizer's vocabulary.
        words: int32 [pieces], the word (counted over all sentences) the piece belongs to; -1 for [CLS], [SEP] and the pieces of words
            that this window only holds as context: every word belongs to exactly one window.
        first: bool [pieces], True on the first piece of each word that the window owns.
        starts: int64 [windows + 1].
        sentences: int32 [windows], the sentence a window is cut from, or the first one of its unit.
        bounds: int64 [sentences + 1], sentence s is words ``[bounds[s]:bounds[s + 1]]``.
        units: int64 [units + 1], unit u is sentences ``[units[u]:units[u + 1]]``.
        cut_words: distinct words with more pieces than half a row; the rest of them is dropped.
        row_length: no window has more pieces, except where a document to be trained on is still whole (``cut_documents``).
    """

    pieces: np.ndarray
    words: np.ndarray
    first: np.ndarray
    starts: np.ndarray
    sentences: np.ndarray
    bounds: np.ndarray
    units: np.ndarray
    cut_words: int
    row_length: int

    @property
    def lengths(self) -> np.ndarray:
        """int64 [windows], word pieces per window with [CLS] and [SEP]."""
        return np.diff(self.starts)

    @property
    def num_words(self) -> int:
        """Words in all sentences."""
        return int(self.bounds[-1])

    def distinct_pieces(self) -> np.ndarray:
        """The pieces that occur, ascending, int64."""
        seen = np.zeros(0, bool)
        for begin in range(0, len(self.pieces), BLOCK):
            some = self.pieces[begin : begin + BLOCK]
            seen = np.pad(seen, (0, max(0, int(some.max()) + 1 - len(seen))))
            seen[some] = True
        return np.flatnonzero(seen)

    def count_pieces(self) -> int:
        """The pieces of words, those that a window holds as context left out."""
        return sum(int(np.count_nonzero(self.words[begin : begin + BLOCK] >= 0)) for begin in range(0, len(self.words), BLOCK))

    def words_with(self, piece: int) -> np.ndarray:
        """The words that have this piece, counted over all sentences; int64, ascending."""
        found = np.zeros(self.num_words, bool)
        for begin in range(0, len(self.words), BLOCK):
            words = self.words[begin : begin + BLOCK][self.pieces[begin : begin + BLOCK] == piece]
            found[words[words >= 0]] = True
        return np.flatnonzero(found)

    def sentence_of(self, words: np.ndarray) -> np.ndarray:
        """The sentence of each of these words, counted over all sentences; int64."""
        return np.searchsorted(self.bounds, words, side="right") - 1

    def tightened(self) -> Windows:
        """The same windows for the shortest rows of 64, 128, 256, ... that hold each of them; no longer ones than now."""
        row_length = 64
        while row_length < self.lengths.max(initial=0):
            row_length *= 2
        return dataclasses.replace(self, row_length=min(self.row_length, row_length))

    def of_sentences(self, first: int, end: int) -> Windows:
        """The windows of sentences [first, end), which must be whole units; words and sentences are counted from 0 again."""
        low, high = np.searchsorted(self.sentences, [first, end]).tolist()
        inside = slice(int(self.starts[low]), int(self.starts[high]))
        words, before = self.words[inside], self.bounds[first]
        return dataclasses.replace(
            self,
            pieces=self.pieces[inside],
            words=np.where(words >= 0, words - before, -1).astype(np.int32),
            first=self.first[inside],
            starts=self.starts[low : high + 1] - self.starts[low],
            sentences=self.sentences[low:high] - np.int32(first),
            bounds=self.bounds[first : end + 1] - before,
            units=self.units[slice(*np.searchsorted(self.units, [first, end + 1]))] - first,
            cut_words=0,
        )

    def sentences_of(self, words: np.ndarray) -> list[int]:
        """The sentences (from 0, ascending) that these words, counted over all sentences, belong to; negative ones to none."""
        return np.unique(self.sentence_of(words[words >= 0])).tolist()

    def cut_documents(self, random: np.random.Generator) -> Windows:
        """The windows with each document that does not fit a row cut into disjoint ones, at places that ``random`` chooses.

        So every word is in one window, which owns it. Other windows stay as they are.
        """
        if (self.lengths <= self.row_length).all():
            return self
        low, high, old = self._disjoint(random).T  # pieces [low, high) of window `old`, without its [CLS] and [SEP]
        sizes = high - low + 2
        taken = {name: Growing(getattr(self, name).dtype) for name in ("pieces", "words", "first")}
        for first, end in blocks(sizes):
            source = ranges(low[first:end] - 1, sizes[first:end])
            ends = np.cumsum(sizes[first:end])
            source[ends - sizes[first:end]], source[ends - 1] = self.starts[old[first:end]], self.starts[old[first:end] + 1] - 1
            for name, growing in taken.items():
                growing.append(getattr(self, name)[source])
        starts = np.concatenate([[0], np.cumsum(sizes)])
        arrays: dict[str, Any] = {name: growing.array() for name, growing in taken.items()}
        return dataclasses.replace(self, **arrays, starts=starts, sentences=self.sentences[old])

    def _disjoint(self, random: np.random.Generator) -> np.ndarray:
        """Where ``cut_documents`` cuts: int64 [windows, 3], the first piece, one past the last, and the window they are now in."""
        number, lengths = np.arange(len(self.sentences)), self.lengths
        kept = np.stack([self.starts[:-1] + 1, self.starts[1:] - 1, number], axis=1)[lengths <= self.row_length]
        cuts = [span for window in number[lengths > self.row_length].tolist() for span in self._cuts(window, random)]
        spans = np.concatenate([kept, np.array(cuts, np.int64).reshape(-1, 3)])
        return spans[np.lexsort((spans[:, 0], spans[:, 2]))]

    def _cuts(self, window: int, random: np.random.Generator) -> list[tuple[int, int, int]]:
        """Where one document that does not fit a row is cut; rows as in ``_disjoint``."""
        capacity = self.row_length - 2
        start, high = int(self.starts[window]) + 1, int(self.starts[window + 1]) - 1
        words = start + np.flatnonzero(self.first[start:high])
        of_sentence = self.sentence_of(self.words[words])
        sentences = words[np.append(True, of_sentence[1:] != of_sentence[:-1])]
        spans = []
        # The first window holds from half of what fits to all of it: cuts move from epoch to epoch, and no first window is tiny.
        room = int(random.integers((capacity + 1) // 2, capacity + 1))
        while high - start > room:
            end, sentence = _last(words, start + room), _last(sentences, start + room)
            # A cut at the end of a sentence tears neither it nor an entity. It is taken where it costs an eighth of a window at most.
            if sentence > start and sentence >= end - capacity // 8:
                end = sentence
            spans.append((start, end, window))
            start, room = end, capacity
        return [*spans, (start, high, window)]


def document_bounds(documents: Iterable[str]) -> np.ndarray:
    """int64 [units + 1]: adjacent sentences of one document are a unit, and so is each sentence whose document is "", not known."""
    begins, before, count = Growing(np.int64), "", 0
    rest = iter(documents)
    while chunk := list(islice(rest, CHUNK)):
        pairs = enumerate(zip([before, *chunk], chunk, strict=False), count)
        begins.append([number for number, (last, name) in pairs if number == 0 or not name or name != last])
        before, count = chunk[-1], count + len(chunk)
    begins.append(count)
    return begins.array()


def choose_row_length(sentences: np.ndarray, longest: int, units: np.ndarray) -> int:
    """The smallest multiple of 32, at least 64, that holds 99 % of the sentences whole; at most ``longest``.

    With document context it holds 99 % of the documents whole as well, or has CONTEXT_ROW pieces.

    sentences, units: word pieces of each, int64. Short rows are cheap (attention grows with the row length), and rows of 64 are filled to
    99 % by a corpus of sentences.
    """
    return min(longest, max(_holding(sentences), min(CONTEXT_ROW, _holding(units))))


def _holding(lengths: np.ndarray) -> int:
    """The smallest multiple of 32, at least 64, that holds 99 % of these lengths."""
    wanted = int(np.quantile(lengths, 0.99)) if len(lengths) else 64
    return max(64, -(-wanted // 32) * 32)


def _last(places: np.ndarray, limit: int) -> int:
    """The largest of the ascending places that is at most ``limit``."""
    return int(places[np.searchsorted(places, limit, side="right") - 1])


def spans_of_units(word_sizes: np.ndarray, bounds: np.ndarray, capacity: int, whole: np.ndarray) -> np.ndarray:
    """int64 [windows, 5]: unit, first word, end word, first owned word, end of the owned words; one window for most sentences.

    bounds: int64 [units + 1], in words. whole: bool [units], which units stay one window whatever their length.
    """
    before = np.concatenate([[0], np.cumsum(word_sizes)])
    low, high = bounds[:-1], bounds[1:]
    number = np.arange(len(low))
    fits = (before[high] - before[low] <= capacity) | whole
    short = np.stack([number, low, high, low, high], axis=1)[fits]
    long = [span for u in number[~fits] for span in _overlapping(int(u), before, int(low[u]), int(high[u]), capacity)]
    spans = np.concatenate([short, np.array(long, np.int64).reshape(-1, 5)])
    spans = spans[spans[:, 2] > spans[:, 1]]  # a unit without words has no window
    return spans[np.lexsort((spans[:, 1], spans[:, 0]))]


def _overlapping(unit: int, before: np.ndarray, low: int, high: int, capacity: int) -> list[list[int]]:
    """Windows over words [low, high) that overlap by about half; a word belongs to the window in which it has most context."""
    windows = []
    start = low
    while True:
        end = int(np.searchsorted(before, before[start] + capacity, side="right")) - 1
        end = min(max(end, start + 1), high)
        windows.append((start, end))
        if end == high:
            break
        half = int(np.searchsorted(before, before[end] - capacity // 2, side="left"))
        start = min(max(half, start + 1), end)
    middles = [(s + e + 1) // 2 for (s, _), (_, e) in zip(windows[1:], windows, strict=False)]
    edges = [low, *middles, high]
    return [[unit, s, e, edges[i], edges[i + 1]] for i, (s, e) in enumerate(windows)]


def longest_word(row_length: int) -> int:
    """The pieces that a word may have in rows of this length; the rest of it is dropped."""
    return max(1, (row_length - 2) // 2)


def assemble(
    spans: np.ndarray, sizes: np.ndarray, flat: np.ndarray, begins: np.ndarray, cls: int, sep: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The windows as `[CLS] pieces [SEP] [CLS] pieces [SEP] ...`: ``pieces``, ``words``, ``first`` and ``starts`` of ``Windows``.

    spans: int64 [windows, 5] of ``spans_of_units``. sizes, begins: int64 [words], how many pieces each word has, and where they begin in
    ``flat``, int32, the pieces of all words end to end. cls, sep: the pieces before and behind a window.
    """
    _, low, high, own_low, own_high = spans.T
    # Every word of every window, window after window.
    words = ranges(low, high - low)
    window = np.repeat(np.arange(len(spans)), high - low)
    owned = (words >= own_low[window]) & (words < own_high[window])
    sizes = sizes[words]
    starts = np.concatenate([[0], np.cumsum(np.bincount(window, sizes, len(spans)).astype(np.int64) + 2)])
    # A word's first piece comes after the pieces of all words before it, two special pieces a window before it, and its own [CLS].
    first_place = np.cumsum(sizes) - sizes + 2 * window + 1
    places = ranges(first_place, sizes)

    pieces = np.empty(starts[-1], np.int32)
    pieces[starts[:-1]], pieces[starts[1:] - 1] = cls, sep
    pieces[places] = flat[ranges(begins[words], sizes)]
    belongs = np.full(len(pieces), -1, np.int64)
    belongs[places] = np.repeat(np.where(owned, words, -1), sizes)
    first = np.zeros(len(pieces), bool)
    first[first_place[owned]] = True
    return pieces, belongs, first, starts
