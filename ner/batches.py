"""Windows -> fixed-shape rows -> tf.data.

Packing puts several whole windows into one row: attention is block-diagonal (``segments``) and positions restart, so losses and
predictions are those of the unpacked windows, and one static shape serves the whole run. A window is a sentence, a part of a long one, or
with document context a part of a document.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ner.cased import CasedVocabulary
from ner.corpus import ranges
from ner.windows import Windows

# Windows that are shown in training all in small letters, and all in CAPITALS, where the encoder is told of case. So it learns to read text
# in which letters tell nothing.
LOWERCASED, UPPERCASED = 0.05, 0.05
BLOCK = 2000  # windows that are packed together; best fit within a block keeps the order of sentences random across blocks
BLOCK_PIECES = 2**19  # word pieces of the rows that are filled and handed to TensorFlow together
NO_LABEL = -1  # the label of pieces that do not count in the loss: special tokens, padding and, by default, a word's later pieces


class Batch(NamedTuple):
    """Rows of word pieces, each field int32 [rows, row length]: NumPy arrays on the host, tensors on a device.

    Whoever adds a field adds it here, with its value in rows of padding (``EMPTY``), and fills it in ``fill``.

    Attributes:
        pieces: ids in the tokenizer's vocabulary.
        positions: position within the window, 0 at each [CLS].
        segments: which window of the row a piece belongs to, from 1; 0 is padding.
        sentences: the number in the corpus of the sentence that the piece's word belongs to; 0 for pieces of no word of the window's own.
        labels: tag ids; NO_LABEL on pieces that do not count in the loss.
        words: on a word's first piece the number of that word in the corpus, if its tag is predicted here; -1 elsewhere.
    """

    pieces: Any
    positions: Any
    segments: Any
    sentences: Any
    labels: Any
    words: Any

    def map(self, function: Callable[[Any], Any]) -> Batch:
        """``function`` of each field."""
        return Batch(*map(function, self))

    def take(self, index: np.ndarray | slice) -> Batch:
        """The rows at ``index``, a NumPy index along the first axis."""
        return self.map(lambda field: field[index])

    def split(self, rows: int) -> Iterator[Batch]:
        """The rows in order, ``rows`` at a time."""
        return (self.take(slice(first, first + rows)) for first in range(0, len(self.pieces), rows))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, row length)."""
        return self.pieces.shape


EMPTY = Batch(pieces=0, positions=0, segments=0, sentences=0, labels=NO_LABEL, words=-1)


class Targets(NamedTuple):
    """One tag id for each word of the corpus (integers [words]), and which of a word's pieces carry it in the loss (``first``, ``all``)."""

    tag_ids: np.ndarray
    pieces: str = "first"


UNKNOWN = Targets(np.zeros(0, np.int32))  # of sentences whose tags are to be predicted


def pack(lengths: np.ndarray, row_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Best-fit decreasing within blocks of BLOCK windows: (row, offset in the row) of each window, both int64 [windows].

    Linear in the number of windows: the rows with a given free space are a stack, and a bit set of non-empty stacks finds the tightest.
    """
    row_of, offset_of = np.empty(len(lengths), np.int64), np.empty(len(lengths), np.int64)
    rows = 0
    for begin in range(0, len(lengths), BLOCK):
        stacks: list[list[int]] = [[] for _ in range(row_length + 1)]  # free space -> rows
        occupied = 0  # bit s is set where stacks[s] is not empty
        block = lengths[begin : begin + BLOCK]
        for i in np.argsort(-block, kind="stable").tolist():
            length = int(block[i])
            fitting = occupied >> length
            if fitting:
                space = length + (fitting & -fitting).bit_length() - 1
                row = stacks[space].pop()
                if not stacks[space]:
                    occupied ^= 1 << space
            else:
                space, row, rows = row_length, rows, rows + 1
            row_of[begin + i], offset_of[begin + i] = row, row_length - space
            if space > length:
                stacks[space - length].append(row)
                occupied |= 1 << (space - length)
    return row_of, offset_of


def fill(
    windows: Windows,
    chosen: np.ndarray,
    row_of: np.ndarray,
    offset_of: np.ndarray,
    shape: tuple[int, int],
    targets: Targets,
    augment: CaseAugmentation | None = None,
) -> Batch:
    """Rows of this shape (rows, row length) with the ``chosen`` windows (int64 [n]) at their rows and offsets (int64 [n] each)."""
    row_length = shape[1]
    sizes = windows.starts[chosen + 1] - windows.starts[chosen]
    assert np.all(offset_of + sizes <= row_length), "a window does not fit its row"
    source = ranges(windows.starts[chosen], sizes)
    inside = ranges(np.zeros(len(sizes), np.int64), sizes)  # position within the window
    target = np.repeat(row_of * row_length + offset_of, sizes) + inside
    pieces, words, first = windows.pieces[source], windows.words[source], windows.first[source]
    labelled = words >= 0 if targets.pieces == "all" else first
    known = len(targets.tag_ids) > 0
    values = Batch(
        pieces=augment.of(pieces, np.repeat(augment.chance[chosen], sizes)) if augment else pieces,
        positions=inside,
        segments=np.repeat(_number_within_row(row_of, offset_of), sizes),
        sentences=np.where(words >= 0, windows.sentence_of(words), 0),
        labels=np.where(labelled, targets.tag_ids[words].astype(np.int32), NO_LABEL) if known else np.full(len(words), NO_LABEL),
        words=np.where(first, words, -1),
    )
    rows = empty_rows(*shape)
    for field, content in zip(rows, values, strict=True):
        field.reshape(-1)[target] = content
    return rows


class CaseAugmentation(NamedTuple):
    """Which windows are shown all in small letters and which all in capitals: by ``chance``, in [0, 1), float64 [windows]."""

    cased: CasedVocabulary
    chance: np.ndarray

    def of(self, pieces: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """The pieces as they are shown. chance: that of each piece's window."""
        plain = self.cased.plain[pieces]
        return np.where(chance < LOWERCASED, plain, np.where(chance >= 1 - UPPERCASED, self.cased.capitals[plain], pieces))


def empty_rows(count: int, row_length: int) -> Batch:
    """Rows of padding: no label and no word, so they weigh nothing and predict nothing."""
    return EMPTY.map(lambda value: np.full((count, row_length), value, np.int32))


def _number_within_row(row_of: np.ndarray, offset_of: np.ndarray) -> np.ndarray:
    """1, 2, ... for the windows of each row, left to right."""
    order = np.lexsort((offset_of, row_of))
    sorted_rows = row_of[order]
    first = np.searchsorted(sorted_rows, sorted_rows)
    number = np.empty(len(row_of), np.int64)
    number[order] = np.arange(len(row_of)) - first + 1
    return number


def row_lengths(batching: str, row_length: int) -> list[int]:
    """The row lengths of a batching: one, but for ``buckets`` a quarter, a half and the whole of ``row_length``."""
    return sorted({max(8, row_length // 4), max(8, row_length // 2), row_length}) if batching == "buckets" else [row_length]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of one length: which windows lie where in them. They are filled when they are taken.

    Attributes:
        windows, targets, augment: what they are filled with (``fill``).
        row_length: their word pieces.
        chosen, offsets: int64 [windows], the windows row after row, and the place of each in its row.
        begins, counts: int64 [rows], which of ``chosen`` are in a row: ``counts`` windows from ``begins`` on; none in rows of padding.
    """

    windows: Windows
    targets: Targets
    augment: CaseAugmentation | None
    row_length: int
    chosen: np.ndarray
    offsets: np.ndarray
    begins: np.ndarray
    counts: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, row length)."""
        return len(self.begins), self.row_length

    def at(self, index: np.ndarray | slice) -> Rows:
        """The rows at ``index``, a NumPy index, not filled yet."""
        return dataclasses.replace(self, begins=self.begins[index], counts=self.counts[index])

    def take(self, index: np.ndarray | slice = slice(None)) -> Batch:
        """The rows at ``index``, a NumPy index."""
        begins, counts = self.begins[index], self.counts[index]
        which = ranges(begins, counts)
        row_of, shape = np.repeat(np.arange(len(counts)), counts), (len(counts), self.row_length)
        return fill(self.windows, self.chosen[which], row_of, self.offsets[which], shape, self.targets, self.augment)

    def shuffled(self, order: np.ndarray, multiple: int) -> Rows:
        """The rows in this order (a permutation, int64 [rows]), and behind them rows of padding up to a multiple of ``multiple`` rows."""
        padding = np.zeros(-len(order) % multiple, np.int64)
        begins, counts = (np.concatenate([field[order], padding]) for field in (self.begins, self.counts))
        return dataclasses.replace(self, begins=begins, counts=counts)

    @property
    def num_pieces(self) -> int:
        """The word pieces in the rows, without padding."""
        chosen = self.chosen[ranges(self.begins, self.counts)]
        return int((self.windows.starts[chosen + 1] - self.windows.starts[chosen]).sum())


def plan_rows(windows: Windows, batching: str, targets: Targets, order: np.ndarray, augment: CaseAugmentation | None = None) -> list[Rows]:
    """All windows in the given order (a permutation, int64 [windows]) as rows, one item per row length (buckets have several)."""
    lengths = windows.lengths[order]
    if batching == "packed":
        row_of, offset_of = pack(lengths, windows.row_length)
        by_row = np.lexsort((offset_of, row_of))
        counts = np.bincount(row_of)
        begins = np.cumsum(counts) - counts
        return [Rows(windows, targets, augment, windows.row_length, order[by_row], offset_of[by_row], begins, counts)]
    lengths_of_rows = row_lengths(batching, windows.row_length)
    bucket = np.searchsorted(lengths_of_rows, lengths)
    groups = [(length, order[bucket == b]) for b, length in enumerate(lengths_of_rows)]
    return [
        Rows(windows, targets, augment, length, group, np.zeros(len(group), np.int64), np.arange(len(group)), np.ones(len(group), np.int64))
        for length, group in groups
        if len(group)
    ]


def make_rows(windows: Windows, batching: str, targets: Targets, order: np.ndarray) -> list[Batch]:
    """The rows of ``plan_rows``, filled: one Batch per row length."""
    return [rows.take() for rows in plan_rows(windows, batching, targets, order)]


def pad_rows(rows: Batch, multiple: int) -> Batch:
    """Append rows of padding up to a multiple of ``multiple`` rows."""
    missing = -len(rows.pieces) % multiple
    empty = empty_rows(missing, rows.shape[1])
    return Batch(*(np.concatenate(pair) for pair in zip(rows, empty, strict=True))) if missing else rows


@dataclasses.dataclass(frozen=True)
class Epoch:
    """An epoch's rows, a function of (seed, epoch) alone.

    Attributes:
        buckets: the rows of each row length, a multiple of rows_per_step.
        rows_per_step: rows of an update over all replicas.
        order: the bucket that each step takes its rows from, int64 [steps].
    """

    buckets: list[Rows]
    rows_per_step: int
    order: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.order)

    def begins(self, first: int) -> list[int]:
        """For each bucket, how many of its steps come before step ``first``."""
        return [int(np.count_nonzero(self.order[:first] == bucket)) for bucket in range(len(self.buckets))]


def make_epoch(
    windows: Windows,
    targets: Targets,
    *,
    batching: str,
    rows_per_step: int,
    seed: int,
    epoch: int,
    cased: CasedVocabulary | None = None,
) -> Epoch:
    """Cut the documents, shuffle the windows, pack rows, shuffle these; the last step of each bucket is filled with rows of padding.

    The rows are only planned here; ``host_calls`` fills them while training goes on.

    cased: where the encoder is told of case. Some windows are then shown in small letters (``LOWERCASED``) or capitals (``UPPERCASED``).
    """
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    windows = windows.cut_documents(random)
    augment = CaseAugmentation(cased, random.random(len(windows.sentences))) if cased else None
    buckets = plan_rows(windows, batching, targets, random.permutation(len(windows.sentences)), augment)
    buckets = [rows.shuffled(random.permutation(len(rows.begins)), rows_per_step) for rows in buckets]
    steps = [len(rows.begins) // rows_per_step for rows in buckets]
    return Epoch(buckets, rows_per_step, random.permutation(np.repeat(np.arange(len(buckets)), steps)))


class Call(NamedTuple):
    """One host call: the next ``steps`` updates of ``iterator``, whose rows are ``rows``."""

    steps: int
    iterator: Any
    rows: Rows


def host_calls(strategy, epoch: Epoch, first: int, *, most: int, stops: Collection[int] = (), accumulate: int = 1) -> Iterator[Call]:
    """An epoch from step ``first`` on, as host calls of at most ``most`` steps, one bucket each, that end where ``stops`` says.

    While one block of rows is trained on, another thread fills the next one of its bucket.

    stops: numbers of steps of this epoch after which a host call ends.
    """
    calls, begins = split_calls(epoch.order, first, most=most, stops=stops), epoch.begins(first)
    starts = list(begins)
    with ThreadPoolExecutor(1) as pool:

        def blocks(bucket: int) -> Iterator[tuple[Any, int]]:
            """The bucket's blocks: an iterator over each, and how many host calls it is for."""
            rows, step = epoch.buckets[bucket], starts[bucket]
            size = max(1, BLOCK_PIECES // (epoch.rows_per_step * rows.row_length))
            coming, count = None, 0
            for steps, calls_in_block in _grouped([steps for which, steps in calls if which == bucket], size):
                last, coming = coming, pool.submit(_iterator, strategy, epoch, rows, step, steps, accumulate)
                if last:
                    yield last.result(), count
                step, count = step + steps, calls_in_block
            if coming:
                yield coming.result(), count

        iterators = [(iterator for iterator, count in blocks(bucket) for _ in range(count)) for bucket in range(len(epoch.buckets))]
        for bucket, steps in calls:
            begin = begins[bucket] * epoch.rows_per_step
            begins[bucket] += steps
            yield Call(steps, next(iterators[bucket]), epoch.buckets[bucket].at(slice(begin, begins[bucket] * epoch.rows_per_step)))


def _iterator(strategy, epoch: Epoch, rows: Rows, first: int, steps: int, accumulate: int):
    """Over the rows of these steps of a bucket."""
    some = rows.at(slice(first * epoch.rows_per_step, (first + steps) * epoch.rows_per_step))
    return iter(distribute(strategy, some, epoch.rows_per_step, accumulate=accumulate))


def _grouped(calls: list[int], most: int) -> list[tuple[int, int]]:
    """(steps, host calls) of blocks of at most ``most`` steps, or of one host call. calls: the steps of each host call."""
    groups: list[tuple[int, int]] = []
    for steps in calls:
        if groups and groups[-1][0] + steps <= most:
            groups[-1] = groups[-1][0] + steps, groups[-1][1] + 1
        else:
            groups.append((steps, 1))
    return groups


def split_calls(order: np.ndarray, first: int, *, most: int, stops: Collection[int] = ()) -> list[tuple[int, int]]:
    """(bucket, steps) of each host call: see ``host_calls``. order: the bucket of each step, int64 [steps]."""
    ends = {len(order), *stops, *(np.flatnonzero(np.diff(order)) + 1).tolist()}  # at a stop, and before another bucket's steps
    calls = []
    step = first
    for end in sorted(end for end in ends if first < end <= len(order)):
        while step < end:
            steps = min(most, end - step)
            calls.append((int(order[step]), steps))
            step += steps
    return calls


def distribute(strategy, rows: Batch | Rows, rows_per_step: int, *, accumulate: int = 1):
    """Rows -> a distributed tf.data.Dataset whose elements are a Batch of tensors, int32 [rows per replica, row length].

    The dataset is endless: take as many elements as there are steps. Each step's rows are split evenly over the replicas in order, a
    remainder (also of ``accumulate`` micro-batches) is filled with rows of padding; an input pipeline (one per worker host) fills and reads
    its own replicas' rows only.
    """
    import tensorflow as tf

    # There is nothing to tune, and in TensorFlow 2.21 destroying an iterator blocks until the autotune thread wakes (up to 10 s).
    fixed = tf.data.Options()
    fixed.autotune.enabled = False
    replicas = strategy.num_replicas_in_sync
    share = -(-rows_per_step // (replicas * accumulate)) * accumulate  # rows of a replica in a step
    steps = np.arange(rows.shape[0] // rows_per_step)

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        first = min(rows_per_step, context.input_pipeline_id * local * share)
        end = min(rows_per_step, first + local * share)
        mine = rows.take((steps[:, None] * rows_per_step + np.arange(first, end)).reshape(-1))

        def by_replica(field, empty):
            field = field.reshape(len(steps), end - first, rows.shape[1])
            missing = local * share - (end - first)
            if missing:
                field = np.pad(field, [(0, 0), (0, missing), (0, 0)], constant_values=empty)
            return field.reshape(-1, share, rows.shape[1])

        elements = Batch(*map(by_replica, mine, EMPTY))
        # Endless, because several workers would otherwise agree before each step on whether all have data left, with shapes unknown.
        return tf.data.Dataset.from_tensor_slices(elements).repeat().prefetch(2).with_options(fixed)

    return strategy.distribute_datasets_from_function(pipeline)
