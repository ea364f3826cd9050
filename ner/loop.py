"""Epochs: updates, validation, early stopping, the best model, checkpoints."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ner import batches, progress
from ner.checkpoint import Checkpoints, State
from ner.config import Config
from ner.dashboard import Dashboard
from ner.errors import RunStopped
from ner.optimizer import learning_rates
from ner.scoring import Scores
from ner.strategy import Devices
from ner.wordpieces import Windows


@dataclasses.dataclass(frozen=True)
class Run:
    """What ``fit`` works with; ``train_steps`` is of ner.step, ``validate`` scores the current weights and gives the scalars
    to log, ``save_best`` keeps the weights.

    ``flops_per_piece`` and ``peak_flops`` (of all devices, FLOP/s; None: not measured) are of ner.throughput.
    """

    config: Config
    devices: Devices
    train_steps: Callable
    windows: Windows
    labels: batches.Labels
    validate: Callable[[int], tuple[Scores, dict[str, float]]]
    save_best: Callable[[Scores], None]
    checkpoints: Checkpoints
    dashboard: Dashboard
    flops_per_piece: float
    peak_flops: float | None

    def iterator(self, rows: batches.Rows, first_step: int):
        """Over the steps of ``rows`` from ``first_step`` on."""
        shape = {"rows_per_step": self.config.rows, "padding_id": self.labels.padding_id, "accumulate": self.config.accumulate}
        return iter(batches.distribute(self.devices.strategy, rows, first_step=first_step, **shape))

    def epoch(self, number: int) -> batches.Epoch:
        """The rows of epoch ``number`` (from 0)."""
        return batches.make_epoch(
            self.windows, self.config.batching, self.windows.row_length, self.config.rows, self.labels, self.config.seed, number
        )


def fit(run: Run, state: State) -> State:
    """Train from ``state`` to the end; on a clean stop everything is saved and RunStopped is raised."""
    with _stop_requests() as asked:
        # All workers ask at the same places, so that one that is told to stop stops the others with it.
        try:
            return _fit(run, state, lambda: 1 in run.devices.of_all_workers(int(asked())))
        except tf.errors.OpError as error:
            if run.devices.workers == 1:
                raise
            reason = str(error.message).strip().split("\n")[0]
            raise RunStopped(f"another worker is gone ({reason}); start all of them again with --resume") from None
        except OSError as error:  # a full disk: Python names no file where a write, not an open, fails
            raise OSError(error.errno, error.strerror, error.filename or str(run.checkpoints.folder.parent)) from None


def _fit(run: Run, state: State, stop_requested: Callable[[], bool]) -> State:
    config = run.config
    total = config.epochs * run.epoch(0).steps
    while state.epoch < config.epochs and not state.finished:
        loss = _train_epoch(run, state, total, stop_requested)
        scores, values = run.validate(state.step)
        best = scores.f1 > state.best_f1
        state.epoch, state.step_in_epoch = state.epoch + 1, 0
        state.stale_epochs = 0 if best else state.stale_epochs + 1
        if best:
            state.best_f1, state.best_epoch = scores.f1, state.epoch
            run.save_best(scores)
        state.finished = state.epoch == config.epochs or 0 < config.patience <= state.stale_epochs
        run.dashboard.scalars(state.step, state.epoch, {**loss, **values})
        run.dashboard.flush()
        run.checkpoints.save(state)
        progress.epoch_line(state.epoch, config.epochs, loss["train/loss"], scores, loss["train/tokens_per_second"], best)
        _warn(run, loss["train/loss"], scores)
        if stop_requested() and not state.finished:
            raise RunStopped(f"stopped after epoch {state.epoch}; --resume continues")
    return state


def _train_epoch(run: Run, state: State, total: int, stop_requested: Callable[[], bool]) -> dict[str, float]:
    """The updates left in the epoch; the scalars of the last host call are returned, for the record that validation completes."""
    config = run.config
    asked = time.perf_counter()
    epoch = run.epoch(state.epoch)
    begins = epoch.begins(state.step_in_epoch)
    iterators = [run.iterator(rows, begin) for rows, begin in zip(epoch.rows, begins, strict=True)]
    waited = time.perf_counter() - asked
    values: dict[str, float] = {}
    with progress.epoch_bar(state.epoch + 1, config.epochs, epoch.steps, state.step_in_epoch) as advance:
        for shape, steps in epoch.calls(state.step_in_epoch, config.steps_per_call, config.checkpoint_every_steps):
            if values:
                run.dashboard.scalars(state.step, state.epoch + 1, values)
            first = begins[shape] * run.config.rows
            rows = epoch.rows[shape].take(slice(first, first + steps * run.config.rows))
            values = _host_call(run, iterators[shape], state, steps, total, rows)
            values["train/data_wait_seconds"] += waited
            waited, begins[shape] = 0.0, begins[shape] + steps
            advance(steps, values["train/loss"], values["train/tokens_per_second"])
            due = config.checkpoint_every_steps and state.step_in_epoch % config.checkpoint_every_steps == 0
            ends = state.step_in_epoch == epoch.steps  # the epoch's own checkpoint comes after its validation
            due = due or 0 < 60 * config.checkpoint_every_minutes <= time.monotonic() - run.checkpoints.saved
            stop = stop_requested()
            if (due or stop) and not ends:
                run.dashboard.scalars(state.step, state.epoch + 1, values)
                run.dashboard.flush()
                run.checkpoints.save(state)
                values = {}
            if stop and not ends:
                raise RunStopped(f"stopped after step {state.step}; --resume continues")
    return values


def rehearse(run: Run) -> None:
    """Time a few updates of each row shape and say what the whole run would take. The weights change, nothing is written."""
    config, epoch = run.config, run.epoch(0)
    seconds = 0.0
    rates = tf.zeros([config.steps_per_call])
    for rows in epoch.rows:
        iterator, count = run.iterator(rows, 0), min(config.steps_per_call, 3)
        for _ in range(2):  # the first traces and compiles
            began = time.perf_counter()
            float(run.train_steps(iterator, tf.constant(count, tf.int64), tf.constant(0, tf.int64), rates).loss)
            took = (time.perf_counter() - began) / count
        seconds += took * len(rows.pieces) / config.rows
    real = sum(np.count_nonzero(rows.segments) for rows in epoch.rows)
    padding = 1.0 - real / sum(rows.segments.size for rows in epoch.rows)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    progress.say(
        f"dry run: {epoch.steps:,} updates an epoch of {real / epoch.steps:,.0f} real word pieces ({padding:.1%} padding), "
        f"{seconds / epoch.steps:.2f} s each; {config.epochs} epochs: about {config.epochs * seconds / 60:,.1f} min and validation; "
        f"peak memory of the process {memory:,.0f} MiB; nothing was written"
    )


def _warn(run: Run, loss: float, scores: Scores) -> None:
    """Point out an epoch that taught nothing: its last ``loss`` against that of always answering the tags' frequencies, their entropy."""
    share = np.bincount(run.labels.tag_ids) / max(1, len(run.labels.tag_ids))
    guessing = float(-np.sum(share[share > 0] * np.log(share[share > 0])))
    if scores.f1 == 0.0 and scores.entities:
        progress.say("warning: validation F1 is 0: no entity was found; more epochs or another learning rate may be needed")
    if loss > guessing:
        progress.say(
            f"warning: the loss is above {guessing:.4f}, that of guessing tags by their frequency; --learning-rate may be too high"
        )


def _host_call(run: Run, iterator, state: State, steps: int, total: int, rows: batches.Rows) -> dict[str, float]:
    """``steps`` updates over ``rows``; moves ``state`` on and returns the scalars."""
    config = run.config
    shape = config.steps_per_call  # of the rates, whatever the steps of this call: one trace
    rates = learning_rates(state.step, shape, total, peak=config.learning_rate, warmup=config.warmup, schedule=config.schedule)
    traced = config.profile and run.train_steps.experimental_get_tracing_count()  # type: ignore[attr-defined]
    profiled = traced and not (run.dashboard.events / "plugins").exists()
    if profiled:
        tf.profiler.experimental.start(str(run.dashboard.events))
    began = time.perf_counter()
    metrics = run.train_steps(iterator, tf.constant(steps, tf.int64), tf.constant(state.step, tf.int64), tf.constant(rates))
    loss, bad = float(metrics.loss), int(metrics.first_bad_step)  # waits for the call's end
    seconds = time.perf_counter() - began
    if profiled:
        tf.profiler.experimental.stop()
    if bad >= 0:
        _not_finite(run, state.step, steps, bad, rows)
    pieces = int(np.count_nonzero(rows.segments))
    state.step, state.step_in_epoch, state.seconds = state.step + steps, state.step_in_epoch + steps, state.seconds + seconds
    values = {
        "train/loss": loss,
        "train/learning_rate": float(rates[steps - 1]),
        "train/gradient_norm": float(metrics.gradient_norm),
        "train/update_norm": float(metrics.update_norm),
        "train/seconds": state.seconds,
        "train/tokens_per_second": pieces / seconds,
        "train/padding_share": 1.0 - pieces / rows.segments.size,
        "train/data_wait_seconds": float(metrics.data_seconds),
        "train/model_flops_per_second": run.flops_per_piece * pieces / seconds,
    }
    if run.peak_flops:
        values["train/mfu"] = values["train/model_flops_per_second"] / run.peak_flops
    return values


def _not_finite(run: Run, first: int, steps: int, bad: int, rows: batches.Rows) -> None:
    """Stop the run, or warn: update ``bad`` was the first that was not finite, of ``steps`` from ``first`` on over ``rows``."""
    begin = (bad - first) * run.config.rows
    sentences = run.windows.sentences_of(rows.take(slice(begin, begin + run.config.rows)).words)
    some = ", ".join(str(number + 1) for number in sentences[:10]) + (f" and {len(sentences) - 10} more" if len(sentences) > 10 else "")
    message = (
        f"loss or gradient not finite at step {bad + 1} (host call of steps {first + 1} to {first + steps}; training sentences {some})"
    )
    if run.config.non_finite == "stop":
        raise RunStopped(f"{message}; lower --learning-rate, or --non-finite skip leaves such updates out")
    progress.say(f"warning: {message}; updates that are not were left out")


class _stop_requests:
    """SIGTERM and Ctrl-C ask for a stop after the current host call; a second Ctrl-C stops at once."""

    def __enter__(self) -> Callable[[], bool]:
        self.asked = False
        self.previous = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return lambda: self.asked

    def _ask(self, number, frame) -> None:
        self.asked = True
        os.write(2, b"stopping after this host call; Ctrl-C again stops at once\n")  # say() may be what was interrupted
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(self, *exc) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
