"""Padding-masked cross-entropy."""

from __future__ import annotations

import tensorflow as tf


def labelled_pieces(labels: tf.Tensor, num_tags: int) -> tf.Tensor:
    """How many pieces carry a tag: labels int32 [rows, length] -> float32 scalar. ``num_tags`` itself is the padding label."""
    return tf.reduce_sum(tf.cast(labels != num_tags, tf.float32))


def summed_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The sum over labelled pieces of -log softmax over the real tags: float32 scalar.

    logits float32 [rows, length, num_tags + 1]; labels int32 [rows, length]. The padding label's unit takes no part: its logit is left
    out of the softmax and pieces that carry it weigh nothing. Divide by the labelled pieces of ALL replicas and micro-batches for the mean.
    """
    assert logits.dtype == tf.float32 and logits.shape[:2] == labels.shape
    num_tags = logits.shape[-1] - 1
    real = labels != num_tags
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(real, labels, 0), logits[..., :num_tags])
    return tf.reduce_sum(tf.where(real, losses, 0.0))
