"""Progress bars that can be silenced from outside."""

import os

from tqdm.auto import tqdm


def progress(*parts, shown: bool = True, **options):
    """A tqdm bar; hidden where ``shown`` is false, or where ``TQDM_DISABLE`` asks for silence."""
    silent = os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false")
    return tqdm(*parts, disable=silent or not shown, **options)
