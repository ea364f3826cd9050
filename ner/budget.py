"""How long to train, and in what steps: the settings that were not given, as functions of the corpus's size.

This is the one place of the rule. It was chosen on seven public corpora of 100 to 5,400 sentences (one seed each, with the linear head and
one rate for all layers; the epochs below 10,000 word pieces with today's defaults), and meets the size and the rate of GMB's recipe
(experiments/gmb_minilm.toml).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ner import batches
from ner.config import Config
from ner.windows import Windows

UPDATE_COST = 3  # a piece costs about three times as much in an update (forward, and backward twice that) as in a validation
VALIDATION_SHARE = 0.2  # of the time of the updates, at most
MOST_VALIDATIONS = 20


def pieces_per_update(pieces: int) -> float:
    """Word pieces an update: 256 for a corpus of 10,000, twice as many for four times as much, from 256 to 1,024."""
    return min(1024.0, max(256.0, 256 * math.sqrt(pieces / 10_000)))


def epochs(pieces: int) -> int:
    """Passes over a corpus of so many word pieces, from 2 to 40: 20 over 10,000, half as many over four times as much, twice as many over
    half as much. With the updates above it is one number of updates, about 780, for 5,000 to 160,000 word pieces.
    """
    times = 10_000 / pieces
    return max(2, min(40, round(20 * max(times, math.sqrt(times)))))


def learning_rate(update_pieces: float, width: int) -> float:
    """The peak rate for updates of so many word pieces: 4e-4 for 1,024 or more, and for fewer less, by the root (Malladi et al., 2022).

    That is for encoders of a width of 384 or less, on which it was measured. Wider ones get less, by the square: 1e-4 at 768. That was not
    measured; it meets the rates that their authors recommend (2e-5 to 5e-5 for 32 sentences; Devlin et al., 2019).
    """
    return 4e-4 * math.sqrt(min(1.0, update_pieces / 1024)) * min(1.0, 384 / width) ** 2


def validations(trained: int, validation: int) -> int:
    """How often to validate, by the word pieces of the whole training and of one validation."""
    return max(1, min(MOST_VALIDATIONS, int(VALIDATION_SHARE * UPDATE_COST * trained / max(1, validation))))


def filled(config: Config, train: Windows, validation: Windows, width: int) -> Config:
    """The configuration with ``rows``, ``epochs``, ``learning_rate`` and ``validate_every`` filled in where they are None.

    width: the encoder's hidden size.
    """
    pieces = len(train.pieces)
    row = pieces_per_row(config, train)
    rows = max(config.accumulate, round(pieces_per_update(pieces) / row)) if config.rows is None else config.rows
    rate = learning_rate(rows * row, width) if config.learning_rate is None else config.learning_rate
    config = dataclasses.replace(config, rows=rows, epochs=config.epochs or epochs(pieces), learning_rate=rate)
    if config.validate_every is None:
        times = validations(config.epochs * pieces, len(validation.pieces))
        config = dataclasses.replace(config, validate_every=math.ceil(updates(config, train) / times))
    return config


def pieces_per_row(config: Config, train: Windows) -> float:
    """About how many word pieces a row holds: as if packed rows were full; others hold one window each."""
    if config.batching == "packed":
        return train.row_length
    windows = int(np.ceil(train.lengths / train.row_length).sum())  # a document that is still whole will be cut
    return len(train.pieces) / windows


def rows_per_epoch(config: Config, train: Windows) -> int:
    """About how many rows an epoch has. Packed ones are counted by packing some of the windows."""
    full, rest = np.divmod(train.lengths, train.row_length)  # a document that is still whole fills several rows
    rest = rest[rest > 0]
    if config.batching != "packed" or not len(rest):
        return int(full.sum()) + len(rest)
    some = rest[:: math.ceil(len(rest) / batches.BLOCK)]
    row_of, _ = batches.pack(some, train.row_length)
    return int(full.sum()) + math.ceil((row_of.max() + 1) * rest.sum() / some.sum())


def updates(config: Config, train: Windows) -> int:
    """About how many updates a filled configuration has."""
    return config.epochs * math.ceil(rows_per_epoch(config, train) / config.rows)


def line(config: Config, train: Windows) -> str:
    """The budget in words."""
    often = f"every {config.validate_every:,} updates" if config.validate_every else "after each epoch"
    size = f"{config.epochs} epochs of {len(train.pieces):,} word pieces, about {updates(config, train):,} updates"
    rate = f"learning rate {config.learning_rate:.2g}"
    return f"budget: {size} of {config.rows} x {train.row_length}; {rate}; validation {often}; case {'on' if config.case else 'off'}"


def seconds(config: Config, train: Windows, validation: Windows, update_seconds: float) -> float:
    """About how long updates and validations take, by the time of an update."""
    count = updates(config, train)
    times = count / config.validate_every if config.validate_every else config.epochs
    shared = len(validation.pieces) / (config.rows * train.row_length) / UPDATE_COST
    return update_seconds * (count + times * shared)


def in_words(seconds: float) -> str:
    """``50 s``, ``3 min``, ``2.5 h``: a time as exact as an estimate is."""
    if seconds < 100:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
