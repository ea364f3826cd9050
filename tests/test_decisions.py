"""check.py --apply: decisions become tags, and those that do not fit are refused in a line."""

from __future__ import annotations

import json

import pytest

from ner import decisions
from ner.errors import InputError
from ner.sentences import Sentence

CORPUS = [Sentence(["New", "York", "City", "is", "big"], ["B-geo", "I-geo", "B-org", "O", "O"]), Sentence(["Mali"], ["O"])]


def entity(type_, first, end):
    return {"type": type_, "start_word": first, "end_word": end}


def line(sentence, gold, predicted, decision="model", **more):
    return {"sentence": sentence, "gold": gold, "predicted": predicted, "decision": decision, **more}


def apply(tmp_path, *lines):
    path = tmp_path / "decisions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return decisions.applied(CORPUS, decisions.read(path), path)


CITY = line(0, entity("geo", 0, 2), entity("geo", 0, 3), text="New York")


def test_the_model_s_reading_takes_the_place_of_what_it_overlaps(tmp_path):
    mali = line(1, None, entity("geo", 0, 1), text="Mali")
    gone = line(0, entity("org", 2, 3), None)
    changed = {0: ["B-geo", "I-geo", "I-geo", "O", "O"], 1: ["B-geo"]}
    said = ["sentence 0: 'New York' geo, 'City' org -> 'New York City' geo", "sentence 1: no entity -> 'Mali' geo"]
    assert apply(tmp_path, CITY, mali, gone, CITY) == (changed, said)
    assert apply(tmp_path, gone)[0] == {0: ["B-geo", "I-geo", "O", "O", "O"]}
    assert apply(tmp_path, CITY | {"decision": "gold"}, mali | {"decision": None}, gone | {"decision": "unsure"}) == ({}, [])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([CITY, line(0, entity("org", 2, 3), None, "gold")], r"decisions.jsonl:1: sentence 0: 'New York City' geo contradicts"),
        ([CITY, line(0, None, entity("per", 2, 4))], r"decisions.jsonl:2: sentence 0: 'City is' per contradicts another"),
        ([CITY, CITY | {"predicted": None}], r"decisions.jsonl:2: sentence 0: 'New York' geo contradicts another"),
        ([CITY | {"predicted": None}, CITY], r"decisions.jsonl:2: sentence 0: 'New York City' geo contradicts another"),
        ([line(2, None, entity("geo", 0, 1))], "no sentence 2: the corpus has 2, from 0"),
        ([line(1, None, entity("geo", 0, 2))], '"predicted" is no entity of the sentence'),
        ([line(1, None, "geo")], '"predicted" is no entity of the sentence'),
        ([line(1, None, entity(None, 0, 1))], '"predicted" is no entity of the sentence'),
        ([line(1, None, entity(["geo"], 0, 1))], '"predicted" is no entity of the sentence'),
        ([line(1, entity("geo", 0, 1), None)], "sentence 1 has no such annotation: 'Mali' geo"),
        ([line(1, None, entity("geo", 0, 1), text="Togo")], "has no such annotation"),
        ([line(1, None, None)], "has no such annotation"),
        ([CITY | {"decision": "yes"}], "the decision 'yes'; give one of model, gold, unsure"),
        ([{"sentence": 0}], 'no JSON object with a "decision"'),
        ([CITY | {"decision": None}], "decides nothing"),
    ],
)
def test_a_decision_that_does_not_fit_is_refused_in_a_line(tmp_path, lines, said):
    with pytest.raises(InputError, match=said) as caught:
        apply(tmp_path, *lines)
    assert "\n" not in str(caught.value)
