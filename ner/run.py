"""What goes on around the loop of train.py: records, progress, checkpoints, and requests to stop."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from ner import card, pretrained, progress, run_folder, throughput
from ner.batches import Batch, Call
from ner.checkpoint import Checkpoints
from ner.config import Config, to_toml
from ner.corpus import BLOCK
from ner.dashboard import Dashboard, validation_scalars
from ner.dataset import Data
from ner.errors import FULL, InputError, RunStopped
from ner.optimizer import AdamW
from ner.pretrained import Pretrained
from ner.progress import say
from ner.scoring import Scores
from ner.step import Metrics
from ner.strategy import Devices
from ner.tagger import TaggingModel


class Run:
    """One run of train.py. Used as ``with Run(...) as run``: inside, SIGTERM and Ctrl-C ask for a stop instead of ending the process.

    Attributes:
        folder: the run folder.
        state: where the run stands, from its newest intact checkpoint; the loop moves it on.
    """

    def __init__(
        self, config: Config, devices: Devices, data: Data, encoder: Pretrained, model: TaggingModel, optimizer: AdamW, dtype: tf.DType
    ):
        """Start the run folder anew, or restore weights, optimizer and state from it.

        Raises InputError where the folder holds another run, and where the workers do not agree on what they are to train.
        """
        self.config, self.devices, self.data, self.encoder, self.model, self.dtype = config, devices, data, encoder, model, dtype
        self.folder = Path(config.output or "")
        fingerprint = run_folder.fingerprint(config, data, encoder, dtype.name)
        calls = {"steps_per_call": config.steps_per_call, "checkpoint_every_steps": config.checkpoint_every_steps}
        if len(devices.of_all_workers(run_folder.digest({**fingerprint, **calls}))) > 1:
            what = "the workers differ in settings, corpus, encoder or number type"
            raise InputError(what, hint="start all of them with the same command")
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints",
            model.trained,
            optimizer,
            keep=config.keep_checkpoints,
            fingerprint=fingerprint,
            environment=run_folder.environment(devices),
            chief=devices.chief,
        )
        with devices.together():
            self.state = run_folder.restore(config, self.checkpoints)
            if devices.chief:
                run_folder.prepare(config, self.state)
            self.dashboard = Dashboard(self.folder, step=self.state.step, chief=devices.chief)
        if len(devices.of_all_workers(self.state.step)) > 1:
            hint = "give all of them one shared --output"
            raise InputError("the workers do not resume from the same step", path=self.folder, hint=hint)
        if self.state.step == 0:
            self.dashboard.configuration(to_toml(config), run_folder.hparams(config))
        self.peak = throughput.matmul_peak(devices.strategy, dtype, model.encoder.config.hidden_size) if config.measure_peak else None
        if self.peak:
            say(f"device: {self.peak / 1e9:,.0f} GFLOP/s of {dtype.name} matrix products, measured")
        self.flops_per_piece = throughput.flops_per_piece(model)
        self.pending: dict[str, float] = {}  # the scalars of the last host call; those of a validation join them
        self.calls = 0
        self.asked = False

    # --- requests to stop ---

    def __enter__(self) -> Run:
        self.handlers = {}
        if threading.current_thread() is threading.main_thread():  # elsewhere no handler can be set
            self.handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind, error, traceback) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if isinstance(error, OSError) and error.errno in FULL and error.filename is None:  # Python names no file where a write fails
            raise OSError(error.errno, error.strerror, str(self.folder)) from None

    def _ask(self, number, frame) -> None:
        self.asked = True
        os.write(2, b"stopping after this host call; Ctrl-C again stops at once\n")  # say() may be what was interrupted
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def stop_asked(self) -> bool:
        """Whether any worker was asked to stop. All workers ask at the same places, so that one stops the others with it."""
        return 1 in self.devices.of_all_workers(int(self.asked))

    # --- updates ---

    @contextlib.contextmanager
    def progress_bar(self, steps: int) -> Iterator[None]:
        """Show a bar over an epoch of ``steps`` updates, on a terminal."""
        with progress.epoch_bar(self.state.epoch + 1, self.config.epochs, steps, self.state.step_in_epoch) as self.advance_bar:
            yield

    @contextlib.contextmanager
    def clock(self) -> Iterator[None]:
        """Time a host call; with --profile the second one of the process is profiled."""
        self.calls += 1
        profiled = self.config.profile and self.devices.chief and self.calls == 2
        if profiled:
            tf.profiler.experimental.start(str(self.dashboard.events))
        began = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - began
        if profiled:
            tf.profiler.experimental.stop()

    def record_updates(self, call: Call, metrics: Metrics, learning_rate: float) -> None:
        """Log a host call that is done and timed; ``state`` stands behind it.

        metrics: as Python numbers (``ner.step.wait``); learning_rate: of the call's last update.

        Raises RunStopped at a loss or gradient that was not finite, unless --non-finite skip.
        """
        state, seconds = self.state, self.seconds
        loss, skipped = metrics.loss, metrics.skipped
        if skipped:
            self._not_finite(call, metrics.first_skipped, skipped)
        pieces, size = call.rows.num_pieces, math.prod(call.rows.shape)
        state.seconds += seconds
        state.recent_seconds += seconds
        state.recent_pieces += pieces
        if skipped < call.steps:
            state.recent_loss += loss * (call.steps - skipped)
            state.recent_updates += call.steps - skipped
        self._write_pending()
        self.pending = {
            "train/loss": loss,
            "train/learning_rate": learning_rate,
            "train/gradient_norm": metrics.gradient_norm,
            "train/update_norm": metrics.update_norm,
            "train/skipped": float(skipped),
            "train/seconds": state.seconds,
            "train/tokens_per_second": pieces / seconds,
            "train/padding_share": 1.0 - pieces / size,
            "train/data_wait_seconds": metrics.data_seconds,
            "train/model_flops_per_second": self.flops_per_piece * pieces / seconds,
        }
        if self.peak:
            self.pending["train/mfu"] = self.pending["train/model_flops_per_second"] / self.peak
        self.pending_at = state.step, state.epoch + (state.step_in_epoch > 0)
        self.advance_bar(call.steps, loss, pieces / seconds)

    def _write_pending(self) -> None:
        if self.pending:
            self.dashboard.scalars(*self.pending_at, self.pending)
            self.pending = {}

    def _not_finite(self, call: Call, bad: int, skipped: int) -> None:
        """Stop the run, or warn: update ``bad`` of the call was the first of ``skipped`` that were not finite."""
        first, rows_per_step = self.state.step - call.steps, self.config.rows
        begin = (bad - first) * rows_per_step
        rows: Batch = call.rows.take(slice(begin, begin + rows_per_step))
        sentences = self.data.train.sentences_of(rows.words)
        some = ", ".join(str(number + 1) for number in sentences[:10])
        if len(sentences) > 10:
            some += f" and {len(sentences) - 10} more"
        where = f"host call of steps {first + 1} to {first + call.steps}; training sentences {some}"
        message = f"loss or gradient not finite at step {bad + 1} ({where})"
        if self.config.non_finite == "stop":
            raise RunStopped(f"{message}; lower --learning-rate, or --non-finite skip skips such updates")
        say(f"warning: {message}; {skipped} of its {call.steps} updates skipped")

    # --- when to validate and to save ---

    def stops(self, epoch_steps: int) -> list[int]:
        """The steps of the current epoch, of ``epoch_steps``, after which a host call must end: to validate or to save."""
        begin = self.state.step - self.state.step_in_epoch
        intervals = {self.config.validate_every, self.config.checkpoint_every_steps} - {0}
        return [step - begin for n in intervals for step in range(begin + n - begin % n, begin + epoch_steps + 1, n)]

    def validation_due(self) -> bool:
        """Whether to validate now: after the last update, and before it every --validate-every updates, or after each epoch."""
        state, every = self.state, self.config.validate_every
        if state.epoch == self.config.epochs or every == 0:
            return state.step_in_epoch == 0
        return state.step % every == 0 and state.step + every // 2 <= state.total_steps  # not just before the last one

    def checkpoint_due(self) -> bool:
        """Whether --checkpoint-every-steps or --checkpoint-every-minutes asks for a checkpoint now."""
        steps, minutes = self.config.checkpoint_every_steps, self.config.checkpoint_every_minutes
        by_steps = steps > 0 and self.state.step % steps == 0
        return by_steps or 0 < 60 * minutes <= time.monotonic() - self.checkpoints.saved

    def save(self) -> None:
        """Write a checkpoint, after all that was recorded up to it."""
        self._write_pending()
        self.dashboard.flush()
        self.checkpoints.save(self.state)

    # --- validations ---

    def save_model(self, scores: Scores, device: str) -> None:
        """The chief writes the model as it is now to model/ in the run folder, with its card. device: what it is trained on, in words."""
        if not self.devices.chief:
            return
        config, data = self.config, self.data
        sizes = {name: len(sentences) for name, sentences in data.splits.items()}
        text = card.model_card(config, scores, splits=sizes, device=device, seconds=self.state.seconds)
        notes: dict = {"case": config.case, "context": config.context, "head": config.head, "row_length": data.train.row_length}
        notes |= {"compute_dtype": self.dtype.name, "validation": scores.as_dict()}
        pretrained.save(self.model, self.folder / "model", source=self.encoder, pieces=data.pieces, card=text, notes=notes)

    def record_validation(self, evaluation, best: bool, epoch_steps: int) -> None:
        """Log a validation (``ner.scoring.Evaluation``), print its line, and start anew the sums from one to the next."""
        state = self.state
        loss = state.recent_loss / state.recent_updates if state.recent_updates else float("nan")
        rate = state.recent_pieces / state.recent_seconds if state.recent_seconds else float("nan")
        state.recent_loss = state.recent_seconds = 0.0
        state.recent_pieces = state.recent_updates = 0
        self.dashboard.validation(state.step, evaluation)
        self.pending |= validation_scalars(evaluation)
        epochs = state.epoch + state.step_in_epoch / epoch_steps
        progress.validation_line(epochs, self.config.epochs, loss, evaluation.scores, rate, best)
        if state.finished:
            self._warn(evaluation.scores, self.pending["train/loss"])

    def _warn(self, scores: Scores, last_loss: float) -> None:
        """Warn at the end of a run that has learnt nothing."""
        ids = self.data.targets.tag_ids
        parts = np.array_split(ids, 1 + len(ids) // BLOCK)
        counts = np.sum([np.bincount(part, minlength=self.data.tags.num_tags) for part in parts], axis=0)
        tags = counts / max(1, len(ids))
        guessing = float(-np.sum(tags[tags > 0] * np.log(tags[tags > 0])))  # the loss of always answering the tags' frequencies
        if scores.f1 == 0.0 and scores.entities:
            say("warning: validation F1 is 0: no entity was found; more epochs or another learning rate may be needed")
        if last_loss > guessing > 0.0:
            say(f"warning: the loss is above {guessing:.4f}, that of guessing tags by their frequency; --learning-rate may be too high")
