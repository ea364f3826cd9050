"""How fast tag.py is, and how much memory it takes, against predict.py on the same lines: run it on a machine with nothing else to do.

    python tools/bulk_rates.py CORPUS --ckpt DIR [--rows 25000 100000 250000] [--workers 1 2]

The lines are the corpus's sentences, again and again until there are so many. From the second round on a tenth of the words is spelt in
another way, so that new words keep coming. predict.py tags the first of the sizes, between the jobs of tag.py on them.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from ner import formats  # noqa: E402

EVERY = 1.0  # seconds from one look at the memory to the next


def write_lines(path: Path, sentences: list[list[str]], rows: int) -> None:
    """One JSON object a line: an id and a text."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            words = sentences[number % len(sentences)]
            if number >= len(sentences):
                words = [respelt(word, rng) if rng.random() < 0.1 else word for word in words]
            file.write(json.dumps({"id": str(number), "text": " ".join(words)}) + "\n")


def respelt(word: str, rng: random.Random) -> str:
    """The word with a letter more."""
    place = rng.randrange(len(word) + 1)
    return word[:place] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[place:]


def measured(*command: object) -> tuple[float, float]:
    """Run a command of the project, which must succeed: its seconds, and the most memory of it and all that it started, MiB.

    Memory that several processes share is counted once (proportional set size).
    """
    began, most = time.perf_counter(), 0.0
    process = psutil.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
    reader.start()
    while process.poll() is None:
        most = max(most, sum(map(memory, [process, *children(process)])))
        time.sleep(EVERY)
    reader.join()
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with status {process.returncode}: {said[0][-2000:]}")
    return time.perf_counter() - began, most / 2**20


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def memory(process: psutil.Process) -> int:
    """Proportional set size, bytes, from the kernel's own sum: psutil adds up all mappings, which would slow the job down."""
    try:
        fields = Path(f"/proc/{process.pid}/smaps_rollup").read_text().split()
        return int(fields[fields.index("Pss:") + 1]) * 2**10
    except (OSError, ValueError):  # it has just ended
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[25_000, 100_000, 250_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    sentences = [list(sentence.words) for sentence in formats.read(given.corpus)]

    def report(name: str, rows: int, *command: object) -> None:
        seconds, most = measured(*command)
        print(f"{name:24} {rows:>9,} rows {seconds:8.1f} s {rows / seconds:8.1f} rows/s {most:8,.0f} MiB", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for rows in given.rows:
            lines = Path(folder, f"{rows}.jsonl")
            write_lines(lines, sentences, rows)
            if rows == given.rows[0]:
                text = Path(folder, "lines.txt")
                text.write_text("".join(json.loads(line)["text"] + "\n" for line in lines.open(encoding="utf-8")), encoding="utf-8")
                report("predict.py", rows, "predict.py", "--ckpt", given.ckpt, "--input", text, "--format", "jsonl")
            for workers in given.workers:
                output = Path(folder, f"out-{rows}-{workers}")
                command = ["tag.py", "--ckpt", given.ckpt, "--input", lines, "--output", output, "--workers", workers]
                report(f"tag.py, workers {workers}", rows, *command)


if __name__ == "__main__":
    main()
