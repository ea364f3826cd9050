"""spans.py: texts with the character spans of their entities, through the files that hold them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats import TWO, TWO_JSONL, TWO_SPANS, characters, put, refusal

from ner.formats import read
from ner.sentences import Sentence

GOOD = {
    "doccano label": ("a.jsonl", TWO_SPANS, TWO),
    "doccano labels": ("a.jsonl", TWO_SPANS.replace(b"label", b"labels"), TWO),
    "doccano entities": (
        "a.jsonl",
        b'{"id": 7, "text": "Mali", "entities": [{"id": 1, "label": "geo", "start_offset": 0, "end_offset": 4}]}',
        TWO[1:],
    ),
    "prodigy": (
        "a.jsonl",
        b'{"text": "Kofi Annan left", "spans": [{"start": 0, "end": 10, "label": "per"}], "answer": "accept"}\n'
        b'{"text": "Kofi", "spans": [], "answer": "reject"}\n'
        b'{"text": "Mali", "spans": [{"start": 0, "end": 4, "label": "geo"}], "answer": "accept"}\n',
        TWO,
    ),
    "prodigy tokens": (
        "a.jsonl",
        b'{"text": "U.S.-led \\n", "spans": [{"start": 0, "end": 4, "label": "geo"}], "tokens": ['
        b'{"start": 0, "end": 4},'
        b' {"start": 4, "end": 5}, {"start": 5, "end": 8}, {"start": 9, "end": 10}]}',
        [Sentence(["U.S.", "-", "led"], ["B-geo", "O", "O"])],
    ),
    "prodigy leaves an empty list out": (
        "a.jsonl",
        b'{"text": "left", "answer": "accept"}',
        [Sentence(["left"], ["O"])],
    ),
    "a span cuts a word, and spaces at its ends": (
        "a.jsonl",
        b'{"text": "in Mali-led talks", "label": [[2, 7, "geo"], [12, 17, "eve"]]}',
        [Sentence(["in", "Mali", "-led", "talks"], ["O", "B-geo", "O", "B-eve"])],
    ),
    "offsets count characters": (
        "a.jsonl",
        '{"text": "😀 é Mali", "label": [[4, 8, "geo"]]}'.encode(),
        [Sentence(["😀", "é", "Mali"], ["O", "O", "B-geo"])],
    ),
}


@pytest.mark.parametrize("name, data, sentences", GOOD.values(), ids=GOOD)
def test_good_files(tmp_path, name, data, sentences):
    found = read(put(tmp_path, name, data))
    assert [s[:2] for s in found] == [s[:2] for s in sentences]
    assert len({s.document for s in found}) == len(found) and all(s.document for s in found)


def test_a_text_is_a_document_of_its_own_unless_the_record_says_otherwise(tmp_path):
    keys = ["", '"document_id": "d", ', "", '"doc_id": 7, ', '"doc_id": null, ']
    lines = [f'{{{key}"text": "Mali", "label": []}}\n' for key in keys]
    own, d, again, seven, unknown = [s.document for s in read(put(tmp_path, "a.jsonl", "".join(lines).encode()))]
    assert (d, seven, unknown) == ("d", "7", "")
    assert own == again and own  # copies of a text stay together in a split


REFUSED = {  # what: (file name, its bytes, options, line, a part of the message)
    "all rejected": ("a.jsonl", b'{"text": "a", "spans": [], "answer": "reject"}', {}, None, "no sentence"),
    "json: spans are not tokens": ("a.jsonl", TWO_SPANS, {"format": "jsonl"}, 1, '"tokens"'),
    "spans: the second is tokens": ("a.jsonl", TWO_SPANS + TWO_JSONL, {}, 3, '"text"'),
    "spans: none": ("a.jsonl", TWO_SPANS + b'{"text": "a"}\n', {}, 3, "no list"),
    "spans: no text": ("a.jsonl", b'{"text": " ", "label": []}\n', {}, 1, "without words"),
    "spans: text is null": ("a.jsonl", b'{"text": null, "label": []}\n', {}, 1, '"text"'),
    "spans: a class": ("a.jsonl", b'{"text": "a", "label": ["sport"]}\n', {}, 1, "[start, end, type]"),
    "spans: beyond the text": ("a.jsonl", b'{"text": "a", "label": [[0, 2, "x"]]}\n', {}, 1, "0-2"),
    "spans: backwards": ("a.jsonl", b'{"text": "ab", "label": [[1, 0, "x"]]}\n', {}, 1, "1-0"),
    "spans: negative": ("a.jsonl", b'{"text": "ab", "label": [[-1, 1, "x"]]}\n', {}, 1, "-1-1"),
    "spans: a space": ("a.jsonl", b'{"text": "a b", "label": [[1, 2, "x"]]}\n', {}, 1, "1-2"),
    "spans: not a number": ("a.jsonl", b'{"text": "ab", "label": [["0", true, "x"]]}\n', {}, 1, "'0'-True"),
    "spans: overlap": ("a.jsonl", b'{"text": "a b c", "label": [[2, 5, "x"], [0, 3, "y"]]}\n', {}, 1, "overlap"),
    "spans: no type": ("a.jsonl", b'{"text": "a", "label": [[0, 1, ""]]}\n', {}, 1, "'B-'"),
    "spans: tokens out of order": (
        "a.jsonl",
        b'{"text": "ab", "spans": [], "tokens": [{"start": 1, "end": 2}, {"start": 0, "end": 1}]}\n',
        {},
        1,
        "0-1",
    ),
    "spans: tokens are strings": ("a.jsonl", b'{"text": "ab", "spans": [], "tokens": ["ab"]}\n', {}, 1, "tokens"),
    "spans: no token": (
        "a.jsonl",
        b'{"text": "ab", "spans": [{"start": 1, "end": 2, "label": "x"}], "tokens": [{"start": 0, "end": 1}]}\n',
        {},
        1,
        "covers no word",
    ),
}


@pytest.mark.parametrize("name, data, options, line, part", REFUSED.values(), ids=REFUSED)
def test_refused_files(tmp_path, name, data, options, line, part):
    path = put(tmp_path, name, data)
    assert part in refusal(read, path, path=path, line=line, **options)


def test_spans_keep_their_extent(tmp_path):
    """Every span's words, glued, are the span's text without white space, and nothing else is tagged."""
    path = tmp_path / "a.jsonl"

    @settings(deadline=None, max_examples=150)
    @given(st.text(characters | st.sampled_from("aB.'-, 東")), st.sets(st.integers(0, 20), max_size=6))
    def check(text, edges):
        cuts = sorted(edge for edge in edges if edge <= len(text))
        spans = [[a, b, "x"] for a, b in zip(cuts[::2], cuts[1::2], strict=False) if text[a:b].strip()]
        path.write_text(json.dumps({"text": text, "label": spans}))
        if not text.strip():
            refusal(read, path, path=path, line=1)
            return
        [sentence] = read(path)
        assert "".join(sentence.words) == "".join(text.split())
        entities: list[str] = []
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            if tag == "B-x":
                entities.append(word)
            elif tag == "I-x":
                entities[-1] += word
        assert entities == ["".join(text[a:b].split()) for a, b, _ in spans]

    check()
