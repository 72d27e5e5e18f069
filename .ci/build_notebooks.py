"""Build notebooks/NN_name.ipynb from notebooks/src/NN_name.py, run it, and strip what only makes noise in a diff.

``build_notebooks.py [--text | --expected] [NAME …]``: all by default. --text takes over changed text, and a changed setup
cell, and keeps the outputs; --expected runs in the tier of DSLIB_TIER, writes no notebook, and records in data/expected what it found.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent.parent / "notebooks"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def executed(source: Path):
    """The notebook of a source, run from a clean kernel in the tier of DSLIB_TIER (default cpu)."""
    notebook = jupytext.read(source)
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
    return notebook


def build(source: Path) -> Path:
    """Convert, execute, tidy, write."""
    notebook = executed(source)
    tidy(notebook)
    target = HERE / f"{source.stem}.ipynb"
    nbformat.write(notebook, target)
    return target


def expect(source: Path) -> Path:
    """Record what ``check_expected`` printed, and how long the chapter took. A tolerance is kept; a new one is
    15 %, at least 0.0001, and for a share of few images (``_hit``) one in four."""
    began, tier = time.time(), os.environ["DSLIB_TIER"]
    cell = next(c for c in executed(source).cells if "checks.check_expected(" in c.source)
    target = HERE.parent / "data" / "expected" / f"{source.stem[:2]}.json"
    old = json.loads(target.read_text()) if target.exists() else {"seconds": {}, "values": {}}
    known = {"seconds": old["seconds"] | {tier: round(time.time() - began)}, "values": {}}
    for name, value in re.findall(r"^\S (\w+): (\S+?),? ", "".join(o.get("text", "") for o in cell.outputs), re.M):
        value, tiers = float(value), known["values"].setdefault(name, old["values"].get(name, {}))
        usual = 0.26 if name.endswith("_hit") else max(1e-4, float(f"{0.15 * abs(value):.2g}"))
        tiers[tier] = [value, tiers.get(tier, [0, usual])[1]]
    target.write_text(json.dumps(known, indent=1) + "\n")
    return target


def code_to_run(cell) -> str:
    """What of a code cell decides the outputs: all of it; of the setup cell only that it is one (it prints the versions and the tier)."""
    return "setup" if "setup" in cell.metadata.get("tags", []) else cell.source


def retext(source: Path) -> Path:
    """Take over changed text and a changed setup cell from the source and keep the outputs; refused where other code has changed."""
    notebook, target = jupytext.read(source), HERE / f"{source.stem}.ipynb"
    old = [c for c in nbformat.read(target, as_version=4).cells if c.cell_type == "code"]
    new = [c for c in notebook.cells if c.cell_type == "code"]
    if [code_to_run(c) for c in old] != [code_to_run(c) for c in new]:
        raise SystemExit(f"{source.name}: code has changed, run it again (without --text)")
    for fresh, kept in zip(new, old):
        fresh.outputs, fresh.execution_count = kept.outputs, kept.execution_count
    tidy(notebook)
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
    if unknown := [a for a in sys.argv[1:] if a.startswith("-") and a not in ("--text", "--expected")]:
        sys.exit(__doc__ if unknown[0] in ("-h", "--help") else f"{unknown[0]} is no option\n\n{__doc__}")
    work = retext if "--text" in sys.argv else expect if "--expected" in sys.argv else build
    names = [a for a in sys.argv[1:] if not a.startswith("--")] or [p.stem for p in sorted((HERE / "src").glob("*.py"))]
    for name in names:
        path = work(HERE / "src" / f"{name}.py")
        print(f"{path.relative_to(HERE.parent)}: {path.stat().st_size / 1e3:.0f} kB")
