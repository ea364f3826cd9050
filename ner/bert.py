"""All that is special about BERT (Devlin et al., 2019): its config.json, its layers over packed rows, its tensor names, its special tokens.

Weights are float32. Matrix products run in ``compute_dtype``. With bfloat16 everything handed from one product to the next is rounded to
it, the residual stream and the attention probabilities too; softmax, LayerNorm and GELU compute in float32. In float32 the outputs are
those of Hugging Face's PyTorch BertModel to 1e-5 (tests/test_bert.py).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ner.batches import Batch
from ner.errors import InputError
from ner.fused import compiled, dropout, fold, fused
from ner.tensors import Tensor

ARCHITECTURE = "BertForTokenClassification"  # the class of transformers that reads the saved model
CLS, SEP, UNK = "[CLS]", "[SEP]", "[UNK]"
# Parts of pre-training checkpoints that tagging does not use; anything else that is left over is refused.
UNUSED = ("pooler.", "cls.", "bert.pooler.", "embeddings.position_ids", "bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
TYPES = "bert.embeddings.token_type_embeddings.weight"


@dataclasses.dataclass(frozen=True)
class BertConfig:
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

    @property
    def longest_row(self) -> int:
        """Word pieces that a sentence may have, special tokens included."""
        return self.max_position_embeddings


# What the numbers of a config.json may be, before memory is asked for them.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "intermediate_size"), (1, 10**7)),
    **{"type_vocab_size": (1, 64), "hidden_size": (1, 2**16), "num_hidden_layers": (1, 1000), "num_attention_heads": (1, 2**10)},
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), (0.0, 0.99)),
    **{"layer_norm_eps": (1e-20, 1.0), "initializer_range": (0.0, 10.0)},
}


def read_config(config: dict, path: Path) -> BertConfig:
    """The encoder's shape from the content of a config.json; ``path`` is the file, for messages.

    Raises InputError for a key that is missing, of a wrong type or out of range, and for a BERT that these layers do not compute.
    """
    for key, wanted in {"position_embedding_type": "absolute", "is_decoder": False}.items():
        if config.get(key, wanted) != wanted:
            raise InputError(f"{key} {config[key]!r} is not supported", path=path, hint=f"use a BERT with {key} {wanted!r}")
    if str(config.get("hidden_act", "gelu")) not in ACTIVATIONS:
        raise InputError(f"hidden_act {config['hidden_act']!r} is not supported", path=path, hint=f"one of {', '.join(ACTIVATIONS)} is")
    values = {}
    for field in dataclasses.fields(BertConfig):
        if field.name in config:
            values[field.name] = config[field.name]
            kinds: tuple[type, ...] = {"int": (int,), "float": (int, float), "str": (str,)}[str(field.type)]
            if not isinstance(config[field.name], kinds) or isinstance(config[field.name], bool):
                raise InputError(f"{field.name} is {config[field.name]!r}", path=path, hint=f"it must be a {field.type}")
        elif field.default is dataclasses.MISSING:
            raise InputError(f"{field.name} is missing", path=path, hint="use a complete BERT checkpoint")
    shape = BertConfig(**values)
    for name, (low, high) in RANGES.items():
        if not low <= getattr(shape, name) <= high:  # NaN too
            what = f"{name} is {getattr(shape, name)!r}, not from {low:,} to {high:,}"
            raise InputError(what, path=path, hint="use a complete BERT checkpoint")
    if shape.hidden_size % shape.num_attention_heads:
        raise InputError("hidden_size is not a multiple of num_attention_heads", path=path, hint="use a complete BERT checkpoint")
    return shape


def number_of_weights(shape: BertConfig) -> int:
    """How many weights the matrices of an encoder of this shape hold."""
    matrices = 4 * shape.hidden_size**2 + 2 * shape.hidden_size * shape.intermediate_size
    rows = shape.vocab_size + shape.max_position_embeddings + shape.type_vocab_size
    return shape.hidden_size * rows + shape.num_hidden_layers * matrices


def current_name(name: str) -> str:
    """A tensor's name in BertForTokenClassification, for names of a bare encoder and of the first TensorFlow checkpoints."""
    name = name if name.startswith(("bert.", "classifier.")) else f"bert.{name}"
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def with_types(tensors: dict[str, np.ndarray], old: BertConfig, new: BertConfig) -> dict[str, np.ndarray]:
    """A checkpoint's tensors for an encoder with another number of token types: each begins as the checkpoint's type 0."""
    table = tensors.get(TYPES)
    if table is None or table.ndim != 2 or old.type_vocab_size == new.type_vocab_size:
        return tensors
    return {**tensors, TYPES: np.repeat(table[:1], new.type_vocab_size, axis=0)}


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

    def __init__(self, config: BertConfig, compute_dtype: tf.DType, dropout_rate: float | None, **kwargs):
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

        self.products_dtype = compute_dtype
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

    def tensors(self, at: str) -> list[Tensor]:
        """Where the variables stand in a checkpoint, below the name ``at``."""
        parts = ("query", "key", "value")
        return [
            Tensor([f"{at}.attention.self.{part}.weight" for part in parts], self.qkv_kernel, transposed=True),
            Tensor([f"{at}.attention.self.{part}.bias" for part in parts], self.qkv_bias),
            Tensor([f"{at}.attention.output.dense.weight"], self.mix_kernel, transposed=True),
            Tensor([f"{at}.attention.output.dense.bias"], self.mix_bias),
            Tensor([f"{at}.attention.output.LayerNorm.weight"], self.attention_scale),
            Tensor([f"{at}.attention.output.LayerNorm.bias"], self.attention_shift),
            Tensor([f"{at}.intermediate.dense.weight"], self.inner_kernel, transposed=True),
            Tensor([f"{at}.intermediate.dense.bias"], self.inner_bias),
            Tensor([f"{at}.output.dense.weight"], self.outer_kernel, transposed=True),
            Tensor([f"{at}.output.dense.bias"], self.outer_bias),
            Tensor([f"{at}.output.LayerNorm.weight"], self.output_scale),
            Tensor([f"{at}.output.LayerNorm.bias"], self.output_shift),
        ]

    def call(self, x: tf.Tensor, segments: tf.Tensor, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """x [rows x length, hidden] in the compute type; segments int32 [rows, length]; seed uint32 scalar."""
        rows, length = segments.shape
        tokens, hidden = x.shape
        assert tokens == rows * length

        def product(a, kernel):
            return tf.matmul(a, tf.cast(kernel, self.products_dtype))

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

    def __init__(self, config: BertConfig, compute_dtype: tf.DType = tf.float32, dropout_rate: float | None = None, **kwargs):
        """``dropout_rate`` replaces both dropout rates of the checkpoint's configuration."""
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.config, self.products_dtype = config, compute_dtype
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

    def tensors(self) -> list[Tensor]:
        """Where the variables stand in a checkpoint, in the order in which they are trained."""
        at = "bert.embeddings"
        embeddings = [
            Tensor([f"{at}.word_embeddings.weight"], self.word_embeddings),
            Tensor([f"{at}.position_embeddings.weight"], self.position_embeddings),
            Tensor([TYPES], self.type_embeddings),
            Tensor([f"{at}.LayerNorm.weight"], self.embedding_scale),
            Tensor([f"{at}.LayerNorm.bias"], self.embedding_shift),
        ]
        return embeddings + [t for number, block in enumerate(self.blocks) for t in block.tensors(f"bert.encoder.layer.{number}")]

    def call(self, batch: Batch, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """Batch of int32 [rows, length], seed uint32 scalar -> the last hidden state [rows x length, hidden] in the compute type."""
        assert batch.pieces.shape == batch.types.shape == batch.positions.shape == batch.segments.shape
        assert batch.pieces.shape.is_fully_defined()
        words = tf.gather(self.word_embeddings.value, tf.reshape(batch.pieces, [-1]))
        places = tf.gather(self.position_embeddings.value, tf.reshape(batch.positions, [-1]))
        x = self.embed[training](
            words,
            places,
            tf.reshape(batch.types, [-1]),
            self.type_embeddings.value,
            self.embedding_scale.value,
            self.embedding_shift.value,
            fold(seed, 0),
        )
        for number, block in enumerate(self.blocks):
            x = block(x, batch.segments, fold(seed, number + 1), training=training)
        return x
