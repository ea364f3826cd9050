"""AdamW (Loshchilov & Hutter, 2019) and the learning-rate schedule.

An optimizer keeps its slots and updates every variable; summing, clipping and the guard against NaN are in ner/step.py. On one replica a
variable's update is one compiled function that reads and writes it once (21 ms for MiniLM's 22 M weights on two cores, against 34 ms for
TensorFlow's own Adam kernel with the clipping and the decay around it). It equals keras.optimizers.AdamW on one replica
(tests/test_optimizer.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np
import tensorflow as tf

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class AdamW(tf.Module):
    """Slots: first and second moments (float32, the variables' shapes) and the number of updates done (int64)."""

    def __init__(self, variables: dict[str, tf.Variable], *, weight_decay: float, layer_decay: float = 1.0):
        """variables: float32, by the name of a tensor. Kernels and embeddings (two axes) are decayed; biases and LayerNorm (one axis) are
        not. layer_decay: see ``rate_shares``.

        Create it inside ``strategy.scope()``.
        """
        super().__init__(name="adamw")
        self.trained, self.weight_decay, self.shares = variables, weight_decay, rate_shares(variables, layer_decay)
        self.first_moments = {n: tf.Variable(tf.zeros(v.shape), trainable=False, name="first_moment") for n, v in variables.items()}
        self.second_moments = {n: tf.Variable(tf.zeros(v.shape), trainable=False, name="second_moment") for n, v in variables.items()}
        # Compiled where there is one replica: over several logical devices TensorFlow 2.21 drops a compiled function's assignments.
        alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
        self.update_one = tf.function(_adamw, jit_compile=True, autograph=False) if alone else _adamw
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False, name="updates")

    @tf.autograph.experimental.do_not_convert  # as in ner/step.py
    def update(self, strategy, gradients: list[tf.Tensor], scale: tf.Tensor, learning_rate: tf.Tensor, finite: tf.Tensor) -> None:
        """One update with ``scale`` times the gradients (dense float32, the same on every replica), by ``merge_call``.

        scale, learning_rate: float32 scalars; finite: bool scalar. Where it is False nothing changes: weights, moments and the number of
        updates stay as they are.
        """
        extended = strategy.extended
        extended.update(self.updates, lambda updates, finite: updates.assign_add(tf.cast(finite, updates.dtype)), args=(finite,))
        for (name, variable), gradient in zip(self.trained.items(), gradients, strict=True):
            slots = self.first_moments[name], self.second_moments[name]
            share = tf.constant(self.shares[name])  # a tensor: a Python number would be compiled anew for each layer
            args = (*slots, gradient, scale, learning_rate, share, finite, self.updates, self._decay(variable))
            extended.update(variable, self.update_one, args=args)

    @tf.autograph.experimental.do_not_convert
    def last_update_norm(self, learning_rate: tf.Tensor) -> tf.Tensor:
        """The global norm of what the last update, of this rate, added to the weights (float32 scalar); called in the replica context.

        Recomputed from weights and moments afterwards, so that ordinary updates pay nothing. Not compiled: done once a host call it is no
        work, and compiling it would add more than a second to every start.
        """
        rate, halves = _rate(learning_rate, self.updates), []
        for name, variable in self.trained.items():
            share = self.shares[name]
            change = share * rate * self.first_moments[name] / (tf.sqrt(self.second_moments[name]) + EPSILON)
            if decay := self._decay(variable):
                decayed = share * learning_rate * decay
                change += decayed / (1.0 - decayed) * (variable + change)
            halves.append(tf.nn.l2_loss(change))
        return tf.sqrt(2.0 * tf.add_n(halves))

    def _decay(self, variable: tf.Variable) -> float:
        return self.weight_decay if len(variable.shape) > 1 else 0.0


def rate_shares(names: Collection[str], decay: float) -> dict[str, float]:
    """The share of the learning rate for each variable: 1 in the head, ``decay`` in the last layer, ``decay`` times as much in each layer
    before it as in the one after, and again in the embeddings (Howard & Ruder, 2018; Clark et al., 2020). What has no layer and is no
    embedding has 1: the head, a norm after the last layer, and the vectors of ``--case``, which are new.

    names: of tensors, as Hugging Face's checkpoints have them; a layer's has its number, as in "encoder.layer.5.output.dense.weight".
    """
    layers = {name: int(found[1]) for name in names if (found := re.search(r"\blayers?\.(\d+)\.", name))}
    depth = 1 + max(layers.values(), default=-1)
    below_head = {name: depth - layers[name] if name in layers else (depth + 1 if "embeddings" in name else 0) for name in names}
    return {name: decay**count for name, count in below_head.items()}


def _adamw(variable, first, second, gradient, scale, learning_rate, share, finite, updates, decay):
    """One variable's update on one device, in one pass over memory; with ``finite`` False it changes nothing."""
    learning_rate = learning_rate * share
    gradient = gradient * scale
    m = BETA_1 * first + (1.0 - BETA_1) * gradient
    v = BETA_2 * second + (1.0 - BETA_2) * tf.square(gradient)
    new = variable * (1.0 - learning_rate * decay) - _rate(learning_rate, updates) * m / (tf.sqrt(v) + EPSILON)
    variable.assign(tf.where(finite, new, variable))
    first.assign(tf.where(finite, m, first))
    second.assign(tf.where(finite, v, second))


def _rate(learning_rate, updates):
    """The learning rate with Adam's correction for moments that began at zero."""
    count = tf.cast(tf.maximum(updates, 1), tf.float32)
    return learning_rate * tf.sqrt(1.0 - tf.pow(BETA_2, count)) / (1.0 - tf.pow(BETA_1, count))


def learning_rates(first: int, count: int, total: float, *, peak: float, warmup: float, schedule: str) -> np.ndarray:
    """float32 [count]: the rates of updates first .. first + count - 1 (from 0) out of ``total``.

    Linear warm-up over ``warmup * total`` updates from 0, then constant, or linear towards 0, which the
    update after the last would have. ``total`` is counted on the first epoch; packing may make another one an update longer, at rate 0.
    """
    step = np.arange(first, first + count, dtype=np.float64) + 1.0
    rise = warmup * total
    rates = np.minimum(1.0, step / rise) if rise > 0 else np.ones(count)
    if schedule == "linear":
        rates = np.minimum(rates, np.maximum(0.0, (total + 1 - step) / (total + 1 - rise)))
    return (peak * rates).astype(np.float32)
