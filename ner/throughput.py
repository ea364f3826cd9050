"""Model FLOP/s, and what the device can do at most: the share of it is the model FLOP utilisation (MFU; Chowdhery et al., 2022)."""

from __future__ import annotations

import math
import time

import tensorflow as tf

from ner import pretrained, strategy
from ner.pretrained import Pretrained
from ner.strategy import Devices
from ner.tagger import TaggingModel

USUAL_SHARE = 0.5  # of the peak: MiniLM-L6 reaches 57 % in updates of 16 rows (benchmarks/RESULTS.md)


def flops_per_piece(model: TaggingModel) -> float:
    """Floating-point operations of one update per real word piece: 6 for each weight of the encoder's matrix products.

    Two for the forward pass (multiply and add), four for the backward pass (Kaplan et al., 2020). Attention's own products, the
    embeddings and padding count nothing: this is useful work, so it can be compared across batchings.
    """
    kernels = [tensor.variable for tensor in model.encoder.tensors() if tensor.transposed]
    return 6.0 * sum(math.prod(kernel.shape) for kernel in kernels)


def guess(devices: Devices, encoder: Pretrained, pieces: int) -> float:
    """About how many seconds an update of so many word pieces takes: as if it reached USUAL_SHARE of the peak, measured for a moment."""
    dtype = strategy.compute_dtype("auto", devices.kind)
    with devices.strategy.scope():
        model = pretrained.build(encoder, ("O",))
    peak = matmul_peak(devices.strategy, dtype, encoder.shape.hidden_size, seconds=0.5)
    return flops_per_piece(model) * pieces / (USUAL_SHARE * peak)


def matmul_peak(strategy: tf.distribute.Strategy, dtype: tf.DType, hidden: int, seconds: float = 2.0) -> float:
    """FLOP/s of all replicas' matrix products at once, measured: the best of repeated [4096, hidden] x [hidden, 4 x hidden] products."""
    rows, inner = 4096, 4 * hidden
    repeats = max(1, int(2e10 / (rows * hidden * inner)))

    def on_a_replica():
        a, b = tf.zeros([rows, hidden], dtype), tf.zeros([hidden, inner], dtype)
        total = tf.constant(0, dtype)
        for _ in tf.range(repeats):
            total += tf.matmul(a + total, b)[0, 0]  # each product waits for the one before it
        return total

    @tf.function
    def products():
        return strategy.experimental_local_results(strategy.run(on_a_replica))

    def wait():
        return [value.numpy() for value in products()]

    wait()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        wait()
        best = min(best, time.perf_counter() - began)
    return strategy.num_replicas_in_sync * 2.0 * rows * hidden * inner * repeats / best
