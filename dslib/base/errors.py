"""What a reader did wrong, said in one line; and what becomes of it at the end of a command."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)      # what the disk refuses without naming a file


class UserError(ValueError):
    """A mistake the reader can mend: one line that names the file or option and the mend."""


def first_line(error: Exception) -> str:
    """The first line of an error's text, short enough for a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def any_terminal() -> None:
    """What the output's encoding does not have is written as \\x…, \\u…: no name and no letter may end a command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def run(function: Callable[[], object], prog: str, stopped: str = "") -> int:
    """Run a command and return its exit code: 0, 2 and one line for a mistake of the reader's, 130 for Ctrl-C, 141 where nobody reads on
    (``| head -1``); faults of ours are raised.

    stopped: what to say after Ctrl-C, where the interrupted work says nothing itself.
    """
    any_terminal()
    try:
        try:
            return outcome(function, prog, stopped)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()          # a closed pipe speaks up here, not when Python ends
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 128 + 13                     # as the shell counts SIGPIPE


def outcome(function: Callable[[], object], prog: str, stopped: str) -> int:
    """:func:`run` without its care for pipes."""
    from safetensors import SafetensorError
    try:
        function()
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None and error.errno not in DISK:
            raise
        print(f"{prog}: error: {error.filename or 'writing'}: {error.strerror}; what was saved before is whole", file=sys.stderr)
        return 2
    except SafetensorError as error:
        print(f"{prog}: error: weights could not be read or written ({error}); what was saved before is whole", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"{prog}: stopped{str(interrupt) or stopped}", file=sys.stderr)
        return 130
    return 0


def shown(text: object) -> str:
    """A file name or message as one printable line: what no terminal takes is escaped."""
    out = []
    for c in str(text):
        if "\udc80" <= c <= "\udcff":           # a byte that is no UTF-8, as Python keeps it
            out.append(f"\\x{ord(c) - 0xdc00:02x}")
        else:
            out.append(c if c.isprintable() else c.encode("unicode_escape").decode("ascii"))
    return "".join(out)


def note(line: str) -> None:
    """Say one line on stderr; of several processes only the first does."""
    if os.environ.get("RANK", "0") == "0":
        print(line.encode("utf-8", "backslashreplace").decode("utf-8"), file=sys.stderr)
