"""The vocabulary of an uncased encoder made a cased one, so that an encoder that never saw a capital can learn what they tell.

To each word piece its written forms are added: a word's first piece also ``Capitalised``, every piece also in ``CAPITALS``. Small letters
stay the pieces that they were. A word in small letters, Capitalised or in capitals falls into the same pieces as before, each in its form;
one written in another way (``iPhone``) into the longest forms that there are.

While training, the embedding of a form is that of the plain piece plus a learnt vector, one for all Capitalised and one for all CAPITALS.
When the model is saved they are added up into one table. So the saved folder is an ordinary cased model, for any program that reads one.
"""

from __future__ import annotations

import functools
import json
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

PLAIN, CAPITALISED, CAPITALS = range(3)
FORMS = 2  # besides the plain one
# Capitals that are not the capital of their own small letter: two letters with a second capital, one sign for two letters, signs of units,
# and the dotted I, whose small form has two signs.
ODD_CAPITALS = {"ǅ": "ǆ", "ǈ": "ǉ", "ǋ": "ǌ", "ǲ": "ǳ", "ϴ": "θ", "ẞ": "ß", "\u2126": "ω", "\u212a": "k", "\u212b": "å", "İ": "i\u0307"}


class CasedVocabulary(NamedTuple):
    """A tokenizer that tells capitals, and what its pieces are in the encoder's own vocabulary.

    Attributes:
        tokenizer: over the vocabulary with the written forms; the ids of the plain pieces are the encoder's.
        plain: int32 [pieces], the encoder's own id of each piece.
        forms: int32 [pieces]: PLAIN, CAPITALISED or CAPITALS.
        capitals: int32 [pieces of the encoder], the form of each in CAPITALS; itself where it has none.
    """

    tokenizer: Tokenizer
    plain: np.ndarray
    forms: np.ndarray
    capitals: np.ndarray

    def folded(self, table: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """The saved embeddings, float32 [pieces, width], of the encoder's own [own pieces, width] and the forms' vectors [FORMS, width]."""
        return table[self.plain] + np.concatenate([np.zeros_like(vectors[:1]), vectors])[self.forms]


def cased(tokenizer: Tokenizer, vocab_size: int) -> CasedVocabulary | None:
    """The cased vocabulary of an encoder with ``vocab_size`` pieces; None where its tokenizer is no WordPiece that makes letters small."""
    content = json.loads(tokenizer.to_str())
    normalizer = _keeping_capitals(content["normalizer"])
    if content["model"]["type"] != "WordPiece" or normalizer is None:
        return None
    content["normalizer"] = normalizer
    continuing = content["model"]["continuing_subword_prefix"]
    vocabulary: dict[str, int] = content["model"]["vocab"]
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    vocabulary |= added  # an added piece that is not in it gets the next free number, which is a form's
    plain, forms = list(range(vocab_size)), [PLAIN] * vocab_size
    capitals = np.arange(vocab_size, dtype=np.int32)
    for piece, number in sorted(vocabulary.items(), key=lambda item: item[1]):
        if piece in added or piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
            continue
        start = continuing if piece.startswith(continuing) else ""
        letters = piece.removeprefix(start)
        in_capitals = start + "".join(map(_capital, letters))
        written = {in_capitals: CAPITALS}
        if not start:
            written[_capital(letters[:1]) + letters[1:]] = CAPITALISED  # of a single letter both are one
        for form, kind in written.items():
            if form not in vocabulary:
                vocabulary[form] = len(plain)
                plain.append(number)
                forms.append(kind)
        capitals[number] = vocabulary[in_capitals]
    made = Tokenizer.from_str(json.dumps(content))
    return CasedVocabulary(made, np.array(plain, np.int32), np.array(forms, np.int32), capitals)


@functools.cache
def _capital(letter: str) -> str:
    """The capital, or the letter as it is where that does not lead back to it; "" of "".

    Greek letters with an iota below have a capital only as a word's first letter: Python's ``title``.
    """
    return next((form for form in (letter.upper(), letter.title()) if len(form) == 1 and form.lower() == letter), letter)


def _keeping_capitals(normalizer: dict | None) -> dict | None:
    """The normalizer as it is but for the small letters; None if it makes none."""
    steps = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else [normalizer or {"type": ""}]
    kept = []
    for step in steps:
        if step["type"] == "BertNormalizer" and step["lowercase"]:
            # Without a word on accents they go where the letters are made small.
            kept.append(step | {"lowercase": False, "strip_accents": step["strip_accents"] is not False})
        elif step["type"] != "Lowercase":
            kept.append(step)
    if kept == steps:
        return None
    odd = [{"type": "Replace", "pattern": {"String": capital}, "content": small} for capital, small in ODD_CAPITALS.items()]
    return {"type": "Sequence", "normalizers": [*kept, *odd]}
