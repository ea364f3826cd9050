"""Kill tag.py with SIGKILL at random instants (a worker, the driver, both), continue it until it is done, and look for faults.

    .venv-ray/bin/python tests/bulk_kills.py --ckpt MODEL [--kills 30] [--seed 0]

Each id of the input must come out once, in data/ or in rejected/, with the tags that predict.py gives. A series of its own for every few
kills, so that many jobs are brought to their end. Runs in Ray's environment (``make ray``). MODEL is one trained with ``--compute-dtype
float32``: the two programs put other sentences together, and in bfloat16 a few tags differed without any kill.

A worker is any process of Ray's that bears its name, also an agent without which a node is dead: then tag.py ends, and is continued.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

ROOT = Path(__file__).resolve().parent.parent
FILES, ROWS = 12, 400
PATIENCE = 300.0


@dataclasses.dataclass
class Tally:
    """Kills so far of each kind, those after which something was written, attempts that a kill ended with status 1, jobs, and faults."""

    worker: int = 0
    driver: int = 0
    both: int = 0
    with_output: int = 0
    ended: int = 0
    finished: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.worker + self.driver + self.both


def make_input(folder: Path, rng: random.Random) -> dict[str, str | None]:
    """Parquet files of words drawn at random, one null in each; id -> text."""
    words = ["alex", "lives", "in", "london", "the", "paris", "mary", "sings", ",", "3", "friends", "."]
    texts: dict[str, str | None] = {}
    folder.mkdir()
    for number in range(FILES):
        ids = [f"{number}-{row}" for row in range(ROWS)]
        texts |= {id: " ".join(rng.choices(words, k=rng.randint(1, 30))) for id in ids}
        texts[ids[rng.randrange(ROWS)]] = None
        parquet.write_table(pa.table({"id": ids, "text": [texts[id] for id in ids]}), folder / f"part-{number}.parquet")
    return texts


def command(ckpt: Path, folder: Path, output: Path) -> list[str]:
    flags = ["--input", str(folder), "--output", str(output), "--workers", "2", "--rows-per-file", "200", "--resume"]
    return [sys.executable, str(ROOT / "tag.py"), "--ckpt", str(ckpt), *flags]


def workers(driver: int) -> list[int]:
    """The processes below ``driver`` that are Ray's workers, by /proc."""
    parents, found = {}, []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
    for process in parents:
        above = process
        while above in parents and above != driver:
            above = parents[above]
        if above == driver and process != driver and b"ray::" in _command_line(process):
            found.append(process)
    return found


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def attempt(arguments: list[str], output: Path, kinds: list[tuple[float, str]], rng: random.Random, tally: Tally) -> int:
    """Run tag.py to its end, or to the kill that takes the driver with it; kinds: seconds from the start, and what is killed then."""
    with open(output.with_suffix(".log"), "a") as log:
        began = time.monotonic()
        driver = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=ROOT)
        for after, kind in kinds:
            while driver.poll() is None and time.monotonic() - began < after:
                time.sleep(0.005)
            below = workers(driver.pid)
            if driver.poll() is not None or (kind == "worker" and not below):
                continue
            setattr(tally, kind, getattr(tally, kind) + 1)
            tally.with_output += any(output.glob("checkpoint/*"))
            if kind != "driver" and below:
                kill(rng.choice(below))
            if kind != "worker":
                kill(driver.pid)
        try:
            return driver.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            kill(driver.pid)
            raise RuntimeError(f"an attempt hung for {PATIENCE:g} s") from None


def job(arguments: list[str], output: Path, seconds: float, most: int, rng: random.Random, tally: Tally) -> None:
    """One job that takes ``seconds``, killed until there were ``most`` kills in all, then left to end."""
    while True:
        before = tally.kills
        left = most - before
        kinds = sorted((seconds * rng.uniform(0.25, 1.0), rng.choice(("worker", "driver", "both"))) for _ in range(min(left, 2)))
        status = attempt(arguments, output, kinds, rng, tally)
        if status == 0:
            return
        if status == 1 and tally.kills > before:
            tally.ended += 1
        elif status != -signal.SIGKILL:
            raise RuntimeError(f"status {status}: {output.with_suffix('.log').read_text(errors='replace').strip()[-300:]}")


def predicted(ckpt: Path, texts: dict[str, str | None], folder: Path) -> dict[str, list[str]]:
    """id -> tags, by predict.py."""
    lines = folder / "lines.txt"
    ids = [id for id, text in texts.items() if text is not None]
    lines.write_text("".join(f"{texts[id]}\n" for id in ids))
    predict = [sys.executable, str(ROOT / "predict.py"), "--ckpt", str(ckpt), "--input", str(lines), "--format", "jsonl"]
    out = subprocess.run(predict, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    return {id: json.loads(line)["tags"] for id, line in zip(ids, out, strict=True)}


def faults(output: Path, texts: dict[str, str | None], expected: dict[str, list[str]]) -> list[str]:
    """What is wrong with a finished job."""
    tagged, rejected = (parquet.ParquetDataset(output / folder).read().to_pylist() for folder in ("data", "rejected"))
    wrong = []
    if sorted(row["id"] for row in tagged) != sorted(expected):
        wrong.append(f"{len(tagged)} rows tagged, {len({row['id'] for row in tagged} & set(expected))} of {len(expected)} ids")
    if sorted(row["id"] for row in rejected) != sorted(set(texts) - set(expected)):
        wrong.append(f"{len(rejected)} rows rejected of {len(set(texts) - set(expected))}")
    if different := sum(row["tags"] != expected.get(row["id"]) for row in tagged):
        wrong.append(f"{different} rows have other tags")
    if left := [path.name for path in output.iterdir() if path.name not in ("data", "rejected", "job.json")]:
        wrong.append(f"left behind: {left}")
    return wrong


def try_kills(ckpt: Path, kills: int, seed: int, folder: Path, each: int = 5) -> Tally:
    """Jobs killed at random until there were ``kills`` kills, about ``each`` in a job, each compared with predict.py."""
    rng, tally, number = random.Random(seed), Tally(), 0
    texts = make_input(folder / "input", rng)
    expected = predicted(ckpt, texts, folder)
    began = time.monotonic()
    subprocess.run(command(ckpt, folder / "input", folder / "whole"), check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    tally.wrong += faults(folder / "whole", texts, expected)
    while tally.kills < kills and number < 3 * kills:  # a job that ends before its kills is none of them
        output, number = folder / f"out{number}", number + 1
        try:
            arguments = command(ckpt, folder / "input", output)
            job(arguments, output, seconds, min(kills, tally.kills + each), rng, tally)
            tally.wrong += [f"{output.name}: {fault}" for fault in faults(output, texts, expected)]
        except RuntimeError as error:
            tally.wrong.append(f"{output.name}: {error}")
        tally.finished += 1
        print(f"{tally.kills} kills, {tally.finished} jobs finished, wrong: {tally.wrong}", flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        tally = try_kills(given.ckpt.resolve(), given.kills, given.seed, Path(folder))
    print(json.dumps(dataclasses.asdict(tally), indent=1))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
