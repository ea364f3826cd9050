"""Run a grid of experiments, one at a time, and keep of each what experiments/RESULTS.md is made of.

    python experiments/grid.py experiments/grids/corpora.toml [--only NAME,NAME] [--corpora NAME,NAME] [--seeds 0,1] [--runs runs/grid]
    python experiments/tables.py experiments/grids/*.toml

A run is an entry of the grid, a corpus and a seed. It is trained by train.py or, where the entry says ``peer = true``, by Hugging Face's
Trainer (trainer.py, in the environment that ``make bench`` makes). The corpora are those of the folder NER_CORPORA, with the splits that
they come in, and ``gmb``, the file GMB_CSV or --data, in its hash split; a ``share`` is of the training sentences. The model is chosen on
validation, and only entries with ``test = true`` are scored on test. ``vary`` makes an entry of each combination of its values. ``best_of``
takes the settings of the entry of that topic that is best on the corpus's validation sentences. Without a ``base`` there are only the
settings of the entry, and otherwise train.py's defaults. What the entries of a topic share stands once, under ``[topics.NAME]``.

A run that is done is skipped, one that was interrupted continues from its checkpoint if the commit is the same, but its times are not shown
(the Trainer's starts anew). results/NAME-SEED.json is the record of GMB, results/CORPUS/NAME-SEED.json that of another corpus; entries of
one name share it. An entry with a ``commit`` (or branch) runs that, whatever came after it; one without runs the code as it is. While the
file benchmarks/hold exists no run begins.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from benchmarks import results, rounds, worker  # noqa: E402
from ner import dataset, files, formats, scoring  # noqa: E402
from ner.config import Config, load_toml  # noqa: E402
from ner.errors import InputError, run_main  # noqa: E402
from ner.sentences import SPLITS  # noqa: E402

RECORDS = HERE / "results"
GMB = "gmb"
PRECISION = 0.95  # what a cut by entity scores is to reach


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the grid: what is trained, by which code, on what, and whether the test sentences are for it."""

    name: str
    topic: str
    seeds: list[int]
    corpora: list[str] = dataclasses.field(default_factory=lambda: [GMB])
    base: str = ""
    peer: bool = False
    test: bool = False
    best_of: str = ""
    commit: str = ""
    share: float = 1.0
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_grid(path: Path) -> tuple[str, list[Entry], dict[str, str]]:
    """The title, the entries in their order, and the notes on their topics."""
    grid = tomllib.loads(path.read_text(encoding="utf-8"))
    topics: dict[str, dict] = grid.get("topics", {})
    notes = {topic: shared.pop("note") for topic, shared in topics.items() if "note" in shared}
    shared = {key: grid[key] for key in ("base", "seeds", "corpora") if key in grid}
    entries = [Entry(**run) for some in grid["runs"] for run in varied(shared | topics.get(some["topic"], {}) | some)]
    assert topics.keys() <= {entry.topic for entry in entries}, "a topic without entries"
    return grid["title"], entries, notes


def varied(run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An entry for each combination of the values in ``vary``, named after them."""
    vary = run.pop("vary", {})
    for values in itertools.product(*vary.values()):
        chosen = dict(zip(vary, values, strict=True))
        name = " ".join([run["name"], *(f"{key} {value}" for key, value in chosen.items())])
        yield run | {"name": name, "settings": run.get("settings", {}) | chosen}


def record_of(entry: Entry, corpus: str, seed: int) -> Path:
    return RECORDS / ("" if corpus == GMB else corpus) / f"{entry.name.replace(' ', '_')}-{seed}.json"


def tuned(entry: Entry, corpus: str, entries: list[Entry]) -> Entry:
    """The entry, where it is ``best_of`` a topic with the settings of the one that is best on this corpus by validation F1."""
    if not entry.best_of:
        return entry
    trials = [one for one in entries if one.topic == entry.best_of and corpus in one.corpora]
    if not trials or not all(record_of(one, corpus, seed).exists() for one in trials for seed in one.seeds):
        raise InputError(f"{entry.name} on {corpus}: not all of {entry.best_of!r} is run", hint="run that first, without --only")

    def f1(one: Entry) -> float:
        records = [json.loads(record_of(one, corpus, seed).read_text(encoding="utf-8")) for seed in one.seeds]
        return sum(max(epoch["f1"] for epoch in record["epochs"]) for record in records) / len(records)

    return dataclasses.replace(entry, settings=max(trials, key=f1).settings)


class Corpus:
    """A corpus: its sentences, its files as they are given, and the files of the hash split of GMB and of shares of the training sentences.

    A share is the first sentences of one shuffled order.
    """

    def __init__(self, name: str, data: str | None, folder: Path):
        """data: GMB's file, if not GMB_CSV; folder: for the files that are written."""
        variable = "GMB_CSV" if name == GMB else "NER_CORPORA"
        source = (name == GMB and data) or os.environ.get(variable)
        if not source:
            raise InputError(
                f"no corpus {name}: {variable} is not set", hint="name GMB's file in GMB_CSV, the others' folder in NER_CORPORA"
            )
        files_given = {part: os.path.abspath(f"{source}/{name}.{part}.conll") for part in SPLITS}
        self.given: dict[str, Any] = files_given if name != GMB else {}
        self.parts = dataset.load(Config(**self.given) if self.given else Config(data=source), print)
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for part in SPLITS[1:]:
            formats.write(folder / f"{part}.jsonl", self.parts[part])

    def written(self, share: float) -> dict[str, str]:
        """The split as JSONL files."""
        import numpy as np

        path, sentences = self.folder / f"train_{share:g}.jsonl", self.parts["train"]
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(sentences))
        formats.write(path, [sentences[i] for i in sorted(order[: round(share * len(sentences))])])
        return {"train": str(path), **{part: str(self.folder / f"{part}.jsonl") for part in SPLITS[1:]}}


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


def train_ours(entry: Entry, seed: int, corpus: Corpus, output: Path, given: argparse.Namespace) -> dict:
    """train.py, then evaluate.py's predictions of the best model."""
    code, python = code_of(entry, given.runs)
    base = (given.grid.parent / entry.base).resolve()
    config = ["--config", code / base.relative_to(ROOT) if entry.commit else base] if entry.base else []  # a commit has its own
    data = flags(corpus.given if corpus.given and entry.share == 1 else corpus.written(entry.share))
    seconds = run(python, code / "train.py", *config, *data, *flags(entry.settings), "--seed", seed, "--output", output, "--resume")
    metrics = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = [
        {
            "epoch": record["epoch"],
            "step": record["step"],
            "seconds": record["train/seconds"],
            **{key: record[f"validation/{key}"] for key in ("f1", "f1_strict", "macro_f1")},
        }
        for record in metrics
        if "validation/f1" in record
    ]
    predicted, trust = {}, {}
    if entry.test:
        path, scores = output / "test.conll", output / "test.json"
        wanted = ["--predictions", path, "--json", scores, "--precision", PRECISION]
        seconds += run(python, code / "evaluate.py", "--ckpt", output, "--split", "test", *wanted)
        predicted["test"] = [[tag for _, _, tag in lines] for lines in worker.read_conll(path)]
        found = json.loads(scores.read_text(encoding="utf-8"))
        trust = {key: found.get(key) for key in ("calibration_error", "cut")}  # an older commit's has no calibration
    ask = [python, "-c", "import json; from benchmarks.worker import versions; print(json.dumps(versions()))"]
    return {
        "epochs": epochs,
        "seconds": metrics[-1]["train/seconds"],  # of the whole run, also of what came after the best model
        "wall_seconds": round(seconds),
        "tokens_per_second": statistics.median_high(record["train/tokens_per_second"] for record in metrics),
        "versions": json.loads(subprocess.run(ask, check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout),
        "predicted": predicted,
        **trust,
    }


def train_peer(entry: Entry, seed: int, corpus: Corpus, output: Path, given: argparse.Namespace) -> dict:
    """The Trainer, and the scores of its epochs."""
    from ner import pretrained  # imports TensorFlow, which tables.py does without

    config = load_toml(given.grid.parent / entry.base) if entry.base else Config()
    data = corpus.written(entry.share)
    if not entry.test:
        del data["test"]
    output.mkdir(parents=True, exist_ok=True)
    options = {**data, "encoder": str(pretrained.find(config.encoder).folder), "seed": seed, **entry.settings}
    seconds = run(given.peers, HERE / "trainer.py", output / "found.json", json.dumps(options))
    found = json.loads((output / "found.json").read_text(encoding="utf-8"))
    epochs, gold = [], [s.tags for s in corpus.parts["validation"]]
    for number, one in enumerate(found["epochs"], 1):
        scores = scoring.score(gold, one["validation"])
        numbers = {key: getattr(scores, key) for key in ("f1", "f1_strict", "macro_f1")}
        numbers["f1_iob2"] = scoring.score(gold, one["validation_iob2"]).f1
        epochs.append({"epoch": number, "step": one["step"], "seconds": one["seconds"], **numbers})
    return {
        "epochs": epochs,
        "seconds": epochs[-1]["seconds"],
        "wall_seconds": round(seconds),
        "tokens_per_second": found["tokens_per_second"],
        "versions": found["versions"],
        "predicted": found["predicted"],
        "machine": results.machine() | ({"GPU": found["gpu"]} if found["gpu"] else {}),
    }


def scored(gold: list[list[str]], predicted: list[list[str]]) -> dict:
    """Scores, and what intervals and paired tests need: each sentence's correct, predicted and gold entities."""
    evaluation = scoring.Evaluation(gold, gold, predicted)
    return {**evaluation.scores.as_dict(), "counts": ";".join(",".join(map(str, row)) for row in evaluation.counts.tolist())}


def run(*command: object) -> float:
    """Run a command, which must succeed; its seconds."""
    words = list(map(str, command))
    print(f"$ {shlex.join(words)}", flush=True)
    began = time.perf_counter()
    # PYTHONPATH for trainer.py; the code of an older commit finds its own first, in the folder of its script.
    subprocess.run(words, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return time.perf_counter() - began


def to_do(
    entries: list[Entry], only: list[str] | None = None, corpora: list[str] | None = None, seeds: list[int] | None = None
) -> Iterator[tuple[Entry, str, int]]:
    """What is not done, in the order of the grid, but trials before what is ``best_of`` them, and of a topic all first seeds first."""
    chosen = [entry for entry in entries if not only or entry.name in only]
    for topic in sorted(dict.fromkeys(entry.topic for entry in chosen), key=lambda topic: all(topic != entry.best_of for entry in entries)):
        some = [(entry, corpus) for entry in chosen if entry.topic == topic for corpus in entry.corpora if not corpora or corpus in corpora]
        for seed in sorted({seed for entry, _ in some for seed in entry.seeds if not seeds or seed in seeds}):
            for entry, corpus in some:
                if seed in entry.seeds and not record_of(entry, corpus, seed).exists():
                    yield entry, corpus, seed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--data", help="GMB's ner_dataset.csv, if GMB_CSV does not name it")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "grid", help="folder of the runs and the splits' files")
    parser.add_argument("--only", type=lambda names: names.split(","), help="entries by name, with commas between")
    parser.add_argument("--corpora", type=lambda names: names.split(","), help="corpora by name, with commas between")
    parser.add_argument("--seeds", type=lambda seeds: list(map(int, seeds.split(","))), help="with commas between")
    parser.add_argument("--peers", default=str(ROOT / ".venv-bench" / "bin" / "python"), help="Python of the benchmarks' environment")
    parser.add_argument("--beside", action="store_true", help="other work runs on the machine: the run's times are not shown")
    given = parser.parse_args(arguments)
    given.grid, given.runs = given.grid.resolve(), given.runs.resolve()
    _, entries, _ = read_grid(given.grid)
    known = {name for entry in entries for name in (entry.name, *entry.corpora)}
    if unknown := {*(given.only or []), *(given.corpora or [])} - known:
        raise InputError(f"no {', '.join(sorted(unknown))} in the grid", path=given.grid, hint="give the names that stand there")
    corpus_of = functools.cache(lambda name: Corpus(name, given.data, given.runs / "split" / name))
    for entry, corpus, seed in to_do(entries, given.only, given.corpora, given.seeds):
        while rounds.HOLD.exists():
            time.sleep(1)
        path = record_of(entry, corpus, seed)
        found = measure(tuned(entry, corpus, entries), corpus_of(corpus), seed, path, given)
        path.parent.mkdir(exist_ok=True)
        files.write(path, json.dumps(found) + "\n")
    return 0


def measure(entry: Entry, corpus: Corpus, seed: int, path: Path, given: argparse.Namespace) -> dict:
    """Do a run; the record, which is for ``path``."""
    ran = results.commit(ROOT, entry.commit or "HEAD")
    output = given.runs / f"{path.relative_to(RECORDS).with_suffix('')}-{ran}"  # other code does not continue it
    resumed = output.exists() and not entry.peer
    found = (train_peer if entry.peer else train_ours)(entry, seed, corpus, output, given)
    predicted = found.pop("predicted")
    return {
        "entry": dataclasses.asdict(entry) | {"seeds": None, "corpora": None},
        "seed": seed,
        "commit": results.commit(ROOT, f"{entry.commit}~") if entry.commit.startswith("tried/") else ran,  # a patch is against it
        "date": time.strftime("%Y-%m-%d"),
        "machine": results.machine(),
        "alone": not given.beside and not resumed,
        **found,
        **{part: scored([s.tags for s in corpus.parts["test"]], tags) for part, tags in predicted.items()},
    }


if __name__ == "__main__":
    sys.exit(run_main(main))
