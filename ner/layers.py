"""Parts that the families of encoders share, each compiled into one pass over memory (ner/fused.py).

Matrix products run in the encoder's ``compute_dtype``. What stands between two of them takes and gives that type and computes in float32:
softmax, LayerNorm, activations, sums.
"""

from __future__ import annotations

import functools
import math

import keras
import numpy as np
import tensorflow as tf

from ner.cased import FORMS, CasedVocabulary
from ner.fused import compiled, dropout, fused
from ner.tensors import Tensor

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5))),
    "gelu_new": lambda x: 0.5 * x * (1.0 + tf.math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))),
    "relu": tf.nn.relu,
}
ACTIVATIONS["gelu_pytorch_tanh"] = ACTIVATIONS["gelu_new"]


def product(x: tf.Tensor, kernel) -> tf.Tensor:
    """x [tokens, in] times a kernel [in, out], in the type of x."""
    return tf.matmul(x, tf.cast(kernel, x.dtype))


def layer_norm(x: tf.Tensor, scale: tf.Tensor, epsilon: float) -> tf.Tensor:
    """LayerNorm over the last axis, without a bias (Ba et al., 2016): float32."""
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon) * scale


class WordEmbeddings(keras.layers.Layer):
    """The table of word pieces. While training only the rows of pieces that occur in training are variables of the optimizer.

    No other row gets a gradient. A corpus of 200 sentences has 3,000 of 30,000 pieces, and the table may be half of an encoder's weights.
    """

    def __init__(self, vocab_size: int, width: int, seen: np.ndarray | None = None, cased: CasedVocabulary | None = None, **kwargs):
        """seen: int64 [seen pieces], the pieces that occur in training; None for all. cased: what they are if capitals are told."""
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.cased = cased
        if seen is not None:
            seen = np.unique(seen if cased is None else cased.plain[seen])
        self.seen = seen
        self.forms = None if cased is None else self.add_weight(name="forms", shape=(FORMS, width), initializer="zeros")
        self.table = self.add_weight(name="table", shape=(vocab_size, width), initializer="zeros", trainable=seen is None)
        if seen is not None:
            self.seen_rows = self.add_weight(name="seen_rows", shape=(len(seen), width), initializer="zeros")
            self.row_of = np.zeros(vocab_size, np.int32)
            self.row_of[seen] = np.arange(len(seen))
            self.is_seen = np.zeros(vocab_size, bool)
            self.is_seen[seen] = True

    def tensors(self, name: str) -> list[Tensor]:
        """Where the table stands in a checkpoint, and the forms' vectors, which saving folds into it."""
        forms = [] if self.forms is None else [Tensor(["forms"], self.forms, file="")]
        if self.seen is None:
            return [Tensor([name], self.table), *forms]
        return [Tensor([name], self.seen_rows, rows=self.seen, table=self.table), *forms]

    def call(self, pieces: tf.Tensor, training: bool) -> tf.Tensor:
        """Pieces int32 [tokens] -> float32 [tokens, width]. With ``training`` all of them must be ``seen``, or be padding."""
        if self.cased is None or self.forms is None:
            return self._rows(pieces, training)
        # A product and not a gather, whose gradient would be a scatter; PLAIN, 0, is no row.
        form = tf.one_hot(tf.gather(tf.constant(self.cased.forms), pieces) - 1, FORMS)
        return self._rows(tf.gather(tf.constant(self.cased.plain), pieces), training) + tf.matmul(form, self.forms.value)

    def _rows(self, pieces: tf.Tensor, training: bool) -> tf.Tensor:
        """The rows of the encoder's own pieces."""
        if self.seen is None:
            return tf.gather(self.table.value, pieces)
        rows = tf.gather(self.seen_rows.value, tf.gather(tf.constant(self.row_of), pieces))
        if training:
            return rows
        return tf.where(tf.gather(tf.constant(self.is_seen), pieces)[:, None], rows, tf.gather(self.table.value, pieces))


@functools.cache  # one compiled function for all layers and models
def embed(rate: float, epsilon: float, compute_dtype: tf.DType):
    """dropout(LayerNorm(words + positions + token type)): [tokens, width] float32 -> compute type; token_type [width] is every piece's."""

    def add(words, positions, token_type, scale, shift, seed):
        x = layer_norm(words + positions + token_type, scale, epsilon) + shift
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
