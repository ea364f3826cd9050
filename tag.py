"""Tag Parquet, JSON Lines or text of any size on all cores, GPUs or machines: python tag.py --help"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ner.errors import RunStopped, run_main
from ner.flags import REQUIRED, key, parse

if TYPE_CHECKING:
    from ner.bulk_output import Output
    from ner.ray_data import Source

BATCH = 2_000  # rows tagged at a time: enough to fill the model's rows well
MOST_TASKS = 1_000  # that read
BLOCK_BYTES = 4 << 20  # of a table on its way from one process to the next
CPUS = 2  # for each worker on a cluster
SPARE_CPUS = 3  # Ray counts one for each task that reads, writes, or leaves out rows that are done; they hardly work
EVERY = 2.0  # seconds from one look at the progress to the next
EVERY_LINE = 60.0  # seconds from one line about it to the next, where there is no terminal


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Tag many texts with a trained model, one row each, over Ray Data. Needs the extra `ray`."""

    ckpt: str = key(REQUIRED, "A run folder, its model/, or any Hugging Face folder for token classification.", path=True)
    input: str = key(REQUIRED, "A Parquet, JSON Lines or text file, or a folder of them; here, or at s3://, gs:// or hf://.", path=True)
    output: str = key(REQUIRED, "The folder to write: data/*.parquet, rejected/, job.json, and checkpoint/ until all is done.", path=True)
    text_column: str = key("text", "The column of texts. In plain text each line is a row.")
    id_column: str | None = key(None, "The column of ids. Without it: `id` if there is one, else file and row make the id.")
    keep_text: bool = key(False, "Write the text of each row too.")
    resume: bool = key(False, "Continue an unfinished job. Starts one where the output is missing.")
    workers: int | None = key(None, "Models in memory. Without it: one a GPU, or on CPUs one for every two.", low=1, high=10_000)
    rows_per_file: int = key(20_000, "Rows of an output file, about. They are saved together.", low=1, high=10_000_000)
    address: str | None = key(None, "A Ray cluster, such as HOST:6379 or auto. Without it Ray is started on this machine alone.")


def main(arguments: list[str]) -> int:
    given = parse(Arguments, arguments)
    from ner import bulk_input, cluster
    from ner.bulk_output import Output
    from ner.inference import model_folder
    from ner.progress import say

    folder = model_folder(given.ckpt).resolve()
    found = bulk_input.find(given.input)
    id_column = bulk_input.id_column(found, given.text_column, given.id_column)
    job = {
        "model": digest(folder),
        "input": hashlib.sha256(repr([(file.name, file.size) for file in found.files]).encode()).hexdigest(),
        "columns": f"{given.text_column}, {id_column}, {'with' if given.keep_text else 'without'} text",
    }
    output = Output(given.output)
    done = output.found(job, resume=given.resume)
    if found.others:
        say(f"not read: {len(found.others)} files that are neither Parquet, JSON Lines nor text, such as {found.others[0]}")
    if done:
        output.delete_checkpoint()  # if a kill fell between the last two steps
    else:
        with cluster.started(given.address, cpus=(os.cpu_count() or 1) + (given.workers or 0) + SPARE_CPUS):
            from ner import ray_data

            ray_data.check_model(str(folder))
            tag(given, str(folder), ray_data.Source(found, given.text_column, id_column), output, job, bulk_input.guess_rows(found))
        done = output.finish(job)
    rejected = f", {done['rejected']:,} rejected: see {given.output}/rejected" if done["rejected"] else ", none rejected"
    say(f"tagged {done['rows']:,} rows{rejected}; {given.output}/data")
    return 0


def tag(given: Arguments, folder: str, source: Source, output: Output, job: dict[str, str], expected: int | None) -> None:
    """Read, tag and write what is not done yet. Raises RunStopped where rows went missing."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.data.checkpoint import CheckpointConfig

    from ner.ray_data import Sink, Worker

    workers, cpus, gpus = shares(given.workers, ray.cluster_resources(), None if given.address else os.cpu_count() or 1)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    # The rows that are done, by their places. It is deleted by output.finish, after all is known to be written.
    context.checkpoint_config = CheckpointConfig("place", f"{output.path}/checkpoint", delete_checkpoint_on_success=False)
    data = ray.data.read_datasource(source, override_num_blocks=min(len(source.files), MOST_TASKS))
    data = data.map_batches(
        Worker,
        fn_constructor_args=(folder, cpus, given.keep_text),
        batch_size=min(BATCH, given.rows_per_file),
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=workers),
        **({"num_gpus": gpus} if gpus else {"num_cpus": cpus}),
    )
    sink = Sink(output.path, given.rows_per_file)
    before = output.begin(job)
    with progress(output, expected):
        data.write_datasink(sink)
    if output.clean(before | sink.written):
        raise RunStopped("some rows were lost on the way; --resume tags them again")
    if sink.cut_words:
        print(f"warning: of {sink.cut_words} long words only the first word pieces were read", file=sys.stderr)


def shares(workers: int | None, resources: dict[str, float], cpus: int | None) -> tuple[int, int, float]:
    """Workers, and CPU threads and GPUs for each, from what Ray has. cpus: of this machine, to be shared out; None: a cluster's."""
    gpus = int(resources.get("GPU", 0))
    workers = workers or gpus or max(1, (cpus or int(resources.get("CPU", 1)) - SPARE_CPUS) // CPUS)
    return workers, max(1, cpus // workers) if cpus else CPUS, gpus / workers if gpus < workers else float(gpus > 0)


@contextlib.contextmanager
def progress(output: Output, expected: int | None) -> Iterator[None]:
    """Show the rows done, rows/s and about the time left while the block works: a bar on a terminal, elsewhere a line a minute."""
    from rich.progress import BarColumn, Progress, TextColumn

    from ner.progress import console

    before, began, over = output.rows_done(), time.monotonic(), threading.Event()

    def look(bar: Progress, task) -> None:
        while not over.wait(EVERY if console.is_terminal else EVERY_LINE):
            with contextlib.suppress(OSError):  # a file that is renamed just now
                rows = output.rows_done()
                line = standing(rows, rows - before, time.monotonic() - began, expected)
                bar.update(task, completed=rows, line=line)
                if not console.is_terminal:
                    print(line, flush=True)

    with Progress(BarColumn(), TextColumn("{task.fields[line]}"), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=expected, completed=before, line=f"{before:,} rows")
        watcher = threading.Thread(target=look, args=(bar, task), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def standing(rows: int, here: int, seconds: float, expected: int | None) -> str:
    """``1,000 of about 3,000 rows  50 rows/s  40 s left``. here: the rows of these ``seconds``."""
    from ner.budget import in_words

    of = f" of about {expected:,}" if expected else ""
    left = f"  {in_words((expected - rows) * seconds / here)} left" if expected and here and expected > rows else ""
    return f"{rows:,}{of} rows  {here / seconds:,.0f} rows/s{left}"


def digest(folder: Path) -> str:
    """One hash of the names and contents of a model's files."""
    from ner.files import sha256

    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".txt", ".model", ".safetensors", ".onnx")]
    return hashlib.sha256(repr([(path.name, sha256(path)) for path in files]).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(run_main(main))
