"""Model FLOP/s, and what the device can do at most: the share of it is the model FLOP utilisation (MFU; Chowdhery et al., 2022)."""

from __future__ import annotations

import time

import tensorflow as tf

from ner.tagger import TaggingModel


def flops_per_piece(model: TaggingModel) -> float:
    """Floating-point operations of one update per real word piece: 6 for each weight of the encoder's matrix products.

    Two for the forward pass (multiply and add), four for the backward pass (Kaplan et al., 2020). Attention's own products, the
    embeddings and padding count nothing: this is useful work, so it can be compared across batchings.
    """
    kernels = [v for block in model.encoder.blocks for v in block.trainable_variables if len(v.shape) == 2]
    return 6.0 * sum(v.shape[0] * v.shape[1] for v in kernels)


def matmul_peak(dtype: tf.DType, hidden: int, seconds: float = 2.0) -> float:
    """FLOP/s of this device's matrix products, measured: the best of repeated [4096, hidden] x [hidden, 4 x hidden] products."""
    rows, inner = 4096, 4 * hidden
    a, b = tf.zeros([rows, hidden], dtype), tf.zeros([hidden, inner], dtype)
    repeats = max(1, int(2e10 / (rows * hidden * inner)))

    @tf.function
    def products():
        total = tf.constant(0, dtype)
        for _ in tf.range(repeats):
            total += tf.matmul(a + total, b)[0, 0]  # each product waits for the one before it
        return total

    products().numpy()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        products().numpy()
        best = min(best, time.perf_counter() - began)
    return 2.0 * rows * hidden * inner * repeats / best
