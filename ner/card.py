"""The model card (README.md) of a trained model: what it was trained on, how it scores by which formula, and how to use it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from ner.config import PATH_KEYS, Config, to_toml
from ner.scoring import Scores

CARD = """---
library_name: transformers
pipeline_tag: token-classification
base_model: {base_model}
metrics: [seqeval]
---

# {name}

{encoder}, fine-tuned for named-entity recognition with an explicit TensorFlow loop. It finds entities of the types {types}.

## Use

```python
from transformers import pipeline

pipeline("token-classification", model="PATH OF THIS FOLDER", aggregation_strategy="first")("alex lives in london")
```

or `python predict.py --ckpt PATH "alex lives in london"` of the project that trained it.
{case}
## Scores

On the validation split ({sentences} sentences, {words} words, {entities} entities), over whole words and whole sentences.
An entity is found if its type and both its ends are: with TP entities found, FP predicted and not annotated, FN annotated and not found,
precision P = TP / (TP + FP), recall R = TP / (TP + FN), F1 = 2 P R / (P + R). Entities are read from the tags as seqeval's default
(conlleval) mode does; strict: its IOB2 mode. macro F1: the mean over the types. A sentence's tags are the likeliest that keep to IOB2;
each word's likeliest tag, which the pipeline takes, may find less. The epoch was chosen by this F1, so expect a little less on
other text of the kind.

| type | precision | recall | F1 | entities |
| --- | ---: | ---: | ---: | ---: |
{rows}
| **all (micro)** | {precision:.4f} | {recall:.4f} | **{f1:.4f}** | {entities} |

strict F1 {f1_strict:.4f}, macro F1 {macro_f1:.4f}

## Training

Data: {data}: {splits}.
Device: {device}. Wall-clock until this model was saved, in this process: {minutes:.1f} min.
Versions: {versions}. {date}.

    {command}

```toml
{toml}```
"""


CASE = """
It was told how each word is written, by `token_type_ids`: 0 not known, as for [CLS] and [SEP], 1 without a capital, 2 Capitalised,
3 ALL CAPITALS, 4 any other way; 0 throughout a sentence that is all small or all capital. Without them, as in the pipeline, it reads all
text as if its case were not known, and finds less; the project's docs/using_models.md shows how to give them.
"""


def model_card(config: Config, scores: Scores, *, splits: dict[str, int], device: str, seconds: float) -> str:
    """Markdown with the header the Hugging Face hub reads. splits: sentences per split. Of paths it shows the last part only."""
    short: dict[str, Any] = {key: Path(value).name for key in PATH_KEYS if (value := getattr(config, key))}
    if os.path.isabs(config.encoder):
        short["encoder"] = Path(config.encoder).name
    config = dataclasses.replace(config, **short)
    rows = [
        f"| {_escaped(kind)} | {row['precision']:.4f} | {row['recall']:.4f} | {row['f1']:.4f} | {row['support']:.0f} |"
        for kind, row in scores.per_type.items()
    ]
    packages = [name for name in ("tensorflow-cpu", "tensorflow", "keras", "tokenizers", "numpy") if _version(name)]
    return CARD.format(
        name=config.output or "model",
        encoder=config.encoder,
        base_model=json.dumps(config.encoder),  # quoted as YAML wants it
        types=", ".join(map(_escaped, scores.per_type)),
        sentences=splits["validation"],
        words=scores.words,
        entities=scores.entities,
        rows="\n".join(rows),
        data=config.data or f"{config.train} and {config.validation}",
        splits=", ".join(f"{count:,} {name}" for name, count in splits.items()) + " sentences",
        device=device,
        case=CASE if config.case else "",
        minutes=seconds / 60,
        versions=", ".join([f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in packages)]),
        date=time.strftime("%Y-%m-%d"),
        command=shlex.join(["python", *map(_short, sys.argv)]),
        toml=to_toml(config),
        **{key: getattr(scores, key) for key in ("precision", "recall", "f1", "f1_strict", "macro_f1")},
    )


def _short(word: str) -> str:
    """A word of the command line without the folders of a path in it; a hub name keeps its owner."""
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return flag + equals + (Path(value).name if os.path.isabs(value) or os.path.exists(value) else value)


def _escaped(kind: str) -> str:
    return kind.replace("|", "&#124;").replace("<", "&lt;")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
