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
    folder = str(path).endswith(("/", os.sep))
    path = Path(path)
    try:
        if folder or path.is_dir():
            raise UserError(f"--output {path} is a folder: name a file, such as {path / 'result'}")
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists: choose another --output or add --overwrite")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(path.name + ".part")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output {path} cannot be written ({error.strerror}: {error.filename}): choose another place") from None


def within(folder: str | Path | None, name: str | Path) -> Path:
    """A path as it was given; a bare name that the folder holds is that one."""
    name = Path(name)
    inside = Path(folder or ".") / name
    return inside if len(name.parts) == 1 and inside.exists() else name
