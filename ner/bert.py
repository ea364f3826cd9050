"""BERT (Devlin et al., 2019): its config.json, its layers over packed rows, its tensor names.

RoBERTa, DistilBERT and ELECTRA share the layers.

Weights are float32. With bfloat16 everything handed from one product to the next is rounded to it, the residual stream and the attention
probabilities too. In float32 the outputs are those of Hugging Face's PyTorch classes to 4e-6 of the largest (tests/test_families.py).

A module of a family has ``ARCHITECTURES``, ``PREFIXES``, ``UNUSED``, ``WORDS``, ``read_config`` and ``Encoder``. Its shape has at least
``vocab_size``, ``hidden_size``, ``initializer_range``, ``longest_row`` and ``number_of_weights``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ner import layers, shape
from ner.batches import Batch
from ner.cased import CasedVocabulary
from ner.fused import split_seed, traced
from ner.tensors import Tensor

# The class of transformers that reads the saved model, by model_type in config.json.
ARCHITECTURES = {"bert": "BertForTokenClassification"}
# How tensors' names begin in that class; a bare encoder's lack the first of them.
PREFIXES = ("bert.",)
# Parts of pre-training checkpoints that tagging does not use; anything else that is left over is refused.
UNUSED = ("pooler.", "cls.", "bert.pooler.")
WORDS = "bert.embeddings.word_embeddings.weight"


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The keys of a ``model_type: bert`` config.json that shape the encoder."""

    vocab_size: int = shape.size()
    hidden_size: int = shape.number(1, 2**16)
    num_hidden_layers: int = shape.number(1, 1000)
    num_attention_heads: int = shape.number(1, 2**10)
    intermediate_size: int = shape.size()
    max_position_embeddings: int = shape.size()
    type_vocab_size: int = shape.number(1, 64, 2)
    layer_norm_eps: float = shape.number(1e-20, 1.0, 1e-12)
    hidden_act: str = shape.choice(layers.ACTIVATIONS, "gelu")
    hidden_dropout_prob: float = shape.rate(0.1)
    attention_probs_dropout_prob: float = shape.rate(0.1)
    initializer_range: float = shape.number(0.0, 10.0, 0.02)
    position_embedding_type: str = shape.choice(("absolute",), "absolute")
    is_decoder: bool = shape.choice((False,), False)

    @property
    def longest_row(self) -> int:
        """Word pieces that a sentence may have, special tokens included."""
        return self.max_position_embeddings - self.first_position

    @property
    def first_position(self) -> int:
        """The number of a sentence's first position."""
        return 0

    @property
    def embedding_size(self) -> int:
        """The width of the embeddings."""
        return self.hidden_size

    @property
    def number_of_weights(self) -> int:
        """How many weights the matrices of an encoder of this shape hold."""
        matrices = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        rows = self.vocab_size + self.max_position_embeddings + self.type_vocab_size
        return self.embedding_size * rows + self.num_hidden_layers * matrices


def read_config(config: dict, path: Path, kind: type[BertConfig] = BertConfig) -> BertConfig:
    """The encoder's shape from the content of a config.json; InputError for one that these layers do not compute."""
    found = shape.read(kind, config, path)
    shape.check_heads(found.hidden_size, found.num_attention_heads, path)
    return found


@dataclasses.dataclass(frozen=True)
class Names:
    """What a family calls the tensors of these layers: before all of them, before those of a layer, and inside a layer."""

    model: str = "bert"
    layer: str = "encoder.layer"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    mix: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    inner: str = "intermediate.dense"
    outer: str = "output.dense"
    output_norm: str = "output.LayerNorm"


class Block(keras.layers.Layer):
    """One transformer layer, post-LayerNorm as in BERT. Query, key and value are one product with a [hidden, 3 x hidden] kernel."""

    def __init__(self, config: BertConfig, compute_dtype: tf.DType, dropout_rate: float | None, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        hidden, inner = config.hidden_size, config.intermediate_size

        def kernel(name, *shape):
            return self.add_weight(name=name, shape=shape, initializer="zeros")

        def vector(name, size, initializer="zeros"):
            return self.add_weight(name=name, shape=(size,), initializer=initializer)

        self.qkv_kernel, self.qkv_bias = kernel("qkv_kernel", hidden, 3 * hidden), vector("qkv_bias", 3 * hidden)
        self.mix_kernel, self.mix_bias = kernel("mix_kernel", hidden, hidden), vector("mix_bias", hidden)
        self.attention_scale, self.attention_shift = vector("attention_scale", hidden, "ones"), vector("attention_shift", hidden)
        self.inner_kernel, self.inner_bias = kernel("inner_kernel", hidden, inner), vector("inner_bias", inner)
        self.outer_kernel, self.outer_bias = kernel("outer_kernel", inner, hidden), vector("outer_bias", hidden)
        self.output_scale, self.output_shift = vector("output_scale", hidden, "ones"), vector("output_shift", hidden)

        # One function with dropout and one without, by [training]; all layers share them.
        rates = config.hidden_dropout_prob, config.attention_probs_dropout_prob
        rates = rates if dropout_rate is None else (dropout_rate, dropout_rate)
        fixed = config.num_attention_heads, config.hidden_act, config.layer_norm_eps
        self.compute = {False: transformer(*fixed, 0.0, 0.0), True: transformer(*fixed, *rates)}

    def tensors(self, at: str, names: Names) -> list[Tensor]:
        """Where the variables stand in a checkpoint, below the name ``at``."""
        parts = (names.query, names.key, names.value)
        return [
            Tensor([f"{at}.{part}.weight" for part in parts], self.qkv_kernel, transposed=True),
            Tensor([f"{at}.{part}.bias" for part in parts], self.qkv_bias),
            Tensor([f"{at}.{names.mix}.weight"], self.mix_kernel, transposed=True),
            Tensor([f"{at}.{names.mix}.bias"], self.mix_bias),
            Tensor([f"{at}.{names.attention_norm}.weight"], self.attention_scale),
            Tensor([f"{at}.{names.attention_norm}.bias"], self.attention_shift),
            Tensor([f"{at}.{names.inner}.weight"], self.inner_kernel, transposed=True),
            Tensor([f"{at}.{names.inner}.bias"], self.inner_bias),
            Tensor([f"{at}.{names.outer}.weight"], self.outer_kernel, transposed=True),
            Tensor([f"{at}.{names.outer}.bias"], self.outer_bias),
            Tensor([f"{at}.{names.output_norm}.weight"], self.output_scale),
            Tensor([f"{at}.{names.output_norm}.bias"], self.output_shift),
        ]

    def call(self, x: tf.Tensor, segments: tf.Tensor, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """x [rows x length, hidden] in the compute type; segments int32 [rows, length]; seed uint32 scalar."""
        weights = (tf.convert_to_tensor(getattr(self, name).value) for name in Weights._fields)
        return self.compute[training](x, segments, seed, Weights(*weights))


class Weights(NamedTuple):
    """A layer's weights, float32."""

    qkv_kernel: tf.Tensor
    qkv_bias: tf.Tensor
    mix_kernel: tf.Tensor
    mix_bias: tf.Tensor
    attention_scale: tf.Tensor
    attention_shift: tf.Tensor
    inner_kernel: tf.Tensor
    inner_bias: tf.Tensor
    outer_kernel: tf.Tensor
    outer_bias: tf.Tensor
    output_scale: tf.Tensor
    output_shift: tf.Tensor


@functools.cache
def transformer(heads: int, activation: str, epsilon: float, hidden_rate: float, attention_rate: float):
    """What a layer computes of x [rows x length, hidden], segments, a seed and its Weights, as in ``Block.call``."""
    add_bias, activate, add_norm = layers.add_bias(), layers.activate(activation), layers.add_norm(hidden_rate, epsilon)

    def compute(x: tf.Tensor, segments: tf.Tensor, seed: tf.Tensor, w: Weights) -> tf.Tensor:
        rows, length = segments.shape
        tokens, hidden = x.shape
        assert tokens == rows * length
        product = layers.product
        attend = layers.attend(1.0 / math.sqrt(hidden // heads), attention_rate)
        _, *seeds = split_seed(seed, 4)

        qkv = tf.reshape(add_bias(product(x, w.qkv_kernel), w.qkv_bias), [rows, length, 3, heads, -1])
        query, key, value = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))  # each [rows, heads, length, hidden / heads]
        probabilities = attend(tf.matmul(query, key, transpose_b=True), segments, seeds[0])
        context = tf.reshape(tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3]), [tokens, hidden])
        x = add_norm(product(context, w.mix_kernel), w.mix_bias, x, w.attention_scale, w.attention_shift, seeds[1])
        inner = activate(product(x, w.inner_kernel), w.inner_bias)
        return add_norm(product(inner, w.outer_kernel), w.outer_bias, x, w.output_scale, w.output_shift, seeds[2])

    return traced(compute)


class Encoder(keras.layers.Layer):
    """Embeddings of words, places, token type and written form, and the blocks. All weights begin as zeros and ones, to be loaded."""

    names = Names()
    token_types = True  # whether checkpoints have a table of them; every piece has type 0

    def __init__(
        self,
        config: BertConfig,
        compute_dtype: tf.DType = tf.float32,
        dropout_rate: float | None = None,
        *,
        seen: np.ndarray | None = None,
        cased: CasedVocabulary | None = None,
        **kwargs,
    ):
        """dropout_rate replaces both rates of the checkpoint's configuration. seen, cased: of ``WordEmbeddings``."""
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.config = config
        width, hidden = config.embedding_size, config.hidden_size

        def weight(name, *shape, initializer="zeros"):
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        self.word_embeddings = layers.WordEmbeddings(config.vocab_size, width, seen, cased, name="word_embeddings")
        self.position_embeddings = weight("position_embeddings", config.max_position_embeddings, width)
        self.type_embeddings = weight("type_embeddings", config.type_vocab_size, width) if self.token_types else None
        self.embedding_scale = weight("embedding_scale", width, initializer="ones")
        self.embedding_shift = weight("embedding_shift", width)
        projected = width != hidden
        self.projection_kernel = weight("projection_kernel", width, hidden) if projected else None
        self.projection_bias = weight("projection_bias", hidden) if projected else None
        self.blocks = [Block(config, compute_dtype, dropout_rate, name=f"block_{i}") for i in range(config.num_hidden_layers)]
        rate = config.hidden_dropout_prob if dropout_rate is None else dropout_rate
        epsilon = config.layer_norm_eps
        self.embed = {False: layers.embed(0.0, epsilon, compute_dtype), True: layers.embed(rate, epsilon, compute_dtype)}

    def tensors(self) -> list[Tensor]:
        """Where the variables stand in a checkpoint, in the order in which they are trained."""
        at = f"{self.names.model}.embeddings"
        found = [
            *self.word_embeddings.tensors(f"{at}.word_embeddings.weight"),
            Tensor([f"{at}.position_embeddings.weight"], self.position_embeddings),
            Tensor([f"{at}.token_type_embeddings.weight"], self.type_embeddings),
            Tensor([f"{at}.LayerNorm.weight"], self.embedding_scale),
            Tensor([f"{at}.LayerNorm.bias"], self.embedding_shift),
            Tensor([f"{at}_project.weight"], self.projection_kernel, transposed=True),
            Tensor([f"{at}_project.bias"], self.projection_bias),
        ]
        for number, block in enumerate(self.blocks):
            found += block.tensors(f"{self.names.model}.{self.names.layer}.{number}", self.names)
        return [tensor for tensor in found if tensor.variable is not None]

    def call(self, batch: Batch, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """Batch of int32 [rows, length], seed uint32 scalar -> the last hidden state [rows x length, hidden] in the compute type."""
        assert batch.pieces.shape == batch.positions.shape == batch.segments.shape
        assert batch.pieces.shape.is_fully_defined()
        embed_seed, *seeds = split_seed(seed, 1 + len(self.blocks))
        x = self.embed[training](
            self.word_embeddings(tf.reshape(batch.pieces, [-1]), training=training),
            tf.gather(self.position_embeddings.value, tf.reshape(batch.positions, [-1]) + self.config.first_position),
            tf.zeros([self.config.embedding_size]) if self.type_embeddings is None else self.type_embeddings.value[0],
            self.embedding_scale.value,
            self.embedding_shift.value,
            embed_seed,
        )
        if self.projection_kernel is not None and self.projection_bias is not None:
            x = layers.add_bias()(layers.product(x, self.projection_kernel), self.projection_bias.value)
        for block, block_seed in zip(self.blocks, seeds, strict=True):
            x = block(x, batch.segments, block_seed, training=training)
        return x
