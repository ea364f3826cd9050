"""A trained model with int8 products for CPUs: the encoder and the tag layer as an ONNX graph. ``ner.onnx_model`` runs it.

The graph (opset 23) is written from the loaded model's weights, in ONNX's standard operators; onnxruntime then quantizes it. The weights
of a product become int8, with a scale for each output channel. Its input is rounded to 8 bits when it is computed, with one scale for all
rows of a call. Embeddings, LayerNorm, attention, activations and the tag layer stay float32.

A folder of ``write`` has ``FILE``, config.json, the tokenizer, the head's transitions and SHA256SUMS.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ner import files, modernbert, pretrained, saved_model
from ner.errors import InputError
from ner.inference import Tagger, model_folder
from ner.onnx_model import FILE, INPUTS, OUTPUT
from ner.scoring import Evaluation
from ner.sentences import Sentence

OPSET = 23  # the first with Attention and RotaryEmbedding
IR_VERSION = 10  # so that onnxruntime need not be newer than the opset asks for
TAG_LAYER = "tag_layer"
ACTIVATIONS: dict[str, tuple[str, dict]] = {"gelu": ("Gelu", {}), "gelu_new": ("Gelu", {"approximate": "tanh"}), "relu": ("Relu", {})}
ACTIVATIONS["gelu_pytorch_tanh"] = ACTIVATIONS["gelu_new"]


# The graph ------------------------------------------------------------------------------------------------------------


class Graph:
    """Nodes and weights of an ONNX graph, in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, kind: str, *inputs, name: str = "", outputs: int = 1, **attributes) -> Any:
        """A node of this operator; the name of its output, or a list of names. An input is such a name, or the value of a weight."""
        from onnx import helper

        name = name or f"{kind}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{number}" for number in range(outputs)]
        given = [x if isinstance(x, str) else self.weight(x) for x in inputs]
        self.nodes.append(helper.make_node(kind, given, names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, value) -> str:
        """The name of a new weight, with the value of an array or a Keras variable."""
        from onnx import numpy_helper

        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value.numpy() if hasattr(value, "numpy") else value), name))
        return name

    def dense(self, x: str, kernel, bias=None, **options) -> str:
        """x [..., in] times a kernel [in, out], plus the bias [out] if there is one."""
        x = self.add("MatMul", x, kernel, **options)
        return x if bias is None else self.add("Add", x, bias)

    def norm(self, x: str, epsilon: float, *scale_and_shift) -> str:
        """LayerNorm over the last axis, with or without a shift."""
        return self.add("LayerNormalization", x, *scale_and_shift, epsilon=epsilon)

    def activate(self, x: str, activation: str) -> str:
        """An activation of ``ner.layers``, by its name in config.json."""
        kind, attributes = ACTIVATIONS[activation]
        return self.add(kind, x, **attributes)

    def attend(self, query: str, key: str, value: str, mask: str, heads: int) -> str:
        """Attention between the pieces of [rows, length, hidden] that a mask of ``mask`` allows."""
        return self.add("Attention", query, key, value, mask, q_num_heads=heads, kv_num_heads=heads)

    def mask(self, seen: str) -> str:
        """What is added to the scores of attention, where bool [rows, 1, length, length] says which pieces see each other."""
        return self.add("Where", seen, np.array(0, np.float32), np.array(-1e30, np.float32))

    def pairs(self, kind: str, field: str) -> str:
        """An operator of each two pieces of a row: [rows, length] -> [rows, 1, length, length]."""
        return self.add(kind, self.add("Unsqueeze", field, np.array([1, 3])), self.add("Unsqueeze", field, np.array([1, 2])))


def graph_of(model):
    """The float32 graph of a ``ner.tagger.TaggingModel``, an onnx.ModelProto: what ner/bert.py or ner/modernbert.py compute."""
    from onnx import TensorProto, helper

    graph = Graph()
    seen = graph.pairs("Equal", "segments")
    hidden = (modern_bert if isinstance(model.encoder, modernbert.Encoder) else bert)(graph, model.encoder, seen)
    scores = graph.dense(hidden, model.head.tag_kernel, name=TAG_LAYER)
    graph.add("Add", scores, model.head.tag_bias, name=OUTPUT)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, ["rows", "length"]) for name in INPUTS]
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", "length", len(model.head.tags)])
    made = helper.make_graph(graph.nodes, "ner", inputs, [output], graph.weights)
    found = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="ner")
    # Otherwise quantize_dynamic advises to simplify the graph before, and there is nothing to simplify.
    helper.set_model_props(found, {"onnx.quant.pre_process": "onnxruntime.quant"})
    return found


def bert(graph: Graph, encoder, seen: str) -> str:
    """The last hidden state of a ``ner.bert.Encoder``."""
    config = encoder.config
    epsilon, heads = config.layer_norm_eps, config.num_attention_heads
    places = encoder.position_embeddings.numpy()[config.first_position :]
    if encoder.type_embeddings is not None:
        places = places + encoder.type_embeddings.numpy()[0]  # every piece has type 0
    x = graph.add("Gather", encoder.word_embeddings.table, "pieces")
    x = graph.norm(graph.add("Add", x, graph.add("Gather", places, "positions")), epsilon, encoder.embedding_scale, encoder.embedding_shift)
    if encoder.projection_kernel is not None:
        x = graph.dense(x, encoder.projection_kernel, encoder.projection_bias)
    mask = graph.mask(seen)
    for block in encoder.blocks:
        qkv = graph.dense(x, block.qkv_kernel, block.qkv_bias)
        query, key, value = graph.add("Split", qkv, outputs=3, axis=-1, num_outputs=3)
        mixed = graph.dense(graph.attend(query, key, value, mask, heads), block.mix_kernel, block.mix_bias)
        x = graph.norm(graph.add("Add", mixed, x), epsilon, block.attention_scale, block.attention_shift)
        inner = graph.activate(graph.dense(x, block.inner_kernel, block.inner_bias), config.hidden_act)
        outer = graph.dense(inner, block.outer_kernel, block.outer_bias)
        x = graph.norm(graph.add("Add", outer, x), epsilon, block.output_scale, block.output_shift)
    return x


def modern_bert(graph: Graph, encoder, seen: str) -> str:
    """What the classifier takes of a ``ner.modernbert.Encoder``."""
    config = encoder.config
    epsilon, heads = config.norm_eps, config.num_attention_heads
    # Positions are places in the window, so two pieces of one window are as far apart as their positions.
    apart = graph.add("Abs", graph.pairs("Sub", "positions"))
    near = {reach: graph.add("LessOrEqual", apart, np.array(reach, np.int32)) for reach in {*config.reaches} - {None}}
    masks = {None: graph.mask(seen)} | {reach: graph.mask(graph.add("And", seen, close)) for reach, close in near.items()}
    turns = {theta: [graph.weight(table) for table in rotation(config, theta)] for theta in {*config.thetas}}
    positions = graph.add("Cast", "positions", to=7)  # int64
    stream = x = graph.norm(graph.add("Gather", encoder.word_embeddings.table, "pieces"), epsilon, encoder.embedding_scale)
    for number, block in enumerate(encoder.blocks):
        if block.attention_scale is not None:
            x = graph.norm(stream, epsilon, block.attention_scale)
        query, key, value = graph.add("Split", graph.dense(x, block.qkv_kernel), outputs=3, axis=-1, num_outputs=3)
        tables = turns[config.thetas[number]]
        query, key = (graph.add("RotaryEmbedding", side, *tables, positions, num_heads=heads) for side in (query, key))
        mixed = graph.dense(graph.attend(query, key, value, masks[config.reaches[number]], heads), block.mix_kernel)
        stream = graph.add("Add", stream, mixed)
        inner = graph.dense(graph.norm(stream, epsilon, block.output_scale), block.inner_kernel)
        gated, factor = graph.add("Split", inner, outputs=2, axis=-1, num_outputs=2)
        gated = graph.add("Mul", graph.activate(gated, config.hidden_activation), factor)
        stream = graph.add("Add", stream, graph.dense(gated, block.outer_kernel))
    x = graph.dense(graph.norm(stream, epsilon, encoder.final_scale), encoder.head_kernel)
    return graph.norm(graph.activate(x, config.classifier_activation), epsilon, encoder.head_scale)


def rotation(config, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the rotary positions, float32 [positions, half of a head's size] each."""
    size = config.hidden_size // config.num_attention_heads
    angles = np.arange(config.longest_row)[:, None] / theta ** (np.arange(0, size, 2) / size)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


# The folder -----------------------------------------------------------------------------------------------------------


def write(
    ckpt: str | Path, output: Path, sentences: Sequence[Sentence], *, max_loss: float, overwrite: bool = False
) -> tuple[Evaluation, Evaluation]:
    """Write the int8 form of a checkpoint folder to ``output``; how the network and the int8 form score on the annotated sentences.

    max_loss: in points of entity F1 (0 to 100).

    Raises InputError for a folder that is no model, an output that must not be replaced, and an int8 form that loses more than
    ``max_loss``; nothing is written then.
    """
    folder = model_folder(ckpt)
    saved_model.check_output(output, folder, replaced=FILE if overwrite else None)
    if all(tag == "O" for sentence in sentences for tag in sentence.tags):
        raise InputError("--data has no entity, so it cannot tell what int8 loses", hint="give a file with entities")
    source = pretrained.read(folder)
    model = pretrained.build(source, source.tags, head=source.head)
    pretrained.load(model, source, head=True)
    with tempfile.TemporaryDirectory() as made:
        quantize(graph_of(model), Path(made) / FILE)
        kept = [*pretrained.FILES, *(tensor.file for tensor in model.head.tensors())]
        for name in {*kept} - {pretrained.WEIGHTS}:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(made) / name)
        pretrained.write_sums(Path(made))
        here, int8 = (evaluate(Tagger.load(path), sentences) for path in (folder, made))
        loss = 100 * (here.scores.f1 - int8.scores.f1)
        if loss > max_loss:
            what = f"int8 loses {loss:.2f} points of F1 (here {here.scores.f1:.4f}, int8 {int8.scores.f1:.4f}), more than {max_loss:g}"
            raise InputError(what, hint="use the model as it is, or allow more by --max-loss")
        with files.replacing_folder(output) as partial:
            for path in Path(made).iterdir():  # not the folder itself, which is private
                shutil.copyfile(path, partial / path.name)
    return here, int8


def quantize(graph, path: Path) -> None:
    """Write the graph to ``path`` with the weights of its products as int8, each output channel with a scale of its own."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        graph, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8, nodes_to_exclude=[TAG_LAYER]
    )


def evaluate(tagger, sentences: Sequence[Sentence]) -> Evaluation:
    """How the tagger's tags compare with the annotated ones."""
    words, gold, documents = zip(*((s.words, s.tags, s.document) for s in sentences), strict=True)
    return Evaluation(words, gold, *tagger.tag(words, documents))
