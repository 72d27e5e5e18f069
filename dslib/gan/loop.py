"""The loop of two players: discriminator and generator take turns, and every step is yielded as :class:`dslib.train.Step`.

It is not ``train.fit``, which has one loss a step; its checkpoints, draws and settings are the same. One optimiser holds both players'
weights: those without a gradient are passed over.

=========================  =====================================================  ==================================================
point                      StyleGAN2 (Karras et al. 2020) and what builds on it   ours
=========================  =====================================================  ==================================================
latents of a step          drawn anew for each player's turn                      the same for both: one pass of the generator less
R1, with DiffAugment       the gradient at the image, before it is augmented, or  after: where the discriminator looks
                           after (Zhao et al. 2020 publish both)
lazy R1                    a step of its own; Adam's settings adjusted for it     added to the loss of its step, Adam as it is
path length, style mixing  yes                                                    no
gradients                  not clipped                                            clipped to ``max_grad_norm``, a safety belt
=========================  =====================================================  ==================================================
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from .. import data
from ..base.checkpoint import restore
from ..base.device import processes
from ..base.errors import UserError
from ..base.interrupts import undisturbed
from ..base.keeping import Keeper
from ..base.knobs import knob
from ..train import Loop, Step, batch_indices, flip, lr_factor, new_optimizer
from . import augment, losses
from .networks import Pair, Trace

#: settings of ``train.Loop`` that mean nothing here
UNUSED = ("bank_steps", "mixed_precision")


@dataclass(kw_only=True)
class GANLoop(Loop):
    """The loop's knobs with a GAN's defaults, and its own."""
    learning_rate: float = knob(2e-3, "AdamW's step size, of both players", "positive")
    adam_beta1: float = knob(0.0, "AdamW", "share")
    adam_beta2: float = knob(0.99, "AdamW", "share")
    max_grad_norm: float = knob(10.0, "gradients are clipped to this norm, each player's by itself", "positive")
    ema_max_decay: float = knob(0.998, "averaging of the generator's weights, reached after a warm-up", "share")
    r1_gamma: float = knob(0.1, "weight γ of R1, the gradient penalty at real images", "least_zero")
    r1_every: int = knob(16, "R1 is computed every so many steps, and counts as often", "positive")
    diffaugment: str = knob(augment.POLICY, "DiffAugment: color, translation, cutout between commas, or none")

    def check(self):
        """As :meth:`dslib.train.Loop.check`; also DiffAugment's words, and that this is the only process."""
        super().check()
        augment.words(self.diffaugment)
        if (shared := processes().num_processes) > 1:
            raise UserError(f"{shared} processes: a GAN is trained by one, start it without accelerate launch")
        return self


class Draw(NamedTuple):
    """What is random in a step, for N images."""
    real: Tensor                       # (N,3,R,R) in [-1,1]
    z: Tensor                          # (N,latent)
    jitter: list[dict[str, Tensor]]    # DiffAugment of real images, of drawn ones for the discriminator and for the generator
    step: int


class Method(NamedTuple):
    """What is trained and what each player minimises: functions (pair, trace, draw) → (loss, terms by name).

    latents: (z (N,latent) ~ N(0,1), step) → the latents of a step, (N,latent).
    """
    pair: Pair
    generator: Callable[[Pair, Trace, Draw], tuple[Tensor, dict[str, Tensor]]]
    discriminator: Callable[[Pair, Trace, Draw], tuple[Tensor, dict[str, Tensor]]]
    latents: Callable[[Tensor, int], Tensor] = lambda z, step: z


class GANStep(Step):
    """A step whose ``model`` is a :class:`dslib.gan.networks.Pair`; the generator alone is averaged."""

    def averaged(self) -> Pair:
        """A copy of the pair that holds the generator's averaged weights: the one to draw with."""
        pair = copy.deepcopy(self.model)
        self.ema.copy_to(pair.generator.parameters())
        return pair.eval()


def fit(method: Method, images: Tensor, config: GANLoop, identity: dict[str, str] | None = None) -> Iterator[GANStep]:
    """Let the two take turns, and yield a :class:`GANStep` after both have had theirs.

    images: (n,3,R,R), float in [-1,1] or uint8. The random numbers of a step depend on (seed, step) alone, so a resumed run goes on
    exactly as the uninterrupted one would have. A complete run yields its checkpoint once, without terms. identity: as in
    ``train.fit``. Raises UserError, naming the term, at the first loss or gradient that is NaN or infinite, before the player it
    belongs to is updated; the checkpoints are from before.
    """
    device, pair = processes().device, method.pair.to(processes().device)
    keeper, optimizer = Keeper(config, pair, images, main=True), new_optimizer(pair, config, device.type)
    drawing = list(pair.generator.parameters())
    judging = [p for name, p in pair.named_parameters() if not name.startswith("generator.")]
    ema = EMAModel(drawing, decay=config.ema_max_decay, use_ema_warmup=True, power=config.ema_power, foreach=True)
    first = restore(config, pair, ema, optimizer, identity)
    if first >= config.max_train_steps:  # nothing left to do: the checkpoint is the result
        yield GANStep(first, torch.zeros(()), {}, 0.0, 0.0, pair, ema, optimizer, identity)
    for step in range(first, config.max_train_steps):
        began, rate = time.perf_counter(), config.learning_rate * lr_factor(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        pair.train()
        drawn = draw_step(images, method, config, step, device)
        trace = pair.generator.trace(drawn.z)
        with undisturbed():          # a signal waits until both have had their turn
            lost, judged = discriminator_turn(method, trace, drawn, config)
            update(judging, step + 1, lost, judged, optimizer, keeper)
            loss, terms = method.generator(pair, trace, drawn)
            update(drawing, step + 1, loss, terms, optimizer, keeper)
            ema.step(drawing)
            terms = {name: value.detach() for name, value in (terms | judged).items() if name != "r1"}
            terms["diversity"] = losses.diversity(trace.image)
            record = GANStep(step + 1, (loss + lost).detach(), terms, rate, time.perf_counter() - began, pair, ema, optimizer, identity)
            keeper.keep(record)
            yield record


def discriminator_turn(method: Method, trace: Trace, drawn: Draw, config: GANLoop) -> tuple[Tensor, dict[str, Tensor]]:
    """The discriminator's loss and terms; every so many steps with R1 at the real images as it sees them, augmented."""
    loss, terms = method.discriminator(method.pair, trace, drawn)
    if not config.r1_gamma or drawn.step % config.r1_every:
        return loss, terms
    x = augment.augment(drawn.real, drawn.jitter[0]).detach().requires_grad_()
    penalty = losses.r1(method.pair.discriminator(x), x)
    return loss + config.r1_gamma * config.r1_every * penalty, terms | {"r1": penalty}


def draw_step(images: Tensor, method: Method, config: GANLoop, step: int, device) -> Draw:
    """A step's random choices, from (seed, step) alone."""
    generator, n = torch.Generator(device).manual_seed(config.seed * 1_000_003 + step), config.train_batch_size
    real = data.to_float(images[batch_indices(step, len(images), n, config.seed)]).to(device)
    if config.random_flip:
        real = flip(real, generator)
    z = method.latents(torch.randn(n, method.pair.generator.latent, generator=generator, device=device), step)
    return Draw(real, z, [augment.draw(n, images.shape[-1], config.diffaugment, generator) for _ in range(3)], step)


def update(weights: list[Tensor], step: int, loss: Tensor, terms: dict[str, Tensor], optimizer, keeper: Keeper) -> None:
    """One player's step: the gradients of these weights alone, clipped. Raises UserError where the loss or a gradient is no number."""
    keeper.check(step, loss, terms)
    weights = [p for p in weights if p.requires_grad]
    loss.backward(inputs=weights)
    norm = torch.nn.utils.clip_grad_norm_(weights, keeper.config.max_grad_norm)
    keeper.check(step, norm, {f"the gradient of {next(iter(terms))}": norm})
    optimizer.step()             # weights without a gradient, the other player's, are passed over
    optimizer.zero_grad()
