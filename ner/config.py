"""The experiment as one typed dataclass: defaults, then a TOML file, then flags; unknown keys and wrong types are refused."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import os
import sys
import tomllib
import types
import typing
from pathlib import Path
from typing import Literal, TypeVar

from ner.errors import InputError
from ner.formats import Format
from ner.sentences import SPLITS

DataType = Literal["auto", "float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Fine-tune a BERT encoder for named-entity recognition.

    Every key is a flag here and a key of the TOML files in experiments/ (there with underscores). A flag beats the TOML, the TOML
    beats the default; any of --data, --train, --validation, --test replaces the TOML's whole data source.
    """

    # --- data ---
    data: str | None = None
    """One corpus file, split 80/10/10 by a hash of each sentence's text. Default: ner_dataset.csv here, else the shipped sample."""
    train: str | None = None
    """Training file (with --validation), instead of --data."""
    validation: str | None = None
    """Validation file: scored after each epoch, chooses the best one."""
    test: str | None = None
    """Test file: its tags are checked and it is kept for evaluate.py --split test; nothing is trained or chosen on it."""
    format: Format | None = None
    """Format of the corpus files; by default told from the suffix."""
    encoding: str | None = None
    """Character encoding of the corpus files; by default UTF-8, else cp1252."""
    split_seed: int = 0
    """Seed of the hash that splits --data."""
    unseen_tags: Literal["refuse", "missed"] = "refuse"
    """What to do with a tag that training lacks: refuse it, or score its entities as missed."""

    # --- model ---
    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A BERT checkpoint: a folder, or a name on the Hugging Face hub."""
    encoder_revision: str | None = None
    """Commit of the hub checkpoint, to pin a download."""
    case: bool = False
    """Tell an uncased encoder how each word is written (small, Capitalised, ALL CAPITALS, mixed), as token types."""
    dropout: float = 0.3
    """Dropout rate before the tag layer."""
    encoder_dropout: float | None = None
    """Dropout rate inside the encoder; by default what the checkpoint's configuration says."""
    compute_dtype: DataType = "auto"
    """Type of the matrix products; auto takes bfloat16 where the device has it. Weights, softmax and loss are float32."""

    # --- batches ---
    batching: Literal["packed", "buckets", "padded"] = "packed"
    """packed: several sentences share a row; padded: one sentence a row; buckets: one sentence a row, a few row lengths."""
    rows: int = 16
    """Rows per update over all replicas (with padded: sentences per update); split evenly, a remainder filled with empty rows."""
    row_length: int | None = None
    """Word pieces per row; by default chosen from the corpus."""
    accumulate: int = 1
    """Split each update's rows into this many micro-batches, one after another (saves memory)."""
    label_pieces: Literal["first", "all"] = "first"
    """Which word pieces of a word carry its tag in the loss."""

    # --- optimization ---
    epochs: int = 3
    """Passes over the training sentences."""
    learning_rate: float = 4e-4
    """Peak learning rate."""
    schedule: Literal["linear", "constant"] = "linear"
    """After the warm-up: linear decay to 0, or constant."""
    warmup: float = 0.1
    """Share of all updates over which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """Decoupled weight decay of kernels and embeddings; biases and LayerNorm are not decayed."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient; 0 switches clipping off."""
    patience: int = 0
    """Stop after this many epochs without a better validation F1; 0 never stops early."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What to do at a loss or gradient that is not finite: stop the run, or leave that update out."""
    seed: int = 0
    """Seed of the tag layer, the shuffling and the dropout."""

    # --- devices ---
    tpu: str = "auto"
    """auto: a TPU if there is one, else GPUs, else the CPU; none: no TPU; or a TPU's name, `local`, or a grpc:// address."""
    tpu_timeout: float = 120.0
    """Seconds to wait for a TPU to initialise."""
    tpu_look_timeout: float = 10.0
    """Seconds to wait for an answer at a TPU's grpc:// address before initialising it."""
    gpus: int | None = None
    """Use this many GPUs; by default all."""
    cpu_replicas: int | None = None
    """Split the CPU into this many logical devices, one replica on each (for tests and teaching)."""
    steps_per_call: int = 20
    """Updates per host call; the scalars are logged once a call."""

    measure_peak: bool = False
    """Measure the device's matrix products first, and log the share of them that the model's FLOP/s reach (train/mfu)."""
    profile: bool = False
    """Write a TensorBoard profile of the second host call."""

    dry_run: bool = False
    """Read the data, build the model, time a few updates, say what the run would take, and write nothing."""

    # --- the run ---
    config: str | None = None
    """A TOML file with any of these keys."""
    output: str | None = None
    """The run's folder; by default runs/ENCODER-TIME."""
    overwrite: bool = False
    """Delete what is in the output folder first."""
    resume: bool = False
    """Continue the run in the output folder (or start it there)."""
    checkpoint_every_steps: int = 0
    """Write a checkpoint every N updates, besides one after each epoch."""
    checkpoint_every_minutes: float = 0.0
    """Write a checkpoint when the last one is this old."""
    keep_checkpoints: int = 2
    """How many checkpoints to keep."""

    def __post_init__(self):
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} = {value} is out of range", hint=f"give {name} a value from {low:,} to {high:,}")
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
                raise InputError(f"{name} {value!r} is not Unicode text", hint="rename the file, or give another name")
        if self.learning_rate * self.weight_decay >= 1:
            raise InputError("learning_rate x weight_decay is 1 or more: an update would take all of a weight", hint="lower one of them")
        if self.accumulate > self.rows:
            raise InputError(f"{self.rows} rows do not fill {self.accumulate} micro-batches", hint="lower accumulate, or raise rows")
        if self.overwrite and self.resume:
            raise InputError("--overwrite and --resume are opposites", hint="give one of them")
        if self.cpu_replicas and (self.gpus or self.tpu not in ("auto", "none")):
            raise InputError("--cpu-replicas goes with the CPU alone", hint="leave out --gpus and --tpu NAME, or --cpu-replicas")
        if self.data and (self.train or self.validation or self.test):
            raise InputError("both data and train/validation/test are given", hint="give one corpus to split, or split files")
        if bool(self.train) != bool(self.validation) or (self.test and not self.train):
            raise InputError("train and validation files go together", hint="give --train and --validation (and perhaps --test)")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that are not UTF-8
        return False
    return True


DATA_KEYS = ("data", *SPLITS)
DATA_SOURCE = (*DATA_KEYS, "format", "encoding", "split_seed")
RANGES: dict[str, tuple[float, float]] = {
    "dropout": (0, 0.99),
    "encoder_dropout": (0, 0.99),
    "rows": (1, 2**20),
    "row_length": (8, 512),
    "accumulate": (1, 2**16),
    "epochs": (1, 10**6),
    "learning_rate": (0, 10),
    "warmup": (0, 1),
    "weight_decay": (0, 10),
    "clip_norm": (0, 1e9),
    "patience": (0, 10**6),
    "seed": (0, 2**31 - 1),
    "split_seed": (0, 2**31 - 1),
    "tpu_timeout": (1, 86400),
    "tpu_look_timeout": (0.1, 86400),
    "gpus": (1, 1024),
    "cpu_replicas": (1, 64),
    "steps_per_call": (1, 10**6),
    "checkpoint_every_steps": (0, 10**9),
    "checkpoint_every_minutes": (0, 10**6),
    "keep_checkpoints": (1, 1000),
}

Arguments = TypeVar("Arguments")


def parse(kind: type[Arguments], arguments: list[str], default: Arguments | None = None) -> Arguments:
    """Flags -> a dataclass, by tyro. A usage error becomes an InputError of one line; --help prints and exits 0."""
    import tyro

    errors = io.StringIO()
    flags = (tyro.conf.FlagCreatePairsOff,)
    try:
        with contextlib.redirect_stderr(errors):
            if default is None:
                return tyro.cli(kind, args=arguments, config=flags)
            return tyro.cli(kind, args=arguments, default=default, config=flags)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise InputError(_usage_error(errors.getvalue()), hint=f"see python {Path(sys.argv[0]).name} --help") from None


def _usage_error(box: str) -> str:
    """The message in tyro's framed, wrapped error: the text above the first rule, and the flags it suggests."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    parts = "\n".join(lines).split("─" * 8)
    message = " ".join(parts[0].split()).rstrip(".")
    near = [line.split()[0] for line in lines if line.startswith("--")] if "Perhaps you meant" in box else []
    return f"{message} (perhaps you meant {' or '.join(dict.fromkeys(near))}?)" if near else message


def train_config(arguments: list[str]) -> Config:
    """The configuration of ``train.py ARGUMENTS``: default < TOML named by --config < flags.

    With --resume and no --config, the TOML is the one the run in --output was started with.
    """
    path = _flag_value(arguments, "--config")
    output = _flag_value(arguments, "--output")
    if path is None and output and "--resume" in arguments and Path(output, "config.toml").is_file():
        path = str(Path(output, "config.toml"))
    default = load_toml(path) if path else Config()
    if any(a.split("=")[0] in {f"--{key}" for key in DATA_KEYS} for a in arguments):
        default = dataclasses.replace(default, **{key: getattr(Config, key) for key in DATA_SOURCE})
    return parse(Config, arguments, default)


def _flag_value(arguments: list[str], flag: str) -> str | None:
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return argument.split("=", 1)[1]
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
    return None


def load_toml(path: str | Path) -> Config:
    """A TOML file -> Config. Corpus paths in it, and an encoder path that starts with a dot, are relative to the file's own folder."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            error.strerror or "cannot be read", path=path, hint="name a TOML file such as experiments/quickstart.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not valid TOML: {error}", path=path, hint="write it as KEY = VALUE lines") from None
    kinds = typing.get_type_hints(Config)
    for key, value in values.items():
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, n=1, cutoff=0.0)[0]
            raise InputError(f"unknown key {key!r}", path=path, line=_key_line(path, key), hint=f"did you mean {near!r}?")
        if not _has_type(value, kinds[key]):
            wanted = str(kinds[key]).replace("typing.", "") if not isinstance(kinds[key], type) else kinds[key].__name__
            raise InputError(f"{key} = {value!r} has the wrong type", path=path, line=_key_line(path, key), hint=f"give it a {wanted}")
    for key in DATA_KEYS:
        if values.get(key):
            values[key] = os.path.abspath(path.parent / values[key])
    if str(values.get("encoder", "")).startswith("."):
        values["encoder"] = os.path.abspath(path.parent / values["encoder"])
    try:
        return Config(**values)
    except InputError as error:
        raise InputError(str(error).split("; ")[0], path=path, hint=str(error).split("; ", 1)[1]) from None


def _has_type(value: object, kind: object) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_has_type(value, k) for k in typing.get_args(kind))
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind


def _key_line(path: Path, key: str) -> int | None:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.split("=")[0].strip().strip("\"'") == key:
            return number
    return None


def to_toml(config: Config) -> str:
    """The resolved configuration as TOML; keys that are None are left out. Reads back as the same Config."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in dataclasses.asdict(config).items() if value is not None)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
    return repr(value)
