"""How a variable of the model stands in a safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np


class Tensor(NamedTuple):
    """A variable and the tensors that hold it in a checkpoint.

    Attributes:
        names: their names; several lie end to end along the variable's last axis (query, key and value share one variable).
        variable: float32.
        transposed: a dense layer's kernel, [input, output] here and [output, input] in PyTorch.
        file: the file of the model folder that holds them; "" where none does, because saving folds the variable into another.
        optional: a checkpoint to be fine-tuned may lack it.
        rows, table: the variable holds only these rows (int64) of the tensor, and ``table``, which is not trained, all of them.
    """

    names: Sequence[str]
    variable: keras.Variable
    transposed: bool = False
    file: str = "model.safetensors"
    optional: bool = False
    rows: np.ndarray | None = None
    table: keras.Variable | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file of each tensor named."""
        *others, last = (self.variable if self.table is None else self.table).shape
        shape = (*others, last // len(self.names))
        return shape[::-1] if self.transposed else shape

    def to_file(self) -> dict[str, np.ndarray]:
        """The tensors as the file holds them, float32."""
        value = np.asarray(self.variable.value.numpy(), np.float32)
        if self.table is not None:
            whole = self.table.value.numpy()
            whole[self.rows] = value
            value = whole
        parts = np.split(value, len(self.names), axis=-1)
        return {name: np.ascontiguousarray(part.T if self.transposed else part) for name, part in zip(self.names, parts, strict=True)}

    def assign(self, value: np.ndarray) -> None:
        """Take the tensor's value, of ``from_file``."""
        if self.table is not None:
            self.table.assign(value)
        self.variable.assign(value if self.rows is None else value[self.rows])

    def from_file(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The value from the tensors as the file holds them, in the order of ``names``."""
        return np.concatenate([part.T if self.transposed else part for part in parts], axis=-1)
