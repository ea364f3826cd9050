"""Words -> word pieces, and long sentences or whole documents -> windows that fit a row.

A word's pieces depend on the word alone (BERT splits at white space and punctuation before WordPiece), so each distinct word of a block of
sentences is encoded once, and the block is assembled from those with array operations: no Python loop over words. Memory holds one block.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer, models, normalizers

from ner import cache
from ner.cache import Growing
from ner.cased import CasedVocabulary, cased
from ner.corpus import BLOCK, Sentences, blocks, ranges
from ner.errors import InputError, printable

# A tokenizer's files: those of the fast form, and those that transformers makes one from.
SLOW = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", *SLOW)
# What the tokenizers of these families call the unknown piece where no file says so, as in a folder of vocab.json and merges.txt only.
UNKNOWN = ("<unk>", "[UNK]")
PADDING = ("<pad>", "[PAD]")
BATCH = 2**14  # words that the tokenizer is given at a time
SOME_WORDS = 10_000  # enough to see how a vocabulary treats capitals
# With document context rows need not be longer: in half-overlapping windows of 256 a word inside a document has at least about 63 pieces
# of context on either side.
CONTEXT_ROW = 256


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
        """The same for one document that does not fit a row."""
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


class WordPieces:
    """The tokenizer of a model folder, with its truncation and padding switched off (by ``load``).

    Attributes:
        tokenizer: what words are read by.
        cls, sep, unk, pad: ids of the pieces before and after a sentence, of the one for a word that the tokenizer makes nothing of, and of
            the one that others fill rows with.
        longest: the encoder's places.
        cased: with --case, how the encoder's own pieces are to be read from the tokenizer's.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        folder: Path | None = None,
        pad: int = 0,
        longest: int = 512,
        cased: CasedVocabulary | None = None,
    ):
        """folder: where the tokenizer's other files lie. Raises InputError without one special piece on each side of a sentence."""
        self.tokenizer, self.folder, self.pad, self.longest, self.cased = tokenizer, folder, pad, longest, cased
        before, after = special_pieces(tokenizer)
        if len(before) != 1 or len(after) != 1:
            what = f"the tokenizer puts {len(before)} special pieces before a sentence and {len(after)} behind it, not one each"
            raise InputError(what, path=folder, hint="use a checkpoint whose tokenizer.json has BERT's kind of post_processor")
        self.cls, self.sep = before[0], after[0]
        self.unk = unknown_piece(tokenizer, folder)

    @classmethod
    def load(cls, source) -> WordPieces:
        """The tokenizer of a model folder (``ner.pretrained.Pretrained``); its ids must be below the encoder's ``vocab_size``.

        A pre-trained encoder reads each word with the space that is before it in text; one that somebody fine-tuned, as they did.
        """
        folder = source.folder
        tokenizer = _tokenizer(folder)
        if not reads_spaces(tokenizer):
            if source.fine_tuned:
                what = "its tokenizer reads words without the space before them; so was it fine-tuned, and so it is used"
                print(f"warning: {printable(str(folder))}: {what}", file=sys.stderr)  # standard output may be JSON
            else:
                tokenizer = with_spaces(tokenizer)
        pad = padding_piece(tokenizer, folder, source.config.get("pad_token_id"))
        loaded = cls(tokenizer, folder=folder, pad=pad, longest=source.shape.longest_row)
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values())
        if largest >= source.shape.vocab_size:
            what = f"the tokenizer gives ids up to {largest}, the encoder has {source.shape.vocab_size} word pieces"
            raise InputError(what, path=folder, hint="use the checkpoint's own tokenizer")
        return loaded

    def with_case(self, vocab_size: int) -> WordPieces | None:
        """The same with capitals told (``ner.cased``); None where the vocabulary is not of small letters only."""
        made = cased(self.tokenizer, vocab_size)
        return made and WordPieces(made.tokenizer, folder=self.folder, pad=self.pad, longest=self.longest, cased=made)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files: tokenizer.json as it reads words here, and what transformers keeps beside it."""
        (folder / "tokenizer.json").write_text(self.tokenizer.to_str(), encoding="utf-8")
        names = {"cls_token": self.cls, "sep_token": self.sep, "unk_token": self.unk, "pad_token": self.pad}
        settings = {
            # The class of transformers that takes tokenizer.json as it is; others build another tokenizer from its vocabulary.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": self.longest,
            "add_prefix_space": reads_spaces(self.tokenizer),
            "clean_up_tokenization_spaces": False,
            **{name: self.tokenizer.id_to_token(number) for name, number in names.items()},
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        """Pieces of each word, at least one ([UNK] for a word the tokenizer makes nothing of)."""
        encode = functools.partial(self.tokenizer.encode_batch_fast, is_pretokenized=True, add_special_tokens=False)
        found: list[list[int]] = []
        for begin in range(0, len(words), BATCH):
            some = words[begin : begin + BATCH]
            try:
                encodings = encode([[w] for w in some])
            except (UnicodeEncodeError, TypeError):  # unpaired surrogates, which JSON can carry
                encodings = encode([[w.encode("utf-16", "surrogatepass").decode("utf-16", "replace")] for w in some])
            found += [e.ids or [self.unk] for e in encodings]
        return found

    def lacks_case(self, sentences: Iterable[Sequence[str]]) -> bool:
        """Whether capitals tell something in these sentences that the pieces do not.

        They do if at least a tenth of the sentences has a word with a capital beside one without, and the vocabulary reads at least nine
        in ten of such words as it reads them in small letters.
        """
        count = mixed = 0
        found: dict[str, None] = {}
        for sentence in sentences:
            count += 1
            if any(word != word.lower() for word in sentence) and any(word != word.upper() for word in sentence):
                mixed += 1
                if len(found) < SOME_WORDS:
                    found |= dict.fromkeys(word for word in sentence if word != word.lower())
        if 10 * mixed < count:
            return False
        capitals = list(found)[:SOME_WORDS]
        pairs = zip(self.encode_words(capitals), self.encode_words([word.lower() for word in capitals]), strict=True)
        return sum(written == small for written, small in pairs) >= 0.9 * len(capitals)

    def encode_cached(
        self, sentences: Sentences, row_length: int | None = None, longest: int = 512, *, documents: bool = False, whole: bool = False
    ) -> Windows:
        """``encode``, kept on disk under the key of the sentences, the tokenizer and what is asked for; it is mapped from there.

        documents: whether adjacent sentences of one document share windows.
        """
        asked = f"{row_length} {longest} {self.cased is not None} {documents} {whole}"

        def make() -> cache.Made:
            units = document_bounds(sentences.documents()) if documents else None
            return self._encode(sentences.lengths, sentences.words, units, row_length, longest, whole)

        sources = [sentences.key.encode(), self.tokenizer.to_str().encode(), asked.encode()]
        arrays, facts, _ = cache.mapped("windows", sources if sentences.key else None, make)
        return Windows(**dict[str, Any](arrays), **facts)

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

        def words(first: int, end: int) -> list[str]:
            return [word for sentence in sentences[first:end] for word in sentence]

        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        units = None if documents is None else document_bounds(documents)
        arrays, facts = self._encode(lengths, words, units, row_length, longest, whole)
        return Windows(**dict[str, Any](arrays), **facts)

    def _encode(
        self,
        lengths: np.ndarray,
        words: Callable[[int, int], list[str]],
        units: np.ndarray | None,
        row_length: int | None,
        longest: int,
        whole: bool,
    ) -> cache.Made:
        """The fields of ``Windows``, block by block.

        lengths: the words of each sentence, int64; words: gives those of sentences [first, end); units: of ``Windows``, None if each
        sentence is one.
        """
        bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        units = np.arange(len(bounds)) if units is None else units
        most = longest if row_length is None else row_length
        known = self._pieces_of_words(lengths, words, most=_limit(most), long=_limit(min(64, most)))
        if row_length is None:
            before = np.concatenate([[0], np.cumsum(known.in_sentence)])
            row_length = choose_row_length(known.in_sentence + 2, longest, np.diff(before[units]) + 2)
        fields = {name: Growing(kind) for name, kind in (("pieces", np.int32), ("words", np.int32), ("first", bool))}
        fields |= {"starts": Growing(np.int64), "sentences": Growing(np.int32)}
        fields["starts"].append(0)
        done = taken = 0  # pieces of windows, and of words
        for first, end in blocks(np.diff(bounds[units])):
            low, high = int(bounds[units[first]]), int(bounds[units[end]])
            kept = known.kept[low:high].astype(np.int64)
            sizes = np.minimum(kept, _limit(row_length))
            whole_units = whole & (np.diff(units[first : end + 1]) > 1)
            spans = _window_spans(sizes, bounds[units[first : end + 1]] - low, row_length - 2, whole_units)
            flat = known.pieces[taken : taken + int(kept.sum())]
            pieces, belongs, first_pieces, starts = self._assemble(spans, sizes, flat, np.cumsum(kept) - kept)
            fields["pieces"].append(pieces)
            fields["words"].append(np.where(belongs >= 0, belongs + low, -1))
            fields["first"].append(first_pieces)
            fields["starts"].append(done + starts[1:])
            fields["sentences"].append(units[first + spans[:, 0]])
            done, taken = done + len(pieces), taken + len(flat)
        cut = sum(size > _limit(row_length) for size in known.long.values())
        arrays = {name: growing.array() for name, growing in fields.items()}
        return {**arrays, "bounds": bounds, "units": units}, {"cut_words": cut, "row_length": row_length}

    def _pieces_of_words(self, lengths: np.ndarray, words: Callable[[int, int], list[str]], *, most: int, long: int) -> _Known:
        """What the tokenizer makes of every word. most: how many pieces of it are kept; long: a word with more is in ``_Known.long``."""
        kept, pieces, in_sentence, long_words = Growing(np.uint16), Growing(np.int32), Growing(np.int64), dict[str, int]()
        for first, end in blocks(lengths):
            number_of: dict[str, int] = {}
            codes = np.array([number_of.setdefault(word, len(number_of)) for word in words(first, end)], np.int64)
            distinct = list(number_of)
            vocabulary = self.encode_words(distinct)
            sizes = np.array([len(ids) for ids in vocabulary], np.int64)
            long_words |= {distinct[i]: int(sizes[i]) for i in np.flatnonzero(sizes > long).tolist()}
            ends = np.cumsum(lengths[first:end])
            before = np.concatenate([[0], np.cumsum(sizes[codes])])
            in_sentence.append(before[ends] - before[ends - lengths[first:end]])
            sizes = np.minimum(sizes, most)
            flat = np.array([i for ids in vocabulary for i in ids[:most]], np.int32)
            kept.append(sizes[codes])
            pieces.append(flat[ranges((np.cumsum(sizes) - sizes)[codes], sizes[codes])])
        return _Known(kept.array(), pieces.array(), in_sentence.array(), long_words)

    def _assemble(self, spans, sizes, flat, begins) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The windows as `[CLS] pieces [SEP] [CLS] pieces [SEP] ...`: ``pieces``, ``words``, ``first`` and ``starts`` of ``Windows``.

        spans: int64 [windows, 5] of ``_window_spans``; sizes, begins: [words], the pieces of each word: how many, and where in ``flat``.
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
        pieces[starts[:-1]], pieces[starts[1:] - 1] = self.cls, self.sep
        pieces[places] = flat[ranges(begins[words], sizes)]
        belongs = np.full(len(pieces), -1, np.int64)
        belongs[places] = np.repeat(np.where(owned, words, -1), sizes)
        first = np.zeros(len(pieces), bool)
        first[first_place[owned]] = True
        return pieces, belongs, first, starts


class _Known(NamedTuple):
    """What a tokenizer makes of the words of a corpus, in their order.

    Attributes:
        kept: uint16 [words], how many pieces of each word are kept.
        pieces: int32 [pieces], those that are kept.
        in_sentence: int64 [sentences], the pieces of each sentence, those that are not kept included.
        long: words that may have to be cut, and the number of their pieces.
    """

    kept: np.ndarray
    pieces: np.ndarray
    in_sentence: np.ndarray
    long: dict[str, int]


def _limit(row_length: int) -> int:
    """The pieces that a word may have in rows of this length."""
    return max(1, (row_length - 2) // 2)


def _tokenizer(folder: Path) -> Tokenizer:
    """``tokenizer.json``, or what transformers makes of the folder's tokenizer files where there is none or other options overrule it.

    Raises InputError where there are none, and for a tokenizer that runs in Python only.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            read = Tokenizer.from_file(str(folder / "tokenizer.json"))
            read.no_truncation()
            read.no_padding()
            if any(special_pieces(read)) and not _overruled(read, folder):
                return read
        elif not any((folder / name).is_file() for name in SLOW):
            raise InputError(
                f"no tokenizer.json, {', '.join(SLOW[:-1])} or {SLOW[-1]}", path=folder, hint="use a complete checkpoint folder"
            )
        elif any(folder.glob("*.model")) and importlib.util.find_spec("sentencepiece") is None:
            what = "its tokenizer is a sentencepiece file only, and the package sentencepiece is not installed"
            raise InputError(what, path=folder, hint="pip install sentencepiece, or use a checkpoint with a tokenizer.json")
        from transformers import AutoTokenizer  # it knows tokenizer_class and its options; imported only here, it takes seconds

        slow = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if not hasattr(slow, "backend_tokenizer"):
            what = f"its tokenizer, {type(slow).__name__}, has no fast form"
            raise InputError(what, path=folder, hint="use a checkpoint with a tokenizer.json")
        slow.backend_tokenizer.no_truncation()
        slow.backend_tokenizer.no_padding()
        return slow.backend_tokenizer
    except InputError:
        raise
    except Exception as error:  # both libraries raise many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"the tokenizer cannot be read ({reason})", path=folder, hint="fetch the checkpoint again") from None


def _overruled(tokenizer: Tokenizer, folder: Path) -> bool:
    """Whether tokenizer_config.json asks for something else than tokenizer.json does.

    The classes of transformers that build their tokenizer from its vocabulary and these options then go by them, and by their defaults.
    """
    settings = _settings(folder)
    if settings.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast"):  # they take tokenizer.json as it is
        return False
    if not isinstance(tokenizer.model, models.WordPiece):
        return reads_spaces(tokenizer) != settings.get("add_prefix_space", isinstance(tokenizer.model, models.Unigram))
    options = settings.get("tokenize_chinese_chars", True), settings.get("strip_accents"), settings.get("do_lower_case", True)
    asked = normalizers.BertNormalizer(True, *options)
    return str(tokenizer.normalizer) != str(asked)


def special_pieces(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The pieces that the tokenizer's own post-processing puts before a sentence, and behind it."""
    inside = tokenizer.encode(["a"], is_pretokenized=True, add_special_tokens=False).ids
    whole = tokenizer.encode(["a"], is_pretokenized=True).ids
    begin = next(i for i in range(len(whole) + 1) if whole[i : i + len(inside)] == inside)
    return whole[:begin], whole[begin + len(inside) :]


def unknown_piece(tokenizer: Tokenizer, folder: Path | None) -> int:
    """The id of the piece for what the tokenizer makes nothing of: the model's own, else the one that the folder's settings name.

    Else one of UNKNOWN.
    """
    if isinstance(tokenizer.model, models.Unigram):  # which tells its own only there
        own = json.loads(tokenizer.to_str())["model"].get("unk_id")
        if own is not None:
            return own
    for name in (getattr(tokenizer.model, "unk_token", None), _text_of(_settings(folder).get("unk_token")), *UNKNOWN):
        if name and (number := tokenizer.token_to_id(name)) is not None:
            return number
    raise InputError("the tokenizer has no unknown piece", path=folder, hint="name one as unk_token in tokenizer_config.json")


def padding_piece(tokenizer: Tokenizer, folder: Path, configured: Any) -> int:
    """The id of the piece that others fill rows with: config.json's, else the one that the folder's settings name, else one of PADDING."""
    if type(configured) is int and 0 <= configured < 2**32 and tokenizer.id_to_token(configured) is not None:
        return configured
    numbers = (tokenizer.token_to_id(name) for name in (_text_of(_settings(folder).get("pad_token")), *PADDING) if name)
    return next((number for number in numbers if number is not None), 0)


def _settings(folder: Path | None) -> dict:
    """What the folder's settings of the tokenizer say: special_tokens_map.json and tokenizer_config.json, which goes before."""
    found: dict = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if folder and (folder / name).is_file():
            try:
                content = json.loads((folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise InputError(f"cannot be read ({error})", path=folder / name, hint="fetch the checkpoint again") from None
            found |= content if isinstance(content, dict) else {}
    return found


def _text_of(token: Any) -> str | None:
    """The text of a special token, which settings give as a string or as an object; None if it is neither."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def reads_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a word that is given alone has the pieces that it has behind another one in a text."""
    alone = tokenizer.encode(["a"], is_pretokenized=True, add_special_tokens=False).ids
    return tokenizer.encode("a a", add_special_tokens=False).ids == alone * 2


def with_spaces(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with a space put before each word, where it does not do so by itself."""
    content = json.loads(tokenizer.to_str())
    for part in (content["pre_tokenizer"] or {}, content["post_processor"] or {}):
        if part.get("type") in ("ByteLevel", "RobertaProcessing"):
            part["add_prefix_space"] = True
    if (content["pre_tokenizer"] or {}).get("type") != "ByteLevel":  # such as one of sentencepiece's kind, which makes a sign of each space
        steps = [{"type": "Prepend", "prepend": " "}, content["normalizer"]]
        content["normalizer"] = {"type": "Sequence", "normalizers": [step for step in steps if step]}
    return Tokenizer.from_str(json.dumps(content))


def document_bounds(documents: Iterable[str]) -> np.ndarray:
    """int64 [units + 1]: adjacent sentences of one document are a unit, and so is each sentence whose document is "", not known."""
    begins, before, count = Growing(np.int64), "", 0
    rest = iter(documents)
    while chunk := list(islice(rest, BATCH)):
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
