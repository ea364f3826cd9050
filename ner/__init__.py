"""Named-entity recognition with BERT and an explicit TensorFlow training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ner.inference import Tagger as Tagger

__all__ = ["Tagger"]


def __getattr__(name: str):
    """``from ner import Tagger`` without importing TensorFlow for those who only want, say, ``ner.formats``."""
    if name == "Tagger":
        from ner.inference import Tagger

        return Tagger
    raise AttributeError(f"module 'ner' has no attribute {name!r}")
