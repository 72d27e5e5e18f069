"""Where the course keeps its files, and how one is written: whole or not at all."""

import json
import math
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
    to_disk(part)
    os.replace(part, path)


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk: after a power cut, a file renamed too early is empty."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_json(content, indent: int | None = 1) -> str:
    """Valid JSON of numbers, words, lists and dicts; null where a number is NaN or infinite, which JSON has no word for."""
    return json.dumps(finite(content), indent=indent, default=str, allow_nan=False)


def finite(content):
    """The same with None in the place of NaN and infinity; numbers of numpy and torch as Python's."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    if not isinstance(content, (int, float, str)) and hasattr(content, "item") and getattr(content, "ndim", 1) == 0:
        return finite(content.item())
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: Path, content) -> None:
    """The one writer of JSON results: valid always, written whole or not at all."""
    write_atomic(path, as_json(content).encode())


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
