"""Are a corpus's word pieces, and each word's first piece, those of transformers? For a byte-level BPE and a Unigram tokenizer, and others.

    python tools/pieces.py --data ner_dataset.csv

Trains a small tokenizer of each family's kind on the corpus, and reads all its sentences by ``WordPieces`` and by ``AutoTokenizer`` with
``is_split_into_words=True`` and the space before words: of the checkpoint's folder, and of the folder that is saved after training. Prints
counts, and ends with status 1 if anything differs. Words that a tokenizer makes nothing of are counted apart: there transformers has no
piece, and here the word gets the unknown piece.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["HF_HUB_OFFLINE"] = "1"

from ner import formats  # noqa: E402
from ner.wordpieces import WordPieces  # noqa: E402
from tools import small_tokenizers  # noqa: E402

FAMILIES = ("roberta", "modernbert", "xlm-roberta", "camembert", "bert")
BLOCK = 1000  # sentences at a time
NO_WORD = -1


def read_there(tokenizer, sentences: list[list[str]]):
    """Of each sentence by transformers: its pieces, and the word of each, NO_WORD for special ones."""
    for begin in range(0, len(sentences), BLOCK):
        encoded = tokenizer(sentences[begin : begin + BLOCK], is_split_into_words=True)
        for i, ids in enumerate(encoded["input_ids"]):
            yield ids, [NO_WORD if word is None else word for word in encoded.word_ids(i)]


def read_here(pieces: WordPieces, sentences: list[list[str]]):
    """The same from the windows of whole sentences; an empty sentence has no window. And the places of each word's first piece."""
    windows = pieces.encode(sentences, 2**20)
    found = {}
    for number, (low, high) in zip(windows.sentences.tolist(), pairwise(windows.starts.tolist()), strict=True):
        words = windows.words[low:high]
        words = np.where(words >= 0, words - windows.bounds[number], NO_WORD)
        found[number] = windows.pieces[low:high].tolist(), words.tolist(), np.flatnonzero(windows.first[low:high]).tolist()
    return [found.get(number, ([pieces.cls, pieces.sep], [NO_WORD, NO_WORD], [])) for number in range(len(sentences))]


def compare(what: str, pieces: WordPieces, tokenizer, sentences: list[list[str]]) -> int:
    """Say and return how many sentences differ."""
    differing = without = total = 0
    for (ids, words, first), (their_ids, their_words) in zip(read_here(pieces, sentences), read_there(tokenizer, sentences), strict=True):
        missing = set(words) - set(their_words)  # the tokenizer makes nothing of them
        without += len(missing)
        total += len(first)
        kept = [i for i, word in enumerate(words) if word not in missing]
        their_first = [i for i, word in enumerate(their_words) if word != NO_WORD and word != their_words[i - 1]]
        same = [ids[i] for i in kept] == their_ids and [words[i] for i in kept] == their_words
        same = same and all(ids[i] == pieces.unk for i, word in enumerate(words) if word in missing)
        same = same and [i for i in first if words[i] not in missing] == [kept[i] for i in their_first]
        differing += not same
    print(f"{what}: {differing:,} of {len(sentences):,} sentences differ; {total:,} words, {without:,} of them without a piece", flush=True)
    return differing


def check(family: str, sentences: list[list[str]], size: int, folder: Path) -> int:
    """A tokenizer of the family's kind, as a checkpoint has it and as it is saved; how many sentences differ."""
    from transformers import AutoTokenizer

    (folder / "checkpoint").mkdir()
    (folder / "saved").mkdir()
    small_tokenizers.of_family(family, map(" ".join, sentences), size).save_pretrained(folder / "checkpoint")
    theirs = AutoTokenizer.from_pretrained(folder / "checkpoint", add_prefix_space=True)
    if family == "modernbert":  # the class forgets the setting
        theirs.backend_tokenizer.pre_tokenizer.add_prefix_space = True

    def here(name: str) -> WordPieces:
        shape = SimpleNamespace(vocab_size=2**20, longest_row=512)
        return WordPieces.load(SimpleNamespace(folder=folder / name, fine_tuned=name == "saved", config={"pad_token_id": 0}, shape=shape))

    pieces = here("checkpoint")
    wrong = compare(f"{family} checkpoint ({type(theirs).__name__}, {len(theirs):,} pieces)", pieces, theirs, sentences)
    trained = pieces.with_case(len(theirs)) or pieces
    trained.save(folder / "saved")
    again, saved = here("saved"), AutoTokenizer.from_pretrained(folder / "saved")
    distinct = list({word for sentence in sentences for word in sentence})
    changed = sum(a != b for a, b in zip(trained.encode_words(distinct), again.encode_words(distinct), strict=True))
    print(f"{family} saved: {changed:,} of {len(distinct):,} distinct words have other pieces than in training")
    return wrong + changed + compare(f"{family} saved ({len(saved):,} pieces)", again, saved, sentences)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(ROOT / "sample" / "train.csv"), help="a corpus file; without it the sample corpus")
    parser.add_argument("--pieces", type=int, default=8000, help="size of the vocabularies")
    given = parser.parse_args()
    sentences = [list(s.words) for s in formats.read(given.data)]
    wrong = 0
    for family in FAMILIES:
        with tempfile.TemporaryDirectory(prefix="pieces-") as folder:
            wrong += check(family, sentences, given.pieces, Path(folder))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
