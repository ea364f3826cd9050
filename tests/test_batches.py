from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ner import batches, pretrained
from ner.corpus import Sentences
from ner.strategy import mirrored_cpus
from ner.tagset import TagSet
from ner.wordpieces import WordPieces


def filled(epoch) -> list[batches.Batch]:
    """All rows of an epoch."""
    return [rows.take() for rows in epoch.buckets]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(2, 32), max_size=300))
def test_packed_windows_fit_and_do_not_overlap(lengths):
    lengths = np.array(lengths, np.int64)
    row_of, offset_of = batches.pack(lengths, 32)
    taken = np.zeros((row_of.max() + 1 if len(lengths) else 0, 32), int)
    for row, offset, length in zip(row_of, offset_of, lengths, strict=True):
        taken[row, offset : offset + length] += 1
    assert taken.max(initial=0) <= 1 and taken.sum() == lengths.sum()
    assert (taken.sum(axis=1) > 0).all()


def test_packing_wastes_little():
    lengths = np.random.default_rng(0).integers(5, 50, 20_000)
    row_of, _ = batches.pack(lengths, 64)
    assert lengths.sum() / ((row_of.max() + 1) * 64) > 0.97


@pytest.fixture(scope="module")
def encoded(tiny, toy_sentences):
    windows = WordPieces.load(pretrained.read(tiny)).encode([s.words for s in toy_sentences], 64)
    sentences = Sentences.of(toy_sentences)
    tags = TagSet.fit(sentences.distinct_tags)
    return windows, tags.encode(sentences), tags


@pytest.mark.parametrize("batching", ["packed", "padded", "buckets"])
@pytest.mark.parametrize("pieces", ["first", "all"])
def test_an_epoch_holds_every_piece_and_every_label_once(encoded, batching, pieces):
    windows, tag_ids, _ = encoded
    targets = batches.Targets(tag_ids, pieces)
    epoch = batches.make_epoch(windows, targets, batching=batching, rows_per_step=4, seed=1, epoch=0)
    assert sum(np.count_nonzero(rows.segments) for rows in filled(epoch)) == len(windows.pieces)
    words = np.concatenate([rows.words[rows.words >= 0] for rows in filled(epoch)])
    assert sorted(words.tolist()) == list(range(windows.num_words))
    for rows in filled(epoch):
        assert len(rows.pieces) % 4 == 0
        first = rows.words >= 0
        assert np.array_equal(rows.labels[first], tag_ids[rows.words[first]])
    labelled = sum(int((rows.labels != batches.NO_LABEL).sum()) for rows in filled(epoch))
    assert labelled == (windows.num_words if pieces == "first" else int((windows.words >= 0).sum()))
    assert sum(steps for _, steps in batches.split_calls(epoch.order, 0, most=3)) == epoch.steps


@pytest.fixture(scope="module")
def documents(tiny, toy_sentences):
    """The toy sentences as documents of ten, not cut yet, their tags' ids, and how many words each sentence has."""
    names = [str(number // 10) for number in range(len(toy_sentences))]
    windows = WordPieces.load(pretrained.read(tiny)).encode([s.words for s in toy_sentences], 64, documents=names, whole=True)
    sentences = Sentences.of(toy_sentences)
    tags = TagSet.fit(sentences.distinct_tags)
    return windows, tags.encode(sentences), [len(s.words) for s in toy_sentences]


@pytest.mark.parametrize("batching", ["packed", "padded", "buckets"])
@pytest.mark.parametrize("pieces", ["first", "all"])
def test_an_epoch_over_documents_labels_every_word_once_with_its_own_tag(documents, batching, pieces):
    windows, tag_ids, lengths = documents
    epoch = batches.make_epoch(windows, batches.Targets(tag_ids, pieces), batching=batching, rows_per_step=4, seed=1, epoch=0)
    words, labels, sentences = (
        np.concatenate([field[rows.words >= 0] for rows in filled(epoch) for field in [getattr(rows, name)]])
        for name in ("words", "labels", "sentences")
    )
    assert sorted(words.tolist()) == list(range(windows.num_words)) and np.array_equal(labels, tag_ids[words])
    assert np.array_equal(sentences, np.repeat(np.arange(len(lengths)), lengths)[words])
    labelled = sum(int((rows.labels != batches.NO_LABEL).sum()) for rows in filled(epoch))
    assert labelled == (windows.num_words if pieces == "first" else int((windows.words >= 0).sum()))
    together = [
        len({s for s in rows.sentences[r][rows.labels[r] >= 0].tolist()}) for rows in filled(epoch) for r in range(len(rows.pieces))
    ]
    assert max(together) > 3  # rows hold several sentences whatever the batching


def test_documents_are_cut_elsewhere_in_each_epoch_and_alike_in_the_same(documents):
    windows, tag_ids, _ = documents

    def cuts(seed, epoch):
        options = {"batching": "padded", "rows_per_step": 4, "seed": seed, "epoch": epoch}
        (rows,) = filled(batches.make_epoch(windows, batches.Targets(tag_ids), **options))
        return tuple(sorted(rows.words[rows.positions == 1].tolist()))  # the first word of each window

    assert cuts(0, 0) == cuts(0, 0)
    assert len({cuts(0, 0), cuts(0, 1), cuts(0, 2), cuts(1, 0)}) == 4


def test_some_windows_are_read_in_small_letters_and_some_in_capitals(tiny):
    source = pretrained.read(tiny)
    told = WordPieces.load(source).with_case(source.shape.vocab_size)
    windows = told.encode([["Alex", "in", "London", "9"]] * 4000, 64)
    targets = batches.Targets(np.zeros(16000, np.int32))
    options = {"batching": "padded", "rows_per_step": 4, "seed": 0, "epoch": 0, "cased": told.cased}
    (rows,), (again,) = (filled(batches.make_epoch(windows, targets, **options)) for _ in range(2))
    assert np.array_equal(rows.pieces, again.pieces)
    counts = {tuple(row): 0 for row in ([0, 0, 0, 0], [2, 0, 2, 0], [1, 0, 1, 0], [2, 2, 2, 0])}
    for row in told.cased.forms[rows.pieces[rows.words >= 0]].reshape(-1, 4):
        counts[tuple(row.tolist())] += 1
    assert abs(counts[0, 0, 0, 0] / 4000 - batches.LOWERCASED) < 0.02 and abs(counts[2, 2, 2, 0] / 4000 - batches.UPPERCASED) < 0.02
    assert counts[2, 0, 2, 0] == 0


def test_positions_restart_and_segments_count_the_sentences_of_a_row(encoded):
    windows, tag_ids, _ = encoded
    (rows,) = batches.make_rows(windows, "packed", batches.Targets(tag_ids), np.arange(len(windows.sentences)))
    starts = (rows.positions == 0) & (rows.segments > 0)
    assert starts.sum() == len(windows.sentences)
    for positions, segments in zip(rows.positions, rows.segments, strict=True):
        for segment in range(1, segments.max() + 1):
            inside = positions[segments == segment]
            assert inside.tolist() == list(range(len(inside)))


def test_epochs_differ_and_are_a_function_of_seed_and_epoch(encoded):
    windows, tag_ids, _ = encoded
    targets = batches.Targets(tag_ids)

    def pieces(seed, epoch):
        made = batches.make_epoch(windows, targets, batching="packed", rows_per_step=4, seed=seed, epoch=epoch)
        return made.buckets[0].take().pieces.tobytes()

    assert pieces(0, 0) == pieces(0, 0)
    assert len({pieces(0, 0), pieces(0, 1), pieces(1, 0)}) == 3


@pytest.mark.parametrize("first", [0, 1, 5])
def test_calls_cover_the_rest_of_the_epoch_and_end_at_checkpoints(encoded, first):
    windows, tag_ids, _ = encoded
    epoch = batches.make_epoch(windows, batches.Targets(tag_ids), batching="buckets", rows_per_step=4, seed=0, epoch=0)
    stops = range(3, epoch.steps + 1, 3)
    calls = batches.split_calls(epoch.order, first, most=4, stops=stops)
    ends = first + np.cumsum([steps for _, steps in calls])
    assert ends[-1] == epoch.steps and all(steps <= 4 for _, steps in calls)
    assert {stop for stop in stops if stop > first} <= set(ends.tolist())
    assert [bucket for bucket, steps in calls for _ in range(steps)] == epoch.order[first:].tolist()


@pytest.mark.parametrize("first", [0, 4, -1])  # -1: the last step alone, so that other buckets are used up
def test_host_calls_hold_the_rows_that_their_iterators_give(encoded, first):
    windows, tag_ids, _ = encoded
    strategy = tf.distribute.get_strategy()
    epoch = batches.make_epoch(windows, batches.Targets(tag_ids), batching="buckets", rows_per_step=4, seed=0, epoch=0)
    first, seen = first % epoch.steps, 0
    assert len(epoch.buckets) > 1
    for call in batches.host_calls(strategy, epoch, first, most=3):
        given = [next(call.iterator) for _ in range(call.steps)]
        for field, got in zip(call.rows.take(), zip(*given, strict=True), strict=True):
            assert np.array_equal(np.concatenate([step.numpy() for step in got]), field)
        seen += call.steps
    assert seen == epoch.steps - first


@pytest.mark.parametrize("batching", ["packed", "padded", "buckets"])
def test_an_epoch_filled_in_small_blocks_is_the_one_filled_at_once(documents, monkeypatch, batching):
    windows, tag_ids, _ = documents
    strategy = tf.distribute.get_strategy()
    epoch = batches.make_epoch(windows, batches.Targets(tag_ids), batching=batching, rows_per_step=3, seed=0, epoch=0)

    def rows_given(first):
        calls = batches.host_calls(strategy, epoch, first, most=2)
        return [[field.numpy().tobytes() for field in next(call.iterator)] for call in calls for _ in range(call.steps)]

    whole = rows_given(0)
    assert len(whole) == epoch.steps > 4
    monkeypatch.setattr(batches, "BLOCK_PIECES", 1)
    assert rows_given(0) == whole and rows_given(3) == whole[3:]
    pieces = sum(call.rows.num_pieces for call in batches.host_calls(strategy, epoch, 0, most=2))
    assert pieces == sum(np.count_nonzero(rows.segments) for rows in filled(epoch))


def test_rows_that_do_not_fill_the_memory_are_filled_when_they_are_taken(encoded):
    windows, tag_ids, _ = encoded
    (rows,) = batches.plan_rows(windows, "packed", batches.Targets(tag_ids), np.arange(len(windows.sentences)))
    order = np.random.default_rng(0).permutation(len(rows.begins))
    shuffled = rows.shuffled(order, 7)
    assert len(shuffled.begins) % 7 == 0
    for got, field, empty in zip(shuffled.take(), rows.take(), batches.EMPTY, strict=True):
        assert np.array_equal(got[: len(order)], field[order]) and (got[len(order) :] == empty).all()
    assert np.array_equal(shuffled.at(slice(3, 9)).take(np.array([2, 0])).pieces, shuffled.take(np.array([5, 3])).pieces)


def test_replicas_get_their_rows_in_order_and_pipelines_their_shard(encoded):
    windows, tag_ids, _ = encoded
    (rows,) = batches.make_rows(windows, "packed", batches.Targets(tag_ids), np.arange(len(windows.sentences)))
    rows = batches.pad_rows(rows, 4)
    strategy = mirrored_cpus(["/cpu:0", "/cpu:1"])
    got = []
    steps = len(rows.pieces) // 4
    for element in itertools.islice(batches.distribute(strategy, rows.take(slice(4, None)), 4), steps - 1):
        got += [replica.numpy() for replica in strategy.experimental_local_results(element.pieces)]
    assert np.array_equal(np.concatenate(got), rows.pieces[4:])

    odd = batches.pad_rows(rows, 3)  # three rows a step do not split into two replicas: an empty row is added
    halves = strategy.experimental_local_results(next(iter(batches.distribute(strategy, odd, 3))).labels)
    assert np.array_equal(np.concatenate(halves)[:3], odd.labels[:3]) and (halves[1][1] == batches.NO_LABEL).numpy().all()

    class Pipelines:  # two workers of one replica each: the interface `distribute` uses of a multi-worker strategy
        num_replicas_in_sync = 2

        def distribute_datasets_from_function(self, pipeline):
            return [pipeline(tf.distribute.InputContext(2, worker, 2)) for worker in range(2)]

    shards = [np.concatenate([e[0].numpy() for e in shard.take(steps)]) for shard in batches.distribute(Pipelines(), rows, 4)]
    together = np.stack([shard.reshape(-1, 2, 64) for shard in shards], axis=1).reshape(-1, 64)
    assert np.array_equal(together, rows.pieces)


def lines_run(function, *arguments):
    """How many lines of ner/batches.py a call executes."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if frame.f_code.co_filename != batches.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*arguments)
    finally:
        sys.settrace(before)
    return count


def test_packing_is_linear_in_the_number_of_windows():
    """Counted in lines executed, not seconds."""
    lengths = np.random.default_rng(0).integers(5, 50, 16_000)
    few, many = (lines_run(batches.pack, lengths[:count], 64) for count in (2_000, 16_000))
    assert few > 2_000 and many < 8.1 * few
