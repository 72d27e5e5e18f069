"""DPMs-ANT (Wang et al. 2024, arXiv 2308.11948): a classifier guides the training, and every image gets the noise that it is worst at.

*Similarity-guided training.* A classifier p_φ(y=T | x_t) tells the noised few from noised samples of the source. With it::

    L = E ‖ε − ε_θ(x_t,t) − σ̂_t²·γ·∇_{x_t} log p_φ(y=T | x_t)‖²,   σ̂_t = (1 − ᾱ_{t−1})·√(α_t / (1 − ᾱ_t))

So ε_θ is asked for the answer that classifier guidance (Dhariwal & Nichol 2021) would make of ε: one that leads towards the target.
*Adversarial noise selection.* Before each step J times::

    ε ← Norm(ε + ω·∇_ε ‖ε − ε_θ(√ᾱ_t·x_0 + √(1−ᾱ_t)·ε, t)‖²),   Norm: mean 0, variance 1 of every image

A source of v is asked for the same answer in its own units: at a fixed x_t, ε = √ᾱ_t·v + √(1−ᾱ_t)·x_t, so that what is taken from ε,
g, is g/√ᾱ_t of v.

====================  =============================================  ===========================================================
point                 paper                                          ours
====================  =============================================  ===========================================================
γ                     5                                              the same
J, ω                  10, 0.02: ten more passes a step               1, 0.2: a path of the same length J·ω in one pass; on the
                                                                     shipped source it raises the error of ε 0.9 times as much
weight of guidance    the square of sigma_hat; to move DDPM's step   as printed: weaker at small t
                      as usual it would be sigma_hat itself
                      (tests/beyond/test_ant.py)
classifier            pre-trained on noised ImageNet, 300 steps      three convolutions from random weights, 200 steps, on the
                      on the few and the source's data               few and ``num_anchors`` samples of the source
near T                –                                              its logit is a multiple of √ᾱ_t: x_T shows no domain, and
                                                                     g/√ᾱ_t stays finite
what is trained       adapters, which change nothing at first        ``lora_rank``, or all
====================  =============================================  ===========================================================

An extension to these pages, not part of DomainStudio; it needs no pairwise terms.
"""

import math

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from .. import data, ddpm, domainstudio, losses
from ..base.errors import UserError
from ..base.micro import in_parts

TIMES, WIDTH, BATCH, RATE = 8, 32, 32, 2e-3     # the classifier's features of t, channels, images of each kind a step, learning rate
CHECKED, LEAST = (0.05, 0.25, 0.5, 0.75), 0.6   # shares of T at which it is checked; the balanced accuracy that it must have at one


class Classifier(nn.Module):
    """Is x_t (N,C,R,R) at step t (N,) of the target? Logits (N,), positive for yes; they vanish with √ᾱ_t."""

    def __init__(self, channels: int, a_bar: Tensor, width: int = WIDTH):
        super().__init__()
        self.register_buffer("a_bar", a_bar.clone())
        self.first = nn.Conv2d(channels + TIMES, width, 4, 2, 1)
        self.second = nn.Conv2d(width, width, 4, 2, 1)
        self.third = nn.Conv2d(width, width, 4, 2, 1)
        self.last = nn.Linear(width, 1)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        when = get_timestep_embedding(t, TIMES)[:, :, None, None].expand(-1, -1, *x_t.shape[2:])
        h = torch.cat([x_t, when], dim=1)
        for layer in (self.first, self.second, self.third):
            h = F.silu(layer(h))
        return self.last(h.mean((2, 3))).squeeze(1) * self.a_bar[t].sqrt()


def fit_classifier(others: Tensor, few: Tensor, a_bar: Tensor, steps: int = 200, seed: int = 0) -> Classifier:
    """A classifier, trained with as many noised source samples ``others`` (n,C,R,R) as noised target images ``few`` (m,C,R,R) a step.

    All in [-1,1]; a_bar: (T,). Everything drawn at random is fixed by the seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Classifier(few.shape[1], a_bar)
    generator, optimizer = torch.Generator().manual_seed(seed), torch.optim.AdamW(net.parameters(), lr=RATE)
    answers = torch.cat([torch.zeros(BATCH), torch.ones(BATCH)])
    for _ in range(steps):
        x_0 = torch.cat([images[torch.randint(len(images), (BATCH,), generator=generator)] for images in (others, few)])
        t = torch.cat([ddpm.sample_timesteps(BATCH, len(a_bar), generator) for _ in range(2)])
        x_t = ddpm.q_sample(x_0, t, torch.randn(x_0.shape, generator=generator), a_bar)
        loss = F.binary_cross_entropy_with_logits(net(x_t, t), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.requires_grad_(False).eval()


@torch.no_grad()
def accuracies(net: Classifier, others: Tensor, few: Tensor, noises: int = 8, seed: int = 1) -> dict[int, float]:
    """t → the mean of its accuracies on ``others`` and on ``few``, with that many noises an image: chance is 0.5, at best 1."""
    a_bar, generator, found = net.a_bar, torch.Generator().manual_seed(seed), {}
    for t in (int(share * len(a_bar)) for share in CHECKED):
        right = []
        for images, wanted in ((others, False), (few, True)):
            x_0 = images.repeat(noises, 1, 1, 1)
            when = torch.full((len(x_0),), t)
            x_t = ddpm.q_sample(x_0, when, torch.randn(x_0.shape, generator=generator), a_bar)
            right.append(((net(x_t, when) > 0) == wanted).float().mean())
        found[t] = float(sum(right) / 2)
    return found


def checked_classifier(others: Tensor, few: Tensor, a_bar: Tensor, steps: int = 200, seed: int = 0) -> Classifier:
    """As :func:`fit_classifier`, on four fifths of the images of each kind, and checked on the others.

    Raises UserError where there are too few to do so, or where it is at chance at every t.
    """
    if min(len(others), len(few)) < 2:
        raise UserError(f"{len(few)} image(s) and {len(others)} samples of the source: ANT's classifier learns from some and is checked on "
                        "others, give at least 2 of each (--num_anchors counts the samples)")
    learnt, kept = zip(*((images[torch.arange(len(images)) % 5 != 0], images[::5]) for images in (others, few)))
    net = fit_classifier(*learnt, a_bar, steps, seed)
    best = max(accuracies(net, *kept).values())
    if best < LEAST:
        raise UserError(f"ANT's classifier tells the images from the source's samples in {best:.0%} at best, where chance is 50%: it would "
                        "guide nowhere; raise classifier_steps or --num_anchors, or take images of another domain")
    return net


def sigma_hat(a_bar: Tensor) -> Tensor:
    """σ̂_t = (1 − ᾱ_{t−1})·√(α_t/(1−ᾱ_t)): (T,) → (T,), from 0 at t = 0 up to nearly 1 at T."""
    before = torch.cat([torch.ones_like(a_bar[:1]), a_bar[:-1]])
    return (1 - before) * (a_bar / before / (1 - a_bar)).sqrt()


def guidance(net: Classifier, x_t: Tensor, t: Tensor, gamma: float = 5.0) -> Tensor:
    """σ̂_t²·γ·∇_{x_t} log p_φ(y=T | x_t), what is taken from ε: x_t (N,C,R,R), t (N,) → (N,C,R,R). No graph is kept."""
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        slope, = torch.autograd.grad(F.logsigmoid(net(x_t, t)).sum(), x_t)
    return gamma * ddpm.at(sigma_hat(net.a_bar).square(), t, x_t) * slope


def as_answer(g: Tensor, t: Tensor, a_bar: Tensor, prediction_type: str = "epsilon") -> Tensor:
    """A change g of ε (N,C,R,R) at fixed x_t, as a change of the network's answer: g itself, or g/√ᾱ_t for v."""
    return g if ddpm.check_prediction_type(prediction_type) == "epsilon" else g / ddpm.at(a_bar, t, g).sqrt()


def normalised(eps: Tensor) -> Tensor:
    """Every image's noise (N,C,R,R) with mean 0 and variance 1."""
    return (eps - eps.mean((1, 2, 3), keepdim=True)) / eps.std((1, 2, 3), unbiased=False, keepdim=True)


def worst_noise(net, x_0: Tensor, t: Tensor, eps: Tensor, a_bar: Tensor, steps: int = 1, omega: float = 0.2,
                prediction_type: str = "epsilon") -> Tensor:
    """ε (N,C,R,R) after ``steps`` steps uphill on the network's squared error of ε; ε itself after none.

    The network's weights take no gradient. x_0, eps: (N,C,R,R); t: (N,); a_bar: (T,); the norm is the sum over an image, as in the paper.
    """
    for _ in range(steps):
        with torch.enable_grad():
            eps = eps.detach().requires_grad_()
            x_t = ddpm.q_sample(x_0, t, eps, a_bar)
            output, _ = domainstudio.split_variance(net(x_t, t).sample, x_0.shape[1])
            error = (eps - ddpm.guess(output, x_t, t, a_bar, prediction_type).eps).square().sum()
            slope, = torch.autograd.grad(error, eps)
        eps = normalised(eps.detach() + omega * slope)
    return eps


def guided_loss(net, classifier: Classifier, x_0: Tensor, t: Tensor, eps: Tensor, a_bar: Tensor, betas: Tensor, config, gamma: float = 5.0,
                prediction_type: str = "epsilon") -> tuple[Tensor, dict[str, Tensor]]:
    """L_simple of the guided answer (with λ1·L_vlb where the variance is learned), and the terms.

    Shapes as in :func:`dslib.domainstudio.domainstudio_loss`. The error of the answer is output − (target − g), g in the answer's units. It
    counts over t as ``snr_gamma`` says. "guidance" among the terms is the mean square of g, where ε has 1; it is not minimised.
    """
    x_t = ddpm.q_sample(x_0, t, eps, a_bar)
    g = guidance(classifier, x_t, t, gamma)
    output, variance = domainstudio.split_variance(net(x_t, t).sample, x_0.shape[1])
    error = output - ddpm.target(x_0, eps, t, a_bar, prediction_type) + as_answer(g, t, a_bar, prediction_type)
    found = {"simple": domainstudio.l_simple(error, t, a_bar, config, prediction_type)}
    if variance is not None:
        found["vlb"] = losses.vlb(ddpm.guess(output, x_t, t, a_bar, prediction_type).eps, variance, x_0, x_t, t, betas)
    return domainstudio.total(found, config), found | {"guidance": g.square().mean()}


def start(source, images: Tensor, config, frozen=None, *, gamma: float = 5.0, inner_steps: int = 1, omega: float = 0.2,
          classifier_steps: int = 200):
    """Where :func:`dslib.train.adapt` starts: (network, objective, no companions). ``frozen`` is not asked.

    The classifier is trained here, in seconds, after ``num_anchors`` samples of the source have been drawn. gamma ≥ 0: γ; inner_steps ≥ 0:
    J; omega ≥ 0: ω. Raises UserError for other numbers, or for a classifier at chance.
    """
    for name, value in {"gamma": gamma, "inner_steps": inner_steps, "omega": omega, "classifier_steps": classifier_steps}.items():
        if not 0 <= value < math.inf:
            raise UserError(f"{name} of ANT is {value}: it must be zero or a positive number")
    a_bar, betas = source.scheduler.alphas_cumprod.clone(), source.scheduler.betas.clone()
    kind, few = ddpm.prediction_type_of(source.scheduler), data.to_float(images)
    others = domainstudio.draw_anchors(source, len(images), config).flatten(0, 1).cpu()
    classifier = checked_classifier(others, few, a_bar, classifier_steps, config.seed)

    def objective(net, x_0, t, eps):
        here, judge = a_bar.to(x_0.device), classifier.to(x_0.device)
        inner = in_parts(getattr(net, "module", net), config.micro_batch_size)     # no reducer of several processes counts these passes
        eps = worst_noise(inner, x_0, t, eps, here, inner_steps, omega, kind)
        return guided_loss(in_parts(net, config.micro_batch_size), judge, x_0, t, eps, here, betas.to(x_0.device), config, gamma, kind)

    return domainstudio.part_of(source.unet, config), objective, None
