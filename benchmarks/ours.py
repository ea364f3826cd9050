"""This project's contenders: run by run.py in the project's own environment."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import worker


def prepare(arguments: list[str]) -> SimpleNamespace:
    """What train.py has before its loop, for ``train.py ARGUMENTS``; ``update`` and ``predict`` are the functions of ner/step.py."""
    from ner import budget, dataset, pretrained, step, strategy
    from ner.config import train_config
    from ner.optimizer import AdamW
    from ner.progress import say

    config = dataset.resolve(train_config(arguments))
    devices = strategy.choose(config.tpu)
    dtype, jit = strategy.compute_dtype(config.compute_dtype, devices.kind), devices.kind == "gpu"
    encoder = pretrained.find(config.encoder)
    data = dataset.prepare(config, encoder, say)
    config = budget.filled(dataclasses.replace(config, case=data.case), data.train, data.validation, encoder.shape.hidden_size)
    options = {"head": config.head, "cased": data.pieces.cased, "dropout": config.dropout, "encoder_dropout": config.encoder_dropout}
    model = pretrained.build(encoder, data.tags.names, **options, seen=data.train.distinct_pieces(), compute_dtype=dtype, seed=config.seed)
    pretrained.load(model, encoder, head=False)
    model.head.count(data.targets.tag_ids, data.splits["train"].lengths)
    optimizer = AdamW(model.trained, weight_decay=config.weight_decay, layer_decay=config.layer_decay)
    options = {"seed": config.seed, "clip_norm": config.clip_norm, "accumulate": config.accumulate, "jit": jit}
    update = step.make_update(devices.strategy, model, optimizer, model.head.loss, **options)
    predict = step.make_predict(devices.strategy, model, jit=jit)
    return SimpleNamespace(config=config, strategy=devices.strategy, data=data, model=model, update=update, predict=predict)


def epoch_of(run: SimpleNamespace, number: int):
    from ner import batches

    config, data = run.config, run.data
    options = {"batching": config.batching, "rows_per_step": config.rows, "seed": config.seed, "epoch": number}
    return batches.make_epoch(data.train, data.targets, **options, cased=data.pieces.cased)


def training(meter: worker.Meter, arguments: list[str], score: bool = False) -> None:
    """The updates of ``train.py ARGUMENTS``; a step is a host call. Work: real word pieces, as train/tokens_per_second counts them.

    score: each epoch ends its round with the F1 of the validation file, which is not timed.
    """
    from ner.strategy import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    from ner import batches, step
    from ner.optimizer import learning_rates

    run = prepare(arguments)
    config, done, total = run.config, 0, 0
    shape = {"most": config.steps_per_call, "accumulate": config.accumulate}
    schedule = {"peak": config.learning_rate, "warmup": config.warmup, "schedule": config.schedule}
    row_lengths = batches.row_lengths(config.batching, run.data.train.row_length)
    step.compile_ahead(run.update, run.strategy, row_lengths, rows_per_step=config.rows, **shape)
    meter.start()
    for number in range(config.epochs):
        epoch = epoch_of(run, number)
        total = total or config.epochs * epoch.steps
        for call in batches.host_calls(run.strategy, epoch, 0, **shape):
            rates = learning_rates(done, config.steps_per_call, total, **schedule)
            step.wait(run.update(call.iterator, np.int64(call.steps), np.int64(done), tf.constant(rates)))
            done += call.steps
            meter.step(call.rows.num_pieces)
        if score:
            meter.stop()
            meter.report(f1=validation_f1(run))


def validation_f1(run: SimpleNamespace) -> float:
    from ner import inference, scoring

    sentences = run.data.splits["validation"]
    words, gold = [s.words for s in sentences], [s.tags for s in sentences]
    predicted, _ = inference.tag(run.predict, run.strategy, run.data.validation, run.model.head, words, gold=gold)
    return scoring.score(gold, predicted).f1


def step_parts(meter: worker.Meter, arguments: list[str], updates: int = 10) -> None:
    """What the time of an update is made of, by TensorFlow's profiler. Work: updates.

    One operation at a time (one inter-op thread), so that the parts add up; the products' own threads stay.
    """
    from ner.strategy import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    from ner import batches, step

    run = prepare(arguments)
    iterator = iter(batches.distribute(run.strategy, epoch_of(run, 0).buckets[0], run.config.rows, accumulate=run.config.accumulate))
    rates = tf.fill([updates], 1e-5)

    def call() -> None:
        step.wait(run.update(iterator, np.int64(updates), np.int64(0), rates))

    call()
    meter.start()
    while True:
        _, parts = parts_of(call)
        meter.step(updates, stages={name: took / updates for name, took in parts.items()})


def prediction_parts(meter: worker.Meter, model: str, test: str) -> None:
    """What the time of ``prediction`` is made of, as in ``step_parts``. Work: sentences."""
    from ner.strategy import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    from ner import batches
    from ner.inference import ROWS, Tagger, predict_words

    sentences = [s["tokens"] for s in worker.read(test)]
    tagger = Tagger.load(model)
    tagger.tag(sentences)
    windows = tagger.word_pieces.encode(sentences, tagger.row_length)
    rows = batches.make_rows(windows, "packed", batches.UNKNOWN, np.arange(len(windows.sentences)))[0]
    places = batches.pad_rows(rows, ROWS).pieces.size
    meter.start()
    while True:
        began = time.perf_counter()
        windows = tagger.word_pieces.encode(sentences, tagger.row_length)
        encoded = time.perf_counter()
        found, parts = parts_of(predict_words, tagger.predict, tagger.strategy, windows, len(tagger.tags))
        predicted = time.perf_counter()
        tagger.head.decode(found, sentences)
        parts = {"word pieces": encoded - began, **parts, "decoding": time.perf_counter() - predicted}
        meter.step(len(sentences), stages=parts, pieces=int(windows.lengths.sum()), places=places)


def parts_of(call: Callable, *arguments) -> tuple[Any, dict[str, float]]:
    """What ``call`` returns, and its seconds by kind of work, of all events in its profile."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        began = time.perf_counter()
        result = call(*arguments)
        seconds = time.perf_counter() - began
        tf.profiler.experimental.stop()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    # Forward and backward products have like names: a layer is traced once for both.
    parts = {
        "weight products": 0.0,
        "attention's products": 0.0,
        "compiled element-wise parts, optimizer included": 0.0,
        "other operations": 0.0,
    }
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if "BatchMatMul" in name:
                kind = "attention's products"
            elif "MatMul" in name and ":" in name:
                kind = "weight products"
            elif name.startswith("CpuExecutable::Execute"):
                kind = "compiled element-wise parts, optimizer included"
            elif re.search(r"^[\w/]+:\w+$", name) and not re.search(r":(\w*Call|While|If|_Xla\w*)$", name):
                kind = "other operations"
            else:
                continue
            parts[kind] += event.duration_ps / 1e12
    parts["between operations, profiling"] = seconds - sum(parts.values())
    return result, parts


def prediction(meter: worker.Meter, model: str, test: str) -> None:
    """Every word's tag and score, all sentences at once. Work: sentences."""
    from ner.inference import Tagger

    sentences = [s["tokens"] for s in worker.read(test)]
    tagger = Tagger.load(model)
    meter.start()
    while True:
        tagger.tag(sentences)
        meter.step(len(sentences))


def int8_sorted(meter: worker.Meter, model: str, test: str, batch: int) -> None:
    """The graph of the int8 model on unpacked sentences sorted by length: what packing saves. Work: sentences."""
    from ner import batches
    from ner.inference import Tagger

    sentences = [s["tokens"] for s in worker.read(test)]
    tagger = Tagger.load(model)
    meter.start()
    while True:
        windows = tagger.word_pieces.encode(sentences, tagger.row_length)
        found = np.zeros([windows.num_words, len(tagger.tags)], np.float32)
        order = np.argsort(windows.lengths, kind="stable")
        for chosen in np.split(order, range(batch, len(order), batch)):
            first, row = np.zeros(len(chosen), np.int64), np.arange(len(chosen))
            shape = (len(chosen), int(windows.lengths[chosen].max()))
            rows = batches.fill(windows, chosen, row, first, shape, batches.UNKNOWN)
            asked = rows.words >= 0
            found[rows.words[asked]] = tagger.predict(iter([rows]))[asked]
        tagger.head.decode(found, sentences)
        meter.step(len(sentences))


def encoding(meter: worker.Meter, gmb: str, encoder: str, cached: bool) -> None:
    """From the CSV to the packed rows of an epoch as train.py does it, from an empty cache or a filled one. Work: real word pieces."""
    from ner.strategy import import_tensorflow

    import_tensorflow()
    from ner import batches, dataset, pretrained
    from ner.config import Config
    from ner.tagset import TagSet
    from ner.wordpieces import WordPieces

    os.environ["NER_CACHE"] = cache = tempfile.mkdtemp()
    word_pieces, config = WordPieces.load(pretrained.find(encoder)), Config()
    meter.start()
    while True:
        if not cached:
            shutil.rmtree(cache, ignore_errors=True)
        marks = [time.perf_counter()]
        sentences = dataset.read(gmb, config, print)
        marks.append(time.perf_counter())
        windows = word_pieces.encode_cached(sentences)
        marks.append(time.perf_counter())
        targets = batches.Targets(TagSet.fit(sentences.distinct_tags).encode(sentences))
        epoch = batches.make_epoch(windows, targets, batching="packed", rows_per_step=16, seed=0, epoch=0)
        marks.append(time.perf_counter())
        stages = dict(zip(("CSV", "word pieces", "labels and packing"), np.diff(marks).tolist(), strict=True))
        real = np.count_nonzero(windows.words >= 0) + 2 * len(sentences)
        del sentences, windows, targets, epoch
        meter.step(int(real), stages=stages)


def matmul_peak(meter: worker.Meter, width: int = 384) -> None:
    """The best rate of matrix products of the encoder's width, in the training's compute type. Work: FLOPs."""
    from ner import strategy

    strategy.import_tensorflow()
    from ner import throughput

    devices = strategy.choose("none")
    dtype = strategy.compute_dtype("auto", devices.kind)
    meter.start()
    while True:
        began = time.perf_counter()
        peak = throughput.matmul_peak(devices.strategy, dtype, width, seconds=1.0)
        meter.step(peak * (time.perf_counter() - began))


if __name__ == "__main__":
    worker.main([training, step_parts, prediction, prediction_parts, int8_sorted, encoding, matmul_peak])
