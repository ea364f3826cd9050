"""AdamW (Loshchilov & Hutter, 2019), clipping by the global norm, and the learning-rate schedule.

The gradients arrive already summed over replicas, so clipping sees the true gradient (Keras's optimizers clip each replica's share
before the sum). Clipping, decay and update of a variable are one compiled function that reads and writes it once (21 ms for MiniLM's 22 M
weights on two cores, against 34 ms for TensorFlow's own Adam kernel with the clipping and the decay around it); equal to
keras.optimizers.AdamW on one replica (tests/test_optimizer.py).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class AdamW(tf.Module):
    """State: first and second moments (float32, the variables' shapes) and the number of updates done (int64)."""

    def __init__(self, variables: list[tf.Variable], *, weight_decay: float, clip_norm: float):
        """Create it inside ``strategy.scope()``. Kernels and embeddings (two axes) are decayed; biases and LayerNorm (one axis) are not."""
        super().__init__(name="adamw")
        self.weights = variables
        self.weight_decay, self.clip_norm = weight_decay, clip_norm
        self.first = [tf.Variable(tf.zeros(v.shape), trainable=False, name="first_moment") for v in variables]
        self.second = [tf.Variable(tf.zeros(v.shape), trainable=False, name="second_moment") for v in variables]
        # Compiled where there is one replica: over several logical devices TensorFlow 2.21 drops a compiled function's assignments.
        alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
        self.update_one = tf.function(_adamw, jit_compile=True, autograph=False) if alone else _adamw
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False, name="updates")

    def apply(self, gradients: list[tf.Tensor], learning_rate: tf.Tensor, finite_loss: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One update, called in the replica context with gradients (dense float32) equal on all replicas.

        Returns the global norm before clipping (float32 scalar) and whether loss and norm were finite (bool scalar); where they were
        not, nothing changes: weights, moments and the number of updates stay as they are.
        """
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm) & finite_loss
        scale = tf.minimum(1.0, self.clip_norm / (norm + 1e-6)) if self.clip_norm else tf.constant(1.0)
        tf.distribute.get_replica_context().merge_call(self._update, args=(gradients, scale, learning_rate, finite))
        return norm, finite

    def update_norm(self, learning_rate: tf.Tensor) -> tf.Tensor:
        """The global norm of what the last update, of this rate, added to the weights (float32 scalar); called in the replica context.

        Found from where the update left weights and moments, so that an update itself costs no more where nobody looks. Not compiled:
        done once a host call it is no work, and compiling it would take more than a second of every start.
        """
        rate, halves = _rate(learning_rate, self.updates), []
        for variable, first, second in zip(self.weights, self.first, self.second, strict=True):
            change = rate * first / (tf.sqrt(second) + EPSILON)
            if decay := self._decay(variable):
                decayed = learning_rate * decay
                change += decayed / (1.0 - decayed) * (variable + change)
            halves.append(tf.nn.l2_loss(change))
        return tf.sqrt(2.0 * tf.add_n(halves))

    def _decay(self, variable: tf.Variable) -> float:
        return self.weight_decay if len(variable.shape) > 1 else 0.0

    def _update(self, strategy, gradients, scale, learning_rate, finite):
        extended = strategy.extended
        extended.update(self.updates, lambda updates, finite: updates.assign_add(tf.cast(finite, updates.dtype)), args=(finite,))
        for variable, first, second, gradient in zip(self.weights, self.first, self.second, gradients, strict=True):
            args = (first, second, gradient, scale, learning_rate, finite, self.updates, self._decay(variable))
            extended.update(variable, self.update_one, args=args)


def _adamw(variable, first, second, gradient, scale, learning_rate, finite, updates, decay):
    """One variable's update on one device, in one pass over memory; with ``finite`` False it changes nothing."""
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
