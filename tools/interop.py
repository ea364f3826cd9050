"""Does a model trained here do the same in PyTorch and in ONNX, and one trained in PyTorch the same here? As docs/using_models.md says.

    .venv-bench/bin/python tools/interop.py --ckpt runs/gmb --test data/gmb/last10.jsonl

Runs in the environment that ``make bench`` makes (PyTorch, onnx, onnxruntime); --python names the project's own, in which evaluate.py and
train.py run. The code in docs/using_models.md is what is run here. All in float32, on the sentences that fit one row: longer ones are
tagged here in overlapping windows. Prints how many words differ, and ends with status 1 if one does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import worker  # noqa: E402
from ner.decoding import decode  # noqa: E402

os.environ["HF_HUB_OFFLINE"] = "1"
Tags = list[list[str]]


def documented(mark: str) -> str:
    """The block of Python in docs/using_models.md that holds ``mark``."""
    text = (ROOT / "docs" / "using_models.md").read_text(encoding="utf-8")
    return next(block for block in re.findall("^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if mark in block)


def token_types():
    """The function of that name in docs/using_models.md."""
    scope: dict = {}
    exec(re.search("^def word_case.*?(?=^pieces = )", documented("def token_types"), re.MULTILINE | re.DOTALL)[0], scope)
    return scope["token_types"]


def tagged_here(python: str, model: Path, data: Path) -> Tags:
    """The words' tags by evaluate.py."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "predicted.conll")
        options = ["--ckpt", model, "--data", data, "--predictions", path, "--compute-dtype", "float32"]
        subprocess.run([python, "evaluate.py", *map(str, options)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        return [[tag for _, _, tag in lines] for lines in worker.read_conll(path)]


def pipeline_tags(model: Path, sentences: list[dict]) -> Tags:
    """Each word's tag by transformers' pipeline: that of the piece that begins where the word does."""
    import transformers

    words = [s["tokens"] for s in sentences]
    pipe = transformers.pipeline("token-classification", model=str(model), device="cpu", batch_size=32, ignore_labels=[])
    tags = []
    for sentence, pieces in zip(words, pipe(words, is_split_into_words=True, delimiter=" "), strict=True):
        at = {piece["start"]: piece["entity"] for piece in pieces}
        starts = [sum(len(word) + 1 for word in sentence[:i]) for i in range(len(sentence))]
        tags.append([at.get(start, "O") for start in starts])
    return tags


def onnx_forward(model: Path, path: Path, case: bool):
    """The model exported to ``path`` as docs/using_models.md does, opened by onnxruntime: a function from a batch to logits."""
    import onnxruntime
    import torch

    code = documented("torch.onnx.export").replace('"runs/gmb/model"', repr(str(model))).replace('"model.onnx"', repr(str(path)))
    if case:
        code = code.replace('"attention_mask"]', '"attention_mask", "token_type_ids"]')
    exec(code, {})
    session = onnxruntime.InferenceSession(str(path))
    names = [one.name for one in session.get_inputs()]
    return lambda **rows: torch.from_numpy(session.run(["logits"], {name: rows[name].numpy() for name in names})[0])


def differing(what: str, ours: Tags, theirs: Tags) -> int:
    """Say and return how many words' tags differ."""
    pairs = [(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)]
    number = sum(a != b for a, b in pairs)
    print(f"{what}: {number:,} of {len(pairs):,} words differ", flush=True)
    return number


def in_one_row(model: Path, sentences: list[dict]) -> list[dict]:
    """The sentences that evaluate.py does not cut: its rows are as long as in training, or 128 for a model from elsewhere."""
    from transformers import AutoTokenizer

    longest = json.loads((model / "config.json").read_text(encoding="utf-8")).get("ner", {}).get("row_length", 128)
    pieces = AutoTokenizer.from_pretrained(model)([s["tokens"] for s in sentences], is_split_into_words=True)["input_ids"]
    return [sentence for sentence, some in zip(sentences, pieces, strict=True) if len(some) <= longest]


def write(path: Path, sentences: list[dict]) -> Path:
    path.write_text("".join(json.dumps(s) + "\n" for s in sentences), encoding="utf-8")
    return path


def from_here(python: str, model: Path, sentences: list[dict], folder: Path) -> int:
    """A model trained here, elsewhere: how many tags differ."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    from benchmarks import peers

    network, tokenizer = AutoModelForTokenClassification.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    case = bool(getattr(network.config, "ner", {}).get("case"))
    sentences = in_one_row(model, sentences)
    words, types = [s["tokens"] for s in sentences], token_types() if case else None
    ours = tagged_here(python, model, write(folder / "test.jsonl", sentences))
    found = peers.by_model(network, tokenizer, sentences, token_types=types)
    wrong = differing("ner/decoding.py on PyTorch's log-probabilities", ours, decode(found, words, peers.tags_of(network))[0])
    forward = onnx_forward(model, folder / "model.onnx", case)
    in_onnx = peers.log_probabilities(forward, network, tokenizer, sentences, token_types=types)
    wrong += differing("the same on onnxruntime's", ours, decode(in_onnx, words, peers.tags_of(network))[0])
    plain = peers.by_model(network, tokenizer, sentences) if case else found  # the pipeline gives no token types
    return wrong + differing(
        "the pipeline's tags, each word's likeliest", peers.likeliest(plain, sentences, network), pipeline_tags(model, sentences)
    )


def from_elsewhere(python: str, encoder: str, folder: Path) -> int:
    """A model that the Trainer fine-tunes on the sample corpus, here: how many tags differ; then train.py goes on from it."""
    from benchmarks import peers

    model, names = folder / "fine_tuned", ("train", "validation")
    for name in names:  # in the project's environment, which reads the sample
        code = f"from ner import formats; formats.write({str(folder / name) + '.jsonl'!r}, formats.read('sample/{name}.csv'))"
        subprocess.run([python, "-c", code], check=True, cwd=ROOT)
    train, validation = (worker.read(str(folder / f"{name}.jsonl")) for name in names)
    made = peers.make_trainer(train, encoder, 16, str(folder / "trainer"), num_train_epochs=4, learning_rate=5e-4)
    made.train()
    made.save_model(str(model))  # the tokenizer too
    some, network = in_one_row(model, validation), made.model.eval()
    theirs = peers.likeliest(peers.by_model(network.float(), made.processing_class, some), some, network)
    wrong = differing("the Trainer's model, here and in PyTorch", tagged_here(python, model, write(folder / "some.jsonl", some)), theirs)
    files = ["--train", f"{folder}/train.jsonl", "--validation", f"{folder}/validation.jsonl", "--output", f"{folder}/more"]
    subprocess.run([python, "train.py", "--encoder", str(model), *files, "--epochs", "1"], check=True, cwd=ROOT)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", type=Path, required=True, help="a run folder or a model folder")
    parser.add_argument("--test", required=True, help="JSONL of tokens and tags")
    parser.add_argument("--python", default=str(ROOT / ".venv" / "bin" / "python"), help="Python of the project's environment")
    given = parser.parse_args()
    model = given.ckpt.resolve() / "model" if (given.ckpt / "model").is_dir() else given.ckpt.resolve()
    find = "from ner import pretrained; from ner.config import Config; print(pretrained.find(Config.encoder).folder)"
    encoder = subprocess.run([given.python, "-c", find], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="interop-") as name:
        wrong = from_here(given.python, model, worker.read(given.test), Path(name))
        wrong += from_elsewhere(given.python, encoder, Path(name))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
