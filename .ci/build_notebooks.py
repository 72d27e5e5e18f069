"""Build notebooks/NN_name.ipynb from notebooks/src/NN_name.py, run it, and strip what only makes noise in a diff."""

import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent.parent / "notebooks"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def build(source: Path) -> Path:
    """Convert, execute from a clean kernel, tidy, write. Outputs are those of the tier in DSLIB_TIER (default cpu)."""
    notebook = jupytext.read(source)
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
    tidy(notebook)
    target = HERE / f"{source.stem}.ipynb"
    nbformat.write(notebook, target)
    return target


def tidy(notebook) -> None:
    """No ids that change, no times, no widget state, no progress bars: the same run gives the same file."""
    notebook.metadata = nbformat.NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i:02d}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr" and "application/vnd.jupyter.widget-view+json"
                            not in o.get("data", {})]


if __name__ == "__main__":
    os.environ.setdefault("DSLIB_TIER", "cpu")
    os.environ.setdefault("TQDM_DISABLE", "1")
    names = sys.argv[1:] or [p.stem for p in sorted((HERE / "src").glob("*.py"))]
    for name in names:
        path = build(HERE / "src" / f"{name}.py")
        print(f"{path.relative_to(HERE.parent)}: {path.stat().st_size / 1e3:.0f} kB")
