"""Run the notebooks of docs/ from their first cell to their last, and store their outputs.

python scripts/run_notebooks.py [DIRECTORY]
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
SECONDS = 900  # longest time of a cell
# other facts of the notebook depend on the machine
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


def run_notebook(path: Path, directory: Path) -> NotebookNode:
    """Run a notebook in a directory, on one thread.

    Raises:
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    outside = {**os.environ, "OMP_NUM_THREADS": "1"}
    outside.pop("LYRICGEN_OUTPUTS", None)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(directory)}},
    )
    client.execute(env=outside)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if not _is_empty(one)]
    # paths are shown from the directory of the notebook
    text = nbformat.writes(notebook).replace(f"{directory.resolve()}/", "")
    return nbformat.reads(text, as_version=4)


def _is_empty(output: NotebookNode) -> bool:
    """Whether an output is the place of a progress bar that has ended."""
    return output.output_type == "display_data" and output.data == {"text/plain": ""}


def main() -> None:
    """Run all notebooks; store each in docs/ or another directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=DOCS, help="place of the files")
    options = parser.parse_args()
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as directory:
            notebook = run_notebook(path, Path(directory))
        nbformat.write(notebook, options.directory / path.name)


if __name__ == "__main__":
    main()
