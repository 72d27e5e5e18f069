"""Which pipelines can be a source, and how each becomes ours: a U-Net that draws squares and a DDPMScheduler; or why it cannot."""

import inspect
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel

from .errors import UserError, first_line

#: pipelines of diffusers that hold one U-Net and one scheduler, and nothing else
UNCONDITIONAL = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")
CHANNELS = {1: "grey", 3: "colour"}
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")      # that each of our samplers knows by name
FIXED = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")


def make_ours(pipe, source: str | Path) -> None:
    """Check a pipeline's parts and bring them into our form, in place. Raises UserError for what cannot be a source."""
    if not isinstance(pipe.unet, UNet2DModel):
        raise UserError(f"{source} holds a {type(pipe.unet).__name__}: an unconditional UNet2DModel is needed")
    check_unet(pipe.unet, source)
    variances = pipe.unet.config.out_channels == 2 * pipe.unet.config.in_channels
    pipe.register_modules(scheduler=our_scheduler(pipe.scheduler, source, variances))


def check_unet(unet: UNet2DModel, source: str | Path) -> None:
    """A UserError unless the U-Net draws grey or colour squares from noise alone; ``sample_size: [R, R]`` becomes R."""
    config = unet.config
    labels = next((key for key in ("num_class_embeds", "class_embed_type") if config.get(key)), None)
    if labels:
        raise UserError(f"{source}'s U-Net is class-conditional ({labels}: {config[labels]}), it wants a label beside the picture: "
                        "an unconditional source is needed")
    one, out = config.in_channels, config.out_channels
    if out not in (one, 2 * one):
        raise UserError(f"{source}'s U-Net turns {one} channels into {out}: {one}, or {2 * one} with a learned variance, are needed")
    if one not in CHANNELS:
        what = " (RGBA, or latents of an autoencoder)" if one == 4 else ""
        raise UserError(f"{source} draws pictures of {one} channels{what}: 3 (colour) or 1 (grey) are needed")
    size = square(unet, source)
    halved = 2 ** max(1, len(config.block_out_channels) - 1)
    if size % halved:
        raise UserError(f"{source} draws {size} pixels a side, and its U-Net and the wavelets halve that to nothing whole: a "
                        f"sample_size that is a multiple of {halved} is needed, in unet/config.json")


def square(unet, source: str | Path) -> int:
    """The pixels a side of what a U-Net draws; ``sample_size: [R, R]`` becomes R. A UserError for other shapes, or none."""
    config = unet.config
    size = list(config.sample_size) if isinstance(config.sample_size, (list, tuple)) else [config.sample_size] * 2
    if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise UserError(f"{source} does not say how large its pictures are (sample_size: {config.sample_size}): write the pixels a side "
                        "into unet/config.json")
    if size[0] != size[1]:
        raise UserError(f"{source} draws {size[0]}×{size[1]} pixels: a source that draws squares is needed")
    unet.register_to_config(sample_size=size[0])
    unet.sample_size = size[0]
    return size[0]


def our_scheduler(scheduler, source: str | Path, variances: bool = False) -> DDPMScheduler:
    """The noise schedule of any scheduler that has one, and its prediction type, as a DDPMScheduler.

    How a solver walks (its order, Karras sigmas, spacing …) is left out: our samplers walk their own way. variances: whether the U-Net
    predicts them. Raises UserError where there are no steps t with an ᾱ_t, or where ε is asked for without any picture in x_T.
    """
    kind, said = type(scheduler).__name__, dict(scheduler.config)
    if not isinstance(getattr(scheduler, "alphas_cumprod", None), torch.Tensor) or "beta_schedule" not in said:
        raise UserError(f"{source}'s scheduler is a {kind}, which has no β schedule that a DDPMScheduler could follow: take a source "
                        "trained with DDPM's noise (DDPM, DDIM, PNDM, DPM-Solver, Euler … schedulers)")
    own = inspect.signature(DDPMScheduler.__init__).parameters
    settings = {name: value for name, value in said.items() if name in own and value is not None}
    if said.get("predict_epsilon") is False:                    # how diffusers wrote it before 0.11
        settings["prediction_type"] = "sample"
    word = settings.pop("variance_type", FIXED[0])
    if word == "learned" and variances:
        raise UserError(f"{source}'s scheduler says variance_type 'learned': only 'learned_range' and the fixed ones are known")
    if word in FIXED or (word == "learned_range" and variances):
        settings["variance_type"] = word
    if settings.get("trained_betas") is None and settings["beta_schedule"] not in SCHEDULES:
        plain = type(scheduler).from_config(scheduler.config, rescale_betas_zero_snr=False)
        settings |= {"trained_betas": plain.betas.tolist(), "beta_schedule": "linear"}
    ends = bool(said.get("rescale_betas_zero_snr")) or float(scheduler.alphas_cumprod[-1]) == 0
    settings |= {"num_train_timesteps": len(scheduler.alphas_cumprod), "rescale_betas_zero_snr": ends}
    try:
        new = DDPMScheduler(**settings)
    except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{source}'s scheduler, a {kind}, cannot be turned into a DDPMScheduler: {first_line(error)}") from None
    check_noise(new, scheduler.alphas_cumprod, source, variances)
    return new


def check_noise(scheduler: DDPMScheduler, wanted: torch.Tensor, source: str | Path, variances: bool) -> None:
    """A UserError unless ᾱ (T,) falls from below 1 to above 0, or to 0 for v alone, and is the one that was wanted."""
    a_bar = scheduler.alphas_cumprod
    falls = bool((a_bar[1:] < a_bar[:-1]).all()) and float(a_bar[-1]) >= 0 and float(a_bar[0]) < 1
    if not falls or not torch.allclose(a_bar, wanted.to(a_bar), atol=1e-5):
        raise UserError(f"{source}'s noise schedule is broken: ᾱ_t must fall from below 1 towards 0 over its {len(a_bar)} steps; correct "
                        "the betas in scheduler/scheduler_config.json")
    if a_bar[-1] > 0:
        return
    if scheduler.config.prediction_type == "epsilon":
        raise UserError(f"{source}'s noise schedule ends in noise alone (zero terminal SNR, rescale_betas_zero_snr), where ε says nothing "
                        "of the picture: a source that predicts v is needed (\"prediction_type\": \"v_prediction\")")
    if variances:
        raise UserError(f"{source} predicts its variance on a noise schedule that ends in noise alone (zero terminal SNR): one or the "
                        "other is supported, not both")


def check_steps(kind: str, steps: int, total: int) -> None:
    """A UserError unless a sampler can walk from T − 1 to the picture in so many steps. total: T.

    diffusers' DDIM goes T // steps down each time and would stop in the noise where T mod steps are left: a twentieth of T is let pass.
    """
    if not 1 <= steps <= total:
        raise UserError(f"--num_inference_steps is {steps}: use 1 to {total}")
    if kind == "ddim" and total % steps > total / 20:
        near = max(n for n in range(1, steps) if total % n <= total / 20)
        raise UserError(f"--num_inference_steps is {steps}: ddim would stop {total % steps} of {total} steps early, in the noise; "
                        f"use {near}, or --scheduler dpmsolver")
