"""What steps of the 2020 tutorial "Entity Recognition with BERT" cost: the figures of docs/from_the_2020_tutorial.md.

    python tools/steps_of_2020.py ner_dataset.csv              # counts, in seconds
    python tools/steps_of_2020.py ner_dataset.csv --train      # small trainings, in minutes

The corpus is the Groningen Meaning Bank, the vocabulary that of bert-base-uncased, which all-MiniLM-L6-v2 shares. The counts read the file
as the tutorial does: by pandas, as latin-1. The trainings change one step at a time in this project's loop. Each has three seeds, the first
3,000 training sentences of the hash split, and one epoch. It scores the first 2,000 validation sentences.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ner.strategy import import_tensorflow  # noqa: E402

import_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from ner import batches, budget, dataset, formats, inference, pretrained, scoring, step, strategy  # noqa: E402
from ner.batches import NO_LABEL, Batch  # noqa: E402
from ner.config import Config  # noqa: E402
from ner.optimizer import AdamW, learning_rates  # noqa: E402
from ner.sentences import split  # noqa: E402
from ner.tagger import cross_entropy  # noqa: E402
from ner.wordpieces import WordPieces  # noqa: E402

LENGTH = 384  # the tutorial's rows
TRAIN, VALIDATION, SEEDS = 3000, 2000, 3


def lines_of_counts(path: str) -> list[str]:
    """What the tutorial's reading, padding, labels and accuracy do to the corpus, without any training."""
    frame = pd.read_csv(path, encoding="latin-1")
    frame["Sentence #"] = frame["Sentence #"].ffill()
    missing = frame["Word"].isna()
    pieces = WordPieces.load(pretrained.find(Config.encoder))
    distinct = frame["Word"].dropna().unique().tolist()
    encodings = pieces.tokenizer.encode_batch_fast(distinct, add_special_tokens=False)
    frame["pieces"] = frame["Word"].map(dict(zip(distinct, (len(e.ids) for e in encodings), strict=True))).fillna(1).astype(int)
    frame["entity"] = frame["Tag"] != "O"
    empty = (frame["pieces"] == 0) & ~missing
    by_sentence = frame.groupby("Sentence #")  # sorts by the id as a string
    lengths = by_sentence["pieces"].sum().to_numpy() + 2
    positions = LENGTH * len(lengths)
    windows = pieces.encode([s.words for s in formats.read(path)])
    rows = batches.pack(windows.lengths, windows.row_length)[0].max() + 1
    o_pieces = frame["pieces"][~frame["entity"]].sum() + 2 * len(lengths)  # [CLS] and [SEP] are O there
    texts = by_sentence["Word"].agg(lambda words: "\0".join(map(str, words))).tolist()
    control = frame["Word"].str.contains("[\x80-\x9f]", na=False)
    cut = int(0.9 * len(texts))
    known, last = set(texts[:cut]), texts[cut:]
    return [
        f"{len(lengths):,} sentences, {len(frame):,} words, {lengths.sum():,} word pieces with [CLS] and [SEP]",
        f"longest sentence: {lengths.max()} word pieces; longer than {LENGTH}: {(lengths > LENGTH).sum()}",
        f"padding at {LENGTH}: {1 - lengths.sum() / positions:.1%} of {positions:,} positions",
        f"padding in packed rows of {windows.row_length}: {1 - windows.lengths.sum() / (rows * windows.row_length):.1%} of "
        f"{rows * windows.row_length:,} positions; {positions / (rows * windows.row_length):.1f} times fewer",
        f"a loss of 1 for each labelled piece is shown as {lengths.sum() / positions:.3f} by a mean over all positions",
        f"[CLS] and [SEP]: {2 * len(lengths) / lengths.sum():.1%} of the labelled pieces",
        f"accuracy of tagging everything O: {1 - frame['entity'].mean():.1%} of the words, {o_pieces / lengths.sum():.1%} of the "
        f"pieces with [CLS] and [SEP], {(o_pieces + positions - lengths.sum()) / positions:.1%} of the positions with padding; F1 0",
        f"words that pandas reads as missing: {missing.sum()} ({(missing & frame['entity']).sum()} of them in entities)",
        f"words without a word piece: {empty.sum()} ({(empty & frame['entity']).sum()} of them in entities)",
        f"words in which latin-1 gives a control character: {control.sum()}",
        f"entities that begin in a word of two or more pieces: {(frame['Tag'].str.startswith('B') & (frame['pieces'] > 1)).sum():,} "
        f"of {frame['Tag'].str.startswith('B').sum():,}",
        f"sentences of the last 10 % that the first 90 % has too: {sum(text in known for text in last):,} of {len(last):,}",
    ]


# --- trainings ----------------------------------------------------------------------------------------------------------


def usual(scores: tf.Tensor, batch: Batch) -> tf.Tensor:
    """This project's loss; the update divides it by the number of labelled pieces."""
    return cross_entropy(scores, batch.labels)


def over_all_positions(scores: tf.Tensor, batch: Batch) -> tf.Tensor:
    """The mean over all positions of sentences padded to 384, as the tutorial's loss takes it."""
    sentences = tf.reduce_sum(tf.cast((batch.positions == 0) & (batch.segments > 0), tf.float32))
    labelled = tf.reduce_sum(tf.cast(batch.labels != NO_LABEL, tf.float32))
    return cross_entropy(scores, batch.labels) * labelled / tf.maximum(LENGTH * sentences, 1.0)


def special_pieces_too(pieces: WordPieces, o_tag: int) -> Callable:
    """The loss with [CLS] and [SEP] labelled O."""

    def loss(scores: tf.Tensor, batch: Batch) -> tf.Tensor:
        special = (batch.segments > 0) & ((batch.pieces == pieces.cls) | (batch.pieces == pieces.sep))
        labels = tf.where(special, o_tag, batch.labels)
        before, after = (tf.reduce_sum(tf.cast(some != NO_LABEL, tf.float32)) for some in (batch.labels, labels))
        return cross_entropy(scores, labels) * before / tf.maximum(after, 1.0)

    return loss


def nan_for(piece: int) -> Callable:
    """The loss, which is NaN for an update that holds this piece."""

    def loss(scores: tf.Tensor, batch: Batch) -> tf.Tensor:
        found = tf.reduce_any(batch.pieces == piece)
        return cross_entropy(scores, batch.labels) + tf.where(found, float("nan"), 0.0)

    return loss


class Trainer:
    """The corpus made ready once, and ``fit``, which is train.py without a run folder."""

    def __init__(self, path: str, folder: Path):
        sentences = formats.read(path)
        parts = split(sentences, seed=0, path=path)
        files = {name: str(folder / f"{name}.jsonl") for name in ("train", "validation")}
        for name, most in (("train", TRAIN), ("validation", VALIDATION)):
            formats.write(files[name], [sentences[number] for number in parts[name][:most]])
        self.devices = strategy.choose("none")
        self.encoder = pretrained.find(Config.encoder)
        config = Config(**files, epochs=1, rows=16, learning_rate=4e-4, encoder_dropout=0.0)
        self.data = dataset.prepare(dataset.resolve(config), self.encoder, print)
        self.config = budget.filled(config, self.data.train, self.data.validation, self.encoder.shape.hidden_size)
        self.words = [s.words for s in self.data.splits["validation"]]
        self.gold = [s.tags for s in self.data.splits["validation"]]

    def fit(self, loss: Callable, seed: int, **changed) -> tuple[scoring.Evaluation, int, float]:
        """The scores on validation, how many updates were skipped, and the mean norm of the gradient."""
        config, data = self.config, self.data
        clip_norm = changed.get("clip_norm", config.clip_norm)
        model = pretrained.build(
            self.encoder, data.tags.names, cased=data.pieces.cased, seen=data.train.distinct_pieces(), dropout=config.dropout,
            encoder_dropout=0.0, compute_dtype=strategy.compute_dtype("auto", "cpu"), seed=seed,
        )  # fmt: skip
        pretrained.load(model, self.encoder, head=False)
        optimizer = AdamW(model.trained, weight_decay=config.weight_decay)
        update = step.make_update(self.devices.strategy, model, optimizer, loss, seed=seed, clip_norm=clip_norm)
        epoch = batches.make_epoch(
            data.train, data.targets, batching="packed", rows_per_step=config.rows, seed=seed, epoch=0, cased=data.pieces.cased
        )
        done, skipped, norms = 0, 0, []
        for call in batches.host_calls(self.devices.strategy, epoch, 0, most=20):
            rates = learning_rates(done, 20, epoch.steps, peak=config.learning_rate, warmup=config.warmup, schedule=config.schedule)
            found = update(call.iterator, tf.constant(call.steps, tf.int64), tf.constant(done, tf.int64), tf.constant(rates))
            metrics = step.wait(found)
            done, skipped = done + call.steps, skipped + metrics.skipped
            norms.append(metrics.gradient_norm)
        predict = step.make_predict(self.devices.strategy, model)
        found = inference.tag(predict, self.devices.strategy, data.validation, model.head, self.words)
        return scoring.Evaluation(self.words, self.gold, *found), skipped, float(np.nanmean(norms))


def train(path: str, only: list[str]) -> None:
    """A line for each change: F1 of each seed, and what else it shows."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(path, Path(folder))
    tags, pieces = trainer.data.tags.names, trainer.data.pieces
    rare = int(np.flatnonzero(np.bincount(trainer.data.train.pieces) == 3)[0])
    arms = {
        "this loop": (usual, {}),
        "mean over 384 positions": (over_all_positions, {}),
        "[CLS] and [SEP] labelled O": (special_pieces_too(pieces, tags.index("O")), {}),
        "not clipped": (usual, {"clip_norm": 0.0}),
        "mean over 384 positions, not clipped": (over_all_positions, {"clip_norm": 0.0}),
        "NaN where one rare word piece is": (nan_for(rare), {}),
    }
    for name, (loss, changed) in arms.items():
        if only and name not in only:
            continue
        found = [trainer.fit(loss, seed, **changed) for seed in range(SEEDS)]
        f1 = [evaluation.scores.f1 for evaluation, _, _ in found]
        right = [np.mean([g == p for s in zip(e.gold, e.predicted, strict=True) for g, p in zip(*s, strict=True)]) for e, _, _ in found]
        each, skipped, norm = ", ".join(f"{value:.4f}" for value in f1), [some for _, some, _ in found], np.mean([n for *_, n in found])
        print(
            f"{name}: F1 {np.mean(f1):.4f} +- {np.std(f1, ddof=1):.4f} ({each}); words right {np.mean(right):.1%}; "
            f"updates skipped {skipped}; gradient norm {norm:.3f}",
            flush=True,
        )


def nan_in_keras() -> str:
    """One NaN in the loss of one update of ``fit``: how many weights of a layer are NaN after it."""
    layer = keras.Sequential([keras.Input([8]), keras.layers.Dense(18)])
    layer.compile("adam", lambda gold, scores: tf.reduce_mean((gold - scores) ** 2) * tf.constant([float("inf")]) * 0.0)
    layer.fit(np.ones([4, 8], np.float32), np.ones([4, 18], np.float32), verbose=0)
    weights = np.concatenate([weight.ravel() for weight in layer.get_weights()])
    return f"one update of Keras's fit with a loss of inf times 0: {np.isnan(weights).sum()} of {weights.size} weights are NaN"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="GMB's ner_dataset.csv")
    parser.add_argument("--train", action="store_true", help="train, in place of counting")
    parser.add_argument("--only", nargs="*", default=[], help="names of the trainings that are wanted")
    given = parser.parse_args()
    if given.train:
        train(given.data, given.only)
    else:
        print("\n".join([*lines_of_counts(given.data), nan_in_keras()]))


if __name__ == "__main__":
    main()
