"""What is refused or warned of before training, on sentences of a few words."""

from __future__ import annotations

import re

import pytest

from ner import dataset, pretrained
from ner.config import Config
from ner.corpus import Sentences
from ner.errors import InputError
from ner.sentences import Sentence
from ner.wordpieces import WordPieces


def sentences(*tags: str) -> Sentences:
    return Sentences.of(Sentence([f"w{i}" for i in range(len(some.split()))], some.split()) for some in tags)


SPLITS = {"train": sentences("B-a O", "O O"), "validation": sentences("B-a I-a", "B-b O"), "test": sentences("B-c I-c")}


def test_few_sentences_are_warned_of():
    what = "only 2 training sentences with 1 entities, and 2 entities in validation"
    assert what in dataset.scarcity(SPLITS) and "docs/recipes.md" in dataset.scarcity(SPLITS)
    assert dataset.scarcity({**SPLITS, "train": sentences(*["B-a O"] * 100)}) == ""


def test_a_split_that_is_training_again_is_warned_of():
    train, other = (Sentences(SPLITS["train"].arrays, SPLITS["train"].names, key) for key in ("x", "y"))
    assert dataset.sameness({"train": train, "validation": other, "test": train}).startswith("warning: test: the sentences of training")
    assert dataset.sameness({"train": train, "validation": other}) == dataset.sameness(SPLITS) == ""


def test_text_of_another_kind_than_the_encoders_is_warned_of(tiny):
    pieces = WordPieces.load(pretrained.read(tiny))
    assert dataset.misfit(pieces.encode([["alex", "in"], ["in", "in"]]), pieces.unk) == ""
    many = dataset.misfit(pieces.encode([["xylophones", "in"]]), pieces.unk)
    assert "word pieces a word" in many and "--encoder" in many
    assert "cannot read 50.0% of the words" in dataset.misfit(pieces.encode([["虎", "in"]]), pieces.unk)


def test_a_type_that_training_lacks_is_warned_of_once_and_an_inside_tag_is_known():
    said: list[str] = []
    dataset.check_trainable(SPLITS, Config(), said.append)
    assert said == [
        "warning: tags that training lacks: validation has B-b; test has B-c, I-c; their entities count as missed",
    ]


def test_a_validation_without_an_entity_is_warned_of():
    said: list[str] = []
    plain = sentences("O O")
    dataset.check_trainable({**SPLITS, "validation": plain, "test": plain}, Config(), said.append)
    assert [line[:34] for line in said] == ["warning: validation has no entity,"]


def test_a_type_that_training_lacks_is_refused_when_asked():
    what = "tags that training lacks: validation has B-b; test has B-c, I-c; add training sentences with them"
    with pytest.raises(InputError, match=re.escape(what)):
        dataset.check_trainable(SPLITS, Config(unseen_tags="refuse"), print)
