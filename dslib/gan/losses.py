"""What generator and discriminator minimise, whatever the method; scores are positive where an image is taken for real."""

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake: Tensor) -> Tensor:
    """−log D(G(z)) with D = sigmoid of the score, non-saturating (Goodfellow et al. 2014, §3): scores of any shape → scalar ≥ 0."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """−log D(x) − log(1 − D(G(z))) (Goodfellow et al. 2014, eq. 1): two sets of scores of any shape → scalar ≥ 0."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def r1(scores: Tensor, x: Tensor) -> Tensor:
    """½·E ‖∂D(x)/∂x‖², the score's gradient at real images (Mescheder et al. 2018, eq. 9): scores (N,) of x (N,3,R,R) → scalar ≥ 0.

    x must require a gradient, and no image's score may depend on another image. Its weight is γ; every k-th step (lazily, Karras et al.
    2020) it counts k times.
    """
    gradient, = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean() / 2


@torch.no_grad()
def diversity(images: Tensor) -> Tensor:
    """Root mean square difference of two images of a batch, over all pairs: (N,3,R,R) → scalar ≥ 0, zero when all are one image.

    √(2·variance over the batch): in [-1,1] drawn faces have about 0.8.
    """
    return (2 * images.float().var(0, unbiased=len(images) > 1).mean()).sqrt()
