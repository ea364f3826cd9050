"""Write down the update of an experiment for a GPU that has no TensorFlow, with the losses that it must give there.

    python tools/gpu_check.py FOLDER --config experiments/gmb_minilm.toml --rows 16 --rows 64 [--steps 8] [SETTINGS of train.py]
    python tools/gpu_step.py FOLDER                     # on the machine with the GPU, where jax is

The update is ner/step.py's, in one program: forward, loss, backward, clipping, AdamW. TensorFlow lowers it to HLO. The rows are packed GMB
(GMB_CSV). The losses are those of the same update on this machine's CPU, as train.py does it there. The weights are drawn by NumPy on both
machines (``weight``): no checkpoint has to travel.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ner.config import Config, train_config  # noqa: E402
from ner.strategy import import_tensorflow  # noqa: E402
from tools.gpu_step import weight  # noqa: E402


def prepared(config: Config):
    """GMB as train.py prepares it for the configuration, and the model with drawn weights."""
    import tensorflow as tf

    from ner import budget, dataset, pretrained
    from tools.tpu_check import MINILM, source_of

    tokenizer = pretrained.find(MINILM)  # of the vocabulary that the uncased checkpoints share
    data = dataset.prepare(dataclasses.replace(config, encoder=MINILM), tokenizer, print)
    config = budget.filled(dataclasses.replace(config, case=data.case), data.train, data.validation, tokenizer.shape.hidden_size)
    model = pretrained.build(
        source_of(config),
        data.tags.names,
        head=config.head,
        cased=data.pieces.cased,
        seen=data.train.distinct_pieces(),
        dropout=config.dropout,
        encoder_dropout=config.encoder_dropout,
        compute_dtype=tf.bfloat16,
    )
    for name, variable in model.trained.items():
        variable.assign(weight(name, variable.shape))
    return config, data, model


def lowered(config: Config, model, rows: int, length: int) -> tuple[bytes, list[str]]:
    """The update as a serialized HLO module, and what its parameters are: the batch's fields, step, rate, then variables by name."""
    import tensorflow as tf

    from ner import step
    from ner.batches import Batch
    from ner.optimizer import AdamW

    optimizer = AdamW(model.trained, weight_decay=config.weight_decay, layer_decay=config.layer_decay)
    replica_update = step.make_replica_update(model, optimizer, model.head.loss, seed=config.seed, clip_norm=config.clip_norm, jit=True)
    fields = [tf.TensorSpec([rows, length], tf.int32)] * len(Batch._fields)
    given = (*fields, tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float32))
    update = tf.function(lambda *values: replica_update(Batch(*values[:-2]), *values[-2:]), jit_compile=True)
    names = {id(variable.handle): f"weight {name}" for name, variable in model.trained.items()}
    for kind, moments in (("first", optimizer.first_moments), ("second", optimizer.second_moments)):
        names |= {id(variable.handle): f"{kind} {name}" for name, variable in moments.items()}
    names[id(optimizer.updates.handle)] = "updates"
    captured = [names[id(one)] for one in update.get_concrete_function(*given).captured_inputs]
    return update.experimental_get_compiler_ir(*given)(stage="hlo_serialized"), [*Batch._fields, "step", "rate", *captured]


def trained(config: Config, data, model, steps: int):
    """The first rows of the first epoch, the rates, and the losses of their updates on this machine."""
    import tensorflow as tf

    from ner import batches, step
    from ner.optimizer import AdamW, learning_rates

    strategy = tf.distribute.get_strategy()
    update = step.make_update(
        strategy,
        model,
        AdamW(model.trained, weight_decay=config.weight_decay, layer_decay=config.layer_decay),
        model.head.loss,
        seed=config.seed,
        clip_norm=config.clip_norm,
    )
    epoch = batches.make_epoch(
        data.train, data.targets, batching="packed", rows_per_step=config.rows, seed=0, epoch=0, cased=data.pieces.cased
    )
    rows = epoch.buckets[0].take(slice(0, steps * config.rows))
    rates = learning_rates(0, steps, steps, peak=config.learning_rate, warmup=0.1, schedule="constant")
    iterator = iter(batches.distribute(strategy, rows, config.rows))
    losses = [step.wait(update(iterator, tf.constant(1, tf.int64), tf.constant(i, tf.int64), rates[i : i + 1])).loss for i in range(steps)]
    return np.stack([field.reshape(steps, config.rows, -1) for field in rows]), rates, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, action="append", required=True, help="rows of an update; may be given several times")
    parser.add_argument("--steps", type=int, default=8, help="updates to compare")
    given, settings = parser.parse_known_args()
    import_tensorflow()
    given.folder.mkdir(parents=True, exist_ok=True)
    for rows in given.rows:
        config, data, model = prepared(dataclasses.replace(train_config([*settings, "--data", os.environ["GMB_CSV"]]), rows=rows))
        module, parameters = lowered(config, model, rows, data.train.row_length)
        fields, rates, losses = trained(config, data, model, given.steps)
        shapes = {name: variable.shape.as_list() for name, variable in model.trained.items()}
        name = f"{config.encoder.split('/')[-1]}-{rows}"
        (given.folder / f"{name}.hlo").write_bytes(module)
        np.savez_compressed(given.folder / f"{name}.npz", fields=fields, rates=rates, losses=losses)
        about = {"rows": rows, "row_length": data.train.row_length, "parameters": parameters, "shapes": shapes}
        (given.folder / f"{name}.json").write_text(json.dumps(about), encoding="utf-8")
        print(f"{name}: {len(module) / 2**20:.1f} MiB, losses {', '.join(f'{loss:.3f}' for loss in losses)}", flush=True)


if __name__ == "__main__":
    main()
