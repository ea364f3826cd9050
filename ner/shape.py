"""What a config.json says of an encoder's shape, read strictly: before memory is asked for, and before a wrong number gives a wrong model.

A family's shape is a dataclass. Its fields are named after the keys, and each says what its value may be (``number``, ``choice``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from ner.errors import InputError

HINT = "use a complete checkpoint of this family"
Shape = TypeVar("Shape")


def number(low: float, high: float, default: Any = dataclasses.MISSING) -> Any:
    """A field with a number from ``low`` to ``high``; without a default its key must be there."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


def choice(values: Iterable[Any], default: Any) -> Any:
    """A field with one of ``values``: what the layers can compute."""
    return dataclasses.field(default=default, metadata={"choice": tuple(values)})


def size(default: Any = dataclasses.MISSING) -> Any:
    """A field with a number of word pieces, positions or units."""
    return number(1, 10**7, default)


def rate(default: float) -> Any:
    """A field with a dropout rate."""
    return number(0.0, 0.99, default)


def read(kind: type[Shape], config: dict, path: Path) -> Shape:
    """The shape from the content of a config.json; ``path`` is the file, for messages.

    Raises InputError for a key that is missing, of a wrong type or out of range, and for a choice that the layers do not compute.
    """
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if "range" not in field.metadata and "choice" not in field.metadata:
            continue
        if field.name not in config and field.default is dataclasses.MISSING:
            raise InputError(f"{field.name} is missing", path=path, hint=HINT)
        values[field.name] = value = config.get(field.name, field.default)
        if "choice" in field.metadata:
            allowed = field.metadata["choice"]
            if value not in allowed:
                hint = f"use a checkpoint with {field.name} {' or '.join(map(repr, allowed))}"
                raise InputError(f"{field.name} {value!r} is not supported", path=path, hint=hint)
            continue
        if not isinstance(value, (int,) if field.type == "int" else (int, float)) or isinstance(value, bool):
            raise InputError(f"{field.name} is {value!r}", path=path, hint=f"it must be a {field.type}")
        low, high = field.metadata["range"]
        if not low <= value <= high:  # NaN too
            raise InputError(f"{field.name} is {value!r}, not from {low:,} to {high:,}", path=path, hint=HINT)
    return kind(**values)


def check_heads(hidden: int, heads: int, path: Path) -> None:
    """Refuse a width that the attention heads do not divide."""
    if hidden % heads:
        raise InputError(f"a width of {hidden} is not a multiple of {heads} attention heads", path=path, hint=HINT)


def check_places(places: int, path: Path) -> None:
    """Refuse a table of positions without one for a sentence."""
    if places < 3:
        raise InputError(f"its positions are enough for {places} word pieces", path=path, hint=HINT)
