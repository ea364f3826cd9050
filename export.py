"""Write a trained model for use elsewhere: python export.py --help"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from ner.errors import InputError, run_main
from ner.flags import REQUIRED, key, parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write a trained model as a SavedModel for TensorFlow Serving, or with int8 products for CPUs (docs/using_models.md)."""

    ckpt: str = key(REQUIRED, "A run folder, its model/, or any Hugging Face token-classification folder of a supported family.", path=True)
    output: str = key(REQUIRED, "The folder to write. TensorFlow Serving wants a number as its last part, such as models/ner/1.", path=True)
    overwrite: bool = key(False, "Replace the folder if this program wrote it.")
    length: int | None = key(
        None, "Word pieces per sentence that the SavedModel takes. Without it: the training's row length.", low=3, high=2**15
    )
    int8: bool = key(False, "Write a model with int8 products, which predict.py and evaluate.py run by onnxruntime.", group="int8")
    data: str | None = key(None, "An annotated file: what int8 loses is measured on it.", path=True)
    max_loss: float = key(0.3, "Points of entity F1 (of 100) that int8 may lose; if it loses more, nothing is written.", low=0, high=100)


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    if given.int8 and not given.data:
        raise InputError("--data is missing", hint="give --int8 an annotated file, to measure on it what int8 loses")
    if given.int8 and given.length:
        raise InputError("--length is not for --int8, whose rows have any length", hint="leave it out")
    if not given.int8 and (given.data or given.max_loss != Arguments.max_loss):
        raise InputError("--data and --max-loss are for --int8", hint="give --int8, or leave them out")
    from ner.inference import model_folder
    from ner.onnx_model import check_installed
    from ner.strategy import import_tensorflow

    model_folder(given.ckpt)
    if given.int8:
        check_installed("onnx", "onnxruntime")
    import_tensorflow()
    (write_int8 if given.int8 else write_saved_model)(given)
    return 0


def write_saved_model(given: Arguments) -> None:
    """Write the SavedModel, and say what it takes."""
    from ner import pretrained, saved_model
    from ner.inference import model_folder
    from ner.progress import say

    length = saved_model.write(given.ckpt, Path(given.output), length=given.length, overwrite=given.overwrite)
    say(f"{given.output}: signature serving_default, sentences of up to {length} word pieces; tags and tokenizer in assets.extra")
    if pretrained.read(model_folder(given.ckpt)).head != "linear":
        say("warning: its tags are each word's most probable one: the transitions between tags are not in the SavedModel")


def write_int8(given: Arguments) -> None:
    """Write the int8 model, and say how it scores beside the model that it was made from."""
    from ner import dataset, int8, scoring
    from ner.config import Config
    from ner.progress import say

    assert given.data
    if dataset.has_splits(given.data):
        raise InputError("not one file", path=given.data, hint="give --data an annotated file")
    sentences = dataset.read(given.data, Config(data=given.data), say)
    here, there = int8.write(given.ckpt, Path(given.output), sentences, max_loss=given.max_loss, overwrite=given.overwrite)
    before, after = here.scores.f1, there.scores.f1
    say(f"{given.data}: F1 ({scoring.MODE}) {before:.4f} as it was, {after:.4f} in int8: {100 * (after - before):+.2f} points")
    say(f"{given.output}: give it to predict.py or evaluate.py as --ckpt")


if __name__ == "__main__":
    sys.exit(run_main(main))
