from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokenizer import as_pretrained

from ner import corpus, pretrained, wordpieces
from ner.wordpieces import WordPieces


@pytest.fixture(scope="module")
def word_pieces(tiny):
    return WordPieces.load(pretrained.read(tiny))


@pytest.fixture(scope="module", params=["tiny_bert", "tiny_roberta", "tiny_xlm_roberta", "tiny_modernbert"])
def of_any_kind(request, tiny):
    """A tokenizer of each kind, with the space before words as a pre-trained encoder has it."""
    return WordPieces.load(as_pretrained(tiny.with_name(request.param)))


def pieces_of(windows, w):
    return windows.pieces[windows.starts[w] : windows.starts[w + 1]]


def test_one_window_is_cls_pieces_sep_as_the_tokenizer_gives_them(word_pieces):
    sentences = [["alex", "lives", "in", "London"], ["zebra"]]
    windows = word_pieces.encode(sentences, 64)
    for w, sentence in enumerate(sentences):
        expected = word_pieces.tokenizer.encode(sentence, is_pretokenized=True).ids
        assert pieces_of(windows, w).tolist() == expected
    assert windows.words[windows.first].tolist() == [0, 1, 2, 3, 4]
    assert windows.words[windows.starts[:-1]].tolist() == [-1, -1]  # [CLS] belongs to no word


def test_a_word_the_tokenizer_makes_nothing_of_is_unknown(word_pieces):
    windows = word_pieces.encode([["\x96", "in", "\u200b", "\ud800"]], 64)
    assert word_pieces.tokenizer.encode(["\x96"], is_pretokenized=True, add_special_tokens=False).ids == []
    assert windows.pieces[1] == word_pieces.unk
    assert windows.words[windows.first].tolist() == [0, 1, 2, 3]


def test_forms_say_how_a_piece_is_written(tiny):
    source = pretrained.read(tiny)
    plain = WordPieces.load(source)
    told = plain.with_case(source.shape.vocab_size)
    words = [["The", "us", "US", "u.s.", "U.S.", "9", "A", "\u00c9t\u00e9", "LONDONS"]]
    windows, small = told.encode(words, 64), plain.encode(words, 64)
    assert np.array_equal(told.cased.plain[windows.pieces], small.pieces)
    forms = [told.cased.forms[windows.pieces[windows.words == word]].tolist() for word in range(9)]
    assert forms == [[1], [0, 0], [1, 2], [0, 0, 0, 0], [1, 0, 1, 0], [0], [1], [1, 0, 0], [2, 2]]
    assert windows.pieces[windows.words < 0].tolist() == [plain.cls, plain.sep]


def test_a_word_longer_than_a_row_is_cut_and_counted(word_pieces):
    windows = word_pieces.encode([["in", "-" * 100_000, "the"]], 64)
    assert windows.cut_words == 1
    assert windows.words[windows.first].tolist() == [0, 1, 2]
    assert windows.lengths.max() <= 64


any_words = st.lists(st.text(st.characters(), min_size=1, max_size=30), max_size=40)  # unpaired surrogates too, which JSON can carry


@settings(deadline=None, max_examples=40)
@given(st.lists(any_words, max_size=8), st.sampled_from([8, 16, 64]))
def test_every_word_of_any_text_starts_in_exactly_one_window(of_any_kind, sentences, row_length):
    windows = of_any_kind.encode(sentences, row_length)
    assert all(of_any_kind.encode_words([word for sentence in sentences for word in sentence]))
    total = sum(len(s) for s in sentences)
    assert windows.num_words == total
    assert windows.words[windows.first].tolist() == list(range(total))
    assert (windows.lengths <= row_length).all() if len(windows.lengths) else total == 0
    owner = np.repeat(np.arange(len(sentences)), [len(s) for s in sentences])
    for w, sentence in enumerate(windows.sentences):
        mine = windows.words[windows.starts[w] : windows.starts[w + 1]]
        assert (owner[mine[mine >= 0]] == sentence).all()
        assert pieces_of(windows, w)[0] == of_any_kind.cls and pieces_of(windows, w)[-1] == of_any_kind.sep


def test_gmb_every_word_is_tagged_once_control_characters_and_long_sentences_included(gmb):
    from ner import formats

    sentences = formats.read(gmb)
    pieces = WordPieces.load(pretrained.find("sentence-transformers/all-MiniLM-L6-v2"))
    windows = pieces.encode([s.words for s in sentences], 64)
    assert (len(sentences), windows.num_words) == (47_959, 1_048_575)
    assert np.array_equal(windows.words[windows.first], np.arange(1_048_575))
    assert len(windows.sentences) > len(sentences)  # some sentences are longer than a row of 64
    assert len(pieces.encode([s.words for s in sentences], 512).pieces) == pytest.approx(1_272_799, abs=100)


def test_what_is_known_of_words_may_be_forgotten_between_blocks(word_pieces, monkeypatch):
    sentences = [["alex", f"w{i}", "in", "London", f"w{i % 7}"] for i in range(40)]
    once = word_pieces.encode(sentences, 64)
    monkeypatch.setattr(wordpieces, "blocks", lambda lengths: corpus.blocks(lengths, 20))
    monkeypatch.setattr(wordpieces, "MANY", 8)
    for name, field in vars(word_pieces.encode(sentences, 64)).items():
        assert np.array_equal(field, getattr(once, name)), name


def test_encoding_takes_less_memory_than_the_words(word_pieces):
    """The words of a block, and the windows; these lie in files where they are large (test_cache.py)."""
    sentences = [["alex", "lives", "in", "london"]] * 100_000
    windows = word_pieces.encode(sentences[:1000], 64)
    tracemalloc.start()
    try:
        windows = word_pieces.encode(sentences, 64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = sum(field.nbytes for field in vars(windows).values() if isinstance(field, np.ndarray))
    assert peak < 5 * size, (peak, size)
