"""Build, load and save the networks: ordinary diffusers U-Nets and pipelines (chapter 02)."""

import copy
from pathlib import Path

from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from . import ddpm
from .base.device import device
from .base.errors import UserError
from .base.files import data_dir
from .base.pipelines import open_pipeline, seen_prediction, write_pipeline
from .base.sources import make_ours

CHANNELS = (16, 32, 64, 128)


def new_unet(resolution: int = 64, channels: tuple[int, ...] = CHANNELS,
             learned_variance: bool = False, norm_num_groups: int = 2) -> UNet2DModel:
    """A U-Net with random weights: one residual block a level, attention at the coarsest only.

    At 64×64 with the default channels: 2.7 M parameters, 1.0 GFLOP a forward pass. Two groups a
    group norm, because a norm over few channels takes their mean away, and with it the colour of a
    very noisy picture. Raises UserError where norm_num_groups does not divide every
    number of channels.
    """
    if any(width % norm_num_groups for width in channels):
        raise UserError(f"norm_num_groups is {norm_num_groups}: use a divisor of all of {channels}")
    plain = len(channels) - 1
    return UNet2DModel(
        sample_size=resolution, in_channels=3, out_channels=6 if learned_variance else 3,
        layers_per_block=1, block_out_channels=channels, norm_num_groups=norm_num_groups,
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
    """An ordinary diffusers pipeline in float32, on the device at hand: the shipped one (None), a
    folder, or a hub id ``owner/name``. Its noise schedule becomes a DDPMScheduler's.

    Safetensors only: a pickled checkpoint can run code when it is opened. Raises UserError with the
    mend. README's table of sources says what works.
    """
    if source is None:
        source = data_dir() / "source"
        if not (source / "model_index.json").exists():
            raise UserError(f"no source model in {source}: make one with 'dslib pretrain "
                            f"--output_dir {source}', or set "
                            "DSLIB_DATA to the course's data folder")
    pipe = open_pipeline(source, DDPMPipeline, ("unet",))
    make_ours(pipe, source)
    pipe.unet.float()
    check_prediction(pipe, source)
    return pipe.to(device())


def check_prediction(pipe: DDPMPipeline, source: str | Path) -> None:
    """A UserError unless scheduler and U-Net agree on ε or v.

    Refused: a third prediction type, and answers that plainly show training for the other type than
    the scheduler says (:func:`seen_prediction`).
    """
    said = pipe.scheduler.config.get("prediction_type") or "epsilon"
    ddpm.check_prediction_type(said, f"{source}'s scheduler")
    seen = seen_prediction(pipe.unet, pipe.scheduler)
    if seen not in (None, said):
        raise UserError(f"{source}'s scheduler says (or, silent, means) {said}, but its U-Net "
                        f'answers as one trained for {seen}: write "prediction_type": "{seen}" in '
                        "scheduler/scheduler_config.json")


def save_pipeline(unet: UNet2DModel, scheduler: DDPMScheduler, folder: str | Path,
                  half: bool = False) -> Path:
    """Save an ordinary DDPMPipeline folder, safetensors inside. half: store float16 weights."""
    if half:
        unet = copy.deepcopy(unet).half()
    scheduler = DDPMScheduler.from_config(scheduler.config)
    return write_pipeline(DDPMPipeline(unet=unet, scheduler=scheduler), Path(folder))
