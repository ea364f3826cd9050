"""conll.py: columns, documents, comments, and CoNLL-U's lines that are no words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats import put, refusal

from ner.errors import InputError
from ner.formats import read
from ner.sentences import Sentence

# As GermEval 2014 is distributed: an index first, two layers of tags, the source of each sentence in a comment.
GERMEVAL = """#\thttp://example.org/wiki/S-Bahn [2009-10-17]
1\tSchartau\tB-PER\tO
2\tsagte\tO\tO
3\tdem\tO\tO
4\tTagesspiegel\tB-ORG\tB-LOC

#\thttp://example.org/ [2010-01-02]
1\t#\tO\tO
"""
CONLLU_PLUS = """# global.columns = ID FORM NER
# newdoc id = first
# text = zum S-Bahn
1-2\tzum\t_
1\tzu\tO
2\tdem\tO
2.1\tnull\t_
3\tS-Bahn\tB-LOC

# newdoc id = second
# text = #
1\t#\tO

"""


def test_any_columns(tmp_path):
    path = put(tmp_path, "x.tsv", GERMEVAL.encode())
    outer, inner = read(path, word_column=2, tag_column=3), read(path, word_column=2)
    assert outer == [Sentence(["Schartau", "sagte", "dem", "Tagesspiegel"], ["B-PER", "O", "O", "B-ORG"]), Sentence(["#"], ["O"])]
    assert [s.tags for s in inner] == [["O", "O", "O", "B-LOC"], ["O"]]
    assert read(path, word_column=4, tag_column=3)[0].words == ["O", "O", "O", "B-LOC"]


def test_conllu_plus(tmp_path):
    assert read(put(tmp_path, "x.conllup", CONLLU_PLUS.encode()), word_column=2) == [
        Sentence(["zu", "dem", "S-Bahn"], ["O", "O", "B-LOC"], "first"),
        Sentence(["#"], ["O"], "second"),
    ]


def test_a_first_column_that_only_looks_like_conllu_is_none(tmp_path):
    rows = "1-2\ta\tO\n1-3\tb\tO\n0.5\tc\tO\n"
    assert read(put(tmp_path, "x.conll", rows.encode()), word_column=2)[0].words == ["a", "b", "c"]


def test_documents_without_an_id_are_numbered(tmp_path):
    text = "a O\n\n-DOCSTART- -X- O O\n\na O\n\na O\n-DOCSTART-\tO\n# newdoc\na O\n\n# newdoc id =  x y \na O\n"
    assert [s.document for s in read(put(tmp_path, "x.conll", text.encode()))] == ["0", "1", "1", "3", "x y"]


def test_comments(tmp_path):
    text = "# id 5 domain=en\n# _ _ O\n_ _ _ O\n\n# text = S-Bahn fährt\n# newpar\n# x _ B-x\n# x _ O\n"
    assert [s.words for s in read(put(tmp_path, "x.conll", text.encode()))] == [["#", "_"], ["#", "#"]]


COLUMNS = {"word_column": 2}
REFUSED = {  # what: (text, options, line, a part of the message)
    "a comment of one column": ("#\na O\n", {}, 1, "1 column;"),
    "a comment inside a sentence": ("a O\n# a comment\n", {}, 2, "3 columns"),
    "a wrong number of columns, and a tag": ("a x O\n\n# O\n", {}, 3, "2 columns"),
    "free text with a tag": ("# Vitamin B-12\n\na x y O\n", {}, 3, "4 columns"),
    "a comment or a word": ("# text = S-Bahn\na x y O\n", {}, 1, "a comment, or the word '#'"),
    "a comment or a word, and nothing else": ("# x = O\n", {}, 1, "a comment, or the word '#'"),
    "only comments": ("# a = b\n# c\n", {}, None, "no sentence"),
    "tags first": ("O the\nB-x Kofi\n", {}, 1, "--word-column 2 --tag-column 1"),
    "plain text": ("Kofi lives in Accra .\n", {}, 1, "none of 5 columns is a tag; write a word and its tag on each line; predict.py"),
    "an index first": (GERMEVAL, {}, None, "--word-column 2"),
    "no such word column": ("\na O\n", {"word_column": 3, "tag_column": 2}, 2, "no column 3"),
    "no such tag column": ("a O\n", {"tag_column": 3}, 1, "no column 3"),
    "one column for both": ("a x O\n", {"word_column": 3}, 1, "column 3 of 3"),
    "the first column for both": ("a x O\n", {"tag_column": 1}, 1, "column 1 of 3"),
    "a multiword token with an entity": ("1-2\tzum\tB-x\n1\tzu\tO\n2\tdem\tO\n", COLUMNS, 1, "multiword token 1-2"),
    "a word without annotation": ("1\ta\tO\n2\tb\t_\n", COLUMNS, 2, "'_'"),
    "an id that is a number of another": ("-DOCSTART- (2)\na O\n-DOCSTART-\na O\n", {}, None, "'2' is the id"),
}


@pytest.mark.parametrize("text, options, line, part", REFUSED.values(), ids=REFUSED)
def test_refused_lines(tmp_path, text, options, line, part):
    path = put(tmp_path, "x.conll", text.encode())
    assert part in refusal(read, path, path=path, line=line, **options)


def test_no_word_with_a_tag_is_ever_left_out(tmp_path_factory):
    """Whatever stands in other columns, and whatever comments there are: all words are read, or the file is refused."""
    path = tmp_path_factory.mktemp("comments") / "x.conll"
    comments = st.sampled_from(["# text = a B-12", "# text = O", "# id 5 domain=en", "#\tsource [2009]", "# newpar", "# newdoc id = d"])
    fields = st.sampled_from(["#", "=", "a", "text", "id", "_", "1-2", "1", "8.1"])

    @settings(deadline=None, max_examples=200)
    @given(st.data(), st.integers(0, 2))
    def check(data, others):
        row = st.tuples(fields, st.lists(fields, min_size=others, max_size=others), st.sampled_from(["O", "B-x"]))
        given_ = data.draw(
            st.lists(st.tuples(st.lists(comments, max_size=2), st.lists(row, min_size=1, max_size=3)), min_size=1, max_size=3)
        )
        lines = [[*before, *(" ".join([word, *more, tag]) for word, more, tag in rows), ""] for before, rows in given_]
        path.write_text("\n".join(sum(lines, [])))
        try:
            found = read(path)
        except InputError as error:
            assert "a comment, or the word" in str(error) or "counts the words" in str(error)
        else:
            assert [list(zip(s.words, s.tags, strict=True)) for s in found] == [
                [(word, tag) for word, _, tag in rows] for _, rows in given_
            ]

    check()


def test_the_seven_corpora():
    """Each line that is not blank or a -DOCSTART- is a word, also those of the word #."""
    folder = os.environ.get("NER_CORPORA", "")
    if not folder:
        pytest.skip("NER_CORPORA does not name the folder of the corpora")
    for path in sorted(Path(folder).glob("*.conll")):
        lines = [line.split() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        sentences = read(path)
        marks = sum(line[0] == "-DOCSTART-" for line in lines)
        assert sum(len(s.words) for s in sentences) == len(lines) - marks, path
        assert len({s.document for s in sentences} - {""}) == marks, path
