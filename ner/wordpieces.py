"""Words -> word pieces, and long sentences or whole documents -> windows that fit a row.

A word's pieces depend on the word alone (BERT splits at white space and punctuation before WordPiece), so each distinct word is encoded
once, in one batch, and the corpus is assembled from those with array operations: no Python loop over words.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from ner import cache
from ner.errors import InputError

SOME_WORDS = 10_000  # enough to see how a vocabulary treats capitals
# With document context rows need not be longer: in half-overlapping windows of 256 a word inside a document has at least about 63 pieces
# of context on either side.
CONTEXT_ROW = 256
CASES = 5  # token types of a model that is told its words' case: not known, and the four of ``word_case``


@dataclasses.dataclass(frozen=True)
class Windows:
    """Every window's word pieces end to end, [CLS] and [SEP] included; window w is ``[starts[w]:starts[w + 1]]``.

    Windows are cut from units: a unit is one sentence, or with document context the adjacent sentences of one document.

    Attributes:
        pieces: int32 [pieces], ids in the checkpoint's vocabulary.
        types: int32 [pieces], token types: the case of the piece's word (``word_case``), or 0 throughout.
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
    types: np.ndarray
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

    def of_sentences(self, first: int, end: int) -> Windows:
        """The windows of sentences [first, end), which must be whole units; words and sentences are counted from 0 again."""
        low, high = np.searchsorted(self.sentences, [first, end]).tolist()
        inside = slice(int(self.starts[low]), int(self.starts[high]))
        words, before = self.words[inside], self.bounds[first]
        return dataclasses.replace(
            self,
            pieces=self.pieces[inside],
            types=self.types[inside],
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
        return np.unique(np.searchsorted(self.bounds, words[words >= 0], side="right") - 1).tolist()

    def cut_documents(self, random: np.random.Generator) -> Windows:
        """The windows with each document that does not fit a row cut into disjoint ones, at places that ``random`` chooses.

        So every word is in one window, which owns it. Other windows stay as they are.
        """
        if (self.lengths <= self.row_length).all():
            return self
        low, high, old = self._disjoint(random).T  # pieces [low, high) of window `old`, without its [CLS] and [SEP]
        source = _ranges(low - 1, high - low + 2)
        starts = np.concatenate([[0], np.cumsum(high - low + 2)])
        source[starts[:-1]], source[starts[1:] - 1] = self.starts[old], self.starts[old + 1] - 1
        taken = {name: getattr(self, name)[source] for name in ("pieces", "types", "words", "first")}
        return dataclasses.replace(self, **taken, starts=starts, sentences=self.sentences[old])

    def _disjoint(self, random: np.random.Generator) -> np.ndarray:
        """Where ``cut_documents`` cuts: int64 [windows, 3], the first piece, one past the last, and the window they are now in."""
        capacity = self.row_length - 2
        words = np.flatnonzero(self.first)
        sentences = words[self.bounds[:-1][np.diff(self.bounds) > 0]]
        spans = []
        for window, length in enumerate(self.lengths.tolist()):
            start, high = int(self.starts[window]) + 1, int(self.starts[window + 1]) - 1
            # The first window holds from half of what fits to all of it: cuts move from epoch to epoch, and no first window is tiny.
            room = int(random.integers((capacity + 1) // 2, capacity + 1)) if length > self.row_length else capacity
            while high - start > room:
                end, sentence = _last(words, start + room), _last(sentences, start + room)
                # A cut at the end of a sentence tears neither it nor an entity. It is taken where it costs an eighth of a window at most.
                if sentence > start and sentence >= end - capacity // 8:
                    end = sentence
                spans.append((start, end, window))
                start, room = end, capacity
            spans.append((start, high, window))
        return np.array(spans, np.int64)


class WordPieces:
    """The tokenizer of a model folder, with its truncation and padding switched off.

    With ``case`` the token types say what an uncased vocabulary does not: how each word is written.
    """

    def __init__(self, tokenizer: Tokenizer, special: Sequence[str], path: Path | None = None, *, case: bool = False):
        """special: the pieces before and after a sentence and the unknown one. Raises InputError where one is not in the vocabulary."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer, self.case = tokenizer, case
        for name in special:
            if tokenizer.token_to_id(name) is None:
                raise InputError(f"the vocabulary has no {name}", path=path, hint="use a BERT checkpoint with a WordPiece tokenizer")
        self.cls, self.sep, self.unk = (tokenizer.token_to_id(name) or 0 for name in special)

    @classmethod
    def load(cls, source, *, case: bool = False) -> WordPieces:
        """The tokenizer of a model folder (``ner.pretrained.Pretrained``); its ids must be below the encoder's ``vocab_size``."""
        family, folder = source.family, source.folder
        loaded = cls(_tokenizer(folder), (family.CLS, family.SEP, family.UNK), folder, case=case)
        largest = max(loaded.tokenizer.get_vocab(with_added_tokens=True).values())
        if largest >= source.shape.vocab_size:
            what = f"the tokenizer gives ids up to {largest}, the encoder has {source.shape.vocab_size} word pieces"
            raise InputError(what, path=folder, hint="use the checkpoint's own tokenizer")
        return loaded

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        """Pieces of each word, at least one ([UNK] for a word the tokenizer makes nothing of)."""
        try:
            encodings = self.tokenizer.encode_batch_fast([[w] for w in words], is_pretokenized=True, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):  # unpaired surrogates, which JSON can carry
            words = [w.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for w in words]
            encodings = self.tokenizer.encode_batch_fast([[w] for w in words], is_pretokenized=True, add_special_tokens=False)
        return [e.ids or [self.unk] for e in encodings]

    def lacks_case(self, sentences: Sequence[Sequence[str]]) -> bool:
        """Whether capitals tell something in these sentences that the pieces do not.

        They do if at least a tenth of the sentences has a word with a capital beside one without, and the vocabulary reads at least nine
        in ten of such words as it reads them in small letters.
        """
        mixed = [s for s in sentences if any(word != word.lower() for word in s) and any(word != word.upper() for word in s)]
        if 10 * len(mixed) < len(sentences):
            return False
        capitals = list(dict.fromkeys(word for s in mixed for word in s if word != word.lower()))[:SOME_WORDS]
        pairs = zip(self.encode_words(capitals), self.encode_words([word.lower() for word in capitals]), strict=True)
        return sum(written == small for written, small in pairs) >= 0.9 * len(capitals)

    def encode_cached(self, sentences: Sequence[Sequence[str]], row_length: int | None = None, longest: int = 512, **options) -> Windows:
        """``encode``, kept on disk under the hash of the words, the tokenizer and what is asked for."""
        text = json.dumps([len(s) for s in sentences]) + "\0".join(word for sentence in sentences for word in sentence)
        asked = f"{row_length} {longest} {self.case} {json.dumps(options)}"
        sources = [text.encode("utf-8", "surrogatepass"), self.tokenizer.to_str().encode(), asked.encode()]
        return cache.remembered("windows", sources, lambda: self.encode(sentences, row_length, longest, **options), _dump, _load)

    def encode(
        self,
        sentences: Sequence[Sequence[str]],
        row_length: int | None = None,
        longest: int = 512,
        *,
        documents: Sequence[str] | None = None,
        whole: bool = False,
    ) -> Windows:
        """Sentences (lists of words) -> windows in corpus order.

        They have at most ``row_length`` pieces; None chooses it for these sentences, at most ``longest``.

        documents: the document of each sentence, "" if it is not known. Then adjacent sentences of one document share windows.
        whole: leave each document of several sentences in one window of any length, to be cut anew in each epoch of training
        (``Windows.cut_documents``).
        """
        import pandas as pd

        words = [word for sentence in sentences for word in sentence]
        codes, distinct = pd.factorize(np.array(words, dtype=object)) if words else (np.zeros(0, np.int64), [])
        vocabulary = self.encode_words(list(distinct))
        sizes = np.array([len(ids) for ids in vocabulary], np.int64)
        bounds = np.concatenate([[0], np.cumsum([len(s) for s in sentences], dtype=np.int64)])
        units = np.arange(len(bounds)) if documents is None else document_bounds(documents)
        if row_length is None:
            before = np.concatenate([[0], np.cumsum(sizes[codes])]) if words else np.zeros(1, np.int64)
            row_length = choose_row_length(np.diff(before[bounds]) + 2, longest, np.diff(before[bounds[units]]) + 2)
        limit = max(1, (row_length - 2) // 2)
        cut = int(np.count_nonzero(sizes > limit))
        sizes = np.minimum(sizes, limit)
        flat = np.array([i for ids in vocabulary for i in ids[:limit]], np.int32)
        begins = np.concatenate([[0], np.cumsum(sizes)])
        word_sizes = sizes[codes] if len(codes) else np.zeros(0, np.int64)
        spans = _window_spans(word_sizes, bounds[units], row_length - 2, whole & (np.diff(units) > 1))
        spans[:, 0] = units[spans[:, 0]]
        counts = {"bounds": bounds, "units": units, "cut_words": cut, "row_length": row_length}
        cases = _cases(list(distinct), codes, bounds) if self.case else np.zeros(len(words), np.int32)
        return self._assemble(spans, codes, cases, word_sizes, flat, begins, **counts)

    def _assemble(self, spans, codes, cases, word_sizes, flat, begins, **counts) -> Windows:
        """The windows as `[CLS] pieces [SEP] [CLS] pieces [SEP] ...`.

        spans: int64 [windows, 5] of ``_window_spans``, with the unit's first sentence in place of its number; codes, cases, word_sizes:
        [words], each word's number in the vocabulary of distinct words, case and number of pieces; flat: the pieces of all distinct words;
        begins: where each of these starts in ``flat``.
        """
        sentence, low, high, own_low, own_high = spans.T
        # Every word of every window, window after window.
        words = _ranges(low, high - low)
        window = np.repeat(np.arange(len(spans)), high - low)
        owned = (words >= own_low[window]) & (words < own_high[window])
        sizes = word_sizes[words]
        starts = np.concatenate([[0], np.cumsum(np.bincount(window, sizes, len(spans)).astype(np.int64) + 2)])
        # A word's first piece comes after the pieces of all words before it, two special pieces a window before it, and its own [CLS].
        first_place = np.cumsum(sizes) - sizes + 2 * window + 1
        places = _ranges(first_place, sizes)

        pieces = np.empty(starts[-1], np.int32)
        pieces[starts[:-1]], pieces[starts[1:] - 1] = self.cls, self.sep
        pieces[places] = flat[_ranges(begins[codes[words]], sizes)]
        types = np.zeros(len(pieces), np.int32)
        types[places] = np.repeat(cases[words], sizes)
        belongs = np.full(len(pieces), -1, np.int32)
        belongs[places] = np.repeat(np.where(owned, words, -1), sizes)
        first = np.zeros(len(pieces), bool)
        first[first_place[owned]] = True
        return Windows(pieces, types, belongs, first, starts, sentence.astype(np.int32), **counts)


def _tokenizer(folder: Path) -> Tokenizer:
    """``tokenizer.json``, else what transformers makes of the folder's other tokenizer files.

    Raises InputError where there are none, and for a tokenizer that runs in Python only.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        if not (folder / "vocab.txt").is_file():
            raise InputError("no tokenizer.json or vocab.txt", path=folder, hint="use a complete checkpoint folder")
        from transformers import AutoTokenizer  # it knows tokenizer_class and its options; imported only here, it takes seconds

        slow = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if not hasattr(slow, "backend_tokenizer"):
            what = f"its tokenizer, {type(slow).__name__}, has no fast form"
            raise InputError(what, path=folder, hint="use a checkpoint with a tokenizer.json")
        return slow.backend_tokenizer
    except InputError:
        raise
    except Exception as error:  # both libraries raise many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"the tokenizer cannot be read ({reason})", path=folder, hint="fetch the checkpoint again") from None


def word_case(word: str) -> int:
    """How a word is written: 1 without a capital, 2 Capitalised, 3 ALL CAPITALS, 4 anY other WaY; never 0, which stands for unknown."""
    if word == word.lower():
        return 1
    if word[1:] == word[1:].lower():
        return 2
    return 3 if word == word.upper() else 4


def _cases(distinct: Sequence[str], codes: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The case of every word, int32 [words]; 0 throughout a sentence in small letters or capitals only, where it tells nothing."""
    case = np.array([word_case(word) for word in distinct], np.int32)[codes]
    small = np.array([word != word.upper() for word in distinct], bool)[codes]
    counts = [np.concatenate([[0], np.cumsum(which)])[bounds] for which in (case > 1, small)]
    telling = np.logical_and(*(np.diff(count) > 0 for count in counts))
    return np.where(np.repeat(telling, np.diff(bounds)), case, 0).astype(np.int32)


def document_bounds(documents: Sequence[str]) -> np.ndarray:
    """int64 [units + 1]: adjacent sentences of one document are a unit, and so is each sentence whose document is "", not known."""
    begins = [i for i, name in enumerate(documents) if i == 0 or not name or name != documents[i - 1]]
    return np.array([*begins, len(documents)], np.int64)


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


def _dump(windows: Windows) -> memoryview:
    """As bytes, held once: for a large corpus they are its largest object."""
    file = io.BytesIO()
    np.savez(file, **vars(windows))
    return file.getbuffer()


def _load(content: bytes) -> Windows:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        values: dict[str, Any] = {name: array if array.ndim else int(array) for name, array in arrays.items()}
    return Windows(**values)


def _ranges(begins: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """``concatenate([arange(b, b + s) for b, s in zip(begins, sizes)])`` without the loop."""
    total = np.cumsum(sizes)
    if len(total) == 0:
        return np.zeros(0, np.int64)
    return np.arange(total[-1]) + np.repeat(begins - (total - sizes), sizes)


def _last(places: np.ndarray, limit: int) -> int:
    """The largest of the ascending places that is at most ``limit``."""
    return int(places[np.searchsorted(places, limit, side="right") - 1])


def _window_spans(word_sizes: np.ndarray, bounds: np.ndarray, capacity: int, whole: np.ndarray) -> np.ndarray:
    """int64 [windows, 5]: unit, first word, end word, first owned word, end of the owned words; one window for most sentences.

    bounds: int64 [units + 1], in words. whole: bool [units], which units stay one window whatever their length.
    """
    before = np.concatenate([[0], np.cumsum(word_sizes)])
    low, high = bounds[:-1], bounds[1:]
    number = np.arange(len(low))
    fits = (before[high] - before[low] <= capacity) | whole
    short = np.stack([number, low, high, low, high], axis=1)[fits]
    long = [span for u in number[~fits] for span in _cut(int(u), before, int(low[u]), int(high[u]), capacity)]
    spans = np.concatenate([short, np.array(long, np.int64).reshape(-1, 5)])
    spans = spans[spans[:, 2] > spans[:, 1]]  # a unit without words has no window
    return spans[np.lexsort((spans[:, 1], spans[:, 0]))]


def _cut(unit: int, before: np.ndarray, low: int, high: int, capacity: int) -> list[list[int]]:
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
