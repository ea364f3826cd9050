"""``--dry-run``: what a run would take, without writing anything."""

from __future__ import annotations

import math
import sys
import time

import tensorflow as tf

from ner import batches, budget
from ner.config import Config
from ner.dataset import Data
from ner.progress import say


def rehearse(config: Config, strategy: tf.distribute.Strategy, update, data: Data) -> None:
    """Time a few updates of each row length and say what the whole run would take.

    update: of ``ner.step.make_update``. The learning rate is 0, so only the optimizer's moments change.
    """
    epoch = batches.make_epoch(
        data.train, data.targets, batching=config.batching, rows_per_step=config.rows, seed=config.seed, epoch=0, cased=data.pieces.cased
    )
    seconds, count = 0.0, min(config.steps_per_call, 3)
    for rows in epoch.buckets:
        some = rows.at(slice(count * config.rows))
        iterator = iter(batches.distribute(strategy, some, config.rows, accumulate=config.accumulate))
        for _ in range(2):  # the first traces and compiles
            began = time.perf_counter()
            float(update(iterator, tf.constant(count, tf.int64), tf.constant(0, tf.int64), tf.zeros([config.steps_per_call])).loss)
            took = (time.perf_counter() - began) / count
        seconds += took * rows.shape[0] / config.rows
    real = sum(rows.num_pieces for rows in epoch.buckets)
    padding = 1.0 - real / sum(math.prod(rows.shape) for rows in epoch.buckets)
    each = seconds / epoch.steps
    whole = budget.seconds(config, data.train, data.validation, each)
    say(
        f"dry run: {epoch.steps:,} updates an epoch of {real / epoch.steps:,.0f} real word pieces ({padding:.1%} padding), "
        f"{each:.2f} s each; {config.epochs} epochs: about {budget.in_words(whole)} of training and validation; "
        f"{_peak_memory()}no run folder was written"
    )


def _peak_memory() -> str:
    try:
        import resource  # not on Windows
    except ImportError:
        return ""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:,.0f} MiB; "
