from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers

from ner import pretrained
from ner.errors import InputError
from ner.tokenizer import FILES, overruled, padding_piece, reads_spaces, unknown_piece, with_spaces
from ner.wordpieces import WordPieces


def as_pretrained(folder: Path):
    source = pretrained.read(folder)
    return dataclasses.replace(source, config=source.config | {"architectures": ["AForMaskedLM"]})


def test_a_tokenizer_that_makes_a_sign_of_each_space_gets_one_before_a_word():
    """As mmBERT's: BPE over text whose spaces are signs, without one before the first word."""
    signs = {"<unk>": 0, "<s>": 1, "</s>": 2, "\u2581": 3, "a": 4, "\u2581a": 5}
    tokenizer = Tokenizer(models.BPE(signs, [("\u2581", "a")], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    assert not reads_spaces(tokenizer)
    spaced = with_spaces(tokenizer)
    assert reads_spaces(spaced) and spaced.encode(["a"], is_pretokenized=True).ids == [5]


@pytest.mark.parametrize("configured", [None, -1, 10**12, 125, True, "0"])
def test_a_padding_piece_that_config_json_does_not_name_is_found_by_its_text(tiny, configured):
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    assert padding_piece(tokenizer, tiny, configured) == tokenizer.token_to_id("[PAD]")
    assert padding_piece(tokenizer, tiny, 7) == 7


def test_an_unknown_piece_that_is_no_text_is_not_taken(tmp_path):
    tokenizer = Tokenizer(models.BPE({"<unk>": 0, "a": 1}, []))
    for token in (5, ["a"], {"content": 7}, {"content": "a"}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"unk_token": token}))
        assert unknown_piece(tokenizer, tmp_path) == (1 if token == {"content": "a"} else 0)


def test_truncation_and_padding_of_the_checkpoint_are_switched_off(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(folder / "tokenizer.json"))
    windows = WordPieces.load(pretrained.read(folder)).encode([["in"] * 30], 64)
    assert windows.lengths.tolist() == [32]


@pytest.fixture
def folder(tiny, tmp_path):
    """A copy of the tiny checkpoint without its tokenizer."""
    folder = shutil.copytree(tiny, tmp_path / "model")
    for name in FILES:
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
    assert not overruled(Tokenizer.from_file(str(folder / "tokenizer.json")), folder)  # no need of transformers
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
