from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ner import pretrained
from ner.tagger import TaggingModel


@pytest.fixture(scope="module")
def expected(tiny):
    return np.load(tiny / "expected.npz")


@pytest.fixture(scope="module")
def model(tiny):
    model = TaggingModel(pretrained.encoder_config(tiny), 5)
    pretrained.load(model, tiny, classifier=True)
    return model


def batch_of(expected):
    pieces, lengths = expected["pieces"].astype(np.int32), expected["lengths"]
    length = pieces.shape[1]
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), pieces.shape)
    segments = (positions < lengths[:, None]).astype(np.int32)
    return pieces, np.zeros_like(pieces), positions, segments


def test_hidden_states_equal_pytorchs(model, expected):
    batch = batch_of(expected)
    hidden = model.encoder(*map(tf.constant, batch), tf.constant(0, tf.uint32), training=False).numpy()
    real = batch[3].astype(bool)
    difference = np.abs(hidden.reshape(expected["hidden"].shape) - expected["hidden"])[real]
    assert difference.max() < 1e-5


def test_logits_equal_pytorchs_and_the_padding_unit_is_added(model, expected):
    batch = batch_of(expected)
    logits = model(*map(tf.constant, batch), tf.constant(0, tf.uint32), training=False).numpy()
    assert logits.shape == (*batch[0].shape, 6)
    assert np.abs(logits[..., :5] - expected["logits"])[batch[3].astype(bool)].max() < 1e-5


def test_a_pieces_token_type_chooses_the_row_that_is_added(tiny, expected):
    model, plain = (TaggingModel(pretrained.encoder_config(tiny), 5) for _ in range(2))
    for one in (model, plain):
        pretrained.load(one, tiny, classifier=True)
    rows = plain.encoder.type_embeddings.numpy()
    plain.encoder.type_embeddings.assign(rows[::-1])
    pieces, types, *others = map(tf.constant, batch_of(expected))
    seed = tf.constant(0, tf.uint32)
    swapped = plain(pieces, types, *others, seed, training=False).numpy()
    assert np.array_equal(model(pieces, types + 1, *others, seed, training=False).numpy(), swapped)
    assert not np.allclose(model(pieces, types, *others, seed, training=False).numpy(), swapped)


def test_packed_sentences_do_not_see_each_other(model, expected):
    pieces, *_ = batch_of(expected)
    lengths = expected["lengths"]
    row = np.concatenate([pieces[i, :n] for i, n in enumerate(lengths)])
    pad = -len(row) % 64
    positions = np.concatenate([*(np.arange(n) for n in lengths), np.zeros(pad)]).astype(np.int32)
    segments = np.concatenate([*(np.full(n, i + 1) for i, n in enumerate(lengths)), np.zeros(pad)]).astype(np.int32)
    row = np.pad(row, (0, pad)).astype(np.int32)
    fields = [tf.constant(field[None]) for field in (row, np.zeros_like(row), positions, segments)]
    hidden = model.encoder(*fields, tf.constant(0, tf.uint32), training=False).numpy()
    apart = np.concatenate([expected["hidden"][i, :n] for i, n in enumerate(lengths)])
    assert np.abs(hidden[: len(apart)] - apart).max() < 1e-5


def test_bfloat16_stays_close_and_logits_stay_float32(tiny, expected):
    model = TaggingModel(pretrained.encoder_config(tiny), 5, compute_dtype=tf.bfloat16)
    pretrained.load(model, tiny, classifier=True)
    batch = batch_of(expected)
    logits = model(*map(tf.constant, batch), tf.constant(0, tf.uint32), training=False)
    assert logits.dtype == tf.float32
    error = np.abs(logits.numpy()[..., :5] - expected["logits"])[batch[3].astype(bool)]
    assert 1e-5 < error.mean() < 0.05 * np.abs(expected["logits"]).mean() + 0.05


def test_dropout_depends_on_the_seed_alone(tiny, expected):
    model = TaggingModel(pretrained.encoder_config(tiny), 5, dropout_rate=0.3)
    batch = [tf.constant(x) for x in batch_of(expected)]

    def run(seed):
        return model(*batch, tf.constant(seed, tf.uint32), training=True).numpy()

    assert np.array_equal(run(1), run(1))
    assert not np.allclose(run(1), run(2))
