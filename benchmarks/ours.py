"""This project's contenders, and the source text's way where it needs TensorFlow: run by run.py in the project's own environment."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import worker  # noqa: E402


def training(meter: worker.Meter, arguments: list[str]) -> None:
    """``train.py ARGUMENTS`` itself; a step here is a host call there. Work: real word pieces.

    Validation is not measured; its F1 is reported, and the round ends with it.
    """
    from ner.strategy import import_tensorflow

    import_tensorflow()
    import train
    from ner import loop

    shipped = loop.fit

    def fit(run: loop.Run, state):
        # Windows of a long sentence overlap: a word piece counts once, and so do [CLS] and [SEP] of each sentence.
        windows = run.windows
        real = np.count_nonzero(windows.words >= 0) + 2 * len(np.unique(windows.sentences))
        pieces_per_step = real / run.epoch(0).steps

        def train_steps(iterator, count, *more):
            metrics = run.train_steps(iterator, count, *more)
            float(metrics.loss)  # wait for it
            meter.step(int(count) * pieces_per_step)
            return metrics

        def validate(step: int):
            meter.stop()
            scores, values = run.validate(step)
            meter.report(f1=scores.f1)
            return scores, values

        meter.start()
        return shipped(dataclasses.replace(run, train_steps=train_steps, validate=validate), state)

    loop.fit = fit
    assert train.main(arguments) == 0


def step_parts(meter: worker.Meter, arguments: list[str], updates: int = 10) -> None:
    """What the time of train.py's step is made of, by TensorFlow's profiler. Work: updates.

    One operation at a time (one inter-op thread), so that the parts add up; the products' own two threads stay.
    """
    from ner.strategy import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    import train
    from ner import loop

    def fit(run: loop.Run, state):
        epoch = run.epoch(0)
        iterator, rates = run.iterator(epoch.rows[0], 0), tf.fill([updates], 1e-5)

        def call() -> float:
            began = time.perf_counter()
            float(run.train_steps(iterator, tf.constant(updates, tf.int64), tf.constant(0, tf.int64), rates).loss)
            return time.perf_counter() - began

        call()
        meter.start()
        while True:
            with tempfile.TemporaryDirectory() as folder:
                tf.profiler.experimental.start(folder)
                seconds = call()
                tf.profiler.experimental.stop()
                parts = parts_of(Path(folder))
            parts["between operations, profiling"] = seconds - sum(parts.values())
            meter.step(updates, stages={name: took / updates for name, took in parts.items()})

    loop.fit = fit
    assert train.main(arguments) == 0


def parts_of(folder: Path) -> dict[str, float]:
    """Seconds by kind of work, of all events in a profile."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(next(folder.rglob("*.xplane.pb")).read_bytes())
    parts = dict.fromkeys(["weight products, forward", "weight products, backward", "attention's products"], 0.0)
    parts |= {"compiled element-wise parts, optimizer included": 0.0, "other operations": 0.0}
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if "BatchMatMul" in name:
                kind = "attention's products"
            elif "MatMul" in name and ":" in name:
                kind = "weight products, backward" if "gradient_tape" in name else "weight products, forward"
            elif name.startswith("CpuExecutable::Execute"):
                kind = "compiled element-wise parts, optimizer included"
            elif re.search(r"^while/.*:\w+$", name) and not re.search(r":(\w*Call|While|If|_Xla\w*)$", name):
                kind = "other operations"
            else:
                continue
            parts[kind] += event.duration_ps / 1e12
    return parts


def prediction(meter: worker.Meter, model: str, test: str) -> None:
    """Every word's tag and score, all sentences at once. Work: sentences."""
    from ner.inference import Tagger
    from ner.strategy import import_tensorflow

    import_tensorflow()
    sentences = [s["tokens"] for s in worker.read(test)]
    tagger = Tagger.load(model)
    meter.start()
    while True:
        tagger.tag(sentences)
        meter.step(len(sentences))


def encoding(meter: worker.Meter, gmb: str, encoder: str, cached: bool) -> None:
    """From the CSV to the packed rows of an epoch as train.py does it, from an empty cache or a filled one. Work: real word pieces."""
    from ner import batches, dataset
    from ner.config import Config
    from ner.tagset import TagSet
    from ner.wordpieces import WordPieces

    os.environ["NER_CACHE"] = cache = tempfile.mkdtemp()
    word_pieces, config = WordPieces.load(Path(encoder)), Config()
    meter.start()
    while True:
        if not cached:
            shutil.rmtree(cache, ignore_errors=True)
        marks = [time.perf_counter()]
        sentences = dataset.read(gmb, config, print)
        tags = TagSet.fit(sentences)
        marks.append(time.perf_counter())
        words = [s.words for s in sentences]
        windows = word_pieces.encode_cached(words)
        marks.append(time.perf_counter())
        labels = batches.Labels(tags.encode([s.tags for s in sentences]), tags.padding_id)
        batches.make_epoch(windows, "packed", windows.row_length, 16, labels, seed=0, epoch=0)
        marks.append(time.perf_counter())
        stages = dict(zip(("CSV", "word pieces", "labels and packing"), np.diff(marks).tolist(), strict=True))
        real = np.count_nonzero(windows.words >= 0) + 2 * len(sentences)
        del sentences, words, windows, tags, labels
        meter.step(int(real), stages=stages)


def word_by_word(meter: worker.Meter, gmb: str, encoder: str, length: int = 384) -> None:
    """The source text's way: pandas, groupby, ``tokenizer.encode(word)`` for each word in a Python loop, lists padded to 384, arrays.

    Work: real word pieces.
    """
    import pandas as pd
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(str(Path(encoder, "vocab.txt")), lowercase=True)
    meter.start()
    while True:
        marks = [time.perf_counter()]
        frame = pd.read_csv(gmb, encoding="latin-1", keep_default_na=False, na_values={"Sentence #": [""]})
        frame["Sentence #"] = frame["Sentence #"].ffill()
        frame["Tag"] = frame["Tag"].factorize()[0]
        sentences = frame.groupby("Sentence #")["Word"].apply(list)
        tags = frame.groupby("Sentence #")["Tag"].apply(list)
        marks.append(time.perf_counter())
        encoded = []
        for words, given in zip(sentences, tags, strict=True):
            pieces, labels = [101], [0]
            for word, tag in zip(words, given, strict=True):
                ids = tokenizer.encode(word, add_special_tokens=False).ids
                pieces.extend(ids)
                labels.extend([tag] * len(ids))
            encoded.append(([*pieces[: length - 1], 102], [*labels[: length - 1], 0]))
        marks.append(time.perf_counter())
        rows: list[list[list[int]]] = [[], [], [], []]
        for pieces, labels in encoded:
            padding = [0] * (length - len(pieces))
            fields = (pieces + padding, [0] * length, [1] * len(pieces) + padding, labels + padding)
            for field, values in zip(rows, fields, strict=True):
                field.append(values)
        arrays = [np.array(field) for field in rows]
        marks.append(time.perf_counter())
        stages = dict(zip(("CSV and groupby", "word pieces", "padding to arrays"), np.diff(marks).tolist(), strict=True))
        total = int(arrays[2].sum())
        del frame, sentences, tags, encoded, rows, arrays
        meter.step(total, stages=stages)


def padded_fit(meter: worker.Meter, train: str, encoder: str, batch: int = 16, length: int = 384) -> None:
    """The source text's way to train: every sentence padded to 384, batches of 16, float32, ``fit``. Work: real word pieces.

    The source text's TFBertModel is gone from transformers 5, so this is a BERT of the encoder's shape built from Keras's own layers, with
    random weights (they do not change its speed). Not compiled by XLA, as tf.keras was not, and as is faster on a CPU.
    """
    from ner.strategy import import_tensorflow

    import_tensorflow()
    import keras

    from ner import batches, pretrained
    from ner.tagset import TagSet
    from ner.wordpieces import WordPieces

    sentences = worker.read(train)[: 100 * batch]
    tags = TagSet(tuple(sorted({t for s in sentences for t in s["tags"]})))
    windows = WordPieces.load(Path(encoder)).encode([s["tokens"] for s in sentences], length)
    labels = batches.Labels(tags.encode([s["tags"] for s in sentences]), tags.padding_id, "all")
    rows = batches.make_rows(windows, "padded", length, labels, np.arange(len(sentences)))[0]
    rows = rows.take(slice(len(sentences) // batch * batch))
    real = (rows.segments > 0).reshape(-1, batch * length).sum(1)

    class Rounds(keras.callbacks.Callback):
        def on_train_batch_end(self, number, logs=None):
            meter.step(int(real[number]))

    model = keras_bert(pretrained.encoder_config(Path(encoder)), length, tags.num_tags + 1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-5), loss, jit_compile=False)
    inputs, weights = [rows.pieces, rows.positions, rows.segments > 0], (rows.labels != tags.padding_id).astype(np.float32)
    meter.start()
    model.fit(inputs, rows.labels, sample_weight=weights, batch_size=batch, epochs=10**6, shuffle=False, verbose=0, callbacks=[Rounds()])


def keras_bert(shape, length: int, units: int):
    """BERT and a dense layer as a keras.Model: (pieces, positions int32, mask bool), each [batch, length] -> logits."""
    import keras
    from keras import layers

    pieces, positions = keras.Input([length], dtype="int32"), keras.Input([length], dtype="int32")
    mask = keras.Input([length], dtype="bool")

    def norm(x):
        return layers.LayerNormalization(epsilon=shape.layer_norm_eps)(x)

    def drop(x):
        return layers.Dropout(shape.hidden_dropout_prob)(x)

    hidden, heads = shape.hidden_size, shape.num_attention_heads
    words = layers.Embedding(shape.vocab_size, hidden)(pieces)
    x = drop(norm(words + layers.Embedding(shape.max_position_embeddings, hidden)(positions)))
    keys = layers.Reshape([1, length])(mask)
    for _ in range(shape.num_hidden_layers):
        attention = layers.MultiHeadAttention(heads, hidden // heads, dropout=shape.attention_probs_dropout_prob)
        x = norm(x + drop(attention(x, x, attention_mask=keys)))
        inner = layers.Dense(shape.intermediate_size, activation="gelu")(x)
        x = norm(x + drop(layers.Dense(hidden)(inner)))
    return keras.Model([pieces, positions, mask], layers.Dense(units)(drop(x)))


def matmul_peak(meter: worker.Meter) -> None:
    """The best rate of a matrix product in the training's compute type, over a few shapes. Work: FLOPs."""
    from ner import strategy

    strategy.import_tensorflow()
    import tensorflow as tf

    dtype = strategy.compute_dtype("auto", strategy.choose("none").kind)
    product = tf.function(tf.matmul)

    def seconds(a, b) -> float:
        began = time.perf_counter()
        product(a, b)
        return time.perf_counter() - began

    shapes = [(8192, 384, 1536), (8192, 1536, 384), (4096, 4096, 4096)]
    pairs = [(tf.cast(tf.random.normal([n, k]), dtype), tf.cast(tf.random.normal([k, m]), dtype)) for n, k, m in shapes]
    flops = [2.0 * n * k * m for n, k, m in shapes]
    rates = [f / min(seconds(*pair) for _ in range(5)) for f, pair in zip(flops, pairs, strict=True)]
    best = int(np.argmax(rates))
    meter.start()
    while True:
        seconds(*pairs[best])
        meter.step(flops[best])


if __name__ == "__main__":
    worker.main([training, step_parts, prediction, encoding, word_by_word, padded_fit, matmul_peak])
