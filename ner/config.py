"""The settings of a training run as one typed dataclass: defaults, then a TOML file, then flags."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import tomllib
import typing
from pathlib import Path
from typing import Literal

from ner import flags, hub
from ner.errors import InputError
from ner.flags import key
from ner.formats import Documents, Format

DataType = Literal["auto", "float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Fine-tune an encoder for named-entity recognition. What is not given is chosen to suit the corpus. Every flag is also a key of
    the TOML files in experiments/, written there with underscores. A flag wins over the TOML file, and the TOML file over the default. If
    one of --data, --train, --validation and --test is given, the TOML file's corpus is not used at all."""

    data: str | None = key(
        None,
        "One corpus file: it is split into 80 % training, 10 % validation and 10 % test by a hash of each sentence's text, or of its "
        "document where that is known. Or a folder of files named for train, validation and test. Or a dataset on the Hugging Face hub, "
        "OWNER/NAME[:CONFIG][@REVISION]. Without any corpus: ner_dataset.csv if it is in the current directory, else the sample corpus of "
        "this project.",
        group="corpus",
        free=True,
        source=True,
        path=True,
    )
    train: str | None = key(None, "Training file. It goes with --validation and replaces --data.", free=True, source=True, path=True)
    validation: str | None = key(
        None,
        "Validation file. It is scored again and again during training, and the best model is kept.",
        free=True,
        source=True,
        path=True,
    )
    test: str | None = key(
        None,
        "Test file. Training only checks its tags; evaluate.py --split test scores it.",
        free=True,
        source=True,
        path=True,
    )
    format: Format | None = key(None, "Format of the corpus files. Without it: told from each file's suffix.", free=True, source=True)
    encoding: str | None = key(
        None,
        "Character encoding of the corpus files, such as latin-1. Without it: UTF-8, or cp1252 for a file that is not UTF-8.",
        free=True,
        source=True,
    )
    documents: Documents = key(
        "marked",
        "Which sentences are of one document. marked: those that the corpus marks so, such as by -DOCSTART- lines; file: all of one file.",
        free=True,
        source=True,
    )
    word_column: int | None = key(
        None, "Column of the words in conll files. Without it: the first.", low=1, high=1000, free=True, source=True
    )
    tag_column: int | None = key(None, "Column of the tags in conll files. Without it: the last.", low=1, high=1000, free=True, source=True)
    split_seed: int = key(0, "Seed of the hash that splits --data.", low=0, high=2**31 - 1)
    unseen_tags: Literal["refuse", "missed"] = key(
        "missed",
        "What to do if validation or test has an entity type that training lacks. missed: warn, and count its entities as missed; "
        "refuse: end with an error.",
    )

    encoder: str = key(
        "sentence-transformers/all-MiniLM-L6-v2",
        "The checkpoint to start from: a folder, or a name on the Hugging Face hub.",
        group="model",
        free=True,
    )
    encoder_revision: str | None = key(
        None, "Commit of the checkpoint on the hub. Without it: the copy in the hub's cache, else the newest.", free=True
    )
    case: bool = key(
        None,
        "Tell an uncased encoder how each word is written (small letters, Capitalised, CAPITALS), by a vocabulary with these forms. "
        "Without it: on if the vocabulary does not tell capitals from small letters and the corpus has both.",
    )
    head: Literal["linear", "counted", "crf"] = key(
        "counted",
        "Tag layer. linear: it scores each word's tags; counted: decoding also weighs transitions from one tag to the next, counted on the "
        "training tags; crf: it learns scores of the transitions.",
    )
    dropout: float = key(0.3, "Dropout rate before the tag layer.", low=0, high=0.99)
    encoder_dropout: float | None = key(
        None, "Dropout rate inside the encoder. Without it: as in the checkpoint's config.json.", low=0, high=0.99
    )
    compute_dtype: DataType = key(
        "auto",
        "Number type of the matrix products. auto: bfloat16 if the device multiplies it in hardware, else float32. With bfloat16 the "
        "activations, the residual stream and the attention probabilities are rounded to bfloat16 as well. Softmax, LayerNorm and GELU "
        "compute in float32. Weights, logits and loss are float32.",
    )

    batching: Literal["packed", "buckets", "padded"] = key(
        "packed",
        "packed: several sentences share a row; padded: one sentence a row; buckets: one sentence a row, and rows of a few lengths.",
        group="batches",
    )
    context: Literal["sentence", "document"] = key(
        "sentence",
        "What the encoder reads at a time. sentence: each sentence alone; document: as much of its document as a row holds. The corpus "
        "must then say which sentences belong together.",
    )
    rows: int = key(
        None,
        "Rows per update, all replicas together. They are split evenly; empty rows fill up the last share. With padded rows this is the "
        "number of sentences per update. Without it: by the size of the corpus (ner/budget.py).",
        low=1,
        high=2**20,
    )
    row_length: int | None = key(
        None,
        "Word pieces per row, at most the encoder's number of positions. Without it: the smallest multiple of 32, "
        "from 64 on, that holds 99 % of the training sentences whole. With document context: longer, up to 256, if documents are.",
        low=8,
        high=2**15,
        free=True,
    )
    accumulate: int = key(
        1, "Split each update's rows into this many micro-batches that run one after another, to save memory.", low=1, high=2**16
    )
    label_pieces: Literal["first", "all"] = key("first", "Which word pieces of a word count in the loss: its first, or all of them.")

    epochs: int = key(
        None,
        "Passes over the training sentences. Without it: by the size of the corpus (ner/budget.py).",
        low=1,
        high=10**6,
        group="optimization",
    )
    learning_rate: float = key(
        None,
        "Highest learning rate, reached at the end of the warm-up. Without it: by the word pieces of an update (ner/budget.py).",
        low=0,
        high=10,
    )
    schedule: Literal["linear", "constant"] = key("linear", "After the warm-up the learning rate falls linearly to 0, or stays constant.")
    warmup: float = key(0.1, "Fraction of all updates in which the learning rate rises from 0.", low=0, high=1)
    weight_decay: float = key(
        0.01, "Decoupled weight decay (AdamW) of kernels and embeddings. Biases and LayerNorm are not decayed.", low=0, high=10
    )
    layer_decay: float = key(
        0.9, "Each layer of the encoder learns at this times the rate of the one after it, the head at the full rate.", low=0, high=1
    )
    clip_norm: float = key(1.0, "Gradients with a larger global norm are scaled down to it. 0: never.", low=0, high=10**9)
    validate_every: int = key(
        None,
        "Updates between two validations. One follows the last update; another that is due less than half an interval before it is left "
        "out. 0: after each epoch. Without it: as often as validation takes little of the time (ner/budget.py).",
        low=0,
        high=10**9,
    )
    patience: int = key(0, "Stop after this many validations without a better F1. 0: never.", low=0, high=10**6)
    non_finite: Literal["stop", "skip"] = key(
        "stop", "What to do if the loss or a gradient is NaN or infinite: stop the run, or skip that update.", free=True
    )
    seed: int = key(0, "Seed of the tag layer's first weights, of the shuffling and of the dropout.", low=0, high=2**31 - 1)

    tpu: str = key(
        "auto",
        "auto: a TPU if there is one, else GPUs, else the CPU; none: no TPU; or a TPU's name, local, or a grpc:// address.",
        group="devices",
        free=True,
    )
    tpu_timeout: float = key(120.0, "Seconds to wait until a TPU is initialised.", low=1, high=86400, free=True)
    tpu_look_timeout: float = key(
        10.0, "Seconds to wait for an answer from a TPU's grpc:// address, before it is initialised.", low=0.1, high=86400, free=True
    )
    gpus: int | None = key(None, "Number of GPUs to use. Without it: all.", low=1, high=1024, free=True)
    cpu_replicas: int | None = key(
        None,
        "Split the CPU into this many logical devices with one replica on each, for tests and teaching. Without it: one device.",
        low=1,
        high=64,
        free=True,
    )
    steps_per_call: int = key(
        20, "Updates that run on the device between two visits to Python. Metrics are logged as often.", low=1, high=10**6, free=True
    )
    measure_peak: bool = key(
        False,
        "First measure how fast the device multiplies matrices, then log what fraction of it training reaches (train/mfu).",
        free=True,
    )
    profile: bool = key(False, "Write a profile of a few updates for TensorBoard.", free=True)
    dry_run: bool = key(
        False, "Read the corpus, build the model, time a few updates, print an estimate of the run, and write no run folder.", free=True
    )

    config: str | None = key(None, "A TOML file with any of these keys. Without it: the defaults.", group="the run", free=True, path=True)
    output: str | None = key(None, "The run's folder. Without it: a new one, runs/ENCODER-TIME.", free=True, path=True)
    overwrite: bool = key(False, "Delete the run that is in the output folder, and start anew.", free=True)
    resume: bool = key(False, "Continue the run in the output folder with its own settings; start it if there is none.", free=True)
    checkpoint_every_steps: int = key(
        0, "Write a checkpoint as well after this many updates. 0: only after each validation.", low=0, high=10**9, free=True
    )
    checkpoint_every_minutes: float = key(
        0.0,
        "Write a checkpoint as well when the last one is this many minutes old. 0: only after each validation.",
        low=0,
        high=10**6,
        free=True,
    )
    keep_checkpoints: int = key(2, "How many checkpoints to keep; older ones are deleted.", low=1, high=1000, free=True)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            flags.check_range(field, value)
            if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
                raise InputError(f"{field.name} {value!r} is not Unicode text", hint="rename the file, or give another name")
        if self.learning_rate is not None and self.learning_rate * self.weight_decay >= 1:
            raise InputError("learning_rate x weight_decay is 1 or more: an update would take all of a weight", hint="lower one of them")
        if self.rows is not None and self.accumulate > self.rows:
            raise InputError(f"{self.rows} rows do not fill {self.accumulate} micro-batches", hint="lower accumulate, or raise rows")
        if self.head == "crf" and self.label_pieces == "all":
            what = "head = crf does not go with label_pieces = all: a CRF's chain has one piece a word"
            raise InputError(what, hint="give --label-pieces first, or another --head")
        if self.overwrite and self.resume:
            raise InputError("--overwrite and --resume are opposites", hint="give one of them")
        if self.cpu_replicas and (self.gpus or self.tpu not in ("auto", "none")):
            raise InputError("--cpu-replicas goes with the CPU alone", hint="leave out --gpus and --tpu NAME, or --cpu-replicas")
        if self.data and (self.train or self.validation or self.test):
            raise InputError("both data and train/validation/test are given", hint="give one corpus to split, or split files")
        if bool(self.train) != bool(self.validation) or (self.test and not self.train):
            lacking = " and ".join(f"--{name}" for name in ("train", "validation") if not getattr(self, name))
            raise InputError("train and validation files go together", hint=f"give {lacking} too")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that are not UTF-8
        return False
    return True


def _keys(mark: str) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(Config) if field.metadata[mark])


MAY_CHANGE_ON_RESUME = _keys("free")
PATH_KEYS = _keys("path")  # without `encoder`, which may be a name on the hub
SOURCE_KEYS = _keys("source")  # where the corpus is and how it is read
DATA_KEYS = tuple(name for name in SOURCE_KEYS if name in PATH_KEYS)  # the corpus files
READING_KEYS = tuple(name for name in SOURCE_KEYS if name not in PATH_KEYS)  # how they are read: what formats.read takes


def train_config(arguments: list[str]) -> Config:
    """The configuration of ``train.py ARGUMENTS``: default < TOML file named by --config < flags.

    With --resume and no --config, the TOML file is the one in the run's folder. Raises InputError, also where there is none and no corpus
    is named: a mistyped folder would start another run.
    """
    given = flags.given(Config, arguments)
    path = given.get("config")
    if path is None and given.get("resume") and "output" in given and Path(given["output"], "config.toml").is_file():
        path = Path(given["output"], "config.toml")
    if path is None and given.get("resume") and "output" in given and not any(name in given for name in DATA_KEYS):
        hint = "check --output and the current folder, or name a corpus or --config to start a run"
        raise InputError("nothing to resume: no config.toml here", path=given["output"], hint=hint)
    base = load_toml(path) if path else Config()
    source = {name: getattr(Config, name) for name in SOURCE_KEYS} if any(name in given for name in DATA_KEYS) else {}
    return dataclasses.replace(base, **{**source, **given})


def load_toml(path: str | Path) -> Config:
    """The Config in a TOML file. Raises InputError.

    Corpus paths in it (not a dataset on the hub), and an encoder path that starts with a dot, are relative to the file's own folder.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what, hint = error.strerror or "cannot be read", "name a TOML file such as experiments/quickstart.toml"
        raise InputError(what, path=path, hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid TOML: {error}", path=path, hint="write it as KEY = VALUE lines") from None
    fields, kinds = {field.name: field for field in dataclasses.fields(Config)}, typing.get_type_hints(Config)
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.0)[0]
            raise InputError(f"unknown key {name!r}", path=path, line=_line(path, name), hint=f"did you mean {near!r}?")
        kind = flags.plain(kinds[name])
        if not _has_type(value, kind) or value == "":
            hint = f"give {flags.wanted(kind)}"
            raise InputError(f"{name} = {value!r} is not valid", path=path, line=_line(path, name), hint=hint)
        flags.check_range(fields[name], value, path=path, line=_line(path, name))
        values[name] = float(value) if kind is float else value  # TOML knows 1 from 1.0
    for name in (*DATA_KEYS, "encoder"):
        if name == "data" and hub.is_name(values.get(name), path.parent):
            continue
        if values.get(name) and (name in DATA_KEYS or values[name].startswith(".")):
            values[name] = os.path.abspath(path.parent / values[name])
    try:
        return Config(**values)
    except InputError as error:
        raise InputError(error.what, path=path, hint=error.hint) from None


def _has_type(value: object, kind: object) -> bool:
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    return type(value) in ((int, float) if kind is float else (kind,))


def _line(path: Path, name: str) -> int | None:
    """The number of the line that sets the key."""
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.split("=")[0].strip().strip("\"'") == name:
            return number
    return None


def to_toml(config: Config) -> str:
    """The configuration as TOML, without the keys that are None. It reads back as the same Config."""
    return "".join(f"{name} = {_toml(value)}\n" for name, value in dataclasses.asdict(config).items() if value is not None)


def _toml(value: bool | int | float | str) -> str:
    """A value as TOML writes it: as JSON does, but that any character may be written by its number."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))
