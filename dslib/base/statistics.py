"""What is counted from distances and scores that are known: copies, errors, places among real images (chapters 03, 07)."""

import numpy as np
import torch
from torch import Tensor


def half_sample_error(statistic, n: int, repeats: int = 200, seed: int = 0) -> float:
    """Standard error of a statistic of n samples: its spread over random halves of them.

    statistic(indices) → a number. A half drawn without replacement varies about its whole as much
    as the whole does about the truth; a bootstrap would draw samples twice, and count a pair of
    twins as no diversity.
    """
    generator = torch.Generator().manual_seed(seed)
    return float(np.std([float(statistic(torch.randperm(n, generator=generator)[:n // 2]))
                         for _ in range(repeats)]))


def copied(nearest_samples: Tensor, nearest_real: Tensor, percentile: float = 5) -> Tensor:
    """Which samples are nearer to a training image than all but ``percentile`` % of real images are: (N,) bool.

    nearest_samples (N,), nearest_real (M,): distance of each sample, and of each *held-out* real
    image, to the training image nearest to it.
    """
    return nearest_samples < torch.quantile(nearest_real, percentile / 100)


def copy_rate(nearest_samples: Tensor, nearest_real: Tensor, percentile: float = 5) -> float:
    """Share of samples that are :func:`copied`, in [0, 1]. Fresh real images score percentile/100: that much is no copying."""
    return float(copied(nearest_samples, nearest_real, percentile).float().mean())


def against_real(value: float, low: float, high: float, arrow: int = 1) -> float:
    """A score by the yardstick of real images, which score from low to high: within [-1, 1] it is
    one of theirs.

    The unit is half that range, counted from its middle. arrow: +1 if papers call more better, -1
    if less; above 1 is thus "better than real", which no honest generator is, and below -1 is
    worse.
    """
    half = max((high - low) / 2, 1e-9)
    return arrow * (value - (low + high) / 2) / half
