"""A GAN in a folder: ``gan.safetensors`` with both players and ``config.json`` with their sizes."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ..base.device import device
from ..base.errors import UserError, first_line
from ..base.files import as_json, data_dir, write_atomic
from .networks import CHANNELS, LATENT, Pair

WEIGHTS = "gan.safetensors"
PICKLES = (".pkl", ".pt", ".pth", ".bin", ".ckpt")


def is_gan(folder: str | Path) -> bool:
    """Whether a folder holds a GAN of ours."""
    return (Path(folder) / WEIGHTS).is_file()


def save_gan(pair: Pair, folder: str | Path, half: bool = True) -> Path:
    """Write both players, in float16 unless asked otherwise; what a method trained beside them is left out."""
    folder, kind = Path(folder), torch.float16 if half else torch.float32
    weights = {name: value.detach().cpu().to(kind).contiguous() for name, value in pair.state_dict().items()
               if name.startswith(("generator.", "discriminator."))}
    (folder / "config.json").unlink(missing_ok=True)            # comes last: a folder that was being written is no GAN
    write_atomic(folder / WEIGHTS, save(weights))
    config = {"_class_name": "GAN", **pair.config, "resolution": pair.resolution}
    write_atomic(folder / "config.json", (as_json(config) + "\n").encode())
    return folder


def load_gan(source: str | Path | None = None) -> Pair:
    """A pair in float32 on the device at hand, ready to draw: the shipped one (None), or a folder that :func:`save_gan` wrote.

    Raises UserError with the mend for anything else; pickles are refused, they can run code when opened.
    """
    folder = data_dir() / "gan" if source is None else Path(source)
    if source is None and not is_gan(folder):
        raise UserError(f"no source GAN in {folder}: make one with 'dslib pretrain-gan --output_dir {folder}', or give --source")
    check_folder(folder)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        sizes = [config["latent"], *config["channels"]]
        if config["_class_name"] != "GAN" or not all(type(one) is int and 0 < one <= 2048 for one in sizes):
            raise ValueError(f"sizes {sizes}")
        pair = Pair(config["latent"], tuple(config["channels"]))
        weights = load((folder / WEIGHTS).read_bytes())
        pair.load_state_dict(weights)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} could not be opened as a GAN ({type(error).__name__}: {first_line(error)}): it is damaged, "
                        "train or copy it again") from None
    if not all(value.isfinite().all() for value in weights.values()):
        raise UserError(f"{folder / WEIGHTS} holds NaN or infinity: it comes from a training that failed, train it again")
    return pair.requires_grad_(False).eval().to(device())


def check_folder(folder: Path) -> None:
    """A UserError unless the folder looks like one of ours; of what it is instead, if that can be told."""
    if folder.suffix in PICKLES:
        raise UserError(f"{folder} is a pickle, which can run code when opened: refused, only folders with {WEIGHTS} are opened")
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give a folder that 'dslib pretrain-gan' wrote")
    if (index := folder / "model_index.json").is_file():
        mend = "dslib adapt-t2i" if "StableDiffusion" in index.read_text("utf-8", "replace") else "--method finetune or domainstudio"
        raise UserError(f"{folder} holds a diffusion pipeline, not a GAN: use {mend}, or give a folder that 'dslib pretrain-gan' wrote")
    if not is_gan(folder):
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        if pickles:
            raise UserError(f"{folder / pickles[0]} is a pickle, which can run code when opened: refused, only {WEIGHTS} is opened")
        raise UserError(f"{folder} holds no {WEIGHTS}: give a folder that 'dslib pretrain-gan' wrote (a checkpoint-… folder resumes a run, "
                        "--resume_from_checkpoint)")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json: it was not written to its end, train or copy it again")


def new_pair(resolution: int, channels: tuple[int, ...] = CHANNELS, latent: int = LATENT, seed: int = 0) -> Pair:
    """Random weights. Raises UserError where resolution is not 4·2^(levels − 1)."""
    pair = Pair(latent, channels, seed)
    if pair.resolution != resolution:
        raise UserError(f"--resolution {resolution} and {len(channels)} --channels do not fit: these draw {pair.resolution} pixels")
    return pair
