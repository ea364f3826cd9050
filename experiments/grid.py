"""Run a grid of experiments, one at a time, and keep of each what experiments/RESULTS.md is made of.

    python experiments/grid.py experiments/grids/gmb.toml --data ner_dataset.csv [--only NAME,NAME] [--runs runs/grid]
    python experiments/tables.py experiments/grids/gmb.toml

A run is an entry of the grid and a seed. It is trained by train.py or, where the entry says ``peer = true``, by Hugging Face's Trainer
(trainer.py, in the environment that ``make bench`` makes), on the hash split of the corpus or a ``share`` of its training sentences; its
epoch is chosen on validation, and only entries with ``test = true`` are scored on test. A run that is done is skipped, one that was
interrupted continues from its checkpoint if the commit is the same, but its times are not shown (the Trainer's starts anew). results/NAME-
SEED.json is the record. An entry with a ``commit`` (or branch) runs that, whatever came after it; one without runs the code as it is. What
the entries of a topic share stands once, under ``[topics.NAME]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from benchmarks import results, worker  # noqa: E402
from ner import dataset, files, formats, scoring  # noqa: E402
from ner.config import Config, load_toml  # noqa: E402
from ner.sentences import split as split_sentences  # noqa: E402

RECORDS = HERE / "results"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the grid: what is trained, by which code, on how much, and whether the test sentences are for it."""

    name: str
    topic: str
    seeds: list[int]
    peer: bool = False
    test: bool = False
    commit: str = ""
    share: float = 1.0
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_grid(path: Path) -> tuple[Path, list[Entry], dict[str, str]]:
    """The experiment file that all runs start from, the entries in their order, and the notes on their topics."""
    grid = tomllib.loads(path.read_text(encoding="utf-8"))
    topics: dict[str, dict] = grid.get("topics", {})
    notes = {topic: shared.pop("note") for topic, shared in topics.items() if "note" in shared}
    entries = [Entry(**{"seeds": grid["seeds"], **topics.get(entry["topic"], {}), **entry}) for entry in grid["runs"]]
    assert topics.keys() <= {entry.topic for entry in entries}, "a topic without entries"
    return path.parent / grid["base"], entries, notes


def record_of(entry: Entry, seed: int) -> Path:
    return RECORDS / f"{entry.name.replace(' ', '_')}-{seed}.json"


class Split:
    """The files of the hash split, and of shares of its training part: the same first sentences of one shuffled order."""

    def __init__(self, data: str, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.parts = split_sentences(dataset.read(data, Config(data=data), print), seed=Config.split_seed, path=data)
        for name in ("validation", "test"):
            formats.write(folder / f"{name}.jsonl", self.parts[name])

    def train(self, share: float) -> Path:
        import numpy as np

        path, sentences = self.folder / f"train_{share:g}.jsonl", self.parts["train"]
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(sentences))
        formats.write(path, [sentences[i] for i in sorted(order[: round(share * len(sentences))])])
        return path


def flags(settings: dict[str, Any]) -> list[object]:
    """``{"case": False, "rows": 16}`` -> ``--no-case --rows 16``."""
    words: list[object] = []
    for key, value in settings.items():
        name = key.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", value]
    return words


def code_of(entry: Entry, runs: Path) -> tuple[Path, Path]:
    """The folder of the code that the entry runs and its Python: these, or a copy of its commit, with the environment of then."""
    if not entry.commit:
        return ROOT, Path(sys.executable)
    revision = results.commit(ROOT, entry.commit)
    copy = runs / "code" / revision
    if not copy.exists():
        with files.replacing_folder(copy) as partial:
            run("git", "clone", "--quiet", "--no-checkout", ROOT, partial)
            run("git", "-C", partial, "checkout", "--quiet", "--detach", revision)
    if (copy / "requirements.lock").read_bytes() == (ROOT / "requirements.lock").read_bytes():
        return copy, Path(sys.executable)
    run("make", "--silent", "-C", copy, "setup")
    return copy, copy / ".venv" / "bin" / "python"


def train_ours(base: Path, entry: Entry, seed: int, split: Split, output: Path) -> dict:
    """train.py, then evaluate.py's predictions of the best epoch."""
    corpus = ["--train", split.train(entry.share), "--validation", split.folder / "validation.jsonl", "--test", split.folder / "test.jsonl"]
    code, python = code_of(entry, output.parent)
    config = code / base.resolve().relative_to(ROOT) if entry.commit else base  # the commit's own
    options = [*corpus, *flags(entry.settings), "--seed", seed, "--output", output, "--resume"]
    run(python, code / "train.py", "--config", config, *options)
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = [
        {
            "epoch": record["epoch"],
            "seconds": record["train/seconds"],
            **{key: record[f"validation/{key}"] for key in ("f1", "f1_strict", "macro_f1")},
        }
        for record in metrics
        if "validation/f1" in record
    ]
    speeds = sorted(record["train/tokens_per_second"] for record in metrics)
    predicted = {}
    if entry.test:
        path = output / "test.conll"
        run(python, code / "evaluate.py", "--ckpt", output, "--split", "test", "--predictions", path)
        predicted["test"] = [[tag for _, _, tag in lines] for lines in worker.read_conll(path)]
    ask = [python, "-c", "import json; from benchmarks.worker import versions; print(json.dumps(versions()))"]
    versions = json.loads(subprocess.run(ask, check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout)
    return {"epochs": epochs, "tokens_per_second": speeds[len(speeds) // 2], "versions": versions, "predicted": predicted}


def train_peer(encoder: Path, peers: str, entry: Entry, seed: int, split: Split, output: Path) -> dict:
    """The Trainer; of its epochs the one that is best on validation."""
    corpus = {"train": split.train(entry.share), "validation": split.folder / "validation.jsonl"}
    corpus |= {"test": split.folder / "test.jsonl"} if entry.test else {}
    output.mkdir(parents=True, exist_ok=True)
    options = {**{name: str(path) for name, path in corpus.items()}, "encoder": str(encoder), "seed": seed, **entry.settings}
    run(peers, HERE / "trainer.py", output / "found.json", json.dumps(options))
    found = json.loads((output / "found.json").read_text(encoding="utf-8"))
    epochs, gold = [], [s.tags for s in split.parts["validation"]]
    for number, one in enumerate(found["epochs"], 1):
        scores = scoring.score(gold, one["validation"])
        numbers = {k: getattr(scores, k) for k in ("f1", "f1_strict", "macro_f1")}
        numbers["f1_iob2"] = scoring.score(gold, one["validation_iob2"]).f1
        epochs.append({"epoch": number, "seconds": one["seconds"], **numbers})
    best = max(epochs, key=lambda epoch: epoch["f1"])["epoch"]
    predicted = {"test": found["epochs"][best - 1]["test"]} if entry.test else {}
    return {"epochs": epochs, "tokens_per_second": found["tokens_per_second"], "versions": found["versions"], "predicted": predicted}


def scored(gold: list[list[str]], predicted: list[list[str]]) -> dict:
    """Scores, and what intervals and paired tests need: each sentence's correct, predicted and gold entities."""
    evaluation = scoring.Evaluation(gold, gold, predicted)
    return {**evaluation.scores.as_dict(), "counts": ";".join(",".join(map(str, row)) for row in evaluation.counts.tolist())}


def run(*command: object) -> None:
    words = list(map(str, command))
    print(f"$ {shlex.join(words)}", flush=True)
    # PYTHONPATH for trainer.py; the code of an older commit finds its own first, in the folder of its script.
    subprocess.run(words, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})


def to_do(entries: list[Entry], only: str | None) -> Iterator[tuple[Entry, int]]:
    """Headline first, as the grid lists them; of one topic all first seeds before the second ones."""
    chosen = [entry for entry in entries if not only or entry.name in only.split(",")]
    topics = dict.fromkeys(entry.topic for entry in chosen)
    for topic in topics:
        some = [entry for entry in chosen if entry.topic == topic]
        for seed in sorted({seed for entry in some for seed in entry.seeds}):
            yield from ((entry, seed) for entry in some if seed in entry.seeds and not record_of(entry, seed).exists())


def main() -> None:
    from ner import pretrained  # imports TensorFlow, which tables.py does without

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--data", required=True, help="the corpus, such as GMB's ner_dataset.csv")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "grid", help="folder of the runs and the split's files")
    parser.add_argument("--only", help="entries by name, with commas between")
    parser.add_argument("--peers", default=str(ROOT / ".venv-bench" / "bin" / "python"), help="Python of the benchmarks' environment")
    parser.add_argument("--beside", action="store_true", help="other work runs on the machine: the run's times are not shown")
    given = parser.parse_args()
    given.grid, given.runs = given.grid.resolve(), given.runs.resolve()
    base, entries, _ = read_grid(given.grid)
    split, encoder = Split(given.data, given.runs / "split"), pretrained.find(load_toml(base).encoder).folder
    for entry, seed in to_do(entries, given.only):
        train = functools.partial(train_peer, encoder, given.peers) if entry.peer else functools.partial(train_ours, base)
        files.write(record_of(entry, seed), json.dumps(measure(train, entry, seed, split, given)) + "\n")


def measure(train: Callable, entry: Entry, seed: int, split: Split, given: argparse.Namespace) -> dict:
    """Do a run; its record."""
    ran = results.commit(ROOT, entry.commit or "HEAD")
    output, began = given.runs / f"{record_of(entry, seed).stem}-{ran}", time.time()  # other code does not continue it
    resumed = output.exists() and not entry.peer
    found = train(entry, seed, split, output)
    predicted = found.pop("predicted")
    return {
        "entry": dataclasses.asdict(entry) | {"seeds": None},
        "seed": seed,
        "commit": ran,
        "date": time.strftime("%Y-%m-%d"),
        "machine": results.machine(),
        "wall_seconds": round(time.time() - began),
        "alone": not given.beside and not resumed,
        **found,
        **{name: scored([s.tags for s in split.parts[name]], tags) for name, tags in predicted.items()},
    }


if __name__ == "__main__":
    main()
