"""Does a model trained here do the same in PyTorch and in ONNX, and one trained in PyTorch the same here? As docs/using_models.md says.

    .venv-bench/bin/python tools/interop.py --test ner_dataset.csv             a small random encoder of each family
    .venv-bench/bin/python tools/interop.py --ckpt runs/gmb --test FILE        a model trained here

Runs in the environment that ``make bench`` makes (PyTorch, onnx, onnxruntime); --python names the project's own, in which evaluate.py and
train.py run. The export to ONNX is run as docs/using_models.md has it. All in float32, on the first sentences of --test that fit one row:
longer ones are tagged here in overlapping windows. Prints how many words differ, and ends with status 1 if one does.

Without --ckpt each family's encoder is made as pre-training leaves one (with its heads and poolers, and a tokenizer of the family's kind),
and trained on the sample corpus: here with train.py, and in PyTorch with the Trainer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from safetensors.numpy import load_file  # noqa: E402

from benchmarks import worker  # noqa: E402
from ner.decoding import decode  # noqa: E402

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
Tags = list[list[str]]
SENTENCES = 500
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "modernbert")
SMALL = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128, "max_position_embeddings": 512}
ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1}
PARTICULAR = {
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": {"hidden_dim": 128},
    "electra": {"embedding_size": 32},
    "modernbert": {"local_attention": 16},
}


def documented(mark: str) -> str:
    """The block of Python in docs/using_models.md that holds ``mark``."""
    text = (ROOT / "docs" / "using_models.md").read_text(encoding="utf-8")
    return next(block for block in re.findall("^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if mark in block)


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
        at = {piece["start"]: piece["entity"] for piece in reversed(pieces)}  # the first, where two begin at one place
        starts = [sum(len(word) + 1 for word in sentence[:i]) for i in range(len(sentence))]
        # Unigram counts the space before a word to the piece.
        tags.append([at.get(start - 1, at.get(start, "O")) for start in starts])
    return tags


def onnx_forward(model: Path, path: Path):
    """The model exported to ``path`` as docs/using_models.md does, opened by onnxruntime: a function from a batch to logits."""
    import onnxruntime
    import torch

    exec(documented("torch.onnx.export").replace('"runs/gmb/model"', repr(str(model))).replace('"model.onnx"', repr(str(path))), {})
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
    """The sentences that evaluate.py does not cut: its rows are as long as in training, or 512 for a model from elsewhere."""
    from transformers import AutoTokenizer

    longest = json.loads((model / "config.json").read_text(encoding="utf-8")).get("ner", {}).get("row_length", 512)
    pieces = AutoTokenizer.from_pretrained(model)([s["tokens"] for s in sentences], is_split_into_words=True)["input_ids"]
    return [sentence for sentence, some in zip(sentences, pieces, strict=True) if len(some) <= longest][:SENTENCES]


def write(path: Path, sentences: list[dict]) -> Path:
    path.write_text("".join(json.dumps(s) + "\n" for s in sentences), encoding="utf-8")
    return path


def as_from_elsewhere(model: Path, folder: Path) -> Path:
    """A copy without what training noted in config.json: evaluate.py then gives each word its likeliest tag, without Viterbi."""
    shutil.copytree(model, folder)
    (folder / "SHA256SUMS").unlink()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["ner"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def from_here(python: str, model: Path, sentences: list[dict], folder: Path) -> int:
    """A model trained here, elsewhere: how many tags differ."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    from benchmarks import peers

    network, tokenizer = AutoModelForTokenClassification.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    sentences = in_one_row(model, sentences)
    data, words = write(folder / "test.jsonl", sentences), [s["tokens"] for s in sentences]
    found = peers.by_model(network, tokenizer, sentences)
    likeliest = peers.likeliest(found, sentences, network)
    ours = tagged_here(python, as_from_elsewhere(model, folder / "plain"), data)
    say_share(ours)
    wrong = differing("AutoModelForTokenClassification, each word's likeliest tag", ours, likeliest)
    wrong += differing("the pipeline's tags", ours, pipeline_tags(model, sentences))
    ours, names = tagged_here(python, model, data), peers.tags_of(network)
    table = model / "transitions.safetensors"
    transitions = load_file(table)["transitions"] if table.exists() else 0.0  # a model of --head linear has none
    wrong += differing("ner/decoding.py on PyTorch's log-probabilities", ours, decode(found, words, names, transitions=transitions)[0])
    in_onnx = peers.log_probabilities(onnx_forward(model, folder / "model.onnx"), network, tokenizer, sentences)
    return wrong + differing("the same on onnxruntime's", ours, decode(in_onnx, words, names, transitions=transitions)[0])


def say_share(tags: Tags) -> None:
    """How many words have a tag other than O: a model that says O to all would agree with any other."""
    every = [tag for sentence in tags for tag in sentence]
    print(f"{sum(tag != 'O' for tag in every) / len(every):.1%} of the words have a tag other than O", flush=True)


def from_elsewhere(python: str, encoder: str, sentences: list[dict], folder: Path, **settings) -> int:
    """A model that the Trainer fine-tunes on the sample corpus, here: how many tags differ; then train.py goes on from it."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    from benchmarks import peers

    model = folder / "fine_tuned"
    train = worker.read(str(as_jsonl(python, "sample/train.csv", folder / "train.jsonl")))
    made = peers.make_trainer(train, encoder, 16, str(folder / "trainer"), **settings)
    made.train()
    made.save_model(str(model))  # the tokenizer too
    some = in_one_row(model, sentences)
    # Read again from the folder: the Trainer's own object goes on computing in bfloat16.
    network, tokenizer = AutoModelForTokenClassification.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    theirs = peers.likeliest(peers.by_model(network, tokenizer, some), some, network)
    ours = tagged_here(python, model, write(folder / "some.jsonl", some))
    say_share(ours)
    wrong = differing("the Trainer's model, here and in PyTorch", ours, theirs)
    train_here(python, str(model), folder / "more", "--epochs", "1")
    return wrong


def as_jsonl(python: str, corpus: str, path: Path) -> Path:
    """A corpus of any format, written by the project's environment, which reads it."""
    code = f"from ner import formats; formats.write({str(path)!r}, formats.read({corpus!r}))"
    subprocess.run([python, "-c", code], check=True, cwd=ROOT)
    return path


def train_here(python: str, encoder: str, output: Path, *options: str) -> Path:
    """The model of a run of train.py on the sample corpus."""
    files = ["--train", "sample/train.csv", "--validation", "sample/validation.csv", "--output", str(output)]
    command = [python, "train.py", "--encoder", encoder, *files, "--tpu", "none", *options]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return output / "model"


def random_encoder(family: str, words: list[list[str]], folder: Path) -> Path:
    """A small encoder of the family with random weights, saved as its class for pre-training, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM, BertForPreTraining, ElectraForPreTraining

    from tools import small_tokenizers

    torch.manual_seed(0)
    tokenizer = small_tokenizers.of_family(family, [" ".join(sentence) for sentence in words], 2000)
    names = ("pad", "cls", "sep", "bos", "eos")
    ids = {f"{name}_token_id": number for name in names if (number := getattr(tokenizer, f"{name}_token_id")) is not None}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **(SMALL | ids | PARTICULAR.get(family, {})))
    pre_trained = {"bert": BertForPreTraining, "electra": ElectraForPreTraining}.get(family)
    network = pre_trained(config) if pre_trained else AutoModelForMaskedLM.from_config(config)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def check_family(python: str, family: str, sentences: list[dict], folder: Path) -> int:
    """A small random encoder of the family trained here and in PyTorch: how many tags differ."""
    print(f"\n{family}", flush=True)
    words = [s["tokens"] for s in worker.read(str(as_jsonl(python, "sample/train.csv", folder / "sample.jsonl")))]
    encoder = str(random_encoder(family, words, folder / "encoder"))
    model = train_here(python, encoder, folder / "run", "--epochs", "12", "--learning-rate", "3e-3")
    wrong = from_here(python, model, sentences, folder)
    return wrong + from_elsewhere(python, encoder, sentences, folder, num_train_epochs=8, learning_rate=3e-3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="*", default=FAMILIES, help="without --ckpt: the families to check; all if none is named")
    parser.add_argument("--ckpt", type=Path, help="a run folder or a model folder")
    parser.add_argument(
        "--test", default=str(ROOT / "sample" / "validation.csv"), help="a corpus file; without it the sample's validation sentences"
    )
    parser.add_argument("--python", default=str(ROOT / ".venv" / "bin" / "python"), help="Python of the project's environment")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interop-") as name:
        folder = Path(name)
        sentences = worker.read(str(as_jsonl(given.python, os.path.abspath(given.test), folder / "all.jsonl")))
        if given.ckpt:
            model = given.ckpt.resolve() / "model" if (given.ckpt / "model").is_dir() else given.ckpt.resolve()
            find = "from ner import pretrained; from ner.config import Config; print(pretrained.find(Config.encoder).folder)"
            encoder = subprocess.run([given.python, "-c", find], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
            wrong = from_here(given.python, model, sentences, folder)
            wrong += from_elsewhere(given.python, encoder, sentences, folder, num_train_epochs=4, learning_rate=5e-4)
        else:
            wrong = 0
            for family in given.family:
                (folder / family).mkdir()
                wrong += check_family(given.python, family, sentences, folder / family)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
