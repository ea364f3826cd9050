from __future__ import annotations

import json

import pytest
from tensorboard.plugin_util import markdown_to_safe_html

from ner.dashboard import Dashboard, predictions_as_markdown, validation_scalars
from ner.errors import InputError
from ner.scoring import score


def test_sample_predictions_read_as_text_whatever_the_words_are():
    words = [["<img", "src=http://x>", "&lt;b&gt;", "*a*", "_b_", "|", "`c`", "[d](http://e)", "U.S.", "\n# h"]]
    gold = [["O"] * 8 + ["B-geo", "I-geo"]]
    page = markdown_to_safe_html(predictions_as_markdown(words, gold, [["O"] * 10]))
    assert "<img" not in page and "<a " not in page and "<em>" not in page and "<h1" not in page
    assert page.count("<td>") == 2
    assert "<strong>U.S. " in page and "<code>geo</code>" in page
    assert "<b>" not in page and "<h1" not in page


def test_metrics_past_the_checkpoint_and_a_line_cut_short_are_dropped(tmp_path):
    first = Dashboard(tmp_path)
    for step in (2, 4, 6):
        first.scalars(step, 1, {"train/loss": 1.0 / step})
    first.flush()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "epo')
    Dashboard(tmp_path, step=4)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [2, 4]


def test_damage_in_the_middle_of_metrics_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match="metrics.jsonl:2: damaged"):
        Dashboard(tmp_path, step=3)


def test_a_worker_that_is_not_chief_writes_nothing(tmp_path):
    other = Dashboard(tmp_path, chief=False)
    other.scalars(1, 1, {"train/loss": 1.0})
    other.text("a", "b", 1)
    other.flush()
    assert list(tmp_path.iterdir()) == []


def test_the_scalars_of_an_epoch_are_named_by_the_contract():
    values = validation_scalars(score([["B-geo", "O"], ["B-per", "I-per"]], [["B-geo", "O"], ["B-per", "O"]]))
    assert values["validation/f1"] == 0.5 and values["validation/f1/geo"] == 1.0 and values["validation/recall/per"] == 0.0
    assert {"validation/f1_strict", "validation/precision", "validation/recall", "validation/macro_f1"} <= set(values)
