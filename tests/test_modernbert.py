from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ner import batches, modernbert, pretrained
from ner.errors import InputError

PATH = Path("config.json")
FOLDER = Path(__file__).parent / "fixtures" / "tiny_modernbert"
CONFIG = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
NEW = {"layer_types": ["full_attention", *["sliding_attention"] * 2, "full_attention"]}
ROTARY = {"full_attention": {"rope_theta": 5e4, "rope_type": "default"}, "sliding_attention": {"rope_theta": 300.0}}


@pytest.mark.parametrize(
    ("more", "thetas"),
    [
        ({}, (160_000.0, 10_000.0, 10_000.0, 160_000.0)),
        ({"global_attn_every_n_layers": 3, "global_rope_theta": 5e4, "local_rope_theta": 300}, (5e4, 300.0, 300.0, 5e4)),
        (NEW | {"rope_parameters": ROTARY}, (5e4, 300.0, 300.0, 5e4)),
        ({"global_rope_theta": 5e4, "local_rope_theta": None}, (5e4, 5e4, 5e4, 5e4)),
        ({"hidden_activation": "gelu_pytorch_tanh"}, (160_000.0, 10_000.0, 10_000.0, 160_000.0)),
    ],
)
def test_both_ways_to_write_layers_and_rotary_positions_are_read(more, thetas):
    shape = modernbert.read_config(CONFIG | more, PATH)
    assert shape.thetas == thetas and shape.reaches == (None, 64, 64, None) and shape.longest_row == 8192


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"attention_bias": True}, "attention_bias True is not supported"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}}, "scaled"),
        ({"rope_scaling": {"factor": 2}}, "scaled"),
        ({"rope_parameters": {"full_attention": {"type": "linear", "factor": 4.0}}}, "scaled"),
        ({"rope_parameters": {"full_attention": {"rope_type": []}}}, "scaled"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, "scaled"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers is 0"),
        ({"global_rope_theta": "big"}, "theta of full_attention is 'big'"),
        ({"num_attention_heads": 3}, "not a multiple"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"hidden_activation": "swish"}, "hidden_activation 'swish'"),
    ],
)
def test_what_the_layers_do_not_compute_is_refused_in_one_line(more, message):
    with pytest.raises(InputError, match=message) as error:
        modernbert.read_config(CONFIG | more, PATH)
    assert "\n" not in str(error.value)


def hidden_of_row(pieces: list[int], segments: list[int], positions: list[int], layers: int | None = None) -> np.ndarray:
    source = pretrained.read(FOLDER)
    model = pretrained.build(source, source.tags)
    pretrained.load(model, source, head=True)
    row = batches.empty_rows(1, len(pieces))
    values = {"pieces": pieces, "segments": segments, "positions": positions}
    row = row._replace(**{name: np.array([value], np.int32) for name, value in values.items()})
    return model.encoder(row.map(tf.constant), tf.constant(0, tf.uint32), training=False).numpy()


@pytest.mark.parametrize(("distance", "seen"), [(4, True), (5, False)])
def test_a_local_layer_sees_as_far_as_half_of_local_attention_and_no_farther(tmp_path, distance, seen):
    """A model of local layers only, of which there is one: what lies ``distance`` pieces away changes the output, or does not."""
    folder = shutil.copytree(FOLDER, tmp_path / "model")
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in tensors.items() if "layers." not in name or ".layers.0." in name}, folder / "model.safetensors"
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1, "layer_types": ["sliding_attention"]}))
    source = pretrained.read(folder)
    model = pretrained.build(source, source.tags)
    pretrained.load(model, source, head=True)

    def last(piece: int) -> np.ndarray:
        pieces = np.full([1, 16], 20, np.int32)
        pieces[0, 15 - distance] = piece
        row = batches.empty_rows(1, 16)._replace(
            pieces=pieces, segments=np.ones([1, 16], np.int32), positions=np.arange(16, dtype=np.int32)[None]
        )
        return model.encoder(row.map(tf.constant), tf.constant(0, tf.uint32), training=False).numpy()[15]

    assert np.array_equal(last(20), last(30)) != seen


def test_rotary_positions_begin_anew_at_each_sentence_of_a_row():
    sentence = [0, 30, 40, 50, 2]
    alone = hidden_of_row(sentence + [1] * 11, [1] * 5 + [0] * 11, [*range(5)] + [0] * 11)
    behind = hidden_of_row([0, 60, 2] + sentence + [1] * 8, [1] * 3 + [2] * 5 + [0] * 8, [*range(3), *range(5)] + [0] * 8)
    np.testing.assert_allclose(behind[3:8], alone[:5], rtol=1e-4, atol=1e-5)


def test_a_head_that_the_checkpoint_lacks_begins_at_random_and_the_same_each_time():
    source = pretrained.read(FOLDER)
    one, other = (pretrained.build(source, source.tags).encoder.head_kernel.numpy() for _ in range(2))
    assert one.any() and np.array_equal(one, other)
