"""Does a model trained here do the same in PyTorch and in ONNX, and one trained in PyTorch the same here?

    python benchmarks/elsewhere.py --ckpt runs/gmb --test data/gmb/last10.jsonl

Each word's likeliest tag and the entities of transformers' pipeline, logits of its model, and tags of onnxruntime against this project's,
all in float32; what ner/decoding.py makes of PyTorch's logits; then a model that the Trainer fine-tunes on the sample corpus, scored in
PyTorch and here, and trained on. Results in RESULTS.md.
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

import numpy as np
import results
import worker
from scipy.special import log_softmax

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ner import formats, pretrained, scoring  # noqa: E402
from ner.config import Config  # noqa: E402
from ner.decoding import decode  # noqa: E402
from ner.inference import Tagger, model_folder  # noqa: E402

WHOLE = 512  # row length at which no sentence is cut into windows, as PyTorch's side cuts none


def our_logits(folder: Path, words: list[list[str]]) -> np.ndarray:
    """float32 [words, tags], from packed rows."""
    import tensorflow as tf

    from ner import batches
    from ner.tagger import TaggingModel
    from ner.wordpieces import WordPieces

    shape, tags = pretrained.encoder_config(folder), pretrained.tag_names(folder)
    model = TaggingModel(shape, len(tags), compute_dtype=tf.float32)
    pretrained.load(model, folder, classifier=True)
    windows = WordPieces.load(folder, shape.vocab_size, case=pretrained.trained_with(folder)["case"]).encode(words, WHOLE)
    no_labels = batches.Labels(np.zeros(0, np.int32), padding_id=0)
    rows = batches.make_rows(windows, "packed", WHOLE, no_labels, np.arange(len(windows.sentences)))[0]
    found = np.zeros([windows.num_words, len(tags)], np.float32)
    for number in range(len(rows.pieces)):
        row = rows.take(slice(number, number + 1))
        logits = model(*map(tf.constant, row[:4]), tf.constant(0, tf.uint32), training=False).numpy()
        asked = row.words >= 0
        found[row.words[asked]] = logits[asked][:, : len(tags)]
    return found


def characters(words: list[str], tags: list[str]) -> list[list]:
    """The entities of a sentence as [type, first character, one past the last] of its words joined by spaces."""
    starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
    return [[kind, starts[first], starts[end] - 1] for kind, first, end in scoring.spans(tags)]


def differing(ours: list[list], theirs: list[list]) -> str:
    pairs = [(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)]
    return f"{sum(a != b for a, b in pairs):,} of {len(pairs):,}"


def command(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--test", required=True, help="JSONL of tokens and tags")
    parser.add_argument("--peers", default=str(ROOT / ".venv-bench" / "bin" / "python"), help="Python of the peers' environment")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    sentences, model = formats.read(given.test), model_folder(given.ckpt)
    words = [s.words for s in sentences]
    with tempfile.TemporaryDirectory(prefix="elsewhere-") as name:
        folder = Path(name)
        sample = {part: formats.read(ROOT / "sample" / f"{part}.csv") for part in ("train", "validation")}
        for part, some in sample.items():
            formats.write(folder / f"{part}.jsonl", some)
        encoder = pretrained.find(Config.encoder)
        files = [model, given.test, encoder, folder / "train.jsonl", folder / "validation.jsonl", folder]
        script = [given.peers, str(Path(__file__).with_name("elsewhere_torch.py"))]
        subprocess.run([*script, *map(str, files)], check=True, cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        theirs = json.loads((folder / "found.json").read_text())
        theirs_logits = np.load(folder / "logits.npy")

        tagger = Tagger.load(model, compute_dtype="float32")
        windowed, _ = tagger.tag(words)
        tagger.row_length = WHOLE
        ours, _ = tagger.tag(words)
        decoded, _ = decode(log_softmax(np.nan_to_num(theirs_logits), axis=1), words, tagger.tags)
        tagger.iob2 = False
        likeliest, _ = tagger.tag(words)
        entities = [[characters(w, t)] for w, t in zip(words, likeliest, strict=True)]
        grouped = [[e] for e in theirs["pipeline"]["entities"]]
        plain = [i for i, sentence in enumerate(words) if not any(len(w) > 1 and re.search(r"\W|_", w) for w in sentence)]
        logits = np.abs(our_logits(model, words) - theirs_logits)

        gold = [s.tags for s in sample["validation"]]
        scores = folder / "scores.json"
        validation = str(folder / "validation.jsonl")
        command(
            "evaluate.py", "--ckpt", str(folder / "fine_tuned"), "--data", validation, "--json", str(scores), "--compute-dtype", "float32"
        )
        evaluated = json.loads(scores.read_text())
        more = ["--encoder", str(folder / "fine_tuned"), "--train", str(folder / "train.jsonl"), "--validation", validation]
        trained_on = command("train.py", *more, "--epochs", "1", "--output", str(folder / "more"))
    (best,) = re.findall(r"best validation F1 (\d\.\d{4})", trained_on)
    piped = [[tag or "O" for tag in tags] for tags in theirs["pipeline"]["tags"]]
    annotated = [s.tags for s in sentences]
    rows = [
        ["F1 here, by the likeliest tags that are IOB2", f"{scoring.score(annotated, ours).f1:.4f}"],
        ["F1 by each word's likeliest tag", f"{scoring.score(annotated, likeliest).f1:.4f}"],
        ["F1 by the pipeline, which gives no token types", f"{scoring.score(annotated, piped).f1:.4f}"],
        ["words whose likeliest tag differs from the pipeline's", differing(likeliest, theirs["pipeline"]["tags"])],
        ["sentences whose entities differ from the pipeline's by aggregation_strategy first", differing(entities, grouped)],
        ["of them those without punctuation inside a word", differing([entities[i] for i in plain], [grouped[i] for i in plain])],
        ["largest difference of a logit from PyTorch's", f"{np.nanmax(logits):.1e}"],
        ["words without a logit in PyTorch", f"{int(np.isnan(logits[:, 0]).sum()):,}"],
        ["words whose likeliest tag differs from onnxruntime's", differing(likeliest, theirs["onnx"])],
        ["words whose tag differs from what ner/decoding.py makes of PyTorch's logits", differing(ours, decoded)],
        ["words whose tag differs with sentences cut at the training's row length", differing(ours, windowed)],
        ["F1 of the Trainer's model on the sample, in PyTorch", f"{scoring.score(gold, theirs['fine_tuned']).f1:.6f}"],
        ["the same by evaluate.py", f"{evaluated['f1']:.6f}"],
        ["after an epoch more by train.py from its encoder, the tag layer new", best],
    ]
    note = (
        "The pipeline takes U.S. for four words, each with a tag of its own; here, as in training, a word has the tag of its first piece."
    )
    table = results.Table(f"{len(words):,} sentences of {Path(given.test).name}, float32.", ["", "seen"], rows, [note])
    line = f"python benchmarks/elsewhere.py --ckpt {Path(given.ckpt).name} --test {Path(given.test).name}"
    results.write(given.results, "elsewhere", line, [table], theirs["versions"] | worker.versions(), rows, {})
    print(table.markdown())


if __name__ == "__main__":
    main()
