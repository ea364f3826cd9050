"""cache.py: what is kept is found by its sources and its code alone, mapped and shared, and a bad file costs only time."""

from __future__ import annotations

import dataclasses
import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ner import cache, dataset, formats, pretrained
from ner.config import Config
from ner.corpus import Sentences
from ner.sentences import Sentence
from ner.wordpieces import WordPieces


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remember(value, sources=(b"a",)):
    """What the cache gives where ``value`` would be made."""
    arrays = {"letters": np.frombuffer(value.encode(), np.uint8), "none": np.zeros(0, np.int64), "lengths": np.array([len(value)])}
    found = cache.mapped("x", None if sources is None else list(sources), lambda: (arrays, {"value": value}))
    assert list(found.arrays) == list(arrays)
    for name, array in found.arrays.items():
        assert array.dtype == arrays[name].dtype
    assert found.arrays["letters"].tobytes().decode() == found.facts["value"] and found.arrays["lengths"] == len(found.facts["value"])
    return found.facts["value"]


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


def test_a_file_that_other_code_replaced_meanwhile_is_made_anew(own_cache, monkeypatch):
    read = cache._read

    def replaced(path):
        if isinstance(path, Path):
            raise ValueError("the checksum differs")
        return read(path)

    monkeypatch.setattr(cache, "_read", replaced)
    assert remember("first") == "first"


def test_without_sources_nothing_is_kept(own_cache):
    assert remember("first", None) == "first" and remember("second", None) == "second"
    assert list(own_cache.iterdir()) == []


def test_arrays_are_mapped_and_cannot_be_written(own_cache):
    array = cache.mapped("x", [b"a"], lambda: ({"a": np.arange(100_000)}, {})).arrays["a"]
    (path,) = own_cache.iterdir()
    assert str(path) in Path("/proc/self/maps").read_text()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    path.unlink()  # what is mapped stays
    assert array.sum() == 99_999 * 50_000


def test_processes_that_make_the_same_at_once_all_get_it_whole(own_cache):
    code = (
        "import numpy as np; from ner import cache; "
        "found = cache.mapped('x', [b'a'], lambda: ({'a': np.arange(10**6)}, {'b': 1})); "
        "print(found.arrays['a'].sum(), found.facts, found.checksum)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate()[0] for process in processes}
    assert len(outputs) == 1 and outputs.pop().startswith("499999500000 {'b': 1}")
    assert len(list(own_cache.iterdir())) == 1


def test_a_growing_array_beyond_what_is_held_lies_in_a_file(own_cache, monkeypatch):
    monkeypatch.setattr(cache, "HELD", 100)
    growing = cache.Growing(np.int32)
    assert growing.array().tolist() == [] and growing.array().dtype == np.int32
    expected: list[int] = []
    for values in ([0, 1, 2], [], [7.0], range(90), range(5)):
        growing.append(values)
        expected += map(int, values)
        assert growing.array().tolist() == expected
    assert growing.file is not None and list(own_cache.iterdir()) == []  # it has no name: it ends with the process


def test_a_cache_that_cannot_be_written_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NER_CACHE", str(tmp_path / "file"))
    assert remember("value") == "value" and remember("again") == "again"


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_write", full)
    with pytest.raises(OSError, match="No space left on device: .*cache"):
        remember("value")


@pytest.mark.parametrize("documents", [False, True])
def test_windows_come_back_as_they_were(tiny, toy_sentences, documents):
    pieces = WordPieces.load(pretrained.read(tiny))
    sentences = Sentences.of(s._replace(document=f"{n // 9}") for n, s in enumerate(toy_sentences))
    names = list(sentences.documents()) if documents else None
    expected = pieces.encode([s.words for s in sentences], 64, documents=names, whole=documents)
    for _ in range(2):
        got = pieces.encode_cached(sentences, 64, documents=documents, whole=documents)
        for name, value in dataclasses.asdict(expected).items():
            np.testing.assert_array_equal(getattr(got, name), value)


def test_windows_of_other_sentences_or_other_rows_are_others(tiny, tmp_path):
    pieces, path = WordPieces.load(pretrained.read(tiny)), tmp_path / "x.conll"
    path.write_text("alex B-per\n\nlondon B-geo\nin O\n\nthe O\n")
    sentences = dataset.read(str(path), Config(), print)
    for some, row_length in ((sentences, 64), (sentences[:2], 64), (sentences[1:], 64), (sentences, 32)):
        windows = pieces.encode_cached(some, row_length)
        assert (windows.num_words, windows.row_length) == (sum(len(s.words) for s in some), row_length)


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
        monkeypatch.setattr(formats, "stream", None)  # the second time the cache alone is read


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
