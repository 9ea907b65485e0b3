"""The notebooks run from top to bottom and show what their text promises."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient


@pytest.mark.slow
@pytest.mark.parametrize("name", ["embed_proteins.ipynb"])
def test_notebook_runs(name: str, repository: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(repository / "notebooks" / name, as_version=4)
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text" in output
    )
    assert "median rank of the true sequence" in printed
    assert "cosine" in printed
    assert "the newest finished run is runs/demo" in printed
    assert float(re.search(r"largest difference: (\S+)", printed)[1]) < 1e-5
    shown = "".join(
        output.get("data", {}).get("text/html", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    assert "60 embeddings of 256 dimensions, sequence" in shown


@pytest.mark.parametrize("name", ["embed_proteins.ipynb"])
def test_notebook_is_committed_without_outputs(name: str, repository: Path) -> None:
    notebook = nbformat.read(repository / "notebooks" / name, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
