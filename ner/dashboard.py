"""A run's numbers: TensorBoard event files and the same scalars in metrics.jsonl."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hp

from ner import files, markdown
from ner.errors import InputError, printable
from ner.files import tensorflow_errors_as_os_errors
from ner.progress import say
from ner.scoring import Evaluation

LARGEST = 30
HPARAMS_METRICS = ("validation/f1", "validation/f1_strict", "validation/macro_f1", "train/seconds", "train/tokens_per_second")


def is_timing(scalar: str) -> bool:
    """Whether a scalar is measured by a clock, so that it differs between otherwise identical runs. Its name says so by its unit."""
    return scalar.startswith("train/") and ("second" in scalar or scalar == "train/mfu")


class Dashboard:
    """Writes ``tensorboard/`` and ``metrics.jsonl`` of a run folder; of several workers only the ``chief`` does."""

    def __init__(self, folder: Path, *, step: int = 0, chief: bool = True):
        """Continue after ``step``: what an interrupted run wrote past it is dropped, so no step is held twice."""
        self.metrics, self.events, self.chief = folder / "metrics.jsonl", folder / "tensorboard", chief
        if not chief:
            self.writer = tf.summary.create_noop_writer()
            return
        _keep_metrics(self.metrics, step)
        with tensorflow_errors_as_os_errors(self.events):
            for path in sorted(self.events.glob("events.out.tfevents.*")):
                _keep_events(path, step)
            self.writer = tf.summary.create_file_writer(str(self.events))

    def scalars(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """One record: a line of metrics.jsonl and a TensorBoard point for each scalar."""
        if not self.chief:
            return
        with self._writing():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")

    def configuration(self, toml: str, hparams: dict[str, bool | int | float | str]) -> None:
        """The run's settings, as text and for the HParams tab, which shows them beside the scores of every run in the folder."""
        with self._writing():
            tf.summary.text("configuration", f"```toml\n{toml}```", step=0)
            hp.hparams_config(hparams=[hp.HParam(name) for name in hparams], metrics=[hp.Metric(name) for name in HPARAMS_METRICS])
            hp.hparams(hparams)

    def validation(self, step: int, evaluation: Evaluation) -> None:
        """Write what a person looks at: sample and worst sentences, and the confusion matrix of the types."""
        if not self.chief:
            return
        with self._writing():
            tf.summary.text("validation/sample", markdown.sample(evaluation), step=step)
            tf.summary.text("validation/worst", markdown.worst(evaluation), step=step)
            tf.summary.image("validation/confusion", confusion_image(*evaluation.confusion)[None], step=step)

    @contextlib.contextmanager
    def _writing(self):
        """Summaries made here go to the event file; it writes when it likes, so any of them may find the disk full."""
        with tensorflow_errors_as_os_errors(self.events), self.writer.as_default():
            yield

    def flush(self) -> None:
        """Have the files hold everything recorded so far."""
        with tensorflow_errors_as_os_errors(self.events):
            self.writer.flush()
        if self.chief and self.metrics.exists():
            with open(self.metrics, "rb") as file:
                os.fsync(file.fileno())


def validation_scalars(evaluation: Evaluation) -> dict[str, float]:
    """The ``validation/...`` scalars of one validation. The evaluation must have its ``confidence``."""
    scores = evaluation.scores
    values = {f"validation/{name}": getattr(scores, name) for name in ("f1", "f1_strict", "precision", "recall", "macro_f1")}
    for kind, row in scores.per_type.items():
        values |= {f"validation/{name}/{kind}": row[name] for name in ("f1", "precision", "recall")}
    values |= {f"validation/errors/{error.replace(' ', '_')}": count for error, count in evaluation.errors.items()}
    values["validation/ece_words"] = evaluation.word_calibration_error()
    values["validation/ece_entities"] = evaluation.entity_calibration_error()
    return {name: float(value) for name, value in values.items()}


def confusion_image(labels: Sequence[str], matrix: np.ndarray) -> np.ndarray:
    """Which type was taken for which, as a picture: uint8 [height, width, 4]. ``labels`` and ``matrix`` are of Evaluation.confusion.

    A row's shade is its share of the gold type's entities; the numbers are counts. Beyond ``LARGEST`` labels the rarest are left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frequent = np.argsort(-(matrix.sum(0) + matrix.sum(1)), kind="stable")[:LARGEST]
    chosen = sorted({*frequent.tolist(), len(labels) - 1})
    labels, matrix = [labels[i] for i in chosen], matrix[np.ix_(chosen, chosen)]
    size = 1.5 + 0.45 * len(labels)
    figure = Figure(figsize=(size, size), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    names = [printable(label, limit=30).replace("$", "\\$") for label in labels]  # a dollar opens a formula
    axes.set_xticks(range(len(labels)), names, rotation=90)
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted (O: missed)")
    axes.set_ylabel("gold (O: spurious)")
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", fontsize=9, color=colour)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _keep_metrics(path: Path, step: int) -> None:
    """Drop the records past ``step``, and a last line truncated by a crash.

    A checkpoint is written after the record of its step, so that is the last one kept.
    """
    if not step and not path.exists():
        return
    kept, last = [], 0
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line.decode())["step"] if line else step + 1
            if found <= step:
                kept.append(line + b"\n")
                last = found
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                raise InputError("damaged: not a JSON record", path=path, line=number, hint="restore the file, or start anew") from None
    if last != step:
        raise InputError(f"ends at step {last}, the checkpoint at {step}", path=path, hint="restore the file, or --overwrite the run")
    files.write(path, b"".join(kept))


def _keep_events(path: Path, step: int) -> None:
    """The same for one TensorBoard event file; a record truncated by a crash ends it, and so does a damaged one."""
    # TFRecordWriter opens a path of its own. This one is not named like an event file, which TensorBoard would read if a kill left it.
    partial, last = path.with_name(".partial"), -1
    with tf.io.TFRecordWriter(str(partial)) as writer:
        records = iter(tf.data.TFRecordDataset(str(path)))
        while True:
            try:
                record = next(records).numpy()
            except StopIteration:
                break
            except tf.errors.DataLossError:
                if last < step:  # all up to the checkpoint's step was written before the checkpoint
                    say(f"warning: {path} is damaged: its records after step {last} are lost to TensorBoard; metrics.jsonl has them")
                break
            event = tf.compat.v1.Event.FromString(record)
            if event.step <= step:
                writer.write(record)
                last = event.step
    files.sync(partial)
    os.replace(partial, path)
