"""What does a model trained here score where there is no code of ours? A table of F1 (seqeval's default mode), a column for each run.

    .venv-bench/bin/python tools/elsewhere.py runs/gmb-0 runs/gmb-1 --test test.jsonl

Runs in the environment that ``make bench`` makes; --python names the project's own, in which evaluate.py runs. The rows:

- here: evaluate.py, which decodes with Viterbi.
- here, likeliest tags: the same without Viterbi. As in PyTorch, no sentence of up to 512 word pieces is cut. Also with all words in small
  letters, and all in capitals.
- PyTorch: AutoTokenizer on the words, AutoModelForTokenClassification, each word's tag that of its first piece. Then the words whose tag is
  not that of the row before: all in float32.
- pipeline: transformers' with ``aggregation_strategy="first"`` on the words with a space between; an entity is right if its characters are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import peers, results, worker  # noqa: E402
from ner.sentences import entity_spans  # noqa: E402
from tools import interop  # noqa: E402


def in_letters(sentences: list[dict], letters) -> list[dict]:
    return [{**s, "tokens": [letters(word) for word in s["tokens"]]} for s in sentences]


def f1(gold: list[set], found: list[set]) -> float:
    """Of entities that are right if they are the same: micro-averaged. (seqeval is not in the peers' environment.)"""
    return 2 * sum(len(a & b) for a, b in zip(gold, found, strict=True)) / sum(len(a) + len(b) for a, b in zip(gold, found, strict=True))


def entities(tags: interop.Tags) -> list[set]:
    """Of each sentence: type, first word, end."""
    return [set(entity_spans(of_sentence)) for of_sentence in tags]


def characters(sentence: dict) -> set[tuple[str, int, int]]:
    """The annotated entities: type, first character and the end in the words with a space between."""
    starts = [0]
    for word in sentence["tokens"]:
        starts.append(starts[-1] + len(word) + 1)
    return {(kind, starts[first], starts[end] - 1) for kind, first, end in entity_spans(sentence["tags"])}


def by_pipeline(model: Path, sentences: list[dict]) -> float:
    """F1 of the pipeline's entities on running text."""
    import transformers

    pipe = transformers.pipeline("token-classification", model=str(model), device="cpu", batch_size=32, aggregation_strategy="first")
    found = pipe([" ".join(s["tokens"]) for s in sentences])
    own = [{(e["entity_group"], e["start"], e["end"]) for e in of_sentence} for of_sentence in found]
    return f1([characters(s) for s in sentences], own)


def column(python: str, run: Path, sentences: list[dict], folder: Path) -> list[float]:
    """The cells of a run: see the module's docstring."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = run / "model"
    gold = entities([s["tags"] for s in sentences])
    data = interop.write(folder / "test.jsonl", sentences)
    here = interop.tagged_here(python, model, data)
    plain = interop.as_from_elsewhere(model, folder / "plain")
    likeliest, small, capitals = (
        interop.tagged_here(python, plain, interop.write(folder / "letters.jsonl", in_letters(sentences, form)))
        for form in (str, str.lower, str.upper)
    )
    network, tokenizer = AutoModelForTokenClassification.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    torch = peers.likeliest(peers.by_model(network, tokenizer, sentences), sentences, network)
    scores = [f1(gold, entities(tags)) for tags in (here, likeliest, small, capitals, torch)]
    return [*scores, interop.differing(str(run), likeliest, torch), by_pipeline(model, sentences)]


ROWS = ("here", "here, likeliest tags", "in small letters", "in capitals", "PyTorch", "words with another tag", "pipeline")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--test", required=True, help="a corpus file")
    parser.add_argument("--python", default=str(ROOT / ".venv" / "bin" / "python"), help="Python of the project's environment")
    given = parser.parse_args()
    columns = []
    for run in given.runs:
        with tempfile.TemporaryDirectory(prefix="elsewhere-") as name:
            sentences = worker.read(str(interop.as_jsonl(given.python, os.path.abspath(given.test), Path(name, "all.jsonl"))))
            columns.append(column(given.python, run.resolve(), sentences, Path(name)))
    cells = [
        [name, *(f"{value:,}" if isinstance(value, int) else f"{value:.4f}" for value in row)]
        for name, *row in zip(ROWS, *columns, strict=True)
    ]
    print(f"\n{len(sentences):,} sentences, {sum(len(s['tokens']) for s in sentences):,} words\n")
    print(results.markdown(["", *(run.name for run in given.runs)], cells))


if __name__ == "__main__":
    main()
