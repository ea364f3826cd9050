from __future__ import annotations

import numpy as np
import tensorflow as tf

from ner.loss import labelled_pieces, summed_cross_entropy


def test_only_labelled_pieces_and_real_tags_count():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4)).astype(np.float32)  # 3 real tags and the padding label's unit
    labels = np.array([[0, 3, 2], [3, 3, 1]], np.int32)
    real = logits[..., :3].astype(np.float64)
    log_softmax = real - np.log(np.exp(real).sum(-1, keepdims=True))
    expected = -sum(log_softmax[r, c, labels[r, c]] for r in range(2) for c in range(3) if labels[r, c] != 3)
    np.testing.assert_allclose(summed_cross_entropy(tf.constant(logits), tf.constant(labels)), expected, rtol=1e-6)
    assert labelled_pieces(tf.constant(labels), 3) == 3.0


def test_the_padding_unit_and_padded_pieces_get_no_gradient():
    logits = tf.Variable(tf.random.stateless_normal([1, 3, 4], [0, 1]))
    with tf.GradientTape() as tape:
        loss = summed_cross_entropy(logits.value(), tf.constant([[0, 3, 2]]))
    gradient = tape.gradient(loss, logits).numpy()
    assert (gradient[..., 3] == 0).all() and (gradient[:, 1] == 0).all()
    assert (gradient[:, 0, :3] != 0).all()


def test_rows_of_padding_alone_are_finite():
    labels = tf.constant([[3, 3]])
    assert summed_cross_entropy(tf.zeros([1, 2, 4]), labels) == 0.0
    assert labelled_pieces(labels, 3) == 0.0
