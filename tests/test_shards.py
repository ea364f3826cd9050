"""shards.py: which files are of which split."""

from __future__ import annotations

import pytest

from ner.errors import InputError
from ner.shards import check_alike, check_whole, in_order, sort, split_of


@pytest.mark.parametrize(
    "name, split",
    [
        ("train-00000-of-00002.parquet", "train"),
        ("wikigold.dev.conll", "validation"),
        ("VALID.txt", "validation"),
        ("eng_test_2003", "test"),
        ("partial-train", "train"),
        ("latest.csv", None),
        ("constrain.conll", None),
        ("train_dev.conll", None),
        ("0000.parquet", None),
    ],
)
def test_a_name_tells_its_split(name, split):
    assert split_of(name) == split


def test_files_by_configuration_and_split():
    assert sort(
        [
            "data/train-00001-of-00002.parquet",
            "data/train-00000-of-00002.parquet",
            "data/dev.parquet",
            "english/test/0000.parquet",
            "english/train/0000.parquet",
            "data/german/train.parquet",
            "train/train.parquet",
            "README.md",
        ]
    ) == {
        "default": {
            "train": ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "train/train.parquet"],
            "validation": ["data/dev.parquet"],
        },
        "english": {"test": ["english/test/0000.parquet"], "train": ["english/train/0000.parquet"]},
        "german": {"train": ["data/german/train.parquet"]},
    }


def test_numbers_are_counted_not_spelled():
    assert in_order(["train-10", "train-9", "a/2", "train"]) == ["a/2", "train", "train-9", "train-10"]
    assert in_order(["train-1²2", "train-1"]) == ["train-1", "train-1²2"]  # a raised 2 is no number to Python's int


def test_files_of_two_corpora_are_refused():
    check_alike(["train-00000-of-00002-6f1a.parquet", "train-00001-of-00002-99bc.parquet"], "x")
    check_alike(["train/0000.parquet", "train/0001.parquet"], "x")
    for files in (["train.conll", "train.csv"], ["conll.train.txt", "wnut.train.txt"], ["train.conll", "train2.conll"]):
        with pytest.raises(InputError, match="not its shards"):
            check_alike(files, "x")


def test_a_shard_that_is_missing_or_there_twice_is_refused():
    check_whole(["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "train.parquet"], "x")
    for files in (["train-00001-of-00002.parquet"], ["t-00000-of-00001-a.parquet", "t-00000-of-00001-b.parquet"]):
        with pytest.raises(InputError, match="shards from 0 on"):
            check_whole(files, "x")
