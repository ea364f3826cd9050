"""PyTorch's side of elsewhere.py, run in the peers' environment: nothing of this project is imported.

    python elsewhere_torch.py MODEL TEST.jsonl ENCODER TRAIN.jsonl VALIDATION.jsonl FOLDER

opens MODEL with transformers and with onnxruntime, and writes to FOLDER what they find in TEST; then fine-tunes ENCODER with the Trainer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import transformers
import worker
from peers import first_pieces, tag, with_labels
from transformers import AutoModelForTokenClassification, AutoTokenizer

LONGEST = 512


def by_pipeline(model: str, sentences: list[dict]) -> dict[str, list]:
    """Each word's tag by its first piece, and the entities as [type, first character, one past the last] of the words joined by spaces."""
    words = [s["tokens"] for s in sentences]
    pipe = transformers.pipeline("token-classification", model=model, device="cpu", batch_size=32, ignore_labels=[])
    pieces = pipe(words, is_split_into_words=True, delimiter=" ", aggregation_strategy="none")
    grouped = pipe(words, is_split_into_words=True, delimiter=" ", aggregation_strategy="first")
    tags = []
    for sentence, found in zip(words, pieces, strict=True):
        starts = np.cumsum([0, *(len(word) + 1 for word in sentence)])[:-1].tolist()
        at = {piece["start"]: piece["entity"] for piece in found}
        tags.append([at.get(start) for start in starts])
    entities = [[[e["entity_group"], e["start"], e["end"]] for e in found if e["entity_group"] != "O"] for found in grouped]
    return {"tags": tags, "entities": entities}


def encoded(tokenizer, sentence: dict, case: bool) -> tuple[dict[str, torch.Tensor], list[tuple[int, int]]]:
    pieces = tokenizer(sentence["tokens"], is_split_into_words=True, truncation=True, max_length=LONGEST, return_tensors="pt")
    types = torch.tensor([token_types(sentence["tokens"], pieces.word_ids(0))]) if case else torch.zeros_like(pieces["input_ids"])
    inputs = {"input_ids": pieces["input_ids"], "attention_mask": pieces["attention_mask"], "token_type_ids": types}
    return inputs, first_pieces(pieces.word_ids(0))


def word_case(word: str) -> int:
    """As docs/using_models.md says it to others: 1 without a capital, 2 Capitalised, 3 ALL CAPITALS, 4 any other way."""
    if word == word.lower():
        return 1
    if word[1:] == word[1:].lower():
        return 2
    return 3 if word == word.upper() else 4


def token_types(words: list[str], word_ids: list[int | None]) -> list[int]:
    known = any(w != w.lower() for w in words) and any(w != w.upper() for w in words)
    return [word_case(words[i]) if known and i is not None else 0 for i in word_ids]


def told_case(network) -> bool:
    return bool(getattr(network.config, "ner", {}).get("case"))


@torch.inference_mode()
def logits(model: str, sentences: list[dict]) -> np.ndarray:
    """float32 [words of all sentences, tags], of each word's first piece; NaN for a word without a piece."""
    network, tokenizer = AutoModelForTokenClassification.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    parts = []
    for sentence in sentences:
        inputs, places = encoded(tokenizer, sentence, told_case(network))
        found = network(**inputs).logits[0].numpy()
        part = np.full([len(sentence["tokens"]), found.shape[1]], np.nan, np.float32)
        for place, word in places:
            part[word] = found[place]
        parts.append(part)
    return np.concatenate(parts)


def by_onnx(model: str, sentences: list[dict], path: Path) -> list[list[str | None]]:
    """Export as docs/using_models.md does, then a tag for each word from onnxruntime."""
    network, tokenizer = AutoModelForTokenClassification.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    example = tokenizer("alex lives in london", return_tensors="pt")
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * told_case(network)
    sentences_and_length = {0: torch.export.Dim("sentences"), 1: torch.export.Dim("length", max=LONGEST)}
    torch.onnx.export(
        network,
        kwargs={name: example[name].repeat(2, 1) for name in names},
        f=str(path),
        input_names=names,
        output_names=["logits"],
        dynamic_shapes=dict.fromkeys(names, sentences_and_length),
    )
    session = onnxruntime.InferenceSession(str(path))
    tags = []
    for sentence in sentences:
        inputs, places = encoded(tokenizer, sentence, told_case(network))
        (found,) = session.run(["logits"], {name: inputs[name].numpy() for name in names})
        words: list[str | None] = [None] * len(sentence["tokens"])
        for place, word in places:
            words[word] = network.config.id2label[int(found[0, place].argmax())]
        tags.append(words)
    return tags


def fine_tune(encoder: str, train: list[dict], validation: list[dict], folder: Path) -> list[list[str]]:
    """The Trainer's model after four epochs in ``folder``; its tags for the validation sentences."""
    names = sorted({name for s in train for name in s["tags"]})
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    model = AutoModelForTokenClassification.from_pretrained(encoder, num_labels=len(names), **labels)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        num_train_epochs=4,
        learning_rate=5e-4,
        per_device_train_batch_size=16,
        report_to="none",
        disable_tqdm=True,
    )
    collator = transformers.DataCollatorForTokenClassification(tokenizer)
    data = with_labels(tokenizer, train, labels["label2id"])
    transformers.Trainer(model, arguments, collator, data, processing_class=tokenizer).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tag(model.eval(), tokenizer, validation, names)


def main(model: str, test: str, encoder: str, train: str, validation: str, folder: Path) -> None:
    sentences = worker.read(test)
    np.save(folder / "logits.npy", logits(model, sentences))
    found = {
        "versions": worker.versions() | {"onnxruntime": onnxruntime.__version__},
        "pipeline": by_pipeline(model, sentences),
        "onnx": by_onnx(model, sentences, folder / "model.onnx"),
        "fine_tuned": fine_tune(encoder, worker.read(train), worker.read(validation), folder / "fine_tuned"),
    }
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:6], Path(sys.argv[6]))
