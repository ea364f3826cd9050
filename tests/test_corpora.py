"""Seven public corpora as they are: what check.py counts in them is what their authors say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import check
from ner import dataset
from ner.config import Config
from ner.sentences import SPLITS

FOLDER = os.environ.get("NER_CORPORA")

# Training sentences, entities and types; documents of all splits.
KNOWN = {
    "wikigold": (1202, 2454, 4, "145"),
    "sec-filings": (888, 849, 4, "8"),
    "ncbi-disease": (5424, 5134, 1, "not known"),
    "bc5cdr": (4560, 9385, 2, "not known"),
    "crossner-politics": (200, 1304, 9, "not known"),
    "crossner-science": (200, 1075, 17, "not known"),
    "crossner-ai": (100, 532, 14, "not known"),
}


@pytest.mark.skipif(not FOLDER, reason="NER_CORPORA does not name the folder of the corpora")
@pytest.mark.parametrize("name", KNOWN)
def test_a_public_corpus_is_read_and_counted(name):
    sentences, entities, types, documents = KNOWN[name]
    files = {split: str(Path(str(FOLDER), f"{name}.{split}.conll")) for split in SPLITS}
    said: list[str] = []
    splits = dataset.load(dataset.resolve(Config(**files)), said.append)
    dataset.check_trainable(splits, Config(**files), said.append)
    assert not any("warning" in line or "converted" in line for line in said)  # all are in IOB2, and no type is only in the other splits
    sizes, shown, *_ = check.corpus_lines(splits)
    assert f"({sentences:,} train, " in sizes and shown.startswith(f"documents: {documents}")
    table = list(check.corpus_lines({"train": splits["train"]}))[3:]
    assert table[0] == f"entities: {entities:,}" and len(table) == 2 + types
    assert not any("types that training lacks" in line for line in check.split_lines(splits))
