"""Words -> word pieces.

A word's pieces depend on the word alone (BERT splits at white space and punctuation before WordPiece), so each distinct word of a block of
sentences is encoded once, and the block is assembled from those with array operations: no Python loop over words. Memory holds one block.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from ner import cache
from ner.cache import Growing
from ner.cased import CasedVocabulary, cased
from ner.corpus import Sentences, blocks, ranges
from ner.errors import InputError, printable
from ner.sentences import MANY
from ner.tokenizer import padding_piece, read_tokenizer, reads_spaces, special_pieces, unknown_piece, with_spaces
from ner.windows import Windows, assemble, choose_row_length, document_bounds, longest_word, spans_of_units

if TYPE_CHECKING:
    from ner.pretrained import Pretrained

BATCH = 2**14  # words that the tokenizer is given at a time
SOME_WORDS = 10_000  # enough to see how a vocabulary treats capitals


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
        folder: Path,
        pad: int,
        longest: int,
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
    def load(cls, source: Pretrained) -> WordPieces:
        """The tokenizer of a model folder; its ids must be below the encoder's ``vocab_size``.

        A pre-trained encoder reads each word with the space that is before it in text; one that somebody fine-tuned, as they did.
        """
        folder = source.folder
        tokenizer = read_tokenizer(folder)
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
        self, sentences: Sentences, row_length: int | None = None, *, documents: bool = False, whole: bool = False
    ) -> Windows:
        """``encode``, kept on disk under the key of the sentences, the tokenizer and what is asked for; it is mapped from there.

        documents: whether adjacent sentences of one document share windows.
        """
        asked = f"{self.unk} {row_length} {self.longest} {self.cased is not None} {documents} {whole}"

        def make() -> cache.Made:
            units = document_bounds(sentences.documents()) if documents else None
            return self._encode(sentences.lengths, sentences.words, units, row_length, whole)

        sources = [sentences.key.encode(), self.tokenizer.to_str().encode(), asked.encode()]
        arrays, facts, _ = cache.mapped("windows", sources if sentences.key else None, make)
        return Windows(**dict[str, Any](arrays), **facts)

    def encode(
        self,
        sentences: Sequence[Sequence[str]],
        row_length: int | None = None,
        *,
        documents: Sequence[str] | None = None,
        whole: bool = False,
    ) -> Windows:
        """Sentences (lists of words) -> windows in corpus order.

        They have at most ``row_length`` pieces; None chooses it for these sentences, at most ``self.longest``.

        documents: the document of each sentence, "" if it is not known. Then adjacent sentences of one document share windows.
        whole: leave each document of several sentences in one window of any length, to be cut anew in each epoch of training
        (``Windows.cut_documents``).
        """

        def words(first: int, end: int) -> list[str]:
            return [word for sentence in sentences[first:end] for word in sentence]

        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        units = None if documents is None else document_bounds(documents)
        arrays, facts = self._encode(lengths, words, units, row_length, whole)
        return Windows(**dict[str, Any](arrays), **facts)

    def _encode(
        self,
        lengths: np.ndarray,
        words: Callable[[int, int], list[str]],
        units: np.ndarray | None,
        row_length: int | None,
        whole: bool,
    ) -> cache.Made:
        """The fields of ``Windows``, block by block.

        lengths: the words of each sentence, int64; words: gives those of sentences [first, end); units: of ``Windows``, None if each
        sentence is one.
        """
        bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        units = np.arange(len(bounds)) if units is None else units
        most = self.longest if row_length is None else row_length
        known = self._pieces_of_words(lengths, words, most=longest_word(most), long=longest_word(min(64, most)))
        if row_length is None:
            before = np.concatenate([[0], np.cumsum(known.in_sentence)])
            row_length = choose_row_length(known.in_sentence + 2, self.longest, np.diff(before[units]) + 2)
        fields = {name: Growing(kind) for name, kind in (("pieces", np.int32), ("words", np.int32), ("first", bool))}
        fields |= {"starts": Growing(np.int64), "sentences": Growing(np.int32)}
        fields["starts"].append(0)
        done = taken = 0  # pieces of windows, and of words
        for first, end in blocks(np.diff(bounds[units])):
            low, high = int(bounds[units[first]]), int(bounds[units[end]])
            kept = known.kept[low:high].astype(np.int64)
            sizes = np.minimum(kept, longest_word(row_length))
            whole_units = whole & (np.diff(units[first : end + 1]) > 1)
            spans = spans_of_units(sizes, bounds[units[first : end + 1]] - low, row_length - 2, whole_units)
            flat = known.pieces[taken : taken + int(kept.sum())]
            pieces, belongs, first_pieces, starts = assemble(spans, sizes, flat, np.cumsum(kept) - kept, self.cls, self.sep)
            fields["pieces"].append(pieces)
            fields["words"].append(np.where(belongs >= 0, belongs + low, -1))
            fields["first"].append(first_pieces)
            fields["starts"].append(done + starts[1:])
            fields["sentences"].append(units[first + spans[:, 0]])
            done, taken = done + len(pieces), taken + len(flat)
        cut = sum(size > longest_word(row_length) for size in known.long.values())
        arrays = {name: growing.array() for name, growing in fields.items()}
        return {**arrays, "bounds": bounds, "units": units}, {"cut_words": cut, "row_length": row_length}

    def _pieces_of_words(self, lengths: np.ndarray, words: Callable[[int, int], list[str]], *, most: int, long: int) -> _Known:
        """What the tokenizer makes of every word. most: how many pieces of it are kept; long: a word with more is in ``_Known.long``."""
        kept, pieces, in_sentence, long_words = Growing(np.uint16), Growing(np.int32), Growing(np.int64), dict[str, int]()
        known: dict[str, list[int]] = {}  # of blocks before too
        for first, end in blocks(lengths):
            here = words(first, end)
            distinct = list(dict.fromkeys(here))
            number_of = {word: number for number, word in enumerate(distinct)}
            codes = np.fromiter(map(number_of.__getitem__, here), np.int64, len(here))
            if len(known) > MANY:
                known = {}
            unknown = [word for word in distinct if word not in known]
            known.update(zip(unknown, self.encode_words(unknown), strict=True))
            vocabulary = [known[word] for word in distinct]
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
