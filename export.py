"""Write a trained model as a TensorFlow SavedModel: python export.py --help"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from ner.errors import run_main
from ner.flags import REQUIRED, key, parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write a trained model as a SavedModel for TensorFlow Serving; it loads without this package (docs/using_models.md)."""

    ckpt: str = key(REQUIRED, "A run folder, its model/, or any Hugging Face token-classification folder of a supported family.", path=True)
    output: str = key(REQUIRED, "The folder to write. TensorFlow Serving wants a number as its last part, such as models/ner/1.", path=True)
    overwrite: bool = key(False, "Replace the folder if it is a SavedModel.")
    length: int | None = key(
        None, "Word pieces per sentence that the model takes. Without it: the training's row length.", low=3, high=2**15
    )


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    from ner.inference import model_folder
    from ner.strategy import import_tensorflow

    model_folder(given.ckpt)
    import_tensorflow()
    from ner import pretrained, saved_model
    from ner.progress import say

    length = saved_model.write(given.ckpt, Path(given.output), length=given.length, overwrite=given.overwrite)
    say(f"{given.output}: signature serving_default, sentences of up to {length} word pieces; tags and tokenizer in assets.extra")
    if pretrained.read(model_folder(given.ckpt)).head == "crf":
        say("warning: its tags are each word's most probable one: the transitions of the CRF are not in the SavedModel")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
