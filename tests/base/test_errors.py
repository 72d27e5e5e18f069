"""What becomes of a mistake, of a full disk and of Ctrl-C at the end of a command; and files that may not be written."""

import errno

import pytest
from safetensors import SafetensorError

from dslib.base import errors, files


def failing(error):
    def work():
        raise error
    return work


@pytest.mark.parametrize("error, code, words", [
    (errors.UserError("mend it so"), 2, "prog: error: mend it so"),
    (OSError(errno.EACCES, "Permission denied", "a/b"), 2, "prog: error: a/b: Permission denied"),
    (OSError(errno.ENOSPC, "No space left on device"), 2, "prog: error: writing: No space left"),
    (SafetensorError("no space"), 2, "weights could not be read or written (no space)"),
    (KeyboardInterrupt(), 130, "prog: stopped; all is kept"), (KeyboardInterrupt(" while drawing"), 130, "prog: stopped while drawing"),
], ids=["mistake", "file", "disk", "weights", "Ctrl-C", "Ctrl-C with words"])
def test_every_end_is_one_line_and_a_code(error, code, words, capsys):
    assert errors.run(failing(error), "prog", "; all is kept") == code
    told = capsys.readouterr().err
    assert words in told and len(told.splitlines()) == 1


@pytest.mark.parametrize("error", [ValueError("ours"), OSError(errno.EBADF, "Bad file descriptor")])
def test_faults_of_the_library_are_raised(error):
    with pytest.raises(type(error)):
        errors.run(failing(error), "prog")


def test_work_that_is_done_is_zero():
    assert errors.run(lambda: 7, "prog") == 0


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file.json"
    files.write_atomic(path, b"old")
    monkeypatch.setattr(files.os, "replace", lambda *_: failing(OSError(errno.ENOSPC, "full"))())
    with pytest.raises(OSError):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_an_output_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    files.check_output_file(None, False)
    files.check_output_file(tmp_path / "file", True)
    with pytest.raises(errors.UserError, match="--overwrite"):
        files.check_output_file(tmp_path / "file", False)
    with pytest.raises(errors.UserError, match="cannot be written"):
        files.check_output_file(tmp_path / "file" / "x.json", False)
