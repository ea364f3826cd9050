from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner import pretrained, wordpieces
from ner import windows as windows_module
from ner.corpus import blocks
from ner.windows import choose_row_length, document_bounds
from ner.wordpieces import WordPieces

words = st.lists(st.text(min_size=1, max_size=30), min_size=0, max_size=40)


@pytest.fixture(scope="module")
def word_pieces(tiny):
    return WordPieces.load(pretrained.read(tiny))


def pieces_of(windows, w):
    return windows.pieces[windows.starts[w] : windows.starts[w + 1]]


def test_long_sentences_are_cut_into_overlapping_windows_and_words_read_with_most_context(word_pieces):
    windows = word_pieces.encode([["in"] * 100], row_length=32)
    assert len(windows.sentences) > 3 and windows.lengths.max() <= 32
    assert windows.words[windows.first].tolist() == list(range(100))
    carried = windows.lengths - 2
    owned = [int((windows.words[a:b] >= 0).sum()) for a, b in zip(windows.starts[:-1], windows.starts[1:], strict=True)]
    assert all(o < c for o, c in zip(owned, carried, strict=True))  # every window carries context it does not own
    for w in range(1, len(owned) - 1):  # inner windows: at least 7 pieces of context on both sides
        inside = np.flatnonzero(windows.words[windows.starts[w] : windows.starts[w + 1]] >= 0)
        assert inside[0] - 1 >= 7 and carried[w] - inside[-1] >= 7


documents = st.lists(st.tuples(words, st.sampled_from(["", "", "a", "a", "a", "b"])), max_size=30)


@settings(deadline=None, max_examples=60)
@given(documents, st.sampled_from([8, 16, 64]), st.integers(0, 3))
def test_windows_over_documents_own_every_word_once_and_cross_no_document(word_pieces, corpus, row_length, seed):
    sentences, names = [s for s, _ in corpus], [name for _, name in corpus]
    unit = np.repeat(np.arange(len(document_bounds(names)) - 1), np.diff(document_bounds(names)))
    of_word = np.repeat(unit, [len(s) for s in sentences])
    for whole in (False, True):
        windows = word_pieces.encode(sentences, row_length, documents=names, whole=whole)
        if whole:  # as an epoch of training has them
            uncut, windows = windows, windows.cut_documents(np.random.default_rng(seed))
            assert np.array_equal(windows.pieces[windows.words >= 0], uncut.pieces[uncut.words >= 0])
        assert windows.words[windows.first].tolist() == list(range(windows.num_words)) == list(range(sum(map(len, sentences))))
        assert (windows.lengths <= row_length).all()
        for w, sentence in enumerate(windows.sentences.tolist()):
            mine = windows.words[windows.starts[w] + 1 : windows.starts[w + 1] - 1]
            assert (of_word[mine[mine >= 0]] == unit[sentence]).all()
            assert pieces_of(windows, w)[0] == word_pieces.cls and pieces_of(windows, w)[-1] == word_pieces.sep
            alone = np.count_nonzero(unit == unit[sentence]) == 1
            assert not whole or alone or (mine >= 0).all()  # disjoint: no piece is mere context


@settings(deadline=None, max_examples=20)
@given(st.lists(words, max_size=8), st.sampled_from([8, 64, None]))
def test_sentences_without_a_document_have_the_windows_that_they_have_alone(word_pieces, sentences, row_length):
    alone = word_pieces.encode(sentences, row_length)
    windows = word_pieces.encode(sentences, row_length, documents=[""] * len(sentences), whole=True)
    assert windows.cut_documents(np.random.default_rng(0)) is windows
    for name, value in vars(alone).items():
        np.testing.assert_array_equal(getattr(windows, name), value)


def test_a_word_of_a_document_is_read_with_most_context_across_sentences(word_pieces):
    windows = word_pieces.encode([["in"] * 5] * 40, 34, documents=["a"] * 40)
    for w in range(1, len(windows.sentences) - 1):
        mine = np.flatnonzero(windows.words[windows.starts[w] + 1 : windows.starts[w + 1] - 1] >= 0)
        assert mine[0] >= 8 and mine[-1] < 32 - 8


def test_training_cuts_a_document_elsewhere_each_time_and_at_the_end_of_a_sentence_where_one_is_near(word_pieces):
    def begins(windows):
        return windows.words[windows.starts[:-1] + 1].tolist()

    short = word_pieces.encode([["in"] * 5] * 40, 34, documents=["a"] * 40, whole=True)  # 32 words a window, an eighth is 4
    long = word_pieces.encode([["in"] * 100] * 2, 34, documents=["a"] * 2, whole=True)
    cuts = [begins(short.cut_documents(np.random.default_rng(seed))) for seed in range(20)]
    assert all(word % 5 == 0 for some in cuts for word in some) and len({tuple(some) for some in cuts}) > 2
    assert all(16 - 4 <= some[1] <= 32 for some in cuts)
    cuts = [begins(long.cut_documents(np.random.default_rng(seed))) for seed in range(20)]
    assert len({some[1] for some in cuts}) > 8 and any(word % 100 for some in cuts for word in some)
    for windows in (short, long):
        one, again = (windows.cut_documents(np.random.default_rng(7)) for _ in range(2))
        assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(one).items())


def test_a_document_that_fits_a_row_stays_whole(word_pieces):
    windows = word_pieces.encode([["in"] * 5] * 4, 22, documents=["a", "a", "b", "b"], whole=True)
    assert windows.cut_documents(np.random.default_rng(0)) is windows and windows.lengths.tolist() == [12, 12]


def test_rows_are_as_long_as_sentences_need_or_with_documents_up_to_256():
    short = np.full(100, 20)
    assert choose_row_length(short, 512, short) == 64
    assert [choose_row_length(short, 512, np.full(9, n)) for n in (70, 200, 2000)] == [96, 224, 256]
    assert choose_row_length(short, 128, np.full(9, 2000)) == 128
    assert choose_row_length(np.full(100, 300), 512, np.full(9, 2000)) == 320


def test_documents_are_runs_of_one_name_and_sentences_without_one_stand_alone():
    assert document_bounds(["a", "a", "b", "", "", "b", "b"]).tolist() == [0, 2, 3, 4, 5, 7]
    assert document_bounds([]).tolist() == [0]


def test_a_part_of_the_windows_counts_its_sentences_and_words_from_zero(word_pieces):
    sentences, names = [["in"] * 9, ["the"] * 9, [], ["alex"] * 3, ["in"] * 3, ["the"]], ["a", "a", "", "b", "b", ""]
    whole, part = word_pieces.encode(sentences, 16, documents=names), word_pieces.encode(sentences[2:5], 16, documents=names[2:5])
    for name, value in vars(whole.of_sentences(2, 5)).items():
        np.testing.assert_array_equal(value, getattr(part, name))
    assert whole.sentences_of(np.array([-1, 0, 17, 18, 24])) == [0, 1, 3, 5]


@settings(deadline=None, max_examples=30)
@given(documents, st.sampled_from([8, 64, None]), st.booleans())
def test_blocks_of_any_size_give_the_same_windows(word_pieces, corpus, row_length, whole):
    sentences, names = [s for s, _ in corpus], [name for _, name in corpus]
    windows = word_pieces.encode(sentences, row_length, documents=names, whole=whole)
    with pytest.MonkeyPatch.context() as patch:
        for module in (wordpieces, windows_module):
            patch.setattr(module, "blocks", lambda lengths: blocks(lengths, 3))
        again = word_pieces.encode(sentences, row_length, documents=names, whole=whole)
        cut = again.cut_documents(np.random.default_rng(0))
    for one, other in ((windows, again), (windows.cut_documents(np.random.default_rng(0)), cut)):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(getattr(other, name), value)
            assert np.asarray(value).dtype == np.asarray(getattr(other, name)).dtype


@pytest.mark.parametrize("block", [3, 2**18])
def test_pieces_are_counted_and_found_block_by_block(word_pieces, monkeypatch, block):
    monkeypatch.setattr(windows_module, "BLOCK", block)
    windows = word_pieces.encode([["alex", "虎", "lives", "in", "xylophones", "虎"], ["in", "london"]], 8)
    real = windows.words >= 0
    assert len(windows.sentences) > 2 and not real.all()  # context too, which does not count
    assert windows.distinct_pieces().tolist() == np.unique(windows.pieces).tolist()
    assert windows.count_pieces() == np.count_nonzero(real)
    assert windows.words_with(word_pieces.unk).tolist() == [1, 5] and windows.words_with(word_pieces.cls).tolist() == []
