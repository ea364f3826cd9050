from __future__ import annotations

import json
import shutil
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner import pretrained
from ner.errors import InputError
from ner.wordpieces import WordPieces, _dump, _load


@pytest.fixture(scope="module")
def word_pieces(tiny):
    return WordPieces.load(pretrained.read(tiny))


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


def test_types_say_how_a_word_is_written_where_a_sentence_tells(tiny):
    word_pieces = WordPieces.load(pretrained.read(tiny), case=True)
    told = [["The", "us", "US", "McX", "u.s.", "U.S.", "9", "A", "\u00c9t\u00e9"]]
    windows = word_pieces.encode([*told, ["alex", "in", "9"], ["ALEX", "IN", "9"], ["9"], ["Alex"]], 64)
    assert [windows.types[windows.words == word].tolist() for word in (1, 2)] == [[1, 1], [3, 3]]
    assert windows.types[windows.first].tolist() == [2, 1, 3, 4, 1, 3, 1, 2, 2] + [0] * 7 + [2]
    assert not windows.types[windows.words < 0].any()
    assert not WordPieces.load(pretrained.read(tiny)).encode(told, 64).types.any()


def test_truncation_and_padding_of_the_checkpoint_are_switched_off(tiny):
    loaded = WordPieces.load(pretrained.read(tiny))
    loaded.tokenizer.enable_truncation(4)
    loaded.tokenizer.enable_padding(length=128)
    windows = WordPieces(loaded.tokenizer, ("[CLS]", "[SEP]", "[UNK]")).encode([["in"] * 30], 64)
    assert windows.lengths.tolist() == [32]


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


def test_a_word_longer_than_a_row_is_cut_and_counted(word_pieces):
    windows = word_pieces.encode([["in", "-" * 100_000, "the"]], 64)
    assert windows.cut_words == 1
    assert windows.words[windows.first].tolist() == [0, 1, 2]
    assert windows.lengths.max() <= 64


words = st.lists(st.text(min_size=1, max_size=30), min_size=0, max_size=40)


@settings(deadline=None, max_examples=60)
@given(st.lists(words, max_size=8), st.sampled_from([8, 16, 64]))
def test_every_word_of_any_text_starts_in_exactly_one_window(word_pieces, sentences, row_length):
    windows = word_pieces.encode(sentences, row_length)
    total = sum(len(s) for s in sentences)
    assert windows.num_words == total
    assert windows.words[windows.first].tolist() == list(range(total))
    assert (windows.lengths <= row_length).all() if len(windows.lengths) else total == 0
    owner = np.repeat(np.arange(len(sentences)), [len(s) for s in sentences])
    for w, sentence in enumerate(windows.sentences):
        mine = windows.words[windows.starts[w] : windows.starts[w + 1]]
        assert (owner[mine[mine >= 0]] == sentence).all()
        assert pieces_of(windows, w)[0] == word_pieces.cls and pieces_of(windows, w)[-1] == word_pieces.sep


def test_gmb_every_word_is_tagged_once_control_characters_and_long_sentences_included(gmb):
    from ner import formats

    sentences = formats.read(gmb)
    pieces = WordPieces.load(pretrained.find("sentence-transformers/all-MiniLM-L6-v2"))
    windows = pieces.encode([s.words for s in sentences], 64)
    assert (len(sentences), windows.num_words) == (47_959, 1_048_575)
    assert np.array_equal(windows.words[windows.first], np.arange(1_048_575))
    assert len(windows.sentences) > len(sentences)  # some sentences are longer than a row of 64
    assert len(pieces.encode([s.words for s in sentences], 512).pieces) == pytest.approx(1_272_799, abs=100)


@pytest.fixture
def folder(tiny, tmp_path):
    """A copy of the tiny checkpoint without its tokenizer."""
    folder = shutil.copytree(tiny, tmp_path / "model")
    for name in pretrained.TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)
    return folder


def test_a_folder_without_a_tokenizer_is_refused(folder):
    with pytest.raises(InputError, match="no tokenizer.json or vocab.txt"):
        WordPieces.load(pretrained.read(folder))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        WordPieces.load(pretrained.read(folder))


def test_a_vocabulary_alone_is_read_as_its_tokenizer_config_says(folder, tiny):
    """Accents kept or stripped, letters small or not: what tokenizer_config.json says, by transformers."""
    shutil.copyfile(tiny / "vocab.txt", folder / "vocab.txt")
    words = ["\u00e1", "LONDON", "london"]
    for options, same in (({"do_lower_case": True}, ["a", "london", "london"]), ({"do_lower_case": False}, [None, None, "london"])):
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **options}))
        pieces = WordPieces.load(pretrained.read(folder))
        expected = [[pieces.tokenizer.token_to_id(word)] if word else None for word in same]
        got = pieces.encode_words(words)
        assert all(wanted is None or ids == wanted for ids, wanted in zip(got, expected, strict=True)), (options, got)
        assert options["do_lower_case"] or got[1] != got[2]
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "strip_accents": False}))
    assert WordPieces.load(pretrained.read(folder)).encode_words(["\u00e1"]) != [[pieces.tokenizer.token_to_id("a")]]


def test_a_tokenizer_that_runs_in_python_only_is_refused_in_one_line(folder, tiny):
    """BertJapaneseTokenizer splits words with MeCab, so it must not be read as plain WordPiece."""
    shutil.copyfile(tiny / "vocab.txt", folder / "vocab.txt")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertJapaneseTokenizer"}))
    with pytest.raises(InputError) as error:
        WordPieces.load(pretrained.read(folder))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_the_windows_are_written_to_the_cache_without_copies_of_them(word_pieces):
    windows = word_pieces.encode([["alex", "lives", "in", "london"]] * 20_000, 64)
    size = sum(field.nbytes for field in vars(windows).values() if isinstance(field, np.ndarray))
    tracemalloc.start()
    try:
        content = _dump(windows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(content) > size and peak < 2.2 * size  # the buffer, and what it grows by
    assert np.array_equal(_load(content).pieces, windows.pieces)
