"""What is refused or warned of before training, on sentences of a few words."""

from __future__ import annotations

import re

import pytest

from ner import dataset
from ner.config import Config
from ner.errors import InputError
from ner.sentences import Sentence


def sentences(*tags: str) -> list[Sentence]:
    return [Sentence([f"w{i}" for i in range(len(some.split()))], some.split()) for some in tags]


SPLITS = {"train": sentences("B-a O", "O O"), "validation": sentences("B-a I-a", "B-b O"), "test": sentences("B-c I-c")}


def test_a_type_that_training_lacks_is_warned_of_once_and_an_inside_tag_is_known():
    said: list[str] = []
    dataset.check_trainable(SPLITS, Config(), said.append)
    assert said == [
        "warning: tags that training lacks: validation has B-b; test has B-c, I-c; their entities count as missed",
    ]


def test_a_type_that_training_lacks_is_refused_when_asked():
    what = "tags that training lacks: validation has B-b; test has B-c, I-c; add training sentences with them"
    with pytest.raises(InputError, match=re.escape(what)):
        dataset.check_trainable(SPLITS, Config(unseen_tags="refuse"), print)
