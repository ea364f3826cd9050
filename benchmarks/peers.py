"""Hugging Face's PyTorch stack: run by run.py in an environment of its own (requirements.lock and torch)."""

from __future__ import annotations

import tempfile

import torch
import transformers
import worker
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForTokenClassification, AutoTokenizer

LONGEST = 512


def trainer(
    meter: worker.Meter,
    train: str,
    encoder: str,
    batch: int,
    *,
    compiled: bool = False,
    attention: str = "sdpa",
    epochs: int = 1000,
    learning_rate: float = 5e-5,
    test: str | None = None,
) -> None:
    """transformers.Trainer at its fastest settings: grouped by length, padded to the batch's longest, bfloat16. Work: real word pieces.

    A step is an optimizer step; the samples come in cycles of falling length (LengthGroupedSampler), so a round is whole cycles. With
    ``test`` every epoch ends with its predictions for that file, which are not measured.
    """
    sentences, held_out = worker.read(train), worker.read(test) if test else []
    names = sorted({tag for s in sentences for tag in s["tags"]})
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModelForTokenClassification.from_pretrained(encoder, num_labels=len(names), attn_implementation=attention)
    data = with_labels(tokenizer, sentences, {name: i for i, name in enumerate(names)})
    cycle = max(1, min(len(data) // (4 * batch), 50))
    pieces = 0

    class Counted(transformers.Trainer):
        def training_step(self, model, inputs, *arguments, **more):
            nonlocal pieces
            pieces = int(inputs["attention_mask"].sum())
            return super().training_step(model, inputs, *arguments, **more)

    class Rounds(transformers.TrainerCallback):
        def on_train_begin(self, *arguments, **more):
            meter.start(cycle=1 if test else cycle)

        def on_step_end(self, *arguments, **more):
            meter.step(pieces)

        def on_epoch_end(self, *arguments, **more):
            if test:
                meter.stop()
                model.eval()
                with torch.autocast("cpu", torch.bfloat16):
                    predicted = tag(model, tokenizer, held_out, names)
                model.train()
                meter.report(predicted=predicted)

    with tempfile.TemporaryDirectory() as folder:
        arguments = fastest(folder, batch, torch_compile=compiled, num_train_epochs=epochs, learning_rate=learning_rate)
        collator = transformers.DataCollatorForTokenClassification(tokenizer)
        Counted(model, arguments, collator, data, processing_class=tokenizer, callbacks=[Rounds()]).train()


def fastest(folder: str, batch: int, **more) -> transformers.TrainingArguments:
    """The Trainer's fastest settings on a CPU (RESULTS.md), with nothing saved or logged."""
    return transformers.TrainingArguments(
        output_dir=folder,
        use_cpu=True,
        bf16=True,
        per_device_train_batch_size=batch,
        train_sampling_strategy="group_by_length",  # group_by_length=True of transformers 4
        warmup_steps=0.1,
        weight_decay=0.01,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )


def with_labels(tokenizer, sentences: list[dict], ids: dict[str, int]) -> list[dict]:
    """Word pieces; a word's tag on its first piece, -100 elsewhere."""
    encoded = tokenizer([s["tokens"] for s in sentences], is_split_into_words=True, truncation=True, max_length=LONGEST)
    data = []
    for i, sentence in enumerate(sentences):
        labels = [-100] * len(encoded["input_ids"][i])
        for place, word in first_pieces(encoded.word_ids(i)):
            labels[place] = ids[sentence["tags"][word]]
        data.append({"input_ids": encoded["input_ids"][i], "attention_mask": encoded["attention_mask"][i], "labels": labels})
    return data


def first_pieces(words: list[int | None]) -> list[tuple[int, int]]:
    """(place, word) of each word's first piece."""
    return [(i, w) for i, w in enumerate(words) if w is not None and w != words[i - 1]]


@torch.inference_mode()
def tag(model, tokenizer, sentences: list[dict], names: list[str], batch: int = 32) -> list[list[str]]:
    """What one writes by hand: all sentences encoded at once, batches of like length, a tag for each word by its first piece."""
    encoded = tokenizer([s["tokens"] for s in sentences], is_split_into_words=True, truncation=True, max_length=LONGEST)
    pieces = encoded["input_ids"]
    order = sorted(range(len(pieces)), key=lambda i: -len(pieces[i]))
    tags = [["O"] * len(s["tokens"]) for s in sentences]
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        rows = [torch.tensor(pieces[i]) for i in chosen]
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        logits = model(input_ids=pad_sequence(rows, batch_first=True), attention_mask=mask).logits
        _, best = logits.float().softmax(-1).max(-1)  # the scores are computed, as ours are
        for i, ids in zip(chosen, best.tolist(), strict=True):
            for place, word in first_pieces(encoded.word_ids(i)):
                tags[i][word] = names[ids[place]]
    return tags


def sorted_loop(meter: worker.Meter, model: str, test: str, batch: int) -> None:
    """``tag`` with bfloat16 weights. Work: sentences."""
    network = AutoModelForTokenClassification.from_pretrained(model, dtype=torch.bfloat16).eval()
    tokenizer, sentences = AutoTokenizer.from_pretrained(model), worker.read(test)
    names = [network.config.id2label[i] for i in range(network.config.num_labels)]
    meter.start()
    while True:
        tag(network, tokenizer, sentences, names, batch)
        meter.step(len(sentences))


def pipeline(meter: worker.Meter, model: str, test: str, dtype: str) -> None:
    """transformers.pipeline over the sentences' texts. Work: sentences."""
    tagger = transformers.pipeline("token-classification", model=model, device="cpu", batch_size=32, dtype=getattr(torch, dtype))
    texts = [" ".join(s["tokens"]) for s in worker.read(test)]
    meter.start()
    while True:
        tagger(texts)
        meter.step(len(texts))


if __name__ == "__main__":
    worker.main([trainer, sorted_loop, pipeline])
