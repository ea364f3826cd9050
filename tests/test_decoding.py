"""Decoding against all sequences, one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ner.decoding import decode, legal_steps, viterbi

NAMES = ("B-geo", "B-per", "I-geo", "I-per", "O")


def is_iob2(tags):
    return all(tag[0] != "I" or before[2:] == tag[2:] for before, tag in zip(["O", *tags], tags, strict=False))


def log_probabilities(seed, words, names=NAMES):
    logits = np.random.default_rng(seed).normal(scale=3, size=[words, len(names)])
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def likeliest_legal(found):
    """By trying all."""
    paths = [path for path in itertools.product(range(len(NAMES)), repeat=len(found)) if is_iob2([NAMES[i] for i in path])]
    return [NAMES[i] for i in max(paths, key=lambda path: sum(float(found[w, i]) for w, i in enumerate(path)))]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 4), max_size=4))
def test_the_tags_are_the_likeliest_of_all_legal_ones_sentence_by_sentence(seed, lengths):
    found = log_probabilities(seed, sum(lengths))
    tags, scores = decode(found, [[None] * n for n in lengths], NAMES)
    parts = np.split(found, np.cumsum(lengths)[:-1]) if lengths else []
    assert tags == [likeliest_legal(part) if len(part) else [] for part in parts]
    for part, names, numbers in zip(parts, tags, scores, strict=True):
        np.testing.assert_allclose(numbers, [np.exp(row[NAMES.index(name)]) for row, name in zip(part, names, strict=True)], rtol=1e-6)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 12), max_size=9), st.sampled_from([1, 70, 2**21]))
def test_sentences_side_by_side_have_the_best_path_that_each_has_alone(seed, lengths, paths):
    random = np.random.default_rng(seed)
    scores, steps, end = random.normal(size=(sum(lengths), 4)), random.normal(size=(5, 4)), random.normal(size=4)
    steps[random.random(steps.shape) < 0.2] = -np.inf
    steps[:, 3] = 0.0  # so that there is a path

    def alone(part):
        score, came_from = steps[-1] + part[0], []
        for here in part[1:]:
            came_from.append((score[:, None] + steps[:-1]).argmax(axis=0))
            score = (score[:, None] + steps[:-1]).max(axis=0) + here
        tags = [int((score + end).argmax())]
        for before in reversed(came_from):
            tags.append(int(before[tags[-1]]))
        return tags[::-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ner.decoding.PATHS", paths)
        found = viterbi(scores, np.array(lengths, np.int64), steps, end)
    parts = np.split(scores, np.cumsum(lengths)[:-1]) if lengths else []
    assert found.tolist() == [tag for part in parts if len(part) for tag in alone(part)]


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_without_the_rule_each_word_has_its_likeliest_tag(seed, words):
    found = log_probabilities(seed, words)
    (tags,), (scores,) = decode(found, [[None] * words], NAMES, iob2=False)
    assert tags == [NAMES[i] for i in found.argmax(axis=1)]
    assert scores == np.exp(found.max(axis=1)).tolist()


def test_what_is_legal_already_is_left_as_it_is():
    found = log_probabilities(1, 2000)
    (free,), _ = decode(found, [[None] * 2000], NAMES, iob2=False)
    sentences = [[None] * 4] * 500
    tags, _ = decode(found, sentences, NAMES)
    same = [is_iob2(free[4 * i : 4 * i + 4]) for i in range(500)]
    assert 50 < sum(same) < 450
    assert [tags[i] == free[4 * i : 4 * i + 4] for i in range(500)] == same


def test_an_inside_tag_follows_its_own_type_only():
    legal = legal_steps(NAMES)
    allowed = {(NAMES[a] if a < len(NAMES) else "start", NAMES[b]) for a, b in np.argwhere(legal)}
    inside = {pair for pair in allowed if pair[1].startswith("I-")}
    assert inside == {("B-geo", "I-geo"), ("I-geo", "I-geo"), ("B-per", "I-per"), ("I-per", "I-per")}
    assert len(allowed) == 4 + 3 * (len(NAMES) + 1)


def test_an_inside_tag_whose_type_has_no_other_may_stand_anywhere():
    found = np.log(np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], np.float32))
    assert decode(found, [[None] * 2], ("I-per", "O", "I-geo"))[0] == [["I-per", "I-geo"]]


def test_a_sentence_of_ten_thousand_words_is_decoded_with_a_type_that_has_no_inside_tag():
    names = ("B-eve", "B-geo", "I-geo", "O")
    (tags,), (scores,) = decode(log_probabilities(2, 10_000, names), [[None] * 10_000], names)
    assert is_iob2(tags) and min(scores) > 0 and len(tags) == len(scores) == 10_000


@pytest.mark.parametrize("sentences", [[], [[]], [[], []]])
def test_no_words_give_no_tags(sentences):
    assert decode(np.zeros([0, len(NAMES)], np.float32), sentences, NAMES) == (sentences, sentences)
