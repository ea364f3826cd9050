"""cache.py: a value is found by its sources and its code alone, and a bad file costs only time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ner import cache, dataset, formats, pretrained
from ner.config import Config
from ner.sentences import Sentence
from ner.wordpieces import WordPieces


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remember(value, sources=(b"a",), load=bytes.decode):
    return cache.remembered("x", list(sources), lambda: value, str.encode, load)


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


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder in place of the package's source files."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "a.py").write_text("LIMIT = 1")
    monkeypatch.setattr(cache, "SOURCES", folder)
    cache.code.cache_clear()
    yield folder
    cache.code.cache_clear()


@pytest.mark.parametrize("name, content", [("a.py", "LIMIT = 2"), ("b.py", ""), ("a.py", None)])
def test_what_other_code_made_is_made_anew(own_cache, sources, name, content):
    assert remember("old") == remember("unused") == "old"
    if content is None:
        (sources / name).unlink()
    else:
        (sources / name).write_text(content)
    cache.code.cache_clear()  # as in the next process
    assert remember("new") == remember("unused") == "new"
    assert len(list(own_cache.iterdir())) == 1  # the old file was replaced


def test_the_package_itself_is_the_code():
    assert {source.name for source in cache.SOURCES.glob("*.py")} >= {"cache.py", "formats.py", "tagset.py", "wordpieces.py"}


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, EOFError])
def test_a_file_that_cannot_be_loaded_is_made_anew(error):
    def load(content):
        raise error

    assert remember("first") == "first"
    assert remember("second", load=load) == "second"
    assert remember("third") == "second"


def test_a_cache_that_cannot_be_written_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NER_CACHE", str(tmp_path / "file"))
    assert remember("value") == "value"


def test_windows_come_back_as_they_were(tiny, toy_sentences):
    pieces = WordPieces.load(pretrained.read(tiny))
    words = [s.words for s in toy_sentences]
    for got in (pieces.encode_cached(words, 64), pieces.encode_cached(words, 64)):
        for name, value in dataclasses.asdict(pieces.encode(words, 64)).items():
            np.testing.assert_array_equal(getattr(got, name), value)


def test_sentences_and_notes_come_back_as_they_were(tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl"
    iobes = [Sentence(["Kofi", "Annan"], ["B-per", "E-per"]), Sentence(["Mali"], ["S-geo"]), Sentence(["Mali"], ["O"])]
    iob2 = [Sentence(["Kofi", "Annan"], ["B-per", "I-per"]), Sentence(["Mali"], ["B-geo"]), Sentence(["Mali"], ["O"])]
    notes = [f"{path}: tags converted from IOBES to IOB2", f"{path}: sentences that occur more than once with different tags: 1"]
    formats.write(path, iobes)
    for _ in range(2):
        said: list[str] = []
        sentences = dataset.read(str(path), Config(), said.append)
        assert sentences == iob2 and all(type(sentence) is Sentence for sentence in sentences)
        assert said == notes
        assert sentences[1].words[0] is sentences[2].words[0]  # one object for each distinct word
        assert len({id(tag) for s in sentences for tag in s.tags}) == 4
        monkeypatch.setattr(formats, "read", None)  # the second time the cache alone is read


def test_shards_under_other_names_are_read_anew(tmp_path):
    for name in ("train", "training"):
        files = [tmp_path / f"{name}-{number}.conll" for number in (1, 2)]
        for file in files:
            file.write_text("-DOCSTART- O\n\nMali B-geo\n")
        read = dataset.read(name, Config(), print, map(str, files))
        assert [s.document for s in read] == [f"{name}-1.conll 1", f"{name}-2.conll 1"]


def test_a_file_read_in_another_way_is_read_anew(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("-DOCSTART- O\n\n1\tMali\tB-geo\tO\n\n-DOCSTART- O\n\n1\tMali\tO\tB-geo\n")
    ways = [{}, {"tag_column": 3}, {"documents": "file"}, {"documents": "file", "word_column": 3}]
    read = [dataset.read(str(path), Config(word_column=2, **way) if "word_column" not in way else Config(**way), print) for way in ways]
    assert [s.tags for s in read[0]] == [["O"], ["B-geo"]] and [s.tags for s in read[1]] == [["B-geo"], ["O"]]
    assert [[s.document for s in sentences] for sentences in read] == [["1", "2"], ["1", "2"], ["1", "1"], ["1", "1"]]
    assert [s.words for s in read[3]] == [["B-geo"], ["O"]]
