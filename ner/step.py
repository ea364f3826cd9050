"""The train and predict steps: what one replica computes, and the tf.functions that run it on all of them.

The whole mathematics of an update is in ``make_replica_step``: masked cross-entropy over this replica's rows divided by the label count
of ALL replicas, gradients, their sum over replicas, then the optimizer. A host call runs several updates in one tf.while_loop; each
function is traced once per row shape.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from ner.fused import fold
from ner.loss import labelled_pieces, summed_cross_entropy
from ner.optimizer import AdamW
from ner.tagger import TaggingModel


class StepMetrics(NamedTuple):
    """Over a host call: mean finite loss and gradient norm (float32 scalars), first step at which one was not finite (int64; -1: none).

    ``update_norm`` (float32 scalar): the norm of what the call's last update added to the weights.
    ``data_seconds`` (float64 scalar) is the time spent asking the input pipeline for rows: an upper bound on what the device waited.
    """

    loss: tf.Tensor
    gradient_norm: tf.Tensor
    update_norm: tf.Tensor
    first_bad_step: tf.Tensor
    data_seconds: tf.Tensor


def loss_and_gradients(model: TaggingModel, batch, total: tf.Tensor, seed: tf.Tensor, training: bool = True):
    """This replica's share of the loss and of the gradients: summed over replicas they are those of the whole update.

    batch: pieces, types, positions, segments, labels, int32 [rows, length]; total: labelled pieces of the whole update (float32);
    seed: uint32.
    """
    *inputs, labels = batch
    weights = trainable(model)
    with tf.GradientTape() as tape:
        logits = model(*inputs, seed, training=training)
        loss = summed_cross_entropy(logits, labels) / total
    # The embeddings' gradients are sparse; dense ones have static shapes and can be summed over replicas in one go.
    return loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]


def trainable(model: TaggingModel) -> list[tf.Variable]:
    """The model's variables as TensorFlow's own (a Keras variable wraps one)."""
    return [v.value for v in model.trainable_variables]


def make_replica_step(model: TaggingModel, optimizer: AdamW, *, seed: int, accumulate: int = 1, jit: bool = False):
    """``replica_step(batch, step, learning_rate) -> (loss, gradient norm, finite)``: what each replica does in an update.

    batch: this replica's pieces, types, positions, segments, labels, int32 [accumulate x rows, length]; step: int64;
    learning_rate: float32.
    """
    share = (
        tf.function(lambda *args: loss_and_gradients(model, *args), jit_compile=True)
        if jit
        else lambda *args: loss_and_gradients(model, *args)
    )

    def accumulated(batch, total, dropout_seed):
        if accumulate == 1:
            return share(batch, total, dropout_seed)
        micro = [tf.reshape(field, [accumulate, -1, field.shape[1]]) for field in batch]
        loss, gradients = tf.constant(0.0), [tf.zeros(v.shape) for v in trainable(model)]
        for i in tf.range(accumulate):
            part = tuple(tf.ensure_shape(field[i], field.shape[1:]) for field in micro)
            more, new = share(part, total, fold(dropout_seed, i))
            loss, gradients = loss + more, [g + n for g, n in zip(gradients, new, strict=True)]
        return loss, gradients

    def replica_step(batch, step, learning_rate):
        replica = tf.distribute.get_replica_context()
        total = tf.maximum(replica.all_reduce("SUM", labelled_pieces(batch[-1], model.num_tags)), 1.0)
        dropout_seed = fold(fold(tf.constant(seed, tf.uint32), step), replica.replica_id_in_sync_group)
        loss, gradients = accumulated(batch, total, dropout_seed)
        loss, gradients = replica.all_reduce("SUM", loss), replica.all_reduce("SUM", gradients)
        norm, finite = optimizer.apply(gradients, learning_rate, tf.math.is_finite(loss))
        return loss, norm, finite

    return replica_step


def make_train_steps(strategy: tf.distribute.Strategy, replica_step, update_norm):
    """``train_steps(iterator, count, first_step, learning_rates) -> StepMetrics``: ``count`` updates in one host call.

    replica_step: of ``make_replica_step``; update_norm: of its optimizer.
    iterator: over a dataset of ``ner.batches.distribute``; count, first_step: int64 scalars; learning_rates: float32 [at least count].
    """

    def one(values):  # the same on every replica: take the first
        return strategy.experimental_local_results(values)[0]

    @tf.function
    def train_steps(iterator, count, first_step, learning_rates):
        number = tf.constant(0.0)
        good = tf.constant(False)
        losses, norms, bad, waited = tf.constant(0.0), tf.constant(0.0), tf.constant(-1, tf.int64), tf.constant(0.0, tf.float64)
        for i in tf.range(count):
            asked = tf.timestamp()
            batch = next(iterator)
            waited += tf.timestamp() - asked
            loss, norm, finite = strategy.run(replica_step, args=(batch, first_step + i, learning_rates[i]))
            good = one(finite)
            losses, norms = losses + tf.where(good, one(loss), 0.0), norms + tf.where(good, one(norm), 0.0)
            number += tf.cast(good, tf.float32)
            bad = tf.where((bad < 0) & ~good, first_step + i, bad)
        update = tf.where(good, one(strategy.run(update_norm, args=(learning_rates[count - 1],))), 0.0)  # 0: the last one was left out
        return StepMetrics(tf.math.divide_no_nan(losses, number), tf.math.divide_no_nan(norms, number), update, bad, waited)

    return train_steps


def log_probabilities(model: TaggingModel, pieces, types, positions, segments):
    """Of the real tags, float32 [rows, length, tags]; the padding label is left out."""
    logits = model(pieces, types, positions, segments, tf.constant(0, tf.uint32), training=False)
    return tf.nn.log_softmax(logits[..., : model.num_tags])


def make_predict_step(strategy: tf.distribute.Strategy, model: TaggingModel, *, jit: bool = False):
    """``predict_step(iterator) -> log-probabilities``, float32 [rows per step, length, tags], in the order of the rows."""

    def compute(*inputs):
        return log_probabilities(model, *inputs)

    if jit:
        compute = tf.function(compute, jit_compile=True)

    @tf.function
    def predict_step(iterator):
        return strategy.gather(strategy.run(lambda batch: compute(*batch[:-1]), args=(next(iterator),)), axis=0)

    return predict_step
