"""corpus.py: what is put away comes back, sentence by sentence and in blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner import corpus
from ner.corpus import Sentences, Words
from ner.sentences import Sentence, split

word = st.text(st.characters(exclude_characters="\0"), max_size=4)  # unpaired surrogates too
tagged = st.lists(st.tuples(word, st.sampled_from(["O", "B-a", "I-a", "B-b"])), max_size=5)
sentence = st.builds(lambda pairs, name: Sentence([w for w, _ in pairs], [t for _, t in pairs], name), tagged, word)


@settings(deadline=None, max_examples=100)
@given(st.lists(sentence, max_size=8), st.integers(1, 4))
def test_sentences_come_back_as_they_were(sentences, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "CHUNK", size)
        kept = Sentences.of(iter(sentences))
        assert kept == sentences and sentences == kept and [kept[i] for i in range(len(kept))] == sentences
    assert all(type(sentence) is Sentence for sentence in kept)
    assert kept.lengths.tolist() == [len(s.words) for s in sentences] and list(kept.documents()) == [s.document for s in sentences]
    for first, end in corpus.blocks(kept.lengths, size):
        assert kept.words(first, end) == [w for s in sentences[first:end] for w in s.words]
        assert [kept.names[i] for i in kept.tags(first, end).tolist()] == [t for s in sentences[first:end] for t in s.tags]
    assert kept.distinct_tags == {t for s in sentences for t in s.tags}
    assert list(Words(kept)) == [s.words for s in sentences]


@settings(deadline=None, max_examples=100)
@given(st.lists(sentence.filter(lambda s: s.words), max_size=8), st.integers(1, 4))
def test_bytes_are_equal_where_words_and_tags_are(sentences, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "CHUNK", size)
        found = list(zip(sentences, Sentences.of(sentences).as_bytes(), strict=True))
    for (one, (words, tags)), (other, (more_words, more_tags)) in itertools.combinations(found, 2):
        assert (words == more_words) == (one.words == other.words) and (tags == more_tags) == (one.tags == other.tags)


def test_a_part_is_a_sequence_of_its_own():
    sentences = [Sentence([f"w{i}", "b"][: 1 + i % 2], ["O", f"B-{i}"][: 1 + i % 2]) for i in range(20)]
    kept = Sentences.of(sentences)
    part = kept[3:15:2]
    assert part == sentences[3:15:2] and part[1:3] == sentences[3:15:2][1:3] and part[-1] == sentences[13]
    assert part.words(1, 3) == [w for s in sentences[5:9:2] for w in s.words]
    assert part.distinct_tags == {"O", *(f"B-{i}" for i in range(3, 15, 2))}
    assert Words(part)[0] == sentences[3].words and list(Words(part)[2:4]) == [s.words for s in sentences[7:11:2]]
    with pytest.raises(IndexError):
        part[6]
    named = Sentences(kept.arrays, kept.names, "a")
    assert len({some.key for some in (named, named[1:], named[1:3], named[1:][:2], named[::2])}) == 5 and part.key == ""
    for numbers in split(kept, seed=0, fractions=(0.5, 0.5)).values():
        assert part != kept and kept.chosen(numbers, "a") == [sentences[i] for i in numbers]


def test_blocks_hold_so_many_words_or_one_item():
    assert list(corpus.blocks(np.array([2, 2, 9, 0, 1, 3]), 4)) == [(0, 2), (2, 3), (3, 6)]
    assert list(corpus.blocks(np.array([], np.int64))) == []


@pytest.mark.parametrize("count, kind", [(0, np.uint8), (256, np.uint8), (257, np.uint16), (70_000, np.uint32)])
def test_tags_are_the_smallest_integers(count, kind):
    assert corpus.smallest(np.array([0]), count).dtype == kind


def test_words_of_equal_text_are_one_object():
    one, other = Sentences.of([Sentence(["Mali"], ["B-geo"]), Sentence(["Mali"], ["B-geo"])])
    assert one.words[0] is other.words[0] and one.tags[0] is other.tags[0]
