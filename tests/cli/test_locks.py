"""The kind: **two runs write to one folder, or one run writes to a folder that it may not write to, and it shows after the work.**

Members: two at once; a second with --overwrite, which would delete the first one's checkpoints; one that resumes beside a running one; what
``kill -9`` left behind; a process id that is somebody else's by now; two processes of one run; a command that failed; a file system without
locks; a folder or a disk that is read-only.
"""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dslib.base import locks
from dslib.cli import options
from dslib.env import UserError

HOLD = """
import sys, time, pathlib
from dslib.base import locks
locks.lock_folder(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def released():
    yield
    locks.release()


@pytest.fixture
def other(tmp_path):
    """A process that has taken tmp_path/run, with a checkpoint in it."""
    (tmp_path / "run" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-5" / "state.json").write_text("{}")
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(Path(locks.__file__).parents[2])})
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("overwrite, resume", [(False, None), (True, None), (False, "latest"), (True, "latest")])
def test_a_folder_in_use_is_refused_naming_the_process_and_nothing_in_it_changes(tmp_path, other, overwrite, resume):
    with pytest.raises(UserError, match=f"--output_dir .*run is in use by process {other.pid}: wait for it, stop it, or choose another"):
        options.prepare_output(tmp_path / "run", overwrite, resume)
    assert (tmp_path / "run" / "checkpoint-5" / "state.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_what_a_killed_run_left_stops_nobody(tmp_path, other):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert {"checkpoint-5", *locks.FILES[:2]} == {p.name for p in (tmp_path / "run").iterdir()}
    options.prepare_output(tmp_path / "run", False, "latest")
    assert (tmp_path / "run" / ".lock.pid").read_text() == str(os.getpid())


@pytest.mark.parametrize("left", ["checkpoint-1.part", "prior.safetensors", "pipeline.part"])
def test_a_run_that_was_killed_before_its_first_checkpoint_may_be_resumed(tmp_path, left):
    (tmp_path / ".lock.pid").write_text("1")
    (tmp_path / left).mkdir()
    with pytest.raises(UserError, match="is not empty.*or --resume_from_checkpoint latest to go on"):
        options.prepare_output(tmp_path, False, None, options.OR_RESUME)
    options.prepare_output(tmp_path, False, "latest")                                             # as the line says
    locks.release()
    with pytest.raises(UserError, match="is not empty and holds no checkpoint to resume"):        # it was not killed: whose is this?
        options.prepare_output(tmp_path, False, "latest")
    (tmp_path / ".lock.pid").write_text("1")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(UserError, match="is not empty and holds no checkpoint to resume"):        # a finished model is not replaced unasked
        options.prepare_output(tmp_path, False, "latest")


@pytest.mark.parametrize("content", ["1", "", "no number"])
def test_files_of_a_lock_that_nobody_holds_are_no_content(tmp_path, content):
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".lock.pid").write_text(content)           # process 1 is alive, and not ours
    options.prepare_output(tmp_path, False)


@pytest.mark.parametrize("content", ["", "no number"])
def test_an_unknown_process_is_named_so(tmp_path, other, content):
    (tmp_path / "run" / ".lock.pid").write_text(content)
    with pytest.raises(UserError, match="run is in use by another process"):
        options.prepare_output(tmp_path / "run", True)


def test_a_command_gives_its_folder_back_and_leaves_nothing(tmp_path):
    for _ in range(2):
        options.prepare_output(tmp_path, False)
        locks.release()
        assert not list(tmp_path.iterdir())


def test_only_the_process_that_writes_locks(tmp_path, monkeypatch, other):
    monkeypatch.setattr(options, "main_process", lambda: False)
    assert options.prepare_output(tmp_path / "run", False) == tmp_path / "run"


def test_pictures_of_a_running_run_may_be_drawn(tmp_path, other):
    options.prepare_output(tmp_path / "run" / "samples", False, run=False)


def test_a_file_system_without_locks_is_used_all_the_same(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise NotImplementedError("no flock")
    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    options.prepare_output(tmp_path, False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code, call", [(errno.EROFS, "touch"), (errno.EACCES, "touch"), (errno.ENOSPC, "mkdir"), (errno.EACCES, "mkdir")])
def test_a_folder_that_cannot_be_written_is_one_line_before_any_work(tmp_path, monkeypatch, code, call):
    def refuse(self, *args, **options):
        raise OSError(code, os.strerror(code), str(self))
    monkeypatch.setattr(Path, call, refuse)
    if call == "touch":
        os.mkdir(tmp_path / "run")
    with pytest.raises(UserError, match=f"--output_dir .*run cannot be written \\({os.strerror(code)}\\): choose another folder"):
        options.prepare_output(tmp_path / "run", False)
