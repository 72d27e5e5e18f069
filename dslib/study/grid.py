"""Many runs, one file each: whatever is there is not run again, so that a study can be stopped at any time and goes on where it was."""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from ..base.errors import UserError, first_line
from ..base.files import as_json, write_atomic


class Run(NamedTuple):
    """One training and the scores it leaves."""
    path: Path                      # the file that says that it is done
    settings: dict                  # what differs from the defaults
    seed: int = 0
    stops: tuple[int, ...] = ()     # the steps at which it is scored


def is_whole(path: Path) -> bool:
    """Whether a run's file is there to its end. Ours are written whole; one that was copied by hand may not be."""
    if not path.is_file():
        return False
    if path.suffix == ".npz":
        return zipfile.is_zipfile(path)
    content = path.read_bytes()
    try:
        return bool(json.loads(content) if path.suffix == ".json" else content.endswith(b"\n"))
    except ValueError:
        return False


def pending(runs: Iterable[Run], known: Collection[Path] = ()) -> list[Run]:
    """The runs that are neither ``known`` nor in a file of their own, each once."""
    return [run for run in {run.path: run for run in runs}.values() if run.path not in known and not is_whole(run.path)]


def work(runs: Iterable[Run], make: Callable[[Run], bytes], known: Collection[Path] = ()) -> None:
    """Make what is pending, one run after the other, and write what ``make`` gives for it to its file, whole or not at all.

    Each is looked for again just before its turn: two of these in two terminals share the work but for the run both are at.
    """
    for run in tqdm(pending(runs, known), desc="runs"):
        if not is_whole(run.path):
            write_atomic(run.path, make(run))


def as_file(facts: dict, rows: list[dict]) -> bytes:
    """A run's file: what it was, and its rows."""
    return (as_json(facts | {"rows": rows}) + "\n").encode()


def check_same(path: Path, facts: dict) -> dict:
    """A run's file, or a UserError where it is no such file or its facts (source, number of images …) are others."""
    try:
        run = json.loads(path.read_text("utf-8"))
        theirs = {key: run[key] for key in facts}
        rows = run["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no run of this study ({first_line(error)}): delete it, and it is made again") from None
    if differs := [key for key in facts if theirs[key] != facts[key]]:
        raise UserError(f"{path}: its {differs[0]} is {theirs[differs[0]]}, here it is {facts[differs[0]]}: give another --folder")
    return run if rows else {}


def same_runs(folder: Path, keys: Iterable[str], study: str) -> Iterator[tuple[Path, dict]]:
    """Every run's file in a folder, with its path. Raises UserError where there is none, or where they differ in one of ``keys``."""
    paths, facts = sorted(folder.glob("*.json")), {}
    if not paths:
        raise UserError(f"{folder} holds no run: make them with 'python -m dslib.study {study}'")
    for path in paths:
        run = check_same(path, facts)
        facts = facts or {key: run[key] for key in keys}
        yield path, run


def joined(folder: Path, same: Iterable[str], of_run: Iterable[str], of_row: Iterable[str], study: str) -> list[dict]:
    """The rows of all runs in a folder, which must share ``same``: what each run says of ``of_run``, and each of its rows of ``of_row``."""
    return [{key: run[key] for key in of_run} | {key: row.get(key) for key in of_row}
            for _, run in same_runs(folder, same, study) for row in run["rows"]]


def rounded(found: dict[str, float | None]) -> dict[str, float | None]:
    """Numbers to five digits, as files of runs hold them; None stays None."""
    return {key: None if value is None else round(float(value), 5) for key, value in found.items()}


def read_table(path: Path, columns: Iterable[str], whole: Collection[str], words: Collection[str], study: str) -> list[dict]:
    """The rows of a CSV that a study's ``--pack`` wrote: ``words`` as they are, ``whole`` as integers, other columns as numbers.

    An empty cell is None. Raises UserError with the mend.
    """
    def value(key: str, text: str) -> str | int | float | None:
        return None if text == "" else text if key in words else int(text) if key in whole else float(text)

    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
        if not rows or set(rows[0]) != set(columns):
            raise ValueError("no rows, or other columns")
        return [{key: value(key, text) for key, text in row.items()} for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): 'python -m dslib.study {study} --pack' writes it") from None


def digest(settings: dict) -> str:
    """Eight letters for settings, to name a file by."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]
