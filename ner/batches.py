"""Windows -> fixed-shape rows -> tf.data.

Packing puts several whole windows into one row: attention is block-diagonal (``segments``) and positions restart, so losses and
predictions are those of the unpacked windows, and one static shape serves the whole run. A window is a sentence, a part of a long one, or
with document context a part of a document.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from ner.cased import CasedVocabulary
from ner.wordpieces import Windows

# Windows that are shown in training all in small letters, and all in CAPITALS, where the encoder is told of case. So it learns to read text
# in which letters tell nothing.
SMALL, SHOUTED = 0.05, 0.05
BLOCK = 2000  # windows that are packed together; best fit within a block keeps the order of sentences random across blocks
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
    """One tag id for each word of the corpus (int32 [words]), and which of a word's pieces carry it in the loss (``first``, ``all``)."""

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


def fill(windows: Windows, chosen: np.ndarray, row_of: np.ndarray, offset_of: np.ndarray, row_length: int, targets: Targets) -> Batch:
    """Write the ``chosen`` windows (int64 [n]) at their rows and offsets (int64 [n] each)."""
    num_rows = int(row_of.max()) + 1 if len(row_of) else 0
    sizes = windows.lengths[chosen]
    assert np.all(offset_of + sizes <= row_length), "a window does not fit its row"
    total = np.cumsum(sizes)
    inside = np.arange(total[-1] if len(total) else 0) - np.repeat(total - sizes, sizes)  # position within the window
    source = np.repeat(windows.starts[chosen], sizes) + inside
    target = np.repeat(row_of * row_length + offset_of, sizes) + inside
    words = windows.words[source]
    labelled = words >= 0 if targets.pieces == "all" else windows.first[source]
    known = len(targets.tag_ids) > 0
    sentence_of = np.repeat(np.arange(len(windows.bounds) - 1), np.diff(windows.bounds))
    values = Batch(
        pieces=windows.pieces[source],
        positions=inside,
        segments=np.repeat(_number_within_row(row_of, offset_of), sizes),
        sentences=np.where(words >= 0, sentence_of[words], 0),
        labels=np.where(labelled, targets.tag_ids[words], NO_LABEL) if known else np.full(len(words), NO_LABEL),
        words=np.where(windows.first[source], words, -1),
    )
    rows = empty_rows(num_rows, row_length)
    for field, content in zip(rows, values, strict=True):
        field.reshape(-1)[target] = content
    return rows


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


def make_rows(windows: Windows, batching: str, targets: Targets, order: np.ndarray) -> list[Batch]:
    """All windows in the given order (a permutation, int64 [windows]) as rows, one Batch per row length (buckets have several)."""
    if batching == "packed":
        row_of, offset_of = pack(windows.lengths[order], windows.row_length)
        return [fill(windows, order, row_of, offset_of, windows.row_length, targets)]
    lengths = row_lengths(batching, windows.row_length)
    bucket = np.searchsorted(lengths, windows.lengths[order])
    groups = [order[bucket == b] for b in range(len(lengths))]
    return [
        fill(windows, group, np.arange(len(group)), np.zeros(len(group), np.int64), length, targets)
        for group, length in zip(groups, lengths, strict=True)
        if len(group)
    ]


def pad_rows(rows: Batch, multiple: int) -> Batch:
    """Append rows of padding up to a multiple of ``multiple`` rows."""
    missing = -len(rows.pieces) % multiple
    empty = empty_rows(missing, rows.shape[1])
    return Batch(*(np.concatenate(pair) for pair in zip(rows, empty, strict=True))) if missing else rows


@dataclasses.dataclass(frozen=True)
class Epoch:
    """An epoch's rows, a function of (seed, epoch) alone.

    Attributes:
        buckets: one Batch per row length, each of [steps x rows_per_step, row length].
        rows_per_step: rows of an update over all replicas.
        order: the bucket that each step takes its rows from, int64 [steps].
    """

    buckets: list[Batch]
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
    """Cut the documents, shuffle the windows, make rows, shuffle these; the last step of each bucket is filled with rows of padding.

    cased: where the encoder is told of case. Some windows are then shown in small letters and some in capitals (``SMALL``, ``SHOUTED``).
    """
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    windows = windows.cut_documents(random)
    if cased:
        windows = _hide_case(windows, cased, random.random(len(windows.sentences)))
    buckets = make_rows(windows, batching, targets, random.permutation(len(windows.sentences)))
    buckets = [pad_rows(rows.take(random.permutation(len(rows.pieces))), rows_per_step) for rows in buckets]
    steps = [len(rows.pieces) // rows_per_step for rows in buckets]
    return Epoch(buckets, rows_per_step, random.permutation(np.repeat(np.arange(len(buckets)), steps)))


def _hide_case(windows: Windows, cased: CasedVocabulary, chance: np.ndarray) -> Windows:
    """The windows, in small letters where ``chance`` (in [0, 1), float64 [windows]) is small, and in capitals where it is large."""
    small, shouted = (np.repeat(chosen, windows.lengths) for chosen in (chance < SMALL, chance >= 1 - SHOUTED))
    plain = cased.plain[windows.pieces]
    pieces = np.where(small, plain, windows.pieces)
    return dataclasses.replace(windows, pieces=np.where(shouted, cased.capitals[plain], pieces))


class Call(NamedTuple):
    """One host call: the next ``steps`` updates of ``iterator``, whose rows are ``rows``."""

    steps: int
    iterator: Any
    rows: Batch


def host_calls(strategy, epoch: Epoch, first: int, *, most: int, stops: Collection[int] = (), accumulate: int = 1) -> Iterator[Call]:
    """An epoch from step ``first`` on, as host calls of at most ``most`` steps, one bucket each, that end where ``stops`` says.

    stops: numbers of steps of this epoch after which a host call ends.
    """
    begins = epoch.begins(first)
    iterators = {
        bucket: iter(distribute(strategy, epoch.buckets[bucket], epoch.rows_per_step, first_step=begins[bucket], accumulate=accumulate))
        for bucket in np.unique(epoch.order[first:]).tolist()  # a bucket may be used up already
    }
    for bucket, steps in split_calls(epoch.order, first, most=most, stops=stops):
        begin = begins[bucket] * epoch.rows_per_step
        begins[bucket] += steps
        yield Call(steps, iterators[bucket], epoch.buckets[bucket].take(slice(begin, begins[bucket] * epoch.rows_per_step)))


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


def distribute(strategy, rows: Batch, rows_per_step: int, *, first_step: int = 0, accumulate: int = 1):
    """Rows -> a distributed tf.data.Dataset whose elements are a Batch of tensors, int32 [rows per replica, row length].

    The dataset is endless: take as many elements as there are steps. Each step's rows are split evenly over the replicas in order, a
    remainder (also of ``accumulate`` micro-batches) is filled with rows of padding; an input pipeline (one per worker host) reads its own
    replicas' rows only.
    """
    import tensorflow as tf

    # There is nothing to tune, and in TensorFlow 2.21 destroying an iterator blocks until the autotune thread wakes (up to 10 s).
    fixed = tf.data.Options()
    fixed.autotune.enabled = False
    replicas = strategy.num_replicas_in_sync
    missing = -rows_per_step % (replicas * accumulate)

    def by_replica(field, empty):
        steps = field.reshape(-1, rows_per_step, field.shape[1])[first_step:]
        if missing:
            steps = np.pad(steps, [(0, 0), (0, missing), (0, 0)], constant_values=empty)
        return steps.reshape(len(steps), replicas, -1, field.shape[1])

    fields = Batch(*map(by_replica, rows, EMPTY))

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        mine = slice(context.input_pipeline_id * local, (context.input_pipeline_id + 1) * local)
        elements = fields.map(lambda field: np.ascontiguousarray(field[:, mine]).reshape(-1, *field.shape[2:]))
        # Endless, because several workers would otherwise agree before each step on whether all have data left, with shapes unknown.
        return tf.data.Dataset.from_tensor_slices(elements).repeat().prefetch(2).with_options(fixed)

    return strategy.distribute_datasets_from_function(pipeline)
