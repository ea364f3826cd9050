"""formats.py, text.py, gmb_csv.py: what is read, what is refused and where, what is written."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import subprocess
import sys
import tracemalloc
import typing
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner.corpus import Sentences
from ner.errors import InputError
from ner.formats import FORMATS, SUFFIXES, Format, read, stream, write
from ner.sentences import Sentence, conflicts

HEAD = b"Sentence #,Word,POS,Tag\n"
TWO = [Sentence(["Kofi", "Annan", "left"], ["B-per", "I-per", "O"]), Sentence(["Mali"], ["B-geo"])]
TWO_CSV = HEAD + b"Sentence: 1,Kofi,NNP,B-per\n,Annan,NNP,I-per\n,left,VBD,O\nSentence: 2,Mali,NNP,B-geo\n"
TWO_CONLL = b"Kofi NNP B-per\nAnnan NNP I-per\nleft VBD O\n\nMali NNP B-geo\n"
TWO_JSONL = b'{"tokens": ["Kofi", "Annan", "left"], "tags": ["B-per", "I-per", "O"]}\n{"tokens": ["Mali"], "tags": ["B-geo"]}\n'
TWO_SPANS = b'{"text": "Kofi Annan left", "label": [[0, 10, "per"]]}\n{"text": "Mali", "label": [[0, 4, "geo"]]}\n'


def in_documents(first: str, second: str) -> list[Sentence]:
    return [TWO[0]._replace(document=first), TWO[1]._replace(document=second)]


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def refusal(function, *args, path: Path | None, line: int | None = None, **options) -> str:
    """The message with which ``function`` refuses, after checking that it names path and line and is one line."""
    with pytest.raises(InputError) as caught:
        function(*args, **options)
    message = str(caught.value)
    assert message.isprintable() and "; " in message
    if path is not None:
        assert message.startswith(f"{path}: " if line is None else f"{path}:{line}: "), message
    return message


# --- reading: good files ----------------------------------------------------------------------------------------------

GOOD = {
    "gmb layout": ("a.csv", TWO_CSV, TWO),
    "capital suffix": ("a.CSV", TWO_CSV, TWO),
    "crlf": ("a.csv", TWO_CSV.replace(b"\n", b"\r\n"), TWO),
    "carriage returns only": ("a.csv", TWO_CSV.replace(b"\n", b"\r"), TWO),
    "no last line end": ("a.csv", TWO_CSV[:-1], TWO),
    "blank lines": ("a.csv", TWO_CSV.replace(b"\n", b"\n\n"), TWO),
    "byte order mark": ("a.csv", b"\xef\xbb\xbf" + TWO_CSV, TWO),
    "other column order, no POS": (
        "a.csv",
        b"Tag,Word,Sentence #\nB-per,Kofi,1\nI-per,Annan,\nO,left,\nB-geo,Mali,2\n",
        TWO,
    ),
    "an id on every row": (
        "a.csv",
        b"Sentence #,Word,Tag\n1,Kofi,B-per\n1,Annan,I-per\n1,left,O\n2,Mali,B-geo\n",
        TWO,
    ),
    "an id twice, each time on a first row": (
        "a.csv",
        b"Sentence #,Word,Tag\n1,Kofi,B-per\n,left,O\n1,Mali,B-geo\n",
        [Sentence(["Kofi", "left"], ["B-per", "O"]), TWO[1]],
    ),
    "quoted words": (
        "a.csv",
        HEAD + b'1,"""",``,O\n,",",",",O\n,"1,000",CD,O\n,a"b,NN,O\n,"two\nlines",NN,O\n',
        [Sentence(['"', ",", "1,000", 'a"b', "two\nlines"], ["O"] * 5)],
    ),
    "words that look missing": (
        "a.csv",
        HEAD + b"1,None,NN,O\n,null,NN,O\n,NA,NN,O\n,nan,NN,O\n,N/A,NN,O\n,-inf,NN,O\n",
        [Sentence(["None", "null", "NA", "nan", "N/A", "-inf"], ["O"] * 6)],
    ),
    "cp1252": (
        "a.csv",
        HEAD + b"1,\x96,:,O\n,\x85,:,O\n,Citro\xebn,NNP,O\n",
        [Sentence(["–", "…", "Citroën"], ["O"] * 3)],
    ),
    "bytes cp1252 lacks": (
        "a.csv",
        HEAD + b"1,\x81,X,O\n,\x8d\x8f,X,O\n,\x90\x9d\xff,X,O\n",
        [Sentence(["\x81", "\x8d\x8f", "\x90\x9dÿ"], ["O"] * 3)],
    ),
    "utf-8 next line character": (
        "a.csv",
        HEAD + "1,\x85,X,O\n,a\u2028b,X,O\n".encode(),
        [Sentence(["\x85", "a\u2028b"], ["O", "O"])],
    ),
    "conll": ("a.conll", TWO_CONLL, TWO),
    "two columns, tabs": ("a.bio", b"Kofi\tB-per\nAnnan\tI-per\nleft\tO\n\nMali\tB-geo", TWO),
    "txt, crlf, document lines": (
        "a.txt",
        b"-DOCSTART- -X- O\r\n\r\n" + TWO_CONLL.replace(b"\n", b"\r\n") + b"\r\n-DOCSTART-\r\n",
        in_documents("1", "1"),
    ),
    "a document line parts sentences": (
        "a.iob2",
        b"Kofi NNP B-per\nAnnan NNP I-per\nleft VBD O\n-DOCSTART- -X- O\nMali NNP B-geo\n",
        in_documents("0", "1"),
    ),
    "documents with ids, one of them twice": (
        "a.conll",
        b"-DOCSTART- (1 EU)\n\na O\n\n-DOCSTART- (b)c)\t\na O\n\na O\n\n-DOCSTART- (1 EU)\na O\n",
        [Sentence(["a"], ["O"], document) for document in ("1 EU", "b)c", "b)c", "1 EU")],
    ),
    "csv: a document on every row": (
        "a.csv",
        b"Sentence #,Word,Tag,document_id\n1,Kofi,B-per,d\n1,Annan,I-per,d\n1,left,O,d\n2,Mali,B-geo,d\n",
        in_documents("d", "d"),
    ),
    "csv: sentence ids that start again in each document": (
        "a.csv",
        b"doc_id,Sentence #,Word,Tag\nd,1,Kofi,B-per\n,1,Annan,I-per\nd,1,left,O\ne,1,Mali,B-geo\n",
        in_documents("d", "e"),
    ),
    "jsonl: documents": (
        "a.jsonl",
        TWO_JSONL.replace(b', "O"]', b', "O"], "doc_id": 7').replace(b'["B-geo"]', b'["B-geo"], "document_id": null'),
        in_documents("7", ""),
    ),
    "runs of blank lines and blanks": (
        "a.conll",
        b"\n \t\n" + TWO_CONLL.replace(b" ", b" \t ").replace(b"\n\n", b" \n \n\t\n\n"),
        TWO,
    ),
    "only ASCII blanks part fields": (
        "a.conll",
        "5\xa0storm O\n\x85 O\n\u3000 O\na\x0bb O\n".encode(),
        [Sentence(["5\xa0storm", "\x85", "\u3000", "a\x0bb"], ["O"] * 4)],
    ),
    "jsonl": ("a.jsonl", TWO_JSONL, TWO),
    "json suffix, crlf, blank lines": ("a.json", b"\n" + TWO_JSONL.replace(b"\n", b"\r\n\r\n"), TWO),
    "next line character in json": (
        "a.jsonl",
        '{"tokens": ["\x85"], "tags": ["O"]}\n'.encode(),
        [Sentence(["\x85"], ["O"])],
    ),
    "tokens and tags beside a text": ("a.jsonl", b'{"text": "Mali", "tokens": ["Mali"], "tags": ["B-geo"]}', TWO[1:]),
}


@pytest.mark.parametrize("name, data, sentences", GOOD.values(), ids=GOOD)
def test_good_files(tmp_path, name, data, sentences):
    assert read(put(tmp_path, name, data)) == sentences


def test_format_and_encoding_given(tmp_path):
    odd = put(tmp_path, "data", TWO_CONLL)
    assert read(odd, format="conll") == TWO
    assert [s[:2] for s in read(put(tmp_path, "x.jsonl", TWO_SPANS), format="spans")] == [s[:2] for s in TWO]
    assert read(put(tmp_path, "x.txt", TWO_JSONL), format="jsonl") == TWO
    assert read(put(tmp_path, "u.csv", TWO_CSV.decode().encode("utf-16")), encoding="utf-16") == TWO
    latin = put(tmp_path, "l.conll", "\x96 O\n".encode("latin-1"))
    assert read(latin, encoding="latin-1")[0].words == ["\x96"]
    assert read(latin)[0].words == ["–"]


@pytest.mark.parametrize("format", FORMATS)
def test_each_word_and_tag_is_one_object(tmp_path, format):
    """A corpus of a million words has some ten thousand distinct ones."""
    write(tmp_path / "a", [TWO[0], Sentence(list(TWO[0].words), list(TWO[0].tags)), TWO[1]], format=format)
    sentences = read(tmp_path / "a", format=format)
    for texts in ([w for s in sentences for w in s.words], [t for s in sentences for t in s.tags]):
        assert len(texts) == 7 and len({id(text) for text in texts}) == len(set(texts)) == 4


def test_a_whole_file_can_be_one_document(tmp_path):
    for name, data in [("a.csv", TWO_CSV), ("b.conll", b"-DOCSTART- O\n" + TWO_CONLL), ("c.jsonl", TWO_JSONL), ("d.jsonl", TWO_SPANS)]:
        assert read(put(tmp_path, name, data), documents="file") == in_documents("1", "1")


@pytest.mark.parametrize("name, data", [("a.csv.gz", TWO_CSV), ("a.conll.GZ", TWO_CONLL), ("a.json.gz", TWO_JSONL), ("a.gz", TWO_CONLL)])
def test_gzip_is_read_and_written_by_the_suffix(tmp_path, name, data):
    format = None if name != "a.gz" else "conll"
    path = put(tmp_path, name, gzip.compress(data))
    assert read(path, format=format) == TWO
    write(path, TWO, format=format)
    written = path.read_bytes()
    assert written[:2] == b"\x1f\x8b" and read(path, format=format) == TWO
    write(path, TWO, format=format)
    assert path.read_bytes() == written


@pytest.mark.parametrize("name", ["a.csv", "a.conll", "a.jsonl", "a.csv.gz"])
def test_sentences_are_read_one_by_one(tmp_path, monkeypatch, name):
    monkeypatch.setattr("ner.text.CHUNK", 2**12)
    monkeypatch.setattr("ner.sentences.MANY", 100)
    sentences = [Sentence([f"word{i}", "and", "more"] * 5, ["B-x", "O", "O"] * 5) for i in range(4000)]
    write(tmp_path / name, sentences)
    stream(tmp_path / name).__next__()  # what a first call alone allocates is not measured
    peaks = []
    for _ in range(3):  # the least of three: what other threads of the process allocate is counted too
        tracemalloc.start()
        try:
            assert sum(1 for _ in stream(tmp_path / name)) == 4000
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert min(peaks) < 250_000, peaks  # 50 kB alone; all sentences at once are 2 MB
    assert read(tmp_path / name) == sentences


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pieces_of_any_size_are_read_alike(tmp_path, monkeypatch, size):
    """The piece that a file is checked by may end anywhere, within a character too."""
    files = {
        "a.csv": HEAD + "1,é\u2028ü,X,O\n".encode() + b',"a\nb",X,O\n',
        "b.csv": HEAD + b"1,\x96\x81\xe9,X,O\n",
        "c.conll": b"\xef\xbb\xbfa O\rb O\r\rc O\r",
        "d.conll": b"a O\n\nb O\n-DOCSTART- O\nc O\n",
    }
    whole = {name: read(put(tmp_path, name, data)) for name, data in files.items()}
    monkeypatch.setattr("ner.text.CHUNK", size)
    assert {name: read(tmp_path / name) for name in files} == whole
    assert whole["a.csv"][0].words == ["é\u2028ü", "a\nb"] and whole["b.csv"][0].words == ["–\x81é"]
    assert [s.words for s in whole["c.conll"]] == [["a", "b"], ["c"]]
    assert [s.document for s in whole["d.conll"]] == ["0", "0", "1"]


def test_a_pipe_is_read(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, TWO_CONLL)
    os.close(writer)
    try:
        assert read(f"/dev/fd/{reader}", format="conll") == TWO
    finally:
        os.close(reader)


def test_the_flag_offers_each_format():
    assert typing.get_args(Format) == (*FORMATS, "parquet")
    assert set(SUFFIXES.values()) <= {*FORMATS, "parquet"}


# --- reading: refusals ------------------------------------------------------------------------------------------------

UTF16 = TWO_CSV.decode().encode("utf-16")
REFUSED = {  # what: (file name, its bytes, options, line, a part of the message)
    "empty": ("a.csv", b"", {}, None, "is empty"),
    "only blanks": ("a.conll", b" \n\r\n", {}, None, "is empty"),
    "only a byte order mark": ("a.jsonl", b"\xef\xbb\xbf", {}, None, "is empty"),
    "only document lines": ("a.conll", b"-DOCSTART- O\n\n", {}, None, "no sentence"),
    "header only": ("a.csv", HEAD, {}, None, "no sentence"),
    "no suffix": ("data", TWO_CSV, {}, None, "--format"),
    "unknown suffix": ("a.xlsm", TWO_CSV, {}, None, "'.xlsm'"),
    "unknown format": ("a.csv", TWO_CSV, {"format": "avro"}, None, "csv, conll, jsonl, spans"),
    "unknown encoding": ("a.csv", TWO_CSV, {"encoding": "utf-99"}, None, "'utf-99'"),
    "encoding that is not for text": ("a.csv", TWO_CSV, {"encoding": "zlib"}, None, "'zlib'"),
    "encoding with a NUL": ("a.csv", TWO_CSV, {"encoding": "a\0b"}, None, "not a text encoding"),
    "not utf-8 as said": ("a.csv", HEAD + b"1,a,X,O\n,\x96,X,O\n", {"encoding": "utf-8"}, 3, "0x96"),
    "undefined in cp1252 as said": ("a.csv", HEAD + b"1,\x81,X,O\n", {"encoding": "cp1252"}, 2, "0x81"),
    "damaged utf-8": ("a.csv", HEAD + "1,é,X,O\n,ü,X,O\n".encode() + b",\xc3,X,O\n", {}, 4, "otherwise UTF-8"),
    "utf-16": ("a.csv", UTF16, {}, None, "UTF-16"),
    "utf-16 without a mark": ("a.csv", UTF16[2:], {}, 1, "NUL"),
    "gzip": ("a.csv", gzip.compress(TWO_CSV), {}, None, "gzip"),
    "gzip that is not": ("a.csv.gz", TWO_CSV, {}, None, "not a whole gzip file"),
    "gzip cut short": ("a.csv.gz", gzip.compress(TWO_CSV)[:-9], {}, None, "not a whole gzip file"),
    "gzip damaged": ("a.csv.gz", gzip.compress(TWO_CSV)[:20] + b"?" * 9 + gzip.compress(TWO_CSV)[29:], {}, None, "not a whole gzip file"),
    "gzip in gzip": ("a.csv.gz", gzip.compress(gzip.compress(TWO_CSV)), {}, None, "is a gzip file"),
    "gzip without a format": ("a.gz", gzip.compress(TWO_CSV), {}, None, "--format"),
    "gzip: the line counts in the text": ("a.conll.gz", gzip.compress(b"a O\nb geo\n"), {}, 2, "'geo'"),
    "zip": ("a.csv", b"PK\x03\x04\x14\x00", {}, None, "zip"),
    "NUL": ("a.csv", TWO_CSV.replace(b"left", b"le\0ft"), {}, 4, "NUL"),
    "surrogate": ("a.csv", HEAD + b"1,a,X,O\n,\\ud800,X,O\n", {"encoding": "unicode_escape"}, 3, "surrogate"),
    "an encoding without places": ("a.csv", TWO_CSV, {"encoding": "undefined"}, None, "cannot be read as undefined"),
    "semicolons": ("a.csv", TWO_CSV.replace(b",", b";"), {}, 1, "separated by semicolons"),
    "tabs": ("a.csv", TWO_CSV.replace(b",", b"\t"), {}, 1, "separated by tabs"),
    "no header": ("a.csv", TWO_CSV.removeprefix(HEAD), {}, 1, "'Sentence #', 'Word', 'Tag'"),
    "no Tag": ("a.csv", b"Sentence #,Word,POS\n1,a,X\n", {}, 1, "'Tag'"),
    "Word twice": ("a.csv", b"Sentence #,Word,Word,Tag\n1,a,a,O\n", {}, 1, "'Word'"),
    "one field too few": ("a.csv", HEAD + b"1,a,X,O\n,b,O\n", {}, 3, "3 fields"),
    "one field too many": ("a.csv", HEAD + b"1,a,X,O\n,1,000,X,O\n", {}, 3, "5 fields"),
    "blank lines count": ("a.csv", HEAD + b"\n\n1,a,X,O\n\n,b,O\n", {}, 6, "3 fields"),
    "quoted line ends count": ("a.csv", HEAD + b'1,"a\nb\n",X,O\n,"c\r\nd",X,O,\n', {}, 5, "line 6"),
    "quote open at the end": ("a.csv", TWO_CSV.replace(b"left", b'"left'), {}, 4, "quote"),
    "quote open before other quotes": ("a.csv", HEAD + b'1,"a,X,O\n' + b',",",",",O\n' * 9, {}, 2, "quote"),
    "a quote that is a word swallows rows": ("a.csv", HEAD + b'1,a,X,O\n,",X,O\n2,b,X,O\n,",X,O\n', {}, 3, "over several rows"),
    "quote closed too early": ("a.csv", HEAD + b'1,a,X,O\n,"b"c,X,O\n', {}, 3, "quote"),
    "quote open in the header": ("a.csv", b'"Sentence #,Word,Tag\n1,a,O\n', {}, 1, "quote"),
    "swallowed by a quote": ("a.csv", HEAD + b'1,"' + b"a" * csv.field_size_limit() + b"\n", {}, 2, "quote"),
    "carriage return in a row": ("a.csv", HEAD + b"1,a\rb,X,O\n", {}, 2, "line feed"),
    "first row without an id": ("a.csv", HEAD + b",a,X,O\n1,b,X,O\n", {}, 2, "sentence id"),
    "empty word": ("a.csv", HEAD + b"1,a,X,O\n,,X,O\n", {}, 3, "empty"),
    "blank word": ("a.csv", HEAD + b"1,a,X,O\n, ,X,O\n", {}, 3, "empty"),
    "empty tag": ("a.csv", HEAD + b"1,a,X,O\n,b,X,\n", {}, 3, "tag ''"),
    "a word that is no tag": ("a.csv", HEAD + b"1,a,X,O\n,a,X,a\n", {}, 3, "tag 'a'"),
    "csv: two document columns": ("a.csv", b"Sentence #,Word,Tag,doc_id,document_id\n1,a,O,d,d\n", {}, 1, "more than one column"),
    "csv: no document": ("a.csv", b"Sentence #,Word,Tag,doc_id\n1,a,O,d\n2,a,O,\n", {}, 3, "without a document"),
    "csv: a sentence of two documents": ("a.csv", b"Sentence #,Word,Tag,doc_id\n1,a,O,d\n,a,O,e\n", {}, 3, "'d' and 'e'"),
    "csv: columns by number": ("a.csv", TWO_CSV, {"word_column": 2}, None, "this is csv"),
    "json: columns by number": ("a.jsonl", TWO_SPANS, {"tag_column": 2}, None, "this is spans"),
    "json: two documents": ("a.jsonl", b'{"tokens": ["a"], "tags": ["O"], "doc_id": 1, "document_id": 1}\n', {}, 1, '"doc_id"'),
    "json: a document that is a list": ("a.jsonl", b'{"tokens": ["a"], "tags": ["O"], "doc_id": []}\n', {}, 1, "document's id"),
    "json: a document that is a truth": ("a.jsonl", b'{"tokens": ["a"], "tags": ["O"], "doc_id": true}\n', {}, 1, "document's id"),
    "conll: one column": ("a.conll", b"Kofi\n", {}, 1, "1 column;"),
    "conll: too few": ("a.conll", TWO_CONLL + b"a O\n", {}, 6, "2 columns; give the line 3"),
    "conll: too many": ("a.conll", b"\n\na O\nb X O\n", {}, 4, "3 columns; give the line 2"),
    "conll: the tag elsewhere": ("a.conll", b"1\tPeter\tB-PER\t-\tanna\n", {}, 1, "such as --tag-column 3"),
    "conll: a multiword token's number": ("a.conll", b"1-2\tzum\t_\n", {}, 1, "--word-column 2"),
    "conll: numbers from 0": ("a.conll", b"0\tEU\tB-ORG\n1\trejects\tO\n", {}, None, "counts the words"),
    "conll: numbers through the file": ("a.conll", b"1 EU B-ORG\n2 rejects O\n\n3 Peter B-PER\n", {}, None, "counts the words"),
    "conll: numbers and a multiword token": ("a.conll", b"1-2\tzum\tO\n1\tzu\tO\n2\tdem\tO\n", {}, None, "counts the words"),
    "conll: bad tag": ("a.conll", b"a O\r\nb O\r\n\r\nc B_geo\r\n", {}, 4, "'B_geo'"),
    "conll: carriage return": ("a.conll", b"a X O\rb O\n", {}, 1, "carriage return"),
    "conll: next line character is no line end": ("a.conll", "\x85 O\n\x85 O\nb\n".encode(), {}, 3, "1 column;"),
    "json: broken": ("a.jsonl", TWO_JSONL + b'{"tokens": ["a"], "ta\n', {}, 3, "broken JSON"),
    "json: too deep": ("a.jsonl", TWO_JSONL + b"[" * 100_000, {}, 3, "broken JSON"),
    "json: too long a number": ("a.jsonl", b'{"tokens": ' + b"9" * 5000 + b"}", {}, 1, "broken JSON"),
    "json: an array": ("a.json", b'[{"tokens": ["a"], "tags": ["O"]}]', {}, 1, "list"),
    "json: pretty": ("a.json", b'{\n "tokens": ["a"]\n}\n', {}, 1, "broken JSON"),
    "json: unequal": ("a.jsonl", TWO_JSONL + b'\n{"tokens": ["a", "b"], "tags": ["O"]}\n', {}, 4, "2 words but 1 tags"),
    "json: no words": ("a.jsonl", TWO_JSONL + b'{"tokens": [], "tags": []}\n', {}, 3, "without words"),
    "json: a number": ("a.jsonl", b'{"tokens": ["a", 7], "tags": ["O", "O"]}\n', {}, 1, "strings"),
    "json: null tags": ("a.jsonl", b'{"tokens": ["a"], "tags": null}\n', {}, 1, '"tags"'),
    "json: other keys": ("a.jsonl", b'{"words": ["a"]}\n', {}, 1, '"tokens"'),
    "json: empty word": ("a.jsonl", b'{"tokens": ["a", ""], "tags": ["O", "O"]}\n', {}, 1, "word 2 is empty"),
    "json: escaped NUL": ("a.jsonl", b'{"tokens": ["\\u0000"], "tags": ["O"]}\n', {}, 1, "NUL"),
    "json: half a pair": ("a.jsonl", b'{"tokens": ["\\ud83d"], "tags": ["O"]}\n', {}, 1, "surrogate"),
    "json: bad tag": ("a.jsonl", TWO_JSONL + b'{"tokens": ["a"], "tags": ["geo"]}\n', {}, 3, "'geo'"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # unicode_escape's
@pytest.mark.parametrize("name, data, options, line, part", REFUSED.values(), ids=REFUSED)
def test_refused_files(tmp_path, name, data, options, line, part):
    path = put(tmp_path, name, data)
    assert part in refusal(read, path, path=path, line=line, **options)
    assert read(put(tmp_path, "good.csv", TWO_CSV)) == TWO  # a refusal leaves nothing behind


@pytest.mark.parametrize("tag", ["", " ", "B_geo", "geo", "B-", "-geo", "b-geo", "o", "O ", "B- geo", "B-geo ", "X-geo", "OO"])
@pytest.mark.parametrize("layout", ["csv", "jsonl"])
def test_illegal_tags(tmp_path, tag, layout):
    if layout == "csv":
        path, line = put(tmp_path, "a.csv", HEAD + f"1,a,X,B-geo-loc\n,b,X,{tag}\n".encode()), 3
    else:
        path, line = put(tmp_path, "a.jsonl", json.dumps({"tokens": ["b"], "tags": [tag]}).encode()), 1
    assert repr(tag) in refusal(read, path, path=path, line=line)


def test_refused_paths(tmp_path, monkeypatch):
    assert "No such file" in refusal(read, tmp_path / "no.csv", path=tmp_path / "no.csv")
    assert "directory" in refusal(read, tmp_path, path=tmp_path)
    assert "null" in refusal(read, "a\0.csv", path=Path("a\\x00.csv"))
    with zipfile.ZipFile(tmp_path / "z.csv", "w") as archive:
        archive.writestr("ner_dataset.csv", TWO_CSV)
    assert "zip" in refusal(read, tmp_path / "z.csv", path=tmp_path / "z.csv")

    def denied(self, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", denied)  # root may read everything, so chmod would not do
    assert "Permission denied" in refusal(read, tmp_path / "z.csv", path=tmp_path / "z.csv")


# --- properties of readers and writers --------------------------------------------------------------------------------

PROPERTY = settings(deadline=None, max_examples=150)
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(" \t\r\n\",;#'-\x85\xa0\u2028\ufeff")
words = st.text(characters, min_size=1, max_size=8).filter(lambda word: word.strip(" \t\r\n"))
types = st.sampled_from(["geo", "per", "geo-loc", "B-geo", 'a,"b', "日本", "O", "a\xa0b"])
NO_DOCUMENT = st.just("")
tags = st.just("O") | st.builds("{}-{}".format, st.sampled_from("BIESLU"), types)


def sentences_of(words, tags, documents=NO_DOCUMENT):
    pairs = st.lists(st.tuples(words, tags), min_size=1, max_size=6)
    sentence = st.builds(lambda rows, document: Sentence([w for w, _ in rows], [t for _, t in rows], document), pairs, documents)
    return st.lists(sentence, min_size=1, max_size=5)


names = st.sampled_from(["a", "b", "1"]) | st.text(characters, min_size=1, max_size=3)  # of documents
trimmed_words = words.filter(lambda word: word == word.strip())
conll_words = words.filter(lambda word: not set(" \t\r\n") & set(word) and word[0] != "\ufeff" and word != "-DOCSTART-")


@pytest.mark.parametrize(
    "suffix, held",
    [
        ("csv", sentences_of(words, tags | st.just("B-two words"))),
        ("csv", sentences_of(words, tags, names)),
        ("jsonl", sentences_of(words, tags | st.just("B-two words"), names | st.just(""))),
        ("conll", sentences_of(conll_words, tags)),
        ("conll", sentences_of(conll_words, tags, names.filter(lambda name: not set("\r\n") & set(name)))),
        ("spans", sentences_of(trimmed_words, st.sampled_from(["O", "B-geo", "B-two words"]), names | st.just(""))),
    ],
)
def test_what_is_written_is_read(tmp_path_factory, suffix, held):
    path = tmp_path_factory.mktemp("identity") / f"a.{suffix}"

    @PROPERTY
    @given(held)
    def check(sentences):
        write(path, sentences, format=suffix)
        assert read(path, format=suffix) == sentences
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    check()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "conll", "spans"])
def test_what_a_writer_accepts_is_read(tmp_path_factory, suffix):
    path = tmp_path_factory.mktemp("accepted") / f"a.{suffix}"
    anything = sentences_of(st.text(max_size=4), tags | st.text(max_size=4), st.text(max_size=1))

    @PROPERTY
    @given(anything)
    def check(sentences):
        try:
            write(path, sentences, format=suffix)
        except InputError as error:
            assert str(error).startswith(f"{path}: sentence ") and str(error).isprintable()
        else:
            assert read(path, format=suffix) == sentences

    check()


def read_or_refuse(path: Path) -> None:
    try:
        sentences = read(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and str(error).isprintable()
    else:
        assert sentences and all(s.words and len(s.words) == len(s.tags) for s in sentences)


@pytest.mark.parametrize("suffix", ["csv", "conll", "jsonl"])
def test_random_bytes(tmp_path_factory, suffix):
    path = tmp_path_factory.mktemp("random") / f"a.{suffix}"
    start = st.sampled_from([b"", HEAD, b'{"tokens": ', b'{"text": "a b", "label": '])

    @PROPERTY
    @given(start, st.binary(max_size=60))
    def check(start, data):
        path.write_bytes(start + data)
        read_or_refuse(path)

    check()


@pytest.mark.parametrize("suffix, good", [("csv", TWO_CSV), ("conll", TWO_CONLL), ("jsonl", TWO_JSONL), ("jsonl", TWO_SPANS)])
def test_random_mutations(tmp_path_factory, suffix, good):
    path = tmp_path_factory.mktemp("mutated") / f"a.{suffix}"
    pieces = st.sampled_from([b"", b'"', b",", b"\n", b"\r", b" ", b"\t", b"\0", b"\x85", b"\xff", b"[", b"}", b"null", b"9", b"-"])
    edits = st.lists(st.tuples(st.integers(0, len(good)), st.integers(0, 3), pieces | st.binary(max_size=3)), max_size=4)

    @PROPERTY
    @given(edits)
    def check(edits):
        data = good
        for at, cut, piece in edits:
            data = data[:at] + piece + data[at + cut :]
        path.write_bytes(data)
        read_or_refuse(path)

    check()


# --- writing ----------------------------------------------------------------------------------------------------------


def test_written_layouts(tmp_path):
    write(tmp_path / "a.csv", TWO)
    assert (tmp_path / "a.csv").read_bytes().startswith(b"Sentence #,Word,Tag\r\nSentence: 1,Kofi,B-per\r\n,Annan,I-per\r\n")
    write(tmp_path / "a.conll", TWO)
    assert (tmp_path / "a.conll").read_bytes() == b"Kofi B-per\nAnnan I-per\nleft O\n\nMali B-geo\n\n"
    write(tmp_path / "a.data", (sentence for sentence in TWO), format="jsonl")
    assert (tmp_path / "a.data").read_bytes() == TWO_JSONL
    write(tmp_path / "a.jsonl", TWO, format="spans")
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert first["text"] == "Kofi Annan left" and first["spans"] == [{"start": 0, "end": 10, "label": "per"}]
    assert first["tokens"][1] == {"text": "Annan", "start": 5, "end": 10, "id": 1} and first["document_id"] is None
    write(tmp_path / "d.csv", in_documents("d", "e"))
    header, *rows = (tmp_path / "d.csv").read_bytes().split(b"\r\n")
    assert header.endswith(b",Tag,document_id") and rows[:2] == [b"Sentence: 1,Kofi,B-per,d", b",Annan,I-per,"]
    write(tmp_path / "d.conll", in_documents("d", "e"))
    assert (tmp_path / "d.conll").read_bytes() == (b"-DOCSTART- (d)\n\nKofi B-per\nAnnan I-per\nleft O\n\n-DOCSTART- (e)\n\nMali B-geo\n\n")


@pytest.mark.parametrize(
    "name, sentence, part",
    [
        ("a.conll", Sentence(["two words"], ["O"]), "'two words'"),
        ("a.conll", Sentence(["two\nlines"], ["O"]), "white space"),
        ("a.conll", Sentence(["-DOCSTART-"], ["O"]), "-DOCSTART-"),
        ("a.conll", Sentence(["a", "\ufeffb"], ["O", "O"]), "byte order mark"),
        ("a.conll", Sentence(["a"], ["B-two words"]), "white space"),
        ("a.conll", Sentence(["a"], ["O"], "a\nb"), "documents or none"),
        ("a.csv", Sentence(["a"], ["O"], "d"), "documents or none"),
        ("a.jsonl", Sentence(["a"], ["O"], "\0"), "the document"),
        ("a.csv", Sentence(["a" * (csv.field_size_limit() + 1)], ["O"]), "131072"),
        *(
            (name, sentence, part)
            for name in ("a.csv", "a.conll", "a.jsonl")
            for sentence, part in [
                (Sentence(["a", ""], ["O", "O"]), "word 2 is empty"),
                (Sentence([], []), "without words"),
                (Sentence(["a"], []), "1 words but 0 tags"),
                (Sentence(["a"], ["geo"]), "'geo'"),
                (Sentence(["\ud800"], ["O"]), "surrogate"),
                (Sentence(["a\0"], ["O"]), "NUL"),
            ]
        ),
    ],
)
def test_refused_sentences_leave_the_old_file(tmp_path, name, sentence, part):
    path = put(tmp_path, name, b"old")
    message = refusal(write, path, [*TWO, sentence], path=path)
    assert "sentence 3: " in message and part in message
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_refused_targets(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    file = put(tmp_path, "file", b"")
    for path, part in [
        (tmp_path / "folder.csv", "a folder"),
        (tmp_path / "no" / "a.csv", "no such folder"),
        (file / "a.csv", "no such folder"),
        (tmp_path / "a.xyz", "'.xyz'"),
        (tmp_path / ("a" * 300 + ".csv"), "too long"),
    ]:
        assert part in refusal(write, path, TWO, path=path)
    continued = [Sentence(["Mali"], ["I-geo"])]
    assert "IOB2" in refusal(write, tmp_path / "a.jsonl", continued, path=tmp_path / "a.jsonl", format="spans")
    assert "no sentence" in refusal(write, tmp_path / "a.csv", [], path=tmp_path / "a.csv")
    lines = [Sentence(["a"], ["O"], "a\nb")]
    assert "a line end" in refusal(write, tmp_path / "a.conll", lines, path=tmp_path / "a.conll")
    assert "null" in refusal(write, "a\0.csv", TWO, path=Path("a\\x00.csv"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_write_keeps_a_link_and_the_usual_mode(tmp_path):
    put(tmp_path, "plain", b"")
    (tmp_path / "link.csv").symlink_to("real.csv")
    write(tmp_path / "link.csv", TWO)
    assert (tmp_path / "link.csv").is_symlink() and read(tmp_path / "real.csv") == TWO
    assert (tmp_path / "real.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_import_is_light():
    code = "import sys, ner.formats; assert not {'pandas', 'numpy', 'tensorflow', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gmb_facts(gmb):
    sentences = read(gmb)
    assert len(sentences) == 47_959
    assert len({tuple(s.words) for s in sentences}) == 47_575
    assert conflicts(Sentences.of(sentences).as_bytes()) == 35
    words = Counter(word for s in sentences for word in s.words)
    assert words.total() == 1_048_575
    assert (words["None"], words['"'], words["–"], words["…"], words["5\xa0storm"]) == (10, 3686, 8, 4, 1)
    tags = Counter(tag for s in sentences for tag in s.tags)
    entities = {tag[2:]: count for tag, count in tags.items() if tag[0] == "B"}
    assert entities == dict(geo=37_644, tim=20_333, org=20_143, per=16_990, gpe=15_870, art=402, eve=308, nat=201)
    assert len(tags) == 17
    assert sentences[0].words[:3] == ["Thousands", "of", "demonstrators"]
    assert max(len(s.words) for s in sentences) == 104
