"""Element-wise parts of the encoder, each compiled into one pass over memory.

On a CPU TensorFlow runs `x + bias`, GELU, dropout and LayerNorm as a dozen kernels. Each of them reads and writes the whole array. XLA
around the whole step would fuse them, but would not use oneDNN's matrix products, which are worth more. So the matrix products are left
to TensorFlow, and the element-wise work between two of them is compiled. On a TPU the whole update is compiled, on a GPU the forward and
backward pass; these functions are then part of that.

Dropout keeps no mask and no generator state: element i is kept if a 32-bit hash of (i, seed) is above the rate. Forward and backward pass
compute the same hash, so the mask is a function of the seed alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import tensorflow as tf

_plain = False


@contextlib.contextmanager
def plain():
    """Functions traced in this block are not compiled by XLA: for a SavedModel, which must run where XLA is not linked in."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def compiled(function: Callable) -> Callable:
    """``function`` compiled by XLA, except where it is traced inside ``plain``."""
    xla = tf.function(function, jit_compile=True, autograph=False)
    return lambda *arguments: function(*arguments) if _plain else xla(*arguments)


def traced(function: Callable) -> Callable:
    """``function``, traced once for all calls of it with arguments of the same shapes, so that the layers of a model share the work."""
    once = tf.function(function, autograph=False)
    return lambda *arguments: function(*arguments) if _plain else once(*arguments)


def fused(function: Callable) -> Callable:
    """Compile ``function(*arrays, *integers)``, of one or several outputs, and its gradient by XLA; only its inputs are kept for that.

    Gradients flow to the floating-point arguments; integer arguments (seeds, segment numbers) get none.
    """
    forward = compiled(function)

    @compiled
    def backward(inputs, upstream):
        with tf.GradientTape() as tape:
            floats = [x for x in inputs if x.dtype.is_floating]
            tape.watch(floats)
            outputs = tf.nest.flatten(function(*inputs))
        return tape.gradient(outputs, floats, upstream)

    @tf.custom_gradient
    def call(*inputs):
        def gradient(*upstream):
            flowing = iter(backward(inputs, upstream))
            return [next(flowing) if x.dtype.is_floating else None for x in inputs]

        # The gradient is ours, so the surrounding tape must not make one of `forward` (a loop inside it could not be compiled then).
        return forward(*map(tf.stop_gradient, inputs)), gradient

    return call


def fold_in(seed: tf.Tensor, value: tf.Tensor | int) -> tf.Tensor:
    """A new seed (uint32 scalar) from a seed and a number: a step, a replica, a layer."""
    return _lowbias32(_lowbias32(tf.cast(seed, tf.uint32)) + tf.cast(value, tf.uint32) * tf.constant(0x9E3779B9, tf.uint32))


def split_seed(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """``fold_in(seed, 0)`` to ``fold_in(seed, count - 1)``, in as many operations as one of them takes."""
    return tf.unstack(fold_in(seed, tf.range(count)))


def keep_mask(shape: tuple[int, ...], rate: float, seed: tf.Tensor) -> tf.Tensor:
    """A boolean array of ``shape``, True with probability ``1 - rate``: a hash of (element number, seed), no state.

    The hash is lowbias32 (C. Wellons, "Prospecting for hash functions", 2018) of an affine function of the element's number whose
    odd factor and offset come from the seed, so the masks of two seeds are not permutations of each other.
    """
    factor = tf.bitwise.bitwise_or(fold_in(seed, 1), tf.constant(1, tf.uint32))
    # number * factor + offset, by rows and columns: the numbers themselves would be a constant as large as the array in the program.
    rows, columns = (tf.cast(tf.range(count), tf.uint32) for count in (math.prod(shape[:-1]), shape[-1]))
    at_row = rows * (tf.constant(shape[-1], tf.uint32) * factor)
    numbers = tf.reshape(at_row[:, tf.newaxis] + (columns * factor + fold_in(seed, 2)), shape)
    return _lowbias32(numbers) >= tf.constant(int(rate * 2**32), tf.uint32)


def _lowbias32(x: tf.Tensor) -> tf.Tensor:
    shift = tf.bitwise.right_shift
    x = tf.bitwise.bitwise_xor(x, shift(x, tf.constant(16, tf.uint32))) * tf.constant(0x7FEB352D, tf.uint32)
    x = tf.bitwise.bitwise_xor(x, shift(x, tf.constant(15, tf.uint32))) * tf.constant(0x846CA68B, tf.uint32)
    return tf.bitwise.bitwise_xor(x, shift(x, tf.constant(16, tf.uint32)))


def dropout(x: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """``x / (1 - rate)`` where kept, 0 elsewhere (inverted dropout); ``x`` itself when ``rate`` is 0."""
    if rate == 0.0:
        return x
    return tf.where(keep_mask(tuple(x.shape), rate, seed), x * tf.cast(1.0 / (1.0 - rate), x.dtype), tf.zeros([], x.dtype))
