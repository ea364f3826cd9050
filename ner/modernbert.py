"""ModernBERT (Warner et al., 2024), and with it mmBERT, Ettin and ModernCamemBERT: LayerNorm first, rotary positions, no biases.

Every third layer sees the whole sentence, the others ``local_attention`` / 2 pieces to either side. Between the layers and the classifier
stands a head of a dense layer, GELU and LayerNorm, which pre-training shares; the first checkpoints lack it, and then it begins at random.

Weights are float32. The residual stream is a sum over all layers and stays float32; what enters a product is in the compute type.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ner import layers, shape
from ner.batches import Batch
from ner.cased import CasedVocabulary
from ner.errors import InputError
from ner.fused import dropout, fused, split_seed
from ner.tensors import Tensor

ARCHITECTURES = {"modernbert": "ModernBertForTokenClassification"}
PREFIXES = ("model.", "head.")
UNUSED = ("decoder.",)
WORDS = "model.embeddings.tok_embeddings.weight"
FULL, LOCAL = "full_attention", "sliding_attention"
THETA = {FULL: 160_000.0, LOCAL: 10_000.0}
OLD_KEYS = {FULL: "global_rope_theta", LOCAL: "local_rope_theta"}  # of transformers 4


@dataclasses.dataclass(frozen=True)
class ModernBertConfig:
    """The keys of a ``model_type: modernbert`` config.json that shape the encoder.

    Attributes:
        thetas: of each layer, the base of its rotary positions.
        reaches: of each layer, how many pieces away it sees; None for the whole sentence.
    """

    vocab_size: int = shape.size()
    hidden_size: int = shape.number(1, 2**16)
    intermediate_size: int = shape.size()
    num_hidden_layers: int = shape.number(1, 1000)
    num_attention_heads: int = shape.number(1, 2**10)
    max_position_embeddings: int = shape.size(8192)
    local_attention: int = shape.size(128)
    norm_eps: float = shape.number(1e-20, 1.0, 1e-5)
    hidden_activation: str = shape.choice(layers.ACTIVATIONS, "gelu")
    classifier_activation: str = shape.choice(layers.ACTIVATIONS, "gelu")
    embedding_dropout: float = shape.rate(0.0)
    attention_dropout: float = shape.rate(0.0)
    mlp_dropout: float = shape.rate(0.0)
    initializer_range: float = shape.number(0.0, 10.0, 0.02)
    norm_bias: bool = shape.choice((False,), False)
    attention_bias: bool = shape.choice((False,), False)
    mlp_bias: bool = shape.choice((False,), False)
    classifier_bias: bool = shape.choice((False,), False)
    thetas: tuple[float, ...] = ()
    reaches: tuple[int | None, ...] = ()

    @property
    def longest_row(self) -> int:
        """Word pieces that a sentence may have, special tokens included."""
        return self.max_position_embeddings

    @property
    def number_of_weights(self) -> int:
        """How many weights the matrices of an encoder of this shape hold, its head aside."""
        matrices = 4 * self.hidden_size**2 + 3 * self.hidden_size * self.intermediate_size
        return self.hidden_size * self.vocab_size + self.num_hidden_layers * matrices


def read_config(config: dict, path: Path) -> ModernBertConfig:
    """The encoder's shape from the content of a config.json; InputError for one that these layers do not compute."""
    found = shape.read(ModernBertConfig, config, path)
    shape.check_heads(found.hidden_size, 2 * found.num_attention_heads, path)  # a head is rotated in two halves
    kinds = _kinds(config, found.num_hidden_layers, path)
    thetas = {kind: _theta(config, kind, path) for kind in (FULL, LOCAL)}
    reaches = {FULL: None, LOCAL: found.local_attention // 2}
    return dataclasses.replace(found, thetas=tuple(thetas[kind] for kind in kinds), reaches=tuple(reaches[kind] for kind in kinds))


def _kinds(config: dict, count: int, path: Path) -> list[str]:
    """The kind of attention of each layer."""
    kinds = config.get("layer_types")
    if kinds is None:
        every = config.get("global_attn_every_n_layers", 3)
        if type(every) is not int or every < 1:
            raise InputError(f"global_attn_every_n_layers is {every!r}", path=path, hint=shape.HINT)
        kinds = [LOCAL if number % every else FULL for number in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count or any(kind not in (FULL, LOCAL) for kind in kinds):
        raise InputError(f"layer_types is not {count} times {FULL} or {LOCAL}", path=path, hint=shape.HINT)
    return kinds


def _theta(config: dict, kind: str, path: Path) -> float:
    """The base of the rotary positions of one kind of attention, from either way to write it."""
    rotary: Any = config.get("rope_parameters") or {}
    own: Any = rotary.get(kind) or {} if isinstance(rotary, dict) and rotary.keys() <= {FULL, LOCAL} else None
    plain = isinstance(own, dict) and all(own.get(key) in (None, "default") for key in ("rope_type", "type"))
    if not plain or config.get("rope_scaling"):
        what = "its rotary positions are scaled, or written in another way than transformers does"
        raise InputError(what, path=path, hint="use a checkpoint with plain ones")
    theta = own.get("rope_theta", config.get(OLD_KEYS[kind], THETA[kind]))
    if theta is None and kind == LOCAL:  # so transformers 4 read it
        return _theta(config, FULL, path)
    if not isinstance(theta, (int, float)) or isinstance(theta, bool) or not 1 < theta < 1e12:
        raise InputError(f"the theta of {kind} is {theta!r}", path=path, hint=shape.HINT)
    return float(theta)


@functools.cache
def _embed(rate: float, epsilon: float):
    """dropout(LayerNorm(words)): float32 [tokens, hidden]."""
    return fused(lambda words, scale, seed: dropout(layers.layer_norm(words, scale, epsilon), rate, seed))


@functools.cache
def _add_norm(rate: float, epsilon: float):
    """The residual stream with dropout(x) added, float32, and its LayerNorm in the type of x: both [tokens, hidden]."""

    def add(x, residual, scale, seed):
        y = residual + dropout(tf.cast(x, tf.float32), rate, seed)
        return y, tf.cast(layers.layer_norm(y, scale, epsilon), x.dtype)

    return fused(add)


@functools.cache
def _gate(name: str, rate: float):
    """dropout(activation(first half) x second half): [tokens, 2 x intermediate] -> [tokens, intermediate] (GeGLU; Shazeer, 2020)."""

    def gate(x, seed):
        value, factor = tf.split(tf.cast(x, tf.float32), 2, axis=-1)
        return tf.cast(dropout(layers.ACTIVATIONS[name](value) * factor, rate, seed), x.dtype)

    return fused(gate)


@functools.cache
def _activate_norm(name: str, epsilon: float):
    """LayerNorm(activation(x)): [tokens, hidden]."""

    def activate(x, scale):
        return tf.cast(layers.layer_norm(layers.ACTIVATIONS[name](tf.cast(x, tf.float32)), scale, epsilon), x.dtype)

    return fused(activate)


@functools.cache
def _rotate(length: int, size: int, theta: float):
    """Query, key and value of each head, query and key turned by their positions (Su et al., 2021), as in transformers: halves, not pairs.

    x [rows, length, 3, heads, size]; positions int32 [rows, length], each below ``length`` -> [3, rows, heads, length, size].
    """
    # NumPy constants: a function of TensorFlow's, kept here, would belong to the graph that was traced first.
    angles = np.arange(length)[:, None] * (1.0 / theta ** (np.arange(0, size, 2, dtype=np.float32) / size)).astype(np.float32)
    cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def rotate(x, positions):
        cosine, sine = (tf.gather(tf.constant(table), positions)[:, :, None, None] for table in (cosines, sines))
        turned, value = tf.cast(x[:, :, :2], tf.float32), x[:, :, 2:]
        first, second = tf.split(turned, 2, axis=-1)
        turned = tf.concat([first * cosine - second * sine, second * cosine + first * sine], -1)
        return tf.transpose(tf.concat([tf.cast(turned, x.dtype), value], 2), [2, 0, 3, 1, 4])

    return fused(rotate)


class Block(keras.layers.Layer):
    """One layer: attention and a gated feed-forward part, each of the normalised residual stream and added to it."""

    def __init__(self, config: ModernBertConfig, number: int, compute_dtype: tf.DType, dropout_rate: float | None, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads

        def kernel(name, rows, columns):
            return self.add_weight(name=name, shape=(rows, columns), initializer="zeros")

        # The first layer's input is normalised already, by the embeddings.
        self.attention_scale = self.add_weight(name="attention_scale", shape=(hidden,), initializer="ones") if number else None
        self.qkv_kernel = kernel("qkv_kernel", hidden, 3 * hidden)
        self.mix_kernel = kernel("mix_kernel", hidden, hidden)
        self.output_scale = self.add_weight(name="output_scale", shape=(hidden,), initializer="ones")
        self.inner_kernel = kernel("inner_kernel", hidden, 2 * inner)
        self.outer_kernel = kernel("outer_kernel", inner, hidden)

        attention_rate, mlp_rate = (config.attention_dropout, config.mlp_dropout) if dropout_rate is None else [dropout_rate] * 2
        scale, reach = 1.0 / math.sqrt(hidden // heads), config.reaches[number]
        self.heads, self.theta = heads, config.thetas[number]
        # One compiled function with dropout and one without, by [training].
        self.products_dtype = compute_dtype
        self.attend = {on: layers.attend(scale, on * attention_rate, reach) for on in (False, True)}
        self.add_norm = {on: _add_norm(on * attention_rate, config.norm_eps) for on in (False, True)}
        self.add_norm_alone = _add_norm(0.0, config.norm_eps)
        self.gate = {on: _gate(config.hidden_activation, on * mlp_rate) for on in (False, True)}

    def tensors(self, at: str) -> list[Tensor]:
        """Where the variables stand in a checkpoint, below the name ``at``."""
        found = [
            Tensor([f"{at}.attn_norm.weight"], self.attention_scale),
            Tensor([f"{at}.attn.Wqkv.weight"], self.qkv_kernel, transposed=True),
            Tensor([f"{at}.attn.Wo.weight"], self.mix_kernel, transposed=True),
            Tensor([f"{at}.mlp_norm.weight"], self.output_scale),
            Tensor([f"{at}.mlp.Wi.weight"], self.inner_kernel, transposed=True),
            Tensor([f"{at}.mlp.Wo.weight"], self.outer_kernel, transposed=True),
        ]
        return [tensor for tensor in found if tensor.variable is not None]

    def call(
        self, added: tf.Tensor | None, residual: tf.Tensor, batch: Batch, seed: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """residual: the stream, float32, added: what the layer before adds to it, in the compute type; both [rows x length, hidden].

        Returns the same of this layer. The sum is the next layer's work, because it and the LayerNorm behind it are one pass.
        """
        rows, length = batch.segments.shape
        tokens, hidden = residual.shape
        assert tokens == rows * length
        size = hidden // self.heads
        _, *seeds = split_seed(seed, 4)
        if self.attention_scale is None:
            x = tf.cast(residual, self.products_dtype)
        else:
            residual, x = self.add_norm_alone(added, residual, self.attention_scale.value, seed)
        qkv = tf.reshape(layers.product(x, self.qkv_kernel), [rows, length, 3, self.heads, size])
        query, key, value = tf.unstack(_rotate(length, size, self.theta)(qkv, batch.positions))
        probabilities = self.attend[training](tf.matmul(query, key, transpose_b=True), batch.segments, seeds[0])
        context = tf.reshape(tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3]), [tokens, hidden])
        mixed = layers.product(context, self.mix_kernel)
        residual, x = self.add_norm[training](mixed, residual, self.output_scale.value, seeds[1])
        inner = self.gate[training](layers.product(x, self.inner_kernel), seeds[2])
        return layers.product(inner, self.outer_kernel), residual


class Encoder(keras.layers.Layer):
    """Embeddings, the blocks, the last LayerNorm and the head before the classifier."""

    def __init__(
        self,
        config: ModernBertConfig,
        compute_dtype: tf.DType = tf.float32,
        dropout_rate: float | None = None,
        *,
        seen: np.ndarray | None = None,
        cased: CasedVocabulary | None = None,
        **kwargs,
    ):
        """dropout_rate replaces the dropout rates of the checkpoint's configuration. seen, cased: of ``WordEmbeddings``."""
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.config = config
        hidden = config.hidden_size

        def scale(name):
            return self.add_weight(name=name, shape=(hidden,), initializer="ones")

        self.word_embeddings = layers.WordEmbeddings(config.vocab_size, hidden, seen, cased, name="word_embeddings")
        self.embedding_scale = scale("embedding_scale")
        self.blocks = [
            Block(config, number, compute_dtype, dropout_rate, name=f"block_{number}") for number in range(config.num_hidden_layers)
        ]
        self.final_scale = scale("final_scale")
        # All other weights are loaded and begin as zeros. A checkpoint may lack this one.
        normal = keras.initializers.TruncatedNormal(stddev=config.initializer_range / math.sqrt(2 * config.num_hidden_layers), seed=0)
        self.head_kernel = self.add_weight(name="head_kernel", shape=(hidden, hidden), initializer=normal)
        self.head_scale = scale("head_scale")
        embedding_rate = config.embedding_dropout if dropout_rate is None else dropout_rate
        self.embed = {on: _embed(on * embedding_rate, config.norm_eps) for on in (False, True)}
        self.add_norm = _add_norm(0.0, config.norm_eps)
        self.activate_norm = _activate_norm(config.classifier_activation, config.norm_eps)

    def tensors(self) -> list[Tensor]:
        """Where the variables stand in a checkpoint, in the order in which they are trained."""
        return [
            *self.word_embeddings.tensors(WORDS),
            Tensor(["model.embeddings.norm.weight"], self.embedding_scale),
            *(tensor for number, block in enumerate(self.blocks) for tensor in block.tensors(f"model.layers.{number}")),
            Tensor(["model.final_norm.weight"], self.final_scale),
            Tensor(["head.dense.weight"], self.head_kernel, transposed=True, optional=True),
            Tensor(["head.norm.weight"], self.head_scale, optional=True),
        ]

    def call(self, batch: Batch, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """Batch of int32 [rows, length], seed uint32 scalar -> what the classifier takes [rows x length, hidden] in the compute type."""
        assert batch.pieces.shape == batch.positions.shape == batch.segments.shape
        assert batch.pieces.shape.is_fully_defined()
        words = self.word_embeddings(tf.reshape(batch.pieces, [-1]), training=training)
        embed_seed, *seeds = split_seed(seed, 1 + len(self.blocks))
        residual = self.embed[training](words, self.embedding_scale.value, embed_seed)
        added = None
        for block, block_seed in zip(self.blocks, seeds, strict=True):
            added, residual = block(added, residual, batch, block_seed, training=training)
        assert added is not None, "an encoder has layers"
        _, x = self.add_norm(added, residual, self.final_scale.value, seed)
        return self.activate_norm(layers.product(x, self.head_kernel), self.head_scale.value)
