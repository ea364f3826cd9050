"""The output folder of tag.py: job.json (what is done, and at the end how many rows), data/, rejected/, and checkpoint/ until it is done.

Ray writes, for each file of data/ and rejected/, one of the same name to checkpoint/ with the places of its rows: before as
NAME.pending.parquet, then as NAME.parquet. A row is done if its place stands in a NAME.parquet.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ner.bulk_input import open_filesystem
from ner.errors import InputError

if TYPE_CHECKING:
    import pyarrow

PENDING, DONE = ".pending.parquet", ".parquet"
FOLDERS = ("data", "rejected")


class Output:
    """The folder, local or at an address that pyarrow opens."""

    def __init__(self, path: str):
        self.filesystem, self.root = open_filesystem(path.rstrip("/"))
        self.path = path.rstrip("/") if "://" in path else self.root  # as Ray takes it
        self._counted: dict[str, int] = {}

    def found(self, job: dict[str, str], *, resume: bool) -> dict | None:
        """The counts of this job if it is done already, else None; nothing is written.

        job: what the output depends on, in texts.

        Raises InputError where the folder is not empty, unless ``resume`` and it holds this job.
        """
        names = {info.base_name for info in self._infos("")}
        if not names:
            return None
        if not resume:
            hint = "give another --output, or continue what it holds with --resume"
            raise InputError("the output is not empty", hint=hint, path=self.path)
        if "job.json" not in names:
            raise InputError("not the output of tag.py: no job.json", hint="give another --output", path=self.path)
        with self.filesystem.open_input_stream(f"{self.root}/job.json") as file:
            try:
                noted = dict(json.loads(file.read()))
            except (ValueError, TypeError):
                raise InputError("job.json is damaged", hint="give another --output", path=self.path) from None
        different = [name for name, value in job.items() if noted.get(name) != value]
        if different:
            hint = "continue with what it began with, or give another --output"
            raise InputError(f"the job in it differs in {', '.join(different)}", hint=hint, path=self.path)
        return noted if "rows" in noted else None

    def begin(self, job: dict[str, str]) -> set[str]:
        """Start the job, or take it up where it was left. The names of the files that are done."""
        self._write(job)
        self.clean()
        return set(self._names("checkpoint"))

    def clean(self, known: set[str] | None = None) -> int:
        """Undo writes that a kill interrupted. How many files were thought done and are not.

        known: the only names that may be done: a worker that outlived its driver may have written others meanwhile.
        """
        checkpoints = self._names("checkpoint")
        pending = {name.removesuffix(PENDING) + DONE for name in checkpoints if name.endswith(PENDING)}
        done = {name for name in checkpoints if not name.endswith(PENDING)}
        written = {name for folder in FOLDERS for name in self._names(folder)}
        # A pending write may be the second of a file that was done: its first worker died before it could say so.
        false = {name for name in done if name in pending or name not in written or (known is not None and name not in known)}
        self._delete("checkpoint", false)  # first, for a kill in the midst of this
        for folder in FOLDERS:
            self._delete(folder, set(self._names(folder)) - (done - false))
        self._delete("checkpoint", set(checkpoints) - done)
        return len(false)

    def rows_done(self) -> int:
        """How many rows are done so far; each file's count is read once."""
        for name in self._names("checkpoint"):
            if not name.endswith(PENDING) and name not in self._counted:
                self._counted[name] = self._rows("checkpoint", name)
        return sum(self._counted.values())

    def finish(self, job: dict[str, str]) -> dict:
        """Note that the job is done, with its counts of rows and rejected rows; then delete checkpoint/."""
        counts = {folder: sum(self._rows(folder, name) for name in self._names(folder)) for folder in FOLDERS}
        done = {**job, "rows": counts["data"], "rejected": counts["rejected"]}
        self._write(done)
        self.delete_checkpoint()
        return done

    def delete_checkpoint(self) -> None:
        """Delete checkpoint/ of a job that is done."""
        if any(info.base_name == "checkpoint" for info in self._infos("")):
            self.filesystem.delete_dir(f"{self.root}/checkpoint")

    def write(self, name: str, table: pyarrow.Table) -> None:
        """Write tagged rows to data/NAME, and those with a reason to rejected/NAME. table: what ``ner.ray_data.Worker`` gives."""
        import pyarrow.compute as pc
        from pyarrow import parquet

        rejected = pc.is_valid(table["reason"])
        parts = {
            "data": table.filter(pc.invert(rejected)).drop_columns(["place", "source", "reason"]),
            "rejected": table.filter(rejected).select(["id", "source", "reason"]),
        }
        for folder, rows in parts.items():
            if rows.num_rows:
                self.filesystem.create_dir(f"{self.root}/{folder}", recursive=True)
                parquet.write_table(rows, f"{self.root}/{folder}/{name}", filesystem=self.filesystem)

    def _infos(self, folder: str) -> list[Any]:
        """What stands in a folder of the output, names that begin with a dot left out."""
        from pyarrow import fs

        selector = fs.FileSelector(f"{self.root}/{folder}".rstrip("/"), allow_not_found=True)
        return [info for info in self.filesystem.get_file_info(selector) if not info.base_name.startswith(".")]

    def _names(self, folder: str) -> list[str]:
        return [info.base_name for info in self._infos(folder) if info.base_name.endswith(DONE)]

    def _delete(self, folder: str, names: set[str]) -> None:
        for name in names:
            self.filesystem.delete_file(f"{self.root}/{folder}/{name}")

    def _rows(self, folder: str, name: str) -> int:
        from pyarrow import parquet

        return parquet.read_metadata(f"{self.root}/{folder}/{name}", filesystem=self.filesystem).num_rows

    def _write(self, content: dict) -> None:
        """Replace job.json: a reader sees the old one or the new one."""
        self.filesystem.create_dir(self.root, recursive=True)
        with self.filesystem.open_output_stream(f"{self.root}/.job.json.partial") as file:
            file.write(json.dumps(content, indent=1).encode())
        self.filesystem.move(f"{self.root}/.job.json.partial", f"{self.root}/job.json")
