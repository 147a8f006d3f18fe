"""The notebook runs from its first cell to its last."""

import re

import pytest
from support import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")


@pytest.mark.long
def test_the_notebook_runs(small_digits, monkeypatch, tmp_path):
    monkeypatch.setenv("RETINA_NOTEBOOK_ITERATIONS", "4")
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(ROOT / "examples/digits.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    ]
    text = "".join(output.text for output in printed)
    assert "8 training images, 4 validation images" in text
    assert re.search(r"gamma 2: [\d.]+  gamma 0: [\d.]+", text)
    assert (tmp_path / "output/notebook/model_final.pth").is_file()
