"""tagset.py: tag ids, tagging schemes, their checks and conversions."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner.corpus import Sentences
from ner.errors import InputError
from ner.formats import read
from ner.sentences import Sentence
from ner.tagset import TagSet, to_iob2, unseen

PROPERTY = settings(deadline=None, max_examples=300)


def tagged(*taggings: str) -> list[Sentence]:
    """Sentences with these tags, parted by spaces, and the words w1, w2, ..."""
    return [Sentence([f"w{i + 1}" for i in range(len(tags.split()))], tags.split()) for tags in taggings]


# --- tags and ids -----------------------------------------------------------------------------------------------------


def test_fit_sorts_the_tags_of_all_types_in_training():
    """geo has one-word entities only, but validation may have longer ones."""
    tagset = TagSet.fit(["O", "B-per", "I-per", "B-geo", "O"])
    assert tagset == TagSet(("B-geo", "B-per", "I-geo", "I-per", "O"))
    assert all(type(name) is str for name in tagset.names)
    assert tagset.num_tags == 5


def test_encode():
    tagset = TagSet(["O", "B-per", "I-per"])  # in the order given, as another model's config.json may have it
    ids = tagset.encode(Sentences.of(tagged("O B-per", "", "I-per")))
    assert ids.dtype == np.uint8 and ids.tolist() == [0, 1, 2]
    assert tagset.encode(Sentences.of([])).shape == (0,)


def test_unknown_tags():
    tagset = TagSet(["O", "B-per"])
    assert unseen(tagset, ["O", "I-per", "B-geo", "B-geo"]) == ["B-geo", "I-per"]
    assert unseen(tagset, ["O", "B-per"]) == unseen(tagset, []) == []
    with pytest.raises(InputError, match="'I-per' is not among the model's: O, B-per; "):
        tagset.encode(Sentences.of(tagged("O", "I-per")))


@pytest.mark.parametrize("names", [[], ["O", "B-per", "O"]])
def test_refused_names(names):
    with pytest.raises(InputError, match="give each tag of the model once"):
        TagSet(names)


# --- schemes: what is found and what comes out ------------------------------------------------------------------------

CONVERTED = [
    ("IOB2", ["O B-a I-a B-a B-b I-b", "O"], ["O B-a I-a B-a B-b I-b", "O"]),
    ("IOB2", ["O O"], ["O O"]),
    ("IOB2", ["B-a", "B-a B-a I-a"], ["B-a", "B-a B-a I-a"]),
    ("IOB1", ["I-a I-a O I-a", "I-b I-a"], ["B-a I-a O B-a", "B-b B-a"]),
    ("IOB1", ["O I-a B-a I-a B-a", "I-a"], ["O B-a B-a I-a B-a", "B-a"]),
    ("IOB1", ["I-a", "I-a B-a"], ["B-a", "B-a B-a"]),
    ("IOBES", ["S-a B-a E-a B-b I-b I-b E-b O", "O"], ["B-a B-a I-a B-b I-b I-b I-b O", "O"]),
    ("IOBES", ["S-a"], ["B-a"]),
    ("IOBES", ["B-a E-a"], ["B-a I-a"]),
    ("BILOU", ["U-a B-a L-a O B-b I-b L-b"], ["B-a B-a I-a O B-b I-b I-b"]),
    ("IOB2", ["B-a-b I-a-b B-a"], ["B-a-b I-a-b B-a"]),
]


@pytest.mark.parametrize("scheme, before, after", CONVERTED)
def test_schemes(scheme, before, after):
    sentences = tagged(*before)
    converted, found = to_iob2(sentences)
    assert found == scheme
    assert converted == tagged(*after)
    assert sentences == tagged(*before)  # left as it was


def test_no_sentences():
    assert to_iob2([]) == ([], "IOB2")


REFUSED = [  # taggings, sentence, word, a part of the message
    (["O", "O B_geo"], 2, 2, "'B_geo'"),
    (["geo"], 1, 1, "'geo'"),
    (["O O", "B-"], 2, 1, "'B-'"),
    (["O -geo"], 1, 2, "'-geo'"),
    (["B-a I-a", "B-a O I-a", "B-a"], 2, 3, "in IOB2 an entity opens with B-, and the file opens 3 entities"),
    (["B-a", "B-a I-b"], 2, 2, "in IOB2"),
    (["B-a", "I-a"], 2, 1, "in IOB2"),  # a tie, and the sentence's start
    (["I-a", "I-a I-a O B-a", "I-b"], 2, 4, "in IOB1"),
    (["I-a B-b", "I-a"], 1, 2, "in IOB1"),
    (["B-a E-a", "O B-a O"], 2, 2, "in IOBES"),
    (["S-a", "B-a I-a"], 2, 2, "in IOBES"),
    (["S-a", "B-a", "S-a"], 2, 1, "in IOBES"),
    (["S-a I-a E-a"], 1, 2, "in IOBES"),
    (["O E-a"], 1, 2, "in IOBES"),
    (["B-a E-b"], 1, 1, "in IOBES"),
    (["B-a S-a"], 1, 1, "in IOBES"),
    (["S-a", "I-a I-a"], 2, 1, "in IOBES"),  # IOB1 and IOBES
    (["B-a L-a", "U-a", "B-b"], 3, 1, "in BILOU an entity is B-, I-, ..., L- of one type, or U- alone"),
    (["B-a L-a", "O S-a"], 2, 2, "the file has both"),
    (["S-a", "U-a"], 2, 1, "the file has both"),
    (["U-a", "S-a"], 2, 1, "the file has both"),
]


@pytest.mark.parametrize("taggings, sentence, word, part", REFUSED)
def test_broken_schemes(taggings, sentence, word, part):
    with pytest.raises(InputError) as caught:
        to_iob2(tagged(*taggings), "data/a\n.csv")
    message = str(caught.value)
    assert message.startswith(f"data/a\\n.csv: sentence {sentence}, word {word} ('w{word}'): tag ")
    assert part in message and message.isprintable()


def test_an_empty_tag_is_illegal():
    with pytest.raises(InputError, match="sentence 1, word 2 .*tag ''"):
        to_iob2([Sentence(["a", "b"], ["O", ""])])


# --- properties -------------------------------------------------------------------------------------------------------

entity = st.tuples(st.sampled_from(["a", "b", ""]), st.integers(1, 4))  # a type, "" for no entity, and a length
corpora = st.lists(st.lists(entity, min_size=1, max_size=6), min_size=1, max_size=5)


def iob2(entities) -> list[str]:
    return [(f"{'I' if i else 'B'}-{type_}" if type_ else "O") for type_, length in entities for i in range(length)]


def iob1(entities) -> list[str]:
    tags: list[str] = []
    for type_, length in entities:
        opening = "B" if tags and tags[-1][2:] == type_ else "I"
        tags += [(f"{'I' if i else opening}-{type_}" if type_ else "O") for i in range(length)]
    return tags


def segments(entities, last: str, single: str) -> list[str]:
    tags: list[str] = []
    for type_, length in entities:
        letters = single if length == 1 else "B" + "I" * (length - 2) + last
        tags += [(f"{letter}-{type_}" if type_ else "O") for letter in letters]
    return tags


@PROPERTY
@given(corpora, st.sampled_from(["IOB2", "IOB1", "IOBES", "BILOU"]))
def test_every_scheme_comes_out_as_the_same_iob2(corpus, scheme):
    encode = {
        "IOB2": iob2,
        "IOB1": iob1,
        "IOBES": lambda entities: segments(entities, "E", "S"),
        "BILOU": lambda entities: segments(entities, "L", "U"),
    }[scheme]
    gold = [Sentence(["w"] * len(iob2(entities)), iob2(entities), str(number)) for number, entities in enumerate(corpus)]
    given_ = [sentence._replace(tags=encode(entities)) for sentence, entities in zip(gold, corpus, strict=True)]
    converted, found = to_iob2(given_)
    assert converted == gold
    assert found == (scheme if any(type_ for entities in corpus for type_, _ in entities) else "IOB2")


def spans(tags: list[str]) -> list[tuple[str, int, int]]:
    """Entities as conlleval finds them in B, I and O tags: an I- that continues nothing opens one."""
    found: list[tuple[str, int, int]] = []
    for i, tag in enumerate(tags):
        if tag[0] == "I" and found and found[-1][2] == i and found[-1][0] == tag[2:]:
            found[-1] = (found[-1][0], found[-1][1], i + 1)
        elif tag != "O":
            found.append((tag[2:], i, i + 1))
    return found


@PROPERTY
@given(st.lists(st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"]), min_size=1, max_size=5), max_size=4))
def test_any_b_i_o_keeps_its_entities_or_is_refused(taggings):
    sentences = [Sentence([str(i) for i in range(len(tags))], tags) for tags in taggings]
    try:
        converted, scheme = to_iob2(sentences)
    except InputError:
        opened = [(tags[start], start) for tags in taggings for _, start, _ in spans(tags)]
        assert {tag[0] for tag, _ in opened} == {"B", "I"}
    else:
        assert [spans(s.tags) for s in converted] == [spans(tags) for tags in taggings]
        assert all(s.tags[start][0] == "B" for s in converted for _, start, _ in spans(s.tags))
        assert to_iob2(converted) == (converted, "IOB2")
        assert scheme == "IOB1" or converted == sentences


@PROPERTY
@given(
    st.lists(
        st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in "BIESLU" for t in "ab"), "x", "", "B-"]), max_size=4),
        max_size=3,
    )
)
def test_any_tags_are_converted_or_refused(taggings):
    sentences = [Sentence([str(i) for i in range(len(tags))], tags) for tags in taggings]
    try:
        converted, _ = to_iob2(sentences)
    except InputError as error:
        assert "sentence " in str(error)
    else:
        assert {tag[0] for s in converted for tag in s.tags} <= set("BIO")
        assert to_iob2(converted) == (converted, "IOB2")


# --- the corpus itself ------------------------------------------------------------------------------------------------


def test_gmb_tags():
    if not os.environ.get("GMB_CSV"):
        pytest.skip("GMB_CSV does not name ner_dataset.csv")
    sentences = read(os.environ["GMB_CSV"])
    converted, scheme = to_iob2(sentences)
    assert (converted, scheme) == (sentences, "IOB2")
    tagset = TagSet.fit(converted.distinct_tags)
    types = ["art", "eve", "geo", "gpe", "nat", "org", "per", "tim"]
    assert tagset.names == (*(f"B-{t}" for t in types), *(f"I-{t}" for t in types), "O")
    ids = tagset.encode(converted)
    assert ids.shape == (1_048_575,) and (ids < 8).sum() == 111_891
    assert [tagset.names[i] for i in ids.tolist()] == [tag for s in sentences for tag in s.tags]
