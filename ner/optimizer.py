"""AdamW (Loshchilov & Hutter, 2019), clipping by the global norm, and the learning-rate schedule.

The gradients arrive already summed over replicas, so clipping sees the true gradient (Keras's optimizers clip each replica's share
before the sum). The update is TensorFlow's one-pass Adam kernel, with the decay, which the moments do not see, applied just before it;
equal to keras.optimizers.AdamW on one replica (tests/test_optimizer.py).
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
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False, name="updates")

    def apply(self, gradients: list[tf.Tensor], learning_rate: tf.Tensor, finite_loss: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One update, called in the replica context with gradients (dense float32) equal on all replicas.

        Returns the global norm before clipping (float32 scalar) and whether loss and norm were finite (bool scalar); where they were
        not, nothing changes: weights, moments and the number of updates stay as they are.
        """
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm) & finite_loss
        scale = tf.minimum(1.0, self.clip_norm / (norm + 1e-6)) if self.clip_norm else tf.constant(1.0)
        gradients = [tf.where(finite, g * scale, 0.0) for g in gradients]
        tf.distribute.get_replica_context().merge_call(self._update, args=(gradients, learning_rate, finite))
        return norm, finite

    def _update(self, strategy, gradients, learning_rate, finite):
        extended = strategy.extended
        done = extended.update(self.updates, lambda v, ok: v.assign_add(tf.cast(ok, v.dtype)), args=(finite,))
        del done
        for variable, first, second, gradient in zip(self.weights, self.first, self.second, gradients, strict=True):
            decay = self.weight_decay if len(variable.shape) > 1 else 0.0
            extended.update(variable, _adamw, args=(first, second, gradient, learning_rate, finite, self.updates, decay))


def _adamw(variable, first, second, gradient, learning_rate, finite, updates, decay):
    """One variable's update on one device; with ``finite`` False (and a zero gradient) it changes nothing."""
    still = tf.where(finite, 0.0, 1.0)
    rate = learning_rate * (1.0 - still)
    if decay:
        variable.assign(variable * (1.0 - rate * decay))
    count = tf.cast(tf.maximum(updates, 1), tf.float32)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=first.handle,
        v=second.handle,
        beta1_power=tf.pow(BETA_1, count),
        beta2_power=tf.pow(BETA_2, count),
        lr=rate,
        beta1=tf.maximum(BETA_1, still),
        beta2=tf.maximum(BETA_2, still),
        epsilon=EPSILON,
        grad=gradient,
    )


def learning_rates(first: int, count: int, total: float, *, peak: float, warmup: float, schedule: str) -> np.ndarray:
    """float32 [count]: the rates of updates first .. first + count - 1 (from 0) out of ``total``.

    Linear warm-up over ``warmup * total`` updates from 0, then constant, or linear to 0 at ``total``.
    """
    step = np.arange(first, first + count, dtype=np.float64) + 1.0
    rise = warmup * total
    rates = np.minimum(1.0, step / rise) if rise > 0 else np.ones(count)
    if schedule == "linear":
        rates = np.minimum(rates, np.maximum(0.0, (total + 1 - step) / (total + 1 - rise)))
    return (peak * rates).astype(np.float32)
