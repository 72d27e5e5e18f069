"""What a reader writes in one chapter works in the next: checked, kept in my_domainstudio.py, watched, or replaced in plain words."""

import itertools
import linecache

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from dslib import checks, ddpm, losses
from dslib.checks import limits, student_file, travel, typical
from dslib.checks.exercises import CHAPTER_OF, check_of, known_as, reference_of

RIGHT = '''
def q_sample(x_0, t, eps, alphas_cumprod):
    a = alphas_cumprod[t].view(-1, 1, 1, 1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps
'''
STUB = '''
def q_sample(x_0, t, eps, alphas_cumprod):
    """Your code here."""
    return None
'''
SHOWN = ["○ q_sample: not written yet", "✓ q_sample: all checks passed", "✗ q_sample: the noise is not scaled"]
CHECK = 'q_sample = checks.mine("q_sample")'
NUMBER = itertools.count()


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """The reader's file, not there yet."""
    monkeypatch.setenv("DSLIB_MINE", str(tmp_path / student_file.NAME))
    return tmp_path / student_file.NAME


def notebook(*cells: str) -> dict:
    """The names that a fresh notebook holds after its cells."""
    space = {"__name__": "__main__", "checks": checks, "torch": torch}
    for code in cells:
        run(space, code)
    return space


def run(space: dict, code: str) -> None:
    """A cell, with its source where inspect finds it."""
    name = f"<cell {next(NUMBER)}>"
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    exec(compile(code, name, "exec"), space)


def values() -> tuple:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 3, 3, 8, 8, generator=generator)
    return x_0, torch.tensor([1, 500, 900]), eps, ddpm.alphas_cumprod(ddpm.linear_betas())


def is_right(fn) -> bool:
    return torch.allclose(fn(*values()), ddpm.q_sample(*values()))


# ------------------------------------------------------------------------- from chapter to chapter


def test_what_passes_is_kept_and_works_in_the_next_chapter(file, capsys):
    notebook(RIGHT, CHECK)
    assert capsys.readouterr().out.splitlines() == ["✓ q_sample: all checks passed", "→ your q_sample is kept in my_domainstudio.py"]
    assert RIGHT.strip() in file.read_text()
    space = notebook(CHECK)
    assert capsys.readouterr().out == "→ yours: q_sample\n"
    assert space["q_sample"].student.__module__ == "my_domainstudio" and is_right(space["q_sample"])


def test_nothing_written_shows_a_right_answer_and_a_slip_and_goes_on_with_the_library(file, capsys):
    space = notebook(STUB, CHECK)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:len(start)] for line, start in zip(lines, SHOWN)] == SHOWN
    assert lines[3:] == ["→ the library's: q_sample"] and space["q_sample"] is ddpm.q_sample and not file.exists()


def test_a_stub_goes_on_with_what_was_kept_before(capsys):
    notebook(RIGHT, CHECK)
    assert is_right(notebook(STUB, CHECK)["q_sample"]) and capsys.readouterr().out.endswith("→ yours: q_sample\n")


def test_what_is_wrong_is_not_kept(file, capsys):
    space = notebook(RIGHT.replace("(1 - a).sqrt()", "(1 - a)"), CHECK)
    assert "✗ q_sample" in capsys.readouterr().out and space["q_sample"] is ddpm.q_sample and not file.exists()


def test_after_a_wrong_try_the_earlier_version_is_said_to_go_on(file, capsys):
    notebook(RIGHT, CHECK)
    capsys.readouterr()
    space = notebook(RIGHT.replace("(1 - a).sqrt()", "(1 - a)"), CHECK)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("✗ q_sample") and said[-1] == "→ your earlier version, from my_domainstudio.py: q_sample"
    assert is_right(space["q_sample"]) and RIGHT.strip() in file.read_text()


def test_the_cell_may_be_run_again_and_the_function_mended(capsys):
    space = notebook(RIGHT.replace("(1 - a).sqrt()", "(1 - a)"), CHECK)
    run(space, CHECK)
    assert "run the cell that defines it (chapter 01), then this one" in capsys.readouterr().out
    run(space, RIGHT)
    run(space, CHECK)
    run(space, CHECK)
    assert capsys.readouterr().out.splitlines()[-2:] == ["✓ q_sample: all checks passed", "→ your q_sample is in my_domainstudio.py"]


def test_a_check_before_its_function_says_whose_it_takes(capsys):
    assert notebook(CHECK)["q_sample"] is ddpm.q_sample
    assert capsys.readouterr().out == "→ the library's: q_sample\n"
    notebook("q_sample = 3", CHECK)
    assert "holds a int here, no function" in capsys.readouterr().out


def test_several_are_given_in_one_line(capsys):
    notebook(RIGHT, CHECK)
    capsys.readouterr()
    space = notebook('q_sample, haar_step = checks.mine("q_sample", "haar_step")')
    assert capsys.readouterr().out == "→ yours: q_sample; the library's: haar_step\n" and len(space["haar_step"](torch.zeros(2, 2))) == 4


def test_a_later_chapters_cell_may_be_run_again(capsys):
    notebook(RIGHT, CHECK)
    capsys.readouterr()
    assert is_right(notebook(CHECK, CHECK)["q_sample"]) and capsys.readouterr().out == "→ yours: q_sample\n" * 2


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'q_sample'"):
        notebook('checks.mine("qsample")')


def test_in_a_kernel_too_functions_are_kept_and_endless_loops_end():
    begin = "from dslib import checks\nfrom dslib.checks import limits\nlimits.SECONDS = 1"
    endless = "def predict_x0(x_t, t, eps, alphas_cumprod):\n    while True:\n        pass"
    cells = [begin, RIGHT, CHECK, endless, 'predict_x0 = checks.mine("predict_x0")', "del q_sample", CHECK]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
    NotebookClient(made, timeout=120, kernel_name="python3").execute()
    said = ["".join(o.get("text", "") for o in cell.outputs if o.get("name") == "stdout") for cell in made.cells]
    assert "is kept in my_domainstudio.py" in said[2] and "✗ predict_x0: it does not end: stopped after 1 s" in said[4]
    assert said[6] == "→ yours: q_sample\n"


# ------------------------------------------------------------------------- what travels


HELPED = '''
from torch.nn.functional import normalize as unit
SIDE = 1


def table(values, t):
    return values[t].view(-1, SIDE, SIDE, SIDE)


def q_sample(x_0, t, eps, alphas_cumprod):
    a = table(alphas_cumprod, t)
    unit(x_0)
    return torch.sqrt(a) * x_0 + torch.sqrt(1 - a) * eps
'''


def test_helpers_constants_and_imports_come_along(file, capsys):
    notebook(HELPED, CHECK)
    text = file.read_text()
    assert "import torch\n" in text and "from torch.nn.functional import normalize as unit" in text
    assert text.index("SIDE = 1") < text.index("def table") < text.index("def q_sample")
    assert is_right(notebook(CHECK)["q_sample"]) and "yours: q_sample" in capsys.readouterr().out


LOSS = '''
def simple_loss(model, x_0, t, eps, alphas_cumprod):
    return (model(q_sample(x_0, t, eps, alphas_cumprod), t).sample - eps).square().mean()
'''


def test_a_function_may_call_another_of_the_readers_or_the_librarys(file, capsys):
    notebook(CHECK, LOSS, 'simple_loss = checks.mine("simple_loss")')
    assert "from dslib.ddpm import q_sample" in file.read_text()
    notebook(RIGHT, CHECK)
    capsys.readouterr()
    notebook('simple_loss = checks.mine("simple_loss")')
    assert capsys.readouterr().out == "→ yours: simple_loss\n"
    head, sections = student_file.split(file.read_text())
    assert list(sections) == ["q_sample", "simple_loss"] and "dslib.ddpm" not in file.read_text()      # nobody needs it any more
    space, problem = student_file.loaded(file.read_text())
    assert problem is None and space["q_sample"].__module__ == "my_domainstudio"       # though the library's is imported above


@pytest.mark.parametrize("code, words", [
    ("a_bar = torch.ones(1000)" + RIGHT.replace("    return", "    a_bar\n    return"), "uses a_bar, a Tensor of this notebook: make it"),
    ("import nbformat" + RIGHT.replace("    return", "    nbformat\n    return"), "it uses nbformat, which not every reader has"),
    ("q_sample = eval('lambda x, t, e, s: s[t].view(-1,1,1,1)**.5 * x + (1-s[t].view(-1,1,1,1))**.5 * e')", "its source cannot be read"),
])
def test_what_cannot_travel_is_used_here_and_a_line_says_why_it_is_not_kept(code, words, file, capsys):
    assert is_right(notebook(code, CHECK)["q_sample"])
    said = capsys.readouterr().out
    assert "is used here, but not kept" in said and words in said and not file.exists()


@pytest.mark.parametrize("body, empty", [("return None", True), ('"""Doc."""\n    ...', True), ("pass", True), ("return x", False),
                                         ("x = None\n    return x", False), ("return 0", False)])
def test_a_stub_is_told_from_code(body, empty):
    space = notebook(f"def f(x):\n    {body}")
    assert travel.is_stub(space["f"]) == empty


# ------------------------------------------------------------------------- the file


def test_an_edited_section_is_never_written_over(file, capsys):
    notebook(RIGHT, CHECK)
    file.write_text(file.read_text().replace("return a.sqrt()", "return 1 * a.sqrt()"))
    notebook(RIGHT, CHECK)
    assert "has one that you wrote there by hand" in capsys.readouterr().out and "return 1 * a.sqrt()" in file.read_text()
    assert is_right(notebook(CHECK)["q_sample"]) and capsys.readouterr().out == "→ yours: q_sample\n"


def test_a_section_that_nobody_edited_is_written_anew(file):
    notebook(RIGHT, CHECK)
    notebook(RIGHT.replace("a = ", "b = a = "), CHECK)
    assert "b = a = " in file.read_text() and file.read_text().count("def q_sample") == 1


def test_a_file_written_by_hand_is_kept_and_added_to(file, capsys):
    file.write_text("import torch\n" + RIGHT)
    notebook(RIGHT, CHECK)
    assert "by hand" in capsys.readouterr().out
    notebook(CHECK, LOSS, 'simple_loss = checks.mine("simple_loss")')
    assert file.read_text().startswith("import torch\n" + RIGHT.rstrip()) and "def simple_loss" in file.read_text()


@pytest.mark.parametrize("text, words", [
    ("def q_sample(:\n", "line 1 is no Python"), ("import requests\n" + RIGHT, "line 1 imports requests: only torch"),
    (RIGHT + "print(q_sample)\n", "line 5 does something outside of a function"),
    (RIGHT + "X = 1 / 0\n", "raised ZeroDivisionError when it was read"),
    (RIGHT.replace("return", "open('x')\n    return"), "calls open()"),
    (RIGHT.replace("1 - a", "2 - a"), "q_sample in my_domainstudio.py: the values differ"),
    (b"\xff\xfe", "cannot be read"),
])
def test_a_file_that_is_broken_is_named_and_the_library_goes_on(text, words, file, capsys):
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert notebook(CHECK)["q_sample"] is ddpm.q_sample
    said = capsys.readouterr().out
    assert said.startswith("✗ ") and words in said and said.endswith("→ the library's: q_sample\n") and said.count("\n") == 2


def test_a_folder_where_nothing_can_be_written_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "wall").write_text("")
    monkeypatch.setenv("DSLIB_MINE", str(tmp_path / "wall" / "mine.py"))
    assert is_right(notebook(RIGHT, CHECK)["q_sample"]) and "cannot be written" in capsys.readouterr().out


def test_a_function_that_is_right_on_the_check_and_wrong_later_is_named(capsys):
    notebook(RIGHT.replace("    return", "    a = a if len(x_0) == 4 else a[:1]\n    return"), CHECK)
    space = notebook(CHECK)
    capsys.readouterr()
    assert is_right(space["q_sample"])
    assert "✗ your q_sample passed its check, but here the values differ" in capsys.readouterr().out


# ------------------------------------------------------------------------- limits


@pytest.mark.parametrize("body, words", [
    ("while True: pass", "it does not end: stopped after 1 s"), ("import time; time.sleep(60)", "it does not end"),
    ("while True:\n        try:\n            1 / 0\n        except Exception:\n            pass", "it does not end"),
    ("import urllib.request; urllib.request.urlopen('http://example.org')", "it asks for the network"),
    ("import socket; socket.create_connection(('127.0.0.1', 9))", "it asks for the network"),
    ("import no_such_package", "ModuleNotFoundError"), ("raise SystemExit", "it calls exit()"),
])
def test_code_that_does_not_end_or_wants_out_gets_a_line(body, words, monkeypatch, capsys):
    monkeypatch.setattr(limits, "SECONDS", 1)
    notebook(f"def q_sample(x_0, t, eps, alphas_cumprod):\n    {body}", CHECK)
    assert words in capsys.readouterr().out


def test_without_an_alarm_a_loop_ends_too(monkeypatch, capsys):
    monkeypatch.delattr(limits.signal, "setitimer")
    monkeypatch.setattr(limits, "SECONDS", 0.5)
    notebook("def q_sample(x_0, t, eps, alphas_cumprod):\n    while True: pass", CHECK)
    assert "it does not end" in capsys.readouterr().out


# ------------------------------------------------------------------------- the shown slips


@pytest.mark.parametrize("name", CHAPTER_OF)
def test_every_exercise_has_a_typical_slip_that_its_check_knows(name, capsys):
    assert not check_of(name)(typical.TYPICAL[name])
    line = capsys.readouterr().out
    assert line.startswith(f"✗ {known_as(name)}: ") and line.count("\n") == 1
    assert not any(word in line for word in ("it raised", "the values differ", "nothing written")), line
    assert check_of(name)(reference_of(name))


def test_every_exercise_has_a_chapter():
    assert {known_as(name) for name in CHAPTER_OF} == set(checks.SOLUTIONS) and losses.pairwise_kl is reference_of("pairwise_kl")
