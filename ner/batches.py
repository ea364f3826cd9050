"""Windows -> fixed-shape rows -> tf.data.

Packing puts several whole sentences into one row: attention is block-diagonal (``segments``) and positions restart, so losses and
predictions are those of the unpacked sentences, and one static shape serves the whole run.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from ner.wordpieces import Windows

HIDDEN_CASES = 0.1  # share of the windows that training reads without their case
BLOCK = 2000  # windows that are packed together; best fit within a block keeps the order of sentences random across blocks


class Rows(NamedTuple):
    """Rows of word pieces, each field int32 [rows, row length].

    Attributes:
        pieces: vocabulary ids.
        types: token types: the case of the piece's word (``ner.wordpieces.word_case``), or 0.
        positions: position within the sentence, 0 at each [CLS].
        segments: which sentence of the row a piece belongs to, from 1; 0 is padding.
        labels: tag ids; the padding label where no word's tag is asked.
        words: the word (counted over the corpus) whose tag is predicted here; -1 elsewhere. Stays on the host.
    """

    pieces: np.ndarray
    types: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    labels: np.ndarray
    words: np.ndarray

    def take(self, index: np.ndarray | slice) -> Rows:
        """The rows at ``index``, a NumPy index along the first axis."""
        return Rows(*(field[index] for field in self))

    @property
    def shape(self) -> tuple[int, int]:
        return self.pieces.shape


@dataclasses.dataclass(frozen=True)
class Labels:
    """What is asked of the rows: a tag id for each word of the corpus (int32 [words]), and on which pieces of a word."""

    tag_ids: np.ndarray
    padding_id: int
    pieces: str = "first"


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


def fill(windows: Windows, chosen: np.ndarray, row_of: np.ndarray, offset_of: np.ndarray, row_length: int, labels: Labels) -> Rows:
    """Write the ``chosen`` windows (int64 [n]) at their rows and offsets (int64 [n] each)."""
    num_rows = int(row_of.max()) + 1 if len(row_of) else 0
    sizes = windows.lengths[chosen]
    assert np.all(offset_of + sizes <= row_length), "a window does not fit its row"
    total = np.cumsum(sizes)
    inside = np.arange(total[-1] if len(total) else 0) - np.repeat(total - sizes, sizes)  # position within the window
    source = np.repeat(windows.starts[chosen], sizes) + inside
    target = np.repeat(row_of * row_length + offset_of, sizes) + inside
    words = windows.words[source]
    asked = words >= 0 if labels.pieces == "all" else windows.first[source]
    tags = np.where(asked, labels.tag_ids[words], labels.padding_id) if len(labels.tag_ids) else np.full(len(words), labels.padding_id)
    segment = _number_within_row(row_of, offset_of)

    def spread(values, empty):
        field = np.full(num_rows * row_length, empty, np.int32)
        field[target] = values
        return field.reshape(num_rows, row_length)

    return Rows(
        pieces=spread(windows.pieces[source], 0),
        types=spread(windows.types[source], 0),
        positions=spread(inside, 0),
        segments=spread(np.repeat(segment, sizes), 0),
        labels=spread(tags, labels.padding_id),
        words=spread(np.where(windows.first[source], words, -1), -1),
    )


def _number_within_row(row_of: np.ndarray, offset_of: np.ndarray) -> np.ndarray:
    """1, 2, ... for the windows of each row, left to right."""
    order = np.lexsort((offset_of, row_of))
    sorted_rows = row_of[order]
    first = np.searchsorted(sorted_rows, sorted_rows)
    number = np.empty(len(row_of), np.int64)
    number[order] = np.arange(len(row_of)) - first + 1
    return number


def bucket_lengths(row_length: int) -> list[int]:
    """Row lengths of ``--batching buckets``: a quarter, a half and the whole of the row length."""
    return sorted({max(8, row_length // 4), max(8, row_length // 2), row_length})


def make_rows(windows: Windows, batching: str, row_length: int, labels: Labels, order: np.ndarray) -> list[Rows]:
    """All windows in the given order (a permutation, int64 [windows]) as rows, one Rows per row length (buckets have several)."""
    if batching == "packed":
        row_of, offset_of = pack(windows.lengths[order], row_length)
        return [fill(windows, order, row_of, offset_of, row_length, labels)]
    lengths = bucket_lengths(row_length) if batching == "buckets" else [row_length]
    bucket = np.searchsorted(lengths, windows.lengths[order])
    groups = [order[bucket == b] for b in range(len(lengths))]
    return [
        fill(windows, group, np.arange(len(group)), np.zeros(len(group), np.int64), length, labels)
        for group, length in zip(groups, lengths, strict=True)
        if len(group)
    ]


class Call(NamedTuple):
    """One host call: ``steps`` updates on rows of one shape."""

    shape: int
    steps: int


@dataclasses.dataclass(frozen=True)
class Epoch:
    """An epoch's rows, a function of (seed, epoch) alone: ``rows[shape]`` is int32 [steps x rows per step, row length] per field."""

    rows: list[Rows]
    rows_per_step: int
    order: np.ndarray  # which shape each step takes, int64 [steps]

    @property
    def steps(self) -> int:
        return len(self.order)

    def calls(self, first: int, most: int, every: int = 0) -> list[Call]:
        """Steps from ``first`` on, cut into host calls of at most ``most`` steps of one shape that end at multiples of ``every``."""
        calls = []
        step = first
        while step < self.steps:
            end = min(step + most, self.steps, step + every - step % every if every else self.steps)
            other = np.flatnonzero(self.order[step:end] != self.order[step])
            end = step + int(other[0]) if len(other) else end
            calls.append(Call(int(self.order[step]), end - step))
            step = end
        return calls

    def begins(self, first: int) -> list[int]:
        """For each shape, how many of its steps come before step ``first``."""
        return [int(np.count_nonzero(self.order[:first] == shape)) for shape in range(len(self.rows))]


def make_epoch(windows: Windows, batching: str, row_length: int, rows_per_step: int, labels: Labels, seed: int, epoch: int) -> Epoch:
    """Shuffle the windows, make rows, shuffle the rows; the last step of each shape is filled with rows of padding (weight zero).

    Of windows whose words' case is known, HIDDEN_CASES are read without it: for text that has none, and where no token types are given.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    if windows.types.any():
        windows = _hide_case(windows, random.random(len(windows.sentences)) < HIDDEN_CASES)
    rows = make_rows(windows, batching, row_length, labels, random.permutation(len(windows.sentences)))
    rows = [pad_rows(group.take(random.permutation(len(group.pieces))), rows_per_step, labels.padding_id) for group in rows]
    steps = [len(group.pieces) // rows_per_step for group in rows]
    return Epoch(rows, rows_per_step, random.permutation(np.repeat(np.arange(len(rows)), steps)))


def _hide_case(windows: Windows, hidden: np.ndarray) -> Windows:
    """The windows with token type 0 throughout those that are ``hidden`` (bool [windows])."""
    return dataclasses.replace(windows, types=np.where(np.repeat(hidden, windows.lengths), 0, windows.types))


def pad_rows(rows: Rows, multiple: int, padding_id: int) -> Rows:
    """Append rows of padding up to a multiple of ``multiple`` rows; they carry no label and no word, so they weigh nothing."""
    missing = -len(rows.pieces) % multiple
    empty = Rows(*(np.full((missing, rows.shape[1]), value, np.int32) for value in (0, 0, 0, 0, padding_id, -1)))
    return Rows(*(np.concatenate(pair) for pair in zip(rows, empty, strict=True)))


def distribute(strategy, rows: Rows, rows_per_step: int, padding_id: int, *, first_step: int = 0, accumulate: int = 1):
    """Rows -> a distributed tf.data.Dataset whose elements are (pieces, types, positions, segments, labels).

    Each is int32 [rows per replica, row length]. The dataset is endless: take as many elements as there are steps. Each step's rows are
    split evenly over the replicas in order, a remainder (also of ``accumulate`` micro-batches) is filled with rows of padding; an input
    pipeline (one per worker host) reads its own replicas' rows only.
    """
    import tensorflow as tf

    # There is nothing to tune, and TensorFlow 2.21 does not wake the tuning thread when an iterator goes: the program then stands still
    # for the rest of the thread's pause, which doubles from 10 ms on (10 s seen).
    fixed = tf.data.Options()
    fixed.autotune.enabled = False
    replicas = strategy.num_replicas_in_sync
    missing = -rows_per_step % (replicas * accumulate)
    fields = []
    for field, empty in zip(rows[:5], (0, 0, 0, 0, padding_id), strict=True):
        steps = field.reshape(-1, rows_per_step, field.shape[1])[first_step:]
        filled = np.pad(steps, [(0, 0), (0, missing), (0, 0)], constant_values=empty)
        fields.append(filled.reshape(len(steps), replicas, -1, field.shape[1]))

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        mine = slice(context.input_pipeline_id * local, (context.input_pipeline_id + 1) * local)
        elements = tuple(np.ascontiguousarray(field[:, mine]).reshape(-1, *field.shape[2:]) for field in fields)
        # Endless, because several workers would otherwise agree before each step on whether all have data left, with shapes unknown.
        return tf.data.Dataset.from_tensor_slices(elements).repeat().prefetch(2).with_options(fixed)

    return strategy.distribute_datasets_from_function(pipeline)
