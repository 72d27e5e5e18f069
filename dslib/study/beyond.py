"""Other objectives and lighter trainings, by the protocol of :mod:`dslib.study.regime` (chapter 13).

``python -m dslib.study beyond`` works through targets × methods × seeds, a file a run; ``--pack`` writes the table. Source, noises, real
images and scores are those of the regime's table, so the rows stand beside its rows of naive, published and anchored.
"""

import sys
from collections.abc import Iterator

from .. import train
from ..base import errors
from . import regime

STOPS = (150, 300)
NAIVE, ANCHORED = regime.NAIVE, regime.ANCHORED

# name → what differs from the defaults of TrainConfig, and with "start" where the method begins, if no word of train.METHODS does
METHODS: dict[str, dict] = {
    "lora": NAIVE | {"lora_rank": 4, "learning_rate": 2e-3},
    "lora, anchored": ANCHORED | {"lora_rank": 4, "learning_rate": 2e-3},
    "ends": NAIVE | {"trained_parts": "ends"},
    "ends, anchored": ANCHORED | {"trained_parts": "ends"},
}


class Ruler(regime.Ruler):
    """The same, of trainings that may start elsewhere."""
    methods = METHODS

    def train(self, settings: dict) -> Iterator[train.Step]:
        """The steps of a training with these settings of ``TrainConfig``, and ``start``."""
        settings = dict(settings)
        start = settings.pop("start", None)
        return train.adapt(self.source, self.ten, train.TrainConfig(**settings), start=start)


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    args = regime.parser_of("beyond", __doc__, METHODS, METHODS, STOPS).parse_args(argv)
    return errors.run(lambda: regime.work_or_pack(args, Ruler, "beyond", {}), "dslib.study.beyond", "; the runs that are complete are kept")


if __name__ == "__main__":
    sys.exit(main())
