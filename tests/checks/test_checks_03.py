"""Chapter 03's self-checks: every typical mistake gets its own words."""

import numpy as np
import pytest
import torch
from conftest import make_images

from dslib import checks, metrics


def groups(to_targets, within, least=2):
    """The square of distances inside each group of at least so many samples."""
    nearest = to_targets.argmin(1)
    blocks = [within[nearest == k][:, nearest == k] for k in range(to_targets.shape[1])]
    return [block for block in blocks if len(block) >= least]


def mean(blocks, number):
    """Mean over groups of the summed distances, each divided by number(n); 0/0 counts as 0."""
    values = [float(b.sum()) / number(len(b)) if number(len(b)) else 0.0 for b in blocks]
    return sum(values) / len(values)


def pairs(n):
    return n * (n - 1)


def same(to_targets):
    nearest = to_targets.argmin(1)
    return (nearest[:, None] == nearest[None]) & ~torch.eye(len(nearest), dtype=torch.bool)


@pytest.mark.parametrize("wrong, hint", [
    (lambda t, w: mean(groups(t, w), lambda n: n * n), "diagonal is in the mean: a sample"),
    (lambda t, w: torch.stack([b.mean() for b in groups(t, w)]).mean(), "diagonal is in the mean: a sample"),
    (lambda t, w: torch.stack([b.mean() for b in groups(t, w, 1)]).mean(), "diagonal is in the mean, and a group of one"),
    (lambda t, w: w.sum() / pairs(len(w)), "mean over all pairs"),
    (lambda t, w: mean(groups(t, w, 1), pairs), "a group of one sample counts as 0"),
    (lambda t, w: mean(groups(t, w, 0), pairs), "fewer than two samples count as 0"),
    (lambda t, w: w[same(t)].mean(), "every pair counts alike"),
    (lambda t, w: mean([b.triu(1) for b in groups(t, w)], pairs), "counts it twice"),
    (lambda t, w: mean(groups(t, w), lambda n: pairs(n) / 2), "counted twice"),
    (lambda t, w: sum(float(b.sum()) / pairs(len(b)) for b in groups(t, w)), "groups are summed"),
    (lambda t, w: checks.intra_lpips_by_hand(-t, w), "farthest target"),
    (lambda t, w: torch.stack([b.sum() / pairs(len(b)) for b in groups(t, w, 1)]).mean(), "divided by zero"),
    (lambda t, w: torch.tensor([0.3]), "shape"),
    (lambda t, w: [0.3], "expected a tensor"),
    (lambda t, w: 0.3, "differ"),
    (lambda t, w: w @ t[0], "RuntimeError"),
    (lambda t, w: None, "nothing written yet"),
])
def test_intra_lpips_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_intra_lpips_by_hand(wrong)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("right", [
    lambda t, w: torch.tensor(checks.intra_lpips_by_hand(t, w)),
    lambda t, w: np.float32(checks.intra_lpips_by_hand(t, w)),
    lambda t, w: torch.stack([b[~torch.eye(len(b), dtype=torch.bool)].mean() for b in groups(t, w)]).mean(),
])
def test_any_kind_of_number_passes(right):
    assert checks.check_intra_lpips_by_hand(right)


def below(samples, real, share):
    return (samples < torch.quantile(real, share)).float()


@pytest.mark.parametrize("wrong, hint", [
    (lambda s, r, p=5: (s > torch.quantile(r, p / 100)).float().mean(), "wrong side"),
    (lambda s, r, p=5: 100 * below(s, r, p / 100).mean(), "per cent"),
    (lambda s, r, p=5: (s < torch.quantile(r, p / 100)).sum(), "how many"),
    (lambda s, r, p=5: below(s, s, p / 100).mean(), "percentile of the samples"),
    (lambda s, r, p=5: below(r, s, p / 100).mean(), "swapped"),
    (lambda s, r, p=5: below(s, r, 1 - p / 100).mean(), "95th"),
    (lambda s, r, p=5: (s < r.min()).float().mean(), "nearly all"),
    (lambda s, r, p=5: (s < np.percentile(r.numpy(), p / 100)).float().mean(), "nearly all"),
    (lambda s, r, p=5: (s < r.mean()).float().mean(), "middle"),
    (lambda s, r, p=5: below(s, r, p).mean(), "takes a share"),
    (lambda s, r, p=5: below(s, r, 0.05).mean(), "not used"),
    (lambda s, r: below(s, r, 0.05).mean(), "not for another"),
    (lambda s, r, p=5: s < torch.quantile(r, p / 100), "shape"),
    (lambda s, r, p=5: None, "nothing written yet"),
])
def test_copy_rate_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_copy_rate(wrong)
    assert hint in capsys.readouterr().out


def test_by_hand_is_the_librarys():
    samples, targets = make_images(9, 32, seed=1), make_images(3, 32, seed=2)
    by_hand = checks.intra_lpips_by_hand(metrics.lpips_matrix(samples, targets), metrics.lpips_matrix(samples))
    assert by_hand == pytest.approx(metrics.intra_lpips(samples, targets).mean, abs=1e-5)


@pytest.mark.parametrize("percentile", [0, 5, 50, 100])
def test_real_images_score_the_percentile(percentile):
    real = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert metrics.copy_rate(real, real, percentile) == pytest.approx(percentile / 100, abs=0.002)
    assert metrics.copy_rate(real - 2, real) == 1 and metrics.copy_rate(real + 2, real) == 0
