"""Self-checks of chapter 07: LPIPS as a matrix product, entropy of counts, the error of a statistic from halves."""

import math

import torch
from torch import Tensor

from .common import as_number, attempt, conclude, diagnose


def lpips_from_features(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distance of every row of a (N,D) to every row of b (M,D), from one matrix product: (N,M)."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
    return squares.clamp(min=0)                           # rounding leaves some a little below zero


def entropy_bits(counts: Tensor) -> float:
    """Entropy in bits of how often each value was seen, counts (C,): 0 for one value, log2(C) for an even spread."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * share.log2()).sum())


def check_lpips_from_features(fn) -> bool:
    """Try the reader's distances, on small features and on near twins; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(9)
    a, b = (torch.rand(n, 4, generator=generator) + 0.2 for n in (3, 5))
    aa, bb, ab, want = a.square().sum(1)[:, None], b.square().sum(1)[None], a @ b.T, lpips_from_features(a, b)
    mistakes = {
        "these are distances: LPIPS is their square, take no root": want.sqrt(),
        "the product counts twice: (a − b)² = a² + b² − 2ab": aa + bb - ab,
        "the product is to be taken away: (a − b)² = a² + b² − 2ab": aa + bb + 2 * ab,
        "this is the mean over the features: LPIPS is their sum, the means over space are in the features already": want / 4,
        "this is the product alone, which is large where pictures are alike: add the squares of both": ab,
        "b's own squares are missing": aa - 2 * ab, "b's own squares are missing, and the clamp hides it": (aa - 2 * ab).clamp(min=0),
        "a's own squares are missing": bb - 2 * ab, "a's own squares are missing, and the clamp hides it": (bb - 2 * ab).clamp(min=0),
        "these are summed absolute differences: square them": torch.cdist(a, b, p=1),
        "this is one minus the cosine: the lengths of the features count, do not normalise again": 1 - ab / (aa * bb).sqrt(),
    }
    got, problem = attempt(fn, a.clone(), b.clone())
    problem = problem or diagnose(got, want, mistakes)
    if problem is None:
        twins = torch.rand(64, 300, generator=generator)
        got, problem = attempt(fn, twins, twins.clone())
        if problem is None and float(got.min()) < 0:
            problem = "rounding makes distances of near twins negative: clamp(min=0)"
    return conclude("lpips_from_features", problem)


def entropy_mistakes(counts: Tensor, want: float) -> dict[str, Tensor]:
    """What typical mistakes make of counts (C,), all above 0, whose entropy is ``want`` bits."""
    share, values = counts / counts.sum(), len(counts)
    return {words: torch.tensor(float(value)) for words, value in {
        "this is in nats: divide by log 2, or use log2": want * math.log(2),
        "this is in decimal digits: use log2": want * math.log10(2),
        "the sign: logarithms of shares are negative, the entropy is not": -want,
        "the counts must become shares first: divide by their sum": -(counts * counts.log2()).sum(),
        "this is the mean over the values: the entropy is the sum": want / values,
        "this is a share of the largest possible entropy: do not divide by log2(C)": want / math.log2(values),
        "this is 2 to the power of the entropy, a number of values: leave it in bits": 2**want,
        "this is log2 of the number of values seen: weigh each by its share": math.log2(values),
        "the logarithms are not weighed: each counts by its share": -share.log2().sum(),
        "this is the chance that two images differ (1 − Σp²), another measure of the same thing": 1 - share.square().sum(),
    }.items()}


def check_entropy_bits(fn) -> bool:
    """Try the reader's entropy on counts above 0, with a 0, and on one value alone; print ✓ or a diagnosis."""
    cases = {"": [12, 4, 3, 1], "with a value that nobody has": [8, 0, 8], "with one value alone": [5]}
    for where, case in cases.items():
        counts = torch.tensor(case)
        want = entropy_bits(counts)
        got, problem = attempt(fn, counts.clone())
        number = as_number(got)
        if problem is None and isinstance(number, Tensor) and number.isnan().any():
            problem = "0·log 0 counts as 0, not as NaN: leave out the values that nobody has"
        problem = problem or diagnose(number, torch.tensor(want), {} if where else entropy_mistakes(counts.float(), want))
        if problem:
            return conclude("entropy_bits", f"right so far, but {where}: {problem}" if where else problem)
    return conclude("entropy_bits", None)


def check_half_sample_error(fn) -> bool:
    """Try the reader's error with a statistic that notes which samples it was asked for; print ✓ or a diagnosis."""
    n, repeats, asked = 12, 40, []
    worth = torch.rand(n, generator=torch.Generator().manual_seed(3))

    def statistic(indices):
        asked.append([int(i) for i in indices])
        return float(worth[asked[-1]].mean())

    with torch.random.fork_rng(devices=[]):
        got, problem = attempt(fn, statistic, n, repeats)
    problem = problem or diagnose_halves(asked, n, repeats)
    return conclude("half_sample_error", problem or diagnose_spread(as_number(got), torch.stack([worth[half].mean() for half in asked])))


def diagnose_spread(got, found: Tensor) -> str | None:
    """Is it the standard deviation of what the statistic gave, found (repeats,), divided by n or n − 1?"""
    want = found.std(correction=0)
    if isinstance(got, Tensor) and got.shape == () and torch.isclose(got.to(want), found.std(), rtol=1e-4):
        return None
    return diagnose(got, want, {
        "this is the mean of the statistic over the halves: its error is their spread": found.mean(),
        "this is the variance: the error is its root": want.square(),
        "divided by the root of the number of repeats this is the error of their mean: the spread itself is asked for":
            want / len(found)**0.5,
        "no factor is needed, yet it is divided by √2: halves already vary as much as the whole": want / 2**0.5,
        "no factor is needed, yet it is multiplied by √2: halves already vary as much as the whole": want * 2**0.5,
        "this is from the lowest to the highest: the standard deviation is asked for": found.max() - found.min()})


def diagnose_halves(asked: list[list[int]], n: int, repeats: int) -> str | None:
    """What is wrong with the halves that a statistic was asked for; None if nothing is."""
    sizes, seen = {len(half) for half in asked}, {i for half in asked for i in half}
    if not asked:
        return "the statistic is never called"
    if any(len(set(half)) < len(half) for half in asked):
        return "a half holds the same sample twice: draw without replacement, torch.randperm(n)"
    if sizes == {n}:
        return "the whole sample, in another order: take the first n // 2 of the permutation"
    if sizes != {n // 2}:
        return f"the statistic got {', '.join(map(str, sorted(sizes)))} samples of {n}: half of them is {n // 2}"
    if len({tuple(sorted(half)) for half in asked}) == 1 and repeats > 1:
        return "every half is the same: shuffle anew each time (is a generator made inside the loop?)"
    if seen != set(range(n)):
        return f"some samples are never chosen ({', '.join(map(str, sorted(set(range(n)) - seen)))}): permute all {n}"
    return None if len(asked) == repeats else f"the statistic is called {len(asked)} times, repeats is {repeats}"
