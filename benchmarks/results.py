"""Rounds -> tables -> results/NAME.json, and all of these -> RESULTS.md."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ner import files

ORDER = [
    "train",
    "train-float32",
    "step",
    "time-to-f1",
    "predict",
    "predict-parts",
    "families",
    "encode",
    "startup",
    "scaling",
    "gpu",
    "elsewhere",
    "annotation",
]
HEAD = """# Benchmarks

Written by run.py (annotation: by annotation.py; gpu: by hand, from what tools/gpu_step.py and peers.py printed) from results/*.json. What
each contender does stands in ours.py and peers.py at the commit that is named; two are no longer in the code: of encode "word by word" (a
Python loop over words), and elsewhere, which tools/interop.py has taken the place of."""
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile")


@dataclasses.dataclass(frozen=True)
class Table:
    """A heading row and rows of cells, all text, with a line above and notes below."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = dataclasses.field(default_factory=list)

    def markdown(self) -> str:
        return "\n\n".join([self.caption, markdown(self.header, self.rows), *self.notes])


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def commit(root: Path, revision: str = "HEAD") -> str:
    """The short hash of a revision of the repository at ``root``; of HEAD with a mark if files differ from it."""
    git = ["git", "-C", str(root)]
    head = subprocess.run([*git, "rev-parse", "--short", f"{revision}^{{commit}}"], stdout=subprocess.PIPE, text=True, check=True).stdout
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True).stdout
    return head.strip() + "+" * (revision == "HEAD" and bool(changed.strip()))


def machine() -> dict[str, str]:
    """CPU model, cores, the instruction sets that decide, memory, system (Linux)."""
    info = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].split("\n") if ":" in line)
    info = {key.strip(): value.strip() for key, value in info.items()}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "CPU": f"{info.get('model name', platform.machine())} (family {info.get('cpu family')}, model {info.get('model')})",
        "cores": str(len(os.sched_getaffinity(0))),
        "flags": " ".join(flag for flag in FLAGS if flag in info.get("flags", "").split()),
        "memory": f"{memory:.0f} GiB",
        "system": f"Linux, Python {platform.python_version()}",
    }


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Median (min-max)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def rates(rounds: list[dict]) -> list[float]:
    """Work per second of each round."""
    return [r["work"] / r["seconds"] for r in rounds]


def rate_table(caption: str, unit: str, rounds: dict[str, list[dict]], reference: str) -> Table:
    """A contender a row: its rate, and how many times as fast the reference was in the same round."""
    header = ["contender", unit, f"{reference} / this", "seconds a round", "peak memory, MiB", "CPU used by others"]
    base = rates(rounds[reference]) if reference in rounds else []
    rows = []
    for name, measured in rounds.items():
        own = rates(measured)
        ratio = spread([a / b for a, b in zip(base, own, strict=False)], ".2f") if base else "-"
        seconds = spread([r["seconds"] for r in measured], ".1f")
        others = max(r["others"] for r in measured)
        rows.append([name, spread(own), ratio, seconds, f"{measured[-1]['peak_mib']:,.0f}", f"at most {others:.0%}"])
    return Table(caption, header, rows, ["Median (min-max) over the rounds; ratios are taken round by round."])


def write(folder: Path, benchmark: str, command: str, tables: list[Table], versions: dict[str, str], raw: object, left_out: dict) -> None:
    """results/BENCHMARK.json and the RESULTS.md beside the folder, from all that it holds."""
    record = {
        "benchmark": benchmark,
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(Path(__file__).parent),
        "command": command,
        "machine": machine(),
        "versions": versions,
        "left_out": left_out,
        "tables": [dataclasses.asdict(table) for table in tables],
        "raw": raw,
    }
    files.write(folder / f"{benchmark}.json", json.dumps(record, indent=1) + "\n")
    render(folder)


def render(folder: Path) -> None:
    """RESULTS.md beside the folder of records."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    records.sort(key=lambda r: ORDER.index(r["benchmark"]))
    text = "\n\n".join([HEAD, *(section(r) for r in records)])
    files.write(folder.parent / "RESULTS.md", text + "\n")


def section(record: dict) -> str:
    """One benchmark's part of RESULTS.md."""
    facts = "; ".join(f"{key} {value}" for key, value in record["machine"].items())
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
    head = f"{record['date']}, commit {record['commit']}; {facts}."
    parts = [f"## {record['benchmark']}", f"    {record['command']}", head, f"{versions}."]
    parts += [Table(**table).markdown() for table in record["tables"]]
    parts += [f"Left out: {name}: {reason}" for name, reason in record["left_out"].items()]
    return "\n\n".join(parts)
