"""``examples/quickstart.ipynb`` runs with the embedded models, and its plots are those that it shows."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"


def plots(notebook: Any) -> int:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return sum("image/png" in output.get("data", {}) for output in outputs)


def read() -> Any:
    nbformat = pytest.importorskip("nbformat", reason="needs the extra docs")
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_holds_its_plots_and_no_error() -> None:
    notebook = read()
    assert plots(notebook) == 4
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    # Nothing of the machine that made it.
    assert "/tmp/" not in NOTEBOOK.read_text("utf-8") and "/home/" not in NOTEBOOK.read_text("utf-8")


@pytest.mark.slow
# The kernel's client leaves sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning")
def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs the extra docs")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    notebook = read()
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert plots(notebook) == 4
