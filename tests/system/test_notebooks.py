"""The notebooks of docs/ run from top to bottom, and their stored outputs are what they give.

After a change that is meant to change an output, run `python scripts/run_notebooks.py`.
"""

import base64
import io
import re
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from run_notebooks import NOTEBOOKS, run_notebook

VARIES = "varies"  # tag of a cell that shows times, paths or drawn texts
NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"
OF_A_MACHINE = r"/tmp|/work|/home|/root|/usr|[Ww]arning|Traceback|\r"

of_each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[one.stem for one in NOTEBOOKS])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(cell: NotebookNode, kind: str) -> list[str]:
    """Outputs of a cell of one kind, such as "text/plain"; streams are of the kind "stream"."""
    if kind == "stream":
        return [one.text for one in cell.outputs if one.output_type == "stream"]
    return [one.data[kind] for one in cell.outputs if kind in one.get("data", {})]


def texts_of(cell: NotebookNode) -> str:
    return "\n".join(outputs_of(cell, "stream") + outputs_of(cell, "text/plain"))


def pictures_of(cell: NotebookNode) -> list[np.ndarray]:
    files = [io.BytesIO(base64.b64decode(one)) for one in outputs_of(cell, "image/png")]
    return [matplotlib.image.imread(file, format="png") for file in files]


@pytest.mark.slow
@of_each_notebook
def test_a_notebook_runs_and_gives_its_stored_outputs(path: Path, tmp_path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    run = run_notebook(path, tmp_path)
    for cell, expected in zip(code_cells(run), code_cells(stored), strict=True):
        found, wanted = texts_of(cell), texts_of(expected)
        assert bool(found) == bool(wanted), cell.source
        if VARIES not in cell.metadata.get("tags", []):
            assert re.sub(NUMBER, "0", found) == re.sub(NUMBER, "0", wanted), cell.source
            numbers = [[*map(float, re.findall(NUMBER, text))] for text in (found, wanted)]
            assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.05), cell.source
        for picture, other in zip(pictures_of(cell), pictures_of(expected), strict=True):
            assert picture.shape == other.shape, cell.source
            # other processors round differently, which moves a curve by a pixel
            assert np.abs(picture - other).mean() < 0.02, cell.source
    assert {one.name for one in tmp_path.iterdir()} == {"outputs"}


@of_each_notebook
def test_the_stored_outputs_are_those_of_one_pass_and_of_no_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert "pip install" in notebook.cells[0].source
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    pictures = 0
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", cell.source
        page, drawn = re.subn('base64,[^"]+', "", "".join(outputs_of(cell, "text/html")))
        assert not re.search(OF_A_MACHINE, texts_of(cell) + page), cell.source
        pictures += drawn + len(pictures_of(cell))
    assert pictures
    assert path.stat().st_size < 400_000
    assert len("\n".join(cell.source for cell in cells).splitlines()) <= 40
