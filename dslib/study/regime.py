"""The evidence: every method and its rivals, scored on the way and compared where as many samples are in the domain (chapter 08).

``python -m dslib.study regime`` works through targets × methods × seeds, a file a run, so that it can be stopped at any time and goes on
where it was. ``--pack`` writes the one table that the chapters read from the runs of ``--folder``.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import data, metrics, models, sample, train
from ..base import errors
from ..base.errors import UserError
from ..base.files import as_json, data_dir, write_atomic
from ..base.identity import fingerprint
from ..base.statistics import copied
from ..measure.probes import domain_probe
from ..measure.score import REAL, TRUE, Evidence, measure
from . import grid
from .curves import as_csv, png

STOPS = (150, 300, 600, 1200)
NUM_IMAGES, INFERENCE_STEPS, GOALS, REFERENCE, PICTURES = 250, 20, 1000, 600, 12
SCORES = ("intra", "intra_error", "nearest", "copies", "fd", "hit", "own", "gap", "c_t", "twin", "kept")      # keys of measure.score.SCORES
COLUMNS = ("target", "method", "seed", "step", "until", "num_images", "split", "source", *SCORES)
NAIVE = {"method": "finetune"}
# λ2 and λ3 chosen on the validation split of engraved, seed 0, 300 steps: 0.3 leaves 16 % copies, 1 leaves 6 %, both with 100 % hits
ANCHORED = {"pairwise_on": "source", "num_anchors": 100, "lambda_img": 1.0, "lambda_hf": 1.0}

# name → what differs from the defaults of TrainConfig; all but "naive" and "published" are rivals or extensions, named as such
METHODS: dict[str, dict] = {
    "naive": NAIVE,
    "published": {},
    "anchored": ANCHORED,
    "published, lambda 1": {"lambda_img": 1.0, "lambda_hf": 1.0},      # anchored's weights: is it they that keep people?
    "anchored, no L_hf": ANCHORED | {"lambda_hf": 0.0},
    "scratch": {"method": "scratch"},
    "mirrored": NAIVE | {"random_flip": True},
    "ends": NAIVE | {"trained_parts": "ends"},
    "lora": NAIVE | {"lora_rank": 4, "learning_rate": 2e-3},
    "distilled": {"lambda_img": 0.0, "lambda_hf": 0.0, "lambda_distill": 1.0},
    "distilled, anchored": ANCHORED | {"lambda_img": 0.0, "lambda_hf": 0.0, "lambda_distill": 1.0},
    "authors": {"pairwise_variant": "authors", "pairwise_weighting": "none", "hfmse_weighting": "none",
                "lambda_img": 4.0, "lambda_hf": 4.0, "lambda_hfmse": 1.0},        # their README's weights, of their means of three images
    "naive, ema 0": NAIVE | {"ema_max_decay": 0.0},
    "naive, ema 0.999": NAIVE | {"ema_max_decay": 0.999},
}
MAIN = ("naive", "published", "anchored", "anchored, no L_hf")
UNTIL = {"naive": (500,), "anchored": (500,)}       # t_0 of source-until-t, a way of drawing: the training is the same


class Ruler:
    """What every run of a target is scored with: the ten, a thousand real images, a probe, and start noise that all share.

    Of diffusion models; :class:`dslib.study.gans.Ruler` says anew what a model is: ``opened`` to ``flaw``.
    """
    methods = METHODS

    def __init__(self, source, target: str, num_images: int = NUM_IMAGES, split: str = "test"):
        self.source, self.target, self.split, self.seen = source, target, split, {}
        size, self.noise = self.start(num_images)
        self.ten = data.load_domain(target, "ten", resolution=size).images
        others = data.load_domain(target, split, GOALS + REFERENCE, size).images
        self.real, self.reference = others[:GOALS], metrics.pooled_features(others[GOALS:])
        self.real_to_ten = metrics.lpips_matrix(self.real, self.ten)
        self.probe = domain_probe(target, size)
        self.drawn = self.draw()
        self.twins = data.twin(self.drawn, target) if target in data.TWINS else None

    @staticmethod
    def opened(source: str | None):
        """The source model."""
        return models.load_source(source)

    @staticmethod
    def weights(source) -> dict[str, Tensor]:
        """What tells one source from another."""
        return source.unet.state_dict()

    def start(self, num_images: int) -> tuple[int, Tensor]:
        """The side of an image, and what the samples are drawn from."""
        size = self.source.unet.config.sample_size
        return size, sample.start_noise(num_images, size, 100, self.source.unet.config.in_channels)

    def draw(self, model=None, until: int | None = None) -> Tensor:
        """Samples (N,3,R,R) of a model, the source by default, from what all share; until: the steps t above it are the source's."""
        source = None if until is None else self.source
        return sample.sample(self.source.unet if model is None else model, self.source.scheduler, self.noise, INFERENCE_STEPS, "dpmsolver",
                             source=source, source_until=until)

    def train(self, settings: dict) -> Iterator[train.Step]:
        """The steps of a training with these settings of ``TrainConfig``."""
        return train.adapt(self.source, self.ten, train.TrainConfig(**settings))

    def notes(self) -> dict:
        """What else a row's file tells of the training at that stop."""
        return {}

    def flaw(self, images: Tensor) -> str | None:
        """Why images (N,3,R,R) are not to be scored, or None."""

    def evidence(self, images: Tensor, paired: bool = True) -> Evidence:
        """What images (N,3,R,R) are scored by; paired: image i is of noise i, so that people can be compared."""
        evidence = Evidence(images, self.ten, real=self.real, nearest_real=self.real_to_ten.min(1).values, reference=self.reference,
                            probe=self.probe, source_samples=self.drawn if paired else None,
                            twins=self.twins if paired else None, seen=self.seen)
        evidence.real_to_training = self.real_to_ten          # of a thousand images: computed once
        return evidence

    def measure(self, images: Tensor, paired: bool = True) -> dict[str, float | None]:
        """Scores of images (N,3,R,R), by their keys."""
        return rounded(self.evidence(images, paired))

    def strip(self) -> Tensor:
        """Rows of pictures without a model: source samples and, where they are known, their true answers. (rows, PICTURES, 3, R, R)."""
        return torch.stack([images[:PICTURES] for images in (self.drawn, self.twins) if images is not None])

    def goal_rows(self) -> list[tuple[str, dict]]:
        """(name, scores) of what no model has drawn: sets of real images, source pictures and samples, and the true answers."""
        n, rows = len(self.noise), []
        for i in range(GOALS // n):
            rows.append((f"{REAL} {i}", self.measure(self.real[i * n:(i + 1) * n], paired=False)))
        pictures = data.load_domain(data.SOURCE, self.split, n, self.ten.shape[-1]).images
        rows += [("source pictures", self.measure(pictures, paired=False)), ("source samples", self.measure(self.drawn))]
        return rows if self.twins is None else [*rows, (TRUE, self.measure(self.twins))]


def rounded(evidence: Evidence) -> dict[str, float | None]:
    """The scores of the protocol, by their keys."""
    return grid.rounded(measure(evidence, SCORES))


def scored(ruler: Ruler, drawn: Tensor) -> dict:
    """The scores of samples and :func:`first_pictures`; of samples that have a flaw, that alone."""
    if flaw := ruler.flaw(drawn):
        return {"flaw": flaw}
    evidence = ruler.evidence(drawn)
    return rounded(evidence) | first_pictures(evidence)


def first_pictures(evidence: Evidence) -> dict[str, list[int]]:
    """Of the first pictures: which of the ten is nearest, and is it nearer than real images are? What their strip needs to be read."""
    distance, which = evidence.nearest
    return {"nearest_ten": which[:PICTURES].tolist(), "copied": copied(distance, evidence.nearest_real)[:PICTURES].int().tolist()}


def path_of(folder: Path, target: str, method: str, seed: int) -> Path:
    """The file of a run."""
    return folder / f"{target}-{method.replace(', ', '-').replace(' ', '-')}-{seed}.json"


def follow(run: grid.Run, ruler: Ruler, facts: dict) -> bytes:
    """Train a run, score it at its stops, and return its file. The first pictures are written beside it as a PNG, a row a stop."""
    method = run.settings["method"]
    steps = ruler.train({"max_train_steps": max(run.stops), "seed": run.seed} | ruler.methods[method] | facts["options"])
    rows, pictures, spent, began = [], [], 0.0, time.perf_counter()
    for step in tqdm(steps, total=max(run.stops), desc=run.path.stem, leave=False):
        if step.step not in run.stops:
            continue
        spent += time.perf_counter() - began
        model = step.averaged()
        for until in (None, *UNTIL.get(method, ())):
            drawn = ruler.draw(model, until)
            rows.append({"step": step.step, "until": until, "seconds": round(spent, 1)} | ruler.notes() | scored(ruler, drawn))
            print(f"{run.path.stem}: {as_json(rows[-1], None)}", file=sys.stderr, flush=True)
            pictures.append(drawn[:PICTURES])
        began = time.perf_counter()
    write_atomic(run.path.with_suffix(".png"), png(torch.stack(pictures)))
    return grid.as_file(facts | run.settings | {"seed": run.seed}, rows)


def work(folder: Path, runs: list[tuple[str, str, int]], source: str | None, stops: tuple[int, ...], num_images: int, split: str,
         options: dict, kind: type[Ruler] = Ruler) -> None:
    """Make the runs that are missing, and what real images of their targets score. kind: of what models."""
    wanted = [grid.Run(path_of(folder, target, method, seed), {"target": target, "method": method}, seed, tuple(sorted(stops)))
              for target, method, seed in runs]
    if not grid.pending(wanted):
        return
    opened = kind.opened(source)
    facts = {"source": fingerprint(kind.weights(opened)), "num_images": num_images, "split": split, "options": options}
    for path in sorted(folder.glob("*.json")):
        grid.check_same(path, facts)
    rulers: dict[str, Ruler] = {}

    def make(run: grid.Run) -> bytes:
        target = run.settings["target"]
        if target not in rulers:
            rulers.clear()                               # one at a time: each holds a thousand images
            rulers[target] = kind(opened, target, num_images, split)
            goal = grid.Run(path_of(folder, target, REAL, 0), {"target": target, "method": REAL})
            if not grid.is_whole(goal.path):
                rows = [{"step": 0, "until": None, "name": name} | scores for name, scores in rulers[target].goal_rows()]
                write_atomic(goal.path.with_suffix(".png"), png(rulers[target].strip()))
                write_atomic(goal.path, grid.as_file(facts | goal.settings | {"seed": goal.seed}, rows))
        return follow(run, rulers[target], facts)

    grid.work(wanted, make)


def pack(folder: Path, methods: Iterable[str] = METHODS, study: str = "regime") -> list[dict]:
    """The rows of all runs in a folder, which must share source, split and number of images. Raises UserError where they do not."""
    table = grid.joined(folder, ("source", "num_images", "split", "options"),
                        ("target", "method", "seed", "num_images", "split", "source"), ("name", "step", "until", *SCORES), study)
    for row in table:                            # a goal's row has its own name
        row["method"] = row.pop("name") or row["method"]
    rank = {name: i for i, name in enumerate(methods)}
    return sorted(table, key=lambda row: (row["target"], rank.get(row["method"], -1), row["method"], row["seed"], row["until"] or 1000,
                                          row["step"]))


def load(path: Path | None = None) -> list[dict]:
    """The rows of a table that ``--pack`` wrote, numbers as numbers; default: the committed one. Raises UserError with the mend."""
    path = path or data_dir() / "results" / "regime.csv"
    return grid.read_table(path, COLUMNS, ("seed", "step", "until", "num_images"), ("target", "method", "split", "source"), "regime")


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    parser = parser_of("regime", __doc__, METHODS, MAIN, STOPS)
    parser.add_argument("--option", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="a setting that all runs get, such as snr_gamma 5")
    args = parser.parse_args(argv)
    return errors.run(lambda: work_or_pack(args, Ruler, "regime", settings(args.option)), "dslib.study.regime",
                      "; the runs that are complete are kept")


def parser_of(study: str, words: str, methods: Iterable[str], usual: Iterable[str], stops: tuple[int, ...],
              source: str = "pipeline folder or hub id; default: the shipped avatar model") -> argparse.ArgumentParser:
    """The options of a study of this protocol."""
    parser = argparse.ArgumentParser(prog=f"python -m dslib.study {study}", description=words,
                                     formatter_class=argparse.RawTextHelpFormatter)
    known = data.TWINS + data.TARGETS
    parser.add_argument("--folder", default=f"runs/{study}", help="where the runs are; default: %(default)s")
    parser.add_argument("--targets", nargs="+", choices=known, default=["engraved", "sunglasses", "gouache"], help="default: %(default)s")
    parser.add_argument("--methods", nargs="+", choices=methods, default=list(usual), metavar="METHOD",
                        help=f"of {', '.join(methods)};\ndefault: {', '.join(usual)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--stops", type=int, nargs="+", default=list(stops), help="steps to score at; default: %(default)s")
    parser.add_argument("--num_images", type=int, default=NUM_IMAGES, help="samples to score each time; default: %(default)s")
    parser.add_argument("--split", default="test", help="of real images: test, or validation while settings are chosen")
    parser.add_argument("--source", help=source)
    parser.add_argument("--pack", action="store_true", help="train nothing: write --output from the runs that are there")
    parser.add_argument("--output", help="default: the table that the chapters read")
    return parser


def work_or_pack(args: argparse.Namespace, kind: type[Ruler], study: str, options: dict) -> None:
    """What a study of this protocol does with its arguments. options: settings that all runs get."""
    folder = Path(args.folder)
    if args.pack:
        output = Path(args.output or data_dir() / "results" / f"{study}.csv")
        write_atomic(output, as_csv(pack(folder, kind.methods, study), COLUMNS).encode())
        print(output)
        return
    if args.num_images < 32 or args.num_images > GOALS:
        raise UserError(f"--num_images is {args.num_images}: use 32 to {GOALS}")
    if min(args.stops) < 1:
        raise UserError(f"--stops holds {min(args.stops)}: the first step is 1")
    runs = [(target, method, seed) for seed, target, method in product(dict.fromkeys(args.seeds), args.targets, args.methods)]
    work(folder, runs, args.source, tuple(args.stops), args.num_images, args.split, options, kind)


def settings(given: list[list[str]]) -> dict:
    """NAME VALUE pairs as settings of ``TrainConfig``, values as JSON or words. Raises UserError for an unknown name."""
    found, known = {}, train.TrainConfig.__dataclass_fields__
    for name, value in given:
        if name not in known:
            raise UserError(f"--option {name}: no such setting; 'dslib adapt --help' lists them")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    train.TrainConfig(**found).check()
    return found


if __name__ == "__main__":
    sys.exit(main())
