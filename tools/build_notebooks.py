"""Build notebooks/NN_name.ipynb from notebooks/src/NN_name.py, run it, and strip what only makes noise in a diff.

``build_notebooks.py [--text | --expected | --record | --another | --explorers] [NAME …]``: all by default. --text takes over changed
text, questions and a changed setup cell, and keeps the other outputs; --expected runs in the tier of DSLIB_TIER, writes no notebook, and
records in data/expected what it found; --record does both, for the outputs that are committed; --another runs with the seed of DSLIB_SEED
and records what it found beside the values to expect; --explorers runs, writes no notebook, and keeps in data/explorers what the sliders
show, for the web pages.
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


def executed(source: Path, before_checking=None):
    """The notebook of a source, run from a clean kernel in the tier of DSLIB_TIER (default cpu).

    The cell that compares with data/expected runs a second time, in the same kernel, after ``before_checking(notebook)``.
    """
    notebook = jupytext.read(source)
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(HERE)}})
    client.reset_execution_trackers()
    with client.setup_kernel():
        for i, cell in enumerate(notebook.cells):
            client.execute_cell(cell, i)
        if before_checking:
            before_checking(notebook)
            i, cell = checking(notebook)
            count = cell.execution_count
            client.execute_cell(cell, i, store_history=False)
            cell.execution_count = count
    return notebook


def checking(notebook):
    """(place, cell) of the one that compares with data/expected."""
    return next((i, c) for i, c in enumerate(notebook.cells) if "checks.check_expected(" in c.source)


def build(source: Path) -> Path:
    """Convert, execute, tidy, write."""
    return write(source, executed(source))


def write(source: Path, notebook) -> Path:
    tidy(notebook)
    target = HERE / f"{source.stem}.ipynb"
    nbformat.write(notebook, target)
    return target


def build_and_record(source: Path) -> Path:
    """One run for both: the notebook with its outputs, and what it found as the values to expect."""
    began = time.time()
    return write(source, executed(source, lambda notebook: record(source, notebook, round(time.time() - began))))


def expect(source: Path) -> Path:
    """Record what a run finds, and how long it takes; write no notebook."""
    began = time.time()
    return record(source, executed(source), round(time.time() - began))


def explorers(source: Path) -> Path:
    """Run a chapter and record every setting of its sliders (dslib.show.recording)."""
    target = HERE.parent / "data" / "explorers" / source.stem.split("_")[0]
    os.environ["DSLIB_EXPLORERS"] = str(target)
    executed(source)
    return target / "explorer.json"


def record(source: Path, notebook, seconds: int) -> Path:
    """Write into data/expected what ``check_expected`` printed. A tolerance is kept; a new one is 15 %, at least 0.0001, and for a
    share of few images (``_hit``) one in four."""
    tier = os.environ["DSLIB_TIER"]
    target = HERE.parent / "data" / "expected" / f"{source.stem.split('_')[0]}.json"
    old = json.loads(target.read_text("utf-8")) if target.exists() else {"seconds": {}, "values": {}}
    known = old | {"seconds": old["seconds"] | {tier: seconds}, "values": {}}
    for name, value in found_in(notebook).items():
        tiers = known["values"].setdefault(name, old["values"].get(name, {}))
        usual = 0.26 if name.endswith("_hit") else max(1e-4, float(f"{0.15 * abs(value):.2g}"))
        tiers[tier] = [value, tiers.get(tier, [0, usual])[1]]
    target.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
    return target


def found_in(notebook) -> dict[str, float]:
    """Name → value, as ``check_expected`` printed them."""
    printed = "".join(o.get("text", "") for o in checking(notebook)[1].outputs)
    return {name: float(value) for name, value in re.findall(r"^\S (\w+): (\S+?),? ", printed, re.M)}


def another(source: Path) -> Path:
    """Run a chapter with the seed of DSLIB_SEED, write no notebook, and keep beside the values to expect what it found."""
    seed, tier = os.environ.get("DSLIB_SEED", "0"), os.environ["DSLIB_TIER"]
    if seed == "0":
        raise SystemExit("--another needs another seed: DSLIB_SEED=1 build_notebooks.py --another …")
    target = HERE.parent / "data" / "expected" / f"{source.stem.split('_')[0]}.json"
    found, known = found_in(executed(source)), json.loads(target.read_text("utf-8"))
    for name, value in found.items():
        seeds = known.setdefault("seeds", {}).setdefault(tier, {}).setdefault(name, {})
        seeds[seed] = value
    target.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
    return target


def is_quiz(cell) -> bool:
    """Whether a cell shows the questions of its chapter: its output follows from data/quizzes alone, without a run."""
    return "quiz" in cell.metadata.get("tags", [])


def asked(cell) -> list:
    """The output of a cell with questions."""
    sys.path.insert(0, str(HERE.parent))
    from dslib.show import quiz
    chapter = re.search(r"quiz\.ask\([\"'](\w+)[\"']\)", cell.source)[1]
    return [nbformat.v4.new_output("display_data", data=quiz.output(chapter))]


def code_to_run(cell) -> str:
    """What of a code cell decides the outputs: all of it; of the setup cell only that it is one (it prints the versions and the tier)."""
    return "setup" if "setup" in cell.metadata.get("tags", []) else cell.source


def retext(source: Path) -> Path:
    """Take over changed text, questions and setup cell from the source, keep the outputs; refused where other code has changed."""
    notebook, target = jupytext.read(source), HERE / f"{source.stem}.ipynb"
    old = [c for c in nbformat.read(target, as_version=4).cells if c.cell_type == "code" and not is_quiz(c)]
    code = [c for c in notebook.cells if c.cell_type == "code"]
    new = [c for c in code if not is_quiz(c)]
    if [code_to_run(c) for c in old] != [code_to_run(c) for c in new]:
        raise SystemExit(f"{source.name}: code has changed, run it again (without --text)")
    for fresh, kept in zip(new, old):
        fresh.outputs = kept.outputs
    for count, cell in enumerate(code, 1):
        cell.outputs, cell.execution_count = asked(cell) if is_quiz(cell) else cell.outputs, count
        for result in cell.outputs:
            if result.output_type == "execute_result":
                result.execution_count = count
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


KINDS = {"--text": retext, "--expected": expect, "--record": build_and_record, "--another": another, "--explorers": explorers}

if __name__ == "__main__":
    os.environ.setdefault("DSLIB_TIER", "cpu")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ["DSLIB_MINE"] = str(HERE / "nobody.py")          # not there: what is shown is the library's
    if unknown := [a for a in sys.argv[1:] if a.startswith("-") and a not in KINDS]:
        sys.exit(__doc__ if unknown[0] in ("-h", "--help") else f"{unknown[0]} is no option\n\n{__doc__}")
    work = next((KINDS[a] for a in sys.argv if a in KINDS), build)
    names = [a for a in sys.argv[1:] if not a.startswith("--")] or [p.stem for p in sorted((HERE / "src").glob("*.py"))]
    for name in names:
        path = work(HERE / "src" / f"{name}.py")
        print(f"{path.relative_to(HERE.parent)}: {path.stat().st_size / 1e3:.0f} kB")
