"""Hugging Face's Trainer on the files of the grid, in the benchmarks' environment: python trainer.py FOUND.json OPTIONS (a JSON object)

Writes for each epoch the seconds of training so far (evaluation aside) and the tags of the validation and, if given, test sentences.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForTokenClassification, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import worker  # noqa: E402
from peers import fastest, tag, with_labels  # noqa: E402


def train(*, train: str, validation: str, test: str = "", encoder: str, seed: int, rows: int, learning_rate: float, epochs: int) -> dict:
    """``rows``: sentences in a batch. bfloat16, batches of like length: the Trainer's fastest settings (benchmarks/RESULTS.md)."""
    transformers.set_seed(seed)
    sentences = worker.read(train)
    others = {name: worker.read(path) for name, path in (("validation", validation), ("test", test)) if path}
    names = sorted({name for s in sentences for name in s["tags"]})
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModelForTokenClassification.from_pretrained(encoder, num_labels=len(names))
    data = with_labels(tokenizer, sentences, {name: i for i, name in enumerate(names)})
    found: list[dict] = []
    clock = {"trained": 0.0, "since": 0.0}

    class Epochs(transformers.TrainerCallback):
        def on_epoch_begin(self, *arguments, **more):
            clock["since"] = time.perf_counter()

        def on_epoch_end(self, *arguments, **more):
            clock["trained"] += time.perf_counter() - clock["since"]
            model.eval()
            with torch.autocast("cpu", torch.bfloat16):
                tags = {name: tag(model, tokenizer, some, names) for name, some in others.items()}
            model.train()
            found.append({"seconds": clock["trained"], **tags})
            print(f"epoch {len(found)}: {clock['trained']:,.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        arguments = fastest(folder, rows, seed=seed, num_train_epochs=epochs, learning_rate=learning_rate)
        collator = transformers.DataCollatorForTokenClassification(tokenizer)
        transformers.Trainer(model, arguments, collator, data, processing_class=tokenizer, callbacks=[Epochs()]).train()
    pieces = sum(len(one["input_ids"]) for one in data) * epochs
    return {"epochs": found, "tokens_per_second": pieces / clock["trained"]}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(train(**json.loads(sys.argv[2]))), encoding="utf-8")
