from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from ner import pretrained
from ner.cased import CAPITALISED, CAPITALS, PLAIN, cased
from ner.wordpieces import WordPieces

LETTERS = "abcdefghijklmnopqrstuvwxyzäßéσςабвдж"


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    """An uncased WordPiece vocabulary of all LETTERS, with and without accents, and some longer pieces."""
    pieces = ["[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{c}" for c in LETTERS), "the", "##ing", "lon", "##don", "3d", "'", "##9", "9"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return tokenizer


def read(tokenizer: Tokenizer, word: str) -> list[int]:
    return tokenizer.encode([word], is_pretokenized=True, add_special_tokens=False).ids


@given(st.text(LETTERS + "9'", min_size=1, max_size=12))
def test_words_in_one_of_the_three_forms_fall_into_the_pieces_that_they_had(small, word):
    size = small.get_vocab_size()
    made = cased(small, size)
    forms = {word: {PLAIN}, word[0].upper() + word[1:]: {PLAIN, CAPITALISED}, word.upper(): {PLAIN, CAPITALISED, CAPITALS}}
    for form, kinds in forms.items():
        if len(form) != len(word):
            continue  # a capital of two letters, such as SS
        ids = read(made.tokenizer, form)
        assert made.plain[ids].tolist() == read(small, form)
        assert set(made.forms[ids].tolist()) <= kinds


@given(st.text(LETTERS + LETTERS.upper() + "9'ẞϴ", min_size=1, max_size=12))
def test_no_way_to_write_a_known_word_is_unknown(small, word):
    made = cased(small, small.get_vocab_size())
    if 0 not in read(small, word) and "ϴ" not in word:
        assert 0 not in read(made.tokenizer, word)


def test_an_added_piece_keeps_its_number(small):
    """It is not in the model's vocabulary, so the tokenizer would give it the next free number, which is a form's."""
    extended = Tokenizer.from_str(small.to_str())
    extended.add_tokens(["covid"])
    made = cased(extended, extended.get_vocab_size())
    assert made.tokenizer.token_to_id("covid") == extended.token_to_id("covid") == small.get_vocab_size()
    numbers = made.tokenizer.get_vocab()
    assert len(set(numbers.values())) == len(numbers) == len(made.plain)
    assert read(made.tokenizer, "covid") == read(extended, "covid")


def test_a_dotted_capital_i_is_read_as_it_was():
    pieces = ["[UNK]", "[CLS]", "[SEP]", "i", "##s", "##\u0307"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    made = cased(tokenizer, len(pieces))
    assert [made.plain[i] for i in read(made.tokenizer, "İs")] == read(tokenizer, "İs") == [3, 5, 4]


def test_each_row_is_a_piece_of_its_own(small):
    size = small.get_vocab_size()
    made = cased(small, size)
    vocabulary = made.tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(made.plain))) and len(made.forms) == len(made.plain) > size
    assert made.plain[:size].tolist() == list(range(size)) and not made.forms[:size].any()
    for piece, form, kind in (("the", "The", CAPITALISED), ("the", "THE", CAPITALS), ("##ing", "##ING", CAPITALS), ("a", "A", CAPITALISED)):
        number = vocabulary[form]
        assert made.plain[number] == vocabulary[piece] and made.forms[number] == kind
    assert "##Ing" not in vocabulary and "[unk]" not in vocabulary
    for piece, capitals in (("the", "THE"), ("##ing", "##ING"), ("a", "A"), ("9", "9"), ("'", "'"), ("[CLS]", "[CLS]"), ("ß", "ß")):
        assert made.capitals[vocabulary[piece]] == vocabulary[capitals]


def test_the_saved_embeddings_are_the_sums_of_training(small):
    made = cased(small, small.get_vocab_size())
    table = np.random.default_rng(0).normal(size=[small.get_vocab_size(), 4]).astype(np.float32)
    vectors = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    folded = made.folded(table, vectors)
    ids = read(made.tokenizer, "London") + read(made.tokenizer, "LONDON")
    added = np.concatenate([np.zeros([1, 4], np.float32), vectors])[made.forms[ids]]
    np.testing.assert_array_equal(folded[ids], table[made.plain[ids]] + added)
    np.testing.assert_array_equal(folded[: len(table)], table)


def test_a_vocabulary_that_is_not_of_small_letters_has_no_forms(small):
    content = json.loads(small.to_str())
    content["normalizer"]["lowercase"] = False
    assert cased(Tokenizer.from_str(json.dumps(content)), small.get_vocab_size()) is None
    assert cased(Tokenizer(models.BPE()), 10) is None


@pytest.mark.parametrize("normalizer", [normalizers.BertNormalizer(), normalizers.BertNormalizer(strip_accents=False)])
def test_every_capital_of_unicode_falls_into_the_pieces_of_its_small_letter(normalizer):
    """Polytonic Greek, where a letter with an iota below has a capital only at a word's head, and signs such as that of Kelvin too."""
    capitals = [c for c in map(chr, range(sys.maxunicode + 1)) if c.lower() != c]
    letters = sorted({small for c in capitals for small in c.lower()})
    pieces = ["[UNK]", *letters, *(f"##{c}" for c in letters)]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    made = cased(tokenizer, len(pieces))
    words = [[word] for c in capitals for word in (c, f"{c}a", f"a{c}")]
    before, after = ([e.ids for e in t.encode_batch(words, is_pretokenized=True)] for t in (tokenizer, made.tokenizer))
    different = [word for word, was, now in zip(words, before, after, strict=True) if 0 not in was and made.plain[now].tolist() != was]
    assert not different and sum(0 in ids for ids in before) < 0.01 * len(words)


def test_the_saved_folder_reads_words_as_training_did(tiny, tmp_path):
    """By the tokenizer of the saved folder alone, in transformers and here."""
    from transformers import AutoTokenizer

    source = pretrained.read(tiny)
    pieces = WordPieces.load(source).with_case(source.shape.vocab_size)
    model = pretrained.build(source, ("O", "B-x"), cased=pieces.cased)
    pretrained.save(model, tmp_path / "model", source=source, pieces=pieces)
    words = ["The", "LONDON", "mcX", "\u00c9t\u00e9", "9", "\u200b", "U.S."]
    here, again = pieces.encode_words(words), WordPieces.load(pretrained.read(tmp_path / "model")).encode_words(words)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")(words, is_split_into_words=True, add_special_tokens=False)
    assert here == again and theirs["input_ids"] == [piece for ids in here for piece in ids if piece != pieces.unk]
    assert "token_type_ids" not in theirs
