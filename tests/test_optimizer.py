from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ner.optimizer import AdamW, learning_rates, rate_shares


def variables():
    rng = np.random.default_rng(0)
    return {name: tf.Variable(rng.normal(size=shape).astype(np.float32)) for name, shape in {"kernel": (5, 3), "bias": (3,)}.items()}


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return [tf.constant(rng.normal(size=shape).astype(np.float32)) for shape in ((5, 3), (3,))]


def apply(optimizer, given, rate, scale=1.0, finite=True):
    strategy = tf.distribute.get_strategy()
    optimizer.update(strategy, given, tf.constant(scale), tf.constant(rate), tf.constant(finite))


def test_equal_to_keras_adamw():
    ours, theirs = variables(), [keras.Variable(v.numpy()) for v in variables().values()]
    optimizer = AdamW(ours, weight_decay=0.02)
    reference = keras.optimizers.AdamW(learning_rate=0.01, weight_decay=0.02, epsilon=1e-8)
    reference.build(theirs)
    reference.exclude_from_weight_decay(var_list=[theirs[1]])
    for step in range(5):
        apply(optimizer, gradients(step), 0.01)
        reference.apply(gradients(step), theirs)
    for a, b in zip(ours.values(), theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


def test_a_scale_is_that_of_the_gradients():
    optimizers = [AdamW(variables(), weight_decay=0.0) for _ in range(2)]
    apply(optimizers[0], gradients(0), 0.01, scale=0.25)
    apply(optimizers[1], [0.25 * g for g in gradients(0)], 0.01)
    for a, b in zip(*(o.first_moments.values() for o in optimizers), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.0])
def test_an_update_that_is_not_finite_changes_nothing(bad):
    weights = variables()
    optimizer = AdamW(weights, weight_decay=0.1)
    apply(optimizer, gradients(0), 0.01)
    state = [*weights.values(), *optimizer.first_moments.values(), *optimizer.second_moments.values(), optimizer.updates]
    before = [v.numpy().copy() for v in state]
    grads = gradients(1)
    apply(optimizer, [grads[0], grads[1] * bad], 0.01, finite=False)
    for old, new in zip(before, state, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_a_layer_learns_at_its_share_of_the_rate():
    """Weights, moments and weight decay are those of an optimizer that is given that rate for all."""
    whole, half = (dict(zip(["classifier.weight", "bert.layer.0.bias"], variables().values(), strict=True)) for _ in range(2))
    full = {name: tf.Variable(value) for name, value in whole.items()}
    optimizers = AdamW(whole, weight_decay=0.1, layer_decay=0.5), AdamW(full, weight_decay=0.1), AdamW(half, weight_decay=0.1)
    for step in range(3):
        for optimizer, rate in zip(optimizers, (0.02, 0.02, 0.01), strict=True):
            apply(optimizer, gradients(step), rate)
    np.testing.assert_array_equal(whole["classifier.weight"], full["classifier.weight"])
    np.testing.assert_array_equal(whole["bert.layer.0.bias"], half["bert.layer.0.bias"])
    assert np.abs(full["bert.layer.0.bias"] - half["bert.layer.0.bias"]).max() > 1e-3


def test_shares_fall_from_the_head_to_the_embeddings():
    names = ["model.embeddings.norm.weight", *(f"model.layers.{layer}.mlp.Wi.weight" for layer in (0, 9, 10)), "model.final_norm.weight"]
    names.append("classifier.weight")
    assert [*rate_shares(names, 0.9).values()] == pytest.approx([0.9**12, 0.9**11, 0.9**2, 0.9, 1, 1])
    assert {*rate_shares(names, 1.0).values()} == {1.0} and [*rate_shares(names, 0.0).values()] == [0, 0, 0, 0, 1, 1]
    assert rate_shares(["classifier.bias", "bert.embeddings.LayerNorm.bias"], 0.5) == {
        "classifier.bias": 1,
        "bert.embeddings.LayerNorm.bias": 0.5,
    }


@pytest.mark.parametrize("updates", [1, 3])
def test_the_norm_of_an_update_is_that_of_what_changed(updates):
    weights = dict(zip(["bert.layer.0.weight", "classifier.bias"], variables().values(), strict=True))
    optimizer = AdamW(weights, weight_decay=0.1, layer_decay=0.5)
    for step in range(updates):
        before = [v.numpy() for v in weights.values()]
        apply(optimizer, gradients(step), 0.02, scale=0.5)
    changes = [v.numpy() - old for v, old in zip(weights.values(), before, strict=True)]
    expected = np.sqrt(sum((change.astype(np.float64) ** 2).sum() for change in changes))
    np.testing.assert_allclose(optimizer.last_update_norm(tf.constant(0.02)), expected, rtol=1e-4)


def test_schedule():
    rates = learning_rates(0, 10, 10, peak=1.0, warmup=0.2, schedule="linear")
    np.testing.assert_allclose(rates, [0.5, 1.0, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9], rtol=1e-6)
    np.testing.assert_allclose(rates[4:7], learning_rates(4, 3, 10, peak=1.0, warmup=0.2, schedule="linear"))
    assert (learning_rates(0, 4, 4, peak=2.0, warmup=0.0, schedule="constant") == 2.0).all()
    assert (learning_rates(8, 5, 10, peak=1.0, warmup=0.0, schedule="linear") >= 0.0).all()
