"""A wish instead of pictures: "everybody with a beard", learned without one target image (an extension, not the paper).

All that is known of the target is a label of the source's own pictures. A *probe*, a small network, learns to read it. Then a copy of the
source's U-Net is trained on noised samples of the source until the probe sees the wish in x̃_0, and L_img and L_hf (DomainStudio §1)
hold the people against the frozen source::

    L = E_t [√ᾱ_t · 1(t < t_max) · (−log p(wish | x̃_0^ada))] + λ2·L_img + λ3·L_hf

A network that is trained to please another finds patterns that please it and show nobody anything (Goodfellow et al. 2015). So a *judge*
of other features and other pictures decides, and a robust probe has met such patterns itself (Madry et al. 2018, arXiv 1706.06083).
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import data, ddpm, domainstudio, train
from ..base.avatars import CAPTIONED
from ..base.device import device
from ..base.errors import UserError
from ..measure.probes import probe_features, ridge_fit
from ..metrics import nearest_lpips
from ..text import captions

PICTURES, STEPS, BATCH = 1500, 300, 32       # labelled pictures a probe is fitted on, its steps, pictures a step
T_MAX = 700                                  # a push reads x̃_0 below this step: above it is no picture
RADIUS = 1.5                                 # of the patterns a robust probe meets: Euclidean, of pictures in [-1,1]
LEAST = 0.75                                 # balanced accuracy below which a probe is refused; chance is 0.5


class Probe(NamedTuple):
    """Reads one wish: ``net`` maps images (N,3,R,R) in [-1,1] to log-odds (N,)."""
    wish: str            # "glasses=sunglasses"
    net: nn.Module
    accuracy: float      # mean of hits and right refusals on pictures it was not fitted on; chance is 0.5
    robust: bool


def parse(wish: str) -> tuple[str, str]:
    """"glasses=sunglasses" → ("glasses", "sunglasses"). Raises UserError naming the known attributes, or the attribute's words."""
    name, _, word = wish.partition("=")
    if name not in captions.WORDS:
        raise UserError(f"unknown attribute {name!r} in the wish {wish!r}: known are {', '.join(captions.WORDS)}")
    words = sorted(set(captions.WORDS[name][1].values()))
    if word not in words:
        raise UserError(f"the wish {wish!r}: {name} may be {', '.join(words)}; write {name}={words[0]}")
    return name, word


def labelled(wish: str, split: str, n: int, resolution: int = 64, domain: str = CAPTIONED) -> tuple[Tensor, Tensor]:
    """n drawn faces (n,3,R,R) and whether each shows the wish, (n,) bool.

    domain: by default the source's faces with glasses and beards more often, so that fewer need to be drawn; no picture is of another hand.
    """
    name, word = parse(wish)
    drawn = data.load_domain(domain, split, n, resolution)
    return drawn.images, torch.tensor([captions.attributes(one).get(name) == word for one in drawn.labels])


def balanced(found: Tensor, has: Tensor) -> float:
    """The mean of two shares: of pictures with the wish in which it is found, and of others in which it is not. found, has: (N,) bool."""
    return float((found[has].double().mean() + (~found[~has]).double().mean()) / 2)


# ------------------------------------------------------------------------------------- the probe, and who judges

def new_net(seed: int = 0, channels: int = 16) -> nn.Sequential:
    """A small convolutional network: images (N,3,R,R) → (N,1), R ≥ 16."""
    c = channels
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, c, 3, 2, 1), nn.ReLU(), nn.Conv2d(c, 2 * c, 3, 2, 1), nn.ReLU(),
                             nn.Conv2d(2 * c, 4 * c, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * c, 1))


def jitter(images: Tensor, generator: torch.Generator, reach: int = 3) -> Tensor:
    """Every image moved by up to ``reach`` pixels, its contrast, colours and noise changed a little. (N,3,R,R) → the same shape."""
    padded, size = F.pad(images, [reach] * 4, mode="replicate"), images.shape[-1]
    places = torch.randint(2 * reach + 1, (len(images), 2), generator=generator).tolist()
    moved = torch.stack([one[:, y:y + size, x:x + size] for one, (y, x) in zip(padded, places)])

    def normal(*shape: int) -> Tensor:
        return torch.randn(len(images), *shape, generator=generator).to(images)
    return moved * (1 + 0.15 * normal(1, 1, 1)) + 0.1 * normal(3, 1, 1) + 0.05 * normal(*images.shape[1:])


def worst(net: nn.Module, images: Tensor, has: Tensor, radius: float = RADIUS, steps: int = 2, rate: float = 1.0) -> Tensor:
    """Images moved by at most ``radius`` (Euclidean) to where the net is most wrong (Madry et al. 2018, eq. 2.1).

    images: (N,3,R,R); has: (N,) bool, the true answers; every one of the ``steps`` is ``rate``·radius long. No gradient is kept.
    """
    moved = torch.zeros_like(images)
    for _ in range(steps):
        moved.requires_grad_(True)
        loss = F.binary_cross_entropy_with_logits(net(images + moved)[:, 0], has.to(images), reduction="sum")
        slope, = torch.autograd.grad(loss, moved)
        moved = within(moved.detach() + rate * within(slope, radius, exactly=True), radius)
    return images + moved


def within(x: Tensor, radius: float, exactly: bool = False) -> Tensor:
    """Every x[i] scaled to at most (or exactly) that Euclidean length; zeros stay zeros. (N,3,R,R) → the same shape."""
    factor = radius / (x.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-12)
    return x * (factor if exactly else factor.clamp(max=1))


def guesses(source, images: Tensor, t_max: int, seed: int = 0, batch_size: int = 32) -> Tensor:
    """x̃_0 of the source for every image, noised to a step below t_max: what the probe will have to read. (N,3,R,R), clipped to [-1,1]."""
    generator = torch.Generator().manual_seed(seed)
    a_bar, kind, done = source.scheduler.alphas_cumprod, ddpm.prediction_type_of(source.scheduler), []
    where = source.unet.device
    for x_0 in images.split(batch_size):
        t = ddpm.sample_timesteps(len(x_0), t_max, generator)
        x_t = ddpm.q_sample(x_0, t, torch.randn(x_0.shape, generator=generator), a_bar)
        done.append(domainstudio.known_guess(source.unet, x_t.to(where), t.to(where), a_bar.to(where), kind).cpu().clamp(-1, 1))
    return torch.cat(done)


def fit_net(images: Tensor, has: Tensor, robust: bool, seed: int = 0, steps: int = STEPS) -> nn.Module:
    """A net that reads the wish; as many pictures with it as without in every batch. robust: moved, recoloured and attacked ones."""
    net, generator = new_net(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    sides = has.nonzero()[:, 0], (~has).nonzero()[:, 0]
    for step in range(steps):
        half = [side[torch.randint(len(side), (BATCH // 2,), generator=generator)] for side in sides]
        x, y = images[torch.cat(half)], has[torch.cat(half)]
        if robust:
            ramp = min(1.0, 2 * step / steps)
            x = worst(net, jitter(x, generator), y, RADIUS * ramp)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(net(x)[:, 0], y.float()).backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def train_probe(source, wish: str, robust: bool = True, seed: int = 0, pictures: int = PICTURES, steps: int = STEPS) -> Probe:
    """A probe of a wish, fitted on the source's labelled pictures and graded on ``pictures`` // 2 others.

    robust: it also reads what the source guesses of half of them, noised (:func:`guesses`), moved and recoloured (:func:`jitter`), and is
    attacked at every step (:func:`worst`). A small network of its own, not a head on the metrics' features: the judge is such a head.
    Raises UserError for an unknown wish, pictures that all show it, or none, and a probe near chance.
    """
    size = source.unet.config.sample_size
    images, has = enough(wish, "wish", pictures, size)
    fresh, truth = enough(wish, "wish-check", max(2, pictures // 2), size)
    if robust:
        half = len(images) // 2
        images, has = torch.cat([images, guesses(source, images[:half], T_MAX, seed)]), torch.cat([has, has[:half]])
    net = fit_net(images, has, robust, seed, steps)
    with torch.inference_mode():
        accuracy = balanced(torch.cat([net(part)[:, 0] > 0 for part in fresh.split(64)]), truth)
    return check(Probe(wish, net, accuracy, robust))


def enough(wish: str, split: str, n: int, size: int) -> tuple[Tensor, Tensor]:
    """:func:`labelled` pictures, or a UserError where none shows the wish, or all do."""
    images, has = labelled(wish, split, n, size)
    if has.all() or not has.any():
        raise UserError(f"{int(has.sum())} of {n} pictures show {wish}: a probe needs some with it and some without; draw more than {n}, "
                        "or wish for something else")
    return images, has


def check(probe: Probe, least: float = LEAST) -> Probe:
    """The probe itself, or a UserError where it reads its wish little better than by chance."""
    if probe.accuracy < least:
        raise UserError(f"the probe of {probe.wish} is right in {probe.accuracy:.0%} of unseen pictures (chance is 50 %, least is "
                        f"{least:.0%}): fit it on more pictures, or wish for something that can be seen")
    return probe


def judge(wish: str, resolution: int = 64, n: int = PICTURES):
    """Who decides, apart from the probe: other features, a linear fit, other pictures (the ``probe`` split).

    Ridge regression on the first layer of ST-AlexNet, as in :mod:`dslib.measure.probes`, on as many pictures with the wish as without.
    Returns a function: images (N,3,R,R) → (N,) bool. Raises UserError as :func:`train_probe` does.
    """
    images, has = enough(wish, "probe", n, resolution)
    sides = has.nonzero()[:, 0], (~has).nonzero()[:, 0]
    half = min(map(len, sides))
    chosen = torch.cat([side[:half] for side in sides])
    decide = ridge_fit(probe_features(images[chosen]), torch.cat([torch.ones(half), -torch.ones(half)]).double())
    return lambda images: decide(probe_features(images)) > 0


def familiar(resolution: int = 64, n: int = 200):
    """Who says whether a picture is one of the source's kind at all: a judge finds "sunglasses" in noise, too.

    Returns a function: images (N,3,R,R) → (N,) bool, True where the nearest of n drawn faces is no farther, by LPIPS, than it is for all
    but one in a hundred of other drawn faces.
    """
    drawn = data.load_domain(data.SOURCE, "probe", 2 * n, resolution).images
    limit = nearest_lpips(drawn[n:], drawn[:n]).quantile(0.99)
    return lambda images: nearest_lpips(images, drawn[:n]) <= limit


# ------------------------------------------------------------------------------------- how a wish is learned

def push(log_odds: Tensor, t: Tensor, a_bar: Tensor, t_max: int = T_MAX) -> Tensor:
    """The mean over images of √ᾱ_t·1(t < t_max)·(−log p), p = σ(log-odds): log_odds (N,), t (N,), a_bar (T,) → scalar ≥ 0.

    √ᾱ_t as in the pairwise terms: x̃_0 of a source of ε magnifies every error by 1/√ᾱ_t, and with it the push.
    """
    return (a_bar[t].sqrt() * (t < t_max) * F.softplus(-log_odds)).mean()


def wish_loss(net, frozen, x_0: Tensor, t: Tensor, eps: Tensor, a_bar: Tensor, config, kind: str, probe: Probe,
              ) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of :func:`push` on x̃_0 and the pairwise (or distillation) terms against the frozen source, and each unweighted.

    x_0: samples of the source (N,C,R,R); eps the same; t: (N,); a_bar: (T,); config: a ``domainstudio.Objective``. There are no target
    images, so L_simple and L_hfmse, which hold on to images, are left out. x̃_0 is clipped for the probe, as a sampler does.
    """
    x_t = ddpm.q_sample(x_0, t, eps, a_bar)
    output, _ = domainstudio.split_variance(net(x_t, t).sample, x_0.shape[1])
    ada = ddpm.guess(output, x_t, t, a_bar, kind).x_0
    found = {"wish": push(probe.net(jitter(held(ada), draw_of(t)) if probe.robust else held(ada))[:, 0], t, a_bar)}
    if config.lambda_img or config.lambda_hf or config.lambda_distill:
        found |= domainstudio.terms(ada, domainstudio.known_guess(frozen, x_t, t, a_bar, kind), x_0, t, a_bar, config)
        del found["hfmse"]
    return domainstudio.total(found, config), found


def held(x_0: Tensor) -> Tensor:
    """x̃_0 in [-1,1], what lies outside pulled to the edge, with the gradient of the identity: no pixel is lost to the push."""
    return x_0 + (x_0.clamp(-1, 1) - x_0).detach()


def draw_of(t: Tensor) -> torch.Generator:
    """Random numbers that a batch's steps t (N,) fix: a run that is resumed goes on as it would have."""
    return torch.Generator().manual_seed(int((t.cpu() * torch.arange(1, len(t) + 1)).sum()))


def start(probe: Probe):
    """Where a wish begins, as :func:`dslib.train.adapt` asks for it: ``start(source, images, config, frozen)``."""
    def begin(source, images, config, frozen=None):
        frozen = frozen or copy.deepcopy(source.unet).requires_grad_(False).eval()
        a_bar, kind = source.scheduler.alphas_cumprod.clone(), ddpm.prediction_type_of(source.scheduler)
        seen = probe._replace(net=copy.deepcopy(probe.net).to(device()))

        def objective(net, x_0, t, eps):
            return wish_loss(net, frozen.to(x_0.device), x_0, t, eps, a_bar.to(x_0.device), config, kind, seen)
        return domainstudio.part_of(source.unet, config), objective, None
    return begin


def adapt(source, probe: Probe, config: train.TrainConfig, samples: Tensor | None = None) -> Iterator[train.Step]:
    """Fine-tune a copy of the source until its pictures show a probe's wish; yields a step after every update.

    samples: (n,3,R,R) of the source's own; default: ``num_anchors`` are drawn. config: λ2, λ3 (or ``lambda_distill``) and the loop; its
    ``method`` is "domainstudio". Raises UserError for a probe near chance, and as :func:`dslib.train.adapt`.
    """
    check(probe)
    if samples is None:
        samples = domainstudio.draw_anchors(source, config.num_anchors, config)[:, 0]
    return train.adapt(source, samples, replace(config, method="domainstudio", pairwise_on="target"), start=start(probe))


def push_pixels(images: Tensor, probe: Probe, radius: float = 8.0, steps: int = 20) -> Tensor:
    """The control: pictures changed directly until the probe is pleased, with no network between. (N,3,R,R) → the same in [-1,1].

    By at most ``radius`` (:func:`worst`, "nobody shows it" as the answer to be proved wrong): 8 is 0.07 a pixel value on average at 64×64.
    What pleases a plain probe is hardly seen: an adversarial pattern (Szegedy et al. 2014).
    """
    nobody = torch.zeros(len(images), dtype=torch.bool)
    return torch.cat([worst(probe.net, part, no, radius, steps, 0.25).clamp(-1, 1) for part, no in zip(images.split(64), nobody.split(64))])
