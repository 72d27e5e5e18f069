"""Where the course keeps its files, and how one is written: whole or not at all."""

import os
import tempfile
from pathlib import Path

from .errors import UserError


def data_dir() -> Path:
    """The course's ``data/`` folder: ``$DSLIB_DATA`` if set, else the one beside the package."""
    return Path(os.environ.get("DSLIB_DATA") or Path(__file__).resolve().parents[2] / "data")


def cache_dir() -> Path:
    """A writable folder for drawn images: ``$DSLIB_CACHE``, else ``~/.cache/dslib``, else a temporary one."""
    home = os.path.expanduser("~/.cache/dslib")
    for path in (os.environ.get("DSLIB_CACHE"), home, Path(tempfile.gettempdir()) / "dslib"):
        if not path:
            continue
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                return Path(path)
        except OSError:
            continue
    raise UserError("no writable folder for drawn images: set DSLIB_CACHE to one")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def check_output_file(path: str | Path | None, overwrite: bool) -> None:
    """Find out now, not after the work, that a result file may not or cannot be written."""
    if path is None:
        return
    if Path(path).exists() and not overwrite:
        raise UserError(f"{path} exists: choose another --output or add --overwrite")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {path} cannot be written ({error.strerror}: {error.filename}): choose another place") from None
