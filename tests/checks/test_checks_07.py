"""Chapter 07's self-checks: every typical mistake gets its own words."""

import math

import numpy as np
import pytest
import torch

from dslib import checks, metrics
from dslib.measure import probes

RIGHT = checks.lpips_from_features


def squares(x):
    return x.square().sum(1)


@pytest.mark.parametrize("wrong, hint", [
    (lambda a, b: torch.cdist(a, b), "take no root"),
    (lambda a, b: squares(a)[:, None] + squares(b) - a @ b.T, "the product counts twice"),
    (lambda a, b: squares(a)[:, None] + squares(b) + 2 * a @ b.T, "to be taken away"),
    (lambda a, b: (a[:, None] - b[None]).square().mean(2), "the mean over the features"),
    (lambda a, b: a @ b.T, "the product alone"),
    (lambda a, b: squares(a)[:, None] - 2 * a @ b.T, "b's own squares are missing"),
    (lambda a, b: (squares(a)[:, None] - 2 * a @ b.T).clamp(min=0), "b's own squares are missing, and the clamp hides it"),
    (lambda a, b: squares(b)[None] - 2 * a @ b.T, "a's own squares are missing"),
    (lambda a, b: (squares(b)[None] - 2 * a @ b.T).clamp(min=0), "a's own squares are missing, and the clamp hides it"),
    (lambda a, b: (a[:, None] - b[None]).abs().sum(2), "absolute differences"),
    (lambda a, b: 1 - torch.cosine_similarity(a[:, None], b[None], dim=2), "one minus the cosine"),
    (lambda a, b: squares(a)[:, None] + squares(b) - 2 * a @ b.T, "clamp(min=0)"),
    (lambda a, b: RIGHT(a, b) - 1e-7, "clamp(min=0)"),
    (lambda a, b: RIGHT(b, a), "the shape is (5, 3), expected (3, 5)"),
    (lambda a, b: RIGHT(a, b).diagonal(), "shape"),
    (lambda a, b: squares(a)[:, None] + squares(b)[:, None] - 2 * a @ b.T, "RuntimeError"),
    (lambda a, b: RIGHT(a, b).tolist(), "expected a tensor"),
    (lambda a, b: 3 * RIGHT(a, b), "differ"),
    (lambda a, b: None, "nothing written yet"),
])
def test_mistakes_with_the_distances_are_named(wrong, hint, capsys):
    assert not checks.check_lpips_from_features(wrong)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("right", [
    lambda a, b: (a[:, None] - b[None]).square().sum(2),
    lambda a, b: torch.stack([torch.stack([(x - y).square().sum() for y in b]) for x in a]),
    lambda a, b: torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square(),
])
def test_other_ways_to_the_same_distances_pass(right):
    assert checks.check_lpips_from_features(right)


def share(c):
    return c[c > 0] / c.sum()


@pytest.mark.parametrize("wrong, hint", [
    (lambda c: -(share(c) * share(c).log()).sum(), "in nats"),
    (lambda c: -(share(c) * share(c).log10()).sum(), "decimal digits"),
    (lambda c: (share(c) * share(c).log2()).sum(), "the sign"),
    (lambda c: -(c * c.log2()).sum(), "shares first"),
    (lambda c: -(share(c) * share(c).log2()).mean(), "the mean over the values"),
    (lambda c: checks.entropy_bits(c) / math.log2(len(c)), "share of the largest possible"),
    (lambda c: 2 ** checks.entropy_bits(c), "2 to the power"),
    (lambda c: math.log2(int((c > 0).sum())), "number of values seen"),
    (lambda c: -share(c).log2().sum(), "not weighed"),
    (lambda c: 1 - share(c).square().sum(), "chance that two images differ"),
    (lambda c: -(c / c.sum() * (c / c.sum()).log2()).sum(), "with a value that nobody has: 0·log 0 counts as 0"),
    (lambda c: checks.entropy_bits(c) if len(c) > 1 else 1.0, "with one value alone"),
    (lambda c: torch.ones(4), "shape"),
    (lambda c: "two bits", "expected a tensor"),
    (lambda c: 0.3, "differ"),
    (lambda c: c.entropy(), "AttributeError"),
    (lambda c: None, "nothing written yet"),
])
def test_mistakes_with_the_entropy_are_named(wrong, hint, capsys):
    assert not checks.check_entropy_bits(wrong)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("right", [
    lambda c: torch.distributions.Categorical(c.float()).entropy() / math.log(2),
    lambda c: np.float64(-sum(p * math.log2(p) for p in (c / c.sum()).tolist() if p)),
    lambda c: torch.special.entr(c / c.sum()).sum() / math.log(2),
])
def test_any_kind_of_number_passes(right):
    assert checks.check_entropy_bits(right)


def test_entropy_by_hand_is_the_librarys():
    read = torch.tensor([0] * 5 + [2] * 3 + [3])
    counts = torch.bincount(read, minlength=6)
    assert checks.entropy_bits(counts) == pytest.approx(probes.spread(read, read, 6).entropy, abs=1e-6)
    assert checks.entropy_bits(torch.full((8,), 3)) == pytest.approx(3)


def halves(n, size=None, pick=torch.randperm):
    """Endless index sets of the reader's making."""
    while True:
        yield pick(n)[:n // 2 if size is None else size]


def error(statistic, repeats, sets):
    return np.std([statistic(next(sets)) for _ in range(repeats)])


def found(statistic, n, repeats):
    return np.array([statistic(torch.randperm(n)[:n // 2]) for _ in range(repeats)])


@pytest.mark.parametrize("wrong, hint", [
    (lambda s, n, r: error(s, r, halves(n, n, lambda n: torch.randint(n, (n,)))), "without replacement"),
    (lambda s, n, r: error(s, r, halves(n, n)), "the whole sample, in another order"),
    (lambda s, n, r: error(s, r, halves(n, n - 1)), "11 samples of 12: half of them is 6"),
    (lambda s, n, r: error(s, r, halves(n, pick=torch.arange)), "every half is the same"),
    (lambda s, n, r: error(s, r, halves(n, pick=lambda n: torch.randperm(n, generator=torch.Generator().manual_seed(0)))),
     "every half is the same"),
    (lambda s, n, r: error(s, r, halves(n, n // 2, lambda n: torch.randperm(n - 1))), "never chosen (11)"),
    (lambda s, n, r: error(s, 100, halves(n)), "called 100 times, repeats is 40"),
    (lambda s, n, r: 0.1, "never called"),
    (lambda s, n, r: found(s, n, r).mean(), "mean of the statistic"),
    (lambda s, n, r: found(s, n, r).var(), "the variance"),
    (lambda s, n, r: found(s, n, r).std() / r**0.5, "error of their mean"),
    (lambda s, n, r: found(s, n, r).std() / 2**0.5, "divided by √2"),
    (lambda s, n, r: found(s, n, r).std() * 2**0.5, "multiplied by √2"),
    (lambda s, n, r: np.ptp(found(s, n, r)), "lowest to the highest"),
    (lambda s, n, r: found(s, n, r), "expected a tensor"),
    (lambda s, n, r: torch.from_numpy(found(s, n, r)), "shape"),
    (lambda s, n, r: 7 * found(s, n, r).std(), "differ"),
    (lambda s, n, r: s(torch.arange(n) + 1), "IndexError"),
    (lambda s, n, r: None, "nothing written yet"),
])
def test_mistakes_with_the_halves_are_named(wrong, hint, capsys):
    assert not checks.check_half_sample_error(wrong)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("right", [
    lambda s, n, r: torch.tensor(found(s, n, r)).std(),
    lambda s, n, r: float(found(s, n, r).std(ddof=1)),
    lambda s, n, r: np.std([s(np.random.default_rng(k).permutation(n)[:n // 2]) for k in range(r)]),
])
def test_other_ways_to_the_same_error_pass(right):
    assert checks.check_half_sample_error(right)


def test_the_check_leaves_the_readers_dice_alone():
    torch.manual_seed(5)
    first = torch.rand(1)
    torch.manual_seed(5)
    checks.check_half_sample_error(lambda s, n, r: error(s, r, halves(n)))
    assert torch.equal(torch.rand(1), first)
    assert checks.check_half_sample_error(metrics.half_sample_error)
