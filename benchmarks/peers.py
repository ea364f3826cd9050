"""Hugging Face's PyTorch stack: run by run.py in an environment of its own (requirements.lock and torch)."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
import transformers
from transformers import AutoModelForTokenClassification, AutoTokenizer

from benchmarks import results, worker
from ner.decoding import decode


def has_bfloat16() -> bool:
    """Whether the device multiplies bfloat16 in hardware. PyTorch imitates it elsewhere, which took three times as long on one CPU."""
    return torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else "bf16" in results.machine()["flags"]


def make_trainer(
    sentences: list[dict], encoder: str, batch: int, folder: str, *, kind=transformers.Trainer, model=None, bf16=None, **settings
):
    """transformers.Trainer at its fastest settings (RESULTS.md): grouped by length, padded to the batch's longest, bfloat16 where it pays.

    Nothing is saved or logged. kind: the class; model: what goes into the model's config.json; settings: more TrainingArguments. Where
    PyTorch has a GPU, it is taken.
    """
    names = sorted({tag for s in sentences for tag in s["tags"]})
    ids = {name: i for i, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    options = {"ignore_mismatched_sizes": True, **(model or {})}  # a checkpoint may have a head, of other tags
    network = AutoModelForTokenClassification.from_pretrained(encoder, id2label=dict(enumerate(names)), label2id=ids, **options)
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        use_cpu=not torch.cuda.is_available(),
        bf16=has_bfloat16() if bf16 is None else bf16,
        per_device_train_batch_size=batch,
        train_sampling_strategy="group_by_length",  # group_by_length=True of transformers 4
        warmup_steps=0.1,
        weight_decay=0.01,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    collator = transformers.DataCollatorForTokenClassification(tokenizer)
    return kind(network, arguments, collator, with_labels(network, tokenizer, sentences, ids), processing_class=tokenizer)


def with_labels(model, tokenizer, sentences: list[dict], ids: dict[str, int]) -> list[dict]:
    """Word pieces; a word's tag on its first piece, -100 elsewhere."""
    encoded = tokenizer(
        [s["tokens"] for s in sentences], is_split_into_words=True, truncation=True, max_length=model.config.max_position_embeddings
    )
    data = []
    for i, sentence in enumerate(sentences):
        labels = [-100] * len(encoded["input_ids"][i])
        for place, word in first_pieces(encoded.word_ids(i)):
            labels[place] = ids[sentence["tags"][word]]
        data.append({"input_ids": encoded["input_ids"][i], "attention_mask": encoded["attention_mask"][i], "labels": labels})
    return data


def first_pieces(words: list[int | None]) -> np.ndarray:
    """(place, word) of each word's first piece: int64 [words, 2]."""
    return np.array([(i, w) for i, w in enumerate(words) if w is not None and w != words[i - 1]], np.int64).reshape(-1, 2)


def tags_of(model) -> list[str]:
    """The model's tags by id."""
    return [model.config.id2label[i] for i in range(model.config.num_labels)]


def log_probabilities(forward, model, tokenizer, sentences: list[dict], batch: int = 32) -> np.ndarray:
    """Of each word's first piece, float32 [words of all sentences, tags], as ner/decoding.py takes them. A word without a piece is O.

    What one writes by hand: all sentences encoded at once, batches of like length. forward: the keys and values of a batch, tensors, to
    logits.
    """
    words = [s["tokens"] for s in sentences]
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=model.config.max_position_embeddings)
    keys = ("input_ids", "attention_mask")
    starts = np.cumsum([0, *map(len, words)])
    found = np.zeros([starts[-1], model.config.num_labels], np.float32)
    found[:, tags_of(model).index("O")] = 1.0
    order = sorted(range(len(words)), key=lambda i: -len(encoded["input_ids"][i]))
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        rows = tokenizer.pad({key: [encoded[key][i] for i in chosen] for key in keys}, return_tensors="pt")
        with torch.inference_mode():
            scores = forward(**rows).float().log_softmax(-1).cpu().numpy()
        for i, row in zip(chosen, scores, strict=True):
            places, word = first_pieces(encoded.word_ids(i)).T
            found[starts[i] + word] = row[places]
    return found


def by_model(model, tokenizer, sentences: list[dict], batch: int = 32) -> np.ndarray:
    """``log_probabilities`` by a model of transformers."""

    def forward(**rows):
        return model(**{key: value.to(model.device) for key, value in rows.items()}).logits

    return log_probabilities(forward, model, tokenizer, sentences, batch)


def while_training(made: transformers.Trainer, sentences: list[dict]) -> np.ndarray:
    """The same by a model that is being trained, in the number type in which it trains."""
    made.model.eval()
    with torch.autocast(made.model.device.type, torch.bfloat16, enabled=made.args.bf16):
        found = by_model(made.model, made.processing_class, sentences)
    made.model.train()
    return found


def likeliest(found: np.ndarray, sentences: list[dict], model) -> list[list[str]]:
    """Each word's likeliest tag."""
    return decode(found, [s["tokens"] for s in sentences], tags_of(model), iob2=False)[0]


def trainer(
    meter: worker.Meter,
    train: str,
    encoder: str,
    batch: int,
    *,
    compiled: bool = False,
    attention: str = "sdpa",
    bf16: bool | None = None,
    epochs: int = 1000,
    learning_rate: float = 5e-5,
    test: str | None = None,
    every: int = 1,
) -> None:
    """``make_trainer``'s. Work: real word pieces.

    A step is an optimizer step; the samples come in cycles of falling length (LengthGroupedSampler), so a round is whole cycles. With
    ``test`` every epoch ends with its tags for that file, which is not timed. every: of a cycle's batches every so many, long and short
    alike, where whole cycles would take too long.
    """
    sentences, held_out = worker.read(train), worker.read(test) if test else []
    cycle = max(1, min(len(sentences) // (4 * batch), 50))
    pieces = 0

    class Counted(transformers.Trainer):
        def _get_train_sampler(self, *arguments):
            sampler = super()._get_train_sampler(*arguments)
            kept = (place for i, place in enumerate(sampler) if i // batch % cycle % every == every // 2)
            return sampler if every == 1 else list(kept)

        def training_step(self, model, inputs, *arguments, **more):
            nonlocal pieces
            pieces = int(inputs["attention_mask"].sum())
            return super().training_step(model, inputs, *arguments, **more)

    class Rounds(transformers.TrainerCallback):
        def on_train_begin(self, *arguments, **more):
            meter.start(cycle=1 if test else len(range(every // 2, cycle, every)))

        def on_step_end(self, *arguments, **more):
            meter.step(pieces)

        def on_epoch_end(self, *arguments, **more):
            if test:
                meter.stop()
                meter.report(predicted=likeliest(while_training(made, held_out), held_out, made.model))

    with tempfile.TemporaryDirectory() as folder:
        settings = {"torch_compile": compiled, "bf16": bf16, "num_train_epochs": epochs, "learning_rate": learning_rate}
        made = make_trainer(sentences, encoder, batch, folder, kind=Counted, model={"attn_implementation": attention}, **settings)
        made.add_callback(Rounds())
        made.train()


def trainer_prediction(meter: worker.Meter, model: str, test: str, batch: int) -> None:
    """``make_trainer``'s, its weights in bfloat16 where it pays. Work: sentences."""
    sentences = worker.read(test)
    with tempfile.TemporaryDirectory() as folder:
        made = make_trainer(sentences, model, batch, folder, bf16_full_eval=has_bfloat16(), per_device_eval_batch_size=batch)
        meter.start()
        while True:
            made.predict(made.train_dataset)
            meter.step(len(sentences))


def sorted_loop(meter: worker.Meter, model: str, test: str, batch: int) -> None:
    """``by_model`` with bfloat16 weights where it pays. Work: sentences."""
    dtype = torch.bfloat16 if has_bfloat16() else torch.float32
    network = AutoModelForTokenClassification.from_pretrained(model, dtype=dtype).eval()
    tokenizer, sentences = AutoTokenizer.from_pretrained(model), worker.read(test)
    meter.start()
    while True:
        likeliest(by_model(network, tokenizer, sentences, batch), sentences, network)
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
    worker.main([trainer, trainer_prediction, sorted_loop, pipeline])
