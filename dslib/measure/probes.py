"""Linear probes: is it the domain or the source, and which hair, skin, hat …? Diversity counted instead of estimated (chapter 07)."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import data, metrics
from ..base.device import device
from ..base.errors import UserError

ABSENT = "none"
RARE = 0.02          # values rarer than this share of the images are told apart by no probe: one class, "other"


@torch.no_grad()
def probe_features(images: Tensor, backbone: str = "st-alex", batch_size: int = 50) -> Tensor:
    """First-layer activations on an 8×8 map, (N, C·64), float64: edges and colours, and *where*
    they are.

    Deeper layers, made to ignore position and colour, tell sunglasses from eyes less well.
    """
    net = metrics.load_backbone(backbone, str(device()))
    # 30 → 8: not on MPS
    parts = [F.adaptive_avg_pool2d(net.net.slice1(net.scaling_layer(part.to(device()))).cpu(),
                                   8).flatten(1)
             for part in metrics.check_size(images).split(batch_size)]
    return torch.cat(parts).cpu().double()


def values(labels: list[dict[str, str]], factor: str) -> list[str]:
    """A factor's value in every image's labels; ``none`` where the part was not drawn."""
    return [one.get(factor, ABSENT) for one in labels]


def common_values(seen: list[str]) -> list[str]:
    """The values of at least ``RARE`` of the images, most frequent first; ``other`` last if anything is left."""
    counted = sorted({v: seen.count(v) for v in seen}.items(), key=lambda item: (-item[1], item[0]))
    kept = [value for value, count in counted if count >= RARE * len(seen)]
    return kept + ["other"] if len(kept) < len(counted) else kept


def as_index(words: list[str], classes: list[str]) -> Tensor:
    """Values as integers (N,), places in ``classes``; one that is not there is "other", or, without that, beyond the last."""
    other = classes.index("other") if "other" in classes else len(classes)
    return torch.tensor([classes.index(v) if v in classes else other for v in words])


def ridge_fit(features: Tensor, answers: Tensor, ridge: float = 0.1):
    """Linear classifiers by ridge regression: features (N,D) standardised, answers ±1 (N,) or (N,C).

    Returns a function: features (M,D) → scores (M,) or (M,C). Solved among the N images, of which there are fewer than features.
    """
    mean, scale = features.mean(0), features.std(0) + 1e-6
    z = (features - mean) / scale
    weights = z.T @ torch.linalg.solve(z @ z.T + ridge * z.shape[1] * torch.eye(len(z), dtype=z.dtype), answers)
    return lambda features: ((features - mean) / scale) @ weights


@lru_cache(maxsize=8)
def domain_probe(domain: str, resolution: int = 64, backbone: str = "st-alex", n: int = 300, ridge: float = 0.1):
    """A linear classifier "target domain or source?", fitted by ridge regression on n drawn images of each.

    Returns a function: images (N,3,R,R) → (N,) bool, True for the target domain. Fitted on the ``probe`` split,
    which only probes see.
    """
    sets = [data.load_domain(name, "probe", n, resolution).images for name in (domain, data.SOURCE)]
    answers = torch.cat([torch.ones(n), -torch.ones(n)]).double()
    decide = ridge_fit(probe_features(torch.cat(sets), backbone), answers, ridge)
    return lambda images: decide(probe_features(images, backbone)) > 0


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
    features, cut = probe_features(drawn.images, backbone), 3 * n // 4
    classes, answers = {}, {}
    for factor in sorted({name for one in labels for name in one}):
        words = values(labels, factor)
        common = common_values(words[:cut])
        if len(common) > 1:
            classes[factor], answers[factor] = common, as_index(words, common)
    decide = fit_factors(features[:cut], {factor: index[:cut] for factor, index in answers.items()}, classes, ridge)
    accuracy = {}
    for factor, said in decide(features[cut:]).items():
        right, commonest = (float((index == answers[factor][cut:]).float().mean()) for index in (said, torch.zeros_like(said)))
        if right >= max(trust, commonest + 0.5 * (1 - commonest)):
            accuracy[factor] = right
    if not accuracy:
        raise UserError(f"no factor of {domain} can be read with accuracy {trust}: use more images than {n}, or a lower trust")

    def read(images: Tensor) -> dict[str, Tensor]:
        said = decide(probe_features(images, backbone))
        return {factor: said[factor] for factor in accuracy}

    return FactorProbe({factor: classes[factor] for factor in accuracy}, accuracy, read)


def fit_factors(features: Tensor, answers: dict[str, Tensor], classes: dict[str, list[str]], ridge: float):
    """One ridge fit for every factor: a function, features (M,D) → {factor: (M,) places in its classes}."""
    sizes = [len(classes[factor]) for factor in answers]
    wanted = [2.0 * torch.nn.functional.one_hot(index, size).to(features) - 1 for index, size in zip(answers.values(), sizes)]
    if not wanted:
        return lambda features: {}
    decide = ridge_fit(features, torch.cat(wanted, dim=1), ridge)
    return lambda features: {factor: part.argmax(1) for factor, part in zip(answers, decide(features).split(sizes, dim=1))}


def obeyed(images: Tensor, said: list[dict[str, str]], probe: FactorProbe) -> dict[str, tuple[float, int]]:
    """For every factor that the probe reads: the share of images (N,3,R,R) that show the word said of them, and of how many."""
    read, shares = probe.read(images), {}
    for name, classes in probe.classes.items():
        asked = [i for i, one in enumerate(said) if one.get(name) in classes]
        right = [classes[int(read[name][i])] == said[i][name] for i in asked]
        if asked:
            shares[name] = sum(right) / len(right), len(right)
    return shares


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
