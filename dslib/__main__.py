"""``python -m dslib`` is the same as ``dslib``."""

import sys

from .cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
