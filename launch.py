"""Start several workers of train.py, here or on a cluster: python launch.py --help"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

from ner.config import train_config
from ner.errors import InputError, RunStopped, WorkerLost, run_main
from ner.flags import REQUIRED, key, parse

EVERY = 0.2  # seconds from one look at what the workers print to the next
PATIENCE = 10.0  # seconds that a worker with an error of its own waits for the others to end too
WAITING = 60.0  # seconds from one line about too small a cluster to the next


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train on several workers over Ray Train: python launch.py --workers N -- ARGUMENTS OF train.py. Needs the extra `ray`."""

    workers: int = key(REQUIRED, "How many processes train together, each one replica (with several GPUs, one a GPU).", low=1, high=10_000)
    cpus_per_worker: int | None = key(None, "CPU threads of a worker. Without it: this machine's, shared out.", low=1, high=1_024)
    gpus_per_worker: int = key(0, "GPUs of a worker.", low=0, high=64)
    restarts: int = key(0, "How often all start again from the last checkpoint after a worker was lost.", low=0, high=1_000_000)
    address: str | None = key(None, "A Ray cluster, such as HOST:6379 or auto. Without it Ray is started on this machine alone.")
    train: tuple[str, ...] = key((), "The arguments of train.py, after --. --output is needed; all workers must reach it.", positional=True)


class Desk:
    """Where the workers leave what they print and how they end; an actor of Ray's."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.begun: dict[int, int] = {}
        self.statuses: dict[int, int] = {}

    def begin(self, rank: int) -> int | None:
        """How often this worker was started before; None where a worker ended with an error of its own, which a new start would repeat."""
        if any(self.statuses.values()):
            return None
        self.statuses.pop(rank, None)
        self.begun[rank] = self.begun.get(rank, -1) + 1
        return self.begun[rank]

    def say(self, stream: str, text: str) -> None:
        """Note a text for ``stdout`` or ``stderr``."""
        self.texts.append((stream, text))

    def take(self) -> list[tuple[str, str]]:
        """What was said since the last time."""
        texts, self.texts = self.texts, []
        return texts

    def end(self, rank: int, status: int) -> None:
        self.statuses[rank] = status

    def ends(self) -> dict[int, int]:
        """The exit statuses of the workers that ended by themselves, by rank."""
        return self.statuses


class Stream(io.TextIOBase):
    """A worker's standard output or error, brought to the terminal of launch.py: the chief's as it is, of the others only errors."""

    def __init__(self, desk: Any, name: str, rank: int, terminal: bool):
        self.desk, self.name, self.rank, self.terminal, self.begun = desk, name, rank, terminal and rank == 0, ""

    def write(self, text: str) -> int:
        self.begun += text
        if self.terminal or "\n" in text:  # lines whole, unless a progress bar is drawn
            if self.rank == 0:
                self.desk.say.remote(self.name, self.begun)
            elif self.name == "stderr":
                self.desk.say.remote(self.name, f"worker {self.rank}: {self.begun}")
            self.begun = ""
        return len(text)

    def isatty(self) -> bool:
        return self.terminal


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    if not given.train:
        raise InputError("no arguments of train.py", hint="give them after --, as in launch.py --workers 2 -- --data F --output runs/x")
    if not train_config(list(given.train)).output:  # also refuses bad flags here, in one line
        raise InputError("several workers need one shared --output", hint="give --output after --, a folder that all can reach")
    cpus = given.cpus_per_worker or max(1, (os.cpu_count() or 1) // given.workers)
    from ner import cluster

    with cluster.started(given.address, cpus=given.workers * cpus + 1):
        return fit(given, cpus)


def fit(given: Arguments, cpus: int) -> int:
    """Start the workers and wait. The exit status: the largest of theirs. Raises RunStopped where one was lost too often."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from ner.strategy import import_tensorflow, silent_stderr

    import_tensorflow()  # which Ray does too, with notes
    with silent_stderr():
        from ray.train.tensorflow import TensorflowTrainer

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)  # not on a machine that may be lost
    desk: Any = ray.remote(num_cpus=0)(Desk).options(scheduling_strategy=here).remote()
    needed = {"CPU": float(given.workers * cpus), "GPU": float(given.workers * given.gpus_per_worker)}
    with tempfile.TemporaryDirectory() as folder:  # for Ray's own notes; the run's checkpoints are in --output
        trainer = TensorflowTrainer(
            work,
            train_loop_config={
                "desk": desk,
                "arguments": list(given.train),
                "folder": os.getcwd(),
                "threads": cpus,
                "terminal": sys.stdout.isatty(),
            },
            scaling_config=ScalingConfig(
                num_workers=given.workers,
                use_gpu=given.gpus_per_worker > 0,
                resources_per_worker={"CPU": cpus} | ({"GPU": given.gpus_per_worker} if given.gpus_per_worker else {}),
            ),
            run_config=RunConfig(name="train", storage_path=folder, failure_config=FailureConfig(max_failures=given.restarts)),
        )
        lost = None
        with printed(desk, needed):
            try:
                trainer.fit()
            except Exception as error:  # of Ray: a worker is gone, or could not be started
                lost = error
        ends = ray.get(desk.ends.remote())
    if any(ends.values()):
        return max(ends.values())
    if lost is not None:
        reason = str(lost).strip().split("\n")[0]
        raise RunStopped(f"a worker was lost, and no restart is left of {given.restarts} ({reason}); --resume after -- continues") from None
    return 0


def work(config: dict[str, Any]) -> None:
    """One worker, which Ray has given its TF_CONFIG: train.main, its lines and its exit status to the desk."""
    import ray
    from ray.train import get_context

    desk, rank = config["desk"], get_context().get_world_rank()
    earlier = ray.get(desk.begin.remote(rank))
    if earlier is None:
        return
    os.chdir(config["folder"])
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # Ray sets it
    logging.getLogger("absl").setLevel(logging.ERROR)  # TensorFlow's notes, which Ray lets through
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(config["threads"])
    streams = (Stream(desk, name, rank, config["terminal"]) for name in ("stdout", "stderr"))
    with contextlib.redirect_stdout(next(streams)), contextlib.redirect_stderr(next(streams)):
        status = train_status(continued(config["arguments"]) if earlier else config["arguments"])
    ray.get(desk.end.remote(rank, status))
    end = time.monotonic() + PATIENCE
    while status and len(ray.get(desk.ends.remote())) < get_context().get_world_size():
        if time.monotonic() > end:  # they wait for this one, whose process lives on: Ray ends them
            raise RunStopped(f"worker {rank} ended with status {status}")
        time.sleep(EVERY)


def train_status(arguments: list[str]) -> int:
    """The exit status of train.py. Raises WorkerLost where another worker is gone, for Ray to start all again."""
    import train

    lost = []

    def body(_: list[str]) -> int:
        try:
            return train.main(arguments)
        except WorkerLost as error:
            lost.append(error)
            raise
        except (InputError, RunStopped, OSError):
            raise
        except Exception:  # a bug: its traceback is shown, as Python would
            traceback.print_exc()
            return 1

    status = run_main(body)
    if lost:
        raise lost[0]
    return status


def continued(arguments: list[str]) -> list[str]:
    """The arguments of a run that goes on from its last checkpoint."""
    return [argument for argument in arguments if argument not in ("--overwrite", "--resume")] + ["--resume"]


def lacking(needed: dict[str, float], resources: dict[str, float]) -> str:
    """A line for a cluster that has too little for all workers; Ray waits until there is more. Empty where it has enough."""
    small = [f"{count:g} {name}, there are {resources.get(name, 0):g}" for name, count in needed.items() if count > resources.get(name, 0)]
    return f"waiting for machines: the workers need {'; '.join(small)}" if small else ""


@contextlib.contextmanager
def printed(desk: Any, needed: dict[str, float]) -> Iterator[None]:
    """Print what the workers leave at the desk while the block waits for them, and what Ray waits for."""
    import ray

    over, told = threading.Event(), -WAITING

    def copy() -> None:
        nonlocal told
        while True:
            last = over.wait(EVERY)
            if time.monotonic() - told > WAITING and (line := lacking(needed, ray.cluster_resources())):
                told = time.monotonic()
                print(line, file=sys.stderr, flush=True)
            for stream, text in ray.get(desk.take.remote()):
                print(text, end="", file=getattr(sys, stream), flush=True)
            if last:
                return

    copier = threading.Thread(target=copy, daemon=True)
    copier.start()
    try:
        yield
    finally:
        over.set()
        copier.join()


if __name__ == "__main__":
    sys.exit(run_main(main))
