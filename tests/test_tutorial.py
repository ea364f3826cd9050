"""The tutorial: docs/tutorial.ipynb runs from top to bottom, and what is stored of a run is small and names no machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


@pytest.fixture
def cells():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


def text_of(cell) -> str:
    """What a code cell printed and showed, pictures aside."""
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "".join(shown)


def test_no_figure_stands_in_the_prose(cells):
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    prose = re.sub(r"\(1 - p\)²|Lin et al\., 2017|Python 3\.11, 3\.12 or 3\.13|2020|from_the_\w+", "", re.sub(r"\]\([^)]*\)", "]", prose))
    assert re.findall(r"\d+", prose) == []


def test_links_lead_to_files(cells):
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)#\s]+)", prose)
    assert len(targets) >= 5
    assert [target for target in targets if not (NOTEBOOK.parent / target).is_file()] == []


def test_the_stored_outputs_are_those_of_a_whole_run_and_name_no_machine(cells):
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error" or output.get("name") == "stderr"]
    shown = "\n".join(map(text_of, code))
    assert re.search(r"p = 0\.\d{4}", shown) and "skipped: PyTorch" in shown
    assert not re.search(r"/(home|root|tmp|content|work|Users)\b", shown) and "\x1b" not in shown
    assert NOTEBOOK.stat().st_size < 100_000


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom(tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)  # else it would start TensorBoard and leave it running
    for name in ("ner", "train.py", "evaluate.py", "predict.py", "check.py", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("experiments", "sample", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = {"metadata": {"path": str(tmp_path / "docs")}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=folder).execute()
    shown = "\n".join(text_of(cell) for cell in notebook.cells if cell.cell_type == "code")
    for part in ("everything is installed already", "tensorboard --logdir runs", "Peter Miller", "focal: mean F1 0.", "focal - usual:"):
        assert part in shown
    assert (tmp_path / "runs" / "tutorial" / "errors.html").is_file()
