"""The tutorial: docs/tutorial.ipynb runs from top to bottom, and what it shows comes from that run."""

from __future__ import annotations

import importlib.util
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
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    prose = re.sub(r"\(1 - p\)²|Lin et al\., 2017|Python 3\.11, 3\.12 or 3\.13|2020|from_the_\w+|F1", "", prose)
    assert re.findall(r"\d+", prose) == []


def test_links_lead_to_files(cells):
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)#\s]+)", prose)
    assert len(targets) >= 5
    assert [target for target in targets if not (NOTEBOOK.parent / target).is_file()] == []


def test_no_output_is_stored(cells):
    """It would be of an older version of the code: whoever reads the notebook runs it, and the README shows a real run."""
    assert [cell for cell in cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)] == []


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
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error" or output.get("name") == "stderr"]
    shown = "\n".join(map(text_of, code))
    for part in ("everything is installed already", "tensorboard --logdir runs", "Peter Miller", "focal: mean F1 0.", "focal - usual:"):
        assert part in shown
    assert re.search(r"p = [01]\.\d{4}", shown) and str(tmp_path) not in shown
    if importlib.util.find_spec("torch") is None:
        assert "skipped: PyTorch is not installed here" in shown
    assert (tmp_path / "runs" / "tutorial" / "errors.html").is_file()
