"""Each family of encoders against what PyTorch computes with the same random weights (tests/make_fixture.py)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ner import batches, pretrained
from ner.batches import NO_LABEL, Batch
from ner.errors import InputError
from ner.wordpieces import WordPieces

FIXTURES = Path(__file__).parent / "fixtures"
FAMILIES = ("bert", "roberta", "xlm_roberta", "camembert", "distilbert", "electra", "modernbert")
SEED = tf.constant(0, tf.uint32)

pytestmark = pytest.mark.parametrize("family", FAMILIES)


def folder_of(family: str) -> Path:
    return FIXTURES / f"tiny_{family}"


def load(folder: Path, **options):
    source = pretrained.read(folder)
    model = pretrained.build(source, source.tags, **options)
    pretrained.load(model, source, head=True)
    return model


def expected_of(family: str) -> dict[str, np.ndarray]:
    return dict(np.load(folder_of(family) / "expected.npz"))


def batch_of(expected: dict[str, np.ndarray]) -> Batch:
    """The sentences one a row, as PyTorch had them."""
    pieces, lengths = expected["pieces"].astype(np.int32), expected["lengths"]
    positions = np.broadcast_to(np.arange(pieces.shape[1], dtype=np.int32), pieces.shape)
    segments = (positions < lengths[:, None]).astype(np.int32)
    labels = np.where(expected["labels"] < 0, NO_LABEL, expected["labels"]).astype(np.int32)
    empty = batches.empty_rows(*pieces.shape)
    return empty._replace(pieces=pieces, positions=positions, segments=segments, labels=labels).map(tf.constant)


def packed_batch_of(expected: dict[str, np.ndarray], length: int = 64) -> Batch:
    """The same sentences in one row, the longest last."""
    lengths = expected["lengths"].tolist()
    pad = length - sum(lengths)
    ends = np.cumsum(lengths)

    def row(parts, fill):
        return np.concatenate([*parts, np.full(pad, fill)])[None].astype(np.int32)

    inside = [slice(end - n, end) for end, n in zip(ends, lengths, strict=True)]
    assert inside[-1].stop == sum(lengths)
    values = {
        "pieces": row([expected["pieces"][i, :n] for i, n in enumerate(lengths)], 0),
        "positions": row([np.arange(n) for n in lengths], 0),
        "segments": row([np.full(n, i + 1) for i, n in enumerate(lengths)], 0),
        "labels": row(
            [np.where(expected["labels"][i, :n] < 0, NO_LABEL, expected["labels"][i, :n]) for i, n in enumerate(lengths)], NO_LABEL
        ),
    }
    return batches.empty_rows(1, length)._replace(**values).map(tf.constant)


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    """To 4e-6 of the largest. Rounding in float32 is 2e-6 of it (PyTorch's own too); another epsilon in LayerNorm would be 2e-5."""
    assert np.abs(found - wanted).max() < 4e-6 * np.abs(wanted).max()


def test_outputs_equal_pytorchs(family):
    expected, model = expected_of(family), load(folder_of(family))
    batch = batch_of(expected)
    real = batch.segments.numpy().astype(bool)
    hidden = model.encoder(batch, SEED, training=False).numpy().reshape(expected["hidden"].shape)
    close(hidden[real], expected["hidden"][real])
    close(model(batch, SEED, training=False).numpy()[real], expected["logits"][real])


def test_packed_sentences_have_the_outputs_of_sentences_apart(family):
    expected, model = expected_of(family), load(folder_of(family))
    found = model(packed_batch_of(expected), SEED, training=False).numpy()[0]
    apart = np.concatenate([expected["logits"][i, :n] for i, n in enumerate(expected["lengths"])])
    close(found[: len(apart)], apart)


@pytest.mark.parametrize("pack", [batch_of, packed_batch_of])
def test_gradients_equal_pytorchs(family, pack):
    expected, model = expected_of(family), load(folder_of(family))
    batch = pack(expected)
    with tf.GradientTape() as tape:
        loss = model.head.loss(model(batch, SEED, training=False), batch) / np.count_nonzero(expected["labels"] >= 0)
    assert abs(float(loss) - expected["loss"]) < 1e-5
    names = list(model.trained)
    gradients = dict(zip(names, tape.gradient(loss, list(model.trained.values())), strict=True))
    compared = 0
    for tensor in model.tensors():
        gradient = tf.convert_to_tensor(gradients[tensor.names[0]]).numpy()
        parts = [expected[f"gradient:{name}"] for name in tensor.names]
        wanted = tensor.from_file(parts)
        assert gradient.shape == wanted.shape
        # PyTorch gives the padding piece no gradient; here it is never read.
        assert np.abs(gradient - wanted).max() < 1e-4, tensor.names
        compared += len(parts)
    assert compared == sum(name.startswith("gradient:") for name in expected)


def test_bfloat16_stays_close(family):
    expected, model = expected_of(family), load(folder_of(family), compute_dtype=tf.bfloat16)
    batch = batch_of(expected)
    scores = model(batch, SEED, training=False)
    assert scores.dtype == tf.float32
    error = np.abs(scores.numpy() - expected["logits"])[batch.segments.numpy().astype(bool)]
    assert 1e-5 < error.mean() < 0.05 * np.abs(expected["logits"]).mean() + 0.05


def test_dropout_depends_on_the_seed_alone(family):
    expected, model = expected_of(family), load(folder_of(family), encoder_dropout=0.2)
    batch = batch_of(expected)

    def run(seed):
        return model(batch, tf.constant(seed, tf.uint32), training=True).numpy()

    assert np.array_equal(run(1), run(1))
    assert not np.allclose(run(1), run(2))


def test_a_saved_model_has_the_same_tensors_and_outputs(family, tmp_path):
    folder = folder_of(family)
    source, model = pretrained.read(folder), load(folder)
    pretrained.save(model, tmp_path / "model", source=source, pieces=WordPieces.load(source))
    before, after = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "model"))
    left_out = {"transformers_version", "classifier_dropout"}
    assert {k: v for k, v in before.items() if k not in left_out} == {k: v for k, v in after.items() if k not in left_out}
    names = [set(pretrained._read_weights(path, source.family)) for path in (folder, tmp_path / "model")]
    assert names[0] == names[1]
    batch = batch_of(expected_of(family))
    again = load(tmp_path / "model")
    assert np.array_equal(again(batch, SEED, training=False), model(batch, SEED, training=False))


def test_a_bare_encoder_loads_under_the_names_without_the_models(family, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = folder_of(family)
    tensors = load_file(folder / "model.safetensors")
    first = {"modernbert": "model"}.get(family, "roberta" if "roberta" in family or family == "camembert" else family)
    bare = {name.removeprefix(f"{first}."): value for name, value in tensors.items() if name.startswith(f"{first}.")}
    assert len(bare) < len(tensors)
    # TensorFlow's names, buffers, and the heads of other tasks.
    bare = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): bare[name] for name in bare}
    bare |= {f"embeddings.{name}": np.arange(64)[None] for name in ("position_ids", "token_type_ids")}
    bare |= {name: np.zeros([2, 3], np.float32) for name in ("classifier.out_proj.weight", "pre_classifier.weight", "qa_outputs.weight")}
    save_file(bare, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    source, whole = pretrained.read(tmp_path), load(folder)
    model = pretrained.build(source, source.tags)
    pretrained.load(model, source, head=False)
    at_random = [
        tensor.names[0] for tensor in model.encoder.tensors() if tensor.names[0] not in tensors or tensor.names[0].startswith("head.")
    ]
    assert at_random == (["head.dense.weight", "head.norm.weight"] if family == "modernbert" else [])
    for name, variable in model.trained.items():
        if name.startswith(f"{first}."):
            assert np.array_equal(variable, whole.trained[name]), name


def test_one_missing_tensor_is_refused(family, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = folder_of(family)
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if "1" in name and name.endswith(".weight"))
    del tensors[gone]
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    source = pretrained.read(tmp_path)
    with pytest.raises(InputError, match=f"{gone} is missing"):
        pretrained.load(pretrained.build(source, source.tags), source, head=False)


def test_pieces_of_words_equal_transformers(family):
    expected = json.loads((folder_of(family) / "words.json").read_text())
    source = pretrained.read(folder_of(family))
    as_pretrained = dataclasses.replace(source, config=source.config | {"architectures": ["AForMaskedLM"]})
    pieces = WordPieces.load(as_pretrained)
    found = pieces.encode_words(expected["words"])
    assert found == [ids or [pieces.unk] for ids in expected["pieces"]]
    assert all(max(ids) < source.shape.vocab_size for ids in found)


def test_special_pieces_are_those_of_the_tokenizer(family):
    source = pretrained.read(folder_of(family))
    pieces = WordPieces.load(source)
    names = [pieces.tokenizer.id_to_token(number) for number in (pieces.cls, pieces.sep, pieces.unk)]
    sentencepiece = family in ("roberta", "xlm_roberta", "camembert")
    assert names == (["<s>", "</s>", "<unk>"] if sentencepiece else ["[CLS]", "[SEP]", "[UNK]"])


def test_a_row_has_as_many_places_as_the_family_has(family):
    assert pretrained.read(folder_of(family)).row_length == (256 if family == "modernbert" else 64)
