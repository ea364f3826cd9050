"""sentences.py: valid words and tags, entities, splits, copies, the content hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats import TWO, refusal

from ner import sentences as module
from ner.corpus import Sentences
from ner.errors import InputError
from ner.formats import read
from ner.sentences import InvalidSentence, Sentence, check, conflicts, content_hash, tag_hint, valid_tag, word_fault

MANY = [Sentence([f"w{i % 300}", "b"], ["O", "B-x" if i % 7 else "O"]) for i in range(400)]


def split(sentences, **options) -> dict[str, list[Sentence]]:
    return {name: [sentences[i] for i in numbers] for name, numbers in module.split(sentences, **options).items()}


def test_split_parts_all_and_keeps_copies_together():
    parts = split(MANY, seed=1)
    assert list(parts) == ["train", "validation", "test"]
    assert sum(parts.values(), []) != MANY and Counter(map(str, sum(parts.values(), []))) == Counter(map(str, MANY))
    texts = [{tuple(s.words) for s in part} for part in parts.values()]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 300
    for part in parts.values():  # in the order given
        remaining = iter(MANY)
        assert all(sentence in remaining for sentence in part)
    assert 0.7 < len(parts["train"]) / len(MANY) < 0.9


def test_split_depends_on_seed_and_words_only():
    parts = split(MANY, seed=1)
    assert split(MANY, seed=2) != parts
    more = split([*MANY, *(Sentence([f"new{i}"], ["O"]) for i in range(50))], seed=1)
    assert all(set(map(str, parts[name])) <= set(map(str, more[name])) for name in parts)
    retagged = split([Sentence(s.words, ["O"] * len(s.tags)) for s in MANY], seed=1)
    assert [[s.words for s in part] for part in retagged.values()] == [[s.words for s in part] for part in parts.values()]


def test_split_is_the_same_in_every_process():
    code = (
        "from ner.sentences import Sentence, content_hash, split; "
        "sentences = [Sentence([f'w{i}'], ['O']) for i in range(100)]; "
        "parts = split(sentences, seed=7, fractions=(0.5, 0.25, 0.25)); "
        "print(*(content_hash(sentences[i] for i in part) for part in parts.values()))"
    )
    parts = split([Sentence([f"w{i}"], ["O"]) for i in range(100)], seed=7, fractions=(0.5, 0.25, 0.25))
    expected = [content_hash(part) for part in parts.values()]
    for hash_seed in "01":
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        output = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
        assert output.stdout.split() == expected


def test_split_into_two():
    parts = split(MANY, seed=1, fractions=(0.9, 0.1))
    assert list(parts) == ["train", "validation"] and sum(map(len, parts.values())) == len(MANY)
    assert len(parts["train"]) > len(parts["validation"]) > 0


@pytest.mark.parametrize("fractions", [(1.0,), (0.7, 0.2), (0.8, 0.1, 0.2), (1, 0, 0), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)])
def test_split_refuses_fractions(fractions):
    assert "fractions" in refusal(split, MANY, path=None, seed=1, fractions=fractions)


def test_split_refuses_an_empty_part():
    assert "of 2 falls" in refusal(split, TWO, path=None, seed=1)
    assert "of 0 falls to the train" in refusal(split, [], path=None, seed=1)


def test_split_without_documents_is_the_one_that_results_were_published_on():
    assert content_hash(split(MANY, seed=1)["test"]) == "bf4926f9db260d78ce5f32f57b928ae9"


def test_split_keeps_documents_whole():
    documents = [sentence._replace(document=f"d{i % 97}") for i, sentence in enumerate(MANY)]
    parts = split(documents, seed=1)
    ids = [{s.document for s in part} for part in parts.values()]
    assert sum(map(len, ids)) == 97 and len(parts["train"]) > len(MANY) / 2
    assert split([*documents, *MANY], seed=1)["test"] == [*parts["test"], *split(MANY, seed=1)["test"]]
    three = [sentence._replace(document=f"d{i % 3}") for i, sentence in enumerate(MANY)]
    assert "there are 3; " in (message := refusal(split, three, path=None, seed=1)) and "use more documents" in message


@pytest.mark.parametrize("word, fault", [("", "empty"), (" \t\r\n", "empty"), ("a\0", "NUL"), ("\ud800", "surrogate")])
def test_word_faults(word, fault):
    assert fault in word_fault(word)
    with pytest.raises(InvalidSentence, match=f"word 2 .*{fault}"):
        check(Sentence(["a", word], ["O", "O"]))


@pytest.mark.parametrize("word", ["None", "null", "NA", "nan", "\xa0", "\u3000", "two words", "\x85"])
def test_anything_else_is_a_word(word):
    assert word_fault(word) == ""
    check(Sentence([word], ["B-geo"], word))


@pytest.mark.parametrize(
    ("tag", "hint"),
    [
        ("PER", "write I-PER on all words of an entity (I- alone is read as IOB1), or B-PER on its first word and I-PER on the others"),
        ("b-per", "write B-per"),
        ("B_per", "write B-per"),
        ("B per", "write B-per"),
        ("B", "give it a type, such as B-name"),
        ("b-", "give it a type, such as B-name"),
        ("M-per", "write I-per for M-per, the M of BMES"),
        ("None", "write O, the capital letter, where there is no entity"),
        ("0", "write O, the capital letter, where there is no entity"),
        ("", "write O, the capital letter, where there is no entity"),
    ],
)
def test_a_tag_that_is_none_is_refused_with_what_to_write(tag, hint):
    assert tag_hint(tag) == hint
    with pytest.raises(InputError, match=re.escape(f"x.csv:3: tag {tag!r} is not O or B-, ")) as refused:
        valid_tag(tag, "x.csv", 3)
    assert str(refused.value).endswith(f"; {hint}")


def test_a_document_is_named_by_plain_text():
    for document in ("a\0", "\ud800"):
        with pytest.raises(InvalidSentence, match="the document"):
            check(Sentence(["a"], ["O"], document))


@settings(deadline=None, max_examples=150)
@given(*[st.lists(st.builds(Sentence, *[st.lists(st.text(max_size=2), max_size=3)] * 2, st.text(max_size=1)), max_size=3)] * 2)
def test_content_hash_tells_corpora_apart(a, b):
    assert (content_hash(a) == content_hash(b)) == (a == b)


def test_content_hash_frames():
    framings = [
        [Sentence(["a", "b"], ["O", "O"])],
        [Sentence(["a b"], ["O O"])],
        [Sentence(["a"], ["O"]), Sentence(["b"], ["O"])],
        [Sentence(["a", "b", "O"], ["O"])],
        [Sentence(["b"], ["O"]), Sentence(["a"], ["O"])],
        [Sentence(["a"], ["O"], "d"), Sentence(["b"], ["O"])],
        [Sentence(["a"], ["O"]), Sentence(["b"], ["O"], "d")],
    ]
    assert len({content_hash(sentences) for sentences in framings}) == len(framings)
    assert content_hash(TWO) == content_hash(iter(TWO))


def test_content_hash_is_that_of_one_json_array():
    """Run folders keep it, so its value stays."""
    for sentences in ([], TWO[:1], MANY):
        pairs = [[s.words, s.tags] for s in sentences]
        assert content_hash(sentences) == hashlib.blake2b(json.dumps(pairs).encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize("function", [content_hash, lambda kept: conflicts(kept.as_bytes())], ids=["content_hash", "conflicts"])
def test_a_corpus_is_not_copied(function):
    sentences = [Sentence([f"w{i}"] * 100, ["O"] * 100) for i in range(1000)]
    kept = Sentences.of(sentences)
    assert function(kept) == function(kept[:])  # what a first call alone allocates is not measured
    tracemalloc.start()
    function(kept)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < sum(sys.getsizeof(s.words) for s in sentences) / 2


def test_conflicts():
    def count(*sentences):
        return conflicts(Sentences.of(sentences).as_bytes())

    a, b = Sentence(["x", "y"], ["O", "O"], "one"), Sentence(["x", "y"], ["B-p", "O"], "another")
    assert count() == count(a, a, TWO[0]) == 0
    assert count(a, b, a, TWO[0], Sentence(["x", "y"], ["O", "B-p"])) == 1
    assert count(a, b, *TWO, Sentence(["Mali"], ["O"])) == 2
    assert count(Sentence(["x y"], ["O"]), a) == 0


def test_gmb_split(gmb):
    sentences = read(gmb)
    parts = split(sentences, seed=0)
    texts = [{tuple(s.words) for s in part} for part in parts.values()]
    assert sum(map(len, texts)) == 47_575
    assert [round(len(part) / len(sentences), 2) for part in parts.values()] == [0.8, 0.1, 0.1]
