from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ner.optimizer import AdamW, learning_rates

TRUE = tf.constant(True)


def variables():
    rng = np.random.default_rng(0)
    return [tf.Variable(rng.normal(size=shape).astype(np.float32)) for shape in ((5, 3), (3,))]


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return [tf.constant(rng.normal(size=shape).astype(np.float32)) for shape in ((5, 3), (3,))]


def test_equal_to_keras_adamw():
    ours, theirs = variables(), [keras.Variable(v.numpy()) for v in variables()]
    optimizer = AdamW(ours, weight_decay=0.02, clip_norm=0.0)
    reference = keras.optimizers.AdamW(learning_rate=0.01, weight_decay=0.02, epsilon=1e-8)
    reference.build(theirs)
    reference.exclude_from_weight_decay(var_list=[theirs[1]])
    for step in range(5):
        optimizer.apply(gradients(step), tf.constant(0.01), TRUE)
        reference.apply(gradients(step), theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


def test_clipping_by_the_global_norm():
    clipped, scaled = variables(), variables()
    a, b = AdamW(clipped, weight_decay=0.0, clip_norm=1.0), AdamW(scaled, weight_decay=0.0, clip_norm=0.0)
    grads = gradients(0)
    norm, finite = a.apply(grads, tf.constant(0.01), TRUE)
    np.testing.assert_allclose(norm, np.sqrt(sum((g.numpy() ** 2).sum() for g in grads)), rtol=1e-6)
    assert finite and norm > 1
    b.apply([g / norm for g in grads], tf.constant(0.01), TRUE)
    for x, y in zip(a.first, b.first, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_changes_nothing(bad):
    weights = variables()
    optimizer = AdamW(weights, weight_decay=0.1, clip_norm=1.0)
    optimizer.apply(gradients(0), tf.constant(0.01), TRUE)
    state = [*weights, *optimizer.first, *optimizer.second, optimizer.updates]
    before = [v.numpy().copy() for v in state]
    grads = gradients(1)
    _, finite = optimizer.apply([grads[0], grads[1] * bad], tf.constant(0.01), TRUE)
    assert not finite
    _, finite = optimizer.apply(gradients(1), tf.constant(0.01), tf.constant(False))
    assert not finite
    for old, new in zip(before, state, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


@pytest.mark.parametrize("updates", [1, 3])
def test_the_norm_of_an_update_is_that_of_what_changed(updates):
    weights = variables()
    optimizer = AdamW(weights, weight_decay=0.1, clip_norm=1.0)
    for step in range(updates):
        before = [v.numpy() for v in weights]
        optimizer.apply(gradients(step), tf.constant(0.02), TRUE)
    changes = [v.numpy() - old for v, old in zip(weights, before, strict=True)]
    expected = np.sqrt(sum((change.astype(np.float64) ** 2).sum() for change in changes))
    np.testing.assert_allclose(optimizer.update_norm(tf.constant(0.02)), expected, rtol=1e-4)


def test_schedule():
    rates = learning_rates(0, 10, 10, peak=1.0, warmup=0.2, schedule="linear")
    np.testing.assert_allclose(rates, [0.5, 1.0, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9], rtol=1e-6)
    np.testing.assert_allclose(rates[4:7], learning_rates(4, 3, 10, peak=1.0, warmup=0.2, schedule="linear"))
    assert (learning_rates(0, 4, 4, peak=2.0, warmup=0.0, schedule="constant") == 2.0).all()
    assert (learning_rates(8, 5, 10, peak=1.0, warmup=0.0, schedule="linear") >= 0.0).all()
