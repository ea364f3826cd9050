"""Epochs: updates, validation, early stopping, the best model, checkpoints."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable

import tensorflow as tf

from ner import batches, progress
from ner.checkpoint import Checkpoints, State
from ner.config import Config
from ner.dashboard import Dashboard, validation_scalars
from ner.optimizer import learning_rates
from ner.scoring import Scores
from ner.wordpieces import Windows


class Stopped(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has saved where it stands."""


class NotFinite(Exception):
    """A loss or gradient was not finite; the message names the steps."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What ``fit`` works with; ``train_steps`` is of ner.step, ``validate`` scores the current weights, ``save_best`` keeps them."""

    config: Config
    strategy: tf.distribute.Strategy
    train_steps: Callable
    windows: Windows
    labels: batches.Labels
    row_length: int
    rows_per_step: int
    validate: Callable[[int], Scores]
    save_best: Callable[[Scores], None]
    checkpoints: Checkpoints
    dashboard: Dashboard

    def epoch(self, number: int) -> batches.Epoch:
        """The rows of epoch ``number`` (from 0)."""
        return batches.make_epoch(
            self.windows, self.config.batching, self.row_length, self.rows_per_step, self.labels, self.config.seed, number
        )


def fit(run: Run, state: State) -> State:
    """Train from ``state`` to the end; on a clean stop everything is saved and Stopped is raised."""
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
    return state


def _train_epoch(run: Run, state: State, total: int, stop_requested: Callable[[], bool]) -> dict[str, float]:
    """The updates left in the epoch; the scalars of the last host call are returned, for the record that validation completes."""
    config = run.config
    epoch = run.epoch(state.epoch)
    begins = epoch.begins(state.step_in_epoch)
    iterators = [
        iter(batches.distribute(run.strategy, rows, run.rows_per_step, begin)) for rows, begin in zip(epoch.rows, begins, strict=True)
    ]
    values: dict[str, float] = {}
    calls = epoch.calls(state.step_in_epoch, config.steps_per_call, config.checkpoint_every_steps)
    with progress.epoch_bar(state.epoch + 1, config.epochs, epoch.steps, state.step_in_epoch) as advance:
        for shape, steps in calls:
            if values:
                run.dashboard.scalars(state.step, state.epoch + 1, values)
            began = time.perf_counter()
            rates = learning_rates(state.step, steps, total, peak=config.learning_rate, warmup=config.warmup, schedule=config.schedule)
            padded = tf.pad(tf.constant(rates), [[0, config.steps_per_call - steps]])  # one shape, one trace
            metrics = run.train_steps(
                iterators[shape],
                tf.constant(steps, tf.int64),
                tf.constant(state.step, tf.int64),
                tf.ensure_shape(padded, [config.steps_per_call]),
            )
            loss, norm, bad = float(metrics.loss), float(metrics.gradient_norm), int(metrics.first_bad_step)
            seconds = time.perf_counter() - began
            if bad >= 0:
                _not_finite(config, state.step, steps, bad)
            taken = slice(begins[shape] * run.rows_per_step, (begins[shape] + steps) * run.rows_per_step)
            begins[shape] += steps
            segments = epoch.rows[shape].segments[taken]
            pieces = int((segments > 0).sum())
            state.step, state.step_in_epoch = state.step + steps, state.step_in_epoch + steps
            state.seconds, state.pieces = state.seconds + seconds, state.pieces + pieces
            values = {
                "train/loss": loss,
                "train/learning_rate": float(rates[-1]),
                "train/gradient_norm": norm,
                "train/tokens_per_second": pieces / seconds,
                "train/padding_share": 1.0 - pieces / segments.size,
            }
            advance(steps, loss, pieces / seconds)
            due = config.checkpoint_every_steps and state.step_in_epoch % config.checkpoint_every_steps == 0
            ends = state.step_in_epoch == epoch.steps  # the epoch's own checkpoint comes after its validation
            if (due or stop_requested()) and not ends:
                run.dashboard.scalars(state.step, state.epoch + 1, values)
                values = {}
                run.dashboard.flush()
                run.checkpoints.save(state)
            if stop_requested() and not ends:
                raise Stopped(f"stopped after step {state.step}; --resume continues")
    return values


def _not_finite(config: Config, first: int, steps: int, bad: int) -> None:
    message = f"loss or gradient not finite at step {bad + 1} (host call of steps {first + 1} to {first + steps})"
    if config.non_finite == "stop":
        raise NotFinite(f"{message}; lower --learning-rate, or --non-finite skip leaves such updates out")
    progress.say(f"warning: {message}; the update was left out")


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
