"""λ by itself (extensions, chapters 08 and 13): weights that follow a price, and weights that follow the gradients.

*Dual ascent.* λ2 and λ3 say how hard the pairwise terms pull, in nobody's unit. Turned round: say how far the model may go, and let λ
follow (Lagrange multipliers, by gradient ascent on log λ)::

    minimise L_simple + λ4·L_hfmse  subject to  L_img ≤ c_img, L_hf ≤ c_hf
    λ ← clip(λ · exp(η · clip(log(L̄/c), −1, 1)), λ_least, λ_most)

L̄ is a running mean: one batch says little. c is the price of the right answer, :func:`price`: what a model pays that draws every person
of the source in the new hand. A model that pays less has not arrived; one that pays more has lost people on the way.

*Balanced.* Chapter 06's rule while the model trains: each term's gradient is a fixed share of L_simple's, for every form of the method.
"""

import copy
import math
import sys
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean

import torch
from torch import Tensor

from .. import data, ddpm, domainstudio, losses
from ..base.errors import UserError

PAIRWISE = ("img", "hf")
LEAST, MOST = 0.01, 10.0      # λ stays between
RATE, MEMORY = 0.05, 0.9      # η a step; share of the running mean that one step leaves
START = 0.3                   # λ before the first step: the published one
SHARE, EVERY, LAST = 0.3, 10, 10       # balanced: a gradient's length beside L_simple's, steps between two looks, looks that are averaged
BATCHES = 40                  # that a price is measured on


def dual_step(weight: float, level: float, price: float, rate: float = RATE, least: float = LEAST, most: float = MOST) -> float:
    """λ after one step of dual ascent: clip(λ · exp(η · clip(log(L̄/c), −1, 1)), least, most). level: L̄ ≥ 0; price: c > 0; rate: η."""
    gap = min(1.0, max(-1.0, math.log(max(level, 1e-12) / price)))
    return min(most, max(least, weight * math.exp(rate * gap)))


@dataclass
class Dual:
    """The multiplier of one term, and what it has seen."""
    price: float                  # c: above it λ grows
    weight: float = START         # λ
    level: float | None = None    # L̄, None before the first step

    def follow(self, value: float) -> None:
        """One step of dual ascent after a batch's loss ``value`` ≥ 0."""
        self.level = value if self.level is None else MEMORY * self.level + (1 - MEMORY) * value
        self.weight = dual_step(self.weight, self.level, self.price, RATE)


def compared(source, images: Tensor, other, batch: int, batches: int, seed: int) -> dict[str, float]:
    """Mean L_img and L_hf between ``other(x_t, t, x̃_0 of the source)``, guesses (N,3,R,R), and the source's guesses."""
    if not 2 <= batch <= len(images):
        raise UserError(f"a price of batches of {batch} needs 2 images a batch, and as many images; there are {len(images)}")
    draws, a_bar = torch.Generator().manual_seed(seed), source.scheduler.alphas_cumprod
    found: dict[str, list[float]] = {term: [] for term in PAIRWISE}
    for _ in range(batches):
        x_0 = images[torch.randperm(len(images), generator=draws)[:batch]]
        t, eps = ddpm.sample_timesteps(batch, len(a_bar), draws), torch.randn(x_0.shape, generator=draws)
        x_t = ddpm.q_sample(x_0, t, eps, a_bar)
        sou = guess_of(source, source.unet, x_t, t)
        theirs = other(x_t, t, sou)
        found["img"].append(float(losses.pairwise_kl(theirs, sou)))
        found["hf"].append(float(losses.hf_pairwise_kl(theirs, sou)))
    return {term: mean(values) for term, values in found.items()}


def guess_of(source, unet, x_t: Tensor, t: Tensor) -> Tensor:
    """x̃_0 (N,C,R,R) of a network that answers as the source's does."""
    return domainstudio.known_guess(unet, x_t, t, source.scheduler.alphas_cumprod, ddpm.prediction_type_of(source.scheduler))


def price(source, images: Tensor, name: str, batch: int = 5, batches: int = BATCHES, seed: int = 0) -> dict[str, float]:
    """What the right answer pays: mean L_img and L_hf between the source's guesses x̃_0 and their twins (DomainStudio §1).

    images: (N,3,R,R), samples of the source, N ≥ batch; name: one of ``data.TWINS``; batch: as many as are compared in training, for
    the losses depend on it. t is uniform, as in training. Raises UserError for a domain whose right answer is not known.
    """
    if name not in data.TWINS:
        raise UserError(f"nobody knows the right answer in {name!r}: a price is measured on {', '.join(data.TWINS)}")
    return compared(source, images, lambda x_t, t, sou: data.twin(sou.clamp(-1, 1), name), batch, batches, seed)


def paid(source, unet, images: Tensor, batch: int = 5, batches: int = BATCHES, seed: int = 0) -> dict[str, float]:
    """What an adapted U-Net pays on the same: mean L_img and L_hf between its guesses and the source's; arguments as :func:`price`'s."""
    return compared(source, images, lambda x_t, t, sou: guess_of(source, unet, x_t, t), batch, batches, seed)


def usual_price(source, images: Tensor, **more) -> dict[str, float]:
    """The mean :func:`price` of the domains that have one: the guess for a domain whose right answer is not known."""
    prices = [price(source, images, name, **more) for name in data.TWINS]
    return {term: mean(one[term] for one in prices) for term in PAIRWISE}


def begun(source, images: Tensor, config, frozen):
    """(network, frozen source, anchors or None) as the method begins. Raises UserError for another method, or a run that would go on."""
    if config.method != "domainstudio":
        raise UserError(f"--method is {config.method!r}: only domainstudio has weights that could set themselves")
    if config.resume_from_checkpoint:
        raise UserError("weights that set themselves are not in a checkpoint: leave out --resume_from_checkpoint")
    known = frozen or copy.deepcopy(source.unet).requires_grad_(False).eval()
    net, _, given = domainstudio.domainstudio(source, images, config, known)
    return net, known, given


def weighted(config, weights: dict[str, float]):
    """The config with other λ: {"img": λ2, "hf": λ3, "hfmse": λ4}."""
    return replace(config, **{f"lambda_{term}": weight for term, weight in weights.items()})


def dual(source, images: Tensor, config, frozen=None, target: str | None = None, prices: dict[str, float] | None = None,
         history: list | None = None):
    """Where dual ascent starts: (network, objective, anchors), for ``train.adapt(…, start=…)``.

    target: the domain whose :func:`price` holds, default the mean of those known; prices: given ones instead, {"img": c, "hf": c} > 0.
    λ4 is the config's. history: a list to which every step adds {"img": λ2, "hf": λ3}. Says once when a λ is at its bound for 50 steps.
    Raises UserError for a price that is not positive, another form than the anchored, or a run to be resumed.
    """
    if config.pairwise_on != "source":
        raise UserError("a price is of the source's own pictures: use --pairwise_on source")
    net, known, given = begun(source, images, config, frozen)
    if prices is None:
        priced = partial(price, name=target) if target in data.TWINS else usual_price
        prices = priced(source, given["anchors"].flatten(0, 1), batch=max(2, min(config.train_batch_size, len(images)) // 2))
    if min(prices.values()) <= 0:
        raise UserError(f"prices {prices}: each must be above 0, the loss of a model that stays where it is")
    duals, at_bound = {term: Dual(prices[term]) for term in PAIRWISE}, dict.fromkeys(PAIRWISE, 0)

    def objective(net, x_0, t, eps, anchors):
        this = weighted(config, {term: one.weight for term, one in duals.items()})
        total, found = domainstudio.against(source, known, this)(net, x_0, t, eps, anchors)
        for term, one in duals.items():
            one.follow(float(found[term].detach()))
            at_bound[term] = at_bound[term] + 1 if one.weight >= MOST else 0
            if at_bound[term] == 50:
                print(f"λ of L_{term} has been at its bound of {MOST:g} for 50 steps: the loss stays above its price of {one.price:.3g}; "
                      "give a higher price, or a smaller --learning_rate", file=sys.stderr)
        if history is not None:
            history.append({term: one.weight for term, one in duals.items()} | {f"L_{term}": one.level for term, one in duals.items()})
        return total, found

    return net, objective, given


def balance(lengths: dict[str, list[float]], weights: dict[str, float]) -> dict[str, float]:
    """New weights from the gradients' lengths, the last few of each: ``SHARE`` · ‖∇L_simple‖ / ‖∇L_term‖, at most ``MOST``.

    A term without a length yet keeps its weight.
    """
    simple = mean(lengths["simple"][-LAST:])
    return {term: min(MOST, SHARE * simple / mean(lengths[term][-LAST:])) if lengths[term] else weight for term, weight in weights.items()}


def measured(found: dict[str, Tensor], parameters: list[Tensor], lengths: dict[str, list[float]]) -> None:
    """Add the length of each term's gradient to its list; at the first step those of L_img and L_hf are rounding, and are left out."""
    for term, values in lengths.items():
        gradients = torch.autograd.grad(found[term], parameters, retain_graph=True, allow_unused=True)
        length = float(sum(g.square().sum() for g in gradients if g is not None) ** 0.5)
        if term == "simple" or length > lengths["simple"][-1] / 1000:
            values.append(length)


def balanced(source, images: Tensor, config, frozen=None, history: list | None = None):
    """Where training with balanced gradients starts, as :func:`dual`: λ2, λ3 and λ4 are set anew every ``EVERY`` steps.

    At the first step L_img and L_hf are zero, their gradients rounding: a term whose gradient is not a thousandth of L_simple's keeps its
    weight. Raises UserError for another method, or a run to be resumed.
    """
    net, known, given = begun(source, images, config, frozen)
    weights = {term: getattr(config, f"lambda_{term}") for term in (*PAIRWISE, "hfmse")}
    lengths: dict[str, list[float]] = {term: [] for term in ("simple", *weights)}
    terms_of, parameters, step = domainstudio.against(source, known, config), [p for p in net.parameters() if p.requires_grad], 0

    def objective(net, x_0, t, eps, **anchors):
        nonlocal weights, step
        _, found = terms_of(net, x_0, t, eps, **anchors)
        if step % EVERY == 0:
            measured(found, parameters, lengths)
            weights = balance(lengths, weights)
        step += 1
        if history is not None:
            history.append(dict(weights))
        return domainstudio.total(found, weighted(config, weights)), found

    return net, objective, given
