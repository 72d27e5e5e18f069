"""The way, not its end alone: every method scored again and again while it trains, on every domain (chapter 08).

``python -m dslib.curves`` works through targets × methods × seeds, a file a run, so that it can be stopped at any time and goes on
where it was; ``--pack`` adds the runs that are there to the one file that the chapter reads.
"""

import argparse
import copy
import json
import sys
from itertools import product
from pathlib import Path
from statistics import mean, stdev

from tqdm.auto import tqdm

from . import ablations, data, models, study
from .bank import Bank
from .env import UserError, data_dir

STOPS, LONG = (75, 150, 225, 300), {"sunglasses": (600, 900, 1200)}      # one domain is followed until naive fine-tuning copies
NUM_IMAGES, INFERENCE_STEPS, SPLIT = 64, 20, "test"
SEEDS, REAL = (0, 1, 2), "real, held out"
METRICS = ("intra", "nearest", "fd", "hit")

# name → what differs from the defaults of TrainConfig
METHODS: dict[str, dict] = {
    "finetune": {"method": "finetune"},
    "DomainStudio": {},
    "without L_hf": {"lambda_hf": 0.0},
    "without L_img": {"lambda_img": 0.0},
    "without L_hfmse": {"lambda_hfmse": 0.0},
    "finetune, mirrored": {"method": "finetune", "random_flip": True},
    "scratch": {"method": "scratch"},
}


def known(rows: list[dict]) -> set[tuple[str, str, int]]:
    """The runs that rows come from: {(target, method, seed)}."""
    return {(row["target"], row["method"], row["seed"]) for row in rows}


def path_of(folder: Path, target: str, method: str, seed: int) -> Path:
    """Where a run's rows are kept."""
    return folder / f"{target}-{method.replace(', ', '-').replace(' ', '-')}-{seed}.json"


def stops_of(target: str) -> tuple[int, ...]:
    """The steps at which a domain's runs are scored."""
    return STOPS + LONG.get(target, ())


def scores(target: str, method: str, seed: int, step: int, row: dict) -> dict:
    """One row of the file: who, when, and four scores."""
    return {"target": target, "method": method, "seed": seed, "step": step} | {m: round(row[m], 4) for m in METRICS}


def work(folder: Path, runs: list[tuple[str, str, int]], source: str | None = None, stops: tuple[int, ...] | None = None,
         num_images: int = NUM_IMAGES, inference_steps: int = INFERENCE_STEPS) -> None:
    """Make every (target, method, seed) whose file is not in the folder yet, and what real images of its target score."""
    pending = [run for run in runs if not path_of(folder, *run).exists()]
    if not pending:
        return
    pipe, ruler, bank, shared = models.load_source(source), None, None, None
    for target, method, seed in tqdm(pending, desc="runs"):
        if ruler is None or ruler.target != target:
            ruler = ablations.Ruler(pipe, target, num_images, inference_steps, SPLIT)
            real = ruler.measure(ruler.real, ruler.ten)
            study.save(path_of(folder, target, REAL, 0), [scores(target, REAL, 0, 0, real)])
        if shared != (target, seed):                                # the bank's answers are those to this seed's noise on these ten
            shared, bank = (target, seed), Bank(copy.deepcopy(pipe.unet).requires_grad_(False).eval())
        found = ablations.run(ruler, METHODS[method] | {"seed": seed}, list(stops or stops_of(target)), bank)
        rows = [scores(target, method, seed, row["steps"], row) for row, _ in found]
        study.save(path_of(folder, target, method, seed), rows)
        print(json.dumps(rows[-1]), file=sys.stderr)


def pack(folder: Path, kept: list[dict]) -> list[dict]:
    """The rows that are kept already and those of the folder's runs, in the order of targets, methods, seeds and steps."""
    rows, there = list(kept), known(kept)
    for path in sorted(folder.glob("*.json")):
        new = study.load(path)
        rows += [row for row in new if (row["target"], row["method"], row["seed"]) not in there]
    if not rows:
        raise UserError(f"{folder} holds no run: make them with 'python -m dslib.curves'")
    order = [REAL, *METHODS]
    return sorted(rows, key=lambda row: (data.TARGETS.index(row["target"]), order.index(row["method"]), row["seed"], row["step"]))


def load() -> list[dict]:
    """The committed rows."""
    path = data_dir() / "results" / "08_curves.json"
    if not path.exists():
        raise UserError(f"no {path}: 'python -m dslib.curves' makes the runs, --pack then writes it")
    return study.load(path)


def curve(rows: list[dict], target: str, method: str, metric: str) -> list[tuple[int, float, float | None]]:
    """(step, mean over seeds, standard deviation or None for one seed) along a method's way."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["target"] == target and row["method"] == method:
            found.setdefault(row["step"], []).append(row[metric])
    return [(step, mean(values), stdev(values) if len(values) > 1 else None) for step, values in sorted(found.items())]


def through(rows: list[dict], methods: tuple[str, ...], metrics: dict[str, str]) -> tuple[dict, dict]:
    """What :func:`dslib.plots.ways` draws: each method's way through the domain hit and a score, means over seeds, and real images' scores.

    metrics: a score's name in the rows → its title.
    """
    targets = list(dict.fromkeys(row["target"] for row in rows))

    def way(target, method, metric):
        return [(hit, value) for (_, hit, _), (_, value, _) in zip(curve(rows, target, method, "hit"), curve(rows, target, method, metric))]

    values = {title: {target: {method: points for method in methods if (points := way(target, method, metric))} for target in targets}
              for metric, title in metrics.items()}
    real = {title: {row["target"]: row[metric] for row in rows if row["method"] == REAL} for metric, title in metrics.items()}
    return values, real


def table(rows: list[dict], step: int = max(STOPS)) -> list[dict]:
    """One row a (target, method) after ``step`` steps: how many seeds, and (mean, standard deviation or None) of every score."""
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["step"] == step or row["method"] == REAL:
            found.setdefault((row["target"], row["method"]), []).append(row)
    return [{"target": target, "method": method, "seeds": len(group)}
            | {m: (mean(r[m] for r in group), stdev(r[m] for r in group) if len(group) > 1 else None) for m in METRICS}
            for (target, method), group in found.items()]


def against_early_stopping(rows: list[dict], target: str, method: str = "DomainStudio", step: int = max(STOPS)) -> list[dict]:
    """A method after ``step`` steps beside naive fine-tuning stopped where as many samples are in the domain; one dict a seed of both.

    ``mine`` and ``naive``: how far Intra-LPIPS and nearest-LPIPS are from real images', and FD; ``hit`` of the method, ``step`` of naive
    fine-tuning. Seeds at which naive fine-tuning never gets so far are left out.
    """
    real = next(row for row in rows if row["target"] == target and row["method"] == REAL)

    def apart(row):
        return {"intra": abs(row["intra"] - real["intra"]), "nearest": abs(row["nearest"] - real["nearest"]), "fd": row["fd"]}

    def ways(name):
        seeds = sorted({row["seed"] for row in rows if (row["target"], row["method"]) == (target, name)})
        return {seed: [row for row in rows if (row["target"], row["method"], row["seed"]) == (target, name, seed)] for seed in seeds}

    found, naive = [], ways("finetune")
    for seed, way in ways(method).items():
        mine = next((row for row in way if row["step"] == step), None)
        stopped = stopped_at_hit(naive[seed], mine["hit"]) if mine and seed in naive else None
        if stopped:
            found.append({"seed": seed, "hit": mine["hit"], "step": stopped["step"], "mine": apart(mine), "naive": apart(stopped)})
    return found


def stopped_at_hit(rows: list[dict], hit: float) -> dict | None:
    """A run's scores where it first reaches a domain hit, between two of its stops on a straight line; None if it never does.

    rows: one run's, in the order of steps. Also the step, so far as the line can tell: this is what *stopping early* would have given.
    A run that is there at its first stop already is told from that stop.
    """
    for before, after in zip([rows[0], *rows], rows):
        if after["hit"] >= hit:
            rise = after["hit"] - before["hit"]
            share = (hit - before["hit"]) / rise if rise > 0 else 1.0
            return {key: before[key] + share * (after[key] - before[key]) for key in ("step", *METRICS)}
    return None


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.curves", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", default="runs/curves", help="where the runs are; default: %(default)s")
    parser.add_argument("--targets", nargs="+", choices=data.TARGETS, default=list(data.TARGETS), help="default: all five")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="default: 0 1 2")
    parser.add_argument("--source", help="pipeline folder or hub id; default: the shipped avatar model")
    parser.add_argument("--pack", action="store_true", help="train nothing: add the runs that are there to --output")
    parser.add_argument("--output", help="default: the file that chapter 08 reads; what it holds already is not run again")
    args = parser.parse_args(argv)
    output, folder = Path(args.output or data_dir() / "results" / "08_curves.json"), Path(args.folder)
    try:
        kept = study.load(output) if output.exists() else []
        if args.pack:
            study.save(output, pack(folder, kept))
            print(output)
        else:
            runs = [(target, method, seed) for seed, target, method in product(dict.fromkeys(args.seeds), args.targets, args.methods)]
            work(folder, [run for run in runs if run not in known(kept)], args.source)
    except UserError as error:
        print(f"dslib.curves: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"dslib.curves: error: {error.filename or output}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dslib.curves: stopped; the runs that are complete are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
