"""What the table of :mod:`dslib.study.regime` says: goals, matched domain hit, differences paired by seed, with intervals (chapter 08)."""

import math
from collections.abc import Iterable
from statistics import mean, stdev
from typing import NamedTuple

from ..base.errors import UserError
from ..measure.score import REAL
from .ablations import margin
from .curves import stopped_at_hit
from .regime import SCORES


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
        row = stopped_at_hit(run, hit, SCORES) if hit is not None else next((row for row in run if row["step"] == step), None)
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

    Raises UserError for no common seed. With one seed, or differences that are all alike, there is no p-value: NaN, or 0.
    """
    from scipy.stats import t
    seeds = sorted(mine.keys() & theirs.keys())
    each = [mine[seed] - theirs[seed] for seed in seeds]
    middle, low, high = interval(each, confidence)
    if len(each) < 2:
        return Difference(middle, low, high, math.nan, seeds, each)
    error = stdev(each) / len(each)**0.5
    p = 2 * float(t.sf(abs(middle) / error, len(each) - 1)) if error else float(middle == 0)
    return Difference(middle, low, high, p, seeds, each)


def holm(p: list[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979): the k-th smallest times what is left, never falling, at most 1. NaN stays."""
    known = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    corrected, worst = list(p), 0.0
    for k, (value, i) in enumerate(known):
        worst = max(worst, min(1.0, value * (len(known) - k)))
        corrected[i] = worst
    return corrected
