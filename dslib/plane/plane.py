"""The whole method in the plane: a ring, ten points of a wider ring, a small network (chapter 02b).

A point (2,) takes the place of an image, so everything can be drawn; a run takes seconds. The
formulas are those of ``ddpm`` and ``losses``, unchanged: they never asked for images. In the plane
the cosine of two points *is* the angle between them, so what the pairwise loss holds can be seen.
"""

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import ddpm, losses
from ..base.errors import UserError

A_BAR = ddpm.alphas_cumprod(ddpm.linear_betas())     # ᾱ_t of chapter 01, (1000,)
RADIUS = 2.0                                         # of the target ring; the source's is 1
NEAR = 3.0                                           # degrees: as near to one of the ten is a copy


# ------------------------------------------------------------------------------------- points


def generator(seed: int) -> torch.Generator:
    """Dice of one's own: nobody else's random state moves."""
    return torch.Generator().manual_seed(seed)


def ring(n: int, radius: float = 1.0, seed: int = 0, arc: float = 360.0) -> Tensor:
    """n points at random angles of a ring, or of an arc of so many degrees from angle 0 on: (n,2).

    Raises UserError for an arc that is none and for fewer than one point.
    """
    if n < 1 or not 0 < arc <= 360:
        raise UserError(f"{n} points on {arc} degrees: use at least 1 point, and above 0, to 360")
    angle = torch.rand(n, generator=generator(seed)) * math.radians(arc)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


def start_noise(n: int, seed: int = 0) -> Tensor:
    """x_T ~ N(0,1), (n,2)."""
    return torch.randn(n, 2, generator=generator(seed))


def degrees(x: Tensor) -> Tensor:
    """The direction of points (N,2): (N,) in [0,360)."""
    return torch.rad2deg(torch.atan2(x[:, 1], x[:, 0])) % 360


def turn(x: Tensor, y: Tensor) -> Tensor:
    """The angle between points, broadcast over (…,2) and (…,2): degrees in [0,180]."""
    cross = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
    return torch.rad2deg(torch.atan2(cross.abs(), (x * y).sum(-1)))


# ------------------------------------------------------------------------------------- network


class Denoiser(nn.Module):
    """ε_θ(x_t, t) for points: x_t (N,2), t (N,) → noise (N,2). Three hidden layers."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.register_buffer("rates", math.pi * 2.0 ** torch.arange(5))
        sizes = [2 + 2 * len(self.rates), width, width, width]
        hidden = [layer for i, o in zip(sizes, sizes[1:]) for layer in (nn.Linear(i, o), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        phase = (t / 1000)[:, None] * self.rates                              # (N,5)
        return self.layers(torch.cat([x_t, phase.sin(), phase.cos()], dim=1))


def new_denoiser(width: int = 128, seed: int = 0) -> Denoiser:
    """A network with random weights from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(width)


def guess(model: nn.Module, x_t: Tensor, t: Tensor, a_bar: Tensor = A_BAR) -> Tensor:
    """x̃_0 of noisy points (N,2) at steps (N,): (N,2)."""
    return ddpm.predict_x0(x_t, t, model(x_t, t), a_bar)


# ------------------------------------------------------------------------------------- training


def train_source(model: nn.Module, steps: int = 2500, batch: int = 256, lr: float = 2e-3,
                 seed: int = 0) -> Iterator[dict]:
    """Train on fresh points of the source ring, the learning rate falling to 0.

    Yields {"step", "simple"} a step.
    """
    dice, optimizer = generator(seed), torch.optim.Adam(model.parameters(), lr)
    slow = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        x_0 = ring(batch, seed=int(torch.randint(2**31, (), generator=dice)))
        t = ddpm.sample_timesteps(batch, len(A_BAR), dice)
        eps = torch.randn(batch, 2, generator=dice)
        loss = (model(ddpm.q_sample(x_0, t, eps, A_BAR), t) - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        slow.step()
        yield {"step": step, "simple": loss.item()}


class Batch(NamedTuple):
    """What one step sees: points to learn from, and points whose relations are held."""
    x_0: Tensor     # (N,2) of the ten
    t: Tensor       # (N,)
    eps: Tensor     # (N,2)
    y_0: Tensor     # (M,2) as published: x_0, t and ε again; anchored: samples of the source
    s: Tensor       # (M,) their steps
    eta: Tensor     # (M,2) their noise


def batches(ten: Tensor, steps: int, seed: int = 0, anchors: Tensor | None = None,
            size: int = 30) -> list[Batch]:
    """All random draws of a run, so that every method sees the same ones.

    ten: (K,2), each drawn equally often, ``size`` a step; anchors: samples of the source (A,2), or
    None for the published form.
    The draws of (x_0, t, ε) do not depend on whether there are anchors.
    """
    dice, other, drawn = generator(seed), generator(seed + 1_000_003), []
    for step in range(steps):
        x_0 = ten[(torch.arange(size) + step * size) % len(ten)]
        t, eps = ddpm.sample_timesteps(size, len(A_BAR), dice), torch.randn(size, 2, generator=dice)
        held = x_0, t, eps
        if anchors is not None:
            y_0 = anchors[torch.randint(len(anchors), (size,), generator=other)]
            s = ddpm.sample_timesteps(size, len(A_BAR), other)
            held = y_0, s, torch.randn(size, 2, generator=other)
        drawn.append(Batch(x_0, t, eps, *held))
    return drawn


def simple_loss(model: nn.Module, batch: Batch) -> Tensor:
    """L_simple = mean ‖ε_ada(x_t,t) − ε‖² on the ten: scalar."""
    x_t = ddpm.q_sample(batch.x_0, batch.t, batch.eps, A_BAR)
    return (model(x_t, batch.t) - batch.eps).square().mean()


def img_loss(model: nn.Module, source: nn.Module, batch: Batch, weighted: bool = True,
             direction: str = "ada||sou") -> Tensor:
    """L_img = Σ_i KL(p_i^ada ‖ p_i^sou) between both models' guesses of the points y_0: scalar.

    direction: as in :func:`dslib.losses.pairwise_kl`; weighted: what flows back through a guess at
    step s is multiplied by √ᾱ_s, as in ``dslib adapt``; else as published.
    """
    y_s = ddpm.q_sample(batch.y_0, batch.s, batch.eta, A_BAR)
    with torch.no_grad():
        before = guess(source, y_s, batch.s)
    after = guess(model, y_s, batch.s)
    if weighted:
        after = losses.scale_gradient(after, A_BAR[batch.s].sqrt())
    return losses.pairwise_kl(after, before, direction)


def finetune(model: nn.Module, source: nn.Module, drawn: list[Batch], lambda_img: float = 0.0,
             lr: float = 2e-3, weighted: bool = True) -> Iterator[dict]:
    """Adapt a copy of the source in place: L_simple + λ·L_img, an Adam step a batch.

    The learning rate falls to 0. Yields {"step", "simple"} a step, and "img" where λ is not 0;
    λ = 0 is naive fine-tuning. Raises UserError for a negative λ.
    """
    if not 0 <= lambda_img < math.inf:
        raise UserError(f"lambda_img is {lambda_img}: use 0 or a positive number")
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step, batch in enumerate(drawn, 1):
        optimizer.param_groups[0]["lr"] = lr * (1 - (step - 1) / len(drawn))
        terms = {"simple": simple_loss(model, batch)}
        if lambda_img:
            terms["img"] = img_loss(model, source, batch, weighted)
        optimizer.zero_grad()
        (terms["simple"] + lambda_img * terms.get("img", 0.0)).backward()
        optimizer.step()
        yield {"step": step} | {name: value.item() for name, value in terms.items()}


def adapted(source: nn.Module, drawn: list[Batch], lambda_img: float = 0.0, lr: float = 2e-3,
            weighted: bool = True) -> nn.Module:
    """A copy of the source after :func:`finetune`; the source stays as it was."""
    model = copy.deepcopy(source)
    for _ in finetune(model, source, drawn, lambda_img, lr, weighted):
        pass
    return model


# ------------------------------------------------------------------------------------- sampling


@torch.no_grad()
def chain(model: nn.Module, noise: Tensor, steps: int = 40, source: nn.Module | None = None,
          until: int = len(A_BAR), clip: float = 3.0) -> Iterator[tuple[int, Tensor]]:
    """DDIM from x_T (N,2): yields (t, x), t the step reached; at the last, −1, x is the sample.

    source, until: with a source, steps t > until are walked by it and the rest by ``model``, as an
    option of the authors' code does. Guesses are clipped to [−clip, clip].
    """
    if not 1 <= steps <= len(A_BAR):
        raise UserError(f"{steps} sampling steps: use 1 to {len(A_BAR)}")
    times = torch.linspace(len(A_BAR) - 1, -1, steps + 1).round().long().tolist()
    x = noise
    yield times[0], x
    for now, after in zip(times, times[1:]):
        walker = source if source is not None and now > until else model
        t = torch.full((len(x),), now)
        x_0 = guess(walker, x, t).clamp(-clip, clip)
        eps = (x - A_BAR[now].sqrt() * x_0) / (1 - A_BAR[now]).sqrt()
        x = x_0 if after < 0 else ddpm.q_sample(x_0, torch.full_like(t, after), eps, A_BAR)
        yield after, x


def sample(model: nn.Module, noise: Tensor, **options) -> Tensor:
    """Points (N,2) from start noise (N,2); options of :func:`chain`."""
    *_, (_, x) = chain(model, noise, **options)
    return x


# ------------------------------------------------------------------------------------- measures


def copies(x: Tensor, ten: Tensor, near: float = NEAR) -> float:
    """Share of points (N,2) whose direction is within ``near`` degrees of one of the ten (K,2).

    Directions only: a model that misses the radius gains nothing by it.
    """
    return float((turn(x[:, None], ten[None]).amin(dim=1) < near).float().mean())


def chance(ten: Tensor) -> float:
    """What :func:`copies` says of a uniform ring, where nobody copies: the control."""
    angle = torch.arange(3600) * math.tau / 3600
    return copies(torch.stack([angle.cos(), angle.sin()], dim=1), ten)


def scores(x: Tensor, ten: Tensor, twins: Tensor, radius: float = RADIUS) -> dict[str, float]:
    """Points (N,2) beside the ten (K,2) and the source's samples of the same noise (N,2).

    copies: see above; on_ring: share within 0.2 of the target radius, as a domain hit; turned: mean
    angle to the twin in degrees, 0 if all keep their place, 90 if the twins were anyone's.
    """
    near = (x.norm(dim=1) - radius).abs() < 0.2
    return {"copies": copies(x, ten), "on_ring": float(near.float().mean()),
            "turned": float(turn(x, twins).mean())}
