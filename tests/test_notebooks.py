"""The notebooks: without stored outputs, and they run from the first cell to the last."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_is_a_notebook():
    assert "first_look.ipynb" in {path.name for path in NOTEBOOKS}


def test_no_outputs_are_stored(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell.source


def _run(path, folder):
    """Execute in an empty folder; the text that its code cells showed, and how many pictures."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    shown = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    text = [out.get("text", "") + out.get("data", {}).get("text/plain", "") for out in shown]
    return "\n".join(text), sum("image/png" in out.get("data", {}) for out in shown)


def _first_look():
    (path,) = (p for p in NOTEBOOKS if p.name == "first_look.ipynb")
    return path


@pytest.mark.slow
def test_first_look_makes_its_own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("BAYES_PREHOC_DATA", str(tmp_path / "nothing"))
    text, pictures = _run(_first_look(), tmp_path)
    assert "proxy: conditional" in text
    # Three tasks, made to be of three kinds: the table gives the most probable regime after the name.
    for answer in (r"quick\s+static-sufficient", r"settling\s+dynamic-critical", r"restless\s+noise-dominant"):
        assert re.search(answer, text), answer
    assert pictures == 2
    assert "<svg" in (tmp_path / "first_look.html").read_text()
    assert (tmp_path / "first_look_plan.nc").is_file()


@pytest.mark.slow
def test_first_look_reads_recorded_runs(tmp_path, monkeypatch, data_folder):
    monkeypatch.setenv("BAYES_PREHOC_DATA", str(data_folder))
    text, pictures = _run(_first_look(), tmp_path)
    assert "proxy: run_to_run" in text and "spread reading" in text
    assert "cifar10_3c3d:Adam" in text
    assert pictures == 2
