"""The output folder of tag.py: what it takes up again, and what a kill may leave in it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow import parquet

from ner.bulk_output import Output
from ner.errors import InputError

JOB = {"model": "m", "input": "i"}


def table(*ids, reason=None):
    count = len(ids)
    return pa.table(
        {
            "place": pa.array(range(count), pa.int64()),
            "id": list(ids),
            "source": pa.array([reason and f"x:{id}" for id in ids], pa.string()),
            "reason": pa.array([reason] * count, pa.string()),
            "tags": pa.array([[] if reason is None else None] * count, pa.list_(pa.string())),
        }
    )


def note(output, name, rows):
    """What Ray writes to checkpoint/."""
    folder = output / "checkpoint"
    folder.mkdir(exist_ok=True)
    parquet.write_table(pa.table({"place": list(range(rows))}), folder / name)


def test_a_job_is_begun_continued_and_ended_once(tmp_path):
    path = tmp_path / "out"
    output = Output(str(path))
    assert output.found(JOB, resume=True) is None and not path.exists()
    output.begin(JOB)
    output.write("a.parquet", pa.concat_tables([table("1", "2"), table("3", reason="null")]))
    note(path, "a.parquet", 3)
    assert output.found(JOB, resume=True) is None
    assert output.begin(JOB) == {"a.parquet"}
    assert output.rows_done() == 3
    assert output.finish(JOB) == {**JOB, "rows": 2, "rejected": 1} == output.found(JOB, resume=True)
    assert sorted(p.name for p in path.iterdir()) == ["data", "job.json", "rejected"]
    assert parquet.read_table(path / "data").to_pylist() == [{"id": "1", "tags": []}, {"id": "2", "tags": []}]
    assert parquet.read_table(path / "rejected").to_pylist() == [{"id": "3", "source": "x:3", "reason": "null"}]


def test_an_output_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    damaged = Output(str(tmp_path / "damaged"))
    damaged.begin(JOB)
    (tmp_path / "damaged" / "job.json").write_text("[")
    with pytest.raises(InputError, match="damaged"):
        damaged.found(JOB, resume=True)
    output = Output(str(tmp_path))
    with pytest.raises(InputError, match="not empty"):
        output.found(JOB, resume=False)
    with pytest.raises(InputError, match="no job.json"):
        output.found(JOB, resume=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    other = Output(str(tmp_path / "out"))
    other.begin(JOB)
    with pytest.raises(InputError, match="differs in model;"):
        other.found({**JOB, "model": "another"}, resume=True)


@pytest.mark.parametrize(
    ("checkpoints", "written", "kept", "false"),
    [
        (["a.parquet"], ["a"], ["a"], 0),
        (["a.pending.parquet"], [], [], 0),  # killed before the data
        (["a.pending.parquet"], ["a"], [], 0),  # killed before the rename
        (["a.parquet", "a.pending.parquet"], ["a"], [], 1),  # the worker that was done could not say so, and the second was killed
        (["a.parquet", "b.pending.parquet"], ["a", "b"], ["a"], 0),
        ([], ["a"], [], 0),  # written by a worker that outlived its driver
        (["a.parquet"], [], [], 1),
    ],
)
def test_after_a_kill_only_what_is_done_and_written_stays(tmp_path, checkpoints, written, kept, false):
    output = Output(str(tmp_path))
    for name in written:
        output.write(f"{name}.parquet", pa.concat_tables([table("1"), table("2", reason="null")]))
    for name in checkpoints:
        note(tmp_path, name, 2)
    assert output.clean() == false
    found = {folder: sorted(p.stem for p in (tmp_path / folder).glob("*")) for folder in ("data", "rejected", "checkpoint")}
    assert found == {"data": kept, "rejected": kept, "checkpoint": kept}
    assert output.clean() == 0


def test_what_a_worker_wrote_that_outlived_its_driver_is_undone(tmp_path):
    output = Output(str(tmp_path))
    for name in ("old.parquet", "new.parquet", "late.parquet"):
        output.write(name, table("1"))
        note(tmp_path, name, 1)
    assert output.clean({"old.parquet", "new.parquet"}) == 1
    assert [sorted(p.stem for p in (tmp_path / folder).glob("*")) for folder in ("data", "checkpoint")] == [["new", "old"]] * 2
