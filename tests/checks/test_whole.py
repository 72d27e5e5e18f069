"""The worked solution stands on its own and reaches the library's numbers; what a hand-in does wrong is named."""

import ast
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_images, make_source

from dslib import checks, train
from dslib.base.errors import UserError
from dslib.checks import hand_in, judge, limits, student_file, whole
from dslib.checks.exercises import CHAPTERS, WHOLE, reference_of

ROOT = Path(__file__).resolve().parents[2]
WORKED = Path(__file__).parent / student_file.NAME
TEXT = WORKED.read_text("utf-8")
SETTINGS = {"target": "gouache", "source": None, "max_train_steps": 2, "num_images": 12, "num_inference_steps": 2, "seed": 0,
            "seconds": 300.0, "tolerance": 0.01}


@pytest.fixture(scope="module")
def functions():
    space, problem = student_file.loaded(TEXT)
    assert problem is None
    return space


def test_the_worked_solution_is_short_and_stands_on_its_own():
    assert 80 <= len(TEXT.splitlines()) <= 135
    assert student_file.faults(TEXT, hand_in.ALONE) == []
    names = {node.name for node in ast.parse(TEXT).body if isinstance(node, ast.FunctionDef)}
    assert names >= {name for chapter in ("00", "01", "02", "03", "04", "05", "06") for name in CHAPTERS[chapter]} and names >= set(WHOLE)


@pytest.mark.parametrize("chapter", [*judge.GRADED, "02b"])
def test_no_exercise_orders_what_a_hand_in_may_not_import(chapter):
    """The file may import torch and Python's modules alone: a task that says ``losses.…(`` would spoil it."""
    notebook, = (ROOT / "notebooks" / "src").glob(f"{chapter}_*.py")
    tasks = [part for part in notebook.read_text("utf-8").split("# %%") if "## Exercise" in part]
    spoilt = {name for name in CHAPTERS["02b"] if set(student_file.free_names(inspect.getsource(reference_of(name)))) & {"losses", "ddpm"}}
    assert not spoilt, "what checks.solution prints has to travel, too"
    assert tasks and not [found for task in tasks for found in re.findall(r"`(?:losses|ddpm|haar|train|data|models|metrics)\.\w+\(", task)]


@pytest.mark.parametrize("name", [name for chapter in ("00", "01", "02", "03", "04", "05", "06") for name in CHAPTERS[chapter]])
def test_every_function_of_the_worked_solution_passes(name, functions):
    assert student_file.tried(name, functions[name]) is None


@pytest.mark.parametrize("kind", ["epsilon", "learned variance", "v_prediction"])
def test_the_worked_solution_ends_with_the_librarys_weights(kind, functions):
    source, images = make_source(16, learned_variance=kind == "learned variance"), make_images(10, 16)
    if kind == "v_prediction":
        source.scheduler.register_to_config(prediction_type="v_prediction")
    config, before = train.TrainConfig(max_train_steps=5), source.unet.state_dict()["conv_in.weight"].clone()
    mine, theirs = whole.by_reader(functions, source, images, config), whole.by_library(source, images, config)
    assert whole.apart(mine, theirs, source.unet) < 1e-3 < whole.apart(mine, source.unet, theirs)
    assert torch.equal(source.unet.conv_in.weight, before)


def test_the_librarys_weights_are_those_of_train_adapt(functions):
    source, images, config = make_source(16), make_images(10, 16), train.TrainConfig(max_train_steps=3)
    *_, last = train.adapt(source, images, config)
    assert whole.apart(whole.by_reader(functions, source, images, config), last.averaged(), source.unet) < 1e-3


@pytest.mark.parametrize("line, wrong", [
    ("slow.data = ema_update", "slow.data = 0 * slow.data + ema_update"),                              # the control: nothing changed
    ("1 - (1 + step) ** -power", "1 - (2 + step) ** -power"), ("(ada - ada.detach())", "(ada - ada)"),
    ('"hf": pairwise_kl(hf(soft), hf(sou))', '"hf": pairwise_kl(soft, sou)'),
    ("torch.ones_like(a) if published else a", "torch.ones_like(a)"),
    ("flat @ flat.T", "2 * flat @ flat.T"), ("clip_grad_norm_(model.parameters(), 1.0)", "clip_grad_norm_(model.parameters(), 0.1)"),
])
def test_a_changed_line_parts_the_weights(line, wrong):
    assert TEXT.count(line) == 1
    space, problem = student_file.loaded(TEXT.replace(line, wrong))
    source, images, config = make_source(16), make_images(10, 16), train.TrainConfig(max_train_steps=3)
    apart = whole.apart(whole.by_reader(space, source, images, config), whole.by_library(source, images, config), source.unet)
    assert problem is None and (apart < 1e-3) == ("0 * slow" in wrong)


def test_the_pieces_of_a_reader_and_of_the_library_fit_together(functions):
    source, images, config = make_source(16), make_images(10, 16), train.TrainConfig(max_train_steps=2)
    mixed = functions | {"terms_of": checks.terms_of}
    assert whole.apart(whole.by_reader(mixed, source, images, config), whole.by_library(source, images, config), source.unet) < 1e-3


# ------------------------------------------------------------------------- handing in


@pytest.fixture(scope="module")
def settings(source_dir):
    return SETTINGS | {"source": str(source_dir)}


def write(folder: Path, text: str, name: str = student_file.NAME) -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


def test_the_worked_solution_is_graded_without_a_fault(tmp_path, settings):
    lines, fine = hand_in.graded(Path(shutil.copy(WORKED, tmp_path / "anna.py")), settings)
    assert fine, lines
    assert lines[0] == "– the name is anna.py, not my_domainstudio.py: read all the same"
    assert lines[1] == "✓ 19 of 19 functions pass" and lines[2].startswith("✓ gouache, 2 steps: the weights differ from dslib's by ")
    assert "| yours |" in lines[3] and "| dslib |" in lines[3] and "real, held out" in lines[3]


@pytest.mark.parametrize("text, said", [
    ("import requests\n" + TEXT, "line 1 imports requests: only torch"),
    ("from dslib import losses\n" + TEXT, "line 1 imports dslib: only torch"),
    ("from dslib.losses import pairwise_kl\n", "imports dslib.losses"), ("import os\n" + TEXT, "line 1 imports os"),
    (TEXT + "\nprint(3)\n", "does something outside of a function"), (TEXT + "\nopen('x', 'w')\n", "calls open()"),
    ("def f(:", "line 1 is no Python"),
])
def test_what_a_file_may_not_do_is_said_before_anything_runs(text, said, tmp_path, settings):
    lines, fine = hand_in.graded(write(tmp_path, text), settings)
    assert not fine and len(lines) <= 6 and said in lines[0]


def judged(text: str, folder: Path, settings: dict) -> str:
    """What is said of a file, judged in this process."""
    findings = []
    judge.judge(write(folder, text), lambda **found: findings.append(found), settings)
    lines, fine = hand_in.told(findings, settings)
    assert not fine
    return "\n".join(lines)


LOOP, END = "    optimizer = torch", "    return average\n"        # the loop is tried with five batches, and adapts with two


@pytest.mark.parametrize("line, wrong, said", [
    ("def pairwise_kl", "def pairwise_k", "✗ pairwise_kl (chapter 04): it is missing"),
    ("return lh + hl + hh", "return hh", "✗ weighted_hf_mse (chapter 05): "),
    (LOOP, "    while len(batches) < 5:\n        pass\n" + LOOP, "adapting does not end: stopped after 2 s"),
    (END, "    len(batches) < 5 and 1 / 0\n" + END, "adapting raised ZeroDivisionError"),
    (END, "    len(batches) < 5 and __builtins__['open']('x', 'w')\n" + END, "it wants open"),
    (END, "    len(batches) < 5 and torch.hub.download_url_to_file('http://127.0.0.1', 'x')\n" + END, "adapting raised "),
    ("import copy\n", "import copy\nX = [0 for _ in iter(int, 1)]\n", "does not end when it is read"),
])
def test_what_goes_wrong_while_it_runs_is_named(line, wrong, said, tmp_path, settings, monkeypatch):
    soon = {"seconds": 2.0} if "adapting does not end" in said else {}
    monkeypatch.setattr(limits, "SECONDS", 2 if "when it is read" in said else 60)
    monkeypatch.chdir(tmp_path)
    assert TEXT.count(line) == 1
    assert said in judged(TEXT.replace(line, wrong), tmp_path, settings | soon)
    assert [path.name for path in tmp_path.iterdir()] == [student_file.NAME]


@pytest.mark.parametrize("name, said", [
    ("my_domainstudio.ipynb", "is a notebook: hand in my_domainstudio.py"), ("missing.py", "is not there: hand in my_domainstudio.py"),
    ("my_domainstudoi.py", "did you mean my_domainstudio.py?"), ("notes.txt", "is no Python file"), ("empty", "holds 0 Python files"),
])
def test_other_names_are_met_by_a_line(name, said, tmp_path, settings):
    write(tmp_path, TEXT)
    write(tmp_path, "", "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        hand_in.graded(tmp_path / name, settings)


def test_a_folder_stands_for_the_file_in_it(tmp_path):
    assert hand_in.found_file(write(tmp_path, TEXT).parent)[0].name == student_file.NAME


@pytest.mark.parametrize("arguments, said", [
    (["x.py", "--target", "gouach"], "did you mean 'gouache'"),
    (["x.py", "--max_train_steps", "0"], "--max_train_steps is 0: use at least 1"), (["nobody.py"], "1 of 1 hand-ins have faults")])
def test_a_wrong_option_or_file_gets_one_line(arguments, said, capsys):
    with pytest.raises(UserError, match=said):
        hand_in.main(arguments)
    assert capsys.readouterr().out == ("nobody.py\n✗ nobody.py is not there: hand in my_domainstudio.py\n" if len(arguments) == 1 else "")


def test_the_command_ends_with_one_line_and_code_2(tmp_path):
    done = subprocess.run([sys.executable, "-m", "dslib.checks", "nobody.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "dslib.checks: error: 1 of 1 hand-ins have faults, see above\n"
