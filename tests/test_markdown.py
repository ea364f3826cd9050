from __future__ import annotations

import pytest
from tensorboard.plugin_util import markdown_to_safe_html

from ner import markdown
from ner.scoring import Evaluation


def test_sample_predictions_read_as_text_whatever_the_words_are():
    words = [["<img", "src=http://x>", "&lt;b&gt;", "*a*", "_b_", "|", "`c`", "[d](http://e)", "U.S.", "\n# h"]]
    gold = [["O"] * 8 + ["B-geo", "I-geo"]]
    page = markdown_to_safe_html(markdown.sample(Evaluation(words, gold, [["O"] * 10])))
    assert "<img" not in page and "<a " not in page and "<em>" not in page and "<h1" not in page
    assert page.count("<td>") == 3
    assert "<strong>U.S. " in page and "<code>geo</code>" in page
    assert "<b>" not in page and "<h1" not in page


def test_the_worst_sentences_come_first_and_right_ones_not_at_all():
    words = [["alex"], ["london"], ["rome", "alex"], ["paris"]]
    gold = [["B-per"], ["B-geo"], ["B-geo", "B-per"], ["O"]]
    predicted = [["B-per"], ["O"], ["B-per", "O"], ["B-geo"]]
    evaluation = Evaluation(words, gold, predicted)
    rows = markdown.worst(evaluation).split("\n")[2:]
    assert rows == [
        "| 1 missed, 1 wrong type | **rome** `geo` **alex** `per` | **rome** `per` alex |",
        "| 1 missed | **london** `geo` | london |",
        "| 1 spurious | paris | **paris** `geo` |",
    ]
    assert len(markdown.worst(evaluation, count=1).split("\n")) == 3


@pytest.mark.parametrize(
    "kind, shown", [("a|b", "a|b"), ("`", "'"), ("a`|b", "a'|b"), ("\\", "\\"), ("a\n", "a\ufffd"), ("<b>", "&lt;b&gt;")]
)
def test_a_type_breaks_no_table_whatever_its_name(kind, shown):
    tags = [["O", f"B-{kind}"]]
    page = markdown_to_safe_html(markdown.sample(Evaluation([["a", "b"]], tags, tags)))
    assert page.count("<td>") == 3 and page.count(f"<td>a <strong>b</strong> <code>{shown}</code></td>") == 2
