"""A run's folder: its name, when it may be written, and what makes a resume the same run."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ner import corpus
from ner.checkpoint import Checkpoints, State, differences
from ner.config import DATA_KEYS, Config, to_toml
from ner.corpus import Sentence
from ner.errors import InputError

# Keys that may change between a run and its continuation: where it runs, how often it saves, and where the corpus lies
# (the corpus itself is compared by content).
FREE = (
    *DATA_KEYS,
    *("format", "encoding", "encoder", "encoder_revision", "row_length"),
    *("tpu", "tpu_timeout", "gpus", "cpu_replicas", "steps_per_call", "non_finite", "measure_peak", "profile"),
    *("config", "output", "overwrite", "resume", "checkpoint_every_steps", "keep_checkpoints"),
)


def named(config: Config) -> Config:
    """The configuration with its output folder: by default ``runs/ENCODER-YYYYMMDD-HHMMSS``."""
    name = f"{Path(config.encoder).name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return dataclasses.replace(config, output=str(Path(config.output or f"runs/{name}").resolve()))


def check(config: Config) -> None:
    """Refuse a folder that holds something, unless the run is resumed or (a run folder only) overwritten."""
    output = Path(config.output or "")
    if output.exists() and not output.is_dir():
        raise InputError("is a file", path=output, mend="give --output a folder")
    if not output.exists() or not any(output.iterdir()):
        return
    if (config.overwrite or config.resume) and not (output / "config.toml").is_file():
        raise InputError("is not a run folder, so it is left alone", path=output, mend="give --output another folder")
    if not (config.overwrite or config.resume):
        raise InputError("is not empty", path=output, mend="give another --output, --resume it, or --overwrite it")


def prepare(config: Config, state: State) -> None:
    """Create the folder with the resolved configuration, emptied of an earlier run's files; a continued run's is left as it is."""
    output = Path(config.output or "")
    if state.step:
        return
    try:
        if output.exists():
            shutil.rmtree(output)
        output.mkdir(parents=True)
        (output / "config.toml").write_text(to_toml(dataclasses.replace(config, overwrite=False, resume=False)), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", path=output, mend="give --output a folder you can write") from None


def fingerprint(config: Config, splits: dict[str, list[Sentence]], encoder: Path, row_length: int) -> dict:
    """What must be alike for a continued run to be the same run; JSON-ready."""
    with open(encoder / "model.safetensors", "rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    kept = {key: value for key, value in dataclasses.asdict(config).items() if key not in FREE}
    contents = {f"{name} sentences": corpus.content_hash(splits[name]) for name in ("train", "validation")}
    return {**kept, **contents, "encoder weights": weights, "row_length": row_length}


def resume(checkpoints: Checkpoints, say: Callable[[str], None]) -> State:
    """The state of the newest whole checkpoint, its variables loaded; a fresh one where there is none. Refuses another run's."""
    found = checkpoints.newest(say)
    if found is None:
        return State()
    path, record = found
    if changed := differences(checkpoints.fingerprint, record["fingerprint"]):
        raise InputError(
            f"--resume of another run: {'; '.join(changed)}",
            path=path.parent.parent,
            mend="give the run's own settings, or another --output",
        )
    state = checkpoints.restore(path, record)
    say(f"resumed from {path.name} (epoch {state.epoch + 1}, step {state.step_in_epoch} of it)")
    return state
