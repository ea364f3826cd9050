"""The mathematics of an update is the same however the rows are laid out and however many replicas share them."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tensorflow as tf

from ner import batches, pretrained
from ner.corpus import Sentences
from ner.errors import RunStopped
from ner.inference import predict_words
from ner.optimizer import AdamW
from ner.step import compile_ahead, loss_and_gradients, make_predict, make_update
from ner.strategy import mirrored_cpus
from ner.tagset import TagSet
from ner.wordpieces import WordPieces

ROW_LENGTH = 64


def strategy_of(replicas: int) -> tf.distribute.Strategy:
    return mirrored_cpus([f"/cpu:{i}" for i in range(replicas)]) if replicas > 1 else tf.distribute.get_strategy()


@pytest.fixture(scope="module")
def encoded(tiny, toy_sentences):
    sentences = Sentences.of(toy_sentences)
    tags = TagSet.fit(sentences.distinct_tags)
    windows = WordPieces.load(pretrained.read(tiny)).encode([s.words for s in toy_sentences], ROW_LENGTH)
    return windows, batches.Targets(tags.encode(sentences)), tags


def build(tiny, tags, strategy, *, head="linear", dropout=0.0, accumulate=1, clip_norm=0.0, seed=0, jit=False, dtype=tf.float32):
    with strategy.scope():
        source = pretrained.read(tiny)
        model = pretrained.build(source, tags.names, head=head, dropout=dropout, encoder_dropout=dropout, compute_dtype=dtype, seed=1)
        pretrained.load(model, source, head=False)
        optimizer = AdamW(model.trained, weight_decay=0.01)
    update = make_update(strategy, model, optimizer, model.head.loss, seed=seed, clip_norm=clip_norm, accumulate=accumulate, jit=jit)
    return model, optimizer, update


def rows_of(encoded, rows_per_step, limit=None):
    windows, targets, _ = encoded
    order = np.arange(len(windows.sentences))[:limit]
    (rows,) = batches.make_rows(windows, "packed", targets, order)
    return batches.pad_rows(rows, rows_per_step)


def first_update(tiny, encoded, replicas, *, rows_per_step=15, accumulate=1, **options):
    """Loss, gradient norm and gradients (from the first moment: 0.1 x gradient after one update) of the first update."""
    strategy = strategy_of(replicas)
    _, optimizer, update = build(tiny, encoded[2], strategy, accumulate=accumulate, **options)
    rows = rows_of(encoded, rows_per_step)
    counts = (rows.labels[:rows_per_step] != batches.NO_LABEL).sum(axis=1)
    assert counts[:8].sum() != counts[8:].sum(), "label counts should be uneven over the replicas"
    iterator = iter(batches.distribute(strategy, rows, rows_per_step, accumulate=accumulate))
    metrics = update(iterator, tf.constant(1, tf.int64), tf.constant(0, tf.int64), tf.constant([1e-3]))
    return float(metrics.loss), float(metrics.gradient_norm), [m.numpy() / 0.1 for m in optimizer.first_moments.values()]


@pytest.fixture(scope="module")
def single(tiny, encoded):
    return first_update(tiny, encoded, 1)


@pytest.mark.parametrize(("replicas", "accumulate"), [(2, 1), pytest.param(4, 1, marks=pytest.mark.slow), (1, 4), (2, 2)])
def test_loss_and_gradients_of_many_replicas_and_micro_batches_equal_one(tiny, encoded, single, replicas, accumulate):
    loss, norm, gradients = first_update(tiny, encoded, replicas, accumulate=accumulate)
    assert loss == pytest.approx(single[0], abs=1e-6)
    assert norm == pytest.approx(single[1], rel=1e-6)
    for ours, one in zip(gradients, single[2], strict=True):
        np.testing.assert_allclose(ours, one, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "replicas"),
    [
        ("modernbert", 2),
        # The others have BERT's layers.
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("modernbert", 4), ("roberta", 2), ("distilbert", 2), ("electra", 2))),
    ],
)
def test_the_update_of_each_family_is_the_same_for_every_replica_count(tiny, toy_sentences, family, replicas):
    folder = tiny.parent / f"tiny_{family}"
    sentences = Sentences.of(toy_sentences)
    tags = TagSet.fit(sentences.distinct_tags)
    windows = WordPieces.load(pretrained.read(folder)).encode([s.words for s in toy_sentences], ROW_LENGTH)
    encoded = windows, batches.Targets(tags.encode(sentences)), tags
    loss, norm, gradients = first_update(folder, encoded, 1)
    same_loss, same_norm, same_gradients = first_update(folder, encoded, replicas)
    assert same_loss == pytest.approx(loss, abs=1e-5) and same_norm == pytest.approx(norm, rel=1e-5)
    for ours, one in zip(same_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, one, atol=1e-5)


def test_the_whole_step_compiled_equals_the_plain_one(tiny, encoded, single):
    loss, _, gradients = first_update(tiny, encoded, 1, jit=True)
    assert loss == pytest.approx(single[0], abs=1e-5)
    for ours, one in zip(gradients, single[2], strict=True):
        np.testing.assert_allclose(ours, one, atol=1e-5)


@pytest.mark.parametrize("head", pretrained.HEADS)
def test_packed_loss_and_gradients_equal_unpacked(tiny, encoded, head):
    windows, targets, tags = encoded
    model, _, _ = build(tiny, tags, strategy_of(1), head=head)
    order = np.arange(len(windows.sentences))
    results = []
    for batching in ("packed", "padded", "buckets"):
        loss, gradients = 0.0, None
        for rows in batches.make_rows(windows, batching, targets, order):
            total, seed = tf.constant(float(windows.num_words)), tf.constant(0, tf.uint32)
            more, new = loss_and_gradients(model, model.head.loss, rows.map(tf.constant), total, seed)
            loss += float(more)
            gradients = new if gradients is None else [a + b for a, b in zip(gradients, new, strict=True)]
        results.append((len(rows.pieces), loss, gradients))
    (packed_rows, packed_loss, packed), (padded_rows, *_), _ = results
    assert packed_rows < padded_rows / 2
    for _, loss, gradients in results[1:]:
        assert loss == pytest.approx(packed_loss, abs=1e-5)
        for a, b in zip(packed, gradients, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("head", pretrained.HEADS)
def test_rows_of_padding_weigh_nothing(tiny, encoded, head):
    model, _, _ = build(tiny, encoded[2], strategy_of(1), head=head)
    rows = rows_of(encoded, 1, limit=10)
    more = batches.pad_rows(rows, len(rows.pieces) + 3)
    results = []
    for r in (rows, more):
        total, seed = tf.constant(10.0), tf.constant(0, tf.uint32)
        results.append(loss_and_gradients(model, model.head.loss, r.map(tf.constant), total, seed))
    assert float(results[0][0]) == pytest.approx(float(results[1][0]), abs=1e-6)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_one_trace_however_many_steps_and_epochs(tiny, encoded):
    strategy = strategy_of(1)
    _, _, update = build(tiny, encoded[2], strategy, dropout=0.1)
    rows = rows_of(encoded, 2)
    for first, count in ((0, 3), (3, 2), (0, 1)):
        iterator = iter(batches.distribute(strategy, rows.take(slice(2 * first, None)), 2))
        update(iterator, tf.constant(count, tf.int64), tf.constant(first, tf.int64), tf.zeros([3]))
    assert update.experimental_get_tracing_count() == 1


def test_host_calls_do_not_change_the_result(tiny, encoded):
    """Five updates in one host call give the bits that 2 + 2 + 1 give, dropout included: masks follow the step."""
    finals = []
    for calls in ((5,), (2, 2, 1)):
        strategy = strategy_of(1)
        model, _, update = build(tiny, encoded[2], strategy, dropout=0.2)
        iterator = iter(batches.distribute(strategy, rows_of(encoded, 2), 2))
        step = 0
        for count in calls:
            update(iterator, tf.constant(count, tf.int64), tf.constant(step, tf.int64), tf.fill([5], 1e-3))
            step += count
        finals.append([v.numpy() for v in model.trained.values()])
    for a, b in zip(*finals, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_not_finite_is_reported_with_its_step_and_changes_nothing(tiny, encoded):
    strategy = strategy_of(2)
    model, _, update = build(tiny, encoded[2], strategy)
    model.head.tag_bias.assign(np.full(model.head.tag_bias.shape, np.nan, np.float32))
    before = model.head.tag_kernel.value.numpy().copy()
    iterator = iter(batches.distribute(strategy, rows_of(encoded, 2), 2))
    metrics = update(iterator, tf.constant(2, tf.int64), tf.constant(7, tf.int64), tf.fill([2], 1e-3))
    assert (int(metrics.first_skipped), int(metrics.skipped)) == (7, 2)
    assert np.isnan(metrics.loss) and np.isnan(metrics.gradient_norm) and metrics.update_norm == 0  # no update, so no loss: not 0
    np.testing.assert_array_equal(model.head.tag_kernel.value.numpy(), before)


def state_of(model, optimizer):
    slots = [*optimizer.first_moments.values(), *optimizer.second_moments.values(), optimizer.updates]
    return [v.numpy().copy() for v in [*model.trained.values(), *slots]]


def test_of_a_call_the_good_updates_count_and_the_bad_one_is_skipped(tiny, encoded):
    """The learning rate of the second of three updates is not a number."""
    results = []
    for rates in ([1e-3, float("nan"), 1e-3], [1e-3, 1e-3]):
        strategy = strategy_of(1)
        model, optimizer, update = build(tiny, encoded[2], strategy)
        rows = rows_of(encoded, 2)
        if len(rates) == 2:  # the same updates without the bad one's rows
            rows = batches.Batch(*(np.concatenate([field[:2], field[4:]]) for field in rows))
        iterator = iter(batches.distribute(strategy, rows, 2))
        metrics = update(iterator, tf.constant(len(rates), tf.int64), tf.constant(0, tf.int64), tf.constant(rates))
        results.append((metrics, state_of(model, optimizer)))
    (bad, with_bad), (good, without) = results
    assert (int(bad.skipped), int(bad.first_skipped), int(good.skipped), int(good.first_skipped)) == (1, 1, 0, -1)
    assert float(bad.loss) == float(good.loss)
    for a, b in zip(with_bad, without, strict=True):
        np.testing.assert_array_equal(a, b)


def test_warming_up_traces_everything_and_changes_nothing(tiny, encoded):
    strategy = strategy_of(1)
    model, optimizer, update = build(tiny, encoded[2], strategy, dropout=0.1)
    before = state_of(model, optimizer)
    compile_ahead(update, strategy, [ROW_LENGTH], rows_per_step=2, most=3, accumulate=1)
    for a, b in zip(before, state_of(model, optimizer), strict=True):
        np.testing.assert_array_equal(a, b)
    iterator = iter(batches.distribute(strategy, rows_of(encoded, 2), 2))
    update(iterator, tf.constant(2, tf.int64), tf.constant(0, tf.int64), tf.fill([3], 1e-3))
    assert update.experimental_get_tracing_count() == 1


def test_the_gradient_is_clipped_by_its_global_norm(tiny, encoded):
    _, norm, whole = first_update(tiny, encoded, 1)
    limit = norm / 4
    _, same, clipped = first_update(tiny, encoded, 2, clip_norm=limit)
    assert same == pytest.approx(norm, rel=1e-6)  # the norm before clipping is reported
    for a, b in zip(whole, clipped, strict=True):
        np.testing.assert_allclose(b, a / 4, atol=1e-6)


def test_the_time_waited_for_rows_is_that_of_a_slow_input(tiny, encoded):
    """An input that sleeps a second a step, three times; TensorFlow's own order would put both timestamps before the sleep."""
    strategy = strategy_of(1)
    _, _, update = build(tiny, encoded[2], strategy)

    def slow(batch):
        tf.numpy_function(lambda: time.sleep(1.0), [], [])
        return batch

    for sleeps in (False, True):
        data = tf.data.Dataset.from_tensor_slices(rows_of(encoded, 2).map(lambda field: field[:6].reshape(3, 2, -1)))
        data = data.map(slow, num_parallel_calls=1, deterministic=True) if sleeps else data
        iterator = iter(strategy.experimental_distribute_dataset(data))
        metrics = update(iterator, tf.constant(3, tf.int64), tf.constant(0, tf.int64), tf.zeros([3]))
        assert (float(metrics.data_seconds) > 2.0) == sleeps


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bfloat16_trains_close_to_float32_and_to_the_same_bits_again(tiny, encoded, single, replicas):
    one, two = (first_update(tiny, encoded, replicas, dtype=tf.bfloat16) for _ in range(2))
    assert one[0] == two[0] and one[1] == two[1]
    for a, b in zip(one[2], two[2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[0] == pytest.approx(single[0], rel=0.02) and one[1] == pytest.approx(single[1], rel=0.1)


@pytest.mark.slow
def test_the_loss_of_a_crf_is_the_same_for_every_replica_count(tiny, encoded):
    results = [
        first_update(tiny, encoded, replicas, head="crf", accumulate=accumulate) for replicas, accumulate in ((1, 1), (2, 1), (1, 3))
    ]
    for loss, norm, gradients in results[1:]:
        assert loss == pytest.approx(results[0][0], abs=1e-5) and norm == pytest.approx(results[0][1], rel=1e-5)
        for a, b in zip(gradients, results[0][2], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_another_loss_is_an_argument(tiny, encoded):
    """Twice the loss, from a function of its own, gives twice the gradient."""
    strategy = strategy_of(1)
    model, optimizer, _ = build(tiny, encoded[2], strategy)
    update = make_update(strategy, model, optimizer, lambda scores, batch: 2 * model.head.loss(scores, batch), seed=0, clip_norm=0.0)
    iterator = iter(batches.distribute(strategy, rows_of(encoded, 15), 15))
    metrics = update(iterator, tf.constant(1, tf.int64), tf.constant(0, tf.int64), tf.constant([1e-3]))
    loss, norm, _ = first_update(tiny, encoded, 1)
    assert float(metrics.loss) == pytest.approx(2 * loss) and float(metrics.gradient_norm) == pytest.approx(2 * norm)


def test_predictions_are_the_same_for_every_replica_count(tiny, encoded, toy_sentences):
    windows, _, tags = encoded
    results = []
    for replicas in (1, 2, 4):
        strategy = strategy_of(replicas)
        model, _, _ = build(tiny, tags, strategy)
        found = predict_words(make_predict(strategy, model), strategy, windows, tags.num_tags)
        assert found.shape == (sum(len(s.words) for s in toy_sentences), tags.num_tags)
        results.append(found)
    for found in results[1:]:
        np.testing.assert_array_equal(found.argmax(axis=1), results[0].argmax(axis=1))
        np.testing.assert_allclose(found, results[0], atol=1e-5)


def test_scores_that_are_not_numbers_stop_the_run(tiny, encoded):
    windows, _, tags = encoded
    strategy = strategy_of(1)
    model, _, _ = build(tiny, tags, strategy)
    model.head.tag_bias.assign(np.full(model.head.tag_bias.shape, np.nan, np.float32))
    with pytest.raises(RunStopped, match="lower --learning-rate"):
        predict_words(make_predict(strategy, model), strategy, windows, tags.num_tags)


def test_a_sentence_gets_the_same_tags_whatever_shares_its_row(tiny, encoded, toy_sentences):
    _, _, tags = encoded
    strategy = strategy_of(1)
    model, _, _ = build(tiny, tags, strategy)
    step = make_predict(strategy, model)
    pieces = WordPieces.load(pretrained.read(tiny))
    words = [s.words for s in toy_sentences[:30]]
    together = predict_words(step, strategy, pieces.encode(words, ROW_LENGTH), tags.num_tags)
    alone = np.concatenate([predict_words(step, strategy, pieces.encode([w], ROW_LENGTH), tags.num_tags) for w in words])
    np.testing.assert_array_equal(together.argmax(axis=1), alone.argmax(axis=1))
    np.testing.assert_allclose(together, alone, atol=1e-5)
