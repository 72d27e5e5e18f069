"""Draw images with a trained model: diffusers' schedulers behind one generator (chapter 02)."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from torch import Tensor

from . import ddpm
from .base import progress as bars
from .base.errors import UserError
from .base.finite import check_drawn
from .base.sources import check_steps

SCHEDULERS = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler,
              "dpmsolver": DPMSolverMultistepScheduler}


class Link(NamedTuple):
    """One link of the sampling chain."""
    t: int        # the step just undone
    x_t: Tensor   # (N,C,H,W) what is left after it
    x_0: Tensor   # (N,C,H,W) the clean image guessed before it, clipped to [-1,1]


def start_noise(n: int, resolution: int = 64, seed: int = 0, channels: int = 3) -> Tensor:
    """x_T ~ N(0,1), (n,C,R,R), always drawn on the CPU and image by image: n=8 gives the first 8 of
    n=64."""
    if n < 1:
        raise UserError(f"start noise for {n} images: ask for at least 1")
    return torch.stack([torch.randn(channels, resolution, resolution,
                                    generator=torch.Generator().manual_seed(seed * 1_000_003 + i))
                        for i in range(n)])


def sampler(scheduler, kind: str, num_inference_steps: int):
    """A fresh diffusers scheduler of another kind over the same noise schedule, steps spread so
    that T − 1 comes first."""
    if kind not in SCHEDULERS:
        raise UserError(f"unknown scheduler {kind!r}: use one of {', '.join(SCHEDULERS)}")
    check_steps(kind, num_inference_steps, scheduler.config.num_train_timesteps)
    # DPM-Solver has no clip_sample, but thresholding at 1 is the same
    clip = scheduler.config.get("clip_sample", False)
    extra = {"thresholding": clip, "sample_max_value": 1.0} if kind == "dpmsolver" else {}
    new = SCHEDULERS[kind].from_config(scheduler.config, timestep_spacing="trailing", **extra)
    new.set_timesteps(num_inference_steps)
    return new


def check_source(unet: UNet2DModel, scheduler, source, source_until: int | None) -> UNet2DModel:
    """The network for the steps t > source_until: the source's, or ``unet`` itself for None.

    source: a U-Net, or a pipeline, whose scheduler is then compared with this one. Raises UserError
    where source_until is outside [0, T], no source is there, or the models do not fit together.
    """
    if source_until is None:
        return unet
    total = scheduler.config.num_train_timesteps
    if not 0 <= source_until <= total:
        raise UserError(f"--source_until is {source_until}: use 0 to {total} (the source draws the "
                        "steps above it)")
    if source is None:
        raise UserError(f"--source_until {source_until} needs the source model for the first "
                        "steps: give it too")
    if hasattr(source, "scheduler"):
        kinds = [ddpm.prediction_type_of(s) for s in (source.scheduler, scheduler)]
        if kinds[0] != kinds[1]:
            raise UserError(f"the source predicts {kinds[0]} and the adapted model {kinds[1]}: "
                            "--source_until needs a model adapted from this very source")
        if not torch.equal(source.scheduler.alphas_cumprod.cpu(), scheduler.alphas_cumprod.cpu()):
            raise UserError("source and adapted model have different noise schedules: "
                            "--source_until needs a model adapted from this very source")
        source = source.unet
    for name in ("sample_size", "in_channels", "out_channels"):
        theirs, ours = source.config[name], unet.config[name]
        if theirs != ours:
            raise UserError(f"the source's {name} is {theirs}, the adapted model's {ours}: "
                            "--source_until needs a model adapted from this very source")
    return source


@torch.no_grad()
def chain(unet: UNet2DModel, scheduler, noise: Tensor, num_inference_steps: int = 20,
          kind: str = "ddim",
          seed: int = 0, source=None, source_until: int | None = None) -> Iterator[Link]:
    """Walk from x_T to x_0 and yield every link. noise: (N,C,H,W).

    seed matters to ``ddpm`` alone, which adds noise. The scheduler says whether the network
    predicts ε or v. source, source_until: the steps t > source_until (0 to T) are the source's, a
    U-Net or its pipeline, the rest ``unet``'s, as the authors' code can do (ledger row 15); from
    T − 1 on, or for None, all are ``unet``'s. Raises UserError, see :func:`check_source`.
    """
    first = check_source(unet, scheduler, source, source_until)
    prediction_type = ddpm.prediction_type_of(scheduler)
    device = next(unet.parameters()).device
    steps = sampler(scheduler, kind, num_inference_steps)
    generator = torch.Generator(device).manual_seed(seed)
    x_t = noise.to(device) * steps.init_noise_sigma
    extra = {} if kind == "ddim" else {"generator": generator}
    learned = kind == "ddpm" and "learned" in steps.config.variance_type
    a_bar = scheduler.alphas_cumprod.to(device)
    for t in steps.timesteps:
        net = first if source_until is not None and t > source_until else unet
        output = net(steps.scale_model_input(x_t, t), t).sample
        answer = output[:, :x_t.shape[1]]
        x_0 = ddpm.guess(answer, x_t, t.to(device).expand(len(x_t)), a_bar, prediction_type).x_0
        x_t = steps.step(output if learned else answer, t, x_t, **extra).prev_sample
        yield Link(int(t), x_t, x_0.clamp(-1, 1))


def sample(unet: UNet2DModel, scheduler, noise: Tensor, num_inference_steps: int = 20,
           kind: str = "ddim", seed: int = 0,
           batch_size: int | None = None, progress: str | None = None, source=None,
           source_until: int | None = None) -> Tensor:
    """Images (N,C,H,W) in [-1,1], on the CPU, from start noise (N,C,H,W).

    The same noise through two models shows what adaptation changed. ``progress`` names a progress
    bar. batch_size: images at once; default: 32, on a GPU as many as make a million pixels, 256 of
    64×64. source, source_until: see :func:`chain`.
    """
    unet.eval()
    check_source(unet, scheduler, source, source_until).eval()
    done = []
    large = next(unet.parameters()).is_cuda
    parts = noise.split(batch_size or (max(1, 2**20 // noise[0, 0].numel()) if large else 32))
    with bars.progress(total=len(parts) * num_inference_steps, desc=progress,
                       shown=progress is not None, leave=False) as bar:
        for i, part in enumerate(parts):
            for link in chain(unet, scheduler, part, num_inference_steps, kind, seed + i,
                              source, source_until):
                bar.update()
                x_t = link.x_t
            done.append(check_drawn(x_t).clamp(-1, 1).cpu())
    return torch.cat(done)
