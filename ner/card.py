"""The model card (README.md) of a trained model: what it was trained on, how it scores by which formula, and how to use it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ner import hub
from ner.config import PATH_KEYS, Config, to_toml
from ner.scoring import MODE, STRICT_MODE, Scores

CARD = """---
{header}
---

# {name}

{encoder}, fine-tuned for named-entity recognition with an explicit TensorFlow loop. It finds entities of the types {types}.

## Use

```python
from transformers import pipeline

pipeline("token-classification", model="PATH OF THIS FOLDER", aggregation_strategy="first")("alex lives in london")
```

or `python predict.py --ckpt PATH "alex lives in london"` of the project that trained it.
{notes}
## Scores

On the validation split ({sentences} sentences, {words} words, {entities} entities), over whole words and whole sentences.
An entity counts as found if its type and both its ends are right. With TP entities found, FP predicted but not annotated, and FN
annotated but not found: precision P = TP / (TP + FP), recall R = TP / (TP + FN), F1 = 2 P R / (P + R). Entities are read from the tags as
seqeval's default (conlleval) mode reads them; strict F1 reads them in its IOB2 mode. Macro F1 is the mean over the types. The tags are
the best sequence of each sentence that IOB2 allows. The pipeline takes each word's most probable tag instead and may find less. The
weights are those of the best validation by this F1, and so is the weight of the transitions between tags, if the model has any. So
expect a little less on other text of the same kind.

| type | precision | recall | F1 | entities |
| --- | ---: | ---: | ---: | ---: |
{rows}
| **all (micro)** | {precision:.4f} | {recall:.4f} | **{f1:.4f}** | {entities} |

strict F1 {f1_strict:.4f}, macro F1 {macro_f1:.4f}

## Training

Data: {data}: {splits}.
Device: {device}. Training had taken {minutes:.1f} min, validations aside, when this model was saved.
Versions: {versions}. {date}.

    {command}

```toml
{toml}```
"""


CONTEXT = """
It was trained on sentences together with their neighbours in the document, as one text without [SEP] between them. `row_length` in
config.json says how many word pieces it read at a time. So give it whole paragraphs. The scores below were found with the neighbours.
"""
COUNTED = """
Its tags are decoded together with transitions between them that were counted on the training tags. They stand in
`transitions.safetensors`, which the pipeline does not read.
"""
CRF = """
Its tags were trained together with learnt transitions between them (a CRF), which stand in `crf.safetensors`. The pipeline does not read
that file.
"""


def model_card(config: Config, scores: Scores, *, splits: dict[str, int], device: str, seconds: float) -> str:
    """Markdown with the header the Hugging Face hub reads. splits: sentences per split. Of paths it shows the last part only."""
    short: dict[str, Any] = {key: _last_part(value) for key in PATH_KEYS if (value := getattr(config, key))}
    if os.path.isabs(config.encoder):
        short["encoder"] = Path(config.encoder).name
    config = dataclasses.replace(config, **short)
    rows = [
        f"| {_escaped(kind)} | {row['precision']:.4f} | {row['recall']:.4f} | {row['f1']:.4f} | {row['support']:.0f} |"
        for kind, row in scores.per_type.items()
    ]
    name, data = config.output or "model", config.data or f"{config.train} and {config.validation}"
    packages = [p for p in ("tensorflow-cpu", "tensorflow", "keras", "tokenizers", "numpy") if _version(p)]
    return CARD.format(
        header=_header(config.encoder, name, data, scores),
        name=name,
        encoder=config.encoder,
        types=", ".join(map(_escaped, scores.per_type)),
        sentences=splits["validation"],
        words=scores.words,
        entities=scores.entities,
        rows="\n".join(rows),
        data=data,
        splits=", ".join(f"{count:,} {name}" for name, count in splits.items()) + " sentences",
        device=device,
        notes=(CONTEXT if config.context == "document" else "") + {"counted": COUNTED, "crf": CRF}.get(config.head, ""),
        minutes=seconds / 60,
        versions=", ".join([f"Python {platform.python_version()}", *(f"{p} {_version(p)}" for p in packages)]),
        date=time.strftime("%Y-%m-%d"),
        command=shlex.join(["python", *map(_short, sys.argv)]),
        toml=to_toml(config),
        **{key: getattr(scores, key) for key in ("precision", "recall", "f1", "f1_strict", "macro_f1")},
    )


def _last_part(path: str) -> str:
    """A path's last part; a dataset's name on the hub as it is."""
    return path if hub.is_name(path) else Path(path).name


def _header(encoder: str, name: str, data: str, scores: Scores) -> str:
    """The YAML that the Hugging Face hub reads. Its ``model-index`` is why the hub shows the scores."""
    on_hub = hub.parse(data) if hub.is_name(data) else None
    kinds = (("precision", MODE), ("recall", MODE), ("f1", MODE), ("f1_strict", STRICT_MODE), ("macro_f1", MODE))
    results = [
        EvalResult(
            task_type="token-classification",
            task_name="Named-entity recognition",
            dataset_type=on_hub.repo if on_hub else data,
            dataset_name=data,
            dataset_config=on_hub.config if on_hub else None,
            dataset_revision=on_hub.revision if on_hub else None,
            dataset_split="validation",
            metric_type=kind,
            metric_name=f"{kind.replace('_', ' ')} ({mode})",
            metric_value=getattr(scores, kind),
        )
        for kind, mode in kinds
    ]
    header = ModelCardData(
        library_name="transformers",
        pipeline_tag="token-classification",
        base_model=encoder,
        datasets=[on_hub.repo] if on_hub else None,
        metrics=["seqeval"],
        model_name=name,
        eval_results=results,
    )
    return header.to_yaml()


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
