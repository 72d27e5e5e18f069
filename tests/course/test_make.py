"""``make install``: which programs it calls and in which order, with a Python and a uv in their place that only write down their words."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/uv";;
  *"{fails}"*) echo "no such place" >&2; exit 2;;
esac
"""
PIP = "python -m pip install -q -c constraints.txt torch torchvision -e .[dev]"


@pytest.fixture
def install(tmp_path):
    """install(variables, fails): make's (exit code, what it said, what was called); a call that holds the words ``fails`` does."""
    def install(*variables, fails="nothing fails"):
        log, fake = tmp_path / "log", tmp_path / "py"
        log.write_text("")
        fake.write_text(FAKE.format(log=log, fails=fails))
        fake.chmod(0o755)
        outer = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CPU", "TORCH_INDEX")}
        done = subprocess.run(["make", "-C", ROOT, "install", f"VENV={tmp_path / 'venv'}", f"PYTHON={fake}", *variables],
                              capture_output=True, text=True, env=outer)
        calls = [line.replace(str(tmp_path), "TMP") for line in log.read_text().splitlines() if not line.startswith("py ")]
        return done.returncode, done.stdout + done.stderr, calls
    return install


@pytest.mark.parametrize("off", [[], ["CPU=0"], ["CPU="], ["CPU=no"]])
def test_the_usual_install_is_pips_alone(install, tmp_path, off):
    assert install(*off)[::2] == (0, [PIP]) and (tmp_path / "venv" / ".ready").exists()


@pytest.mark.parametrize("given, asked", [(["CPU=1"], "--torch-backend cpu"),
                                          (["TORCH_INDEX=https://example.org/w"], "--index https://example.org/w"),
                                          (["CPU=1", "TORCH_INDEX=https://example.org/w"], "--index https://example.org/w")])
def test_torch_without_cuda_is_there_before_pip_is_asked_for_it(install, tmp_path, given, asked):
    code, _, calls = install(*given)
    uv = f"uv pip install -q --python TMP/venv/bin/python {asked} torch torchvision -c constraints.txt"
    assert (code, calls) == (0, ["python -m pip install -q uv", uv, PIP]) and (tmp_path / "venv" / ".ready").exists()


def test_where_the_tested_versions_do_not_fit_the_newest_are_taken(install):
    code, said, calls = install("CPU=1", fails="torchvision -c constraints.txt")
    assert code == 0 and "no such place" not in said
    assert calls[1].endswith("torch torchvision -c constraints.txt") and calls[2].endswith("torch torchvision") and calls[3] == PIP


@pytest.mark.parametrize("fails", ["--torch-backend cpu", "install -q uv"])
def test_where_it_cannot_be_had_one_line_says_what_to_do(install, tmp_path, fails):
    """Nothing heavy is installed instead, and the next ``make install`` goes its usual way."""
    code, said, calls = install("CPU=1", fails=fails)
    assert code and PIP not in calls and not (tmp_path / "venv" / ".ready").exists()
    line = next(line for line in said.splitlines() if "could not be fetched" in line)
    assert "'make install'" in line and "TORCH_INDEX=" in line and said.count("no such place") == 1
    assert install()[::2] == (0, [PIP])
