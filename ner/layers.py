"""Parts that the families of encoders share, each compiled into one pass over memory (ner/fused.py).

Matrix products run in the encoder's ``compute_dtype``. What stands between two of them takes and gives that type and computes in float32:
softmax, LayerNorm, activations, sums.
"""

from __future__ import annotations

import functools
import math

import tensorflow as tf

from ner.cased import FORMS
from ner.fused import compiled, dropout, fused

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5))),
    "gelu_new": lambda x: 0.5 * x * (1.0 + tf.math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))),
    "relu": tf.nn.relu,
}


def product(x: tf.Tensor, kernel) -> tf.Tensor:
    """x [tokens, in] times a kernel [in, out], in the type of x."""
    return tf.matmul(x, tf.cast(kernel, x.dtype))


def layer_norm(x: tf.Tensor, scale: tf.Tensor, epsilon: float) -> tf.Tensor:
    """LayerNorm over the last axis, without a bias (Ba et al., 2016): float32."""
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon) * scale


@functools.cache  # one compiled function for all layers and models
def embed(rate: float, epsilon: float, compute_dtype: tf.DType):
    """dropout(LayerNorm(words + positions + token type + written form)): [tokens, width] float32 -> compute type.

    token_type: float32 [width], that of every piece. forms: int32 [tokens] of ``ner.cased``; vectors: float32 [FORMS, width], theirs. They
    are few, so the sum over all of them is fused with the rest, gradient included; a gather's would be a scatter.
    """

    def add(words, positions, token_type, forms, vectors, scale, shift, seed):
        written = tf.reduce_sum(tf.one_hot(forms - 1, FORMS)[:, :, None] * vectors, 1)  # 0 for PLAIN
        x = layer_norm(words + positions + token_type + written, scale, epsilon) + shift
        return tf.cast(dropout(x, rate, seed), compute_dtype)

    return fused(add)


@functools.cache
def add_norm(rate: float, epsilon: float):
    """LayerNorm(residual + dropout(x + bias)): [tokens, hidden]."""

    def add(x, bias, residual, scale, shift, seed):
        y = dropout(tf.cast(x, tf.float32) + bias, rate, seed) + tf.cast(residual, tf.float32)
        return tf.cast(layer_norm(y, scale, epsilon) + shift, x.dtype)

    return fused(add)


@functools.cache
def activate(name: str):
    """activation(x + bias): [tokens, intermediate]."""
    return fused(lambda x, bias: tf.cast(ACTIVATIONS[name](tf.cast(x, tf.float32) + bias), x.dtype))


@functools.cache
def add_bias():
    """x + bias: [tokens, width]."""
    return fused(lambda x, bias: tf.cast(tf.cast(x, tf.float32) + bias, x.dtype))


@functools.cache
def attend(scale: float, rate: float, reach: int | None = None):
    """Softmax over the keys of the same sentence, then dropout: scores [rows, heads, length, length], segments int32 [rows, length].

    reach: how many pieces away a key may be; None for any. A sentence's pieces lie side by side in the row, so the row's places tell.
    Its gradient is written out: with the probabilities kept instead of the scores, the backward pass is one pass without an exponential.
    """

    @compiled
    def forward(scores, segments, seed):
        seen = segments[:, None, :, None] == segments[:, None, None, :]
        if reach is not None:
            place = tf.range(segments.shape[1])
            seen &= tf.abs(place[:, None] - place) <= reach
        x = tf.where(seen, tf.cast(scores, tf.float32) * scale, -1e30)  # exp(-1e30 - max) is exactly 0: nothing leaks between sentences
        x = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
        x = x / tf.reduce_sum(x, -1, keepdims=True)
        return tf.cast(dropout(x, rate, seed), scores.dtype), tf.cast(x, scores.dtype)

    @compiled
    def backward(probabilities, seed, upstream):
        x = tf.cast(probabilities, tf.float32)
        flow = x * dropout(tf.cast(upstream, tf.float32), rate, seed)  # dropout is its own transpose
        return tf.cast((flow - x * tf.reduce_sum(flow, -1, keepdims=True)) * scale, upstream.dtype)

    @tf.custom_gradient
    def softmax(scores, segments, seed):
        dropped, probabilities = forward(scores, segments, seed)
        return dropped, lambda upstream: (backward(probabilities, seed, upstream), None, None)

    return softmax
