"""Ray for tag.py and launch.py: started on this machine or found on a cluster; and Ray Data's source, worker and sink of rows.

Import it where Ray is needed only: without Ray the import ends with an InputError.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ner import rows
from ner.bulk import Output
from ner.errors import InputError, RunStopped

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its notes on itself; what goes wrong is raised
    import ray
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata
    from ray.data.datasource import BlockBasedFileDatasink
except ImportError as error:
    raise InputError(f"Ray cannot be imported ({error})", hint="make ray, or pip install -e .[ray]") from None

if TYPE_CHECKING:
    from ner.inference import Tagged, Tagger

SPARE_CPUS = 3  # Ray counts one for each task that reads, writes, or leaves out rows that are done; they hardly work
STORE = 1 << 30  # bytes of memory for blocks on their way from one process to the next
ENTITY = [("start", pa.int32()), ("end", pa.int32()), ("text", pa.string()), ("type", pa.string()), ("score", pa.float32())]
TAGGED = {"words": pa.list_(pa.string()), "tags": pa.list_(pa.string()), "entities": pa.list_(pa.struct(ENTITY))}


@contextlib.contextmanager
def started(address: str | None, cpus: int) -> Iterator[None]:
    """Ray for the block: a cluster's, or one on this machine alone, which listens on the loopback address and counts ``cpus`` CPUs.

    Errors of a worker that have a line of their own are raised here as they were there.

    Raises InputError where no cluster answers at ``address``.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address:
            ray.init(address, runtime_env={"py_modules": [str(Path(__file__).parent)]}, **quiet)
        else:
            ray.init("local", num_cpus=cpus, object_store_memory=STORE, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if not address:
            raise
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"no Ray cluster answers at {address} ({reason})", hint="check --address, or leave it out") from None
    try:
        yield
    except Exception as error:
        raise _cause(error) or error from None
    finally:
        ray.shutdown()


def _cause(error: BaseException | None) -> Exception | None:
    """The error of this project that Ray wrapped, if it is one."""
    while error is not None and not isinstance(error, (InputError, RunStopped)):
        error = getattr(error, "cause", None) or error.__cause__
    return error


def check_model(ckpt: str) -> None:
    """Load a model as the workers will, in a process that ends at once. Raises InputError where it is damaged."""
    ray.get(ray.remote(max_calls=1)(_load).remote(ckpt, 1, give=False))


def _load(ckpt: str, threads: int, give: bool = True) -> Tagger | None:
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    from ner.inference import Tagger

    tagger = Tagger.load(ckpt, context="sentence")
    return tagger if give else None


class Source(Datasource):
    """The rows of an input (``ner.rows.blocks``), some files a task."""

    def __init__(self, path: str, files: list[rows.File], text_column: str, id_column: str | None):
        self.path, self.files, self.columns = path, files, (text_column, id_column)

    def estimate_inmemory_data_size(self) -> int:
        return sum(file.size for file in self.files)

    def get_read_tasks(self, parallelism: int, *unused, **unused_too) -> list[Any]:
        every = max(1, -(-len(self.files) // parallelism))
        groups = [self.files[first : first + every] for first in range(0, len(self.files), every)]
        return [ReadTask(self._reader(group), self._about(group)) for group in groups]

    def _reader(self, files: list[rows.File]):
        path, columns = self.path, self.columns

        def read():
            filesystem, _ = rows.open_filesystem(path)
            for file in files:
                yield from rows.blocks(filesystem, file, *columns)

        return read

    def _about(self, files: list[rows.File]) -> Any:
        return BlockMetadata(num_rows=None, size_bytes=sum(f.size for f in files), input_files=None, exec_stats=None)


class Worker:
    """One model, which tags tables of rows."""

    def __init__(self, ckpt: str, threads: int, keep_text: bool):
        self.tagger, self.keep_text = _load(ckpt, threads), keep_text

    def __call__(self, table: pa.Table) -> pa.Table:
        """Add words, tags and entities, null where a row has a reason; drop the text unless it is to be kept."""
        texts = table["text"].to_pylist()
        cut = self.tagger.cut_words
        tagged = iter(self.tagger([text for text in texts if text is not None]))
        records = [None if text is None else next(tagged) for text in texts]
        for name, kind in TAGGED.items():
            table = table.append_column(name, pa.array([record and _plain(record)[name] for record in records], kind))
        cuts = [self.tagger.cut_words - cut] + [0] * (len(texts) - 1)
        table = table.append_column("cut", pa.array(cuts, pa.int32()))
        return table if self.keep_text else table.drop_columns("text")


def _plain(tagged: Tagged) -> dict[str, Any]:
    return {"words": tagged.words, "tags": tagged.tags, "entities": [vars(entity) for entity in tagged.entities]}


class Sink(BlockBasedFileDatasink):
    """Writes tagged rows to an output folder (``ner.bulk.Output``), at least ``rows_per_file`` of them a file where there are as many."""

    def __init__(self, path: str, rows_per_file: int):
        super().__init__(f"{path}/data", min_rows_per_file=rows_per_file, file_format="parquet")
        self.output_path, self.cut_words = path, 0

    def write(self, blocks, ctx) -> int:
        blocks = [pa.table(block) for block in blocks if len(block)]
        if not blocks:
            return 0
        table = pa.concat_tables(blocks)
        name = self.filename_provider.get_filename_for_task(ctx.kwargs["write_uuid"], ctx.task_idx)
        Output(self.output_path).write(name, table.drop_columns("cut"))
        return pa.compute.sum(table["cut"]).as_py()

    def on_write_complete(self, write_result) -> None:
        self.cut_words = sum(write_result.write_returns)
