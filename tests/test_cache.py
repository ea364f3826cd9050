from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ner import cache, dataset
from ner.config import Config
from ner.wordpieces import WordPieces


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remember(value, sources=(b"a",)):
    return cache.remembered("x", list(sources), lambda: value, str.encode, bytes.decode)


def test_what_is_kept_is_found_by_its_sources_alone():
    assert remember("first") == "first"
    assert remember("second") == "first"
    assert remember("second", (b"b",)) == "second"
    assert remember("third", (b"a", b"")) == "third"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:40] + b"?" + b[41:], lambda b: b"", lambda b: b[:10]])
def test_a_damaged_file_is_made_anew(own_cache, damage):
    remember("a long enough value")
    (path,) = own_cache.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert remember("again") == "again"
    assert remember("third") == "again"


def test_a_cache_that_cannot_be_written_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NER_CACHE", str(tmp_path / "file"))
    assert remember("value") == "value"


def test_windows_and_sentences_come_back_as_they_were(tiny, toy_sentences, tmp_path):
    from ner import formats

    pieces = WordPieces.load(tiny)
    words = [s.words for s in toy_sentences]
    for got in (pieces.encode_cached(words, 64), pieces.encode_cached(words, 64)):
        for name, value in dataclasses.asdict(pieces.encode(words, 64)).items():
            np.testing.assert_array_equal(getattr(got, name), value)
    formats.write(tmp_path / "x.jsonl", toy_sentences)
    said: list[str] = []
    for _ in range(2):
        assert dataset.read(str(tmp_path / "x.jsonl"), Config(), said.append) == toy_sentences
    assert len(said) in (0, 2) and len(set(said)) <= 1  # the notes are kept with the sentences
