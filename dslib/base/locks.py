"""One run a folder: a lock that is gone with its process, however that ends."""

import os
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import UserError
from .files import write_atomic

NAME = ".lock"
FILES = (NAME, f"{NAME}.pid", f"{NAME}.pid.part")      # no content of a folder that someone wants to keep


class Held:
    """The locks of this process."""
    locks: list[FileLock] = []


def lock_folder(folder: Path, option: str = "--output_dir") -> bool:
    """Take a folder for this process until :func:`release`; True if the run before was killed there. Raises UserError naming the process
    that has it already.

    The system drops the lock when its process ends, also by kill -9: what it leaves in the folder stops nobody. Where the file system
    knows no locks, nothing is locked.
    """
    lock, who = FileLock(folder / NAME), folder / f"{NAME}.pid"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            other = f"process {int(who.read_text('utf-8'))}"
        except (OSError, ValueError):
            other = "another process"
        raise UserError(f"{option} {folder} is in use by {other}: wait for it, stop it, or choose another folder") from None
    except NotImplementedError:
        return False
    Held.locks.append(lock)
    killed = who.exists()                           # a run that ends otherwise takes it away
    write_atomic(who, str(os.getpid()).encode())
    return killed


def release(mark: bool = False) -> None:
    """Give back every folder that this process has taken. mark: leave the sign that a run was killed there."""
    while Held.locks:
        lock = Held.locks.pop()
        for path in () if mark else (Path(f"{lock.lock_file}.pid"), Path(lock.lock_file)):
            path.unlink(missing_ok=True)          # before the release: whoever waits opens a new one
        lock.release()
