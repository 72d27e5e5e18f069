"""The grid of runs: nothing twice, everything resumes, and what is half there is not there."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dslib import data
from dslib.study import grid, memorisation, obedience, regime, results

ROOT = Path(__file__).resolve().parents[2]


def runs(folder, n=4, suffix="json"):
    return [grid.Run(folder / f"{i}.{suffix}", {"lambda_img": i / 10}, seed=i) for i in range(n)]


def test_what_is_there_or_known_is_not_made_again_and_nothing_is_made_twice(tmp_path):
    asked, four = [], runs(tmp_path)

    def make(run):
        asked.append(run.seed)
        return json.dumps([run.settings]).encode()
    grid.work([*four, *four], make, known={four[1].path})
    assert asked == [0, 2, 3]
    grid.work(four, make)
    assert asked == [0, 2, 3, 1] and grid.pending(four) == []
    assert json.loads(four[2].path.read_text()) == [{"lambda_img": 0.2}]


def test_a_run_that_fails_leaves_nothing_and_the_others_stay(tmp_path):
    def make(run):
        if run.seed == 2:
            raise KeyboardInterrupt
        return b"[1]"
    with pytest.raises(KeyboardInterrupt):
        grid.work(runs(tmp_path), make)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "1.json"]
    assert [run.seed for run in grid.pending(runs(tmp_path))] == [2, 3]


@pytest.mark.parametrize("suffix, half", [("json", b'[{"seed": 1'), ("json", b""), ("npz", b"PK\x03\x04half"), ("csv", b"a,b\n1,"),
                                          ("csv", b"")])
def test_half_a_file_is_not_taken_for_a_run(tmp_path, suffix, half):
    run = runs(tmp_path, 1, suffix)[0]
    run.path.write_bytes(half)
    assert grid.pending([run]) == [run]
    (tmp_path / f"0.{suffix}.part").write_bytes(b"")
    assert grid.pending([run]) == [run]


WORK = """
import sys, time
from pathlib import Path
from dslib.study import grid
folder = Path(sys.argv[1])
def make(run):
    with open(folder / "asked.txt", "a") as file:
        file.write(f"{run.seed}\\n")
    time.sleep(float(sys.argv[2]) if run.seed == 2 else 0)
    return b"[1]"
grid.work([grid.Run(folder / f"{i}.json", {}, i) for i in range(4)], make)
"""


def test_a_killed_grid_goes_on_where_it_was(tmp_path):
    """Killed in its third run, as by a power cut: the next call makes that run and the one behind it."""
    asked = tmp_path / "asked.txt"
    process = subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path), "600"], cwd=ROOT)
    while not asked.exists() or asked.read_text() != "0\n1\n2\n":
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    subprocess.run([sys.executable, "-c", WORK, str(tmp_path), "0"], cwd=ROOT, check=True)
    assert asked.read_text().split() == ["0", "1", "2", "2", "3"]


# ------------------------------------------------------------------------------------------ the tables of results

@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Commands that are noted instead of run; ``adapt`` leaves a metrics.json."""
    noted = []

    def dslib(*arguments):
        noted.append(arguments)
        if arguments[0] != "table":
            output = Path(arguments[arguments.index("--output_dir") + 1])
            output.mkdir(parents=True)
            (output / "metrics.json").write_text("{\"seed\": 1}")
    monkeypatch.setattr(results, "dslib", dslib)
    monkeypatch.chdir(tmp_path)
    return noted


def test_results_makes_what_is_missing_and_then_the_table(commands, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "robots-0.json").write_text("{\"seed\": 0}")
    (tmp_path / "earlier.csv").write_text("target,images,seeds,which\nsunglasses,finetune,1,#1\nsunglasses,source,1,#0\n")
    options = ["--seeds", "0", "1", "--targets", "sunglasses", "robots", "--folder", "kept", "--earlier", "earlier.csv",
               "--table", "t.csv", "--", "--compare_finetune", "--lambda_hf", "0"]
    assert results.main(options) == 0
    *adapted, table = commands
    assert adapted == [("adapt", "--target", target, "--max_train_steps", steps, "--seed", seed, "--overwrite", "--output_dir",
                        f"runs/kept/{target}-{seed}", "--compare_finetune", "--lambda_hf", "0")
                       for target, steps, seed in (("sunglasses", "600", "0"), ("robots", "300", "1"))]
    assert table == ("table", "kept/robots-0.json", "kept/robots-1.json", "kept/sunglasses-0.json", "--pool", "earlier.csv",
                     "--output", "t.csv", "--overwrite")
    commands.clear()
    assert results.main(options) == 0 and commands == [table]


def test_committed_runs_and_those_that_the_earlier_table_counts_are_done():
    """Three seeds of every domain."""
    folder, earlier = ROOT / "data" / "results", str(ROOT / "data" / "results" / "earlier.csv")
    assert grid.pending(results.grid_of(folder / "unconditional", list(data.TARGETS), [0, 1, 2], earlier)) == []
    assert len(grid.pending(results.grid_of(folder / "unconditional", ["robots"], [2, 9], earlier))) == 1


@pytest.mark.parametrize("study, beside", [(regime, "real"), (obedience, "goals")], ids=["regime", "words"])
def test_make_makes_nothing_that_is_committed(monkeypatch, request, study, beside):
    """A recipe names every committed run, and no other. beside: what files of goals, which no run makes alone, have in their names."""
    name = request.node.callspec.id
    recipe = subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    *made, packed = [shlex.split(line)[4:] for line in recipe.splitlines() if f"dslib.study {name}" in line]
    asked = []
    monkeypatch.setattr(study, "work", lambda folder, runs, *_: asked.extend(study.path_of(folder, *run) for run in runs))
    assert "--pack" in packed and all(study.main(line) == 0 for line in made)
    there = {path.name for path in (ROOT / "data" / "results" / name).glob("*.json") if beside not in path.name}
    assert {path.name for path in asked} == there and len(asked) == len(there)


def test_a_command_that_fails_ends_the_study_with_its_code(monkeypatch, tmp_path):
    def dslib(*arguments):
        raise results.Failed(7)
    monkeypatch.setattr(results, "dslib", dslib)
    assert results.main(["--folder", str(tmp_path)]) == 7 and list(tmp_path.iterdir()) == []


def test_make_hands_its_variables_on(tmp_path):
    given = ["SEEDS=3 4", "TARGETS=robots", "RUNS=r/x", "EARLIER=", "TABLE=t.csv", "ARGS=--lambda_hf 0"]
    outer = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}      # the tests may run under make
    text = subprocess.run(["make", "-n", "-o", ".venv/.ready", "results", *given], cwd=ROOT, capture_output=True, text=True,
                          check=True, env=outer).stdout
    words = re.sub(r"\\\n", " ", text).split()
    assert words[words.index("-m"):] == ["-m", "dslib.study", "results", "--seeds", "3", "4", "--targets", "robots", "--folder", '"r/x"',
                                         "--earlier", '""', "--table", '"t.csv"', "--", "--compare_finetune", "--lambda_hf", "0"]


# ------------------------------------------------------------------------------------------ memorisation, seed by seed

def test_memorisation_goes_on_at_the_seed_where_it_was_stopped(monkeypatch, tmp_path, capsys):
    from conftest import make_images, make_source
    asked, images = [], make_images(4, 32)

    def follow(source, images, held_out, seed):
        asked.append(seed)
        if asked == [0, 1]:
            raise KeyboardInterrupt
        return [{"seed": seed, "step": 0}]
    monkeypatch.setattr(memorisation.models, "load_source", lambda path: make_source(32))
    monkeypatch.setattr(memorisation.data, "load_domain", lambda name, *_, **__: memorisation.data.Domain(images, [], name, "ten"))
    monkeypatch.setattr(memorisation, "memorisation", follow)
    options = ["memorisation", "--output", str(tmp_path / "study.json")]
    assert memorisation.main(options) == 130 and "are kept" in capsys.readouterr().err
    assert memorisation.main(options) == 0 and asked == [0, 1, 1, 2]
    assert [row["seed"] for row in memorisation.load(tmp_path / "study.json")] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]
