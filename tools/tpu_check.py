"""Compile the update of an experiment for a TPU, without one, and say what a core would need and at best could do.

    python tools/tpu_check.py --config experiments/gmb_minilm.toml --topology v5e:2x2 [--encoder NAME] [--rows-per-core N]

What is compiled is the code of ner/step.py with its real shapes: forward, loss, backward, sum over the cores, clipping, AdamW. TensorFlow
lowers it to HLO here. libtpu's compiler, in an environment of its own (tpu_compile.py, ``make tpu-check``), builds that for every core.

Two places are not what a TPU runs. The sum over the cores is put in by hand, as XLA's cross-replica sum. AdamW is lowered as for one
replica; the way TPUStrategy takes it there (``merge_call``) is not. Nor is the loop over several updates of a host call.

Nothing is run. Memory, FLOPs and bytes are the compiler's counts; the time is a bound.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ner.config import Config, train_config  # noqa: E402
from ner.strategy import import_tensorflow  # noqa: E402

BERT = {"model_type": "bert", "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
BERT |= {"intermediate_size": 3072, "max_position_embeddings": 512}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
SMALL = {"hidden_size": 256, "embedding_size": 128, "num_attention_heads": 4, "intermediate_size": 1024}
DISTIL = {"model_type": "distilbert", "vocab_size": 30522, "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072}
MODERN = {"model_type": "modernbert", "vocab_size": 50368, "hidden_size": 768, "num_hidden_layers": 22, "num_attention_heads": 12}
PUBLISHED = {  # what config.json says of checkpoints whose shape is known without their files
    "google-bert/bert-base-uncased": BERT,
    "google-bert/bert-large-uncased": BERT | LARGE,
    "sentence-transformers/all-MiniLM-L6-v2": BERT | {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    "FacebookAI/roberta-base": BERT | ROBERTA | {"model_type": "roberta", "vocab_size": 50265},
    "FacebookAI/xlm-roberta-base": BERT | ROBERTA | {"model_type": "xlm-roberta", "vocab_size": 250002},
    "distilbert/distilbert-base-uncased": DISTIL | {"max_position_embeddings": 512},
    "google/electra-small-discriminator": BERT | SMALL | {"model_type": "electra"},
    "google/electra-base-discriminator": BERT | {"model_type": "electra", "embedding_size": 768},
    "answerdotai/ModernBERT-base": MODERN | {"intermediate_size": 1152, "max_position_embeddings": 8192, "local_attention": 128},
}
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@dataclasses.dataclass(frozen=True)
class Chip:
    """A core as the compiler sees it: peak bfloat16 FLOP/s, memory bytes/s and bytes. From Google's pages on each version's architecture.

    v2, v3 and v4 have two cores a chip (a v4 may join its two into one, which this topology does not).
    """

    cores: int
    flops: float
    bandwidth: float
    memory: float


CHIPS = {
    "v2": Chip(2, 45e12 / 2, 700e9 / 2, 8 * 2**30),
    "v3": Chip(2, 123e12 / 2, 900e9 / 2, 16 * 2**30),
    "v4": Chip(2, 275e12 / 2, 1228e9 / 2, 32 * 2**30 / 2),
    "v5e": Chip(1, 197e12, 819e9, 16 * 2**30),
    "v5p": Chip(1, 459e12, 2765e9, 95 * 2**30),
    "v6e": Chip(1, 918e12, 1640e9, 32 * 2**30),
}


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch of the training sentences is at a number of rows an update: updates, and real word pieces in each on average."""

    updates: int
    pieces: float


def cores(topology: str) -> tuple[Chip, int]:
    """``v3:2x2`` -> what a core of it can do, and how many there are."""
    match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", topology)
    if not match or match[1] not in CHIPS:
        raise SystemExit(f"error: no topology {topology!r}; give one of {', '.join(CHIPS)} with its chips, such as v3:2x2")
    chip = CHIPS[match[1]]
    return chip, chip.cores * math.prod(map(int, match[2].split("x")))


def row_length(config: Config) -> int:
    return config.row_length or 64  # what is chosen for GMB, and for any corpus of sentences


def source_of(config: Config):
    """The experiment's encoder as ner/pretrained.py describes one, from its shape in PUBLISHED: no checkpoint is needed."""
    from ner import pretrained

    shape = PUBLISHED[config.encoder]
    family = pretrained.FAMILIES[shape["model_type"]]
    return pretrained.Pretrained(Path(), shape, family, family.read_config(shape, Path("config.json")))


def model_of(config: Config):
    """The experiment's model with random weights, for GMB's 17 tags."""
    import tensorflow as tf

    from ner import pretrained

    dtype = tf.bfloat16 if config.compute_dtype == "auto" else tf.as_dtype(config.compute_dtype)
    tags = ("O", *(f"{prefix}-{kind}" for kind in range(8) for prefix in "BI"))
    more = {"dropout": config.dropout, "encoder_dropout": config.encoder_dropout, "compute_dtype": dtype}
    if config.case:  # of the vocabulary that all uncased checkpoints of PUBLISHED share
        more["cased"] = word_pieces().with_case(PUBLISHED[config.encoder]["vocab_size"]).cased
    return pretrained.build(source_of(config), tags, head=config.head, **more)


def word_pieces():
    """MiniLM's tokenizer."""
    from ner import pretrained
    from ner.wordpieces import WordPieces

    return WordPieces.load(pretrained.find(MINILM))


def lower(config: Config, rows: int, replicas: int) -> bytes:
    """The update of one core over ``rows`` rows as a serialized HLO module; the other cores do the same on their rows."""
    import_tensorflow()
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops  # tf.raw_ops leaves XLA's out

    from ner import step
    from ner.batches import Batch
    from ner.optimizer import AdamW

    model = model_of(config)
    optimizer = AdamW(model.trained, weight_decay=config.weight_decay, layer_decay=config.layer_decay)

    def all_reduce(self, op, values):  # in place of TPUStrategy's
        group = tf.constant([list(range(replicas))])
        return tf.nest.map_structure(lambda x: gen_xla_ops.xla_all_reduce(x, group, reduce_op="Add", mode="CrossReplica"), values)

    options = {"seed": config.seed, "clip_norm": config.clip_norm, "accumulate": config.accumulate, "jit": True}
    replica_update = step.make_replica_update(model, optimizer, model.head.loss, **options)
    fields = [tf.zeros([rows, row_length(config)], tf.int32)] * len(Batch._fields)
    with mock.patch.object(tf.distribute.ReplicaContext, "all_reduce", all_reduce):
        step_of = tf.function(lambda *fields: replica_update(Batch(*fields), tf.constant(0, tf.int64), tf.constant(1e-4)), jit_compile=True)
        return step_of.experimental_get_compiler_ir(*fields)(stage="hlo_serialized")


def compile_for(topology: str, replicas: int, module: bytes, python: str) -> dict:
    """What the compiler says of the module: ``{"error": ...}`` or its counts for a core."""
    environment = {
        **os.environ,
        **{"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4"},
        **{"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "step.hlo")
        path.write_bytes(module)
        command = [python, str(Path(__file__).with_name("tpu_compile.py")), topology, str(replicas), str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: the compiler ended with status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])


def epoch_of(config: Config, rows: int) -> Epoch | None:
    """Packed (or padded) for real: the training sentences of GMB; None without the corpus, and for a vocabulary that is not MiniLM's."""
    gmb = os.environ.get("GMB_CSV")
    if not gmb or PUBLISHED[config.encoder]["vocab_size"] != PUBLISHED[MINILM]["vocab_size"]:
        return None
    from ner import batches, dataset

    sentences = dataset.read(gmb, Config(), print)[:43163]  # as many as the tutorial trains on (experiments/source_text.toml)
    windows = word_pieces().encode_cached(sentences, row_length(config))
    epoch = batches.make_epoch(windows, batches.UNKNOWN, batching=config.batching, rows_per_step=rows, seed=0, epoch=0)
    return Epoch(epoch.steps, float(windows.starts[-1]) / epoch.steps)


def check(config: Config, topology: str, rows: int, python: str) -> dict:
    """One configuration at ``rows`` rows a core: the compiler's counts, and what follows from them."""
    chip, replicas = cores(topology)
    found = compile_for(topology, replicas, lower(config, rows, replicas), python)
    found |= {"topology": topology, "cores": replicas, "rows_per_core": rows, "row_length": row_length(config), "memory": chip.memory}
    if "error" in found:
        return found
    found["bound_seconds"] = max(found["flops"] / chip.flops, found["bytes"] / chip.bandwidth)
    found["bound_by"] = "FLOPs" if found["flops"] / chip.flops > found["bytes"] / chip.bandwidth else "memory"
    if epoch := epoch_of(config, rows * replicas):
        found |= {"updates_per_epoch": epoch.updates, "real_pieces_per_update": epoch.pieces}
        found["flops_per_epoch"] = found["flops"] * replicas * epoch.updates
        found["bound_seconds_per_epoch"] = found["bound_seconds"] * epoch.updates
    return found


def describe(found: dict) -> str:
    """The lines printed for one check."""
    head = f"{found['topology']} ({found['cores']} cores), {found['rows_per_core']} rows of {found['row_length']} a core: "
    if "error" in found:
        return f"{head}does not compile: {found['error']}"
    mib = 2**20
    lines = [
        f"{head}compiles in {found['compile_seconds']:.0f} s",
        f"  memory     {found['argument_bytes'] / mib:,.0f} MiB of arguments + {found['temporary_bytes'] / mib:,.0f} MiB of temporaries"
        f" of {found['memory'] / mib:,.0f} MiB",
        f"  a step     {found['flops'] / 1e9:,.1f} GFLOP, {found['bytes'] / mib:,.0f} MiB moved, a core",
        f"  all-reduce {found['all_reduce_bytes'] / mib:,.1f} MiB a step, {found['all_reduces']} sums"
        + (f" joined into {found['joined_all_reduces']}" if found["joined_all_reduces"] else ""),
        f"  bound      {found['bound_seconds'] * 1e3:.2f} ms a step, by {found['bound_by']} (a roofline, not a measurement)",
    ]
    if "updates_per_epoch" in found:
        lines.append(
            f"  GMB epoch  {found['updates_per_epoch']:,} updates of {found['real_pieces_per_update']:,.0f} real word pieces, "
            f"{found['flops_per_epoch'] / 1e12:,.0f} TFLOP on all cores, bound {found['bound_seconds_per_epoch']:.1f} s"
        )
    return "\n".join(lines)


def largest(config: Config, topology: str, python: str) -> list[dict]:
    """Doubles the rows a core until the compiler refuses: all it tried, the refused last."""
    tried = []
    rows = 32
    while not tried or "error" not in tried[-1]:
        tried.append(check(config, topology, rows, python))
        print(describe(tried[-1]), flush=True)
        rows *= 2
    return tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="an experiment's TOML")
    parser.add_argument("--topology", required=True, help="such as v3:2x2, v4:2x2x1, v5e:2x2, v6e:2x2, v5e:16x16")
    parser.add_argument("--encoder", choices=PUBLISHED, help="in place of the experiment's")
    parser.add_argument("--row-length", help="in place of the experiment's")
    parser.add_argument("--rows-per-core", type=int, help="default: the rows of the configuration over the cores")
    parser.add_argument("--largest", action="store_true", help="double the rows a core until they do not fit")
    parser.add_argument("--python", default=str(ROOT / ".venv-tpu" / "bin" / "python"), help="Python of the environment with libtpu")
    parser.add_argument("--json", type=Path, help="append the result to this file, a line each")
    given = parser.parse_args()
    asked = {"--encoder": given.encoder, "--row-length": given.row_length}
    config = train_config(["--config", given.config, *(part for pair in asked.items() if pair[1] for part in pair)])
    if config.encoder not in PUBLISHED:
        raise SystemExit(f"error: the shape of {config.encoder} is not known here; add it to PUBLISHED in {Path(__file__).name}")
    _, replicas = cores(given.topology)
    if given.largest:
        found = largest(config, given.topology, given.python)
    else:
        found = [check(config, given.topology, given.rows_per_core or max(1, -(-config.rows // replicas)), given.python)]
        print(describe(found[0]))
    if given.json:
        with open(given.json, "a", encoding="utf-8") as file:
            file.writelines(json.dumps({"config": given.config, "encoder": config.encoder, **one}) + "\n" for one in found)
    if "error" in found[0]:
        sys.exit(2)


if __name__ == "__main__":
    main()
