"""Epochs: updates, validation, early stopping, the best model, checkpoints."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ner import batches, progress
from ner.checkpoint import Checkpoints, State
from ner.config import Config
from ner.dashboard import Dashboard, validation_scalars
from ner.errors import RunStopped
from ner.optimizer import learning_rates
from ner.scoring import Scores
from ner.wordpieces import Windows


@dataclasses.dataclass(frozen=True)
class Run:
    """What ``fit`` works with; ``train_steps`` is of ner.step, ``validate`` scores the current weights, ``save_best`` keeps them.

    ``flops_per_piece`` and ``peak_flops`` (of all devices, FLOP/s; None: not measured) are of ner.throughput.
    """

    config: Config
    strategy: tf.distribute.Strategy
    train_steps: Callable
    windows: Windows
    labels: batches.Labels
    row_length: int
    validate: Callable[[int], Scores]
    save_best: Callable[[Scores], None]
    checkpoints: Checkpoints
    dashboard: Dashboard
    flops_per_piece: float
    peak_flops: float | None

    def iterator(self, rows: batches.Rows, first_step: int):
        """Over the steps of ``rows`` from ``first_step`` on."""
        padding_id, accumulate = self.labels.padding_id, self.config.accumulate
        return iter(batches.distribute(self.strategy, rows, self.config.rows, padding_id, first_step=first_step, accumulate=accumulate))

    def epoch(self, number: int) -> batches.Epoch:
        """The rows of epoch ``number`` (from 0)."""
        return batches.make_epoch(
            self.windows, self.config.batching, self.row_length, self.config.rows, self.labels, self.config.seed, number
        )


def fit(run: Run, state: State) -> State:
    """Train from ``state`` to the end; on a clean stop everything is saved and RunStopped is raised."""
    config = run.config
    total = config.epochs * run.epoch(0).steps
    with _stop_requests() as stop_requested:
        while state.epoch < config.epochs and not state.finished:
            loss = _train_epoch(run, state, total, stop_requested)
            scores = run.validate(state.step)
            best = scores.f1 > state.best_f1
            state.epoch, state.step_in_epoch = state.epoch + 1, 0
            state.stale_epochs = 0 if best else state.stale_epochs + 1
            if best:
                state.best_f1, state.best_epoch = scores.f1, state.epoch
                run.save_best(scores)
            state.finished = state.epoch == config.epochs or 0 < config.patience <= state.stale_epochs
            run.dashboard.scalars(state.step, state.epoch, {**loss, **validation_scalars(scores)})
            run.dashboard.flush()
            run.checkpoints.save(state)
            progress.epoch_line(state.epoch, config.epochs, loss["train/loss"], scores, loss["train/tokens_per_second"], best)
            if scores.f1 == 0.0 and scores.entities:
                progress.say("warning: validation F1 is 0: no entity was found; more epochs or another learning rate may be needed")
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
            segments = epoch.rows[shape].segments[first : first + steps * run.config.rows]
            values = _host_call(run, iterators[shape], state, steps, total, segments)
            values["train/data_wait_seconds"] += waited
            waited, begins[shape] = 0.0, begins[shape] + steps
            advance(steps, values["train/loss"], values["train/tokens_per_second"])
            due = config.checkpoint_every_steps and state.step_in_epoch % config.checkpoint_every_steps == 0
            ends = state.step_in_epoch == epoch.steps  # the epoch's own checkpoint comes after its validation
            if (due or stop_requested()) and not ends:
                run.dashboard.scalars(state.step, state.epoch + 1, values)
                run.dashboard.flush()
                run.checkpoints.save(state)
                values = {}
            if stop_requested() and not ends:
                raise RunStopped(f"stopped after step {state.step}; --resume continues")
    return values


def _host_call(run: Run, iterator, state: State, steps: int, total: int, segments: np.ndarray) -> dict[str, float]:
    """``steps`` updates; moves ``state`` on and returns the scalars. segments: int32 [rows of the call, row length], 0 is padding."""
    config = run.config
    shape = config.steps_per_call  # of the rates, whatever the steps of this call: one trace
    rates = learning_rates(state.step, shape, total, peak=config.learning_rate, warmup=config.warmup, schedule=config.schedule)
    traced = config.profile and run.train_steps.experimental_get_tracing_count()  # type: ignore[attr-defined]
    profiled = traced and not (run.dashboard.events / "plugins").exists()
    if profiled:
        tf.profiler.experimental.start(str(run.dashboard.events))
    began = time.perf_counter()
    metrics = run.train_steps(iterator, tf.constant(steps, tf.int64), tf.constant(state.step, tf.int64), tf.constant(rates))
    loss, norm, bad = float(metrics.loss), float(metrics.gradient_norm), int(metrics.first_bad_step)
    seconds = time.perf_counter() - began
    if profiled:
        tf.profiler.experimental.stop()
    if bad >= 0:
        _not_finite(config, state.step, steps, bad)
    pieces = int(np.count_nonzero(segments))
    state.step, state.step_in_epoch = state.step + steps, state.step_in_epoch + steps
    values = {
        "train/loss": loss,
        "train/learning_rate": float(rates[steps - 1]),
        "train/gradient_norm": norm,
        "train/tokens_per_second": pieces / seconds,
        "train/padding_share": 1.0 - pieces / segments.size,
        "train/data_wait_seconds": float(metrics.data_seconds),
        "train/model_flops_per_second": run.flops_per_piece * pieces / seconds,
    }
    if run.peak_flops:
        values["train/mfu"] = values["train/model_flops_per_second"] / run.peak_flops
    return values


def _not_finite(config: Config, first: int, steps: int, bad: int) -> None:
    message = f"loss or gradient not finite at step {bad + 1} (host call of steps {first + 1} to {first + steps})"
    if config.non_finite == "stop":
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
        progress.say("stopping after this host call; Ctrl-C again stops at once")
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(self, *exc) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
