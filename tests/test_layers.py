from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ner import batches, layers, pretrained
from ner.wordpieces import WordPieces

FIXTURES = Path(__file__).parent / "fixtures"
SEED = tf.constant(0, tf.uint32)


@pytest.fixture(params=["bert", "modernbert"])
def source(request):
    return pretrained.read(FIXTURES / f"tiny_{request.param}")


def load(source, **options):
    model = pretrained.build(source, source.tags, **options)
    pretrained.load(model, source, head=True)
    return model


def batch_of(pieces: np.ndarray) -> batches.Batch:
    rows = batches.empty_rows(*pieces.shape)
    positions = np.broadcast_to(np.arange(pieces.shape[1], dtype=np.int32), pieces.shape)
    labels = (pieces % 3).astype(np.int32)
    return rows._replace(pieces=pieces, positions=positions, segments=np.ones_like(pieces), labels=labels).map(tf.constant)


def test_pieces_that_do_not_occur_in_training_keep_their_embeddings_and_all_else_is_the_same(source):
    random = np.random.default_rng(0)
    seen = np.unique(random.choice(source.shape.vocab_size, 20))
    some, whole = load(source, seen=seen), load(source)
    batch = batch_of(random.choice(seen, [2, 16]).astype(np.int32))
    gradients = []
    for model in (some, whole):
        with tf.GradientTape() as tape:
            loss = model.head.loss(model(batch, SEED, training=True), batch)
        gradients.append(
            dict(zip(model.trained, map(tf.convert_to_tensor, tape.gradient(loss, list(model.trained.values()))), strict=True))
        )
    one, all_rows = gradients
    assert one.keys() == all_rows.keys()
    for name, gradient in one.items():
        expected = all_rows[name].numpy()
        np.testing.assert_allclose(gradient, expected[seen] if name == source.family.WORDS else expected, rtol=1e-5, atol=1e-6)
    assert not np.delete(all_rows[source.family.WORDS].numpy(), seen, axis=0).any()


def test_predictions_read_every_piece_and_a_saved_model_holds_all_of_them(source, tmp_path):
    random = np.random.default_rng(1)
    seen = np.unique(random.choice(source.shape.vocab_size, 20))
    some, whole = load(source, seen=seen), load(source)
    name = source.family.WORDS
    change = random.normal(size=[len(seen), source.shape.hidden_size]).astype(np.float32)
    some.trained[name].assign_add(change)
    table = whole.trained[name].numpy()
    table[seen] += change
    whole.trained[name].assign(table)
    batch = batch_of(random.integers(0, source.shape.vocab_size, [2, 16]).astype(np.int32))
    np.testing.assert_array_equal(some(batch, SEED, training=False), whole(batch, SEED, training=False))
    pretrained.save(some, tmp_path / "model", source=source, pieces=WordPieces.load(source))
    again = load(pretrained.read(tmp_path / "model"))
    np.testing.assert_array_equal(again.trained[name], table)


def test_a_reach_counts_pieces_to_either_side():
    scores = tf.zeros([1, 1, 8, 8])
    segments = tf.constant([[1] * 6 + [2] * 2])
    found = layers.attend(1.0, 0.0, 2)(scores, segments, SEED)[0, 0].numpy()
    assert [np.flatnonzero(row).tolist() for row in found] == [
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [1, 2, 3, 4, 5],
        [2, 3, 4, 5],
        [3, 4, 5],
        [6, 7],
        [6, 7],
    ]
