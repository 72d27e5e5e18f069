"""Folders that diffusers saves: opened only when they hold safetensors, written whole or not at all."""

import json
import os
import re
import shutil
from pathlib import Path

import torch
from diffusers import UNet2DModel
from diffusers.utils import logging
from safetensors import SafetensorError

from .errors import UserError, first_line
from .files import as_json
from .finite import first_broken
from .progress import quiet
from .sources import UNCONDITIONAL

HUB_EXAMPLES = {"DDPMPipeline": "google/ddpm-celebahq-256", "StableDiffusionPipeline": "CompVis/stable-diffusion-v1-4"}
CONVERT = "save it as safetensors (where you trust it: pipe.save_pretrained(folder) in diffusers writes them)"


def open_pipeline(source: str | Path, pipeline_class: type, parts: tuple[str, ...]):
    """A diffusers pipeline from a folder or a hub id; ``parts`` are the subfolders whose weights must be safetensors."""
    folder, kind, options = Path(source := os.path.expanduser(source)), pipeline_class.__name__, {}
    if folder.is_dir():
        options = {"variant": check_folder(folder, kind, parts)}
    elif folder.exists() or str(source).endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".safetensors")):
        raise UserError(f"{source} is not a pipeline folder: only folders saved by save_pretrained with safetensors are opened")
    elif str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise UserError(f"no folder {source}: give a pipeline folder or a hub id such as {HUB_EXAMPLES[kind]}")
    try:
        with quiet(logging):
            pipe = fetched(pipeline_class, str(source), options)
    except OSError as error:
        if folder.is_dir():
            raise UserError(f"{folder} could not be opened as a {kind}: {first_line(error)}") from None
        if "safetensors" in str(error):
            raise UserError(f"{source} on the model hub has no safetensors weights, and pickles are refused: {CONVERT}") from None
        raise UserError(f"there is no folder {source} here, and '{source}' would have been fetched from the model hub, which failed "
                        f"({first_line(error)}): check the name and the network, or download it elsewhere and give the folder") from None
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{source} could not be opened as a {kind}: {first_line(error)}") from None
    for part in parts:
        if name := first_broken(getattr(pipe, part).named_parameters()):
            raise UserError(f"{source}: the weights of its {part} hold NaN or infinity ({name}): the training that made them failed; take "
                            "an earlier checkpoint, or another copy")
    return pipe


def fetched(pipeline_class: type, source: str, options: dict):
    """from_pretrained with safetensors; of a hub id that holds float16 weights alone, these."""
    try:
        return pipeline_class.from_pretrained(source, use_safetensors=True, **options)
    except OSError as error:
        if options or "no file named" not in str(error):
            raise
        return pipeline_class.from_pretrained(source, use_safetensors=True, variant="fp16")


def variants(place: Path) -> set[str]:
    """The variants of the safetensors weights in a folder: "" for plain ones, "fp16" for ``….fp16.safetensors``; shards are one."""
    stems = (re.sub(r"-\d{5}-of-\d{5}", "", p.name.removesuffix(".safetensors")) for p in place.glob("*.safetensors"))
    return {stem.partition(".")[2] for stem in stems}


def check_folder(folder: Path, wanted: str = "DDPMPipeline", parts: tuple[str, ...] = ("unet",)) -> str | None:
    """A UserError unless the folder looks like a pipeline of the wanted class, every part saved with safetensors.

    Returns the variant to open ("fp16"), None where every part has plain weights.
    """
    if (folder / "gan.safetensors").exists():
        raise UserError(f"{folder} holds a GAN, not a diffusion pipeline: dslib adapt takes it with --method tgan, tgan-diffaug, freezed, "
                        "ewc, cdc or dcl")
    if not (folder / "model_index.json").exists():
        raise UserError(f"{folder} has no model_index.json: it is not a diffusers pipeline (a checkpoint-… folder resumes "
                        "a run, --resume_from_checkpoint)")
    try:
        kind = json.loads((folder / "model_index.json").read_text("utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder}/model_index.json is damaged: save the pipeline again with save_pretrained") from None
    if kind != wanted and not (wanted == UNCONDITIONAL[0] and kind in UNCONDITIONAL):
        other = {"StableDiffusionPipeline": " (dslib adapt-t2i takes it)", "DDPMPipeline": " (dslib adapt takes it)"}.get(kind, "")
        raise UserError(f"{folder} holds a {kind}{other}: a {wanted} is needed here")
    only = set()
    for part in parts:
        places = [folder / part] + [folder] * (len(parts) == 1)     # old hub pipelines keep a single model's weights at the root
        if found := set().union(*map(variants, places)):
            only |= set() if "" in found else {"fp16" if "fp16" in found else min(found)}
            continue
        pickles = [p for place in places for ending in ("bin", "pt", "pth", "ckpt", "pkl") for p in place.glob(f"*.{ending}")]
        if pickles:
            raise UserError(f"{pickles[0]} is a pickle, which can run code when opened: refused, {CONVERT}")
        raise UserError(f"{folder}/{part} holds no .safetensors weights: save the pipeline again with save_pretrained")
    if len(only) > 1:
        raise UserError(f"{folder} holds no plain weights, and its parts are of different variants: {', '.join(sorted(only))}")
    return only.pop() if only else None


def write_pipeline(pipe, folder: Path) -> Path:
    """Save a pipeline; ``model_index.json`` comes last, so that a folder which was being written when the power went is not
    mistaken for a model."""
    part = folder / "pipeline.part"
    shutil.rmtree(part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    pipe.save_pretrained(part, safe_serialization=True)
    for settings in part.rglob("*.json"):           # diffusers adds where a network was read from: a path of this machine
        content = json.loads(settings.read_text("utf-8"))
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            settings.write_text(as_json(content, indent=2) + "\n", "utf-8")
    (folder / "model_index.json").unlink(missing_ok=True)
    for new in [p for p in part.iterdir() if p.is_dir()]:
        shutil.rmtree(folder / new.name, ignore_errors=True)
        os.replace(new, folder / new.name)
    os.replace(part / "model_index.json", folder / "model_index.json")
    shutil.rmtree(part)
    return folder


@torch.no_grad()
def seen_prediction(unet: UNet2DModel, scheduler) -> str | None:
    """Which type a trained U-Net predicts, from two looks at noise; None where it cannot be told.

    Grey under a little noise (ᾱ_t = 0.8): both types find the noise, correlation with ε above a
    half. Pure noise at T − 1: ε is x_t itself (correlation above 0.95), whereas v ≈ −x_0 has
    nothing to do with it (below 0.3). Random weights and the first steps of training give neither.
    unet: C channels in, C or 2C out; its training mode is left as it is.
    """
    size, one = min(unet.config.sample_size, 64), unet.config.in_channels
    where, a_bar, found = next(unet.parameters()).device, scheduler.alphas_cumprod, []
    eps = torch.randn(2, one, size, size, generator=torch.Generator().manual_seed(0))
    training = unet.training
    unet.eval()
    for t in (int((a_bar - 0.8).abs().argmin()), len(a_bar) - 1):
        try:
            output = unet(((1 - a_bar[t]).sqrt() * eps).to(where), t).sample[:, :one].cpu()
        except (RuntimeError, ValueError, TypeError) as error:
            raise UserError(f"the source's U-Net cannot take {size}×{size} pixels ({first_line(error)}): its unet/config.json is wrong "
                            "or of a kind that draws something else") from None
        found.append(float(torch.corrcoef(torch.stack([output.flatten(), eps.flatten()]))[0, 1]))
    unet.train(training)
    if found[0] > 0.5 and found[1] > 0.95:
        return "epsilon"
    return "v_prediction" if found[0] > 0.5 and found[1] < 0.3 else None
