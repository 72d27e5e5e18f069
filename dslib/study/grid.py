"""Many runs, one file each: whatever is there is not run again, so that a study can be stopped at any time and goes on where it was."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from ..base.files import write_atomic


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


def digest(settings: dict) -> str:
    """Eight letters for settings, to name a file by."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]
