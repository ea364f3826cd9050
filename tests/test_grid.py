"""The grid of experiments: what is left to do, and tables that depend on the records alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import errors  # noqa: E402
import grid  # noqa: E402
import tables  # noqa: E402

from ner import formats  # noqa: E402
from ner.sentences import Sentence  # noqa: E402

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
        "command": "python x.py",
        "commit": "abc",
        "date": "2026-01-01",
        "machine": {"CPU": "x"},
        "wall_seconds": 30,
        "alone": seed == 0,
        "epochs": epochs,
        "tokens_per_second": 100.0,
        **({"test": grid.scored(gold, predicted)} if entry.test else {}),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "RECORDS", tmp_path)
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
    assert "| trial | rows 8 | 1 | 1 | 0.2000 | 0.2000 | 0.3000 |" in text
    assert text.count("| 20 |") == 3  # seconds of the runs that had the machine alone, one of each
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


def test_every_patch_is_a_file(folder):
    _, entries, _ = grid.read_grid(EXPERIMENTS / "grids" / "gmb.toml")
    tried = {entry.patch for entry in entries if entry.patch}
    assert tried == {path.stem for path in (EXPERIMENTS / "tried").glob("*.patch")}
    assert all(entry.commit for entry in entries if entry.patch)
    assert grid.code_of(entries[0], folder) == grid.ROOT


def test_settings_become_flags():
    assert grid.flags({"case": False, "overwrite": True, "row_length": 64}) == ["--no-case", "--overwrite", "--row-length", 64]


def test_a_second_seed_alike_narrows_no_interval(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    cells = []
    for seed in (0, 1):
        write(entries, ("ours", seed, 7), ("theirs", seed, 5))
        tables.main(str(folder / "grid.toml"))
        lines = [line.split("|") for line in (folder / "RESULTS.md").read_text().splitlines()]
        cells.append([line[6:8] for line in lines if line[1:2] in ([" ours "], [" theirs "]) and len(line) == 10])
    assert cells[0] == cells[1] and " to " in cells[0][0][0] and cells[0][1][1].strip()


def test_counts_survive_the_record(folder):
    _, entries, _ = grid.read_grid(folder / "grid.toml")
    assert tables.counts(record(entries[0], 0, 7)).sum(0).tolist() == [7, 10, 10]


def test_the_shipped_grid_is_one(folder):
    base, entries, _ = grid.read_grid(EXPERIMENTS / "grids" / "gmb.toml")
    assert base.resolve() == EXPERIMENTS / "gmb_minilm.toml"
    assert len({grid.record_of(e, s) for e in entries for s in e.seeds}) == sum(len(e.seeds) for e in entries)
