from __future__ import annotations

import numpy as np
import tensorflow as tf

from ner.batches import NO_LABEL
from ner.tagger import cross_entropy


def test_only_labelled_pieces_count():
    scores = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    labels = np.array([[0, NO_LABEL, 2], [NO_LABEL, NO_LABEL, 1]], np.int32)
    real = scores.astype(np.float64)
    log_softmax = real - np.log(np.exp(real).sum(-1, keepdims=True))
    expected = -sum(log_softmax[r, c, labels[r, c]] for r in range(2) for c in range(3) if labels[r, c] != NO_LABEL)
    np.testing.assert_allclose(cross_entropy(tf.constant(scores), tf.constant(labels)), expected, rtol=1e-6)


def test_pieces_without_a_label_get_no_gradient():
    scores = tf.Variable(tf.random.stateless_normal([1, 3, 3], [0, 1]))
    with tf.GradientTape() as tape:
        loss = cross_entropy(scores.value(), tf.constant([[0, NO_LABEL, 2]]))
    gradient = tape.gradient(loss, scores).numpy()
    assert (gradient[:, 1] == 0).all() and (gradient[:, [0, 2]] != 0).all()


def test_rows_of_padding_alone_are_finite():
    assert cross_entropy(tf.zeros([1, 2, 3]), tf.constant([[NO_LABEL, NO_LABEL]])) == 0.0
