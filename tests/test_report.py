from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner.errors import InputError
from ner.report import write_html, write_json, write_predictions
from ner.scoring import Evaluation, score

HOSTILE = [
    "<script>alert(1)</script>",
    "</script>",
    "<!--<script>",
    "\"'&amp;`${x}",
    "<img src=x onerror=alert(2)>",
    "{{policy}}",
    "\u2028",
    "\u202eevil",
    "שלום",
    "\x00nul\x1b\x7f",
    "\x96",
    "no\xa0break",
    "",
    "\ud800",
    "👩‍🔬",
    "__proto__",
]


# Predictions


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("London", "London"),
        ("New York", "New_York"),
        ("a\xa0b", "a_b"),
        ("a\tb\r\nc", "a_b__c"),
        ("\x85", "_"),
        ("\u3000\u2028\x1c", "___"),
        ("", "_"),
        ("na\u200bïve–", "na\u200bïve–"),
    ],
)
def test_predictions_write_white_space_as_underscores(tmp_path, word, written):
    write_predictions(tmp_path / "p.txt", [[word]], [["B-geo"]], [["O"]])
    assert (tmp_path / "p.txt").read_bytes().decode() == f"{written} B-geo O\n\n"


def test_predictions_keep_corpus_order_with_a_blank_line_between_sentences(tmp_path):
    path = tmp_path / "p.txt"
    write_predictions(path, [["In", "Rome"], [], ["Yes"]], [["O", "B-geo"], [], ["O"]], [["O", "B-org"], [], ["B-per"]])
    assert path.read_text().split("\n") == ["In O O", "Rome B-geo B-org", "", "", "Yes O B-per", "", ""]


def test_predictions_of_another_length_are_refused(tmp_path):
    with pytest.raises(ValueError, match="shorter|longer"):
        write_predictions(tmp_path / "p.txt", [["a", "b"]], [["O", "O"]], [["O"]])
    with pytest.raises(ValueError, match="shorter|longer"):
        write_predictions(tmp_path / "p.txt", [["a"], ["b"]], [["O"], ["O"]], [["O"]])
    assert not any(tmp_path.iterdir())


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=4), min_size=1, max_size=4))
def test_predictions_read_back_with_three_columns(tmp_path_factory, words):
    path = tmp_path_factory.mktemp("predictions") / "p.txt"
    tags = [["O"] * len(sentence) for sentence in words]
    write_predictions(path, words, tags, tags)
    lines = path.read_bytes().decode().splitlines()
    assert [len(line.split()) for line in lines] == [n for sentence in words for n in [*[3] * len(sentence), 0]]


# JSON and files


def test_json_keeps_every_digit_and_key_order(tmp_path):
    mapping = {"f1": 0.1 + 0.2, "a": 1 / 3, "per_type": {"größe": {"support": 3}}}
    write_json(tmp_path / "s.json", mapping)
    text = (tmp_path / "s.json").read_text("utf-8")
    assert json.loads(text) == mapping and [*json.loads(text)] == [*mapping]
    assert "0.30000000000000004" in text and "größe" in text and text.endswith("}\n")


def test_json_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "s.json", {"f1": float("nan")})
    assert not any(tmp_path.iterdir())


def test_a_report_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "reports" / "new" / "s.json"
    write_json(path, {"a": "long" * 100})
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with path.open() as reader:
        write_json(link, {"a": 1})
        assert json.load(reader) == {"a": "long" * 100}
    assert link.is_symlink() and json.loads(path.read_text()) == {"a": 1}
    assert [*path.parent.iterdir()] == [path]
    write_json("/dev/null", {"a": 1})
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("name", ["file/s.json", "folder", "folder/" + "n" * 300])
def test_a_file_that_cannot_be_written_is_an_input_error(tmp_path, name):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"folder|file") as caught:
        write_json(tmp_path / name, {})
    assert str(caught.value).startswith(f"{tmp_path}/{name}: cannot be written: ") or len(name) > 200
    assert "name a file in a folder you may write to" in str(caught.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_folder_without_permission_is_an_input_error(tmp_path):
    (tmp_path / "old.json").write_text("kept")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written: Permission denied; name a file"):
            write_json(tmp_path / "old.json", {})
        assert (tmp_path / "old.json").read_text() == "kept"
    finally:
        tmp_path.chmod(0o700)


def test_half_a_character_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"p\.txt: cannot hold the character U\+D800, half of a surrogate pair; take"):
        write_predictions(tmp_path / "p.txt", [["\ud800"]], [["O"]], [["O"]])
    assert not any(tmp_path.iterdir())


# The page


def report(path: Path, words, gold, predicted, confidence=None, **more) -> Path:
    write_html(path, Evaluation(words, gold, predicted, confidence), **{"title": "t", **more})
    return path


def parts(path: Path) -> tuple[str, dict]:
    """The page without its data, and its data."""
    page = path.read_text("utf-8")
    before, data, after = re.fullmatch(r'(.*<script [^>]*id="data">)(.*?)(</script>.*)', page, re.DOTALL).groups()
    return before + after, json.loads(data)


WORDS = [["In", "London", "and", "New", "York"], ["Rome", "fell", "."], ["No", "names"], ["Ann", "saw", "London"]]
GOLD = [["O", "B-geo", "O", "B-geo", "I-geo"], ["B-geo", "O", "O"], ["O", "O"], ["B-per", "O", "B-geo"]]
PREDICTED = [["O", "B-geo", "O", "O", "B-geo"], ["B-org", "O", "O"], ["B-per", "O"], ["B-per", "O", "O"]]
CONFIDENCE = [[1, 0.9, 1, 0.5, 0.6], [0.99, 1, 1], [0.7, 1], [0.8, 1, 0.3]]


def test_page_carries_scores_errors_and_sentences(tmp_path):
    shell, data = parts(report(tmp_path / "r.html", WORDS, GOLD, PREDICTED, title="A & <B>", details={"seed": "42"}))
    assert "<title>A &amp; &lt;B&gt;</title>" in shell
    assert (data["title"], data["details"], data["hasConfidence"]) == ("A & <B>", {"seed": "42"}, False)
    assert data["scores"] == score(GOLD, PREDICTED).as_dict()
    assert data["errors"]["correct"] == 2 and data["errors"]["wrong boundary"] == 1
    assert data["confusion"]["labels"] == ["geo", "org", "per", "O"]
    assert [words for words, _ in data["sentences"]] == WORDS
    assert data["sentences"][0][1] == [[0, ["geo", 1, 2]], [4, ["geo", 3, 5], ["geo", 4, 5]]]
    assert data["sentences"][2][1] == [[2, None, ["per", 0, 1]]]


def test_page_tells_how_sure_a_pairing_was(tmp_path):
    _, data = parts(report(tmp_path / "r.html", WORDS, GOLD, PREDICTED, confidence=CONFIDENCE))
    pairings = [pairing for _, pairings in data["sentences"] for pairing in pairings]
    assert [pairing[3] for pairing in pairings] == [0.9, 0.6, 0.99, 0.7, 0.8, 0.3]


def test_page_forbids_everything_but_its_own_style_and_script(tmp_path):
    shell, _ = parts(report(tmp_path / "r.html", WORDS, GOLD, PREDICTED))
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', shell)
    [style], [script] = (re.findall(rf"<{name}>(.*?)</{name}>", shell, re.DOTALL) for name in ("style", "script"))
    style_hash, script_hash = (base64.b64encode(hashlib.sha256(x.encode()).digest()).decode() for x in (style, script))
    assert policy == [
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
    ]
    assert not re.search(r"https?:|//\w+\.\w|\bsrc=|\bhref=|url\(|@import|innerHTML|outerHTML|document\.write|eval\(", shell)


def test_page_holds_hostile_words_as_data(tmp_path):
    plain = report(tmp_path / "plain.html", [["a"] * len(HOSTILE)], [["O"] * len(HOSTILE)], [["O"] * len(HOSTILE)])
    nasty = report(tmp_path / "nasty.html", [HOSTILE], [["O"] * len(HOSTILE)], [["O"] * len(HOSTILE)])
    (shell, _), (same_shell, data) = parts(plain), parts(nasty)
    assert shell == same_shell
    assert data["sentences"][0][0] == HOSTILE
    assert nasty.read_bytes()[-8:] == b"</html>\n"
    raw = nasty.read_text("utf-8").split('id="data">')[1].split("</script>")[0]
    assert raw.isascii() and "<" not in raw


NUMBERS = "[...document.querySelectorAll('#sentences .number')].map(node => Number(node.textContent))"


@pytest.mark.parametrize(
    ("fragment", "numbers"),
    [
        ("", [1, 2, 3, 4]),
        ("#type=geo", [1, 2, 4]),
        ("#type=org", [2]),
        ("#error=any", [1, 2, 3, 4]),
        ("#error=missed", [4]),
        ("#error=correct", [1, 4]),
        ("#error=correct&type=per", [4]),
        ("#error=wrong+boundary", [1]),
        ("#error=wrong%20type&type=geo&q=ROME", [2]),
        ("#q=london", [1, 4]),
        ("#q=new york", [1]),
        ("#type=geo&error=missed&q=london", [4]),
        ("#gold=geo&predicted=org", [2]),
        ("#gold=O&predicted=per", [3]),
        ("#sort=sure", [2, 3, 1, 4]),
        ("#sort=unsure", [4, 1, 3, 2]),
        ("#q=nothing&type=%3Cb%3E", []),
        ("#page=99", [1, 2, 3, 4]),
        ("#page=x&q=%", []),
    ],
)
def test_the_address_filters_the_page(browser, tmp_path, fragment, numbers):
    path = report(tmp_path / "r.html", WORDS, GOLD, PREDICTED, confidence=CONFIDENCE)
    browser.open(path.as_uri() + fragment)
    assert browser.run(NUMBERS) == numbers
    assert browser.complaints() == []


def test_the_page_shows_two_lines_only_where_they_differ(browser, tmp_path):
    gold = [["O", "B-geo", "O", "B-geo", "I-geo"], *GOLD[1:]]
    path = report(tmp_path / "r.html", WORDS, gold, [gold[0], *PREDICTED[1:]])
    browser.open(path.as_uri())
    lines = browser.run("[...document.querySelectorAll('#sentences li')].map(li => li.querySelectorAll('.text').length)")
    assert lines == [1, 2, 2, 2]
    marks = "[...document.querySelectorAll('mark')].map(m => [m.textContent, m.dataset.type, m.className])"
    assert browser.run(marks) == [
        ["London", "geo", ""],
        ["New York", "geo", ""],
        ["Rome", "geo", "wrong"],
        ["Rome", "org", "wrong"],
        ["No", "per", "wrong"],
        ["Ann", "per", ""],
        ["London", "geo", "wrong missed"],
        ["Ann", "per", ""],
    ]
    faults = browser.run("[...document.querySelectorAll('.fault')].map(node => node.textContent)")
    assert faults == ["wrong type: geo → org", "spurious: per", "missed: geo"]


def test_controls_filter_and_keep_their_state_in_the_address(browser, tmp_path):
    browser.open(report(tmp_path / "r.html", WORDS, GOLD, PREDICTED).as_uri())
    browser.run("selects.type.value = 'geo'; selects.type.dispatchEvent(new Event('change'))")
    browser.run("search.focus(); search.value = 'London'; search.dispatchEvent(new Event('input'))")
    browser.run("new Promise(done => setTimeout(done, 400))")
    assert browser.run(f"[location.hash, {NUMBERS}]") == ["#q=London&type=geo", [1, 4]]
    assert browser.run("[...document.querySelectorAll('.hit')].map(node => node.textContent)") == ["London"] * 4
    browser.run("clear.click()")
    assert browser.run(f"[location.hash, {NUMBERS}, clear.hidden]") == ["", [1, 2, 3, 4], True]
    browser.run("[...document.querySelectorAll('.matrix button')].find(b => b.title === 'gold geo, predicted org').click()")
    assert browser.run(f"[{NUMBERS}, cell.textContent]") == [[2], "gold geo, predicted org ×"]
    browser.run("new Promise(done => { addEventListener('hashchange', done); history.back(); })")
    assert browser.run(NUMBERS) == [1, 2, 3, 4]
    assert browser.complaints() == []


def test_the_page_names_the_modes_and_shows_the_numbers(browser, tmp_path):
    browser.open(report(tmp_path / "r.html", WORDS, GOLD, PREDICTED, details={"seed": "42 <b>"}).as_uri())
    text = browser.run("document.body.innerText")
    scores = score(GOLD, PREDICTED)
    for part in (
        "F1 (seqeval default mode)",
        "F1 strict IOB2",
        f"{scores.f1:.4f}",
        f"{scores.f1_strict:.4f}",
        "42 <b>",
    ):
        assert part in text


def test_hostile_words_are_shown_and_never_run(browser, tmp_path):
    words, tags = [[word, "London"] for word in HOSTILE], [["B-geo", "O"]] * len(HOSTILE)
    odd = [["B-<i>__proto__\"'", "O"]] * len(HOSTILE)
    path = report(tmp_path / "r.html", words, tags, odd, title="</script><script>alert(3)</script>", details={"</dd>": HOSTILE[0]})
    browser.open(path.as_uri())
    assert browser.run("document.querySelectorAll('script, img, i, b:not(.tile b), iframe').length") == 2  # its own scripts
    assert browser.run("document.querySelector('h1').textContent") == "</script><script>alert(3)</script>"
    shown = browser.run("[...document.querySelectorAll('.text:not(.line + .line .text)')].map(n => n.textContent)")
    as_code = {
        "\u2028": r"\u2028",
        "\x00nul\x1b\x7f": r"\u0000nul\u001b\u007f",
        "\x96": r"\u0096",
        "": "(empty)",
        "\ud800": r"\ud800",
    }
    assert shown == [f"{as_code.get(word, word)} London" for word in HOSTILE]
    browser.run("filter({ q: '<script>ALERT(1)' })")
    assert browser.run(NUMBERS) == [1]
    browser.run("filter({ q: '', type: data.confusion.labels[0] })")
    assert browser.run(f"{NUMBERS}.length") == len(HOSTILE)
    assert browser.complaints() == []
    assert not browser.named("Page.javascriptDialogOpening")
    assert [event["request"]["url"] for event in browser.named("Network.requestWillBeSent")] == [path.as_uri()]


def test_a_right_to_left_sentence_reads_from_the_right(browser, tmp_path):
    path = report(
        tmp_path / "r.html",
        [["שלום", "London"], ["Hello", "שלום"]],
        [["O", "B-geo"], ["O", "O"]],
        [["O", "B-geo"], ["O", "O"]],
    )
    browser.open(path.as_uri())
    directions = browser.run("[...document.querySelectorAll('.text')].map(node => getComputedStyle(node).direction)")
    assert directions == ["rtl", "ltr"]


def test_fifty_thousand_sentences_page_and_filter(browser, tmp_path):
    path = report(tmp_path / "r.html", WORDS, GOLD, PREDICTED)
    shell, data = parts(path)
    four = data["sentences"]
    more = [[[*four[i % 4][0], *["word"] * 18, f"number{i}"], four[i % 4][1]] for i in range(50_000)]
    path.write_text(shell.replace(' id="data">', ' id="data">' + json.dumps({**data, "sentences": more})))
    browser.open(path.as_uri())
    assert browser.run("summary.textContent") == "1–100 of 50,000 sentences"
    browser.run("filter({ type: 'per', error: 'missed', q: '' })")
    browser.run("filter({ q: 'number49', type: '', error: '' })")
    assert browser.run("summary.textContent") == "1–100 of 1,111 sentences (50,000 in all)"
    browser.run("[...document.querySelectorAll('.pager button')].at(-1).click()")
    assert browser.run(f"[location.hash, {NUMBERS}.length]") == ["#q=number49&page=2", 100]
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_fits_a_phone(browser, tmp_path):
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    try:
        words = [[*sentence, "x" * 400] for sentence in WORDS]
        gold, predicted = ([[*sentence, "O"] for sentence in tags] for tags in (GOLD, PREDICTED))
        browser.open(report(tmp_path / "r.html", words, gold, predicted, title="t" * 200).as_uri())
        assert browser.run("document.documentElement.scrollWidth") == 390
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")
