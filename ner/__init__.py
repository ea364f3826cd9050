"""Named-entity recognition with BERT and an explicit TensorFlow training loop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if sys.version_info < (3, 11):  # noqa: UP036 (an older Python reads this line before it finds what it does not know)
    sys.exit(f"error: Python 3.11 or newer is needed, and this is {sys.version.split()[0]}; make setup PYTHON=python3.11")

if TYPE_CHECKING:
    from ner.inference import Tagger as Tagger

__all__ = ["Tagger"]


def __getattr__(name: str):
    """``from ner import Tagger`` without importing TensorFlow for those who only want, say, ``ner.formats``."""
    if name == "Tagger":
        from ner.inference import Tagger

        return Tagger
    raise AttributeError(f"module 'ner' has no attribute {name!r}")
