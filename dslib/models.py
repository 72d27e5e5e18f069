"""Build, load and save the networks: ordinary diffusers U-Nets and pipelines (chapter 02)."""

import copy
import json
import os
import shutil
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.utils import logging
from safetensors import SafetensorError

from . import ddpm
from .base.device import device
from .base.errors import UserError, first_line
from .base.files import data_dir

CHANNELS = (16, 32, 64, 128)


def new_unet(resolution: int = 64, channels: tuple[int, ...] = CHANNELS,
             learned_variance: bool = False, norm_num_groups: int = 2) -> UNet2DModel:
    """A U-Net with random weights: one residual block a level, attention at the coarsest only.

    At 64×64 with the default channels: 2.7 M parameters, 1.0 GFLOP a forward pass. Two groups a group norm, because a norm over
    few channels takes their mean away, and with it the colour of a very noisy picture (chapter 02).
    Raises UserError where norm_num_groups does not divide every number of channels.
    """
    if any(width % norm_num_groups for width in channels):
        raise UserError(f"norm_num_groups is {norm_num_groups}: use a divisor of all of {channels}")
    plain = len(channels) - 1
    return UNet2DModel(
        sample_size=resolution, in_channels=3, out_channels=6 if learned_variance else 3, layers_per_block=1,
        block_out_channels=channels, norm_num_groups=norm_num_groups,
        attention_head_dim=min(32, channels[-1]),
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain)


def new_scheduler(prediction_type: str = "epsilon") -> DDPMScheduler:
    """T = 1000, linear β from 1e-4 to 0.02: the schedule of the paper.

    prediction_type: ``epsilon``, as there, or ``v_prediction`` (Salimans & Ho 2022).
    Raises UserError for any other.
    """
    ddpm.check_prediction_type(prediction_type, "new_scheduler")
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=True,
                         prediction_type=prediction_type)


def load_source(source: str | Path | None = None) -> DDPMPipeline:
    """An ordinary diffusers pipeline in float32, on the device at hand: the shipped one (None), a folder, or a hub id ``owner/name``.

    Safetensors only: a pickled checkpoint can run code when it is opened. Raises UserError with the mend.
    """
    if source is None:
        source = data_dir() / "source"
        if not (source / "model_index.json").exists():
            raise UserError(f"no source model in {source}: make one with 'dslib pretrain --output_dir {source}', or set "
                            "DSLIB_DATA to the course's data folder")
    pipe = open_pipeline(source, DDPMPipeline, ("unet",))
    if not isinstance(pipe.unet, UNet2DModel):
        raise UserError(f"{source} holds a {type(pipe.unet).__name__}: an unconditional UNet2DModel is needed")
    if not isinstance(pipe.unet.config.sample_size, int):
        raise UserError(f"{source} draws {pipe.unet.config.sample_size} pixels: a source that draws squares is needed")
    pipe.unet.float()
    check_prediction(pipe, source)
    return pipe.to(device())


def check_prediction(pipe: DDPMPipeline, source: str | Path) -> None:
    """A UserError unless scheduler and U-Net agree on ε or v.

    Refused: a third prediction type, channels that fit none, and answers that plainly show training
    for the other type than the scheduler says (:func:`seen_prediction`).
    """
    said = pipe.scheduler.config.get("prediction_type") or "epsilon"
    ddpm.check_prediction_type(said, f"{source}'s scheduler")
    one, out = pipe.unet.config.in_channels, pipe.unet.config.out_channels
    if out not in (one, 2 * one):
        raise UserError(f"{source}'s U-Net turns {one} channels into {out}: {one}, or {2 * one} "
                        "with a learned variance, are needed")
    seen = seen_prediction(pipe.unet, pipe.scheduler)
    if seen not in (None, said):
        raise UserError(f"{source}'s scheduler says (or, silent, means) {said}, but its U-Net "
                        f'answers as one trained for {seen}: write "prediction_type": "{seen}" in '
                        "scheduler/scheduler_config.json")


@torch.no_grad()
def seen_prediction(unet: UNet2DModel, scheduler) -> str | None:
    """Which type a trained U-Net predicts, from two looks at noise; None where it cannot be told.

    Grey under a little noise (ᾱ_t = 0.8): both types find the noise, correlation with ε above a
    half. Pure noise at T − 1: ε is x_t itself (correlation above 0.95), whereas v ≈ −x_0 has
    nothing to do with it (below 0.3). Random weights and the first steps of training give neither.
    unet: C channels in, C or 2C out; its training mode is left as it is.
    """
    if any(getattr(unet.config, key, None) for key in ("class_embed_type", "num_class_embeds")):
        return None                                     # wants a class beside the picture
    size, one = min(unet.config.sample_size, 64), unet.config.in_channels
    where, a_bar, found = next(unet.parameters()).device, scheduler.alphas_cumprod, []
    eps = torch.randn(2, one, size, size, generator=torch.Generator().manual_seed(0))
    training = unet.training
    unet.eval()
    for t in (int((a_bar - 0.8).abs().argmin()), len(a_bar) - 1):
        output = unet(((1 - a_bar[t]).sqrt() * eps).to(where), t).sample[:, :one].cpu()
        found.append(float(torch.corrcoef(torch.stack([output.flatten(), eps.flatten()]))[0, 1]))
    unet.train(training)
    if found[0] > 0.5 and found[1] > 0.95:
        return "epsilon"
    return "v_prediction" if found[0] > 0.5 and found[1] < 0.3 else None


HUB_EXAMPLES = {"DDPMPipeline": "google/ddpm-celebahq-256", "StableDiffusionPipeline": "CompVis/stable-diffusion-v1-4"}


def open_pipeline(source: str | Path, pipeline_class: type, parts: tuple[str, ...]):
    """A diffusers pipeline from a folder or a hub id; ``parts`` are the subfolders whose weights must be safetensors."""
    folder, kind = Path(source), pipeline_class.__name__
    if folder.is_dir():
        check_folder(folder, kind, parts)
    elif folder.exists() or str(source).endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".safetensors")):
        raise UserError(f"{source} is not a pipeline folder: only folders saved by save_pretrained with safetensors are opened")
    elif str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise UserError(f"no folder {source}: give a pipeline folder or a hub id such as {HUB_EXAMPLES[kind]}")
    try:
        logging.disable_progress_bar()
        return pipeline_class.from_pretrained(str(source), use_safetensors=True)
    except OSError as error:
        if folder.is_dir():
            raise UserError(f"{folder} could not be opened as a {kind}: {first_line(error)}") from None
        raise UserError(f"there is no folder {source} here, and '{source}' would have been fetched from the model hub, which failed "
                        f"({first_line(error)}): check the name and the network, or download it elsewhere and give the folder") from None
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{source} could not be opened as a {kind}: {first_line(error)}") from None
    finally:
        logging.enable_progress_bar()


def check_folder(folder: Path, wanted: str = "DDPMPipeline", parts: tuple[str, ...] = ("unet",)) -> None:
    """A UserError unless the folder looks like a pipeline of the wanted class, every part saved with safetensors."""
    if not (folder / "model_index.json").exists():
        raise UserError(f"{folder} has no model_index.json: it is not a diffusers pipeline (a checkpoint-… folder resumes "
                        "a run, --resume_from_checkpoint)")
    try:
        kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder}/model_index.json is damaged: save the pipeline again with save_pretrained") from None
    if kind != wanted:
        other = {"StableDiffusionPipeline": " (dslib adapt-t2i takes it)", "DDPMPipeline": " (dslib adapt takes it)"}.get(kind, "")
        raise UserError(f"{folder} holds a {kind}{other}: a {wanted} is needed here")
    for part in parts:
        places = [folder / part] + [folder] * (len(parts) == 1)     # old hub pipelines keep a single model's weights at the root
        if any(list(place.glob("*.safetensors")) for place in places):
            continue
        pickles = [p for place in places for ending in ("bin", "pt", "pth", "ckpt", "pkl") for p in place.glob(f"*.{ending}")]
        if pickles:
            raise UserError(f"{pickles[0]} is a pickle, which can run code when opened: refused, save it as safetensors")
        raise UserError(f"{folder}/{part} holds no .safetensors weights: save the pipeline again with save_pretrained")


def save_pipeline(unet: UNet2DModel, scheduler: DDPMScheduler, folder: str | Path, half: bool = False) -> Path:
    """Save an ordinary DDPMPipeline folder, safetensors inside. half: store float16 weights."""
    if half:
        unet = copy.deepcopy(unet).half()
    return write_pipeline(DDPMPipeline(unet=unet, scheduler=DDPMScheduler.from_config(scheduler.config)), Path(folder))


def write_pipeline(pipe, folder: Path) -> Path:
    """Save a pipeline; ``model_index.json`` comes last, so that a folder which was being written when the power went is not
    mistaken for a model."""
    part = folder / "pipeline.part"
    shutil.rmtree(part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    pipe.save_pretrained(part, safe_serialization=True)
    (folder / "model_index.json").unlink(missing_ok=True)
    for new in [p for p in part.iterdir() if p.is_dir()]:
        shutil.rmtree(folder / new.name, ignore_errors=True)
        os.replace(new, folder / new.name)
    os.replace(part / "model_index.json", folder / "model_index.json")
    shutil.rmtree(part)
    return folder
