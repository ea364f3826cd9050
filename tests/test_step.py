"""The mathematics of an update is the same however the rows are laid out and however many replicas share them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from ner import batches, pretrained
from ner.errors import RunStopped
from ner.inference import predict_words
from ner.optimizer import AdamW
from ner.step import loss_and_gradients, make_predict_step, make_replica_step, make_train_steps, trainable
from ner.strategy import mirrored_cpus
from ner.tagger import TaggingModel
from ner.tagset import TagSet
from ner.wordpieces import WordPieces

ROW_LENGTH = 64


def strategy_of(replicas: int) -> tf.distribute.Strategy:
    return mirrored_cpus([f"/cpu:{i}" for i in range(replicas)]) if replicas > 1 else tf.distribute.get_strategy()


@pytest.fixture(scope="module")
def encoded(tiny, toy_sentences):
    tags = TagSet.fit(toy_sentences)
    windows = WordPieces.load(tiny).encode([s.words for s in toy_sentences], ROW_LENGTH)
    return windows, batches.Labels(tags.encode([s.tags for s in toy_sentences]), tags.padding_id), tags


def build(tiny, tags, strategy, *, dropout=0.0, accumulate=1, clip_norm=0.0, seed=0, jit=False):
    with strategy.scope():
        model = TaggingModel(pretrained.encoder_config(tiny), tags.num_tags, dropout_rate=dropout, encoder_dropout=dropout, seed=1)
        pretrained.load(model, tiny, classifier=False)
        optimizer = AdamW(trainable(model), weight_decay=0.01, clip_norm=clip_norm)
    replica_step = make_replica_step(model, optimizer, seed=seed, accumulate=accumulate, jit=jit)
    return model, optimizer, make_train_steps(strategy, replica_step, optimizer.update_norm)


def rows_of(encoded, rows_per_step, limit=None):
    windows, labels, tags = encoded
    order = np.arange(len(windows.sentences))[:limit]
    (rows,) = batches.make_rows(windows, "packed", ROW_LENGTH, labels, order)
    return batches.pad_rows(rows, rows_per_step, tags.padding_id)


def first_update(tiny, encoded, replicas, *, accumulate=1, rows_per_step=15, jit=False):
    """Loss, gradient norm and gradients (from the first moment: 0.1 x gradient after one update) of the first update."""
    strategy = strategy_of(replicas)
    _, optimizer, train_steps = build(tiny, encoded[2], strategy, accumulate=accumulate, jit=jit)
    rows = rows_of(encoded, rows_per_step)
    counts = (rows.labels[:rows_per_step] != encoded[2].padding_id).sum(axis=1)
    assert counts[:8].sum() != counts[8:].sum(), "label counts should be uneven over the replicas"
    iterator = iter(batches.distribute(strategy, rows, rows_per_step, encoded[2].padding_id, accumulate=accumulate))
    metrics = train_steps(iterator, tf.constant(1, tf.int64), tf.constant(0, tf.int64), tf.constant([1e-3]))
    return float(metrics.loss), float(metrics.gradient_norm), [m.numpy() / 0.1 for m in optimizer.first]


@pytest.fixture(scope="module")
def single(tiny, encoded):
    return first_update(tiny, encoded, 1)


@pytest.mark.parametrize(("replicas", "accumulate"), [(2, 1), (4, 1), (1, 4), (2, 2)])
def test_loss_and_gradients_of_many_replicas_and_micro_batches_equal_one(tiny, encoded, single, replicas, accumulate):
    loss, norm, gradients = first_update(tiny, encoded, replicas, accumulate=accumulate)
    assert loss == pytest.approx(single[0], abs=1e-6)
    assert norm == pytest.approx(single[1], rel=1e-6)
    for ours, one in zip(gradients, single[2], strict=True):
        np.testing.assert_allclose(ours, one, atol=1e-6)


def test_the_whole_step_compiled_equals_the_plain_one(tiny, encoded, single):
    loss, _, gradients = first_update(tiny, encoded, 1, jit=True)
    assert loss == pytest.approx(single[0], abs=1e-5)
    for ours, one in zip(gradients, single[2], strict=True):
        np.testing.assert_allclose(ours, one, atol=1e-5)


def test_packed_loss_and_gradients_equal_unpacked(tiny, encoded):
    windows, labels, tags = encoded
    model, _, _ = build(tiny, tags, strategy_of(1))
    order = np.arange(len(windows.sentences))
    results = []
    for batching in ("packed", "padded", "buckets"):
        loss, gradients = 0.0, None
        for rows in batches.make_rows(windows, batching, ROW_LENGTH, labels, order):
            batch = tuple(map(tf.constant, (rows.pieces, rows.types, rows.positions, rows.segments, rows.labels)))
            more, new = loss_and_gradients(model, batch, tf.constant(float(windows.num_words)), tf.constant(0, tf.uint32))
            loss += float(more)
            gradients = new if gradients is None else [a + b for a, b in zip(gradients, new, strict=True)]
        results.append((len(rows.pieces), loss, gradients))
    (packed_rows, packed_loss, packed), (padded_rows, *_), _ = results
    assert packed_rows < padded_rows / 2
    for _, loss, gradients in results[1:]:
        assert loss == pytest.approx(packed_loss, abs=1e-5)
        for a, b in zip(packed, gradients, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_rows_of_padding_weigh_nothing(tiny, encoded):
    windows, labels, tags = encoded
    model, _, _ = build(tiny, tags, strategy_of(1))
    rows = rows_of(encoded, 1, limit=10)
    more = batches.pad_rows(rows, len(rows.pieces) + 3, tags.padding_id)
    results = []
    for r in (rows, more):
        batch = tuple(map(tf.constant, (r.pieces, r.types, r.positions, r.segments, r.labels)))
        results.append(loss_and_gradients(model, batch, tf.constant(10.0), tf.constant(0, tf.uint32)))
    assert float(results[0][0]) == pytest.approx(float(results[1][0]), abs=1e-6)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_one_trace_however_many_steps_and_epochs(tiny, encoded):
    strategy = strategy_of(1)
    _, _, train_steps = build(tiny, encoded[2], strategy, dropout=0.1)
    rows = rows_of(encoded, 2)
    for first, count in ((0, 3), (3, 2), (0, 1)):
        iterator = iter(batches.distribute(strategy, rows, 2, encoded[2].padding_id, first_step=first))
        train_steps(iterator, tf.constant(count, tf.int64), tf.constant(first, tf.int64), tf.zeros([3]))
    assert train_steps.experimental_get_tracing_count() == 1


def test_host_calls_do_not_change_the_result(tiny, encoded):
    """Five updates in one host call give the bits that 2 + 2 + 1 give, dropout included: masks follow the step."""
    finals = []
    for calls in ((5,), (2, 2, 1)):
        strategy = strategy_of(1)
        model, _, train_steps = build(tiny, encoded[2], strategy, dropout=0.2)
        iterator = iter(batches.distribute(strategy, rows_of(encoded, 2), 2, encoded[2].padding_id))
        step = 0
        for count in calls:
            train_steps(iterator, tf.constant(count, tf.int64), tf.constant(step, tf.int64), tf.fill([5], 1e-3))
            step += count
        finals.append([v.numpy() for v in trainable(model)])
    for a, b in zip(*finals, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_not_finite_is_reported_with_its_step_and_changes_nothing(tiny, encoded):
    strategy = strategy_of(2)
    model, _, train_steps = build(tiny, encoded[2], strategy)
    model.tag_bias.assign(np.full(model.tag_bias.shape, np.nan, np.float32))
    before = model.tag_kernel.value.numpy().copy()
    iterator = iter(batches.distribute(strategy, rows_of(encoded, 2), 2, encoded[2].padding_id))
    metrics = train_steps(iterator, tf.constant(2, tf.int64), tf.constant(7, tf.int64), tf.fill([2], 1e-3))
    assert int(metrics.first_bad_step) == 7
    np.testing.assert_array_equal(model.tag_kernel.value.numpy(), before)


def test_predictions_are_the_same_for_every_replica_count(tiny, encoded, toy_sentences):
    windows, _, tags = encoded
    results = []
    for replicas in (1, 2, 4):
        strategy = strategy_of(replicas)
        model, _, _ = build(tiny, tags, strategy)
        found = predict_words(make_predict_step(strategy, model), strategy, windows, tags.num_tags)
        assert found.shape == (sum(len(s.words) for s in toy_sentences), tags.num_tags)
        results.append(found)
    for found in results[1:]:
        np.testing.assert_array_equal(found.argmax(axis=1), results[0].argmax(axis=1))
        np.testing.assert_allclose(found, results[0], atol=1e-5)


def test_the_padding_label_is_never_predicted(tiny, encoded):
    windows, _, tags = encoded
    strategy = strategy_of(1)
    model, _, _ = build(tiny, tags, strategy)
    model.tag_bias.assign(np.array([0.0] * tags.num_tags + [1e9], np.float32))
    found = predict_words(make_predict_step(strategy, model), strategy, windows, tags.num_tags)
    assert (found <= 0).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, atol=1e-5)


def test_scores_that_are_not_numbers_stop_the_run(tiny, encoded):
    windows, _, tags = encoded
    strategy = strategy_of(1)
    model, _, _ = build(tiny, tags, strategy)
    model.tag_bias.assign(np.full(model.tag_bias.shape, np.nan, np.float32))
    with pytest.raises(RunStopped, match="lower learning rate"):
        predict_words(make_predict_step(strategy, model), strategy, windows, tags.num_tags)


def test_a_sentence_gets_the_same_tags_whatever_shares_its_row(tiny, encoded, toy_sentences):
    _, _, tags = encoded
    strategy = strategy_of(1)
    model, _, _ = build(tiny, tags, strategy)
    step = make_predict_step(strategy, model)
    pieces = WordPieces.load(tiny)
    words = [s.words for s in toy_sentences[:30]]
    together = predict_words(step, strategy, pieces.encode(words, ROW_LENGTH), tags.num_tags)
    alone = np.concatenate([predict_words(step, strategy, pieces.encode([w], ROW_LENGTH), tags.num_tags) for w in words])
    np.testing.assert_array_equal(together.argmax(axis=1), alone.argmax(axis=1))
    np.testing.assert_allclose(together, alone, atol=1e-5)
