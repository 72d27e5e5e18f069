"""The notebooks as files: sources agree, outputs are light and clean, figures have text alternatives."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SOURCES = sorted((FOLDER / "src").glob("*.py"))


@pytest.fixture(params=SOURCES, ids=lambda p: p.stem)
def pair(request):
    """(notebook read from the py:percent source, committed ipynb)"""
    return jupytext.read(request.param), nbformat.read(FOLDER / f"{request.param.stem}.ipynb", as_version=4)


def cells(notebook):
    return [(c.cell_type, c.source.strip(), sorted(c.metadata.get("tags", []))) for c in notebook.cells]


def test_there_are_as_many_notebooks_as_sources():
    assert SOURCES
    assert {p.stem for p in FOLDER.glob("*.ipynb")} == {p.stem for p in SOURCES}


def test_cell_sources_agree(pair):
    source, committed = pair
    assert cells(source) == cells(committed)


def test_committed_outputs_are_clean(pair):
    _, notebook = pair
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", output
            assert output.get("name") != "stderr"
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
            assert not re.search(r"/(home|root|tmp)/", json.dumps(output.get("text", ""))), "a path of the author's machine"


def test_committed_notebook_was_run_and_is_light(pair):
    _, notebook = pair
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1)), "run top to bottom from a clean kernel"
    assert len(nbformat.writes(notebook)) < 1_000_000


def test_every_figure_has_a_text_alternative(pair):
    _, notebook = pair
    pictures = [o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert pictures
    for output in pictures:
        alt = output.metadata.get("image/png", {}).get("alt", "") or output.data.get("text/plain", "")
        assert len(alt) > 20, "show figures with plots.show(figure, alt=…)"


def test_the_setup_cell_is_the_same_everywhere():
    setups = {c.source for p in SOURCES for c in jupytext.read(p).cells if "setup" in c.metadata.get("tags", [])}
    assert len(setups) == 1
    assert len(setups.pop().splitlines()) <= 12


@pytest.mark.parametrize("line, kept", [("rt = env.start(seed=0)", True), ("dwt2(", False)])
def test_outputs_outlive_a_changed_setup_cell_but_no_other_code(tmp_path, line, kept):
    for folder in ("tools", "notebooks/src"):
        shutil.copytree(FOLDER.parent / folder, tmp_path / folder)
    source = tmp_path / "notebooks" / "src" / "05_haar_bands.py"
    target = Path(shutil.copy(FOLDER / "05_haar_bands.ipynb", tmp_path / "notebooks"))
    before = [cell.get("outputs") for cell in nbformat.read(target, as_version=4).cells]
    assert line in source.read_text()
    source.write_text(source.read_text().replace(line, f"{line} "))
    build = tmp_path / "tools" / "build_notebooks.py"
    done = subprocess.run([sys.executable, build, "--text", source.stem], capture_output=True, text=True)
    assert (done.returncode == 0) == kept and ("code has changed" in done.stderr) != kept, done.stderr
    assert [cell.get("outputs") for cell in nbformat.read(target, as_version=4).cells] == before


SMALL = """# %%
class checks:
    def check_expected(value):
        print(f"✗ a: {value:.3g}, expected 1 ± 0.1; other seeds 7")

# %%
import os

checks.check_expected(1.5 + int(os.environ.get("DSLIB_SEED", 0)))
"""


def test_another_seed_is_kept_beside_the_value_to_expect_and_outlives_a_record(tmp_path):
    shutil.copytree(FOLDER.parent / "tools", tmp_path / "tools")
    for folder in ("notebooks/src", "data/expected"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "notebooks" / "src" / "98_small.py").write_text(SMALL, "utf-8")
    expected = tmp_path / "data" / "expected" / "98.json"
    expected.write_text(json.dumps({"seconds": {"cpu": 9}, "values": {"a": {"cpu": [1.0, 0.1]}}}))

    def build(kind, **seed):
        there = {name: value for name, value in os.environ.items() if name not in ("DSLIB_SEED", "DSLIB_TIER")}
        return subprocess.run([sys.executable, tmp_path / "tools" / "build_notebooks.py", kind, "98_small"], env=there | seed,
                              capture_output=True, text=True)

    assert "needs another seed" in build("--another").stderr and "seeds" not in json.loads(expected.read_text())
    assert build("--another", DSLIB_SEED="2").returncode == 0
    seeds = {"cpu": {"a": {"2": 3.5}}}
    assert json.loads(expected.read_text()) == {"seconds": {"cpu": 9}, "values": {"a": {"cpu": [1.0, 0.1]}}, "seeds": seeds}
    assert build("--expected").returncode == 0
    found = json.loads(expected.read_text())
    assert found["values"] == {"a": {"cpu": [1.5, 0.1]}} and found["seeds"] == seeds
    assert not list((tmp_path / "notebooks").glob("*.ipynb"))


def test_no_cell_is_long(pair):
    source, _ = pair
    assert all(len(c.source.splitlines()) <= 25 for c in source.cells if c.cell_type == "code")


def test_expected_values_are_recorded_and_met_by_the_committed_outputs(pair):
    """What a chapter should show is stated in data/expected, and what it shows is within that."""
    _, notebook = pair
    chapter = next(p.stem for p in SOURCES if jupytext.read(p).cells[0].source == notebook.cells[0].source).split("_")[0]
    stated = json.loads((FOLDER.parent / "data" / "expected" / f"{chapter}.json").read_text())
    assert stated["seconds"]["cpu"] <= 360 and stated["values"]
    cell = next(c for c in notebook.cells if "checks.check_expected(" in c.source)
    printed = "".join(o.get("text", "") for o in cell.outputs)
    assert [line.split()[1].rstrip(":") for line in printed.splitlines()] == list(stated["values"])
    assert all(line.startswith("✓") for line in printed.splitlines()), printed


def test_no_sentence_is_left_to_be_checked(pair):
    source, _ = pair
    assert not [c.source for c in source.cells if re.search(r"\(\?\)|READ_|RESULTS_|TODO|\bTEXT\d", c.source)]
