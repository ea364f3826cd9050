"""Kill a training run with SIGKILL at random instants, continue it until it is done, and compare it with one never interrupted.

    python tests/kills.py [--kills 100] [--seed 0]

Trains the tests' tiny BERT on a part of the shipped sample, so that an attempt takes seconds; what is tried is all that a large run has:
updates, checkpoints every few of them, validation, the best model, TensorBoard. Every other kill waits for a write to begin and falls into
it; the others fall anywhere after the first fifth of the program's time, which is imports. A run is lost if continuing it fails, or if its
end differs in a bit: weights, predictions, metrics.jsonl and TensorBoard, wall-clock fields aside. tests/test_kills.py is a short form.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a script

WRITES = ("checkpoints/.partial", ".model.partial")  # what stands in a run's folder only while it is written
PATIENCE = 300.0


@dataclasses.dataclass
class Tally:
    """Kills so far, how many fell after a checkpoint existed and how many into a write; runs finished and runs lost (with the reason)."""

    kills: int = 0
    after_checkpoint: int = 0
    in_a_write: int = 0
    finished: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)


def make_corpus(folder: Path) -> None:
    """train.conll and validation.conll: the first sentences of the shipped sample."""
    from ner import formats

    for name, count in (("train", 200), ("validation", 60)):
        formats.write(folder / f"{name}.conll", formats.read(ROOT / "sample" / f"{name}.csv")[:count])


def command(folder: Path, output: Path) -> list[str]:
    """train.py on the corpus of ``folder``, continuing what ``output`` holds."""
    files = ["--train", str(folder / "train.conll"), "--validation", str(folder / "validation.conll"), "--output", str(output)]
    encoder = ["--encoder", str(ROOT / "tests/fixtures/tiny_bert")]
    settings = "--unseen-tags missed --epochs 3 --rows 4 --row-length 64 --learning-rate 5e-3 --compute-dtype float32 --tpu none"
    saving = "--steps-per-call 2 --checkpoint-every-steps 4 --resume"
    return [sys.executable, str(ROOT / "train.py"), *files, *encoder, *settings.split(), *saving.split()]


@dataclasses.dataclass
class Kill:
    """When to kill: ``after`` seconds from the start, or ``delay`` seconds into the first write that is seen after them."""

    after: float
    delay: float | None

    def due(self, output: Path, began: float) -> bool:
        if time.time() - began < self.after:
            return False
        if self.delay is not None:
            if not writing(output, began):
                return False
            time.sleep(self.delay)
        return True


def writing(output: Path, since: float) -> bool:
    """Whether a write begun after ``since`` (seconds of the epoch) is not ended; what an earlier kill left behind does not count."""
    for name in WRITES:
        try:
            if (output / name).stat().st_mtime > since:
                return True
        except OSError:
            continue
    return False


def attempt(arguments: list[str], output: Path, kill: Kill | None) -> tuple[int, bool]:
    """Run train.py to its end or to the kill: its exit status, and whether the kill fell into a write."""
    with open(output.with_suffix(".log"), "a") as log:
        began = time.time()
        process = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=ROOT)
        while process.poll() is None:
            if kill and kill.due(output, began):
                process.kill()
                return process.wait(), writing(output, began)
            if time.time() - began > PATIENCE:
                process.kill()
                process.wait()
                raise RuntimeError(f"an attempt hung for {PATIENCE:g} s")
            time.sleep(0.001)
    return process.returncode, False


def kill_until_done(folder: Path, output: Path, seconds: float, rng: random.Random, tally: Tally, most: int) -> None:
    """One run that takes ``seconds``, killed again and again (until ``most`` kills in all), then left to end."""
    while True:
        kill = None
        if tally.kills < most:
            into_write = rng.random() < 0.5
            kill = Kill(seconds * rng.uniform(0.2, 0.6 if into_write else 1.0), rng.uniform(0, 0.02) if into_write else None)
        status, in_a_write = attempt(command(folder, output), output, kill)
        if status == 0:
            return
        if kill is None or status != -signal.SIGKILL:
            last = output.with_suffix(".log").read_text(errors="replace").strip().splitlines()[-1]
            raise RuntimeError(f"status {status}: {last}")
        tally.kills += 1
        tally.after_checkpoint += any(output.glob("checkpoints/step-*"))
        tally.in_a_write += in_a_write


def outcome(output: Path) -> dict[str, object]:
    """What must be the same to the bit."""
    from ner.dashboard import is_timing

    predictions = output.with_suffix(".conll")
    evaluate = [sys.executable, str(ROOT / "evaluate.py"), "--ckpt", str(output), "--predictions", str(predictions)]
    subprocess.run(evaluate, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {
        "weights": (output / "model" / "model.safetensors").read_bytes(),
        "predictions": predictions.read_bytes(),
        "metrics.jsonl": [{k: v for k, v in record.items() if not is_timing(k)} for record in records],
        "TensorBoard": recorded(output / "tensorboard"),
    }


def recorded(folder: Path) -> list[tuple[str, int, bytes]]:
    """(tag, step, value) of everything recorded but the wall clock, in order."""
    import tensorflow as tf

    from ner.dashboard import is_timing

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            # The configuration names the run's folder, and HParams when it began.
            different = ("configuration", "_hparams_/session_start_info")
            kept = [v for v in event.summary.value if v.tag not in different and not is_timing(v.tag)]
            found += [(v.tag, event.step, v.tensor.SerializeToString()) for v in kept]
    return sorted(found)


def differing(one: dict[str, object], other: dict[str, object]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


def try_kills(kills: int, seed: int, folder: Path) -> Tally:
    """Runs killed at random until there were ``kills`` kills, each compared with one that was not."""
    make_corpus(folder)
    began = time.monotonic()
    status, _ = attempt(command(folder, folder / "whole"), folder / "whole", None)
    assert status == 0, (folder / "whole.log").read_text()
    seconds = time.monotonic() - began
    expected = outcome(folder / "whole")
    rng, tally, number = random.Random(seed), Tally(), 0
    while tally.kills < kills:
        output, number = folder / f"run{number}", number + 1
        try:
            # A series of its own for every dozen kills, so that many runs are brought to their end.
            kill_until_done(folder, output, seconds, rng, tally, min(kills, tally.kills + 12))
            if different := differing(expected, outcome(output)):
                tally.lost.append(f"{output.name}: {', '.join(different)} differ")
        except (RuntimeError, subprocess.CalledProcessError) as error:
            tally.lost.append(f"{output.name}: {error}")
        tally.finished += 1
        print(f"{tally.kills} kills, {tally.finished} runs finished, {len(tally.lost)} lost", flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        os.environ["NER_CACHE"] = str(Path(folder) / "cache")
        tally = try_kills(given.kills, given.seed, Path(folder))
    print(json.dumps(dataclasses.asdict(tally), indent=1))
    return 1 if tally.lost else 0


if __name__ == "__main__":
    sys.exit(main())
