"""Hugging Face's Trainer on the files of the grid, in the benchmarks' environment: python trainer.py FOUND.json OPTIONS (a JSON object)

Writes for each epoch the seconds of training so far (evaluation aside) and the tags of the validation and, if given, test sentences: each
word's likeliest, as its users take them, and of the validation sentences also what this project's decoding makes of the same probabilities.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import transformers

from benchmarks import worker
from benchmarks.peers import likeliest, make_trainer, tags_of, while_training
from ner.decoding import decode


def train(
    *,
    train: str,
    validation: str,
    test: str = "",
    encoder: str,
    seed: int,
    rows: int,
    learning_rate: float,
    epochs: int,
    encoder_dropout: float | None = None,
) -> dict:
    """``rows``: sentences in a batch. encoder_dropout: None for the checkpoint's; the tag layer keeps 0.1."""
    transformers.set_seed(seed)
    sentences = worker.read(train)
    others = {name: worker.read(path) for name, path in (("validation", validation), ("test", test)) if path}
    found: list[dict] = []
    clock = {"trained": 0.0, "since": 0.0}

    class Epochs(transformers.TrainerCallback):
        def on_epoch_begin(self, *arguments, **more):
            clock["since"] = time.perf_counter()

        def on_epoch_end(self, *arguments, **more):
            clock["trained"] += time.perf_counter() - clock["since"]
            by_split = {name: while_training(made, some) for name, some in others.items()}
            tags = {name: likeliest(by_split[name], some, made.model) for name, some in others.items()}
            words = [s["tokens"] for s in others["validation"]]
            iob2, _ = decode(by_split["validation"], words, tags_of(made.model))
            found.append({"seconds": clock["trained"], **tags, "validation_iob2": iob2})
            print(f"epoch {len(found)}: {clock['trained']:,.0f} s", flush=True)

    dropout = {"hidden_dropout_prob": encoder_dropout, "attention_probs_dropout_prob": encoder_dropout, "classifier_dropout": 0.1}
    with tempfile.TemporaryDirectory() as folder:
        settings = {"seed": seed, "num_train_epochs": epochs, "learning_rate": learning_rate}
        made = make_trainer(sentences, encoder, rows, folder, model=dropout if encoder_dropout is not None else None, **settings)
        made.add_callback(Epochs())
        made.train()
    pieces = sum(len(one["input_ids"]) for one in made.train_dataset) * epochs
    return {"epochs": found, "tokens_per_second": pieces / clock["trained"], "versions": worker.versions()}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(train(**json.loads(sys.argv[2]))), encoding="utf-8")
