"""Count diversity instead of estimating it: read hair, skin, hats … back from pictures (chapter 07)."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .. import data, metrics
from ..base.errors import UserError

ABSENT = "none"
LEAST = 0.02         # values rarer than this share of the images are told apart by no probe: one class, "other"


def values(labels: list[dict[str, str]], factor: str) -> list[str]:
    """A factor's value in every image's labels; ``none`` where the part was not drawn."""
    return [one.get(factor, ABSENT) for one in labels]


def common_values(found: list[str]) -> list[str]:
    """The values of at least ``LEAST`` of the images, most frequent first; ``other`` last if anything is left."""
    counted = sorted({v: found.count(v) for v in found}.items(), key=lambda item: (-item[1], item[0]))
    kept = [value for value, count in counted if count >= LEAST * len(found)]
    return kept + ["other"] if len(kept) < len(counted) else kept


def as_index(found: list[str], classes: list[str]) -> Tensor:
    """Values as integers (N,), places in ``classes``; one that is not there is "other", or, without that, beyond the last."""
    other = classes.index("other") if "other" in classes else len(classes)
    return torch.tensor([classes.index(v) if v in classes else other for v in found])


class FactorProbe(NamedTuple):
    """Reads factors from pictures. Call ``read``; ``accuracy`` says on fresh drawn images how far to trust it."""
    classes: dict[str, list[str]]        # factor → its values
    accuracy: dict[str, float]           # factor → share of right answers on images it was not fitted on
    read: object                         # images (N,3,R,R) → {factor: (N,) places in classes}


@lru_cache(maxsize=8)
def factor_probe(domain: str, resolution: int = 64, backbone: str = "st-alex", n: int = 800, ridge: float = 0.1,
                 trust: float = 0.8, relabel=None) -> FactorProbe:
    """Linear classifiers of every factor of a domain, by ridge regression on n drawn and labelled images.

    Fitted on three quarters of the ``probe`` split and graded on the rest. Factors that are always the same, or are
    read with less than ``trust`` accuracy, or no better than by always saying the commonest value, are left out.
    relabel: turns an image's labels into others, e.g. ``captions.attributes``.
    Raises UserError if none is left.
    """
    drawn = data.load_domain(domain, "probe", n, resolution)
    labels = [relabel(one) for one in drawn.labels] if relabel else drawn.labels
    features, cut = metrics.probe_features(drawn.images, backbone), 3 * n // 4
    mean, scale = features[:cut].mean(0), features[:cut].std(0) + 1e-6
    z = (features - mean) / scale
    kernel = z[:cut] @ z[:cut].T + ridge * z.shape[1] * torch.eye(cut, dtype=z.dtype)
    classes, accuracy, weights = {}, {}, {}
    for factor in sorted({name for one in labels for name in one}):
        found = values(labels, factor)
        named = common_values(found[:cut])
        if len(named) < 2:
            continue
        index = as_index(found, named)
        answers = 2.0 * torch.nn.functional.one_hot(index[:cut], len(named)).to(z) - 1
        w = z[:cut].T @ torch.linalg.solve(kernel, answers)                      # (features, classes)
        right = float(((z[cut:] @ w).argmax(1) == index[cut:]).float().mean())
        commonest = float((index[cut:] == 0).float().mean())
        if right >= max(trust, commonest + 0.5 * (1 - commonest)):
            classes[factor], accuracy[factor], weights[factor] = named, right, w
    if not classes:
        raise UserError(f"no factor of {domain} can be read with accuracy {trust}: use more images than {n}, or a lower trust")

    def read(images: Tensor) -> dict[str, Tensor]:
        z = (metrics.probe_features(images, backbone) - mean) / scale
        return {factor: (z @ w).argmax(1) for factor, w in weights.items()}

    return FactorProbe(classes, accuracy, read)


class Spread(NamedTuple):
    """How a factor's values are spread over samples, beside real images."""
    entropy: float       # bits; of real images for comparison: the same probe on them
    coverage: float      # share of the real images' mass whose values the samples show at all, in [0, 1]
    distance: float      # total variation from the real images' distribution, in [0, 1]


def spread(samples: Tensor, real: Tensor, classes: int) -> Spread:
    """Compare the values read from samples (N,) with those read from real images (M,); integers below ``classes``."""
    if not len(samples) or not len(real):
        raise UserError(f"a distribution needs images: {len(samples)} samples and {len(real)} real ones given")
    p, q = (torch.bincount(x, minlength=classes).double() / len(x) for x in (samples, real))
    entropy = -float((p[p > 0] * p[p > 0].log()).sum()) / math.log(2)
    return Spread(entropy, float(q[p > 0].sum()), float((p - q).abs().sum() / 2))
