"""The int8 form of a model: its graph beside the network, its folder through the programs, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest
from programs import call
from safetensors.numpy import save_file
from test_decoding import is_iob2
from test_families import FAMILIES, SEED, batch_of, expected_of, folder_of, load, packed_batch_of

from ner import formats, int8, onnx_model, pretrained
from ner.errors import InputError
from ner.inference import Tagger
from ner.scoring import Evaluation
from ner.sentences import Sentence
from ner.wordpieces import WordPieces

missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(missing), reason="onnx and onnxruntime are not installed (pip install -e .[onnx])")


@needs_onnx
@pytest.mark.parametrize("family", FAMILIES)
def test_the_float32_graph_gives_the_networks_log_probabilities(family):
    """In a packed row, and in rows of a sentence each, which have another shape."""
    model, expected = load(folder_of(family)), expected_of(family)
    predict = onnx_model.make_predict(int8.graph_of(model).SerializeToString(), model.head)
    for batch in (packed_batch_of(expected), batch_of(expected)):
        found = predict(iter([batch.map(np.asarray)]))
        wanted = model.head.to_decode(model(batch, SEED, training=False))
        difference = np.abs(np.asarray(found) - np.asarray(wanted))[batch.segments.numpy() > 0]
        assert difference.max() < 1e-4


@needs_onnx
@pytest.mark.parametrize("name", int8.ACTIVATIONS)
def test_activations_are_those_of_the_network(name):
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    from ner import layers

    graph = int8.Graph()
    graph.activate("x", name)
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n"]) for end in ("x", graph.nodes[-1].output[0])]
    made = helper.make_graph(graph.nodes, "one", ends[:1], ends[1:])
    x = np.linspace(-4, 4, 99, dtype=np.float32)
    (found,) = ReferenceEvaluator(helper.make_model(made, opset_imports=[helper.make_opsetid("", int8.OPSET)])).run(None, {"x": x})
    np.testing.assert_allclose(found, layers.ACTIVATIONS[name](x), atol=1e-5)
    assert set(int8.ACTIVATIONS) == set(layers.ACTIVATIONS)


@pytest.fixture(scope="module", params=["counted", "crf"])
def model(request, tmp_path_factory, toy_sentences):
    """A model with random weights as training writes it, and a file that is annotated by its own tags."""
    folder = tmp_path_factory.mktemp("run")
    source = pretrained.read(folder_of("bert"))
    made = pretrained.build(source, source.tags, head=request.param, seed=3)
    pretrained.load(made, source, head=False)
    made.head.transitions.assign(np.random.default_rng(0).normal(size=made.head.transitions.shape))
    notes = {"row_length": 32, "head": request.param, "compute_dtype": "float32"}
    pretrained.save(made, folder / "model", source=source, pieces=WordPieces.load(source), notes=notes)
    words = [s.words for s in toy_sentences]
    tags, _ = Tagger.load(folder).tag(words)
    formats.write(folder / "own.conll", [Sentence(*both) for both in zip(words, tags, strict=True)])
    return folder


def export(folder, output, *flags):
    return call("export", "--ckpt", folder, "--output", output, "--int8", "--data", folder / "own.conll", *flags)


@needs_onnx
def test_the_int8_model_gives_nearly_the_same_tags_through_the_programs(model, tmp_path):
    done = export(model, tmp_path / "int8", "--max-loss", 10)
    assert done.returncode == 0, done.stderr
    printed = re.search(r"F1 \(seqeval default mode\) 1\.0000 as it was, ([0-9.]+) in int8: [+-][0-9.]+ points\n", done.stdout)
    assert printed and float(printed[1]) > 0.9
    done = call("evaluate", "--ckpt", tmp_path / "int8", "--data", model / "own.conll", "--json", tmp_path / "scores.json")
    assert done.returncode == 0, done.stderr
    assert f"{json.loads((tmp_path / 'scores.json').read_text())['f1']:.4f}" == printed[1]
    sentences = formats.read(model / "own.conll")
    (tmp_path / "lines.txt").write_text("".join(" ".join(s.words) + "\n" for s in sentences))
    flags = ["--input", tmp_path / "lines.txt", "--pre-split", "--format", "jsonl"]
    done = call("predict", "--ckpt", tmp_path / "int8", "--engine", "onnx", *flags)
    assert done.returncode == 0, done.stderr
    tags = [json.loads(line)["tags"] for line in done.stdout.splitlines()]
    assert all(map(is_iob2, tags))
    assert f"{Evaluation([s.words for s in sentences], [s.tags for s in sentences], tags).scores.f1:.4f}" == printed[1]
    again = export(model, tmp_path / "int8", "--max-loss", 10)
    assert again.returncode == 2 and "is there already" in again.stderr
    assert export(model, tmp_path / "int8", "--max-loss", 10, "--overwrite").returncode == 0


@needs_onnx
def test_damaged_transitions_are_refused_in_one_line(model, tmp_path):
    assert export(model, tmp_path / "int8", "--max-loss", 10).returncode == 0
    (tmp_path / "int8" / "SHA256SUMS").unlink()
    found = pretrained.read(tmp_path / "int8", onnx_model.FILE)
    own = {"counted": "transitions.safetensors", "crf": "crf.safetensors"}[found.head]
    (tmp_path / "int8" / own).write_bytes(b"{}")
    with pytest.raises(InputError, match=f"{own}: cannot be read"):
        onnx_model.load_head(found)
    save_file({"other": np.zeros(2, np.float32)}, tmp_path / "int8" / own)
    with pytest.raises(InputError, match=f"{own}: no .*transitions of the shape"):
        onnx_model.load_head(found)


@needs_onnx
def test_the_weights_of_products_are_int8_and_scaled_by_channel(model, tmp_path):
    import onnx

    int8.quantize(int8.graph_of(load(folder_of("bert"))), tmp_path / onnx_model.FILE)
    graph = onnx.load(tmp_path / onnx_model.FILE).graph
    weights = {weight.name: weight for weight in graph.initializer}
    kernels = [name for name, weight in weights.items() if weight.data_type == onnx.TensorProto.INT8 and len(weight.dims) == 2]
    assert len(kernels) == 4 * 2  # of two layers
    for name in kernels:
        assert weights[name.replace("_quantized", "_scale")].dims == weights[name].dims[1:]
    assert [node.name for node in graph.node if node.op_type == "MatMul"] == [int8.TAG_LAYER]


@needs_onnx
def test_an_int8_model_that_loses_more_is_refused_and_nothing_is_left(model, tmp_path, monkeypatch):
    graph_of = int8.graph_of

    def broken(network):
        network.head.tag_kernel.assign(-network.head.tag_kernel)
        return graph_of(network)

    monkeypatch.setattr(int8, "graph_of", broken)
    done = export(model, tmp_path / "int8")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert re.match(r"error: int8 loses \d+\.\d\d points of F1 \(here 1\.0000, int8 0\.\d{4}\), more than 0\.3; ", done.stderr)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "plain.conll").write_text("alex O\n\n")
    done = call("export", "--ckpt", model, "--output", tmp_path / "int8", "--int8", "--data", tmp_path / "plain.conll")
    assert done.returncode == 2 and "has no entity" in done.stderr and not (tmp_path / "int8").exists()


@needs_onnx
def test_a_folder_is_run_by_the_engine_that_it_is_for(model, tmp_path):
    assert export(model, tmp_path / "int8", "--max-loss", 10).returncode == 0
    done = call("predict", "--ckpt", tmp_path / "int8", "--engine", "tensorflow", "alex")
    assert done.returncode == 2 and "give --engine onnx" in done.stderr
    done = call("train", "--encoder", tmp_path / "int8", "--dry-run")
    assert done.returncode == 2 and "no model.safetensors" in done.stderr
    with open(tmp_path / "int8" / onnx_model.FILE, "ab") as file:
        file.write(b"x")
    done = call("predict", "--ckpt", tmp_path / "int8", "alex")
    assert done.returncode == 2 and "SHA256SUMS" in done.stderr
    (tmp_path / "int8" / "SHA256SUMS").unlink()
    (tmp_path / "int8" / onnx_model.FILE).write_bytes(b"x" * 100_000)
    done = call("predict", "--ckpt", tmp_path / "int8", "alex")
    assert done.returncode == 2 and f"{onnx_model.FILE}: onnxruntime cannot read it: " in done.stderr and done.stderr.count("\n") == 1


@needs_onnx
def test_transitions_that_are_not_finite_are_refused(model, tmp_path):
    assert export(model, tmp_path / "int8", "--max-loss", 10).returncode == 0
    folder = tmp_path / "int8"
    source = pretrained.read(folder, weights=onnx_model.FILE)
    (own,) = {tensor.file for tensor in onnx_model.load_head(source).tensors()} - {pretrained.WEIGHTS}
    broken = {name: np.full_like(value, np.nan) for name, value in pretrained.read_tensors(folder / own).items()}
    save_file(broken, folder / own)
    (folder / "SHA256SUMS").unlink()
    done = call("predict", "--ckpt", folder, "alex")
    assert done.returncode == 2 and f"{own}: no " in done.stderr and "finite" in done.stderr and done.stderr.count("\n") == 1


def test_flags_that_do_not_go_together_are_refused(tmp_path):
    for flags, what in (
        (["--int8"], "--data is missing"),
        (["--int8", "--data", "x.conll", "--length", 9], "--length is not for --int8"),
        (["--data", "x.conll"], "are for --int8"),
        (["--max-loss", 1], "are for --int8"),
    ):
        done = call("export", "--ckpt", folder_of("bert"), "--output", tmp_path / "int8", *flags)
        assert done.returncode == 2 and what in done.stderr and done.stderr.count("\n") == 1
    done = call("predict", "--ckpt", folder_of("bert"), "--engine", "onnx", "alex")
    assert done.returncode == 2 and "no model.int8.onnx" in done.stderr and "export.py --int8" in done.stderr


def test_without_onnxruntime_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model.importlib.util, "find_spec", lambda name: None)
    done = call("export", "--ckpt", folder_of("bert"), "--output", tmp_path / "int8", "--int8", "--data", "x.conll")
    assert done.returncode == 2 and done.stderr == "error: onnx and onnxruntime not installed; pip install -e .[onnx]\n"


def test_a_finished_folder_needs_onnxruntime_alone(tmp_path, monkeypatch):
    (tmp_path / onnx_model.FILE).touch()
    installed = {"onnxruntime"}
    monkeypatch.setattr(onnx_model.importlib.util, "find_spec", lambda name: name if name in installed else None)
    assert onnx_model.is_ours(tmp_path, None)
    installed.clear()
    with pytest.raises(InputError, match="^onnxruntime not installed"):
        onnx_model.is_ours(tmp_path, None)
