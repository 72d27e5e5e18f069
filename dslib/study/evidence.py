"""What the table of :mod:`dslib.study.regime` says: goals, matched domain hit, differences paired by seed, with intervals (chapter 08)."""

import argparse
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from ..base import errors
from ..base.errors import UserError
from ..measure.score import REAL, TRUE
from ..measure.score import SCORES as SCORE_KINDS
from .ablations import margin
from .curves import stopped_at_hit
from .regime import SCORES, load

TOLD = ("hit", "copies", "intra", "nearest", "fd", "twin", "kept")      # scores of the printed table, in this order


class Difference(NamedTuple):
    """How much a method scores above another, seed by seed."""
    mean: float
    low: float          # of the interval, Student's
    high: float
    p: float            # two-sided, of "no difference"
    seeds: list[int]
    each: list[float]   # a difference a seed


def way(rows: list[dict], target: str, method: str, seed: int, until: int | None = None) -> list[dict]:
    """A run's rows in the order of steps."""
    mine = [row for row in rows if (row["target"], row["method"], row["seed"], row["until"]) == (target, method, seed, until)]
    return sorted(mine, key=lambda row: row["step"])


def seeds_of(rows: list[dict], target: str, method: str) -> list[int]:
    """The seeds that a method was run with."""
    return sorted({row["seed"] for row in rows if (row["target"], row["method"]) == (target, method)})


def goal(rows: list[dict], target: str, score: str, confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of real images: what one more set as large as the samples scores, by the sets that were measured.

    A prediction interval, :func:`dslib.study.ablations.margin`. Raises UserError for fewer than two sets.
    """
    values = [row[score] for row in rows if row["target"] == target and row["method"].startswith(REAL) and row[score] is not None]
    if len(values) < 2:
        raise UserError(f"{target}: {len(values)} sets of real images tell no band of {score}; at least 2 are needed")
    half = margin([values], confidence)
    return mean(values), mean(values) - half, mean(values) + half


def scores_of(rows: list[dict], target: str, method: str, score: str, step: int | None = None, hit: float | None = None,
              until: int | None = None) -> dict[int, float]:
    """Seed → a score, after ``step`` steps or where ``hit`` is reached first. Seeds without one are left out."""
    found = {}
    for seed in seeds_of(rows, target, method):
        run = way(rows, target, method, seed, until)
        row = stopped_at_hit(run, hit, ("step", *SCORES)) if hit is not None else next((row for row in run if row["step"] == step), None)
        if row is not None and row[score] is not None:
            found[seed] = row[score]
    return found


def interval(values: Iterable[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of a few numbers by Student's t; low and high are infinite for one. Raises UserError for none."""
    from scipy.stats import t
    values = list(values)
    if not values:
        raise UserError("an interval of no number: the runs that were asked for are not there")
    if len(values) == 1:
        return values[0], -math.inf, math.inf
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * stdev(values) / len(values)**0.5
    return mean(values), mean(values) - half, mean(values) + half


def paired(mine: dict[int, float], theirs: dict[int, float], confidence: float = 0.95) -> Difference:
    """Mine minus theirs at the seeds that both have (:func:`scores_of`): same noise, same batches, so the seed's luck cancels.

    Raises UserError for no common seed. With one seed, or differences that are all alike and not 0, there is no p-value: NaN.
    """
    from scipy.stats import t
    seeds = sorted(mine.keys() & theirs.keys())
    each = [mine[seed] - theirs[seed] for seed in seeds]
    middle, low, high = interval(each, confidence)
    if len(each) < 2:
        return Difference(middle, low, high, math.nan, seeds, each)
    error = stdev(each) / len(each)**0.5
    p = 2 * float(t.sf(abs(middle) / error, len(each) - 1)) if error else (math.nan if middle else 1.0)
    return Difference(middle, low, high, p, seeds, each)


def holm(p: list[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979): the k-th smallest times what is left, never falling, at most 1. NaN stays."""
    known = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    corrected, worst = list(p), 0.0
    for k, (value, i) in enumerate(known):
        worst = max(worst, min(1.0, value * (len(known) - k)))
        corrected[i] = worst
    return corrected


class Line(NamedTuple):
    """A method at a stop or a hit, in a table."""
    name: str
    seeds: dict[str, dict[int, float]]      # score → seed → value
    against: dict[str, Difference]          # score → what it scores above the method that all are compared with
    corrected: dict[str, float]             # score → p-value, corrected for every difference of the table


def ways_of(rows: list[dict], target: str) -> list[tuple[str, int | None]]:
    """(method, t_0 of source-until-t or None) of everything that was trained for a target, in the table's order."""
    return list(dict.fromkeys((row["method"], row["until"]) for row in rows if row["target"] == target and row["step"]))


def compare(rows: list[dict], target: str, against: str = "naive", step: int | None = None, hit: float | None = None,
            scores: tuple[str, ...] = TOLD) -> list[Line]:
    """Every method after ``step`` steps, or where it first reaches ``hit``, and its differences from one of them, paired by seed.

    All p-values of the table are corrected together (:func:`holm`), but for the hits where these are what is made alike. A score that no
    common seed has is left out of a line. Raises UserError where the target, or the method to compare with, has no run there.
    """
    def seeds(way: tuple[str, int | None]) -> dict[str, dict[int, float]]:
        return {score: scores_of(rows, target, way[0], score, step, hit, way[1]) for score in ("step", *scores)}

    table = {way: found for way in ways_of(rows, target) if any((found := seeds(way)).values())}
    if (against, None) not in table:
        place = f"after {step} steps" if hit is None else f"at {hit:.0%} hits"
        raise UserError(f"{target}: no run of {against!r} {place} to compare with: 'python -m dslib.study regime' makes them")
    base = table[against, None]
    differences = {way: {} if way == (against, None) else
                   {score: paired(found[score], base[score]) for score in scores if found[score].keys() & base[score].keys()}
                   for way, found in table.items()}
    places = [(way, score) for way, each in differences.items() for score in each if hit is None or score != "hit"]
    known = dict(zip(places, holm([differences[way][score].p for way, score in places])))
    return [Line(label(*way), found, differences[way], {score: known[way, score] for score in differences[way] if (way, score) in known})
            for way, found in table.items()]


def label(method: str, until: int | None) -> str:
    """A method and its way of drawing, as the tables call it."""
    return method if until is None else f"{method}, source for t > {until}"


def spread(values: Iterable[float], digits: int) -> str:
    """Mean ± standard deviation over seeds."""
    values = list(values)
    if not values:
        return "–"
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def text(rows: list[dict], target: str, lines: list[Line], scores: tuple[str, ...] = TOLD) -> str:
    """Two Markdown tables: means over seeds below real images, true answers and the source, and the paired differences with intervals."""
    titles = [SCORE_KINDS[score].title for score in scores]
    digits = {score: SCORE_KINDS[score].digits for score in scores}
    out = [f"| {target} | seeds | steps | " + " | ".join(titles) + " |", "|" + "---|" * (len(scores) + 3)]
    band = []
    for score in scores:
        try:
            _, low, high = goal(rows, target, score)
            band.append(f"{low:.{digits[score]}f} to {high:.{digits[score]}f}")
        except UserError:
            band.append("–")
    out.append("| one more set of real images | – | – | " + " | ".join(band) + " |")
    for method, name in ((TRUE, f"{TRUE} of the source's samples"), ("source samples", "the source's samples, not adapted")):
        found = next((row for row in rows if (row["target"], row["method"]) == (target, method)), None)
        if found:
            cells = ["–" if found.get(score) is None else f"{found[score]:.{digits[score]}f}" for score in scores]
            out.append(f"| {name} | – | – | " + " | ".join(cells) + " |")
    for line in lines:
        cells = [spread(line.seeds[score].values(), digits[score]) for score in scores]
        out.append(f"| {line.name} | {len(line.seeds['step'])} | {spread(line.seeds['step'].values(), 0)} | " + " | ".join(cells) + " |")
    out += ["", "| paired difference | " + " | ".join(titles) + " |", "|" + "---|" * (len(scores) + 1)]
    for line in lines:
        if line.against:
            out.append(f"| {line.name} | " + " | ".join(difference_text(line, score, digits[score]) for score in scores) + " |")
    return "\n".join(out)


def difference_text(line: Line, score: str, digits: int) -> str:
    """A difference, its interval and its corrected p-value, or the one number that a single seed, or every one, gives."""
    found = line.against.get(score)
    if found is None:
        return "–"
    if len(found.seeds) < 2:
        return f"{found.mean:+.{digits}f} (one seed)"
    if math.isnan(found.p):
        return f"{found.mean:+.{digits}f} in every seed"
    told = f", p {line.corrected[score]:.2g}" if score in line.corrected else ""
    return f"{found.mean:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]{told}"


def main(argv: list[str] | None = None) -> int:
    """Print what the committed table says of a target; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study evidence", description=__doc__)
    parser.add_argument("--target", default="engraved", help="default: %(default)s")
    parser.add_argument("--against", default="naive", help="the method that all are compared with; default: %(default)s")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, help="every method after so many steps")
    which.add_argument("--hit", type=float, help="every method where it first has such a share of samples in the domain; default: 0.9")
    parser.add_argument("--table", help="what 'python -m dslib.study regime --pack' wrote; default: the committed one")
    args = parser.parse_args(argv)

    def tell():
        rows = load(Path(args.table) if args.table else None)
        hit = None if args.step else 0.9 if args.hit is None else args.hit
        print(text(rows, args.target, compare(rows, args.target, args.against, args.step, hit)))
        print("\n± standard deviation over seeds; [95 % intervals, Student]; p of all differences of this table together (Holm).")
    return errors.run(tell, "dslib.study.evidence")
