"""Rows to tag in bulk, from each kind of file: what can be tagged, what cannot and why, and what is refused."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import predict
from ner import bulk_input
from ner.errors import InputError


def read(path, text_column="text", id_column=None):
    """All rows of a file or folder."""
    filesystem, files, _ = bulk_input.find(str(path))
    return [row for file in files for block in bulk_input.blocks(filesystem, file, text_column, id_column) for row in block.to_pylist()]


def brief(found):
    return [(row["id"], row["text"], row["reason"]) for row in found]


def test_a_parquet_row_that_is_no_text_comes_with_its_reason(tmp_path):
    table = pa.table({"id": pa.array([b"7", b"8", None, b"10", b"\xff"]), "body": pa.array([b"alex", b"\xff", b"sings", None, b"x"])})
    parquet.write_table(table, tmp_path / "x.parquet")
    found = read(tmp_path, "body", "id")
    assert brief(found) == [
        ("7", "alex", None),
        ("8", None, "the text is not UTF-8"),
        (None, None, "the id is null or missing"),
        ("10", None, "the text is null or missing"),
        (None, None, "the id is not UTF-8"),
    ]
    assert [row["source"] for row in found] == [None, "x.parquet:2", "x.parquet:3", "x.parquet:4", "x.parquet:5"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_of_every_arrow_type_are_read(tmp_path, kind):
    parquet.write_table(pa.table({"text": pa.array(["alex", None, "sings"], pa.string()).cast(kind)}), tmp_path / "x.parquet")
    assert [row["text"] for row in read(tmp_path / "x.parquet")] == ["alex", None, "sings"]


def test_a_line_of_json_that_is_no_row_comes_with_its_reason(tmp_path):
    lines = ['{"id": "a", "text": "alex"}', "", "{", "[1]", '{"id": "b"}', '{"id": "c", "text": 3}', '{"id": [1], "text": "x"}']
    lines += [json.dumps({"id": "d", "text": "\ud800"}), '{"id": 5, "text": "sings"}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    found = brief(read(tmp_path / "x.jsonl", id_column="id"))
    assert found[0] == ("a", "alex", None) and found[-1] == ("5", "sings", None)
    assert [reason for _, _, reason in found[1:-1]] == [
        *["not a JSON object in UTF-8"] * 2,
        "the text is null or missing",
        "the text is not text",
        "the id is not text",
        "the text is not UTF-8",
    ]


@given(lines=st.lists(st.binary(max_size=12)), end=st.sampled_from([b"\n", b"\r\n"]), bom=st.booleans())
def test_lines_of_text_are_those_that_predict_reads(tmp_path_factory, lines, end, bom):
    path = tmp_path_factory.mktemp("lines") / "x.txt"
    path.write_bytes(b"\xef\xbb\xbf" * bom + end.join(lines) + b"x")
    found = read(path)
    try:
        assert [row["text"] for row in found] == list(predict.read_lines(str(path)))
    except InputError:
        assert any(row["reason"] == "the text is not UTF-8" for row in found)
    assert [row["id"] for row in found] == [f"x.txt:{number}" for number in range(1, len(found) + 1)]
    assert len({row["place"] for row in found}) == len(found)


def test_a_folder_is_read_with_its_folders_and_every_row_has_a_place_of_its_own(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "more" / "b.txt.gz").write_bytes(gzip.compress(b"three\n"))
    (tmp_path / "more" / "README.md").write_text("four")
    (tmp_path / ".hidden.txt").write_text("five")
    _, files, others = bulk_input.find(str(tmp_path))
    assert [file.name for file in files] == ["a.txt", "more/b.txt.gz"] and others == ["more/README.md"]
    found = read(tmp_path)
    assert [(row["id"], row["text"]) for row in found] == [("a.txt:1", "one"), ("a.txt:2", "two"), ("more/b.txt.gz:1", "three")]
    assert len({row["place"] for row in found}) == 3 and found == read(tmp_path)


def test_long_files_come_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(bulk_input, "BLOCK", 3)
    (tmp_path / "x.txt").write_text("a\n" * 8)
    filesystem, (file,), _ = bulk_input.find(str(tmp_path))
    assert [len(block) for block in bulk_input.blocks(filesystem, file, "text", None)] == [3, 3, 2]


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        (None, b"", "no such file"),
        ("x.txt", b"", "it is empty"),
        ("x.md", b"text", "no Parquet, JSON Lines or text file in it"),
        ("x.parquet", b"PAR1 but no more", "cannot be read"),
        ("x.jsonl", b'{"body": "x"}\n', "no column 'text'; there is body"),
    ],
)
def test_an_input_that_is_none_is_refused(tmp_path, name, content, part):
    if name:
        (tmp_path / name).write_bytes(content)
    path = str(tmp_path if name else tmp_path / "nowhere")
    with pytest.raises(InputError, match=part):
        bulk_input.id_column(bulk_input.find(path), "text", None)


def test_columns_that_are_not_there_are_refused_and_rows_that_hold_no_text_rejected(tmp_path):
    parquet.write_table(pa.table({"id": [1], "text": [2.5]}), tmp_path / "x.parquet")
    assert brief(read(tmp_path, id_column="id")) == [("1", None, "the text is not text")]
    found = bulk_input.find(str(tmp_path))
    with pytest.raises(InputError, match="no column 'key'"):
        bulk_input.id_column(found, "text", "key")
    assert bulk_input.id_column(found, "text", None) == "id"
    with pytest.raises(InputError, match="not one column 'body'"):
        read(tmp_path, "body")
    (tmp_path / "x.txt").write_text("alex\n")
    with pytest.raises(InputError, match="plain text has no column of ids"):
        bulk_input.id_column(bulk_input.find(str(tmp_path / "x.txt")), "text", "id")


def test_a_first_line_that_is_no_row_does_not_hide_the_columns(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "x.jsonl").write_text('{\n{"id": 1}\n{"id": 2, "text": "alex"}\n')
    assert bulk_input.id_column(bulk_input.find(str(tmp_path)), "text", None) == "id"


def test_the_number_of_rows_is_guessed(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("a line\n" * 50)
    assert bulk_input.guess_rows(bulk_input.find(str(tmp_path))) == 100
    parquet.write_table(pa.table({"text": ["x"] * 30}), tmp_path / "x.parquet")
    assert bulk_input.guess_rows(bulk_input.find(str(tmp_path / "x.parquet"))) == 30


def test_an_address_that_pyarrow_does_not_open_is_refused():
    with pytest.raises(InputError, match="cannot be opened"):
        bulk_input.open_filesystem("nosuch://bucket/x")
