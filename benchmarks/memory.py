"""Memory and speed of training on GMB and on copies of it: python benchmarks/memory.py ner_dataset.csv --times 1 16 64

About a tenth of the words of each copy is spelt in a new way, so that distinct words and distinct sentences grow with the corpus. Each
corpus is trained on twice, with an empty cache and with a full one, until --updates are done. Memory is RssAnon: what the process holds
itself, without mapped files, whose pages the system may drop. Linux only; the machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_copies(source: Path, target: Path, times: int) -> None:
    """GMB and ``times`` - 1 respelt copies of it."""
    header, *rows = source.read_bytes().decode("cp1252", "replace").splitlines(keepends=True)
    with open(target, "w", encoding="utf-8", newline="") as file:
        file.writelines([header, *rows])
        for copy in range(1, times):
            rng = random.Random(copy)
            file.writelines(respelt(row, rng) if rng.random() < 0.12 else row for row in rows)


def respelt(row: str, rng: random.Random) -> str:
    """A row of the CSV with three new letters in its word, unless this is no word of letters."""
    first, word, *rest = row.split(",")
    if not word.isalpha():
        return row
    at = rng.randrange(len(word)) + 1
    return ",".join([first, word[:at] + "".join(rng.choices(LETTERS, k=3)) + word[at:], *rest])


def train(corpus: Path, output: Path, cache: Path, updates: int, more: list[str]) -> dict[str, float]:
    """Train until ``updates`` are done and recorded, then ask for a stop. The peak is of the whole process, its stop included."""
    command = [sys.executable, "train.py", "--data", str(corpus), "--output", str(output), *more]
    began, peak, started, steps = time.monotonic(), 0, 0.0, list[dict]()
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "NER_CACHE": str(cache)}) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text().split()
            peak = max(peak, int(status[status.index("RssAnon:") + 1]) if "RssAnon:" in status else 0)
            metrics = output / "metrics.jsonl"
            found = [json.loads(line) for line in metrics.read_text().rpartition("\n")[0].splitlines()] if metrics.exists() else []
            steps = [record for record in found if "train/seconds" in record]
            if steps and not started:
                started = time.monotonic() - began - 2 * steps[0]["train/seconds"]  # a host call is recorded when the next one is done
            if steps and steps[-1]["step"] >= updates:
                process.send_signal(signal.SIGTERM)
                updates = 10**9
            time.sleep(0.05)
    first, last = steps[0], steps[-1]
    seconds = (last["train/seconds"] - first["train/seconds"]) / (last["step"] - first["step"])
    return {"MiB": peak / 1024, "seconds before the first update": started, "ms an update": 1000 * seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gmb", type=Path)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--updates", type=int, default=400)
    given, more = parser.parse_known_args()
    for times in given.times:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder, "corpus.csv")
            write_copies(given.gmb, corpus, times)
            for cache in ("empty", "full"):
                found = train(corpus, Path(folder, cache), Path(folder, "cache"), given.updates, more)
                print(f"{times} x GMB, {cache} cache: " + ", ".join(f"{value:,.1f} {name}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
