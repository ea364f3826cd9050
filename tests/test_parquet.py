"""parquet.py: what is read from columns and schemas as datasets writes them, and what is refused."""

from __future__ import annotations

import contextlib
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats import TWO, refusal

from ner.errors import InputError
from ner.formats import read, write
from ner.parquet import class_names
from ner.sentences import Sentence

NAMES = ["O", "B-per", "I-per", "B-geo"]
WORDS = [s.words for s in TWO]
TAGS = [s.tags for s in TWO]
IDS = [[NAMES.index(tag) for tag in tags] for tags in TAGS]
LABEL = {"names": NAMES, "_type": "ClassLabel"}
# How versions of datasets describe a list of labels in a schema.
FEATURES = {
    "datasets 4": {"feature": LABEL, "_type": "List"},
    "datasets 4, large": {"feature": LABEL, "_type": "LargeList"},
    "datasets 2 and 3": {
        "feature": {"num_classes": 4, "names_file": None, "id": None, **LABEL},
        "length": -1,
        "id": None,
        "_type": "Sequence",
    },
    "datasets 1": [{"num_classes": 4, **LABEL}],
}


def put(path, columns: dict, *, features: dict | None = None, rows: int = 1000):
    """Write columns (lists, or arrays of pyarrow) as Parquet, with a ``huggingface`` key in the schema if there are features."""
    table = pyarrow.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, path, row_group_size=rows)
    return path


@pytest.mark.parametrize("words", ["tokens", "words"])
@pytest.mark.parametrize("tags", ["ner_tags", "tags", "labels"])
def test_tags_as_text(tmp_path, words, tags):
    path = put(tmp_path / "a.parquet", {"id": ["1", "2"], words: WORDS, "pos": [[1], [2]], tags: TAGS})
    assert read(path) == TWO


@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES)
@pytest.mark.parametrize("integer", [pyarrow.int64(), pyarrow.uint8()], ids=str)
def test_numbers_are_named_by_the_schema(tmp_path, feature, integer):
    features = {"tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}, "ner_tags": feature}
    path = put(tmp_path / "a.parquet", {"tokens": WORDS, "ner_tags": pyarrow.array(IDS, pyarrow.list_(integer))}, features=features)
    assert read(path) == TWO


def test_other_types_of_lists_and_text(tmp_path):
    words = pyarrow.array(WORDS, pyarrow.large_list(pyarrow.large_string()))
    tags = pyarrow.array(TAGS, pyarrow.list_(pyarrow.dictionary(pyarrow.int32(), pyarrow.string())))
    assert read(put(tmp_path / "a.parquet", {"words": words, "labels": tags})) == TWO


def test_names_given_from_outside_serve_a_schema_that_has_none(tmp_path):
    path = put(tmp_path / "a.parquet", {"tokens": WORDS, "ner_tags": IDS})
    assert read(path, tag_names=NAMES) == TWO
    named = put(tmp_path / "b.parquet", {"tokens": WORDS, "ner_tags": IDS}, features={"ner_tags": FEATURES["datasets 4"]})
    assert read(named, tag_names=["O"] * 4) == TWO


def test_a_card_describes_labels_in_its_own_way():
    names = {str(number): name for number, name in enumerate(NAMES)}
    assert class_names({"name": "ner_tags", "list": {"class_label": {"names": names}}}) == NAMES
    assert class_names({"name": "ner_tags", "sequence": {"dtype": {"class_label": {"names": names}}}}) == NAMES
    assert class_names({"name": "tokens", "sequence": "string"}) == []
    assert class_names({"list": {"class_label": {"names": {"0": "O", "2": "B-per"}}}}) == []


def test_the_column_of_ner_tags_comes_before_others(tmp_path):
    path = put(tmp_path / "a.parquet", {"tokens": WORDS, "tags": [["NNP"] * 3, ["NNP"]], "ner_tags": TAGS})
    assert read(path) == TWO


def test_documents_and_empty_rows(tmp_path):
    columns = {"tokens": [["a"], [], ["b"], ["c"]], "tags": [["O"], [], ["O"], ["O"]], "doc_id": [7, 7, 8, None]}
    assert [(s.words, s.document) for s in read(put(tmp_path / "a.parquet", columns))] == [(["a"], "7"), (["b"], "8"), (["c"], "")]
    columns["doc_id"] = [7.0, 7.0, 7.0, float("nan")]  # whole numbers and null, as some programs write them
    assert [s.document for s in read(put(tmp_path / "b.parquet", columns))] == ["7.0", "7.0", ""]


NONE = pyarrow.array([], pyarrow.list_(pyarrow.string()))
REFUSED = {
    "no tags": ({"tokens": WORDS, "pos": TAGS}, "its columns are tokens, pos"),
    "numbers without names": ({"tokens": WORDS, "ner_tags": IDS}, "does not say which tags they are"),
    "one tag a row": ({"tokens": WORDS, "labels": [1, 2]}, "column 'labels' is int64, not a list of tags"),
    "text in place of words": ({"words": ["Kofi Annan left", "Mali"], "tags": TAGS}, "column 'words' is string, not a list of words"),
    "tags that are fractions": ({"words": WORDS, "tags": [[0.5] * 3, [1.0]]}, "is list<element: double>, not a list of tags"),
    "too few tags": ({"tokens": [["a"], ["b", "c"]], "tags": [["O"], ["O"]]}, "row 2: 2 words but 1 tags"),
    "words without tags": ({"tokens": [["a"]], "tags": [[]]}, "not a list of tags"),
    "a null": ({"tokens": [["a"], None], "tags": [["O"], None]}, "row 2: a word, a tag or a whole list is null"),
    "a null word": ({"tokens": [["a", None]], "tags": [["O", "O"]]}, "row 1: a word, a tag"),
    "an empty word": ({"tokens": [["a"], [" "]], "tags": [["O"], ["O"]]}, "row 2: word 1 is empty"),
    "no IOB tag": ({"tokens": [["a"], ["b"]], "tags": [["O"], ["per"]]}, "row 2: the tag 'per' of word 1 is not O or"),
    "no row": ({"tokens": NONE, "tags": NONE}, "holds no sentence"),
}  # fmt: skip


@pytest.mark.parametrize("columns, message", REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, columns, message):
    path = put(tmp_path / "a.parquet", columns, rows=1)
    assert message in refusal(read, path, path=path)


@pytest.mark.parametrize("number", [-1, 4])
def test_a_number_without_a_name_is_refused(tmp_path, number):
    columns = {"tokens": [["a"], ["b"]], "ner_tags": [[0], [number]]}
    path = put(tmp_path / "a.parquet", columns, features={"ner_tags": FEATURES["datasets 4"]})
    assert f"row 2: tag {number} has no name; the file names 0 to 3" in refusal(read, path, path=path)


@pytest.mark.parametrize("metadata", ["", "[]", '{"info": {"features": null}}', '{"info": {"features": {"ner_tags": {"names": 3}}}}'])
def test_metadata_of_other_makers_names_no_tags(tmp_path, metadata):
    table = pyarrow.table({"tokens": WORDS, "ner_tags": IDS}).replace_schema_metadata({"huggingface": metadata})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert "does not say" in refusal(read, tmp_path / "a.parquet", path=tmp_path / "a.parquet")


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    whole = put(tmp_path / "a.parquet", {"tokens": WORDS, "tags": TAGS}).read_bytes()
    for number, data in enumerate((b"", b"tokens,tags\n", whole[:-8], whole[20:])):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(data)
        assert "cannot be read as Parquet" in refusal(read, path, path=path)
    assert "cannot be read" in refusal(read, tmp_path / "none.parquet", path=tmp_path / "none.parquet")


def test_column_numbers_are_not_for_parquet(tmp_path):
    path = put(tmp_path / "a.parquet", {"tokens": WORDS, "tags": TAGS})
    assert "are for conll, and this is parquet" in refusal(read, path, path=path, tag_column=2)


def test_parquet_is_not_written(tmp_path):
    assert "read, not written" in refusal(write, tmp_path / "a.parquet", TWO, path=tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(lambda word: word.strip(" \t\r\n"))
rows = st.lists(st.lists(st.tuples(words, st.sampled_from(NAMES)), min_size=1), min_size=1, max_size=8)


@given(rows, st.integers(1, 4), st.booleans())
@settings(max_examples=50, deadline=None)
def test_what_was_written_is_read_whatever_the_row_groups(tmp_path_factory, sentences, size, as_numbers):
    expected = [Sentence([w for w, _ in s], [t for _, t in s], f"d{i // 2}") for i, s in enumerate(sentences)]
    tags = [[NAMES.index(tag) for tag in s.tags] if as_numbers else s.tags for s in expected]
    columns = {"tokens": [s.words for s in expected], "ner_tags": tags, "document_id": [s.document for s in expected]}
    path = tmp_path_factory.getbasetemp() / "property.parquet"
    assert read(put(path, columns, features={"ner_tags": FEATURES["datasets 4"]}, rows=size)) == expected


@given(st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_damaged_byte_never_ends_in_another_error(tmp_path_factory, place, change):
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    data = bytearray(put(path, {"tokens": WORDS, "ner_tags": IDS}, features={"ner_tags": FEATURES["datasets 4"]}).read_bytes())
    data[place % len(data)] ^= change
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        assert all(len(s.words) == len(s.tags) for s in read(path))
