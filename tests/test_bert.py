from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ner import batches, pretrained
from ner.batches import Batch


@pytest.fixture(scope="module")
def expected(tiny):
    return np.load(tiny / "expected.npz")


SEED = tf.constant(0, tf.uint32)


def load(tiny, **options):
    source = pretrained.read(tiny)
    model = pretrained.build(source, source.tags, **options)
    pretrained.load(model, source, head=True)
    return model


@pytest.fixture(scope="module")
def model(tiny):
    return load(tiny)


def batch_of(expected) -> Batch:
    pieces, lengths = expected["pieces"].astype(np.int32), expected["lengths"]
    positions = np.broadcast_to(np.arange(pieces.shape[1], dtype=np.int32), pieces.shape)
    segments = (positions < lengths[:, None]).astype(np.int32)
    empty = batches.empty_rows(*pieces.shape)
    return empty._replace(pieces=pieces, positions=positions, segments=segments).map(tf.constant)


def test_hidden_states_equal_pytorchs(model, expected):
    batch = batch_of(expected)
    hidden = model.encoder(batch, SEED, training=False).numpy()
    real = batch.segments.numpy().astype(bool)
    difference = np.abs(hidden.reshape(expected["hidden"].shape) - expected["hidden"])[real]
    assert difference.max() < 1e-5


def test_scores_equal_pytorchs_logits(model, expected):
    batch = batch_of(expected)
    scores = model(batch, SEED, training=False).numpy()
    assert scores.shape == (*batch.shape, 5)
    assert np.abs(scores - expected["logits"])[batch.segments.numpy().astype(bool)].max() < 1e-5


def test_a_pieces_token_type_chooses_the_row_that_is_added(tiny, expected):
    model, plain = load(tiny), load(tiny)
    rows = plain.encoder.type_embeddings.numpy()
    plain.encoder.type_embeddings.assign(rows[::-1])
    batch = batch_of(expected)
    swapped = plain(batch, SEED, training=False).numpy()
    assert np.array_equal(model(batch._replace(types=batch.types + 1), SEED, training=False).numpy(), swapped)
    assert not np.allclose(model(batch, SEED, training=False).numpy(), swapped)


def test_packed_sentences_do_not_see_each_other(model, expected):
    pieces, lengths = expected["pieces"], expected["lengths"]
    row = np.concatenate([pieces[i, :n] for i, n in enumerate(lengths)])
    pad = -len(row) % 64
    positions = np.concatenate([*(np.arange(n) for n in lengths), np.zeros(pad)]).astype(np.int32)
    segments = np.concatenate([*(np.full(n, i + 1) for i, n in enumerate(lengths)), np.zeros(pad)]).astype(np.int32)
    row = np.pad(row, (0, pad)).astype(np.int32)
    packed = batches.empty_rows(1, len(row))._replace(pieces=row[None], positions=positions[None], segments=segments[None])
    hidden = model.encoder(packed.map(tf.constant), SEED, training=False).numpy()
    apart = np.concatenate([expected["hidden"][i, :n] for i, n in enumerate(lengths)])
    assert np.abs(hidden[: len(apart)] - apart).max() < 1e-5


def test_bfloat16_stays_close_and_logits_stay_float32(tiny, expected):
    model = load(tiny, compute_dtype=tf.bfloat16)
    batch = batch_of(expected)
    scores = model(batch, SEED, training=False)
    assert scores.dtype == tf.float32
    error = np.abs(scores.numpy() - expected["logits"])[batch.segments.numpy().astype(bool)]
    assert 1e-5 < error.mean() < 0.05 * np.abs(expected["logits"]).mean() + 0.05


def test_dropout_depends_on_the_seed_alone(tiny, expected):
    model, batch = load(tiny, dropout=0.3), batch_of(expected)

    def run(seed):
        return model(batch, tf.constant(seed, tf.uint32), training=True).numpy()

    assert np.array_equal(run(1), run(1))
    assert not np.allclose(run(1), run(2))
