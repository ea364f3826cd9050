"""A run's folder: its name, when it may be written, and what makes a resume the same run."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ner.checkpoint import Checkpoints, State, differences
from ner.config import MAY_CHANGE_ON_RESUME, PATH_KEYS, Config, load_toml, to_toml
from ner.errors import InputError
from ner.files import sha256
from ner.pretrained import MODEL_FILES, TOKENIZER_FILES
from ner.sentences import Sentence, content_hash

# All that a run writes into its folder; nothing else in it is ever deleted.
PARTS = (
    *("config.toml", "checkpoints", "metrics.jsonl", "tensorboard", "model"),
    *(".config.toml.partial", ".metrics.jsonl.partial", ".model.partial", ".model.previous"),
)


def named(config: Config) -> Config:
    """The configuration with its output folder: by default ``runs/ENCODER-YYYYMMDD-HHMMSS``."""
    name = f"{Path(config.encoder).name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return dataclasses.replace(config, output=os.path.abspath(config.output or f"runs/{name}"))


def check(config: Config) -> None:
    """Refuse a folder that holds something, unless the run is resumed or (a run folder with nothing else in it only) overwritten."""
    output = Path(config.output or "")
    if output.exists() and not output.is_dir():
        raise InputError("is a file", path=output, hint="give --output a folder")
    # A run that was killed before it had a configuration leaves no more than its partial one.
    if not output.exists() or {path.name for path in output.iterdir()} <= {".config.toml.partial"}:
        return
    if not (config.overwrite or config.resume):
        raise InputError("is not empty", path=output, hint="give another --output, --resume it, or --overwrite it")
    if not is_run(output):
        raise InputError("is not a run folder, so it is left alone", path=output, hint="give --output another folder")
    for folder, known in ((output, PARTS), (output / "model", MODEL_FILES)):
        strangers = sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.is_dir() else []
        if strangers and (config.overwrite or folder != output):  # the next better epoch replaces model/
            raise InputError(f"holds {strangers[0]!r}, which no run wrote", path=folder, hint="move it away, or give another --output")
    if config.overwrite:
        for key in (*(name for name in PATH_KEYS if name != "output"), "encoder"):
            value = getattr(config, key)
            if value and os.path.exists(value) and Path(os.path.realpath(value)).is_relative_to(os.path.realpath(output)):
                raise InputError(f"--overwrite would delete {key} {value!r}", path=output, hint="give another --output")


def is_run(output: Path) -> bool:
    """Whether the folder's config.toml is one that a run wrote."""
    try:
        return load_toml(output / "config.toml").output is not None
    except InputError:
        return False


def prepare(config: Config, state: State) -> None:
    """Create the folder with the resolved configuration, without an earlier run's parts; a continued run's is left as it is.

    The configuration is renamed into place first: killed at any instant after that, the folder is known for a run's.
    """
    output = Path(config.output or "")
    if state.step:
        return
    if not config.overwrite and (output / "model").exists() and not (output / "checkpoints").is_dir():
        raise InputError("has a model but its checkpoints are gone", path=output, hint="--overwrite it to start anew")
    try:
        output.mkdir(parents=True, exist_ok=True)
        partial = output / ".config.toml.partial"
        partial.write_text(to_toml(dataclasses.replace(config, overwrite=False, resume=False)), encoding="utf-8")
        os.replace(partial, output / "config.toml")
        for path in (output / part for part in PARTS[1:]):
            if path.name == "model" and config.resume:  # of a run that ended before its first checkpoint; the first better one replaces it
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (output / "checkpoints").mkdir()
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", path=output, hint="give --output a folder you can write") from None


def hparams(config: Config) -> dict[str, bool | int | float | str]:
    """The settings that make a run what it is, without those left to their automatic choice."""
    chosen = {key: value for key, value in dataclasses.asdict(config).items() if key not in MAY_CHANGE_ON_RESUME and value is not None}
    return {"encoder": config.encoder, **chosen}


def fingerprint(config: Config, splits: dict[str, list[Sentence]], encoder: Path, row_length: int, compute_dtype: str) -> dict:
    """What must be alike for a continued run to be the same run; JSON-ready. ``compute_dtype`` is the one that ``auto`` became."""
    kept = {key: value for key, value in dataclasses.asdict(config).items() if key not in MAY_CHANGE_ON_RESUME}
    contents = {f"{name} sentences": content_hash(splits[name]) for name in ("train", "validation")}
    files = {}
    for name in ("config.json", "model.safetensors", *TOKENIZER_FILES):
        if (encoder / name).is_file():
            files[f"encoder's {name}"] = sha256(encoder / name)
    return {**kept, **contents, **files, "row_length": row_length, "compute_dtype": compute_dtype}


def resume(checkpoints: Checkpoints, say: Callable[[str], None]) -> State:
    """The state of the newest whole checkpoint, its variables loaded; a fresh one where there is none. Refuses another run's."""
    found = checkpoints.newest(say)
    if found is None and checkpoints.steps():
        raise InputError("no checkpoint in it is whole", path=checkpoints.folder, hint="--overwrite the run to start anew")
    if found is None:
        return State()
    path, record = found
    if changed := differences(checkpoints.fingerprint, record["fingerprint"]):
        raise InputError(
            f"--resume of another run: {'; '.join(changed)}",
            path=path.parent.parent,
            hint="give the run's own settings, or another --output",
        )
    state = checkpoints.restore(path, record)
    say(f"resumed from {path.name} (epoch {state.epoch + 1}, step {state.step_in_epoch} of it)")
    return state
