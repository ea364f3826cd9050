"""Transitions that are counted on the training tags: the counts, the weight, the decoding, and their file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_decoding import NAMES, log_probabilities

from ner import corpus, decoding, scoring
from ner.counted import WEIGHTS, CountedHead, log_ratios


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 5), max_size=9), st.sampled_from([1, 7, 2**18]))
def test_pairs_are_counted_within_sentences(seed, lengths, block):
    ids = np.random.default_rng(seed).integers(0, 3, sum(lengths)).astype(np.uint8)
    counts = np.zeros((4, 3))
    for part in np.split(ids, np.cumsum(lengths)[:-1]) if lengths else []:
        for before, here in zip([3, *part], part, strict=False):
            counts[before, here] += 1
    alone = (counts.sum(axis=0) + 1) / (counts.sum() + 3)
    after = (counts + alone) / (counts.sum(axis=1, keepdims=True) + 1)
    expected = np.log(after) - np.log(alone)
    assert (expected[counts == 0] <= 1e-9).all()  # a pair that never occurs is not made likelier
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus.blocks, "__defaults__", (block,))
        found = log_ratios(ids, np.array(lengths, np.int64), 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_decoding_adds_them_to_the_scores_of_legal_tags(seed, words):
    found, steps = log_probabilities(seed, words), np.random.default_rng(seed).normal(size=(6, 5))
    costs = np.where(decoding.legal_steps(NAMES), steps, -np.inf)
    (tags,), (scores,) = decoding.decode(found, [[None] * words], NAMES, transitions=steps)

    def total(path):
        return sum(found[w, i] + costs[b, i] for w, (b, i) in enumerate(zip([5, *path], path, strict=False)))

    best = max(np.ndindex(*[5] * words), key=total)
    assert tags == [NAMES[i] for i in best]
    np.testing.assert_allclose(scores, np.exp(found[np.arange(words), best]), rtol=1e-6)
    free, _ = decoding.decode(found, [[None] * words], NAMES, iob2=False, transitions=steps)
    assert free == [[NAMES[i] for i in found.argmax(axis=1)]]


def head_with(ratios):
    head = CountedHead(8, NAMES)
    head.ratios = np.asarray(ratios, np.float32)
    return head


def tuned_and_best(seed):
    """A head tuned on 40 sentences of random scores, and the weight with the best F1 on them."""
    random = np.random.default_rng(seed)
    sentences = [[None] * int(n) for n in random.integers(1, 9, 40)]
    found = log_probabilities(seed, sum(map(len, sentences)))
    head = head_with(random.normal(scale=3, size=(6, 5)))
    gold, _ = decoding.decode(found, sentences, NAMES, transitions=0.5 * head.ratios + random.normal(scale=0.3, size=(6, 5)))
    f1 = [scoring.score(gold, decoding.decode(found, sentences, NAMES, transitions=w * head.ratios)[0]).f1 for w in WEIGHTS]
    head.tune(found, sentences, gold)
    return head, f1


@pytest.mark.parametrize("seed", range(3))
def test_the_weight_is_the_best_on_the_sentences(seed):
    head, f1 = tuned_and_best(seed)
    assert max(f1) > f1[0]  # so that there is something to choose
    np.testing.assert_array_equal(head.transitions.numpy(), np.float32(WEIGHTS[int(np.argmax(f1))]) * head.ratios)


def test_without_any_gain_it_is_the_linear_head():
    found, head = log_probabilities(1, 30), head_with(np.ones((6, 5)))  # adds the same to every sequence
    gold, _ = decoding.decode(found, [[None] * 10] * 3, NAMES)
    head.tune(found, [[None] * 10] * 3, gold)
    assert not head.transitions.numpy().any()
    assert head.decode(found, [[None] * 10] * 3) == decoding.decode(found, [[None] * 10] * 3, NAMES)


def test_chain_is_what_decode_follows():
    head, _ = tuned_and_best(0)
    steps, end = head.chain()
    found, lengths = log_probabilities(5, 200), np.full(40, 5)
    tags, _ = head.decode(found, [[None] * 5] * 40)
    assert [NAMES[i] for i in decoding.viterbi(found, lengths, steps, end)] == [tag for sentence in tags for tag in sentence]
    assert np.isneginf(steps[~decoding.legal_steps(NAMES)]).all()
