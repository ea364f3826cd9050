"""A model with int8 products (``ner.int8``) by onnxruntime: its folder told from others, its head, and its forward pass.

Inputs of the graph are int32 [rows, length], of ``ner.batches.Batch``: ``pieces``, ``positions`` and ``segments``, from which it makes the
mask of packed rows. The output ``scores`` is float32 [rows, length, tags], the head's scores of each piece. Decoding is not in the graph.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from ner.errors import InputError

FILE = "model.int8.onnx"
INPUTS = ("pieces", "positions", "segments")
OUTPUT = "scores"


def check_installed(*packages: str) -> None:
    """Refuse where one of these packages, which are of the extra ``onnx``, is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not installed", hint="pip install -e .[onnx]")


def is_ours(folder: Path, engine: str | None) -> bool:
    """Whether it is a folder of ``ner.int8``; refused where the engine that was asked for says otherwise, or onnxruntime is missing."""
    found = (folder / FILE).is_file()
    if found:
        check_installed("onnxruntime")  # without ``onnx``: only making the folder needs that
    if engine == "onnx" and not found:
        raise InputError(f"no {FILE}", path=folder, hint="make one: python export.py --int8")
    if engine == "tensorflow" and found:
        raise InputError("an int8 model, which onnxruntime runs", path=folder, hint="give --engine onnx, or the model it was made from")
    return found


def load_head(source):
    """The head of a folder of ``ner.int8``, for its decoding only: the tag layer's weights are in the graph."""
    from ner import pretrained

    pretrained.verify(source.folder)
    head = pretrained.HEADS[source.head](source.shape.hidden_size, source.tags)
    for tensor in head.tensors():
        if tensor.file != pretrained.WEIGHTS:
            path = source.folder / tensor.file
            value = pretrained.read_tensors(path).get(tensor.names[0])
            if value is None or value.shape != tensor.shape or not np.isfinite(value).all():
                what = f"no {tensor.names[0]} of the shape {list(tensor.shape)} with finite values"
                raise InputError(what, path=path, hint="export the model again")
            tensor.assign(value)
    return head


def make_predict(graph: Path | bytes, head):
    """``predict(iterator) -> what the head decodes``, as of ``ner.step.make_predict``, by onnxruntime.

    graph: an ONNX file or its content. iterator: of Batches of NumPy arrays.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    fusion = ["SkipLayerNormFusion"]  # a sum and its LayerNorm in one take longer than the two: a quarter of the whole time
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=fusion)
    except Exception as error:  # onnxruntime's have no class in common but this
        path = FILE if isinstance(graph, bytes) else graph
        raise InputError(f"onnxruntime cannot read it: {error}", path=path, hint="export the model again") from None

    def predict(iterator):
        batch = next(iterator)
        (scores,) = session.run([OUTPUT], {name: getattr(batch, name) for name in INPUTS})
        return head.to_decode(scores)

    return predict
