"""experiments/RESULTS.md and its figures, from the records of grid.py and nothing else.

    python experiments/tables.py experiments/grids/gmb.toml

Made again from the same records it is the same to the byte.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from errors import RECORD as ERRORS  # noqa: E402
from grid import Entry, read_grid, record_of  # noqa: E402

from ner import scoring  # noqa: E402

Runs = dict[str, list[dict]]  # the records of each entry, by seed
HEAD = """# Results

Written by `python experiments/tables.py experiments/grids/{grid}` from results/*.json, the records of `experiments/grid.py`
and `errors.py`.
F1 is entity F1 by seqeval's default mode, strict its IOB2 mode, macro the mean over the types; mean ± standard deviation over the
seeds. The epoch is chosen on validation. Seconds are those of training, of the runs that had the machine alone and were not interrupted;
evaluation and start-up are aside. Tokens/s are word pieces a second, of this loop the median of its calls, of the Trainer the mean.
Intervals and p (at least 0.0001, from 10,000 exchanges) take sentences as independent. A row without numbers is not run yet."""


def load(entries: list[Entry]) -> Runs:
    found: Runs = {}
    for entry in entries:
        paths = [record_of(entry, seed) for seed in entry.seeds]
        found[entry.name] = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    return found


def best(record: dict) -> dict:
    """The epoch chosen on validation."""
    return max(record["epochs"], key=lambda epoch: epoch["f1"])


def timed(some: list[dict]) -> list[dict]:
    """The runs whose times mean something: nothing else ran on the machine."""
    return [record for record in some if record["alone"]]


def spread(values: Sequence[float], form: str = ".4f") -> str:
    if not values:
        return ""
    return f"{statistics.mean(values):{form}}" + (f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else "")


def counts(record: dict) -> np.ndarray:
    return np.array([list(map(int, row.split(","))) for row in record["test"]["counts"].split(";")], np.int64)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def headline(entries: list[Entry], runs: Runs) -> str:
    """Test scores of each system, its interval, and its test against the first one on the seeds that both have.

    A sentence is one observation however many seeds tagged it: its counts are summed over them before sentences are drawn or exchanged.
    """
    first, rows = runs[entries[0].name], []
    for entry in entries:
        some = runs[entry.name]
        scores = [spread([record["test"][key] for record in some]) for key in ("f1", "f1_strict", "macro_f1")]
        interval = "{:.4f} to {:.4f}".format(*scoring.bootstrap_f1(np.sum([counts(r) for r in some], axis=0))) if some else ""
        rival = [(counts(a), counts(b)) for a in first for b in some if a["seed"] == b["seed"]]
        p = f"{scoring.paired_test(*np.sum(rival, axis=0)):.2g}" if rival and some is not first else ""
        seconds = spread([record["epochs"][-1]["seconds"] for record in timed(some)], ",.0f")
        rows.append([entry.name, str(len(some)), *scores, interval, p, seconds])
    header = ["system", "seeds", "test F1", "strict", "macro", "95 % interval of F1", f"p against {entries[0].name}", "seconds"]
    return f"## Test\n\n{markdown(header, rows)}"


def ablations(title: str, entries: list[Entry], runs: Runs) -> str:
    rows = []
    for entry in entries:
        some = runs[entry.name]
        changes = [f"{key} {value}" for key, value in entry.settings.items()] + [f"tried/{entry.patch}.patch"] * bool(entry.patch)
        settings = ", ".join(changes) or "as the experiment file"
        scores = [spread([best(record)[key] for record in some]) for key in ("f1", "macro_f1")]
        scores += [spread([best(record)["f1_iob2"] for record in some])] if entry.peer else []
        times = [(record["tokens_per_second"], record["epochs"][-1]["seconds"]) for record in timed(some)]
        speed = [spread(column, ",.0f") for column in zip(*times, strict=True)] if times else ["", ""]
        rows.append([entry.name, settings, f"{entry.share:g}", str(len(some)), *scores, *speed])
    decoded = ["F1 with this loop's decoding"] * entries[0].peer
    header = ["", "settings", "share of training", "seeds", "validation F1", "macro", *decoded, "tokens/s", "seconds"]
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


def draw_wall_clock(entries: list[Entry], runs: Runs, axes) -> None:
    """Validation F1 against seconds of training, a line a run that had the machine alone."""
    for number, entry in enumerate(entries):
        name = entry.name + (f" ({entry.share:.0%} of the sentences)" if entry.share < 1 else "")
        for order, record in enumerate(timed(runs[entry.name])):
            seconds, f1 = zip(*((epoch["seconds"], epoch["f1"]) for epoch in record["epochs"]), strict=True)
            axes.plot(seconds, f1, marker="o", color=f"C{number}", label=name if order == 0 else None)
    axes.set(xlabel="seconds of training", xlim=(0, None), ylabel="validation F1")


def draw_sizes(entries: list[Entry], runs: Runs, axes) -> None:
    """Validation F1 against the share of the training sentences, a point a run."""
    for entry in entries:
        for record in runs[entry.name]:
            axes.plot(100 * entry.share, best(record)["f1"], "oC0")
    axes.set(xlabel="% of the training sentences", xscale="log", ylabel="validation F1")


def draw_row_lengths(entries: list[Entry], runs: Runs, axes) -> None:
    """Training speed against the rows' length, a point a run that had the machine alone."""
    for entry in entries:
        for record in timed(runs[entry.name]):
            axes.plot(entry.settings["row_length"], record["tokens_per_second"], "oC0")
    axes.set(xlabel="word pieces a row", ylabel="tokens/s", ylim=(0, None))


def save(draw: Callable, entries: list[Entry], runs: Runs, path: Path) -> bool:
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


def commands(runs: Runs) -> str:
    records = [record for some in runs.values() for record in some]
    machines = {"; ".join(f"{k} {v}" for k, v in record["machine"].items()) for record in records}
    rows = [[r["entry"]["name"], str(r["seed"]), r["commit"], r["date"], f"{r['wall_seconds']:,}", f"`{r['command']}`"] for r in records]
    header = ["run", "seed", "commit", "date", "wall-clock, s", "command"]
    return "\n\n".join(["## Runs", *sorted(machines), markdown(header, rows)])


def main(grid: str) -> None:
    _, entries, notes = read_grid(Path(grid))
    runs = load(entries)
    topics = {topic: [entry for entry in entries if entry.topic == topic] for topic in dict.fromkeys(entry.topic for entry in entries)}
    parts = [HEAD.format(grid=Path(grid).name)]
    for topic, some in topics.items():
        if topic != "curves":
            parts.append(headline(some, runs) if topic == "headline" else ablations(topic, some, runs))
            parts += [notes[topic]] if topic in notes else []
    figures = {
        "F1 against wall-clock": (
            draw_wall_clock,
            [e for e in entries if e.topic in ("headline", "curves") and not e.commit],
            "curves.svg",
        ),
        "F1 against training sentences": (draw_sizes, entries[:1] + topics.get("training sentences", []), "sizes.svg"),
        "Speed against row length": (draw_row_lengths, topics.get("row length", []), "row_lengths.svg"),
    }
    for title, (draw, some, name) in figures.items():
        if save(draw, some, runs, HERE / name):
            parts.append(f"## {title}\n\n![{title}]({name})")
    if ERRORS.exists():
        found = json.loads(ERRORS.read_text(encoding="utf-8"))
        scored = [record for record in runs[entries[0].name] if "test" in record]
        if scored and found["errors"]["correct"] not in [counts(record)[:, 0].sum() for record in scored]:
            raise SystemExit(f"error: {ERRORS.name} is of no model of {entries[0].name!r} that the records know; run errors.py on one")
        parts.append(errors(found))
    parts.append(commands(runs))
    (HERE / "RESULTS.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
