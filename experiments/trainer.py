"""Hugging Face's Trainer on the files of the grid, in the benchmarks' environment: python trainer.py FOUND.json OPTIONS (a JSON object)

Writes for each epoch the seconds of training so far (evaluation aside) and the tags of the validation sentences: each word's likeliest, as
its users take them, and what this project's decoding makes of the same probabilities. If there are test sentences, the weights of the epoch
that is best by the former tag them, in both ways. The environment has no seqeval, so the other scores are grid.py's work.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

from benchmarks import worker
from benchmarks.peers import likeliest, make_trainer, tags_of, while_training
from ner import scoring
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
    sentences, validated = worker.read(train), worker.read(validation)
    words, gold = [s["tokens"] for s in validated], [s["tags"] for s in validated]
    found: list[dict] = []
    clock = {"trained": 0.0, "since": 0.0}
    best: dict = {"f1": -1.0}

    class Epochs(transformers.TrainerCallback):
        def on_epoch_begin(self, *arguments, **more):
            clock["since"] = time.perf_counter()

        def on_epoch_end(self, arguments, state, *others, **more):
            clock["trained"] += time.perf_counter() - clock["since"]
            probabilities = while_training(made, validated)
            tags, (iob2, _) = likeliest(probabilities, validated, made.model), decode(probabilities, words, tags_of(made.model))
            found.append({"step": state.global_step, "seconds": clock["trained"], "validation": tags, "validation_iob2": iob2})
            print(f"epoch {len(found)}: {clock['trained']:,.0f} s", flush=True)
            right, tagged, annotated = scoring.Evaluation(words, gold, tags).counts.sum(0)
            f1 = 2 * right / max(1, tagged + annotated)
            if test and f1 > best["f1"]:
                best.update(f1=f1, weights={name: value.clone() for name, value in made.model.state_dict().items()})

    dropout = {"hidden_dropout_prob": encoder_dropout, "attention_probs_dropout_prob": encoder_dropout, "classifier_dropout": 0.1}
    predicted: dict[str, list[list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = {"seed": seed, "num_train_epochs": epochs, "learning_rate": learning_rate}
        made = make_trainer(sentences, encoder, rows, folder, model=dropout if encoder_dropout is not None else None, **settings)
        made.add_callback(Epochs())
        made.train()
        if test:
            made.model.load_state_dict(best["weights"])
            tested = worker.read(test)
            probabilities = while_training(made, tested)
            iob2, _ = decode(probabilities, [s["tokens"] for s in tested], tags_of(made.model))
            predicted = {"test": likeliest(probabilities, tested, made.model), "test_iob2": iob2}
    pieces = sum(len(one["input_ids"]) for one in made.train_dataset) * epochs
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    speed = {"tokens_per_second": pieces / clock["trained"], "versions": worker.versions(), "gpu": gpu}
    return {"epochs": found, "predicted": predicted, **speed}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(train(**json.loads(sys.argv[2]))), encoding="utf-8")
