"""How diverse, how new, how much in the domain: perceptual distances and what is counted from them (chapter 07).

Every number depends on the backbone and the image size, so every result names both and no table mixes two.
"""

import warnings
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .env import UserError

BACKBONES = ("st-alex", "st-vgg", "alex", "vgg")


@cache
def load_backbone(backbone: str = "st-alex") -> torch.nn.Module:
    """The LPIPS network by name: ``st-…`` (shift-tolerant, weights inside a wheel) or the ``lpips`` package's."""
    if backbone not in BACKBONES:
        raise UserError(f"unknown backbone {backbone!r}: use one of {', '.join(BACKBONES)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if backbone.startswith("st-"):
            from stlpips_pytorch import stlpips
            net = stlpips.LPIPS(net=backbone[3:], variant="shift_tolerant", verbose=False)
        else:
            import lpips
            try:
                net = lpips.LPIPS(net=backbone, verbose=False)
            except OSError as error:
                raise UserError(f"the {backbone!r} backbone needs torchvision's weights, which could not be downloaded "
                                f"({error}): use --backbone st-{backbone}, whose weights are installed") from None
    return net.eval().requires_grad_(False)


SMALLEST = 32       # pixels: below that a layer of the networks has nothing left to pool


def check_size(images: Tensor) -> Tensor:
    """The images themselves, or a UserError if they are too small for the networks."""
    if min(images.shape[-2:]) < SMALLEST:
        raise UserError(f"images of {images.shape[-2]}×{images.shape[-1]} pixels are too small for the metrics' networks: at least "
                        f"{SMALLEST} are needed")
    return images


@torch.no_grad()
def lpips_features(images: Tensor, backbone: str = "st-alex", batch_size: int = 50) -> list[Tensor]:
    """Each layer's channel-normalised features scaled by √(w/HW): LPIPS is then a squared Euclidean distance.

    images: (N,3,R,R) in [-1,1]. Returns one (N, C_l·H_l·W_l) tensor a layer (LPIPS, Zhang et al. 2018, eq. 1).
    """
    net = load_backbone(backbone)
    layers: list[list[Tensor]] = [[] for _ in range(net.L)]
    for part in check_size(images).split(batch_size):
        for k, f in enumerate(net.net.forward(net.scaling_layer(part))):
            w = net.lins[k].model[-1].weight.view(1, -1, 1, 1).clamp(min=0)
            f = F.normalize(f, dim=1, eps=1e-10) * (w / (f.shape[2] * f.shape[3])).sqrt()
            layers[k].append(f.flatten(1))
    return [torch.cat(parts) for parts in layers]


def lpips_matrix(x: Tensor, y: Tensor | None = None, backbone: str = "st-alex") -> Tensor:
    """LPIPS between every image of x (N,3,R,R) and every one of y (M,3,R,R), in [-1,1]: (N,M), 0 = alike.

    Without y: within x, (N,N), zero diagonal. Features are computed once an image, distances as matrix products.
    """
    fx = lpips_features(x, backbone)
    fy = fx if y is None else lpips_features(y, backbone)
    total = sum(a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T for a, b in zip(fx, fy)).clamp(min=0)
    return total.fill_diagonal_(0) if y is None else total


class IntraLPIPS(NamedTuple):
    """Diversity around the training images (Ojha et al. 2021, CDC)."""
    mean: float             # over clusters that hold at least two samples
    std: float
    per_cluster: list[float]  # NaN where fewer than two samples came to a target
    sizes: list[int]        # samples assigned to each target


def intra_lpips(samples: Tensor, targets: Tensor, backbone: str = "st-alex") -> IntraLPIPS:
    """Assign each sample to its nearest target, average LPIPS inside each cluster, then over clusters.

    samples: (N,3,R,R), N ≥ 2; targets: the training images (K,3,R,R). High is diverse, but the reference is the
    value of real held-out images, not "higher is better". Raises UserError if no cluster holds two samples.
    """
    if len(samples) < 2:
        raise UserError(f"Intra-LPIPS compares samples with each other: {len(samples)} given, use at least 2")
    nearest = lpips_matrix(samples, targets, backbone).argmin(1)
    within = lpips_matrix(samples, backbone=backbone)
    per_cluster, sizes = [], []
    for k in range(len(targets)):
        member = (nearest == k).nonzero().flatten()
        n = len(member)
        sizes.append(n)
        per_cluster.append(float(within[member][:, member].sum() / (n * (n - 1))) if n > 1 else float("nan"))
    values = np.array(per_cluster)[~np.isnan(per_cluster)]
    if not len(values):
        raise UserError(f"no target has two of the {len(samples)} samples nearest to it: draw more samples")
    return IntraLPIPS(float(values.mean()), float(values.std()), per_cluster, sizes)


def nearest_lpips(samples: Tensor, targets: Tensor, backbone: str = "st-alex") -> Tensor:
    """Distance of each sample to the training image nearest to it (N,): far below real images' is copying."""
    return lpips_matrix(samples, targets, backbone).min(dim=1).values


@torch.no_grad()
def pooled_features(images: Tensor, backbone: str = "st-alex", batch_size: int = 50) -> Tensor:
    """All layers' activations averaged over space, side by side: (N,1152) for AlexNet, (N,1472) for VGG, float64.

    All of them, because the last layer alone hardly sees colour and grain.
    """
    net = load_backbone(backbone)
    parts = [torch.cat([layer.mean(dim=(2, 3)) for layer in net.net.forward(net.scaling_layer(part))], dim=1)
             for part in check_size(images).split(batch_size)]
    return torch.cat(parts).double()


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two sets of features (N,D), (M,D): FID's formula, by torch-fidelity. N, M ≥ 2."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    statistics = [fid_features_to_statistics(f.cpu()) for f in (a, b)]
    return next(iter(fid_statistics_to_metric(*statistics, verbose=False).values()))


def frechet_ratio(samples: Tensor, real: Tensor, backbone: str = "st-alex") -> float:
    """FD(samples, real half) / FD(real half, other real half): 1 means as good as more real images.

    samples (N,…), real (2N,…): all three sets have N images, so that the small-sample bias cancels.
    """
    n = len(real) // 2
    halves = pooled_features(real[:n], backbone), pooled_features(real[n:2 * n], backbone)
    return frechet_distance(pooled_features(samples[:n], backbone), halves[0]) / frechet_distance(*halves)


@torch.no_grad()
def probe_features(images: Tensor, backbone: str = "st-alex", batch_size: int = 50) -> Tensor:
    """First-layer activations on an 8×8 map, (N, C·64), float64: edges and colours, and *where* they are.

    Deeper layers, made to ignore position and colour, tell sunglasses from eyes less well.
    """
    net = load_backbone(backbone)
    parts = [F.adaptive_avg_pool2d(net.net.forward(net.scaling_layer(part))[0], 8).flatten(1)
             for part in check_size(images).split(batch_size)]
    return torch.cat(parts).double()


@lru_cache(maxsize=8)
def domain_probe(domain: str, resolution: int = 64, backbone: str = "st-alex", n: int = 300, ridge: float = 0.1):
    """A linear classifier "target domain or source?", fitted by ridge regression on n drawn images of each.

    Returns a function: images (N,3,R,R) → (N,) bool, True for the target domain. Fitted on the ``probe`` split,
    which no other code touches.
    """
    from .data import SOURCE, load_domain
    sets = [load_domain(name, "probe", n, resolution).images for name in (domain, SOURCE)]
    features = probe_features(torch.cat(sets), backbone)
    answers = torch.cat([torch.ones(n), -torch.ones(n)]).double()
    mean, scale = features.mean(0), features.std(0) + 1e-6
    z = (features - mean) / scale
    weights = z.T @ torch.linalg.solve(z @ z.T + ridge * z.shape[1] * torch.eye(len(z), dtype=z.dtype), answers)
    return lambda images: ((probe_features(images, backbone) - mean) / scale) @ weights > 0


def copy_rate(nearest_samples: Tensor, nearest_real: Tensor, percentile: float = 5) -> float:
    """Share of samples nearer to a training image than all but ``percentile`` % of real images are, in [0, 1].

    nearest_samples (N,), nearest_real (M,): distance of each sample, and of each *held-out* real image, to the training
    image nearest to it. Fresh real images score percentile/100: that much is no copying.
    """
    threshold = torch.quantile(nearest_real, percentile / 100)
    return float((nearest_samples < threshold).float().mean())
