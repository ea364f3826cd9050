"""The CRF against all tag sequences, one by one, and packed rows against the same sentences alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from ner import batches
from ner.crf import CRFHead, log_likelihood, marginals
from ner.decoding import viterbi

TAGS = ("B-per", "I-per", "O")


def weights(seed=0):
    """Random transitions [from, to], start and end."""
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in ((3, 3), (3,), (3,)))


def path_score(scores, path, transitions, start, end):
    inside = sum(transitions[a, b] for a, b in zip(path, path[1:], strict=False))
    return start[path[0]] + sum(scores[i, tag] for i, tag in enumerate(path)) + inside + end[path[-1]]


def all_paths(scores, *weights):
    """Every tag sequence with its score."""
    return {path: path_score(scores, path, *weights) for path in itertools.product(range(3), repeat=len(scores))}


def expected_log_likelihood(scores, labels, *weights):
    paths = all_paths(scores, *weights)
    return paths[tuple(labels)] - np.logaddexp.reduce(list(paths.values()))


def rows():
    """Two rows of packed sentences, with pieces that carry no label: (scores, labels, segments), [2, 9] pieces."""
    scores = np.random.default_rng(1).normal(size=(2, 9, 3)).astype(np.float32)
    no = batches.NO_LABEL
    labels = np.array([[no, 0, 1, no, 2, no, no, 2, no], [no, 1, no, 0, no, no, no, no, no]], np.int32)
    segments = np.array([[1, 1, 1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 1, 0, 0, 0, 0]], np.int32)
    return scores, labels, segments


def chains(scores, labels, segments):
    """The labelled pieces of each sentence: (scores, labels)."""
    for row in range(len(labels)):
        for number in range(1, segments[row].max() + 1):
            inside = (segments[row] == number) & (labels[row] >= 0)
            yield scores[row][inside], labels[row][inside]


def test_the_loss_is_that_of_all_sequences_of_each_sentence():
    scores, labels, segments = rows()
    found = log_likelihood(*map(tf.constant, (scores, *weights(), labels, segments)))
    by_row = [chains(scores[i : i + 1], labels[i : i + 1], segments[i : i + 1]) for i in range(2)]
    expected = [sum(expected_log_likelihood(*chain, *weights()) for chain in row) for row in by_row]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def gradients(scores, labels, segments):
    inputs = [tf.constant(x) for x in (scores, *weights())]
    head = CRFHead(4, TAGS)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        total = tf.reduce_sum(head.log_likelihood(*inputs, tf.constant(labels), tf.constant(segments)))
    return float(total), [g.numpy() for g in tape.gradient(total, inputs)]


def test_packed_sentences_have_the_loss_and_gradients_of_the_same_sentences_alone():
    scores, labels, segments = rows()
    packed, (of_scores, *of_weights) = gradients(scores, labels, segments)
    alone, sums, seen = 0.0, [0.0, 0.0, 0.0], []
    for part, tags in chains(scores, labels, segments):
        loss, (here, *there) = gradients(part[None], tags[None], np.ones_like(tags)[None])
        alone, sums, seen = alone + loss, [a + b for a, b in zip(sums, there, strict=True)], [*seen, here[0]]
    assert packed == pytest.approx(alone, rel=1e-5)
    np.testing.assert_allclose(of_scores[labels >= 0], np.concatenate(seen), atol=1e-5)
    assert (of_scores[labels < 0] == 0).all()
    for a, b in zip(of_weights, sums, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_each_sentence_of_a_window_over_a_document_is_a_chain_of_its_own():
    """One row of two windows; the first holds two sentences, whose numbers in the corpus leave the same rest as the next window's."""
    scores, labels, segments = (field[:1] for field in rows())
    sentences = np.array([[0, 20, 20, 20, 21, 0, 0, 30, 0]], np.int32)
    head = CRFHead(4, TAGS)
    for variable, value in zip((head.transitions, head.start, head.end), weights(), strict=True):
        variable.assign(value)
    batch = batches.empty_rows(1, 9)._replace(segments=tf.constant(segments), sentences=tf.constant(sentences), labels=tf.constant(labels))
    places = [np.flatnonzero((sentences[0] == number) & (labels[0] >= 0)) for number in (20, 21, 30)]
    expected = -sum(expected_log_likelihood(scores[0][places], labels[0][places], *weights()) for places in places)
    assert float(head.loss(tf.constant(scores), batch)) == pytest.approx(expected, rel=1e-5)


def test_rows_of_padding_have_no_loss_and_no_gradient():
    empty = np.zeros((1, 4), np.int32)
    total, found = gradients(np.zeros((1, 4, 3), np.float32), empty + batches.NO_LABEL, empty)
    assert total == 0 and all((g == 0).all() for g in found)


@pytest.mark.parametrize("words", [1, 2, 5])
def test_marginals_and_the_best_sequence_are_those_of_all_sequences(words):
    scores = np.random.default_rng(words).normal(size=(words, 3))
    transitions, start, end = weights(words)
    paths = all_paths(scores, transitions, start, end)
    lengths = np.array([words])
    assert tuple(viterbi(scores, lengths, np.concatenate([transitions, start[None]]), end)) == max(paths, key=paths.get)
    total = np.logaddexp.reduce(list(paths.values()))
    expected = [[sum(np.exp(s - total) for path, s in paths.items() if path[w] == tag) for tag in range(3)] for w in range(words)]
    np.testing.assert_allclose(marginals(scores, lengths, transitions, start, end), expected, rtol=1e-6)


def test_decoding_gives_the_likeliest_legal_tags_of_each_sentence():
    head = CRFHead(4, TAGS)
    for variable, value in zip((head.transitions, head.start, head.end), weights(3), strict=True):
        variable.assign(value)
    found, sentences = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32), [["a"] * 4, [], ["b"] * 2]
    tags, confidence = head.decode(found, sentences)

    def legal(path):
        return all(TAGS[tag] != "I-per" or before in (0, 1) for before, tag in zip([2, *path], path, strict=False))

    for part, got, scores in ((found[:4], tags[0], confidence[0]), (found[4:], tags[2], confidence[2])):
        paths = all_paths(part, *weights(3))
        best = max(filter(legal, paths), key=paths.get)
        assert got == [TAGS[tag] for tag in best]
        np.testing.assert_allclose(scores, marginals(part, np.array([len(part)]), *weights(3))[range(len(best)), best], rtol=1e-6)
    assert tags[1] == confidence[1] == []


def test_no_sentences_no_tags():
    assert CRFHead(4, TAGS).decode(np.zeros([0, 3], np.float32), []) == ([], [])


def test_a_long_row_keeps_float32s_precision():
    """Against float64, on 512 words with large scores."""
    rng = np.random.default_rng(0)
    scores, labels = 20 * rng.normal(size=(512, 3)), rng.integers(0, 3, 512)
    transitions, start, end = (w.astype(np.float64) for w in weights())
    alpha = start + scores[0]
    for here in scores[1:]:
        alpha = np.logaddexp.reduce(alpha[:, None] + transitions, axis=0) + here
    expected = path_score(scores, labels.tolist(), transitions, start, end) - np.logaddexp.reduce(alpha + end)
    fields = scores[None].astype(np.float32), *weights(), labels[None].astype(np.int32), np.ones((1, 512), np.int32)
    assert float(log_likelihood(*map(tf.constant, fields))[0]) == pytest.approx(expected, rel=1e-5)


def test_marginals_of_a_long_sentence_sum_to_one():
    scores = 20 * np.random.default_rng(0).normal(size=(2_000, 3))
    found = marginals(scores, np.array([2_000]), *weights())
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-9)
