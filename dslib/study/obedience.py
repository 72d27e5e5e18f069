"""Does an adapted text-to-image model still obey? Obedience beside style, with chance and ceiling, over training steps (chapter 09).

``python -m dslib.study words`` works through styles × methods × seeds, a file a run. Every model draws the same requests, words that its
ten do not show together, from the same noise; a probe of the style reads them back. ``--pack`` writes the table.
"""

import argparse
import sys
from itertools import product
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import data, metrics, sample
from ..base import errors
from ..base.errors import UserError
from ..base.files import as_json, data_dir, write_atomic
from ..base.identity import fingerprint
from ..measure.probes import domain_probe
from ..measure.probes import obeyed as read_back
from ..measure.score import SCORES as SCORE_KINDS
from ..measure.score import Evidence, measure
from ..text import captions, latent, prompted, text_to_image, wording
from . import grid
from .curves import as_csv, png
from .evidence import spread
from .regime import path_of

STYLES = ("engraved", "portraits", "sketches")
STOPS = (50, 150, 300)
NUM_IMAGES, REAL, PRIOR, PICTURES, INFERENCE_STEPS, GUIDANCE = 128, 400, 100, 12, 12, 3.0
GOALS = ("source", "real", "real, decoded")          # the floor, and two ceilings
KEYS = ("intra", "copies", "fd", "hit")              # of measure.score.SCORES
SCORES = ("obeyed", "chance", "skill", *KEYS)
COLUMNS = ("style", "method", "seed", "step", "num_images", "source", *SCORES)
ANCHORED = {"method": "domainstudio", "pairwise_on": "source", "lambda_img": 1.0, "lambda_hf": 1.0}
LORA = {"lora_rank": 4}
SWEEP = ("textual-inversion, rate 0.005, told", "textual-inversion, rate 0.1, told")        # on request: --methods, --stops 300 1000

# name → settings of TextConfig; "told": the ten have captions, and the source draws its prior pictures from captions
METHODS: dict[str, dict] = {
    "dreambooth": {"method": "dreambooth"},
    "dreambooth, told": {"method": "dreambooth", "told": True},
    "lora, told": {"method": "dreambooth", "told": True} | LORA,
    "textual-inversion, told": {"method": "textual-inversion", "told": True},
    "textual-inversion, rate 0.005, told": {"method": "textual-inversion", "told": True, "learning_rate": 5e-3},
    "textual-inversion, rate 0.1, told": {"method": "textual-inversion", "told": True, "learning_rate": 0.1},
    "domainstudio": {"method": "domainstudio"},
    "domainstudio, told": {"method": "domainstudio", "told": True},
    "anchored, told": ANCHORED | {"told": True},
    "anchored, lora, told": ANCHORED | {"told": True} | LORA,
}


def skill(obeyed: float, chance: float, ceiling: float) -> float:
    """How far obedience goes from chance, 0, to what is read from real pictures with these words, 1; below chance it is negative."""
    return (obeyed - chance) / max(ceiling - chance, 1e-9)


class Ruler:
    """What all runs of a style share: the ten and their words, requests, real pictures, probes, noise, and what the source draws.

    real: real pictures for copies; as many that show words about as often as the requests ask for them, the ceiling; as many again for FD:
    measured against the style at large, whoever obeyed would pay for it.
    """

    def __init__(self, pipe, style: str, num_images: int, real: int = REAL, probe_images: int = 3000):
        size = pipe.unet.config.sample_size * pipe.vae_scale_factor
        ten = data.load_domain(style, "ten", resolution=size)
        self.pipe, self.style, self.ten = pipe, style, ten.images
        self.texts = [prompted.caption_of(labels, style) for labels in ten.labels]
        self.real = data.load_domain(style, "test", real, size).images
        worded = data.load_domain(f"{style}-with-words", "test", 2 * real, size)
        self.worded, self.said = worded.images[:real], [prompted.words_of(style)(labels) for labels in worded.labels[:real]]
        self.reference = metrics.pooled_features(worded.images[real:])
        self.nearest_real = metrics.lpips_matrix(self.real, self.ten).min(1).values
        self.probe, self.reader = domain_probe(style, size), prompted.probe(style, size, probe_images)
        self.requests = prompted.requests(num_images, style, captions.INSTANCE_PROMPT)
        self.noise = sample.start_noise(num_images, pipe.unet.config.sample_size, 100, pipe.unet.config.in_channels)
        self.priors: dict[bool, tuple[list[str] | None, Tensor]] = {}
        self.goals = self.measured_goals()
        self.ceiling = self.goals[1]["words"]

    def draw(self, pipe, instance_prompt: str = captions.INSTANCE_PROMPT) -> Tensor:
        """A model's pictures (N,3,R,R) of the requests."""
        prompts = [one.text.replace(captions.INSTANCE_PROMPT, instance_prompt, 1) for one in self.requests]
        return latent.draw(pipe, prompts, self.noise, GUIDANCE, INFERENCE_STEPS)

    def prior(self, told: bool) -> tuple[list[str] | None, Tensor]:
        """(prompts, latents) of the source's prior pictures: captions where the method is told words, else the class prompt."""
        if told not in self.priors:
            prompts = wording.prior_prompts(wording.DRAWN if told else None, PRIOR, captions.INSTANCE_PROMPT, captions.CLASS_PROMPT)
            self.priors[told] = prompts, text_to_image.prior_latents(self.pipe, captions.CLASS_PROMPT, PRIOR, prompts=prompts)
        return self.priors[told]

    def kept(self, images: Tensor) -> dict[str, float | None]:
        """Scores that ask for no words."""
        evidence = Evidence(images, self.ten, real=self.real, nearest_real=self.nearest_real, reference=self.reference, probe=self.probe)
        return measure(evidence, KEYS)

    def measured_goals(self) -> list[dict]:
        """The rows of ``GOALS``: pictures of the source, of the kit with words of their own, and these through the autoencoder."""
        with torch.inference_mode():
            decoded = torch.cat([latent.decode(self.pipe.vae, latent.encode(self.pipe.vae, part)).clamp(-1, 1)
                                 for part in self.worded.split(50)])
        real = {"real": self.worded, "real, decoded": decoded}
        ideal = {name: read_back(images, self.said, self.reader) for name, images in real.items()}
        asked = prompted.ASKED[self.style]
        rows = [{"method": "source", "step": 0} | self.scores(self.draw(self.pipe, captions.CLASS_PROMPT), ideal["real"])]
        for name, images in real.items():
            words = {key: [share] for key, (share, _) in ideal[name].items() if key in asked}
            rows.append({"method": name, "step": 0, "words": words, "obeyed": round(mean(one[0] for one in words.values()), 5)}
                        | grid.rounded(self.kept(images[:len(self.noise)])))
        return rows

    def scores(self, images: Tensor, ceiling: dict) -> dict:
        """All scores of pictures of the requests; words: {attribute: [obeyed, chance]}. ceiling: {attribute: (share, …)} of real ones."""
        found = prompted.obeyed(images, self.requests, self.style, images.shape[-1], self.reader)
        shares = {name: [round(one.share, 5), round(one.chance, 5)] for name, one in found.items()}
        obeyed, chance = (mean(one[i] for one in shares.values()) for i in (0, 1))
        top = mean(ceiling[name][0] for name in shares)
        found = {"obeyed": obeyed, "chance": chance, "skill": skill(obeyed, chance, top)} | self.kept(images)
        return {"words": shares} | grid.rounded(found)

    def train(self, settings: dict, seed: int, steps: int):
        """The steps of a training."""
        settings = dict(settings)
        told = settings.pop("told", False)
        config = text_to_image.TextConfig(max_train_steps=steps, seed=seed, **settings)
        prompts, prior = (None, None) if config.method == "textual-inversion" else self.prior(told)
        return text_to_image.adapt(self.pipe, self.ten, config, captions.INSTANCE_PROMPT, captions.CLASS_PROMPT, prior,
                                   texts=self.texts if told else None, prior_prompts=prompts)


def follow(run: grid.Run, ruler: Ruler, facts: dict) -> bytes:
    """Train a run, score it at its stops, and return its file; the last stop's first pictures are written beside it as a PNG."""
    rows, settings = [], METHODS[run.settings["method"]]
    for step in tqdm(ruler.train(settings, run.seed, max(run.stops)), total=max(run.stops), desc=run.path.stem, leave=False):
        if step.step in run.stops:
            images = ruler.draw(text_to_image.adapted(ruler.pipe, step))
            rows.append({"method": run.settings["method"], "step": step.step} | ruler.scores(images, ruler.ceiling))
            print(f"{run.path.stem}: {as_json(rows[-1], None)}", file=sys.stderr, flush=True)
    write_atomic(run.path.with_suffix(".png"), png(images[:PICTURES][None]))
    return grid.as_file(facts | run.settings | {"seed": run.seed, "settings": settings}, rows)


def work(folder: Path, wanted: list[tuple[str, str, int]], source: str | None, stops: tuple[int, ...], num_images: int) -> None:
    """Make the files that are missing: (style, method, seed) each, and the goals of a style."""
    runs = [grid.Run(path_of(folder, style, method, seed), {"style": style, "method": method}, seed, stops)
            for style, method, seed in wanted]
    if not grid.pending(runs):
        return
    pipe = latent.load_pipeline(source or data_dir() / "text_to_image")
    parts = (getattr(pipe, part).state_dict() for part in latent.PARTS)
    facts = {"source": fingerprint(*parts), "num_images": num_images, "stops": list(stops)}
    for path in sorted(folder.glob("*.json")):
        grid.check_same(path, facts)
    rulers: dict[str, Ruler] = {}

    def make(run: grid.Run) -> bytes:
        style = run.settings["style"]
        if style not in rulers:
            rulers.clear()                                       # one style at a time is in memory
            rulers[style] = Ruler(pipe, style, num_images, REAL)
            goals = path_of(folder, style, "goals", 0)
            write_atomic(goals, grid.as_file(facts | {"style": style, "method": "goals", "seed": 0}, rulers[style].goals))
        return follow(run, rulers[style], facts)

    grid.work(runs, make)


def pack(folder: Path) -> list[dict]:
    """The rows of all files in a folder, which must share source, stops and number of images. Raises UserError where they do not."""
    table = grid.joined(folder, ("source", "num_images", "stops"), ("style", "seed", "source", "num_images"), ("method", "step", *SCORES),
                        "words")
    rank = {name: i for i, name in enumerate((*GOALS, *METHODS))}
    return sorted(table, key=lambda row: (row["style"], rank[row["method"]], row["seed"], row["step"]))


def load(path: Path | None = None) -> list[dict]:
    """The rows of a table that ``--pack`` wrote, numbers as numbers; default: the committed one. Raises UserError with the mend."""
    path = path or data_dir() / "results" / "words.csv"
    return grid.read_table(path, COLUMNS, ("seed", "step", "num_images"), ("style", "method", "source"), "words")


def text(rows: list[dict], step: int | None = None) -> str:
    """Markdown: a line a style and method, means ± standard deviations over seeds after ``step`` steps (default: of each, its last)."""
    kinds = {"obeyed": ("obeyed", 2), "chance": ("by chance", 2), "skill": ("of the way to real pictures", 2)}
    kinds |= {key: (SCORE_KINDS[key].title, SCORE_KINDS[key].digits) for key in ("hit", "copies", "intra", "fd")}
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in at_step(rows, step):
        groups.setdefault((row["style"], row["method"]), []).append(row)
    out = ["| style | images | seeds | " + " | ".join(title for title, _ in kinds.values()) + " |", "|---" * (len(kinds) + 3) + "|"]
    for (style, method), group in groups.items():
        seeds = "–" if method in GOALS else len(group)
        cells = [spread([row[key] for row in group if row.get(key) is not None], digits) for key, (_, digits) in kinds.items()]
        out.append(f"| {style} | {method} | {seeds} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def at_step(rows: list[dict], step: int | None) -> list[dict]:
    """The goals, and what every method scores after ``step`` steps, or after its last."""
    last: dict[tuple[str, str], int] = {}
    for row in rows:
        last[row["style"], row["method"]] = max(row["step"], last.get((row["style"], row["method"]), 0))
    return [row for row in rows if row["method"] in GOALS or row["step"] == (step or last[row["style"], row["method"]])]


def ways(rows: list[dict], methods: tuple[str, ...], scores: dict[str, str]) -> tuple[dict, dict]:
    """What :func:`dslib.show.plots.ways` draws: (way from the source to the style, 1 − FD / FD of the source's pictures; score) of every
    method, means over seeds, and the score of real pictures. scores: a score of the rows → its title."""
    values: dict = {title: {} for title in scores.values()}
    real: dict = {title: {} for title in scores.values()}
    for style in dict.fromkeys(row["style"] for row in rows):
        mine = [row for row in rows if row["style"] == style]
        start, goal = (next(row for row in mine if row["method"] == name) for name in GOALS[:2])
        for score, title in scores.items():
            real[title][style] = 1.0 if score == "skill" else goal[score]
            values[title][style] = {method: [(0.0, start[score])] + [
                (1 - mean(row["fd"] for row in group) / start["fd"], mean(row[score] for row in group))
                for _, group in sorted(by_step(mine, method).items())] for method in methods if by_step(mine, method)}
    return values, real


def by_step(rows: list[dict], method: str) -> dict[int, list[dict]]:
    """A method's rows, a group a step."""
    found: dict[int, list[dict]] = {}
    for row in rows:
        if row["method"] == method:
            found.setdefault(row["step"], []).append(row)
    return found


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study words", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", default="runs/words", help="where the runs are; default: %(default)s")
    parser.add_argument("--styles", nargs="+", choices=prompted.ASKED, default=list(STYLES), help=f"default: {' '.join(STYLES)}")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[name for name in METHODS if name not in SWEEP],
                        metavar="METHOD", help=f"of {'; '.join(METHODS)};\ndefault: all but other rates")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    parser.add_argument("--stops", type=int, nargs="+", default=list(STOPS), help=f"steps to score at; default: {STOPS}")
    parser.add_argument("--num_images", type=int, default=NUM_IMAGES, help="requests to draw each time; default: %(default)s")
    parser.add_argument("--source", help="pipeline folder or hub id; default: the shipped text-to-image model")
    parser.add_argument("--pack", action="store_true", help="train nothing: write --output from the runs that are there")
    parser.add_argument("--output", help="default: the table of the course")
    args = parser.parse_args(argv)
    return errors.run(lambda: work_or_pack(args), "dslib.study.words", "; the runs that are complete are kept")


def work_or_pack(args: argparse.Namespace) -> None:
    """What ``main`` does with its arguments."""
    if args.pack:
        output = Path(args.output or data_dir() / "results" / "words.csv")
        write_atomic(output, as_csv(pack(Path(args.folder)), COLUMNS).encode())
        print(output)
        return
    if args.num_images < 10:
        raise UserError(f"--num_images is {args.num_images}: use at least 10")
    if min(args.stops) < 1:
        raise UserError(f"--stops holds {min(args.stops)}: the first step is 1")
    runs = [(style, method, seed) for style, seed, method in product(args.styles, dict.fromkeys(args.seeds), args.methods)]
    work(Path(args.folder), runs, args.source, tuple(sorted(args.stops)), args.num_images)


if __name__ == "__main__":
    sys.exit(main())
