"""Progress bars and other libraries' remarks, which can be silenced."""

import os
from contextlib import contextmanager

from tqdm.auto import tqdm


def progress(*parts, shown: bool = True, **options):
    """A tqdm bar; hidden where ``shown`` is false, or where ``TQDM_DISABLE`` asks for silence."""
    silent = os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false")
    return tqdm(*parts, disable=silent or not shown, **options)


@contextmanager
def quiet(logging):
    """No bars and remarks of a library while a model is read or written: they would hide the one line that matters.

    logging: ``diffusers.utils.logging`` or ``transformers.utils.logging``.
    """
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()
