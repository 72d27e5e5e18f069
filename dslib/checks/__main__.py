"""``python -m dslib.checks FILE …``: grade readers' my_domainstudio.py; see ``--help``."""

import sys

from ..base.errors import run
from .hand_in import main

if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:]), "dslib.checks"))
