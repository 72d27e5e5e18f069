"""How diverse, how new, how much in the domain: perceptual distances and what is counted from them
(chapter 07).

Every number depends on the backbone and the image size, so every result names both and no table
mixes two.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .base.backbone import BACKBONES, add_squared_distances, load_backbone  # noqa: F401
from .base.device import device
from .base.errors import UserError
from .base.pixels import pictures
from .base.statistics import against_real, copy_rate, half_sample_error  # noqa: F401

SMALLEST = 32       # pixels: below that a layer of the networks has nothing left to pool


def check_size(images: Tensor) -> Tensor:
    """The images in [-1,1] (uint8 ones converted), or a UserError: too small for the networks, or
    of another range."""
    if min(images.shape[-2:]) < SMALLEST:
        raise UserError(f"images of {images.shape[-2]}×{images.shape[-1]} pixels are too small "
                        f"for the metrics' networks: at least "
                        f"{SMALLEST} are needed")
    return pictures(images)


@torch.no_grad()
def lpips_features(images: Tensor, backbone: str = "st-alex", batch_size: int = 50,
                   part: slice = slice(None)) -> Tensor:
    """Every layer's channel-normalised features scaled by √(w/HW), side by side: LPIPS is a squared
    Euclidean distance.

    images: (N,3,R,R) in [-1,1]. Returns (N, Σ_l C_l·H_l·W_l) (LPIPS, Zhang et al. 2018, eq. 1), or
    those coordinates of it that ``part`` keeps, on the images' device.
    """
    net, kept = load_backbone(backbone, str(images.device)), []
    for batch in check_size(images).split(batch_size):
        layers = []
        for k, f in enumerate(net.net.forward(net.scaling_layer(batch))):
            w = net.lins[k].model[-1].weight.view(1, -1, 1, 1).clamp(min=0)
            scaled = F.normalize(f, dim=1, eps=1e-10) * (w / (f.shape[2] * f.shape[3])).sqrt()
            layers.append(scaled.flatten(1))
        kept.append(torch.cat(layers, dim=1)[:, part].clone())
    return torch.cat(kept)


# bytes that the features of one slice may take: about 420 images of 64×64 (158 144 numbers each) in
# one
MEMORY = 2**28


def lpips_matrix(x: Tensor, y: Tensor | None = None, backbone: str = "st-alex") -> Tensor:
    """LPIPS between every image of x (N,3,R,R) and every one of y (M,3,R,R), in [-1,1] or uint8:
    (N,M), 0 = alike.

    Without y: within x, (N,N), zero diagonal. Features are computed once an image and distances as
    matrix products; where all features do not fit into ``MEMORY``, slice by slice of their
    coordinates, with a pass for each.
    """
    where, x = x.device, pictures(x).to(device())
    y = None if y is None else pictures(y).to(device())
    total = torch.zeros(len(x), len(x if y is None else y), device=device())
    size = lpips_features(x[:1], backbone).shape[1]
    step = max(1, MEMORY // (4 * (len(x) + (0 if y is None else len(y)))))
    for start in range(0, size, step):
        part = slice(start, start + step)
        a = lpips_features(x, backbone, part=part)
        b = a if y is None else lpips_features(y, backbone, part=part)
        add_squared_distances(total, a, b)
    total = total.clamp_(min=0).to(where)
    return total.fill_diagonal_(0) if y is None else total


class IntraLPIPS(NamedTuple):
    """Diversity around the training images (Ojha et al. 2021, CDC)."""
    mean: float             # over clusters that hold at least two samples
    std: float
    per_cluster: list[float]  # NaN where fewer than two samples came to a target
    sizes: list[int]        # samples assigned to each target


def intra_lpips(samples: Tensor, targets: Tensor, backbone: str = "st-alex",
                most: int | None = None, seed: int = 0) -> IntraLPIPS:
    """Assign each sample to its nearest target, average LPIPS inside each cluster, then over
    clusters.

    samples: (N,3,R,R), N ≥ 2; targets: the training images (K,3,R,R); most: at most so many random
    members of a cluster (CDC's script takes 50; ``seed`` picks them), None: all. High is diverse,
    but the reference is the value of real held-out images, not "higher is better". Raises UserError
    if no cluster holds two samples.
    """
    if len(samples) < 2:
        raise UserError(f"Intra-LPIPS compares samples with each other: {len(samples)} given, use "
                        f"at least 2")
    if most is not None and most < 2:
        raise UserError(f"most is {most}: a pair takes 2 members of a cluster")
    n = len(samples)
    both = torch.cat([pictures(samples, "the samples"), pictures(targets, "the targets")])
    distances = lpips_matrix(both, backbone=backbone)       # one pass for both uses
    return intra_from_distances(distances[:n, n:], distances[:n, :n], most, seed)


def intra_from_distances(to_targets: Tensor, within: Tensor, most: int | None = None,
                         seed: int = 0) -> IntraLPIPS:
    """:func:`intra_lpips` from distances that are known: samples to targets (N,K), samples to
    samples (N,N)."""
    nearest, generator = to_targets.argmin(1), torch.Generator().manual_seed(seed)
    per_cluster, sizes = [], []
    for k in range(to_targets.shape[1]):
        member = (nearest == k).nonzero().flatten()
        sizes.append(len(member))
        member = member[torch.randperm(len(member), generator=generator)[:most]]
        n = len(member)
        per_cluster.append(float(within[member][:, member].sum() / (n * (n - 1)))
                           if n > 1 else float("nan"))
    values = np.array(per_cluster)[~np.isnan(per_cluster)]
    if not len(values):
        raise UserError(f"no target has two of the {len(to_targets)} samples nearest to it: draw "
                        f"more samples")
    return IntraLPIPS(float(values.mean()), float(values.std()), per_cluster, sizes)


def nearest_lpips(samples: Tensor, targets: Tensor, backbone: str = "st-alex") -> Tensor:
    """Distance of each sample to the training image nearest to it (N,): far below real images' is
    copying."""
    return lpips_matrix(samples, targets, backbone).min(dim=1).values


@torch.no_grad()
def pooled_features(images: Tensor, backbone: str = "st-alex", batch_size: int = 50) -> Tensor:
    """All layers' activations averaged over space, side by side: (N,1152) for AlexNet, (N,1472) for
    VGG, float64.

    All of them, because the last layer alone hardly sees colour and grain.
    """
    net = load_backbone(backbone, str(device()))
    parts = [torch.cat([layer.mean(dim=(2, 3))
                        for layer in net.net.forward(net.scaling_layer(part.to(device())))], dim=1)
             for part in check_size(images).split(batch_size)]
    return torch.cat(parts).cpu().double()


def check_several(a: Tensor, b: Tensor) -> None:
    """Raise UserError for a set of one image, which has no covariance."""
    if min(len(a), len(b)) < 2:
        raise UserError(f"a Fréchet distance needs at least 2 images in each set, not {len(a)} "
                        f"and {len(b)}: use more")


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two sets of features (N,D), (M,D): FID's formula, by torch-fidelity. N, M
    ≥ 2."""
    check_several(a, b)
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    statistics = [fid_features_to_statistics(f.cpu()) for f in (a, b)]
    return next(iter(fid_statistics_to_metric(*statistics, verbose=False).values()))


def quick_frechet_distance(a: Tensor, b: Tensor) -> float:
    """:func:`frechet_distance` in milliseconds where there are fewer images than features: for
    studies, sliders and resampling.

    With centred features A (N,D) and B (M,D), the trace of the root of the covariances' product is
    the sum of the singular values of A·Bᵀ, an N×M matrix, over √((N−1)(M−1)). N, M ≥ 2.
    """
    check_several(a, b)
    n, m = len(a) - 1, len(b) - 1
    centred_a, centred_b = a - a.mean(0), b - b.mean(0)
    root = torch.linalg.svdvals(centred_a @ centred_b.T).sum() / (n * m)**0.5
    variance = centred_a.square().sum() / n + centred_b.square().sum() / m
    return float((a.mean(0) - b.mean(0)).square().sum() + variance - 2 * root)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Kernel distance (KID's formula, by torch-fidelity) of two sets of features, on as many of
    each as the smaller has.

    Unbiased: near 0, above or below, for two sets of the same kind, however small; FD shrinks with
    more images instead.
    """
    from torch_fidelity.metric_kid import kid_features_to_metric
    found = kid_features_to_metric(a.cpu(), b.cpu(), kid_subsets=1,
                                   kid_subset_size=min(len(a), len(b)), verbose=False)
    return float(found["kernel_inception_distance_mean"])


def precision_recall(samples: Tensor, real: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, by torch-fidelity) of features
    (N,D), (M,D), in [0,1].

    Precision: share of samples inside the ball to the k-th neighbour of some real image. Recall:
    the reverse. Raises UserError for sets of at most k.
    """
    from torch_fidelity.metric_prc import prc_features_to_metric
    if min(len(samples), len(real)) <= neighbours:
        raise UserError(f"precision and recall look at {neighbours} neighbours: sets of "
                        f"{len(samples)} and {len(real)} are too small")
    found = prc_features_to_metric(samples.cpu(), real.cpu(), prc_neighborhood=neighbours,
                                   verbose=False)
    return float(found["precision"]), float(found["recall"])


def frechet_ratio(samples: Tensor, real: Tensor, backbone: str = "st-alex") -> float:
    """FD(samples, real half) / FD(real half, other real half): 1 means as good as more real images.

    samples (N,…), real (2N,…): all three sets have N images, so that the small-sample bias cancels.
    """
    n = len(real) // 2
    halves = pooled_features(real[:n], backbone), pooled_features(real[n:2 * n], backbone)
    return frechet_distance(pooled_features(samples[:n], backbone),
                            halves[0]) / frechet_distance(*halves)
