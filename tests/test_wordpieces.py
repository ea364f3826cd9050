from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers

from ner import pretrained, wordpieces
from ner.corpus import blocks
from ner.errors import InputError
from ner.wordpieces import WordPieces, choose_row_length, document_bounds


@pytest.fixture(scope="module")
def word_pieces(tiny):
    return WordPieces.load(pretrained.read(tiny))


@pytest.fixture(scope="module", params=["tiny_bert", "tiny_roberta", "tiny_xlm_roberta", "tiny_modernbert"])
def of_any_kind(request, tiny):
    """A tokenizer of each kind, with the space before words as a pre-trained encoder has it."""
    return WordPieces.load(as_pretrained(tiny.with_name(request.param)))


def as_pretrained(folder: Path):
    source = pretrained.read(folder)
    return dataclasses.replace(source, config=source.config | {"architectures": ["AForMaskedLM"]})


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


def test_a_tokenizer_that_makes_a_sign_of_each_space_gets_one_before_a_word():
    """As mmBERT's: BPE over text whose spaces are signs, without one before the first word."""
    signs = {"<unk>": 0, "<s>": 1, "</s>": 2, "\u2581": 3, "a": 4, "\u2581a": 5}
    tokenizer = Tokenizer(models.BPE(signs, [("\u2581", "a")], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    assert not wordpieces.reads_spaces(tokenizer)
    spaced = wordpieces.with_spaces(tokenizer)
    assert wordpieces.reads_spaces(spaced) and spaced.encode(["a"], is_pretokenized=True).ids == [5]


@pytest.mark.parametrize("configured", [None, -1, 10**12, 125, True, "0"])
def test_a_padding_piece_that_config_json_does_not_name_is_found_by_its_text(tiny, configured):
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    assert wordpieces.padding_piece(tokenizer, tiny, configured) == tokenizer.token_to_id("[PAD]")
    assert wordpieces.padding_piece(tokenizer, tiny, 7) == 7


def test_an_unknown_piece_that_is_no_text_is_not_taken(tmp_path):
    tokenizer = Tokenizer(models.BPE({"<unk>": 0, "a": 1}, []))
    for token in (5, ["a"], {"content": 7}, {"content": "a"}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"unk_token": token}))
        assert wordpieces.unknown_piece(tokenizer, tmp_path) == (1 if token == {"content": "a"} else 0)


def test_truncation_and_padding_of_the_checkpoint_are_switched_off(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(folder / "tokenizer.json"))
    windows = WordPieces.load(pretrained.read(folder)).encode([["in"] * 30], 64)
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
    for name in wordpieces.FILES:
        (folder / name).unlink(missing_ok=True)
    return folder


def test_a_folder_without_a_tokenizer_is_refused(folder):
    with pytest.raises(InputError, match="no tokenizer.json, vocab.txt, "):
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


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("bert", {"do_lower_case": False}),
        ("electra", {"strip_accents": False}),
        ("distilbert", {"do_lower_case": False, "tokenizer_class": "DistilBertTokenizerFast"}),
        ("distilbert", {"do_lower_case": False, "tokenizer_class": "PreTrainedTokenizerFast"}),
        ("roberta", {"add_prefix_space": True}),
        ("roberta", {"add_prefix_space": True, "tokenizer_class": "PreTrainedTokenizerFast"}),
    ],
)
def test_options_beside_tokenizer_json_count_as_in_transformers(kind, option, tiny, tmp_path):
    from transformers import AutoTokenizer

    folder = shutil.copytree(tiny.with_name(f"tiny_{kind}"), tmp_path / "model")
    assert not wordpieces._overruled(Tokenizer.from_file(str(folder / "tokenizer.json")), folder)  # no need of transformers
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | option))
    words = ["london", "London", "\u00e9t\u00e9"]
    theirs = AutoTokenizer.from_pretrained(folder)(words, is_split_into_words=True, add_special_tokens=False)["input_ids"]
    assert [piece for ids in WordPieces.load(pretrained.read(folder)).encode_words(words) for piece in ids] == theirs
    own = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(words, is_pretokenized=True, add_special_tokens=False).ids
    assert (theirs != own) == ("PreTrainedTokenizerFast" not in option.values())


def test_byte_level_vocabulary_and_merges_alone_are_read(tiny, tmp_path):
    """As RoBERTa was published at first; no file then names the unknown piece."""
    roberta = tiny.with_name("tiny_roberta")
    model = json.loads((roberta / "tokenizer.json").read_text())["model"]
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(roberta / name, tmp_path / name)
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"] | {"<mask>": len(model["vocab"])}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in model["merges"]))
    found, wanted = (WordPieces.load(as_pretrained(folder)) for folder in (tmp_path, roberta))
    words = json.loads((roberta / "words.json").read_text())["words"]
    assert found.encode_words(words) == wanted.encode_words(words)
    assert (found.cls, found.sep, found.unk) == (wanted.cls, wanted.sep, wanted.unk)


def test_a_sentencepiece_file_without_its_package_is_refused_with_the_package_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (folder / "sentencepiece.bpe.model").write_bytes(b"")
    with pytest.raises(InputError, match="the package sentencepiece is not installed"):
        WordPieces.load(pretrained.read(folder))


def test_a_tokenizer_that_runs_in_python_only_is_refused_in_one_line(folder, tiny):
    """BertJapaneseTokenizer splits words with MeCab, so it must not be read as plain WordPiece."""
    shutil.copyfile(tiny / "vocab.txt", folder / "vocab.txt")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertJapaneseTokenizer"}))
    with pytest.raises(InputError) as error:
        WordPieces.load(pretrained.read(folder))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@settings(deadline=None, max_examples=30)
@given(documents, st.sampled_from([8, 64, None]), st.booleans())
def test_blocks_of_any_size_give_the_same_windows(word_pieces, corpus, row_length, whole):
    sentences, names = [s for s, _ in corpus], [name for _, name in corpus]
    windows = word_pieces.encode(sentences, row_length, documents=names, whole=whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wordpieces, "blocks", lambda lengths: blocks(lengths, 3))
        again = word_pieces.encode(sentences, row_length, documents=names, whole=whole)
        cut = again.cut_documents(np.random.default_rng(0))
    for one, other in ((windows, again), (windows.cut_documents(np.random.default_rng(0)), cut)):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(getattr(other, name), value)
            assert np.asarray(value).dtype == np.asarray(getattr(other, name)).dtype


@pytest.mark.parametrize("block", [3, 2**18])
def test_pieces_are_counted_and_found_block_by_block(word_pieces, monkeypatch, block):
    monkeypatch.setattr(wordpieces, "BLOCK", block)
    windows = word_pieces.encode([["alex", "虎", "lives", "in", "xylophones", "虎"], ["in", "london"]], 8)
    real = windows.words >= 0
    assert len(windows.sentences) > 2 and not real.all()  # context too, which does not count
    assert windows.distinct_pieces().tolist() == np.unique(windows.pieces).tolist()
    assert windows.count_pieces() == np.count_nonzero(real)
    assert windows.words_with(word_pieces.unk).tolist() == [1, 5] and windows.words_with(word_pieces.cls).tolist() == []


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
