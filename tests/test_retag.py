"""Other tags in a file: only their characters change, in each format and scheme."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner import formats, tagset
from ner.errors import InputError
from ner.retag import retag
from ner.sentences import Sentence

CONLL = (
    "\ufeff-DOCSTART- -X- O\r\n\r\n# a = comment\r\nJean  NNP\tB-per \r\nréside VB O\r\n"
    "\r\n# x O\r\nin IN O\r\nParis NNP B-geo\r\nTexas NNP I-geo"
)
CSV = 'Note,Sentence #,Word,Tag\n"a,""b",1,"Jean, x","B-per"\n,,"ré\nside",O\n\nc,2,Paris,O\n'
JSONL = ' {"tags" : ["B-per" ,"O"], "x": {"tags": [1]}, "tokens": ["Jean", "r\\u00e9side"]}\n\n{"tokens":["Paris"],"tags":["O"]}\n'
JSONL_0 = '{"tags": ["O", "B-e"], "x": {"tags": [1]}, "tokens": ["Jean", "r\\u00e9side"]}'
SPANS = (
    '{"text": "Jean réside", "label" :[[0, 4, "per"]], "n": 1.0}\n{"text":"x","label":[],"answer":"reject"}\n{"text": "Paris","label":[]}'
)


@pytest.mark.parametrize(
    ("suffix", "text", "wanted", "changes"),
    [
        ("conll", CONLL, {0: ["B-org", "I-org"]}, [("B-per ", "B-org "), ("VB O", "VB I-org")]),
        (
            "conll",
            CONLL,
            {1: ["O", "B-geo", "I-geo", "O"]},
            [("in IN O", "in IN B-geo"), ("Paris NNP B-geo", "Paris NNP I-geo"), ("Texas NNP I-geo", "Texas NNP O")],
        ),
        ("csv", CSV, {0: ["O", "B-a,b"], 1: ["B-geo"]}, [('"B-per"', '"O"'), ('",O', '","B-a,b"'), ("Paris,O", "Paris,B-geo")]),
        ("jsonl", JSONL, {0: ["O", "B-e"]}, [(JSONL[: JSONL.index("\n")], JSONL_0)]),
        ("jsonl", JSONL, {1: ["B-geo"]}, [('{"tokens":["Paris"],"tags":["O"]}', '{"tokens": ["Paris"], "tags": ["B-geo"]}')]),
        (
            "jsonl",
            SPANS,
            {0: ["B-per", "I-per"], 1: ["B-geo"]},
            [('"label" :[[0, 4, "per"]]', '"label": [[0, 11, "per"]]'), ('"Paris","label":[]', '"Paris", "label": [[0, 5, "geo"]]')],
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_only_the_tags_that_differ_are_replaced(tmp_path, suffix, text, wanted, changes, encoding):
    if encoding != "utf-8":
        text = text.removeprefix("\ufeff")
    path, output = tmp_path / f"x.{suffix}.gz", tmp_path / f"y.{suffix}.gz"
    path.write_bytes(gzip.compress(text.encode(encoding)))
    given_encoding = "utf-16" if encoding == "utf-16" else None
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    retag(path, output, wanted, format=None, encoding=given_encoding, columns=(None, None))
    assert gzip.decompress(output.read_bytes()) == text.encode(encoding)
    found, _ = tagset.to_iob2(formats.read(output, encoding=given_encoding))
    assert {number: found[number].tags for number in wanted} == wanted


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["B-x", "I-x", "B-y", "O"]), min_size=1, max_size=5), min_size=1, max_size=4),
    st.sampled_from(["IOB1", "IOB2", "IOBES", "BILOU"]),
)
def test_a_scheme_is_kept(drawn, scheme):
    legal = [["B" + t[1:] if t == "I-x" and b not in ("B-x", "I-x") else t for b, t in zip(["O", *ts], ts, strict=False)] for ts in drawn]
    written = [Sentence(["w"] * len(tags), tagset.from_iob2(tags, scheme)) for tags in legal]
    assert [s.tags for s in tagset.to_iob2(written)[0]] == legal


def test_spans_as_prodigy_has_them_and_a_record_without_a_list(tmp_path):
    path, output = tmp_path / "x.jsonl", tmp_path / "y.jsonl"
    record = {"text": "in Rome", "answer": "accept"}
    path.write_text(json.dumps(record) + "\n" + json.dumps(record | {"spans": [{"start": 0, "end": 2, "label": "a", "id": 7}]}) + "\n")
    retag(path, output, {0: ["O", "B-geo"], 1: ["B-a", "B-geo"]}, format=None, encoding=None, columns=(None, None))
    first, second = map(json.loads, output.read_text().splitlines())
    geo = {"start": 3, "end": 7, "label": "geo"}
    assert first == record | {"spans": [geo]} and second == record | {"spans": [{"start": 0, "end": 2, "label": "a", "id": 7}, geo]}


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "x.conll").write_bytes("é O\n".encode("cp1252"))
    for output, tag, said in (
        ("y.gz", "O", "the format of the input"),
        ("y.conll", "B-λ", "cannot be written"),
        ("y.conll", "B-a b", "cannot hold the tag"),
    ):
        with pytest.raises(InputError, match=said):
            retag(tmp_path / "x.conll", tmp_path / output, {0: [tag]}, format=None, encoding=None, columns=(None, None))
    with pytest.raises(InputError, match="Parquet is read, not written"):
        retag(tmp_path / "x.parquet", tmp_path / "y.parquet", {}, format=None, encoding=None, columns=(None, None))
    assert [path.name for path in tmp_path.iterdir()] == ["x.conll"]
