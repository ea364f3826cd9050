"""A run's folder: its name, when it may be written, and what makes a resume the same run."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from pathlib import Path

import tensorflow as tf

from ner import cache, files, pretrained
from ner.checkpoint import Checkpoints, State, differences
from ner.config import MAY_CHANGE_ON_RESUME, PATH_KEYS, Config, load_toml, to_toml
from ner.dataset import Data, kept_hash
from ner.errors import InputError
from ner.pretrained import Pretrained
from ner.progress import say
from ner.strategy import Devices

# All that a run writes into its folder; nothing else in it is ever deleted. A fork that writes more adds it here.
PARTS = ("config.toml", "checkpoints", "metrics.jsonl", "tensorboard", "model")


def named(config: Config, workers: int = 1) -> Config:
    """The configuration with its output folder: by default ``runs/ENCODER-YYYYMMDD-HHMMSS-PROCESS``."""
    if workers > 1 and not config.output:  # each would name it by its own clock
        raise InputError("several workers need one shared --output", hint="give all of them the same folder, which all can reach")
    if workers > 1 and config.dry_run:  # the others would wait for its updates
        raise InputError("--dry-run is for one process, and TF_CONFIG names several", hint="unset TF_CONFIG for it")
    if config.resume and not config.output:
        raise InputError("--resume needs the folder of the run", hint="give --output")
    name = f"{Path(config.encoder).name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"  # several runs may begin in one second
    return dataclasses.replace(config, output=os.path.abspath(config.output or f"runs/{name}"))


def check(config: Config) -> None:
    """Refuse an output folder that holds something.

    A run may be resumed in its folder. It may be overwritten if the folder holds nothing else, and none of the new run's inputs.
    """
    output = Path(config.output or "")
    if output.exists() and not output.is_dir():
        raise InputError("is a file", path=output, hint="give --output a folder")
    # A run that was killed before it had a configuration leaves no more than its partial one.
    if not output.exists() or all(_of_a_write(path.name) for path in output.iterdir()):
        return
    if not (config.overwrite or config.resume):
        raise InputError("is not empty", path=output, hint="give another --output, --resume it, or --overwrite it")
    if reason := why_no_run(output):
        raise InputError(f"is not a run folder ({reason}), so it is left alone", path=output, hint="give --output another folder")
    _refuse_strangers(config, output)
    if config.overwrite:
        for key in (*(name for name in PATH_KEYS if name != "output"), "encoder"):
            value = getattr(config, key)
            if value and os.path.exists(value) and Path(os.path.realpath(value)).is_relative_to(os.path.realpath(output)):
                raise InputError(f"--overwrite would delete {key} {value!r}", path=output, hint="give another --output")


def _refuse_strangers(config: Config, output: Path) -> None:
    """Refuse files that no run wrote where they would be deleted: anywhere with --overwrite, in model/ by the next better model."""
    model = output / "model"
    of_a_model = (*pretrained.FILES, *pretrained.HEAD_FILES, *pretrained.UNLISTED, *pretrained.read_sums(model))
    for folder, known in ((output, PARTS), (model, of_a_model)):
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        strangers = [name for name in names if name not in known and not _of_a_write(name)]
        if strangers and (config.overwrite or folder == model):
            raise InputError(f"holds {strangers[0]!r}, which no run wrote", path=folder, hint="move it away, or give another --output")


def _of_a_write(name: str) -> bool:
    """Whether a file or folder of this name is what a killed write left (ner.files)."""
    return name.startswith(tuple(f".{part}." for part in PARTS)) and name.endswith((".partial", ".previous"))


def why_no_run(output: Path) -> str:
    """Why a folder is not one that a run of this version wrote; empty if it is one."""
    try:
        return "" if load_toml(output / "config.toml").output else "its config.toml names no output"
    except InputError as error:
        return f"config.toml: {error.what}"


def prepare(config: Config, state: State) -> None:
    """Create the folder with the resolved configuration, without an earlier run's parts; a continued run's is left as it is.

    The configuration is written first: killed at any instant after that, the folder is known to be a run's.
    """
    output = Path(config.output or "")
    if state.step:
        return
    if not config.overwrite and (output / "model").exists() and _checkpoints_are_gone(output):
        raise InputError("has a model but its checkpoints are gone", path=output, hint="--overwrite it to start anew")
    try:
        files.write(output / "config.toml", to_toml(dataclasses.replace(config, overwrite=False, resume=False)))
        left = [path for path in output.iterdir() if _of_a_write(path.name)]
        for path in [*left, *(output / part for part in PARTS[1:])]:
            if path.name == "model" and config.resume:  # of a run that ended before its first checkpoint; the first better one replaces it
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (output / "checkpoints").mkdir()
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", path=output, hint="give --output a folder you can write") from None


def _checkpoints_are_gone(output: Path) -> bool:
    """Whether a run that has no checkpoint had one: the first validation is recorded just before it, a second one after it."""
    metrics = output / "metrics.jsonl"
    validations = metrics.read_bytes().count(b'"validation/f1":') if metrics.is_file() else 0
    return not (output / "checkpoints").is_dir() or validations > 1


def hparams(config: Config) -> dict[str, bool | int | float | str]:
    """The settings that make a run what it is, without those left to their automatic choice."""
    return {"encoder": config.encoder, **{key: value for key, value in _lasting(config).items() if value is not None}}


def fingerprint(config: Config, data: Data, encoder: Pretrained, compute_dtype: str) -> dict:
    """What must be the same for a continued run to be the same run; JSON-ready. ``compute_dtype`` is the one that ``auto`` became."""
    contents = {f"{name} sentences": kept_hash(data.splits[name]) for name in ("train", "validation")}
    encoder_files = {f"encoder's {name}": digest for name, digest in encoder.digests.items()}
    return {**_lasting(config), **contents, **encoder_files, "row_length": data.train.row_length, "compute_dtype": compute_dtype}


def digest(fingerprint: dict) -> int:
    """A number below 2**63 that differs where fingerprints do."""
    return int.from_bytes(hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).digest()[:8], "big") >> 1


def environment(devices: Devices) -> dict:
    """What must be the same for a continued run to give the same bits; JSON-ready."""
    versions = {name: importlib.metadata.version(name) for name in ("keras", "numpy")}
    devices_now = {"device": devices.kind, "replicas": devices.strategy.num_replicas_in_sync}
    return {**devices_now, "tensorflow": tf.__version__, **versions, "code": cache.code()[:12]}


def restore(config: Config, checkpoints: Checkpoints) -> State:
    """With --resume the state of the newest intact checkpoint, its variables loaded; else, or where there is none, a fresh state.

    Raises InputError for a checkpoint of another run. Says where the bits may differ from those of an uninterrupted run.
    """
    if not config.resume:
        return State()
    files.recover_folder(Path(config.output or "") / "model")
    found = checkpoints.newest(say)
    if found is None and checkpoints.steps():
        raise InputError("no checkpoint in it is intact", path=checkpoints.folder, hint="--overwrite the run to start anew")
    if found is None:
        say(f"{config.output}: no checkpoint to resume, so the run starts")
        return State()
    path, record = found
    # A key that is newer than the run had its default's effect, but this one: before it, all layers had one rate.
    then = {**_lasting(Config(layer_decay=1.0)), **record["fingerprint"]}
    if changed := differences(checkpoints.fingerprint, then):
        raise InputError(
            f"--resume of another run: {'; '.join(changed)}",
            path=path.parent.parent,
            hint="give the run's own settings, or another --output",
        )
    state = checkpoints.restore(path, record)
    if state.finished:
        say(f"{config.output}: finished already")
        return state
    say(f"resumed from {path.name} (epoch {state.epoch + 1}, step {state.step_in_epoch} of it)")
    if changed := differences(checkpoints.environment, record.get("environment", {})):
        say(f"warning: the last bits may differ from an uninterrupted run's: {'; '.join(changed)}")
    return state


def _lasting(config: Config) -> dict:
    """The settings that stay the same for the whole of a run."""
    return {key: value for key, value in dataclasses.asdict(config).items() if key not in MAY_CHANGE_ON_RESUME}
