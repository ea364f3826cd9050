from __future__ import annotations

import math
import re

import numpy as np
import pytest
import tensorflow as tf

from ner.fused import dropout, fold_in, fused, keep_mask


def test_fused_functions_have_the_gradients_of_the_plain_ones():
    def plain(x, bias, kept):
        return tf.nn.relu(x + bias) * tf.cast(kept, x.dtype)

    compiled = fused(plain)
    x, bias, kept = tf.random.stateless_normal([8, 4], [1, 2]), tf.constant([0.1, -0.2, 0.3, 0.0]), tf.constant([1, 0, 1, 1])
    results = []
    for function in (plain, compiled):
        with tf.GradientTape() as tape:
            tape.watch([x, bias])
            y = function(x, bias, kept)
        results.append([y, *tape.gradient(y, [x, bias], tf.ones_like(y) * 2.0)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_dropout_keeps_the_mean_and_the_share(rate):
    x = tf.ones([400, 500])
    y = dropout(x, rate, tf.constant(7, tf.uint32)).numpy()
    assert abs((y == 0).mean() - rate) < 0.005
    assert abs(y.mean() - 1.0) < 0.01
    assert np.allclose(y[y > 0], 1 / (1 - rate))


def test_masks_of_different_seeds_sites_and_neighbours_are_uncorrelated():
    base = tf.constant(3, tf.uint32)
    masks = [keep_mask((100_000,), 0.5, fold_in(base, i)).numpy().astype(float) for i in range(6)]
    correlation = np.corrcoef(masks)
    assert np.abs(correlation - np.eye(6)).max() < 0.02
    for mask in masks:
        for lag in (1, 2, 64, 384):
            assert abs(np.corrcoef(mask[:-lag], mask[lag:])[0, 1]) < 0.02


def test_dropout_at_rate_zero_is_the_identity():
    x = tf.constant([1.0, 2.0])
    assert dropout(x, 0.0, tf.constant(1, tf.uint32)) is x


def test_the_program_of_a_mask_holds_no_constant_of_its_size():
    """On a GPU or TPU all masks are in one program: at 256 rows of 64 their numbers would be about 0.9 GB of it."""
    masked = tf.function(lambda seed: keep_mask((64, 512), 0.1, seed), jit_compile=True)
    program = masked.experimental_get_compiler_ir(tf.TensorSpec([], tf.uint32))(stage="hlo")
    constants = re.findall(r"\w+\[([\d,]+)\]\S* constant\(", program)
    assert "64" in constants and "512" in constants
    assert all(math.prod(map(int, shape.split(","))) <= 512 for shape in constants)
