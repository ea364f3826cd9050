"""One update: forward, loss, gradients, their sum over replicas, clipping, the guard against NaN, AdamW (by ner/optimizer.py). And the
prediction step.

``update`` runs several updates in one host call: a ``tf.while_loop`` around ``strategy.run``. Each function is traced once per row length.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from ner import batches
from ner.batches import NO_LABEL, Batch
from ner.fused import fold_in
from ner.optimizer import AdamW
from ner.tagger import TaggingModel

# (scores float32 [rows, length, tags], batch) -> the sum of the rows' losses, not their mean.
LossFunction = Callable[[tf.Tensor, Batch], tf.Tensor]


class Metrics(NamedTuple):
    """Over a host call. Scalars: counts and steps int64, the others float32 but for ``data_seconds``.

    Attributes:
        loss, gradient_norm: means over the updates that were applied; NaN where none was. The norm is the one before clipping.
        update_norm: the norm of what the last update added to the weights; 0 if it was skipped.
        skipped: how many updates were skipped because loss, gradient or learning rate was not finite.
        first_skipped: the step of the first of them; -1: none.
        data_seconds: how long updates waited for their rows (float64).
    """

    loss: tf.Tensor
    gradient_norm: tf.Tensor
    update_norm: tf.Tensor
    skipped: tf.Tensor
    first_skipped: tf.Tensor
    data_seconds: tf.Tensor


@tf.autograph.experimental.do_not_convert  # no loop and no branch of tensors in it; converting its Python would slow down every start
def loss_and_gradients(model: TaggingModel, loss_function: LossFunction, batch: Batch, total: tf.Tensor, seed: tf.Tensor):
    """This replica's share of the loss and of the gradients: summed over replicas they are those of the whole update.

    batch: int32 [rows, length]; total: labelled pieces of the whole update (float32); seed: of the dropout (uint32).
    """
    with tf.GradientTape() as tape:
        scores = model(batch, seed, training=True)
        loss = loss_function(scores, batch) / total
    # The embeddings' gradients are sparse; dense ones have static shapes and can be summed over replicas in one go.
    return loss, [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, list(model.trained.values()))]


def accumulated(forward_backward: Callable, model: TaggingModel, micro_batches: int, batch: Batch, total: tf.Tensor, seed: tf.Tensor):
    """``loss_and_gradients`` summed over micro-batches of equally many rows, one after another."""
    if micro_batches == 1:
        return forward_backward(batch, total, seed)
    parts = batch.map(lambda field: tf.reshape(field, [micro_batches, -1, field.shape[1]]))
    loss, gradients = tf.constant(0.0), [tf.zeros(v.shape) for v in model.trained.values()]
    for i in tf.range(micro_batches):
        part = Batch(*(tf.ensure_shape(field[i], field.shape[1:]) for field in parts))
        more, new = forward_backward(part, total, fold_in(seed, i))
        loss, gradients = loss + more, [g + n for g, n in zip(gradients, new, strict=True)]
    return loss, gradients


def make_replica_update(
    model: TaggingModel,
    optimizer: AdamW,
    loss_function: LossFunction,
    *,
    seed: int,
    clip_norm: float,
    accumulate: int = 1,
    jit: bool = False,
):
    """``replica_update(batch, step, learning_rate) -> (loss, gradient norm, whether it was applied)``: one update, in the replica context.

    jit: compile forward and backward pass as a whole (GPUs; a TPU always does).
    """

    def forward_backward(batch, total, dropout_seed):
        return loss_and_gradients(model, loss_function, batch, total, dropout_seed)

    forward_backward = tf.function(forward_backward, jit_compile=True) if jit else forward_backward
    over_micro_batches = tf.function(accumulated) if accumulate > 1 else accumulated  # where it has a loop, autograph must convert it

    @tf.autograph.experimental.do_not_convert
    def replica_update(batch: Batch, step: tf.Tensor, learning_rate: tf.Tensor):
        """What each replica does with its rows; loss, gradient norm and whether the update was applied come out equal on all."""
        replica = tf.distribute.get_replica_context()
        # The loss is a mean over the labelled pieces of all replicas (by default each word's first), so each divides by their count.
        labelled = tf.reduce_sum(tf.cast(batch.labels != NO_LABEL, tf.float32))
        total = tf.maximum(replica.all_reduce("SUM", labelled), 1.0)
        # Dropout is a function of (seed, step, replica, micro-batch); `accumulated` folds in the last.
        dropout_seed = fold_in(fold_in(tf.constant(seed, tf.uint32), step), replica.replica_id_in_sync_group)
        loss_share, gradient_shares = over_micro_batches(forward_backward, model, accumulate, batch, total, dropout_seed)
        # Summed over replicas, the loss is the mean over all labelled pieces, and the gradients are its gradients.
        mean_loss = replica.all_reduce("SUM", loss_share)
        gradients = replica.all_reduce("SUM", gradient_shares)
        # Clipping by the global norm of the whole gradient; the optimizer multiplies by the scale.
        norm = tf.linalg.global_norm(gradients)
        scale = tf.minimum(1.0, clip_norm / (norm + 1e-6)) if clip_norm else tf.constant(1.0)
        # An update that is not finite is skipped: weights, moments and their count stay as they are. After the host call
        # train.py ends the run, unless --non-finite skip.
        finite = tf.math.is_finite(norm) & tf.math.is_finite(mean_loss) & tf.math.is_finite(learning_rate)
        replica.merge_call(optimizer.update, args=(gradients, scale, learning_rate, finite))
        return mean_loss, norm, finite

    return replica_update


def make_update(strategy: tf.distribute.Strategy, model: TaggingModel, optimizer: AdamW, loss_function: LossFunction, **options):
    """``update(iterator, count, first_step, learning_rates) -> Metrics``: ``count`` updates in one host call.

    iterator: over a dataset of ``ner.batches.distribute``; count, first_step: int64 scalars; learning_rates: float32 [at least count].
    options: of ``make_replica_update``.
    """
    replica_update = make_replica_update(model, optimizer, loss_function, **options)

    @tf.autograph.experimental.do_not_convert
    def one(values):  # the same on every replica: take the first
        return strategy.experimental_local_results(values)[0]

    @tf.function
    def update(iterator, count, first_step, learning_rates):
        applied = tf.constant(False)
        loss_sum, norm_sum, waited = tf.constant(0.0), tf.constant(0.0), tf.constant(0.0, tf.float64)
        skipped, first_skipped = tf.constant(0, tf.int64), tf.constant(-1, tf.int64)
        for i in tf.range(count):
            batch, seconds = _timed_next(iterator, after=norm_sum)
            waited += seconds
            loss, norm, finite = strategy.run(replica_update, args=(batch, first_step + i, learning_rates[i]))
            applied = one(finite)
            loss_sum += tf.where(applied, one(loss), 0.0)
            norm_sum += tf.where(applied, one(norm), 0.0)
            first_skipped = tf.where((first_skipped < 0) & ~applied, first_step + i, first_skipped)
            skipped += tf.cast(~applied, tf.int64)
        # Once a call, not in each update: it reads all weights again.
        change = one(strategy.run(optimizer.last_update_norm, args=(learning_rates[count - 1],)))
        updates = tf.cast(count - skipped, tf.float32)  # 0 / 0 is NaN: no update was applied, so there is no loss
        return Metrics(loss_sum / updates, norm_sum / updates, tf.where(applied, change, 0.0), skipped, first_skipped, waited)

    return update


@tf.autograph.experimental.do_not_convert
def _timed_next(iterator, after: tf.Tensor):
    """The next element, asked for once ``after`` is computed, and the seconds until it came (float64).

    TensorFlow orders a timestamp with other stateful operations only, not with an iterator's, so the order is given by hand.
    """
    with tf.control_dependencies([after]):
        asked = tf.timestamp()
    with tf.control_dependencies([asked]):
        element = next(iterator)
    with tf.control_dependencies(tf.nest.flatten(element, expand_composites=True)):
        return element, tf.timestamp() - asked


def wait(metrics: Metrics) -> Metrics:
    """The metrics as Python numbers, once the host call that computes them is done."""
    return Metrics(*(value.numpy().item() for value in metrics))


def compile_ahead(
    update, strategy: tf.distribute.Strategy, row_lengths: list[int], *, rows_per_step: int, most: int, accumulate: int
) -> float:
    """Trace and compile ``update`` for these row lengths, so that this is not counted as training time. Returns the seconds of an update.

    The updates are of rows of padding, at a learning rate that is not a number: they are skipped, so nothing changes. most: steps per host
    call.
    """
    seconds, rates = 0.0, tf.fill([most], float("nan"))
    for row_length in row_lengths:
        rows = batches.empty_rows(rows_per_step, row_length)
        iterator = iter(batches.distribute(strategy, rows, rows_per_step, accumulate=accumulate))
        for count in (1, min(most, 3)):  # the first call compiles, the second one is timed
            began = time.perf_counter()
            wait(update(iterator, tf.constant(count, tf.int64), tf.constant(0, tf.int64), rates))
        seconds += (time.perf_counter() - began) / count / len(row_lengths)
    return seconds


def make_predict(strategy: tf.distribute.Strategy, model: TaggingModel, *, jit: bool = False):
    """``predict(iterator)`` -> what ``head.decode`` takes, float32 [rows per step, length, tags], in the order of the rows."""

    def compute(batch: Batch) -> tf.Tensor:
        return model.head.to_decode(model(batch, tf.constant(0, tf.uint32), training=False))

    if jit:
        compute = tf.function(compute, jit_compile=True)

    @tf.function
    def predict(iterator):
        return strategy.gather(strategy.run(compute, args=(next(iterator),)), axis=0)

    return predict
