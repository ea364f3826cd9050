"""The grid of experiments: what is left to do, and tables that depend on the records alone."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import errors, grid, tables
from ner import formats
from ner.errors import InputError
from ner.sentences import Sentence

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
GRID = """title = "A corpus"
base = "../base.toml"
seeds = [0, 1]
[topics.ablations]
note = "Of one commit."
share = 0.5
seeds = [0]
[[runs]]
name = "ours"
topic = "headline"
test = true
[[runs]]
name = "theirs"
topic = "headline"
test = true
peer = true
settings = { rows = 32 }
[[runs]]
name = "trial"
topic = "trials"
seeds = [0]
peer = true
settings = { rows = 8 }
[[runs]]
name = "half"
topic = "ablations"
"""
CORPORA = """title = "Corpora"
seeds = [0, 1]
corpora = ["wiki", "gmb"]
runs = [
  { name = "Trainer", topic = "against", peer = true, best_of = "trials" },
  { name = "defaults", topic = "against" },
  { name = "trial", topic = "trials", settings = { rows = 9 }, vary = { epochs = [1, 2], learning_rate = [1e-4, 2e-4] } },
  { name = "defaults", topic = "budgets", corpora = ["wiki"], test = true },
  { name = "budget", topic = "budgets", corpora = ["wiki"], vary = { rows = [4, 8] } },
]
[topics.against]
test = true
[topics.trials]
seeds = [0]
corpora = ["wiki"]
peer = true
[topics.budgets]
seeds = [0]
"""


CUT = {"min_score": 0.8, "precision": 0.96, "recall": 0.4}


def record(entry, seed, right, f1=0.2):
    """A run of two epochs whose second is the better one, with ``right`` of ten entities found on test, and ``f1`` on validation."""
    gold = [["B-geo", "O"]] * 10
    predicted = [["B-geo", "O"]] * right + [["O", "B-per"]] * (10 - right)
    scores = {"f1_strict": 0.1, "macro_f1": 0.2, "f1_iob2": 0.3}
    epochs = [{"epoch": n, "step": 50 * n, "seconds": 10.0 * n, "f1": f1 * n / 2, **scores} for n in (1, 2)]
    return {
        "entry": {"name": entry.name, "settings": entry.settings},
        "seed": seed,
        "commit": "abc",
        "date": "2026-01-01",
        "machine": {"CPU": "x"},
        "alone": seed == 0,
        "epochs": epochs,
        "wall_seconds": 25,
        "tokens_per_second": 100.0,
        **({"test": grid.scored(gold, predicted)} if entry.test else {}),
        **({"test_iob2": grid.scored(gold, [["B-geo", "O"], *predicted[:-1]])} if entry.test and entry.peer else {}),
        **({"calibration_error": {"words": 0.01, "entities": right / 100}, "cut": CUT if seed else None} if not entry.peer else {}),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(grid, "RECORDS", tmp_path / "results")
    monkeypatch.setattr(tables, "HERE", tmp_path)
    monkeypatch.setattr(tables, "ERRORS", tmp_path / "errors.json")
    monkeypatch.setattr(errors, "RECORD", tmp_path / "errors.json")
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


def write(entries, *runs):
    for name, seed, right in runs:
        entry = next(e for e in entries if e.name == name)
        grid.record_of(entry, "gmb", seed).write_text(json.dumps(record(entry, seed, right)))


def test_what_is_done_is_skipped_and_first_seeds_come_first(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    assert [(e.name, s) for e, _, s in grid.to_do(entries)] == [
        ("ours", 0),
        ("theirs", 0),
        ("ours", 1),
        ("theirs", 1),
        ("trial", 0),
        ("half", 0),
    ]
    write(entries, ("ours", 0, 9))
    assert [(e.name, s) for e, _, s in grid.to_do(entries, ["ours", "half"])] == [("ours", 1), ("half", 0)]


def several(folder):
    """The entries of a grid of several corpora, and ``write(name, corpus, seed, right, f1)``, a record."""
    (folder / "corpora.toml").write_text(CORPORA)
    _, entries, _ = grid.read_grid(folder / "corpora.toml")

    def write(name, corpus, seed, right, f1):
        entry = next(e for e in entries if e.name == name)
        path = grid.record_of(entry, corpus, seed)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record(entry, seed, right, f1)))

    return entries, write


def test_trials_of_a_corpus_come_first_and_the_best_gives_its_settings(folder):
    entries, write = several(folder)
    trials = [e for e in entries if e.topic == "trials"]
    assert [e.name for e in trials][1] == "trial epochs 1 learning_rate 0.0002"
    assert trials[1].settings == {"rows": 9, "epochs": 1, "learning_rate": 2e-4}
    names = [(e.name, corpus, seed) for e, corpus, seed in grid.to_do(entries)]
    assert names[:4] == [(e.name, "wiki", 0) for e in trials] and names[4:6] == [("Trainer", "wiki", 0), ("Trainer", "gmb", 0)]
    for trial, f1 in zip(trials[:3], (0.2, 0.4, 0.3), strict=True):
        write(trial.name, "wiki", 0, 0, f1)
    with pytest.raises(InputError, match="Trainer on wiki: not all of 'trials' is run"):
        grid.tuned(entries[0], "wiki", entries)
    write(trials[3].name, "wiki", 0, 0, 0.1)
    assert grid.tuned(entries[0], "wiki", entries).settings == trials[1].settings
    assert grid.tuned(entries[1], "wiki", entries) is entries[1]
    assert {(e.name, c, s) for e, c, s in grid.to_do(entries, ["defaults"], ["wiki"], [1])} == {("defaults", "wiki", 1)}


def test_tables_of_several_corpora(folder):
    entries, write = several(folder)
    for seed in (0, 1):
        write("Trainer", "wiki", seed, 4, 0.1)
        write("defaults", "wiki", seed, 6, 0.3)
        write("defaults", "gmb", seed, 9, 0.5)
    write("Trainer", "gmb", 0, 8, 0.5)
    write("budget rows 8", "wiki", 0, 0, 0.32)
    tables.main([str(folder / "corpora.toml")])
    text = (folder / "RESULTS.md").read_text()
    assert (folder / "results" / "Trainer-0.json").exists() and (folder / "results" / "wiki" / "Trainer-0.json").exists()
    assert "| wiki | defaults | 2 | 0.6000 ± 0.0000 |" in text and " | 20 | 25 | abc |" in text and "| gmb | Trainer | 1 | 0.8000 |" in text
    line = "F1 +0.1500 on average, from +0.1000 to +0.2000, ahead on 2 of 2 corpora; by the paired tests better on at least 0 "
    line += "(Dror et al. 2017, 95 %); 1.00 times the seconds on average, at most 1.00."
    assert f"\n\ndefaults against Trainer: {line}\n" in text
    assert "| wiki | Trainer decoded by IOB2's rules | 2 | 0.5000 ± 0.0000 |" in text
    assert "\n\nTrainer decoded by IOB2's rules against Trainer: F1 +0.1000 on average" in text
    assert "\n| wiki | 2 | 0.010 ± 0.000 | 0.060 ± 0.000 | 1 | 0.800 | 0.960 | 0.400 |\n" in text
    assert "| wiki | 100 | 0.3000 | 100 | 0.3200 | rows 8 | 1 of 2 | -0.0200 |" in text
    assert not (folder / "sizes.svg").exists()


def test_without_a_base_train_py_is_given_the_corpus_and_nothing_else(folder, toy_sentences, monkeypatch):
    entries, _ = several(folder)
    ran = []

    def run(*command):
        ran.append([str(word) for word in command[1:]])
        output = Path(ran[-1][ran[-1].index("--output") + 1])
        output.mkdir(parents=True)
        scores = {f"validation/{key}": 0.5 for key in ("f1", "f1_strict", "macro_f1")}
        moments = [{"step": n, "epoch": 1, "train/seconds": 2.0 * n, "train/tokens_per_second": 9.0 * n} for n in (1, 2, 3)]
        lines = [json.dumps(moments[0] | scores), json.dumps(moments[1] | scores), json.dumps(moments[2])]
        (output / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return 30.4

    for part in ("train", "validation", "test"):
        formats.write(folder / f"wiki.{part}.conll", toy_sentences[:9])
    monkeypatch.setenv("NER_CORPORA", str(folder))
    monkeypatch.delenv("GMB_CSV", raising=False)
    monkeypatch.setattr(grid, "run", run)
    held = [folder / "hold"]
    held[0].touch()
    monkeypatch.setattr(grid.rounds, "HOLD", held[0])
    monkeypatch.setattr(grid.time, "sleep", lambda seconds: held[0].unlink())
    options = [str(folder / "corpora.toml"), "--runs", str(folder / "runs"), "--only", "budget rows 4", "--beside"]
    grid.main(options)
    assert not held[0].exists()  # it waited
    (words,) = ran
    output = words[words.index("--output") + 1]
    data = [word for part in ("train", "validation", "test") for word in (f"--{part}", str(folder / f"wiki.{part}.conll"))]
    assert words == [str(grid.ROOT / "train.py"), *data, "--rows", "4", "--seed", "0", "--output", output, "--resume"]
    found = json.loads((folder / "results" / "wiki" / "budget_rows_4-0.json").read_text())
    assert [(e["step"], e["seconds"]) for e in found["epochs"]] == [(1, 2.0), (2, 4.0)]
    assert (found["seconds"], found["wall_seconds"], found["tokens_per_second"], found["alone"]) == (6.0, 30, 18.0, False)
    for more, message in ((["--only", "no such"], "no no such"), (["--only", "defaults", "--corpora", "gmb"], "GMB_CSV is not set")):
        with pytest.raises(InputError, match=message):
            grid.main([*options[:3], *more])


def test_the_tables_are_the_same_bytes_each_time_and_show_what_is_not_run(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    write(entries, ("ours", 0, 9), ("ours", 1, 8), ("theirs", 0, 1), ("trial", 0, 0))
    tables.main([str(folder / "grid.toml")])
    names = ("RESULTS.md", "curves.svg", "sizes.svg")
    assert not (folder / "row_lengths.svg").exists()  # none is run
    first = [(folder / name).read_bytes() for name in names]
    tables.main([str(folder / "grid.toml")])
    assert [(folder / name).read_bytes() for name in names] == first
    text = first[0].decode()
    assert "| theirs | 1 | 0.1000 |" in text
    assert "| ours | 2 | 0.8500 ± 0.0707 |" in text
    assert "| trial | rows 8 | 1 | 1 | 0.2000 | 0.2000 | 0.3000 | 100 | 20 | abc | 2026-01-01 |" in text
    assert text.count("| 20 | abc | 2026-01-01 |") == 4  # seconds of the runs that had the machine alone, one of each
    assert "| half | as the experiment file | 0.5 | 0 |  |" in text and "\n\nOf one commit.\n\n" in text


def test_errors_of_a_model_and_of_the_annotation(folder, monkeypatch):
    words, tags = ["a", "Bush", "in", "New", "York"], ["O", "B-per", "O", "B-geo", "I-geo"]
    other = ["O", "B-per", "O", "O", "B-org"]
    formats.write(folder / "data.jsonl", [Sentence(words, tags), Sentence(words, other), *[Sentence(["x"], ["O"])] * 2])
    formats.write(folder / "turned.jsonl", [Sentence(["y"], ["O"]), Sentence(["y"], ["B-geo"])])
    assert errors.agreement(formats.read(folder / "turned.jsonl"))["pairs"] == 1
    lines = [" ".join(line) for line in zip(words, tags, other, strict=True)]
    (folder / "test.conll").write_text("\n".join(lines) + "\n\nx O O\n")
    monkeypatch.setattr(sys, "argv", ["errors.py", "--data", str(folder / "data.jsonl"), "--predictions", str(folder / "test.conll")])
    errors.main()
    found = json.loads((folder / "errors.json").read_text())
    assert found["agreement"] == {"pairs": 1, "differing": 1, "f1": 0.5, "ceiling": 0.5**0.5}
    assert found["names"] == {"geo": [["New York", "org 'York'", 1]]}
    tables.main([str(folder / "grid.toml")])
    text = (folder / "RESULTS.md").read_text()
    assert "| geo taken for org | 1 |" in text and "New York (org 'York') 1" in text and "scores about 0.7071" in text


def shipped() -> dict[str, list[grid.Entry]]:
    return {path.stem: grid.read_grid(path)[1] for path in (EXPERIMENTS / "grids").glob("*.toml")}


def test_every_idea_that_was_tried_has_its_patch_and_every_patch_its_commit():
    patches = list((EXPERIMENTS / "tried").glob("*.patch"))
    commits = {entry.commit for entries in shipped().values() for entry in entries if "/" in entry.commit}
    assert commits == {f"tried/{path.stem}" for path in patches}
    assert all(re.match("Against commit [0-9a-f]{7,};", path.read_text()) for path in patches)


def test_an_entry_that_names_a_branch_runs_its_commit_in_the_environment_of_then(folder, monkeypatch):
    repository, runs = folder / "repository", folder / "runs"
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", str(repository)], check=True)
    (repository / "Makefile").write_text("setup:\n\tmkdir -p .venv/bin && touch .venv/bin/python\n")
    for branch, lock in (("main", "today's"), ("tried/idea", "tried"), ("tried/other", "today's")):
        (repository / "requirements.lock").write_text(lock)
        (repository / "code.py").write_text(branch)
        subprocess.run([*git, "checkout", "--quiet", "-B", branch], check=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", branch], check=True)
    subprocess.run([*git, "checkout", "--quiet", "main"], check=True)
    monkeypatch.setattr(grid, "ROOT", repository)
    entry = grid.Entry("a trial", "trials", [0])
    assert grid.code_of(entry, runs) == (repository, Path(sys.executable))
    for _ in range(2):  # the second time there is a copy already
        code, python = grid.code_of(dataclasses.replace(entry, commit="tried/idea"), runs)
        assert (code / "code.py").read_text() == "tried/idea" and python == code / ".venv" / "bin" / "python" and python.exists()
    code, python = grid.code_of(dataclasses.replace(entry, commit="tried/other"), runs)
    assert (code / "code.py").read_text() == "tried/other" and python == Path(sys.executable)


@pytest.fixture
def small(folder, tiny, toy_sentences):
    """A grid of the tiny encoder: trained by train.py, and by the Trainer."""
    formats.write(folder / "toy.jsonl", toy_sentences)
    (folder / "base.toml").write_text(f'encoder = "{tiny}"\ncompute_dtype = "float32"\nunseen_tags = "missed"\n')
    (folder / "grid.toml").write_text(
        """title = "Toy"
        base = "base.toml"
        seeds = [3]
        [[runs]]
        name = "ours"
        topic = "headline"
        test = true
        settings = { epochs = 2, rows = 4, row_length = 64, case = true, validate_every = 0, tpu = "none" }
        [[runs]]
        name = "theirs"
        topic = "headline"
        test = true
        peer = true
        settings = { epochs = 2, rows = 4, learning_rate = 1e-3 }
        """
    )

    def run(name: str) -> dict:
        options = ["--data", str(folder / "toy.jsonl"), "--runs", str(folder / "runs"), "--only", name]
        grid.main([str(folder / "grid.toml"), *options])
        tables.main([str(folder / "grid.toml")])
        return json.loads((folder / "results" / f"{name}-3.json").read_text())

    return run


def checked(found: dict, text: str) -> None:
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2] and found["tokens_per_second"] > 0
    assert 0 < found["epochs"][0]["seconds"] < found["epochs"][1]["seconds"] == found["seconds"] < found["wall_seconds"]
    assert 0 < found["epochs"][0]["step"] < found["epochs"][1]["step"]
    sentences = [list(map(int, row.split(","))) for row in found["test"]["counts"].split(";")]
    assert len(sentences) == found["test"]["sentences"] and sum(gold for _, _, gold in sentences) == found["test"]["entities"] > 0
    assert f"| {found['entry']['name']} | 1 | {found['test']['f1']:.4f} |" in text and found["commit"] in text


@pytest.mark.slow
def test_an_entry_is_trained_by_train_py_and_scored_on_test(small, folder):
    found = small("ours")
    checked(found, (folder / "RESULTS.md").read_text())
    (run,) = (folder / "runs").glob("ours-3-*")
    assert found["epochs"][-1]["f1"] == json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["validation/f1"]
    assert "seed = 3" in (run / "config.toml").read_text()


def test_an_entry_of_a_peer_is_trained_by_the_trainer(small, folder):
    if not (grid.ROOT / ".venv-bench" / "bin" / "python").exists():
        pytest.skip("no .venv-bench with PyTorch: make bench installs it")
    found = small("theirs")
    checked(found, (folder / "RESULTS.md").read_text())
    assert all(0 <= epoch["f1_iob2"] <= 1 for epoch in found["epochs"]) and "torch" in found["versions"]
    assert found["test_iob2"]["entities"] == found["test"]["entities"]


def test_settings_become_flags():
    assert grid.flags({"case": False, "overwrite": True, "row_length": 64}) == ["--no-case", "--overwrite", "--row-length", 64]


def test_a_second_seed_alike_narrows_no_interval(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    cells = []
    for seed in (0, 1):
        write(entries, ("ours", seed, 7), ("theirs", seed, 5))
        tables.main([str(folder / "grid.toml")])
        lines = [line.split("|") for line in (folder / "RESULTS.md").read_text().splitlines()]
        cells.append([line[6:8] for line in lines if line[1:2] in ([" ours "], [" theirs "]) and len(line) == 12])
    assert cells[0] == cells[1] and " to " in cells[0][0][0] and cells[0][1][1].strip()


def test_counts_survive_the_record(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    assert tables.tested(record(entries[0], 0, 7)["test"])["counts"].sum(0).tolist() == [7, 10, 10]


def test_the_shipped_tables_are_those_of_the_shipped_records(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "HERE", tmp_path)
    written = (EXPERIMENTS / "RESULTS.md").read_text()
    (grids,) = re.findall(r"^Written by `python experiments/tables.py (.*?)`", written, re.MULTILINE)
    tables.main([str(EXPERIMENTS.parent / path) for path in grids.split()])
    assert (tmp_path / "RESULTS.md").read_text() == written


def test_the_shipped_grids_are_such(folder):
    """Each experiment file is there, and entries of one record are one run."""
    records = {}
    for entries in shipped().values():
        assert all((EXPERIMENTS / "grids" / entry.base).exists() for entry in entries)
        for entry in entries:
            for corpus in entry.corpora:
                run = dataclasses.replace(entry, topic="", seeds=[], corpora=[])
                other = records.setdefault(grid.record_of(entry, corpus, 0), run)
                assert other == run or (corpus, entry.name) == ("gmb", "Trainer batch 16")  # of gmb.toml's settings
    tuned = [entry for entry in shipped()["corpora"] if entry.best_of]
    trials = {(e.name, corpus) for e in shipped()["corpora"] for corpus in e.corpora if e.topic == tuned[0].best_of}
    assert [sum(corpus == of for _, of in trials) for corpus in tuned[0].corpora if corpus != "gmb"] == [6] * 7


def test_a_difference_is_counted_on_as_many_corpora_as_the_tests_allow():
    """Bonferroni's partial conjunction: 4 x 0.001, 3 x 0.01, 2 x 0.04, 1 x 0.2 against 0.05."""
    assert tables.replicated([0.2, 0.01, 0.001, 0.04]) == 2
    assert tables.replicated([0.0001] * 7) == 7 and tables.replicated([1.0, 1.0]) == 0 and tables.replicated([]) == 0
    assert tables.replicated([0.02, 0.001, 0.02]) == 3  # 3 x 0.001, 2 x 0.02, 1 x 0.02
    assert tables.replicated([0.04, 0.04]) == 0  # the second alone would do, the first does not
