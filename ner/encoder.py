"""The BERT encoder (Devlin et al., 2019) over packed rows.

Weights are float32. Matrix products run in ``compute_dtype``; softmax, LayerNorm and GELU compute in float32 whatever that is. Numerics are
those of Hugging Face's PyTorch BertModel (tests/test_encoder.py pins them to 1e-5).
"""

from __future__ import annotations

import dataclasses
import functools
import math

import keras
import tensorflow as tf

from ner.fused import compiled, dropout, fold, fused


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The keys of a ``model_type: bert`` config.json that shape the encoder."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02


ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1.0 + tf.math.erf(x * math.sqrt(0.5))),
    "gelu_new": lambda x: 0.5 * x * (1.0 + tf.math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))),
    "relu": tf.nn.relu,
}


@functools.cache  # one compiled function for all layers and models
def _add_norm(rate: float, epsilon: float):
    """LayerNorm(residual + dropout(x + bias)): [tokens, hidden], float32 inside."""

    def add_norm(x, bias, residual, scale, shift, seed):
        y = dropout(tf.cast(x, tf.float32) + bias, rate, seed) + tf.cast(residual, tf.float32)
        return tf.cast(_layer_norm(y, scale, shift, epsilon), x.dtype)

    return fused(add_norm)


@functools.cache
def _embed(rate: float, epsilon: float, compute_dtype: tf.DType):
    """dropout(LayerNorm(word + position + token type)): [tokens, hidden] float32 -> compute type.

    types: int32 [tokens], rows of the table float32 [token types, hidden]. They are few, so the sum over all of them is fused with the
    rest, gradient included; a gather's would be a scatter.
    """

    def embed(words, positions, types, table, scale, shift, seed):
        kinds = tf.reduce_sum(tf.one_hot(types, table.shape[0])[:, :, None] * table, 1)
        return tf.cast(dropout(_layer_norm(words + positions + kinds, scale, shift, epsilon), rate, seed), compute_dtype)

    return fused(embed)


def _layer_norm(x: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, epsilon: float) -> tf.Tensor:
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon) * scale + shift


@functools.cache
def _activate(name: str):
    """activation(x + bias): [tokens, intermediate], float32 inside."""

    def activate(x, bias):
        return tf.cast(ACTIVATIONS[name](tf.cast(x, tf.float32) + bias), x.dtype)

    return fused(activate)


@functools.cache
def _add_bias():
    """x + bias: [tokens, width], float32 inside."""
    return fused(lambda x, bias: tf.cast(tf.cast(x, tf.float32) + bias, x.dtype))


@functools.cache
def _attend(scale: float, rate: float):
    """Softmax over the keys of the same sentence, then dropout: scores [rows, heads, length, length], segments int32 [rows, length].

    Its gradient is written out: with the probabilities kept instead of the scores, the backward pass is one pass without an exponential.
    """

    @compiled
    def forward(scores, segments, seed):
        same = segments[:, None, :, None] == segments[:, None, None, :]
        x = tf.where(same, tf.cast(scores, tf.float32) * scale, -1e30)  # exp(-1e30 - max) is exactly 0: nothing leaks between sentences
        x = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
        x = x / tf.reduce_sum(x, -1, keepdims=True)
        return tf.cast(dropout(x, rate, seed), scores.dtype), tf.cast(x, scores.dtype)

    @compiled
    def backward(probabilities, seed, upstream):
        x = tf.cast(probabilities, tf.float32)
        flow = x * dropout(tf.cast(upstream, tf.float32), rate, seed)  # dropout is its own transpose
        return tf.cast((flow - x * tf.reduce_sum(flow, -1, keepdims=True)) * scale, upstream.dtype)

    @tf.custom_gradient
    def attend(scores, segments, seed):
        dropped, probabilities = forward(scores, segments, seed)
        return dropped, lambda upstream: (backward(probabilities, seed, upstream), None, None)

    return attend


class Block(keras.layers.Layer):
    """One transformer layer, post-LayerNorm as in BERT. Query, key and value are one product with a [hidden, 3 x hidden] kernel."""

    def __init__(self, config: EncoderConfig, compute_dtype: tf.DType, dropout_rate: float | None, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        hidden, inner = config.hidden_size, config.intermediate_size
        normal = keras.initializers.TruncatedNormal(stddev=config.initializer_range)

        def kernel(name, *shape):
            return self.add_weight(name=name, shape=shape, initializer=normal)

        def vector(name, size, initializer="zeros"):
            return self.add_weight(name=name, shape=(size,), initializer=initializer)

        self.qkv_kernel, self.qkv_bias = kernel("qkv_kernel", hidden, 3 * hidden), vector("qkv_bias", 3 * hidden)
        self.mix_kernel, self.mix_bias = kernel("mix_kernel", hidden, hidden), vector("mix_bias", hidden)
        self.attention_scale, self.attention_shift = vector("attention_scale", hidden, "ones"), vector("attention_shift", hidden)
        self.inner_kernel, self.inner_bias = kernel("inner_kernel", hidden, inner), vector("inner_bias", inner)
        self.outer_kernel, self.outer_bias = kernel("outer_kernel", inner, hidden), vector("outer_bias", hidden)
        self.output_scale, self.output_shift = vector("output_scale", hidden, "ones"), vector("output_shift", hidden)

        self.half = compute_dtype
        heads, epsilon = config.num_attention_heads, config.layer_norm_eps
        self.heads = heads
        self.add_bias = _add_bias()
        self.activate = _activate(config.hidden_act)
        # One compiled function with dropout and one without, by [training].
        rates = config.hidden_dropout_prob, config.attention_probs_dropout_prob
        hidden_rate, attention_rate = rates if dropout_rate is None else (dropout_rate, dropout_rate)
        scale = 1.0 / math.sqrt(hidden // heads)
        self.attend = {False: _attend(scale, 0.0), True: _attend(scale, attention_rate)}
        self.add_norm = {False: _add_norm(0.0, epsilon), True: _add_norm(hidden_rate, epsilon)}

    def call(self, x: tf.Tensor, segments: tf.Tensor, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """x [rows x length, hidden] in the compute type; segments int32 [rows, length]; seed uint32 scalar."""
        rows, length = segments.shape
        tokens, hidden = x.shape
        assert tokens == rows * length

        def product(a, kernel):
            return tf.matmul(a, tf.cast(kernel, self.half))

        qkv = tf.reshape(self.add_bias(product(x, self.qkv_kernel), self.qkv_bias.value), [rows, length, 3, self.heads, -1])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))  # each [rows, heads, length, hidden / heads]
        probabilities = self.attend[training](tf.matmul(query, key, transpose_b=True), segments, fold(seed, 1))
        context = tf.reshape(tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3]), [tokens, hidden])
        add_norm = self.add_norm[training]
        x = add_norm(
            product(context, self.mix_kernel), self.mix_bias.value, x, self.attention_scale.value, self.attention_shift.value, fold(seed, 2)
        )
        inner = self.activate(product(x, self.inner_kernel), self.inner_bias.value)
        return add_norm(
            product(inner, self.outer_kernel), self.outer_bias.value, x, self.output_scale.value, self.output_shift.value, fold(seed, 3)
        )


class Encoder(keras.layers.Layer):
    """Word, position and token-type embeddings and the blocks."""

    def __init__(self, config: EncoderConfig, compute_dtype: tf.DType = tf.float32, dropout_rate: float | None = None, **kwargs):
        """``dropout_rate`` replaces both dropout rates of the checkpoint's configuration."""
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.config, self.half = config, compute_dtype
        hidden = config.hidden_size
        normal = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
        self.word_embeddings = self.add_weight(name="word_embeddings", shape=(config.vocab_size, hidden), initializer=normal)
        self.position_embeddings = self.add_weight(
            name="position_embeddings", shape=(config.max_position_embeddings, hidden), initializer=normal
        )
        self.type_embeddings = self.add_weight(name="type_embeddings", shape=(config.type_vocab_size, hidden), initializer=normal)
        self.embedding_scale = self.add_weight(name="embedding_scale", shape=(hidden,), initializer="ones")
        self.embedding_shift = self.add_weight(name="embedding_shift", shape=(hidden,), initializer="zeros")
        self.blocks = [Block(config, compute_dtype, dropout_rate, name=f"block_{i}") for i in range(config.num_hidden_layers)]
        rate = config.hidden_dropout_prob if dropout_rate is None else dropout_rate
        self.embed = {False: _embed(0.0, config.layer_norm_eps, compute_dtype), True: _embed(rate, config.layer_norm_eps, compute_dtype)}

    def call(self, pieces, types, positions, segments, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """int32 [rows, length] each, seed uint32 scalar -> the last hidden state [rows x length, hidden] in the compute type."""
        assert pieces.shape == types.shape == positions.shape == segments.shape and pieces.shape.is_fully_defined()
        words = tf.gather(self.word_embeddings.value, tf.reshape(pieces, [-1]))
        places = tf.gather(self.position_embeddings.value, tf.reshape(positions, [-1]))
        x = self.embed[training](
            words,
            places,
            tf.reshape(types, [-1]),
            self.type_embeddings.value,
            self.embedding_scale.value,
            self.embedding_shift.value,
            fold(seed, 0),
        )
        for number, block in enumerate(self.blocks):
            x = block(x, segments, fold(seed, number + 1), training=training)
        return x
