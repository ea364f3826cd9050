"""experiments/RESULTS.md and its figures, from the records of grid.py and nothing else.

    python experiments/tables.py experiments/grids/gmb.toml

Made again from the same records it is the same to the byte.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.results import markdown  # noqa: E402
from experiments.errors import RECORD as ERRORS  # noqa: E402
from experiments.grid import Entry, read_grid, record_of  # noqa: E402
from ner import files, scoring  # noqa: E402

COLUMNS = ["name", "seed", "commit", "date", "machine", "alone", "epochs", "seconds", "tokens_per_second", "f1", "macro_f1", "f1_iob2"]
TEST = {"f1": "test F1", "f1_strict": "strict", "macro_f1": "macro"}
HEAD = """# Results

Written by `python experiments/tables.py experiments/grids/{grid}` from results/*.json, the records of grid.py and errors.py.
F1 is entity F1 by seqeval's default mode, strict its IOB2 mode, macro the mean over the types; mean ± standard deviation over the
seeds. The epoch is chosen on validation. Seconds are those of training, of the runs that had the machine alone and were not interrupted;
evaluation and start-up are aside. Tokens/s are word pieces a second, of this loop the median of its calls, of the Trainer the mean.
Intervals and p (at least 0.0001, from 10,000 exchanges) take sentences as independent. A row without numbers is not run yet.

The last columns say which code ran, and when. To run a row again, delete its records and give its name:
`python experiments/grid.py experiments/grids/{grid} --data ner_dataset.csv --only NAME`.

{machines}"""


def load(entries: list[Entry]) -> pd.DataFrame:
    """A row a run, in the order of the grid: ``f1`` and ``macro_f1`` of the epoch chosen on validation, and of test where it is scored."""
    rows = []
    for entry in entries:
        for path in filter(Path.exists, (record_of(entry, seed) for seed in entry.seeds)):
            record = json.loads(path.read_text(encoding="utf-8"))
            best = max(record["epochs"], key=lambda epoch: epoch["f1"])
            row = {key: record[key] for key in COLUMNS if key in record} | {key: best.get(key) for key in ("f1", "macro_f1", "f1_iob2")}
            row |= {"name": entry.name, "seconds": record["epochs"][-1]["seconds"]}
            row["machine"] = "; ".join(f"{key} {value}" for key, value in record["machine"].items())
            if "test" in record:
                row |= {title: record["test"][key] for key, title in TEST.items()} | {"counts": counts(record)}
            rows.append(row)
    return pd.DataFrame(rows, columns=[*COLUMNS, *TEST.values(), "counts"]).astype({"alone": bool})


def counts(record: dict) -> np.ndarray:
    """Correct, predicted and gold entities of each test sentence, int64 [sentences, 3]."""
    return np.array([list(map(int, row.split(","))) for row in record["test"]["counts"].split(";")], np.int64)


def mean(values: Iterable[float], form: str = ".4f") -> str:
    """Mean ± standard deviation; empty without values."""
    values = list(values)
    deviation = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation}" if values else ""


def code(some: pd.DataFrame) -> list[str]:
    """The cells that say which commit ran, and on which day."""
    return [", ".join(some[column].unique()) for column in ("commit", "date")]


def headline(entries: list[Entry], runs: pd.DataFrame) -> str:
    """Test scores of each system, its interval, and its test against the first one on the seeds that both have.

    A sentence is one observation however many seeds tagged it: its counts are summed over them before sentences are drawn or exchanged.
    """
    first, rows = entries[0].name, []
    by_seed = {entry.name: runs[runs["name"] == entry.name].set_index("seed")["counts"] for entry in entries}
    for entry in entries:
        some, found = runs[runs["name"] == entry.name], by_seed[entry.name]
        interval = "{:.4f} to {:.4f}".format(*scoring.bootstrap_f1(np.sum(list(found), axis=0))) if len(some) else ""
        rival = [(by_seed[first][seed], found[seed]) for seed in by_seed[first].index if seed in found.index]
        p = f"{scoring.paired_test(*np.sum(rival, axis=0)):.2g}" if rival and entry.name != first else ""
        seconds = mean(some[some["alone"]]["seconds"], ",.0f")
        rows.append([entry.name, str(len(some)), *(mean(some[title]) for title in TEST.values()), interval, p, seconds, *code(some)])
    header = ["system", "seeds", *TEST.values(), "95 % interval of F1", f"p against {first}", "seconds", "commit", "date"]
    return f"## Test\n\n{markdown(header, rows)}"


def ablations(title: str, entries: list[Entry], runs: pd.DataFrame) -> str:
    rows = []
    for entry in entries:
        some = runs[runs["name"] == entry.name]
        changes = [f"{key} {value}" for key, value in entry.settings.items()] + [entry.commit] * entry.commit.startswith("tried/")
        scores = [mean(some[key]) for key in ("f1", "macro_f1", *["f1_iob2"] * entry.peer)]
        speed = [mean(some[some["alone"]][key], ",.0f") for key in ("tokens_per_second", "seconds")]
        settings = ", ".join(changes) or "as the experiment file"
        rows.append([entry.name, settings, f"{entry.share:g}", str(len(some)), *scores, *speed, *code(some)])
    decoded = ["F1 with this loop's decoding"] * entries[0].peer
    header = ["", "settings", "share of training", "seeds", "validation F1", "macro", *decoded, "tokens/s", "seconds", "commit", "date"]
    return f"## {title[0].upper()}{title[1:]}\n\n{markdown(header, rows)}"


def errors(record: dict) -> str:
    """What one model got wrong on test, and what the annotation leaves open; the record is of errors.py."""
    found, total = record["errors"], sum(number for kind, number in record["errors"].items() if kind != "correct")
    rows = [[kind, f"{number:,}", f"{number / total:.1%}" if kind != "correct" else ""] for kind, number in found.items()]
    labels, matrix = record["confusion"]["labels"], record["confusion"]["matrix"]
    pairs = [(matrix[g][p], labels[g], labels[p]) for g in range(len(labels)) for p in range(len(labels)) if g != p]
    most = [[f"{gold} taken for {predicted}", f"{number:,}"] for number, gold, predicted in sorted(pairs, reverse=True)[:10]]
    names = [[kind, "; ".join(f"{name} ({taken}) {times}" for name, taken, times in some)] for kind, some in record["names"].items()]
    copies = record["agreement"]
    noise = (
        f"Of {copies['pairs']:,} pairs of copies of a sentence with entities in the corpus, {copies['differing']:,} are tagged "
        f"differently; the F1 of one copy against the other is {copies['f1']:.4f}. If each is the truth with errors of its own, "
        f"{1 - copies['ceiling']:.1%} of the annotation is noise, and a model that always finds the truth scores about "
        f"{copies['ceiling']:.4f}."
    )
    tables = [
        markdown(["error", "entities", "share of errors"], rows),
        markdown(["most frequent (O: none)", "entities"], most),
        markdown(["type", "names most often not found as annotated (taken for) times"], names),
    ]
    return "\n\n".join([f"## Errors of {record['run']} on test", *tables, noise])


def draw_wall_clock(entries: list[Entry], runs: pd.DataFrame, axes) -> None:
    """Validation F1 against seconds of training, a line a run that had the machine alone."""
    for number, entry in enumerate(entries):
        name = entry.name + (f" ({entry.share:.0%} of the sentences)" if entry.share < 1 else "")
        for order, epochs in enumerate(runs[(runs["name"] == entry.name) & runs["alone"]]["epochs"]):
            seconds, f1 = zip(*((epoch["seconds"], epoch["f1"]) for epoch in epochs), strict=True)
            axes.plot(seconds, f1, marker="o", color=f"C{number}", label=name if order == 0 else None)
    axes.set(xlabel="seconds of training", xlim=(0, None), ylabel="validation F1")


def draw_sizes(entries: list[Entry], runs: pd.DataFrame, axes) -> None:
    """Validation F1 against the share of the training sentences, a point a run."""
    for entry in entries:
        for f1 in runs[runs["name"] == entry.name]["f1"]:
            axes.plot(100 * entry.share, f1, "oC0")
    axes.set(xlabel="% of the training sentences", xscale="log", ylabel="validation F1")


def draw_row_lengths(entries: list[Entry], runs: pd.DataFrame, axes) -> None:
    """Training speed against the rows' length, a point a run that had the machine alone."""
    for entry in entries:
        for speed in runs[(runs["name"] == entry.name) & runs["alone"]]["tokens_per_second"]:
            axes.plot(entry.settings["row_length"], speed, "oC0")
    axes.set(xlabel="word pieces a row", ylabel="tokens/s", ylim=(0, None))


def save(draw: Callable, entries: list[Entry], runs: pd.DataFrame, path: Path) -> bool:
    """One figure as SVG, the same bytes each time; none where nothing is run."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ner"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    draw(entries, runs, axes)
    drawn = bool(axes.lines)
    if drawn:
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend()
        figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return drawn


def main(grid: str) -> None:
    _, entries, notes = read_grid(Path(grid))
    runs = load(entries)
    topics = {topic: [entry for entry in entries if entry.topic == topic] for topic in dict.fromkeys(entry.topic for entry in entries)}
    parts = [HEAD.format(grid=Path(grid).name, machines="\n\n".join(sorted(runs["machine"].unique())))]
    for topic, some in topics.items():
        if topic != "curves":
            parts.append(headline(some, runs) if topic == "headline" else ablations(topic, some, runs))
            parts += [notes[topic]] if topic in notes else []
    current = [e for e in entries if e.topic in ("headline", "curves") and not e.commit]
    for title, draw, some, name in (
        ("F1 against wall-clock", draw_wall_clock, current, "curves.svg"),
        ("F1 against training sentences", draw_sizes, entries[:1] + topics.get("training sentences", []), "sizes.svg"),
        ("Speed against row length", draw_row_lengths, topics.get("row length", []), "row_lengths.svg"),
    ):
        if save(draw, some, runs, HERE / name):
            parts.append(f"## {title}\n\n![{title}]({name})")
    if ERRORS.exists():
        found = json.loads(ERRORS.read_text(encoding="utf-8"))
        first = runs[runs["name"] == entries[0].name]["counts"].dropna()
        if len(first) and found["errors"]["correct"] not in [one[:, 0].sum() for one in first]:
            raise SystemExit(f"error: {ERRORS.name} is of no model of {entries[0].name!r} that the records know; run errors.py on one")
        parts.append(errors(found))
    files.write(HERE / "RESULTS.md", "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
