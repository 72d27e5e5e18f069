"""Scores where the right answer is known, and two more looks at copying (chapter 07).

A *twin* is the true picture of a source sample in a domain of ``data.TWINS``. Gap ratio and C_T
ask of any domain whether samples lie closer to the training images than held-out ones do.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import data
from ..base.errors import UserError
from ..metrics import lpips_matrix


class TwinScores(NamedTuple):
    """What became of the source's people, in samples of the same noise."""
    distance: float     # mean LPIPS to one's own twin: 0 is the right answer
    kept: float         # share nearest to their own twin among all twins, in [0,1]; chance is 1/N
    own: float          # share whose nearest source sample is of its noise, in [0,1]; chance 1/N


def twin_scores(samples: Tensor, source_samples: Tensor, name: str,
                backbone: str = "st-alex") -> TwinScores:
    """Compare samples with the true pictures of the source samples of the same noise.

    samples, source_samples: (N,3,R,R) in [-1,1], N ≥ 2, image i of both from noise i; name: one of
    ``data.TWINS``. The twins themselves score distance 0 and kept 1, where no two are alike; but a
    model that was never adapted keeps people too: read ``kept`` beside the domain hit.
    Raises UserError for a domain without twins, different numbers of images, or fewer than two.
    """
    check_pairs(samples, source_samples)
    to_twins = lpips_matrix(samples, data.twin(source_samples, name), backbone)
    own = own_share(samples, source_samples, backbone)
    return TwinScores(float(to_twins.diag().mean()), share_of_own(to_twins), own)


def own_share(samples: Tensor, source_samples: Tensor, backbone: str = "st-alex") -> float:
    """Share of samples whose nearest source sample, by LPIPS, is that of the same noise.

    In [0,1], for any domain. Shapes and errors as in :func:`twin_scores`. Chance is 1/N: compare
    equal N only.
    """
    check_pairs(samples, source_samples)
    return share_of_own(lpips_matrix(samples, source_samples, backbone))


def share_of_own(distances: Tensor) -> float:
    """Share of rows i of distances (N,N) in which entry i is smaller than every other: in [0,1].

    A tie is not kept: if all twins were alike, nobody could be told from anybody.
    """
    others = distances.clone().fill_diagonal_(float("inf")).min(dim=1).values
    return float((distances.diag() < others).float().mean())


def check_pairs(samples: Tensor, source_samples: Tensor) -> None:
    """A UserError unless there are as many samples as source samples, at least two, of one size."""
    if samples.shape != source_samples.shape or len(samples) < 2:
        raise UserError(f"samples {tuple(samples.shape)} and source samples "
                        f"{tuple(source_samples.shape)} must be pairs, at least two: draw both "
                        "from the same start noise")


# ----------------------------------------------------------------------------------- copying


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """Distances of pixels between images (N,C,R,R) and (M,C,R,R): (N,M), for :func:`gap_ratio`."""
    return torch.cdist(x.flatten(1), y.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")


def gap_ratio(distances: Tensor) -> Tensor:
    """d(nearest)/d(second nearest training image) of every sample: (N,) in [0,1].

    distances: (N,K), K ≥ 2. Near 1 for a new picture, near 0 for a copy (Yoon et al. 2023; Bonnaire
    et al. 2025, on pixels). An exact copy is 0 even if the training images hold it twice.
    ``lpips_matrix`` is a *squared* distance: take its root. Raises UserError for K < 2.
    """
    if distances.shape[1] < 2:
        raise UserError("a gap ratio compares the two nearest training images: give at least 2")
    nearest, second = distances.topk(2, dim=1, largest=False).values.unbind(1)
    return torch.where(nearest == 0, torch.zeros_like(nearest), nearest / second)


def gap_share(distances: Tensor, below: float = 1 / 3) -> float:
    """Share of samples, in [0,1], with a :func:`gap_ratio` below a third: "memorised".

    distances: (N,K), K ≥ 2 (Bonnaire et al. 2025). Raises UserError for K < 2.
    """
    return float((gap_ratio(distances) < below).float().mean())


def mann_whitney_z(a: Tensor, b: Tensor) -> float:
    """How far the numbers a (N,) lie above b (M,), in standard errors of chance; negative: below.

    U counts the pairs with a > b, a tie for a half (Mann & Whitney 1947):
    z = (U − NM/2) / √(NM(N+M+1)/12). Raises UserError for an empty set.
    """
    n, m = len(a), len(b)
    if min(n, m) == 0:
        raise UserError(f"{n} and {m} distances: at least one of each is needed to compare them")
    ordered = b.sort().values
    below, up_to = (torch.searchsorted(ordered, a, right=right).sum() for right in (False, True))
    u = float(below + up_to) / 2
    return float((u - n * m / 2) / (n * m * (n + m + 1) / 12)**0.5)


def copying_test(samples: Tensor, real: Tensor, least: int = 20) -> float:
    """C_T, the data-copying test of Meehan et al. 2020: below −3 is copying, above 3 underfitting.

    samples (N,K), real (M,K): distances of samples and of *held-out* real images to the K training
    images. In the cell of every training image (what is nearest to it; the paper's cells are by
    k-means) the distances to it are compared by :func:`mann_whitney_z`, in standard errors; cells
    with at least ``least`` of both are averaged, weighted by their real images:
    C_T = Σ_π P(π)·Z_U(π) / Σ_π P(π). Raises UserError where no cell is full enough.
    """
    (near, cell), (near_real, cell_real) = (d.min(dim=1) for d in (samples, real))
    total, weight = 0.0, 0
    for k in range(samples.shape[1]):
        a, b = near[cell == k], near_real[cell_real == k]
        if min(len(a), len(b)) >= max(1, least):
            total, weight = total + len(b) * mann_whitney_z(a, b), weight + len(b)
    if not weight:
        raise UserError(f"no training image has {least} of the {len(samples)} samples and of the "
                        f"{len(real)} real images nearest to it: give more of both, or a lower "
                        "least")
    return total / weight
