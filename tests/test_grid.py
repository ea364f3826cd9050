"""The grid of experiments: what is left to do, and tables that depend on the records alone."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import errors, grid, tables
from ner import formats
from ner.sentences import Sentence

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
GRID = """base = "../base.toml"
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


def record(entry, seed, right):
    """A run of two epochs whose second is the better one, with ``right`` of ten entities found on test."""
    gold = [["B-geo", "O"]] * 10
    predicted = [["B-geo", "O"]] * right + [["O", "B-per"]] * (10 - right)
    epochs = [{"epoch": n, "seconds": 10.0 * n, "f1": 0.1 * n, "f1_strict": 0.1 * n, "macro_f1": 0.2, "f1_iob2": 0.3} for n in (1, 2)]
    return {
        "entry": {"name": entry.name},
        "seed": seed,
        "commit": "abc",
        "date": "2026-01-01",
        "machine": {"CPU": "x"},
        "alone": seed == 0,
        "epochs": epochs,
        "tokens_per_second": 100.0,
        **({"test": grid.scored(gold, predicted)} if entry.test else {}),
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
        grid.record_of(entry, seed).write_text(json.dumps(record(entry, seed, right)))


def test_what_is_done_is_skipped_and_first_seeds_come_first(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    assert [(e.name, s) for e, s in grid.to_do(entries, None)] == [
        ("ours", 0),
        ("theirs", 0),
        ("ours", 1),
        ("theirs", 1),
        ("trial", 0),
        ("half", 0),
    ]
    write(entries, ("ours", 0, 9))
    assert [(e.name, s) for e, s in grid.to_do(entries, "ours,half")] == [("ours", 1), ("half", 0)]


def test_the_tables_are_the_same_bytes_each_time_and_show_what_is_not_run(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    write(entries, ("ours", 0, 9), ("ours", 1, 8), ("theirs", 0, 1), ("trial", 0, 0))
    tables.main(str(folder / "grid.toml"))
    names = ("RESULTS.md", "curves.svg", "sizes.svg")
    assert not (folder / "row_lengths.svg").exists()  # none is run
    first = [(folder / name).read_bytes() for name in names]
    tables.main(str(folder / "grid.toml"))
    assert [(folder / name).read_bytes() for name in names] == first
    text = first[0].decode()
    assert "| theirs | 1 | 0.1000 |" in text
    assert "| ours | 2 | 0.8500 ± 0.0707 |" in text
    assert "| trial | rows 8 | 1 | 1 | 0.2000 | 0.2000 | 0.3000 | 100 | 20 | abc | 2026-01-01 |" in text
    assert text.count("| 20 | abc | 2026-01-01 |") == 3  # seconds of the runs that had the machine alone, one of each
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
    tables.main(str(folder / "grid.toml"))
    text = (folder / "RESULTS.md").read_text()
    assert "| geo taken for org | 1 |" in text and "New York (org 'York') 1" in text and "scores about 0.7071" in text


def test_every_idea_that_was_tried_has_its_patch_and_every_patch_its_commit():
    _, entries, _ = grid.read_grid(EXPERIMENTS / "grids" / "gmb.toml")
    patches = list((EXPERIMENTS / "tried").glob("*.patch"))
    assert {entry.commit for entry in entries if "/" in entry.commit} == {f"tried/{path.stem}" for path in patches}
    assert all(path.read_text().startswith("Against commit ae07e0d;") for path in patches)


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
def small(folder, tiny, toy_sentences, monkeypatch):
    """A grid of the tiny encoder: trained by train.py, and by the Trainer."""
    formats.write(folder / "toy.jsonl", toy_sentences)
    (folder / "base.toml").write_text(f'encoder = "{tiny}"\ncompute_dtype = "float32"\nunseen_tags = "missed"\n')
    (folder / "grid.toml").write_text(
        """base = "base.toml"
        seeds = [3]
        [[runs]]
        name = "ours"
        topic = "headline"
        test = true
        settings = { epochs = 2, rows = 4, row_length = 64, case = true, tpu = "none" }
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
        monkeypatch.setattr(sys, "argv", ["grid.py", str(folder / "grid.toml"), *options])
        grid.main()
        tables.main(str(folder / "grid.toml"))
        return json.loads((folder / "results" / f"{name}-3.json").read_text())

    return run


def checked(found: dict, text: str) -> None:
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2] and found["tokens_per_second"] > 0
    assert 0 < found["epochs"][0]["seconds"] < found["epochs"][1]["seconds"]
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


def test_settings_become_flags():
    assert grid.flags({"case": False, "overwrite": True, "row_length": 64}) == ["--no-case", "--overwrite", "--row-length", 64]


def test_a_second_seed_alike_narrows_no_interval(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    cells = []
    for seed in (0, 1):
        write(entries, ("ours", seed, 7), ("theirs", seed, 5))
        tables.main(str(folder / "grid.toml"))
        lines = [line.split("|") for line in (folder / "RESULTS.md").read_text().splitlines()]
        cells.append([line[6:8] for line in lines if line[1:2] in ([" ours "], [" theirs "]) and len(line) == 12])
    assert cells[0] == cells[1] and " to " in cells[0][0][0] and cells[0][1][1].strip()


def test_counts_survive_the_record(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    assert tables.counts(record(entries[0], 0, 7)).sum(0).tolist() == [7, 10, 10]


def test_the_shipped_tables_are_those_of_the_shipped_records(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "HERE", tmp_path)
    tables.main(str(EXPERIMENTS / "grids" / "gmb.toml"))
    assert (tmp_path / "RESULTS.md").read_bytes() == (EXPERIMENTS / "RESULTS.md").read_bytes()


def test_the_shipped_grid_is_one(folder):
    base, entries, _ = grid.read_grid(EXPERIMENTS / "grids" / "gmb.toml")
    assert base.resolve() == EXPERIMENTS / "gmb_minilm.toml"
    assert len({grid.record_of(e, s) for e in entries for s in e.seeds}) == sum(len(e.seeds) for e in entries)
