"""A stage from 64 to 128 pixels, trained on the source's faces and adapted on ten (an extension of ours; chapter 13).

The paper adapts at 256 pixels. A U-Net of that size is beyond two cores, so a second, small network enlarges what the first has drawn::

    x̂ = enlarge(x) + shuffle(net(x)),   x: 3×64×64,  net(x): 12×64×64,  shuffle: four channels become a block of 2×2 pixels

It is a regression: for a drawing the large picture is nearly a function of the small one, and L1's median is then sharp. A conditional
diffusion model (SR3, Saharia et al. 2021) is for photographs, where many large pictures fit a small one; it needs tens of passes a picture.
shuffle is that of Shi et al. 2016 (arXiv 1609.05158): all layers work at the small size, a quarter of the cost.
"""

import copy
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor

from .. import data, losses, metrics
from ..base.errors import UserError, first_line
from ..base.files import as_json, write_atomic
from ..base.identity import fingerprint, image_print
from ..base.knobs import knob
from ..train import Loop, Step, fit

TIMES = 2


@dataclass(kw_only=True)
class UpsampleConfig(Loop):
    """The loop's knobs, and weights of the terms beside L1; all of them 0 is naive."""
    lambda_hfmse: float = knob(0.0, "weight of L_hfmse, the error of the Haar detail", "least_zero")
    lambda_img: float = knob(0.0, "weight of L_img between this stage's pictures and the unadapted stage's", "least_zero")
    lambda_hf: float = knob(0.0, "weight of its high-frequency twin L_hf", "least_zero")


def new_stage(channels: tuple[int, ...] = (16, 32, 32), resolution: int = 64, seed: int = 0) -> UNet2DModel:
    """A stage for pictures of ``resolution`` that begins as :func:`enlarge`: its last layer is zero. 0.3 M parameters by default."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stage = UNet2DModel(
            sample_size=resolution, in_channels=3, out_channels=3 * TIMES**2, layers_per_block=1, block_out_channels=channels,
            norm_num_groups=8, add_attention=False, down_block_types=("DownBlock2D",) * len(channels),
            up_block_types=("UpBlock2D",) * len(channels))
    torch.nn.init.zeros_(stage.conv_out.weight)
    torch.nn.init.zeros_(stage.conv_out.bias)
    return stage


def enlarge(small: Tensor) -> Tensor:
    """Bilinear enlargement, (N,3,R,R) → (N,3,2R,2R): what a stage adds to."""
    return F.interpolate(small, scale_factor=TIMES, mode="bilinear", align_corners=False)


def upsample(stage, small: Tensor) -> Tensor:
    """The stage's large picture of a small one, (N,3,R,R) in [-1,1] → (N,3,2R,2R), not clamped. The stage is asked at t = 0, always."""
    return enlarge(small) + F.pixel_shuffle(stage(small, 0).sample, TIMES)


@torch.no_grad()
def draw(stage, small: Tensor, batch_size: int = 25) -> Tensor:
    """:func:`upsample` of many pictures, in [-1,1]; stage None: :func:`enlarge`."""
    if stage is None:
        return enlarge(small)
    stage.eval()
    where = next(stage.parameters()).device
    return torch.cat([upsample(stage, part.to(where)).clamp(-1, 1).cpu() for part in small.split(batch_size)])


def stage_loss(stage, frozen, small: Tensor, large: Tensor, config: UpsampleConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """L1 + λ4·L_hfmse + λ2·L_img + λ3·L_hf, and each term unweighted.

    L1 = mean abs(x̂ − large). The last two compare x̂ with the pictures of ``frozen``, the stage before it was adapted, as DomainStudio does
    with x̃_0 (§1). small: (N,3,R,R), large: (N,3,2R,2R), in [-1,1].
    """
    guess = upsample(stage, small)
    found = {"l1": (guess - large).abs().mean()}
    total = found["l1"]
    if config.lambda_hfmse:
        found["hfmse"] = losses.hf_mse(guess, large)
    if config.lambda_img or config.lambda_hf:
        with torch.no_grad():
            before = upsample(frozen, small)
        found |= {"img": losses.pairwise_kl(guess, before), "hf": losses.hf_pairwise_kl(guess, before)}
    for name, value in found.items():
        total = total + getattr(config, f"lambda_{name}", 0.0) * value
    return total, found


def fit_stage(stage: UNet2DModel, small: Tensor, large: Tensor, config: UpsampleConfig) -> Iterator[Step]:
    """Train a copy of a stage on pairs, through the one loop, and yield a :class:`dslib.train.Step` after every update.

    small: (n,3,R,R), large: (n,3,2R,2R), the same pictures, in [-1,1] or uint8. Where λ2 or λ3 is above 0 the stage as it was given
    answers for the source. Raises UserError where sizes or numbers do not fit.
    """
    check_pairs(stage, small, large)
    config = replace(config, train_batch_size=min(config.train_batch_size, len(large))).check()
    frozen = copy.deepcopy(stage).requires_grad_(False).eval()

    def objective(net, x_0, t, eps, small):
        return stage_loss(net, frozen.to(x_0.device), data.to_float(small), x_0, config)

    if config.random_flip:
        raise UserError("--random_flip would mirror the large pictures alone: give mirrored pairs instead")
    identity = {"images": image_print(large), "source": fingerprint(data.to_uint8(small), stage.state_dict())}
    one_step = torch.ones(1)          # the loop draws a t and ε for a noise schedule; here there is none to use
    return fit(copy.deepcopy(stage).requires_grad_(True), large, config, objective, one_step, {"small": small[:, None]}, identity)


def check_pairs(stage: UNet2DModel, small: Tensor, large: Tensor) -> None:
    """A UserError unless there are as many large pictures as small ones, of twice the side, and the stage takes the small ones."""
    want = stage.config.sample_size
    if len(small) != len(large) or tuple(small.shape[1:]) != (3, want, want) or tuple(large.shape[1:]) != (3, TIMES * want, TIMES * want):
        raise UserError(f"small pictures {tuple(small.shape)} and large ones {tuple(large.shape)}: this stage is for as many of "
                        f"3×{want}×{want} and 3×{TIMES * want}×{TIMES * want}")


def paired_lpips(x: Tensor, y: Tensor, backbone: str = "st-alex", batch_size: int = 25) -> Tensor:
    """LPIPS of every picture x_i to its own truth y_i, (N,3,R,R) twice → (N,): the diagonal of :func:`dslib.metrics.lpips_matrix`."""
    return torch.cat([(metrics.lpips_features(a, backbone) - metrics.lpips_features(b, backbone)).square().sum(1)
                      for a, b in zip(x.split(batch_size), y.split(batch_size), strict=True)])


def save_stage(stage: UNet2DModel, folder: Path) -> Path:
    """Write a diffusers folder in half precision: safetensors, and ``config.json`` last."""
    part = folder / "stage.part"
    copy.deepcopy(stage).half().save_pretrained(part, safe_serialization=True)
    settings = json.loads((part / "config.json").read_text("utf-8"))
    settings.pop("_name_or_path", None)                 # where it was read from: a path of this machine
    (folder / "config.json").unlink(missing_ok=True)
    for weights in part.glob("*.safetensors"):
        os.replace(weights, folder / weights.name)
    shutil.rmtree(part)
    write_atomic(folder / "config.json", (as_json(settings, 2) + "\n").encode())
    return folder


def load_stage(folder: Path) -> UNet2DModel:
    """A stage that :func:`save_stage` wrote, in float32. Raises UserError where there is none."""
    if not (folder / "config.json").exists():
        raise UserError(f"no upsampling stage in {folder}: 'python -m dslib.study resolution upsample' trains one")
    try:
        stage = UNet2DModel.from_pretrained(folder, use_safetensors=True).float()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder} cannot be opened as a stage ({first_line(error)}): delete it, and it is trained again") from None
    if stage.config.out_channels != 3 * TIMES**2:
        raise UserError(f"{folder} holds a U-Net with {stage.config.out_channels} channels out, no stage: a stage has {3 * TIMES**2}")
    return stage.eval()
