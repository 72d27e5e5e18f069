"""No target image at all: the source is told "everybody with sunglasses" by a probe, and another decides whether they are there.

``python -m dslib.study wish`` works through wishes × variants × seeds, a file a run. x̃_0 is pushed to please a probe, plain or robust
(:mod:`dslib.beyond.attribute`, an extension), alone or held by pairwise terms or plain distillation. ``--pack`` writes table and strips.
"""

import argparse
import sys
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import domainstudio, losses, metrics, models, sample, train
from ..base import errors
from ..base.errors import UserError
from ..base.files import as_json, data_dir, write_atomic
from ..base.identity import fingerprint
from ..beyond import attribute
from ..measure.twin_scores import own_share
from ..show.style import shrink
from . import grid
from .curves import as_csv, png, sheet

WISHES = ("glasses=sunglasses", "mouth=screaming")
STEPS, NUM_IMAGES, INFERENCE_STEPS, REAL, ANCHORS, PICTURES = 60, 128, 20, 600, 100, 10
SHOWN = 6                                        # pictures a row of the committed strips
SCORES = ("probe", "judge", "face", "shown", "own", "spread", "img", "hf")
COLUMNS = ("wish", "variant", "seed", "step", "num_images", "source", *SCORES)
GOALS = ("source samples", "real, without it", "real, with it")      # floors and the ceiling
ALONE = {"lambda_img": 0.0, "lambda_hf": 0.0}

# name → (is the probe robust?, what holds the people: settings of TrainConfig); for "pixels" there is no network but the probe's
VARIANTS: dict[str, tuple[bool, dict]] = {
    "pixels": (False, {}),
    "pixels, robust probe": (True, {}),
    "pushed": (False, ALONE),
    "pairwise": (False, {"lambda_img": 3.0, "lambda_hf": 3.0}),
    "pairwise, robust probe": (True, {"lambda_img": 3.0, "lambda_hf": 3.0}),
    "distilled": (False, ALONE | {"lambda_distill": 10.0}),
    "distilled, robust probe": (True, ALONE | {"lambda_distill": 10.0}),
}
SETTINGS = {"learning_rate": 1e-4, "mixed_precision": "bf16"}


class Ruler(NamedTuple):
    """What all runs of a wish share."""
    noise: Tensor        # (N,C,R,R) start noise
    drawn: Tensor        # (N,3,R,R) what the source draws of it
    anchors: Tensor      # (n,3,R,R) other samples of the source: what is trained on
    probes: dict         # robust? → attribute.Probe
    judge: object        # images → (N,) bool: does it show the wish?
    face: object         # images → (N,) bool: is it such a picture as the source's still?


def ruler_of(source, wish: str, shared: tuple[Tensor, Tensor, Tensor]) -> Ruler:
    """The probes and the judge of a wish beside what all wishes share (:func:`samples_of`)."""
    size = source.unet.config.sample_size
    probes = {robust: attribute.train_probe(source, wish, robust) for robust in (False, True)}
    return Ruler(*shared, probes, attribute.judge(wish, size), attribute.familiar(size))


def samples_of(source, num_images: int) -> tuple[Tensor, Tensor, Tensor]:
    """Start noise, what the source draws of it, and the anchors."""
    noise = sample.start_noise(num_images, source.unet.config.sample_size, 100, source.unet.config.in_channels)
    drawn = draw(source.unet, source.scheduler, noise)
    return noise, drawn, domainstudio.draw_anchors(source, ANCHORS, train.TrainConfig(num_anchors=ANCHORS))[:, 0]


def draw(unet, scheduler, noise: Tensor) -> Tensor:
    """Samples of a model."""
    return sample.sample(unet, scheduler, noise, INFERENCE_STEPS, "dpmsolver")


def scores_of(images: Tensor, ruler: Ruler, robust: bool, paired: bool = True) -> dict[str, float | None]:
    """The scores of pictures (N,3,R,R), in [0,1] but for spread (mean LPIPS of two) and the losses (against the source's, a batch of ten).

    robust: which probe trained them. paired: image i is of noise i; others have no people to keep.
    """
    net, within = ruler.probes[robust].net, metrics.lpips_matrix(images)
    n = len(images)
    with torch.inference_mode():
        pleased = torch.cat([net(part)[:, 0] > 0 for part in images.split(64)])
    says, face = ruler.judge(images), ruler.face(images)
    found = {"probe": pleased, "judge": says, "face": face, "shown": says & face}
    found = {key: float(value.float().mean()) for key, value in found.items()} | {"spread": float(within.sum() / (n * (n - 1)))}
    if paired:
        pairs = [(a, b) for a, b in zip(images.split(10), ruler.drawn.split(10)) if len(a) == 10]
        found |= {"own": own_share(images, ruler.drawn),
                  "img": float(torch.stack([losses.pairwise_kl(a, b) for a, b in pairs]).mean()),
                  "hf": float(torch.stack([losses.hf_pairwise_kl(a, b) for a, b in pairs]).mean())}
    return grid.rounded(dict.fromkeys(SCORES) | found)


def path_of(folder: Path, wish: str, variant: str, seed: int) -> Path:
    """The file of a run."""
    return folder / f"{wish.replace('=', '-')}-{variant.replace(', ', '-').replace(' ', '-')}-{seed}.json"


def made(run: grid.Run, source, ruler: Ruler) -> Tensor:
    """The pictures (N,3,R,R) of a run: pixels that were changed, or samples of a model that was trained."""
    robust, settings = VARIANTS[run.settings["variant"]]
    probe = ruler.probes[robust]
    if not settings:
        return attribute.push_pixels(ruler.drawn, probe)
    config = train.TrainConfig(max_train_steps=max(run.stops), seed=run.seed, **SETTINGS | settings)
    for step in tqdm(attribute.adapt(source, probe, config, ruler.anchors), total=max(run.stops), desc=run.path.stem, leave=False):
        last = step
    return draw(last.averaged(), source.scheduler, ruler.noise)


def goal_rows(wish: str, ruler: Ruler) -> tuple[list[dict], Tensor]:
    """The rows of ``GOALS``, and their pictures (3,PICTURES,3,R,R): the probe is the robust one."""
    images, has = attribute.labelled(wish, "test", REAL, ruler.drawn.shape[-1])
    sets = dict(zip(GOALS, (ruler.drawn, images[~has][:len(ruler.drawn)], images[has][:len(ruler.drawn)])))
    for name, found in sets.items():
        if len(found) < 2:
            raise UserError(f"{name}: {len(found)} of {REAL} real pictures for {wish}: wish for something neither rare nor everywhere")
    rows = [{"variant": name, "step": 0} | scores_of(found, ruler, True, found is ruler.drawn) for name, found in sets.items()]
    least = min(PICTURES, *map(len, sets.values()))
    return rows, torch.stack([found[:least] for found in sets.values()])


def work(folder: Path, wanted: list[tuple[str, str, int]], source_name: str | None, steps: int, num_images: int) -> None:
    """Make the files that are missing: (wish, variant, seed) each, and the goals of a wish."""
    runs = [grid.Run(path_of(folder, wish, variant, seed), {"wish": wish, "variant": variant}, seed, (steps,))
            for wish, variant, seed in wanted]
    if not grid.pending(runs):
        return
    source = models.load_source(source_name)
    facts = {"source": fingerprint(source.unet.state_dict()), "num_images": num_images, "steps": steps}
    for path in sorted(folder.glob("*.json")):
        grid.check_same(path, facts)
    shared, rulers = samples_of(source, num_images), {}

    def make(run: grid.Run) -> bytes:
        wish = run.settings["wish"]
        if wish not in rulers:
            rulers[wish] = ruler_of(source, wish, shared)
            rows, pictures = goal_rows(wish, rulers[wish])
            goals = path_of(folder, wish, "goals", 0)
            write_atomic(goals.with_suffix(".png"), png(pictures))
            write_atomic(goals, grid.as_file(facts | {"wish": wish, "seed": 0}, rows))
        images = made(run, source, rulers[wish])
        robust, settings = VARIANTS[run.settings["variant"]]
        row = {"variant": run.settings["variant"], "step": steps} | scores_of(images, rulers[wish], robust)
        print(f"{run.path.stem}: {as_json(row, None)}", file=sys.stderr, flush=True)
        write_atomic(run.path.with_suffix(".png"), png(images[:PICTURES][None]))
        return grid.as_file(facts | {"wish": wish, "seed": run.seed, "settings": SETTINGS | settings}, [row])

    grid.work(runs, make)


# ------------------------------------------------------ the table and the strips

def pack(folder: Path) -> list[dict]:
    """The rows of all files in a folder, which must share source, steps and number of images. Raises UserError where they do not."""
    table = grid.joined(folder, ("source", "num_images", "steps"), ("wish", "seed", "source", "num_images"), ("variant", "step", *SCORES),
                        "wish")
    rank = {name: i for i, name in enumerate((*GOALS, *VARIANTS))}
    return sorted(table, key=lambda row: (row["wish"], rank[row["variant"]], row["seed"]))


def strip(folder: Path, wish: str, size: int = 64) -> Tensor | None:
    """Pictures of a wish: the source's samples, then a row a variant, seed 0, of the same noise. (rows,n,3,R,R); None if none ran."""
    goals = path_of(folder, wish, "goals", 0).with_suffix(".png")
    paths = [path_of(folder, wish, variant, 0).with_suffix(".png") for variant in VARIANTS]
    if not goals.exists():
        return None
    first = sheet(goals, size)[:1]
    return torch.cat([first, *(sheet(path, size)[:, :first.shape[1]] for path in paths if path.exists())])


def load(path: Path | None = None) -> list[dict]:
    """The rows of a table that ``--pack`` wrote, numbers as numbers; default: the committed one. Raises UserError with the mend."""
    path = path or data_dir() / "results" / "beyond" / "wishes.csv"
    return grid.read_table(path, COLUMNS, ("seed", "step", "num_images"), ("wish", "variant", "source"), "wish")


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study wish", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", default="runs/wish", help="where the runs are; default: %(default)s")
    parser.add_argument("--wishes", nargs="+", default=list(WISHES), metavar="ATTRIBUTE=WORD", help=f"default: {' '.join(WISHES)}")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT",
                        help=f"of {'; '.join(VARIANTS)};\ndefault: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2; pixels have but the first")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training; default: %(default)s")
    parser.add_argument("--num_images", type=int, default=NUM_IMAGES, help="samples to score; default: %(default)s")
    parser.add_argument("--source", help="pipeline folder or hub id; default: the shipped avatar model")
    parser.add_argument("--pack", action="store_true", help="train nothing: write --output and strips from the runs that are there")
    parser.add_argument("--output", help="default: the table of the course")
    args = parser.parse_args(argv)
    return errors.run(lambda: work_or_pack(args), "dslib.study.wish", "; the runs that are complete are kept")


def work_or_pack(args: argparse.Namespace) -> None:
    """What ``main`` does with its arguments."""
    folder = Path(args.folder)
    for wish in args.wishes:
        attribute.parse(wish)
    if args.pack:
        output = Path(args.output or data_dir() / "results" / "beyond" / "wishes.csv")
        rows = pack(folder)
        write_atomic(output, as_csv(rows, COLUMNS).encode())
        print(output)
        for wish in dict.fromkeys(row["wish"] for row in rows):
            size = models.load_source(args.source).unet.config.sample_size
            if (pictures := strip(folder, wish, size)) is not None:
                write_atomic(output.with_name(f"wish-{wish.replace('=', '-')}.png"), shrink(png(pictures[:, :SHOWN])))
        return
    if args.num_images < 10:
        raise UserError(f"--num_images is {args.num_images}: use at least 10")
    if args.steps < 1:
        raise UserError(f"--steps is {args.steps}: use at least 1")
    runs = [(wish, variant, seed) for seed, wish, variant in product(dict.fromkeys(args.seeds), args.wishes, args.variants)]
    first = min(args.seeds)
    work(folder, [run for run in runs if VARIANTS[run[1]][1] or run[2] == first], args.source, args.steps, args.num_images)


if __name__ == "__main__":
    sys.exit(main())
