"""A run's numbers: TensorBoard event files and the same scalars in metrics.jsonl."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from ner.checkpoint import as_os_error
from ner.errors import InputError
from ner.progress import say
from ner.scoring import Scores, spans

# The scalars that differ between two runs of the same.
WALL_CLOCK = ("train/tokens_per_second", "train/data_wait_seconds", "train/model_flops_per_second", "train/mfu")


class Dashboard:
    """Writes ``tensorboard/`` and ``metrics.jsonl`` of a run folder; of several workers only the ``chief`` does."""

    def __init__(self, folder: Path, *, step: int = 0, chief: bool = True):
        """Continue after ``step``: what an interrupted run wrote past it is dropped, so no step is held twice."""
        self.metrics, self.events, self.chief = folder / "metrics.jsonl", folder / "tensorboard", chief
        if not chief:
            self.writer = tf.summary.create_noop_writer()
            return
        _keep_metrics(self.metrics, step)
        for path in sorted(self.events.glob("events.out.tfevents.*")):
            _keep_events(path, step)
        self.writer = tf.summary.create_file_writer(str(self.events))

    def scalars(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """One record: a line of metrics.jsonl and a TensorBoard point for each scalar."""
        if not self.chief:
            return
        with self.writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")

    def text(self, name: str, markdown: str, step: int) -> None:
        with self.writer.as_default():
            tf.summary.text(name, markdown, step=step)

    def flush(self) -> None:
        """Have the files hold everything recorded so far."""
        with as_os_error(self.events):
            self.writer.flush()
        if self.chief and self.metrics.exists():
            with open(self.metrics, "rb") as file:
                os.fsync(file.fileno())


def validation_scalars(scores: Scores) -> dict[str, float]:
    """The ``validation/...`` scalars of one epoch."""
    values = {f"validation/{name}": getattr(scores, name) for name in ("f1", "f1_strict", "precision", "recall", "macro_f1")}
    for kind, row in scores.per_type.items():
        values |= {f"validation/{name}/{kind}": row[name] for name in ("f1", "precision", "recall")}
    return {name: float(value) for name, value in values.items()}


def predictions_as_markdown(words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> str:
    """Sentences with their gold and predicted entities, one table row each; nothing from the data acts as Markdown or HTML."""
    lines = ["| gold | predicted |", "|---|---|"]
    lines += [f"| {_marked(w, g)} | {_marked(w, p)} |" for w, g, p in zip(words, gold, predicted, strict=True)]
    return "\n".join(lines)


def _marked(words: Sequence[str], tags: Sequence[str]) -> str:
    """Entities in bold, each with its type behind it as code: TensorBoard's sanitiser leaves no other mark."""
    parts, done = [], 0
    for kind, start, end in spans(list(tags)):
        parts += [*map(_escape, words[done:start]), f"**{' '.join(map(_escape, words[start:end]))}** `{kind.replace('`', '')}`"]
        done = end
    return " ".join([*parts, *map(_escape, words[done:])])


def _escape(text: str) -> str:
    """Backslashes before Markdown's characters, and a zero-width space after those that open a tag or an entity, which have no escape."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text[:200])
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|~>" else f"{c}\u200b" if c in "<&" else c for c in text)


def _keep_metrics(path: Path, step: int) -> None:
    """Drop the records past ``step`` (and a last line cut short by a crash), by copy and rename."""
    if not path.exists():
        return
    kept = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            if line and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                raise InputError("damaged: not a JSON record", path=path, line=number, mend="restore the file, or start anew") from None
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(partial, path)


def _keep_events(path: Path, step: int) -> None:
    """The same for one TensorBoard event file; a record cut short by a crash ends it, and so does a damaged one."""
    partial, last = path.with_name(f".{path.name}.partial"), -1
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
    os.replace(partial, path)
