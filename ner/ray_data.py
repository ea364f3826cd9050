"""Ray Data's source, worker and sink for tag.py. It needs Ray: import it only after ``ner.cluster.started``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import BlockBasedFileDatasink, ReadTask

from ner import bulk_input
from ner.bulk_output import Output

if TYPE_CHECKING:
    from ner.inference import Tagged, Tagger

ENTITY = [("start", pa.int32()), ("end", pa.int32()), ("text", pa.string()), ("type", pa.string()), ("score", pa.float32())]
CHARACTERS = 1_000_000  # of texts tagged at a time, or one text more: their words are Python objects, which take much memory
TAGGED = {"words": pa.list_(pa.string()), "tags": pa.list_(pa.string()), "entities": pa.list_(pa.struct(ENTITY))}


def check_model(ckpt: str) -> None:
    """Load a model as the workers will, in a process that ends at once. Raises InputError where it is damaged."""

    def load() -> None:
        load_tagger(ckpt, 1)

    ray.get(ray.remote(max_calls=1)(load).remote())


def load_tagger(ckpt: str, threads: int) -> Tagger:
    """The model in a process that has not imported TensorFlow yet, with this many threads."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(threads)
    from ner.inference import Tagger

    return Tagger.load(ckpt, context="sentence")


class Source(Datasource):
    """The rows of an input (``ner.bulk_input.blocks``), some files a task."""

    def __init__(self, found: bulk_input.Input, text_column: str, id_column: str | None):
        self.filesystem, self.files, self.columns = found.filesystem, found.files, (text_column, id_column)

    def estimate_inmemory_data_size(self) -> int:
        return sum(file.size for file in self.files)

    def get_read_tasks(self, parallelism: int, *unused, **unused_too) -> list[Any]:
        every = -(-len(self.files) // parallelism)
        groups = [self.files[first : first + every] for first in range(0, len(self.files), every)]
        return [ReadTask(self._reader(group), self._about(group)) for group in groups]

    def _reader(self, files: list[bulk_input.File]):
        filesystem, columns = self.filesystem, self.columns  # not self, which would bring the names of all files to each task
        return lambda: itertools.chain.from_iterable(bulk_input.blocks(filesystem, file, *columns) for file in files)

    def _about(self, files: list[bulk_input.File]) -> Any:
        return BlockMetadata(num_rows=None, size_bytes=sum(file.size for file in files), input_files=None, exec_stats=None)


class Worker:
    """One model, which tags tables of rows."""

    def __init__(self, ckpt: str, threads: int, keep_text: bool):
        self.tagger, self.keep_text = load_tagger(ckpt, threads), keep_text

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Add words, tags and entities, null where a row has a reason; drop the text unless it is to be kept. In parts of CHARACTERS."""
        parts = np.cumsum([len(text or "") for text in table["text"].to_pylist()]) // CHARACTERS
        cuts = np.flatnonzero(np.diff(parts, prepend=-1))
        for first, end in itertools.pairwise([*cuts.tolist(), len(table)]):
            yield self.tagged(table.slice(first, end - first))

    def tagged(self, table: pa.Table) -> pa.Table:
        """One part. Its first row has the number of words that were cut, in the column ``cut``."""
        texts = table["text"].to_pylist()
        cut = self.tagger.cut_words
        found = iter(self.tagger([text for text in texts if text is not None]))
        records = [None if text is None else _plain(next(found)) for text in texts]
        for name, kind in TAGGED.items():
            table = table.append_column(name, pa.array([record and record[name] for record in records], kind))
        cuts = [self.tagger.cut_words - cut] + [0] * (len(texts) - 1)
        table = table.append_column("cut", pa.array(cuts, pa.int32()))
        return table if self.keep_text else table.drop_columns("text")


def _plain(tagged: Tagged) -> dict[str, Any]:
    return {"words": tagged.words, "tags": tagged.tags, "entities": [vars(entity) for entity in tagged.entities]}


class Sink(BlockBasedFileDatasink):
    """Writes tagged rows to an output folder (``ner.bulk_output.Output``), ``rows_per_file`` or more of them a file."""

    def __init__(self, path: str, rows_per_file: int):
        super().__init__(f"{path}/data", min_rows_per_file=rows_per_file, file_format="parquet")
        self.output_path = path
        self.written: set[str] = set()  # the names of the files, after the end
        self.cut_words = 0  # after the end

    def write(self, blocks, ctx) -> tuple[str, int] | None:  # type: ignore[override]  # what Ray hands on_write_complete
        blocks = [pa.table(block) for block in blocks if len(block)]
        if not blocks:
            return None
        table = pa.concat_tables(blocks)
        name = self.filename_provider.get_filename_for_task(ctx.kwargs["write_uuid"], ctx.task_idx)
        Output(self.output_path).write(name, table.drop_columns("cut"))
        return name, pa.compute.sum(table["cut"]).as_py()

    def on_write_complete(self, write_result) -> None:
        for name, cut_words in filter(None, write_result.write_returns):
            self.written.add(name)
            self.cut_words += cut_words
