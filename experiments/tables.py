"""experiments/RESULTS.md and its figures, from the records of grid.py and nothing else.

    python experiments/tables.py experiments/grids/*.toml

Made again from the same records it is the same to the byte.
"""

from __future__ import annotations

import dataclasses
import itertools
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
from experiments.grid import GMB, PRECISION, Entry, read_grid, record_of  # noqa: E402
from ner import files, scoring  # noqa: E402

BEST = ["f1", "macro_f1", "f1_iob2"]
COLUMNS = ["seed", "commit", "date", "machine", "alone", "epochs", "wall_seconds", "tokens_per_second"]
TEST = {"f1": "test F1", "f1_strict": "strict", "macro_f1": "macro"}
VITERBI = " decoded by IOB2's rules"
CALIBRATION = ["error of words", "error of entities"]
HEAD = """# Results

Written by `python experiments/tables.py {grids}` from results/*.json, the records of grid.py and errors.py.
F1 is entity F1 by seqeval's default mode, strict its IOB2 mode, macro the mean over the types; mean ± standard deviation (n - 1) over
the seeds. The model is chosen on validation. Seconds are those of training, of the runs that had the machine alone and were not
interrupted; evaluation and start-up are aside, but for the whole command. Tokens/s are word pieces a second, of this loop the median of
its calls, of the Trainer the mean. Intervals and p (of F1; at least 0.0001, from 10,000 exchanges) take sentences as independent. They
leave out that another seed gives another F1: for that see the ±. "Better on at least n" corpora: with 95 % certainty, corrected for the
number of corpora. A row without numbers is not run yet.

The last columns say which code ran, and when. To run a row again, delete its records and give its name:
`python experiments/grid.py experiments/grids/GRID.toml --only NAME`. GMB_CSV names ner_dataset.csv, NER_CORPORA the folder of the others.

{machines}"""


def load(entries: list[Entry]) -> pd.DataFrame:
    """A row a run, in the order of the grid: ``f1`` and ``macro_f1`` of the model chosen on validation, and of test where it is scored."""
    rows = []
    for entry in entries:
        for corpus, seed in itertools.product(entry.corpora, entry.seeds):
            path = record_of(entry, corpus, seed)
            if not path.exists():
                continue
            record = json.loads(path.read_text(encoding="utf-8"))
            best, last = max(record["epochs"], key=lambda epoch: epoch["f1"]), record["epochs"][-1]
            row = {key: record[key] for key in COLUMNS} | {key: best.get(key) for key in BEST}
            settings = entry.settings or record["entry"]["settings"]  # of a ``best_of`` the record knows them
            row |= {"name": entry.name, "corpus": corpus, "settings": changes(settings), "updates": last.get("step")}
            row["seconds"] = record.get("seconds", last["seconds"])  # older records have those up to the last epoch only
            row["machine"] = "; ".join(f"{key} {value}" for key, value in record["machine"].items())
            row |= tested(record.get("test"))
            row |= {"cut": record.get("cut"), **{f"error of {key}": error for key, error in record.get("calibration_error", {}).items()}}
            rows.append(row)
            if "test_iob2" in record:
                rows.append(row | {"name": entry.name + VITERBI} | tested(record["test_iob2"]))
    columns = ["name", "corpus", "settings", "updates", "seconds", *COLUMNS, *BEST, *TEST.values(), "counts", *CALIBRATION, "cut"]
    return pd.DataFrame(rows, columns=columns).astype({"alone": bool}).drop_duplicates(["name", "corpus", "seed"])


def of(runs: pd.DataFrame, entry: Entry, corpus: str) -> pd.DataFrame:
    return runs[(runs["name"] == entry.name) & (runs["corpus"] == corpus) & runs["seed"].isin(entry.seeds)]


def corpora(entries: list[Entry]) -> list[str]:
    return list(dict.fromkeys(corpus for entry in entries for corpus in entry.corpora))


def changes(settings: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def tested(scores: dict | None) -> dict:
    """The scores on test, and the correct, predicted and gold entities of each sentence: ``counts``, int64 [sentences, 3]."""
    if not scores:
        return {}
    counts = np.array([list(map(int, row.split(","))) for row in scores["counts"].split(";")], np.int64)
    return {title: scores[key] for key, title in TEST.items()} | {"counts": counts}


def mean(values: Iterable[float], form: str = ".4f") -> str:
    """Mean ± standard deviation; empty without values."""
    values = list(values)
    deviation = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation}" if values else ""


def code(some: pd.DataFrame) -> list[str]:
    """The cells that say which commit ran, and on which day."""
    return [", ".join(some[column].unique()) for column in ("commit", "date")]


def paired(entries: list[Entry], runs: pd.DataFrame) -> dict[tuple[str, str], float]:
    """The p-value of each system against the first one, by its name and the corpus, on the seeds that both have.

    A sentence is one observation however many seeds tagged it: its counts are summed over them before sentences are exchanged.
    """
    found = {}
    for entry in entries[1:]:
        for corpus in entry.corpora:
            reference, own = (of(runs, one, corpus).set_index("seed")["counts"].dropna() for one in (entries[0], entry))
            if rival := [(reference[seed], own[seed]) for seed in reference.index if seed in own.index]:
                found[entry.name, corpus] = scoring.paired_test(*np.sum(rival, axis=0))
    return found


def replicated(p: list[float]) -> int:
    """On at least how many of the corpora the difference is real, with 95 % certainty, by the p-value of each.

    The largest u for which (n - u + 1) times the u-th smallest of the n p-values, and so for all below u, is at most 0.05: the partial
    conjunction by Bonferroni, which holds for corpora that depend on each other too (Dror et al. 2017).
    """
    ordered = enumerate(sorted(p))
    return sum(1 for _ in itertools.takewhile(lambda one: (len(p) - one[0]) * one[1] <= 0.05, ordered))


def headline(title: str, entries: list[Entry], runs: pd.DataFrame, tests: dict[str, dict[tuple[str, str], float]]) -> str:
    """Test scores of each system, its interval, and by the other's name its tests (of ``paired``). Counts are summed over the seeds."""
    several, rows = corpora(entries) != [GMB], []
    for corpus in corpora(entries):
        here = {entry.name: of(runs, entry, corpus) for entry in entries if corpus in entry.corpora}
        by_seed = {name: some.set_index("seed")["counts"].dropna() for name, some in here.items()}
        for name, some in here.items():
            found = by_seed[name]
            interval = "{:.4f} to {:.4f}".format(*scoring.bootstrap_f1(np.sum(list(found), axis=0))) if len(found) else ""
            p = [f"{test[name, corpus]:.2g}" if (name, corpus) in test else "" for test in tests.values()]
            system = [corpus, name + "".join(f" ({one})" for one in some["settings"].unique() if one)] if several else [name]
            seconds = [mean(some[some["alone"]][key], ",.0f") for key in ("seconds", *["wall_seconds"] * several)]
            rows.append([*system, str(len(some)), *(mean(some[key]) for key in TEST.values()), interval, *p, *seconds, *code(some)])
    against = [f"p against {name}" for name in tests]
    header = ["corpus"] * several + ["system", "seeds", *TEST.values(), "95 % interval of F1", *against, "seconds"]
    header += ["seconds of the whole command"] * several + ["commit", "date"]
    return f"## {title}\n\n{markdown(header, rows)}"


def with_viterbi(entries: list[Entry], runs: pd.DataFrame) -> list[Entry]:
    """The entries, and after one whose probabilities were also decoded by the Viterbi algorithm with IOB2's rules, that."""
    both = ([entry, dataclasses.replace(entry, name=entry.name + VITERBI)] for entry in entries)
    return [one for pair in both for one in pair if not one.name.endswith(VITERBI) or one.name in set(runs["name"])]


def calibration(entry: Entry, runs: pd.DataFrame) -> str:
    """How far scores are from how often they are right, and what a cut by them leaves, on the test sentences of each corpus."""
    rows = []
    for corpus in entry.corpora:
        some = of(runs, entry, corpus).dropna(subset=CALIBRATION)
        cuts = [cut for cut in some["cut"] if cut]
        found = [mean((cut[key] for cut in cuts), ".3f") for key in ("min_score", "precision", "recall")]
        rows.append([corpus, str(len(some)), *(mean(some[key], ".3f") for key in CALIBRATION), str(len(cuts)), *found])
    reached = f"seeds that reach a precision of {PRECISION}"
    header = ["corpus", "seeds", "calibration error of words", "of entities", reached, "lowest score", "precision", "recall"]
    note = "The lowest score was chosen on the same test sentences: entities below it are left out, and the recall is what that can cost."
    return f"## Calibration of {entry.name}\n\n{markdown(header, rows)}\n\n{note}"


def summary(entries: list[Entry], runs: pd.DataFrame, score: str, tests: dict[tuple[str, str], float]) -> list[str]:
    """For each system a line: how far it is from the first one, over the corpora and seeds that both have been run with."""
    lines = []
    for entry in entries[1:]:
        pairs = [(of(runs, entries[0], corpus), of(runs, entry, corpus)) for corpus in entry.corpora]
        pairs = [(first[first["seed"].isin(other["seed"])], other[other["seed"].isin(first["seed"])]) for first, other in pairs]
        both = [corpus for corpus, pair in zip(entry.corpora, pairs, strict=True) if all(map(len, pair))]
        gains = [other[score].mean() - first[score].mean() for first, other in pairs if len(first) and len(other)]
        p = [
            tests[entry.name, corpus] if gain > 0 else 1.0
            for corpus, gain in zip(both, gains, strict=True)
            if (entry.name, corpus) in tests
        ]
        alone = [(first[first["alone"]]["seconds"], other[other["alone"]]["seconds"]) for first, other in pairs]
        ratios = [other.mean() / first.mean() for first, other in alone if len(first) and len(other)]
        if gains:
            line = f"{entry.name} against {entries[0].name}: F1 {statistics.mean(gains):+.4f} on average, from {min(gains):+.4f} to "
            line += f"{max(gains):+.4f}, ahead on {sum(gain > 0 for gain in gains)} of {len(gains)} corpora"
            time = f"; {statistics.mean(ratios):.2f} times the seconds on average, at most {max(ratios):.2f}" if ratios else ""
            sure = f"; by the paired tests better on at least {replicated(p)} (Dror et al. 2017, 95 %)" if p else ""
            lines.append(f"{line}{sure}{time}.")
    return lines


def ablations(title: str, entries: list[Entry], runs: pd.DataFrame) -> str:
    several, rows = corpora(entries) != [GMB], []
    for corpus, entry in [(corpus, entry) for corpus in corpora(entries) for entry in entries if corpus in entry.corpora]:
        some = of(runs, entry, corpus)
        settings = ", ".join(filter(None, [changes(entry.settings), entry.commit * entry.commit.startswith("tried/")]))
        scores = [mean(some[key]) for key in ("f1", "macro_f1", *["f1_iob2"] * entry.peer)]
        speed = [mean(some[some["alone"]][key], ",.0f") for key in ("tokens_per_second", "seconds")]
        place = corpus if several else f"{entry.share:g}"
        settings = settings or ("as the experiment file" if entry.base else "no setting")
        rows.append([entry.name, settings, place, str(len(some)), *scores, *speed, *code(some)])
    decoded = ["F1 decoded by IOB2's rules"] * entries[0].peer
    place = "corpus" if several else "share of training"
    header = ["", "settings", place, "seeds", "validation F1", "macro", *decoded, "tokens/s", "seconds", "commit", "date"]
    return f"## {title}\n\n{markdown(header, rows)}"


def budgets(title: str, entries: list[Entry], runs: pd.DataFrame) -> str:
    """How far the first entry, the default rule, is from the best of the others, the grid, on each corpus; then each of the grid."""
    rows = []
    for corpus in corpora(entries):
        rule = of(runs, entries[0], corpus)
        grid = [entry for entry in entries[1:] if corpus in entry.corpora]
        some = pd.concat([of(runs, entry, corpus) for entry in grid])
        best = some.sort_values("f1", ascending=False, kind="stable").head(1)
        gain = f"{rule['f1'].mean() - best['f1'].mean():+.4f}" if len(rule) and len(best) else ""
        cells = [mean(one[key], form) for one in (rule, best) for key, form in (("updates", ",.0f"), ("f1", ".4f"))]
        rows.append([corpus, *cells, *(best["settings"] if len(best) else [""]), f"{len(some)} of {len(grid)}", gain])
    header = [
        "corpus",
        "updates by the rule",
        "validation F1",
        "updates of the best",
        "validation F1",
        "its settings",
        "runs",
        "difference",
    ]
    return f"## {title}\n\n{markdown(header, rows)}\n\n" + ablations(f"{title}: the runs", entries[1:], runs)


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


def tables(topic: str, entries: list[Entry], runs: pd.DataFrame) -> list[str]:
    """A topic's table, and how far its systems are from the first one; where that is the Trainer, also from the Trainer by IOB2's rules."""
    title = "Test" if topic == "headline" else topic[0].upper() + topic[1:]
    if topic == "budgets":
        return [budgets(title, entries, runs)]
    scored = entries[0].test and entries[-1].test
    entries = with_viterbi(entries, runs) if scored else entries
    first = entries[0].name
    from_first = {entry.name: entries[place:] for place, entry in enumerate(entries) if entry.name in (first, first + VITERBI)}
    tests = {name: paired(some, runs) for name, some in from_first.items()} if scored else {}
    found = [headline(title, entries, runs, tests) if scored else ablations(title, entries, runs)]
    if corpora(entries) != [GMB] and not all(entry.peer for entry in entries):
        for name, some in from_first.items():
            found += summary(some, runs, TEST["f1"] if scored else "f1", tests.get(name, {}))
    return found


def section(grid: str) -> tuple[list[str], set[str]]:
    """The parts of a grid, whose figures are drawn, and the machines of its runs."""
    title, entries, notes = read_grid(Path(grid))
    runs = load(entries)
    topics = {topic: [entry for entry in entries if entry.topic == topic] for topic in dict.fromkeys(entry.topic for entry in entries)}
    parts = [f"# {title}"]
    for topic, some in topics.items():
        if topic != "curves":
            parts += tables(topic, some, runs)
            parts += [notes[topic]] if topic in notes else []
        parts += [calibration(entry, runs) for entry in some if entry.name == "defaults" and entry.test and some[0].peer]
    if "headline" in topics:
        parts += figures(entries, topics, runs)
    return parts, set(runs["machine"])


def figures(entries: list[Entry], topics: dict[str, list[Entry]], runs: pd.DataFrame) -> list[str]:
    """The figures and the errors, which are of GMB."""
    parts = []
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
    return parts


def main(grids: list[str]) -> None:
    sections = [section(grid) for grid in grids]
    machines = "\n\n".join(sorted(set().union(*(machines for _, machines in sections))))
    head = HEAD.format(grids=" ".join(f"experiments/grids/{Path(grid).name}" for grid in grids), machines=machines)
    files.write(HERE / "RESULTS.md", "\n\n".join([head, *(part for parts, _ in sections for part in parts)]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
