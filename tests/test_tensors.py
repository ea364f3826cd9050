"""A variable's value to the tensors of a file and back."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from ner.tensors import Tensor


def variable(*shape):
    return keras.Variable(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize(
    ("tensor", "shape"),
    [
        (Tensor(["bias"], variable(6)), (6,)),
        (Tensor(["table"], variable(4, 6)), (4, 6)),
        (Tensor(["kernel"], variable(4, 6), transposed=True), (6, 4)),
        (Tensor(["query", "key", "value"], variable(4, 6), transposed=True), (2, 4)),
        (Tensor(["query", "key", "value"], variable(6)), (2,)),
    ],
    ids=["bias", "table", "kernel", "three kernels", "three biases"],
)
def test_to_file_and_back(tensor, shape):
    parts = tensor.to_file()
    assert tensor.shape == shape and list(parts) == list(tensor.names)
    assert all(part.shape == shape and part.dtype == np.float32 and part.flags["C_CONTIGUOUS"] for part in parts.values())
    np.testing.assert_array_equal(tensor.from_file([parts[name] for name in tensor.names]), tensor.variable.numpy())


def test_a_dense_kernel_stands_transposed_and_its_parts_in_the_order_of_their_names():
    value = np.arange(8, dtype=np.float32).reshape(2, 4)
    parts = Tensor(["first", "second"], keras.Variable(value), transposed=True).to_file()
    np.testing.assert_array_equal(parts["first"], value[:, :2].T)
    np.testing.assert_array_equal(parts["second"], value[:, 2:].T)
