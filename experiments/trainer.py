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

import numpy as np
import torch
import transformers
from transformers import AutoModelForTokenClassification, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import worker  # noqa: E402
from peers import LONGEST, fastest, first_pieces, with_labels  # noqa: E402

from ner.decoding import decode  # noqa: E402


@torch.inference_mode()
def log_probabilities(model, tokenizer, sentences: list[dict], batch: int = 32) -> np.ndarray:
    """Of each word's first piece, float32 [words of all sentences, tags]; batches of like length. A word without a piece is O."""
    words = [s["tokens"] for s in sentences]
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=LONGEST)
    starts = np.cumsum([0, *map(len, words)])
    found = np.zeros([starts[-1], model.config.num_labels], np.float32)
    found[:, -1] = 1.0  # O, the last tag in sorted order
    order = sorted(range(len(words)), key=lambda i: -len(encoded["input_ids"][i]))
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        rows = tokenizer.pad({key: [encoded[key][i] for i in chosen] for key in ("input_ids", "attention_mask")}, return_tensors="pt")
        scores = model(**rows).logits.float().log_softmax(-1).numpy()
        for i, row in zip(chosen, scores, strict=True):
            for place, word in first_pieces(encoded.word_ids(i)):
                found[starts[i] + word] = row[place]
    return found


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
    """``rows``: sentences in a batch. bfloat16, batches of like length: the Trainer's fastest settings for it (benchmarks/RESULTS.md).

    ``encoder_dropout``: None for the checkpoint's; the tag layer keeps 0.1.
    """
    transformers.set_seed(seed)
    sentences = worker.read(train)
    others = {name: worker.read(path) for name, path in (("validation", validation), ("test", test)) if path}
    names = sorted({name for s in sentences for name in s["tags"]})
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    dropout = {"hidden_dropout_prob": encoder_dropout, "attention_probs_dropout_prob": encoder_dropout, "classifier_dropout": 0.1}
    model = AutoModelForTokenClassification.from_pretrained(
        encoder, num_labels=len(names), **(dropout if encoder_dropout is not None else {})
    )
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
                likely = {name: log_probabilities(model, tokenizer, some) for name, some in others.items()}
            model.train()
            words = {name: [s["tokens"] for s in some] for name, some in others.items()}
            tags = {name: decode(likely[name], words[name], names, iob2=False)[0] for name in others}
            iob2, _ = decode(likely["validation"], words["validation"], names)
            found.append({"seconds": clock["trained"], **tags, "validation_iob2": iob2})
            print(f"epoch {len(found)}: {clock['trained']:,.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        arguments = fastest(folder, rows, seed=seed, num_train_epochs=epochs, learning_rate=learning_rate)
        collator = transformers.DataCollatorForTokenClassification(tokenizer)
        transformers.Trainer(model, arguments, collator, data, processing_class=tokenizer, callbacks=[Epochs()]).train()
    pieces = sum(len(one["input_ids"]) for one in data) * epochs
    return {"epochs": found, "tokens_per_second": pieces / clock["trained"], "versions": worker.versions()}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(train(**json.loads(sys.argv[2]))), encoding="utf-8")
