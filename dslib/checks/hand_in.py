"""Grade ``my_domainstudio.py`` files: every function by its check, then all together on a domain that the reader has not seen.

A file runs in a process and a folder of its own, offline, for a limited time; it may import torch, numpy and Python's harmless
modules. That keeps out slips, not malice: grade strangers' files on a machine that may be lost.
"""

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from .. import data
from ..base.errors import UserError, shown
from ..base.files import as_json
from ..measure.score import text_table
from .student_file import NAME, faults
from .travel import PACKAGES

COURSE = Path(__file__).resolve().parents[2]
ALONE = tuple(name for name in PACKAGES if name != "dslib")      # a hand-in stands on its own


def found_file(path: Path) -> tuple[Path, list[str]]:
    """(the Python file meant, remarks on its name). Raises UserError where there is none."""
    if path.is_dir():
        inside = sorted(path.glob("*.py"))
        named = [file for file in inside if file.name == NAME]
        if not named and len(inside) != 1:
            raise UserError(f"{shown(path)} holds {len(inside)} Python files and no {NAME}: name the file itself")
        return found_file((named or inside)[0])
    if path.suffix == ".ipynb":
        raise UserError(f"{shown(path)} is a notebook: hand in {NAME}, which the notebooks wrote beside themselves")
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else [], n=1)
        raise UserError(f"{shown(path)} is not there{f': did you mean {near[0]}?' if near else f': hand in {NAME}'}")
    if path.suffix != ".py":
        raise UserError(f"{shown(path)} is no Python file: hand in {NAME}")
    return path, [] if path.name == NAME else [f"– the name is {shown(path.name)}, not {NAME}: read all the same"]


def graded(path: Path, settings: dict) -> tuple[list[str], bool]:
    """(what is to be said of a hand-in, a line each; whether nothing is wrong with it). Raises UserError where there is no file."""
    file, said = found_file(path)
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError:
        return [*said, f"✗ {shown(file.name)} is no text in UTF-8"], False
    if found := faults(text, ALONE):
        said += [f"✗ {line}" for line in found[:5]] + [f"✗ … and {len(found) - 5} more"] * (len(found) > 5)
        return said, False
    print("every function is tried, then two models are adapted and scored: some minutes", file=sys.stderr, flush=True)
    findings, ended = judged(file.resolve(), settings)
    lines, fine = told(findings, settings)
    return said + lines + ([f"✗ {ended}"] if ended else []), fine and not ended


def judged(file: Path, settings: dict) -> tuple[list[dict], str | None]:
    """(what the process told, None, or how it ended instead of finishing)."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.jsonl"
        report.touch()
        command = [sys.executable, "-m", "dslib.checks.judge", str(file), str(report), as_json(settings, None)]
        around = os.environ | {"PYTHONPATH": os.pathsep.join([str(COURSE), *filter(None, [os.environ.get("PYTHONPATH")])])}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=settings["seconds"] + 120, cwd=folder, env=around)
            ended = None if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]
        except subprocess.TimeoutExpired:
            ended = f"stopped after {settings['seconds'] + 120:.0f} s"
        findings = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    stage = next((one["stage"] for one in reversed(findings) if "stage" in one), "starting")
    return findings, f"{stage}: {ended}; is there an endless loop?" if ended and "stopped" in ended else ended and f"{stage}: {ended}"


def told(findings: list[dict], settings: dict) -> tuple[list[str], bool]:
    """The findings in words, and whether all is well."""
    tried = [one for one in findings if "name" in one]
    passed = [one for one in tried if one.get("problem", "") is None]
    lines = [f"✗ {one['problem']}" for one in findings if "name" not in one and one.get("problem")]
    wrong = [one for one in tried if one.get("problem")]
    if tried:
        lines += [f"{'✗' if wrong else '✓'} {len(passed)} of {len(tried)} functions pass"]
        lines += [f"  ✗ {one['name']} (chapter {one['chapter']}): {one['problem']}" for one in wrong]
        left = [one["name"] for one in tried if one.get("missing")]
        lines += [f"  – not there: {', '.join(left)}"] * bool(left)
    fine = not wrong and not any(one.get("problem") for one in findings)
    for one in findings:
        if "apart" in one:
            same = one["apart"] < settings["tolerance"]
            fine = fine and same
            lines.append(f"{'✓' if same else '✗'} {settings['target']}, {one['steps']} steps: the weights differ from dslib's by "
                         f"{one['apart']:.2g} of the way that training moved them (allowed: {settings['tolerance']:g})")
        if "scores" in one:
            lines.append(text_table([SimpleNamespace(**row) for row in one["scores"]]))
    return lines, fine


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m dslib.checks", description=__doc__.splitlines()[0])
    made.add_argument("files", nargs="+", type=Path, metavar="FILE", help=f"{NAME} of a reader, or a folder that holds it")
    made.add_argument("--target", default="gouache", help="the domain, held back from readers; default: %(default)s")
    made.add_argument("--source", default=None, help="a pipeline's folder; default: the shipped source")
    made.add_argument("--max_train_steps", type=int, default=40, help="default: %(default)s")
    made.add_argument("--num_images", type=int, default=32, help="to score; default: %(default)s")
    made.add_argument("--num_inference_steps", type=int, default=20, help="default: %(default)s")
    made.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    made.add_argument("--seconds", type=float, default=600, help="for adapting; default: %(default)s")
    made.add_argument("--tolerance", type=float, default=0.01, help="share of the way that the weights may differ; default: %(default)s")
    return made


def main(argv: list[str]) -> None:
    """Grade the files one after the other. Raises UserError at the end if one of them has a fault."""
    settings = vars(parser().parse_args(argv))
    files = settings.pop("files")
    if settings["source"] and Path(settings["source"]).exists():
        settings["source"] = str(Path(settings["source"]).resolve())
    data.check_domain(settings["target"])
    for name in ("max_train_steps", "num_images", "num_inference_steps", "seconds"):
        if settings[name] < 1:
            raise UserError(f"--{name} is {settings[name]}: use at least 1")
    faulty = 0
    for path in files:
        print(f"{shown(path)}", flush=True)
        try:
            lines, fine = graded(path, settings)
        except UserError as error:
            lines, fine = [f"✗ {error}"], False
        print("\n".join(lines), flush=True)
        faulty += not fine
    if faulty:
        raise UserError(f"{faulty} of {len(files)} hand-ins have faults, see above")
