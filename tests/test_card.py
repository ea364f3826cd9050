"""The model card: the header that the hub reads, and text that stays text whatever the corpus is called."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard
from markdown import markdown

from ner.card import model_card
from ner.config import Config
from ner.pretrained import HEADS
from ner.scoring import score

GOLD, PREDICTED = [["B-geo", "O"], ["B-per", "I-per"]], [["B-geo", "O"], ["B-per", "O"]]


def card(gold=GOLD, predicted=PREDICTED, **settings) -> str:
    config = Config(**{"data": "/home/someone/corpus.csv", "output": "/home/someone/runs/first", **settings})
    return model_card(config, score(gold, predicted), splits={"train": 8, "validation": 2}, device="the CPU", seconds=90.0)


def test_the_header_carries_the_scores_as_the_hub_shows_them():
    data = ModelCard(card(encoder="someone/encoder")).data
    assert (data.library_name, data.pipeline_tag, data.base_model) == ("transformers", "token-classification", "someone/encoder")
    assert data.metrics == ["seqeval"] and data.model_name == "first"
    scores = score(GOLD, PREDICTED)
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        name: getattr(scores, name) for name in ("precision", "recall", "f1", "f1_strict", "macro_f1")
    }
    assert {(result.task_type, result.dataset_name, result.dataset_split) for result in data.eval_results} == {
        ("token-classification", "corpus.csv", "validation")
    }
    assert {result.metric_name for result in data.eval_results} >= {"f1 (seqeval default mode)", "f1 strict (strict IOB2)"}


@pytest.mark.parametrize("name", ["a: b", "- x", "'\"", "x\n---\nlicense: mit", "{{ x }}", "#", "{name}", "yes", "1", "\u2028é"])
def test_the_header_holds_any_name_as_a_name(name):
    data = ModelCard(card(encoder=name, data=f"/home/{name}.csv", output=f"/runs/{name}")).data
    assert data.base_model == name and data.model_name == name and data.eval_results[0].dataset_name == f"{name}.csv"
    assert data.license is None


def test_a_type_breaks_no_table_and_opens_no_tag():
    tags = [["B-a|b", "B-<script>", "B-`"]]
    page = markdown(card(tags, tags).split("## Scores")[1].split("\nstrict F1")[0], extensions=["tables"])
    assert page.count("<td") == 5 * 4 and "<script" not in page


def test_the_card_names_no_folders_of_the_machine():
    assert "/home" not in card() and "corpus.csv" in card() and "# first" in card()


def test_the_card_says_where_the_transitions_are():
    notes = {head: [name for name in ("transitions.safetensors", "crf.safetensors") if name in card(head=head)] for head in HEADS}
    assert notes == {"linear": [], "counted": ["transitions.safetensors"], "crf": ["crf.safetensors"]}
