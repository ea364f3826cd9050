"""A trained model as a TensorFlow SavedModel: one signature, loadable without this package, for TensorFlow Serving.

The signature ``serving_default`` takes arrays of int32 [sentences, length], one sentence a row:

- ``input_ids``: its word pieces, with [CLS] and [SEP], and 0 behind them.
- ``attention_mask``: 1 where there is a piece, else 0.

It gives ``tags``, int32 [sentences, length], and ``scores``, float32 of that shape: each piece's most probable tag, by number, and its
softmax probability. A word's tag is that of its first piece. The graph has neither the decoding of ner.decoding nor transitions between
tags. ``assets.extra`` holds ``tags.json``, the tags by number, and the tokenizer's files. Products are in float32.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import tensorflow as tf

from ner import batches, files, pretrained
from ner.errors import InputError
from ner.fused import plain
from ner.inference import model_folder
from ner.tagger import TaggingModel
from ner.wordpieces import WordPieces

INPUTS = ("input_ids", "attention_mask")
ROWS = 8  # sentences computed at a time: the encoder's shapes are static, the signature's number of sentences is not


def write(ckpt: str | Path, output: Path, *, length: int | None = None, overwrite: bool = False) -> int:
    """Write the SavedModel of a checkpoint folder to ``output``; returns the length of its rows.

    Raises InputError for a folder that is no model, a length beyond the encoder's positions, and an output that must not be replaced.
    """
    folder = model_folder(ckpt)
    check_output(output, folder, replaced="saved_model.pb" if overwrite else None)
    source = pretrained.read(folder)
    names, longest = source.tags, source.shape.longest_row
    length = source.row_length if length is None else length
    if not 3 <= length <= longest:
        raise InputError(f"--length {length} is not from 3 to the encoder's {longest} positions", hint="give another")
    model = pretrained.build(source, names, head=source.head)
    pretrained.load(model, source, head=True)
    served = Served(model, length)
    with files.replacing_folder(output) as partial:
        with plain(), files.tensorflow_errors_as_os_errors(partial):
            tf.saved_model.save(served, str(partial), signatures={"serving_default": served.tag})
        extra = partial / "assets.extra"
        extra.mkdir()
        (extra / "tags.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
        WordPieces.load(source).save(extra)
    return length


def check_output(output: Path, folder: Path, *, replaced: str | None) -> None:
    """Refuse an output that is there already, unless it holds a file named ``replaced``, and one that the model's folder lies in."""
    if output.exists() and not (replaced and (output / replaced).is_file()):
        raise InputError("is there already", path=output, hint="give another --output, or --overwrite what export.py wrote")
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(output)):
        raise InputError("holds the model itself", path=output, hint="give another --output")


class Served(tf.Module):
    """The signature's function and the variables it reads."""

    def __init__(self, model: TaggingModel, length: int):
        super().__init__()
        self.weights = list(model.trained.values())
        whole = [tf.TensorSpec([None, length], tf.int32, name) for name in INPUTS]
        positions = tf.constant([list(range(length))] * ROWS)

        def tag_some(fields):  # int32 [ROWS, length] each; padding (segment 0) sees padding only
            pieces, mask = fields
            empty = batches.EMPTY.map(lambda value: tf.fill([ROWS, length], value))
            rows = empty._replace(pieces=pieces, positions=positions, segments=mask)
            found = tf.nn.log_softmax(model(rows, tf.constant(0, tf.uint32), training=False))
            return tf.argmax(found, axis=-1, output_type=tf.int32), tf.exp(tf.reduce_max(found, axis=-1))

        def tag(*fields):
            count = tf.shape(fields[0])[0]
            filled = [tf.pad(field, [[0, -count % ROWS], [0, 0]]) for field in fields]
            parts = [tf.reshape(field, [-1, ROWS, length]) for field in filled]
            kinds = tuple(tf.TensorSpec([ROWS, length], kind) for kind in (tf.int32, tf.float32))
            tags, scores = tf.map_fn(tag_some, tuple(parts), fn_output_signature=kinds)
            return {"tags": tf.reshape(tags, [-1, length])[:count], "scores": tf.reshape(scores, [-1, length])[:count]}

        self.tag = tf.function(tag, input_signature=whole)
