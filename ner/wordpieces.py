"""Words -> word pieces, and long sentences or whole documents -> windows that fit a row.

A word's pieces depend on the word alone (BERT splits at white space and punctuation before WordPiece), so each distinct word is encoded
once, in one batch, and the corpus is assembled from those with array operations: no Python loop over words.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers

from ner import cache
from ner.cased import CasedVocabulary, cased
from ner.errors import InputError, printable

# A tokenizer's files: those of the fast form, and those that transformers makes one from.
SLOW = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", *SLOW)
# What the tokenizers of these families call the unknown piece where no file says so, as in a folder of vocab.json and merges.txt only.
UNKNOWN = ("<unk>", "[UNK]")
PADDING = ("<pad>", "[PAD]")
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
        taken = {name: getattr(self, name)[source] for name in ("pieces", "words", "first")}
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
        asked = f"{row_length} {longest} {self.cased is not None} {json.dumps(options)}"
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
        return self._assemble(spans, codes, word_sizes, flat, begins, **counts)

    def _assemble(self, spans, codes, word_sizes, flat, begins, **counts) -> Windows:
        """The windows as `[CLS] pieces [SEP] [CLS] pieces [SEP] ...`.

        spans: int64 [windows, 5] of ``_window_spans``, with the unit's first sentence in place of its number; codes, word_sizes: [words],
        each word's number in the vocabulary of distinct words, and how many pieces it has; flat: the pieces of all distinct words; begins:
        where each of these starts in ``flat``.
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
        belongs = np.full(len(pieces), -1, np.int32)
        belongs[places] = np.repeat(np.where(owned, words, -1), sizes)
        first = np.zeros(len(pieces), bool)
        first[first_place[owned]] = True
        return Windows(pieces, belongs, first, starts, sentence.astype(np.int32), **counts)


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
