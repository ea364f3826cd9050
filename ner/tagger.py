"""The model: an encoder, and a head that turns each word piece's hidden state into scores of the tags.

A head owns its variables, its loss over a Batch, its decoding and the names of its tensors. This file holds the linear one, ner/counted.py
the one with counted transitions, ner/crf.py the one with learnt ones. Another one is a class with the same methods, named in
``ner.pretrained.HEADS``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from ner import decoding
from ner.batches import NO_LABEL, Batch
from ner.fused import dropout, fold_in
from ner.tensors import Tensor


def cross_entropy(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The sum over labelled pieces of -log softmax(scores)[label]: float32 scalar.

    scores float32 [rows, length, tags]; labels int32 [rows, length], NO_LABEL where a piece counts nothing. Divide by the labelled pieces
    of ALL replicas and micro-batches for the mean.
    """
    assert scores.dtype == tf.float32 and scores.shape[:2] == labels.shape
    labelled = labels != NO_LABEL
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(labelled, labels, 0), scores)
    return tf.reduce_sum(tf.where(labelled, losses, 0.0))


class LinearHead(keras.layers.Layer):
    """Dropout and a dense layer: the scores of each piece's tags, on their own."""

    FILE = "model.safetensors"  # where its own tensors stand

    def __init__(self, hidden_size: int, tags: Sequence[str], *, dropout_rate: float = 0.0, initializer_range: float = 0.02, seed: int = 0):
        """tags: their names by id."""
        super().__init__(autocast=False, dtype="float32", name="head")
        self.tags, self.dropout_rate = tuple(tags), dropout_rate
        normal = keras.initializers.TruncatedNormal(stddev=initializer_range, seed=seed)
        self.tag_kernel = self.add_weight(name="tag_kernel", shape=(hidden_size, len(tags)), initializer=normal)
        self.tag_bias = self.add_weight(name="tag_bias", shape=(len(tags),), initializer="zeros")

    def call(self, hidden: tf.Tensor, batch: Batch, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """hidden [rows x length, hidden size], seed uint32 scalar -> scores float32 [rows, length, tags]."""
        hidden = dropout(tf.cast(hidden, tf.float32), self.dropout_rate if training else 0.0, seed)
        scores = tf.matmul(hidden, self.tag_kernel.value) + self.tag_bias.value
        return tf.reshape(scores, [*batch.pieces.shape, len(self.tags)])

    def loss(self, scores: tf.Tensor, batch: Batch) -> tf.Tensor:
        """The sum of the labelled pieces' losses, float32 scalar; ner.step divides it."""
        return cross_entropy(scores, batch.labels)

    def to_decode(self, scores: tf.Tensor) -> tf.Tensor:
        """What ``decode`` takes of each piece, float32 [rows, length, tags]: the tags' log-probabilities."""
        return tf.nn.log_softmax(scores)

    def count(self, tag_ids: np.ndarray, lengths: np.ndarray) -> None:
        """What decoding takes from the training tags: nothing. tag_ids: integers [words]; lengths: int64 [sentences], words of each."""

    def tune(self, found: np.ndarray, sentences: Sequence[Sequence], gold: Sequence[list[str]]) -> None:
        """What a validation sets in decoding, by its sentences' own tags, ``gold``: nothing. found, sentences: as of ``decode``."""

    def decode(self, found: np.ndarray, sentences: Sequence[Sequence], *, iob2: bool = True) -> tuple[list[list[str]], list[list[float]]]:
        """One tag and one score in [0, 1] for each word: see ``ner.decoding.decode``.

        found: float32 [words of all sentences, tags], by ``to_decode``; sentences: only their lengths are read.
        """
        return decoding.decode(found, sentences, self.tags, iob2=iob2)

    def chain(self) -> tuple[np.ndarray, np.ndarray]:
        """What is added to the words' scores for neighbouring tags, [tags + 1, tags], last row for the first tag; and for the last, [tags].
        -inf where IOB2 does not allow it."""
        return np.where(decoding.legal_steps(self.tags), 0.0, -np.inf), np.zeros(len(self.tags))

    def tensors(self) -> list[Tensor]:
        """Where the variables stand in a checkpoint."""
        return [Tensor(["classifier.weight"], self.tag_kernel, transposed=True), Tensor(["classifier.bias"], self.tag_bias)]


class TaggingModel(keras.layers.Layer):
    """An encoder of word pieces and a head over its last hidden state."""

    def __init__(self, encoder: keras.layers.Layer, head: LinearHead):
        super().__init__(autocast=False, dtype="float32", name="tagging_model")
        self.encoder, self.head = encoder, head

    def call(self, batch: Batch, seed: tf.Tensor, training: bool) -> tf.Tensor:
        """Batch of int32 [rows, length], seed uint32 scalar -> scores float32 [rows, length, tags]."""
        hidden = self.encoder(batch, fold_in(seed, 0), training=training)
        return self.head(hidden, batch, fold_in(seed, 1), training=training)

    def tensors(self) -> list[Tensor]:
        """Every variable and where it stands in a checkpoint."""
        return self.head.tensors() + self.encoder.tensors()

    @functools.cached_property
    def trained(self) -> dict[str, tf.Variable]:
        """The variables that training updates as TensorFlow's own (a Keras variable wraps one), by the name of their first tensor."""
        return {tensor.names[0]: tensor.variable.value for tensor in self.tensors() if tensor.variable.trainable}
