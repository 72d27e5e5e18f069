"""Other objectives and lighter trainings, by the protocol of :mod:`dslib.study.regime` (chapter 13).

``python -m dslib.study beyond`` works through targets × methods × seeds, a file a run; ``--pack`` writes the table. Source, noises, real
images and scores are those of the regime's table, so the rows stand beside its rows of naive, published and anchored.
"""

import sys
from collections.abc import Iterator
from functools import partial

from .. import train
from ..base import errors
from ..base.files import data_dir
from ..beyond import ant, patch, weights
from . import regime

STOPS = (150, 300)
NAIVE, ANCHORED = regime.NAIVE, regime.ANCHORED

# name → what differs from the defaults of TrainConfig, and with "start" where the method begins, if no word of train.METHODS does
METHODS: dict[str, dict] = {
    "ant": NAIVE | {"start": ant.start, "num_anchors": 100},
    "ant, lora": NAIVE | {"start": ant.start, "num_anchors": 100, "lora_rank": 4, "learning_rate": 2e-3},
    "ant, no adversary": NAIVE | {"start": partial(ant.start, inner_steps=0), "num_anchors": 100},
    "anchored, patch": ANCHORED | {"start": patch.start},
    "naive, patch": NAIVE | {"start": patch.start},
    "anchored, dual": ANCHORED | {"start": weights.dual, "lambda_img": weights.START, "lambda_hf": weights.START},
    "anchored, balanced": ANCHORED | {"start": weights.balanced},
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
        start, self.history = settings.pop("start", None), []
        if start in (weights.dual, weights.balanced):
            known = {"target": self.target} if start is weights.dual else {}
            start = partial(start, history=self.history, **known)
        return train.adapt(self.source, self.ten, train.TrainConfig(**settings), start=start)

    def notes(self) -> dict:
        """The weights that set themselves: λ2 as "img", λ3 as "hf", after every tenth step so far."""
        return {"weights": [{key: round(value, 5) for key, value in one.items()} for one in self.history[9::10]]} if self.history else {}


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    parser = regime.parser_of("beyond", __doc__, METHODS, METHODS, STOPS)
    parser.set_defaults(output=data_dir() / "results" / "beyond" / "beyond.csv")
    args = parser.parse_args(argv)
    return errors.run(lambda: regime.work_or_pack(args, Ruler, "beyond", {}), "dslib.study.beyond", "; the runs that are complete are kept")


if __name__ == "__main__":
    sys.exit(main())
