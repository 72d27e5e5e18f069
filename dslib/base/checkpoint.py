"""Checkpoints of a training run: written whole or not at all, and refused if they are another run's (chapter 06)."""

import json
import os
import shutil
import sys
from dataclasses import asdict, fields
from pathlib import Path

import torch
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import UserError, first_line
from .files import within

#: keys that files hold from before the settings were split into the loop's, the objective's and pre-training's
FORMER = {"method", "snr_gamma", "lambda_coarse", "high_noise_weight", "lora_rank", "bank_steps", "random_flip", "lambda_img", "lambda_hf",
          "lambda_hfmse", "lambda_vlb", "pairwise_variant", "pairwise_weighting", "hfmse_weighting", "pairwise_direction",
          "pairwise_temperature", "pairwise_space", "pairwise_t_min", "pairwise_t_max", "detail"}


def save_checkpoint(config, record) -> Path:
    """Write ``checkpoint-<step>/``: weights, averaged weights, Adam's moments, the settings.

    config: the run's :class:`dslib.train.TrainConfig`; record: its :class:`dslib.train.Step`.
    """
    final = Path(config.output_dir) / f"checkpoint-{record.step}"
    part, old = final.with_name(final.name + ".part"), final.with_name(final.name + ".old.part")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    save_weights(record.model, part / "unet")
    save_file({f"shadow.{i}": flat(p) for i, p in enumerate(record.ema.shadow_params)}, part / "ema.safetensors")
    save_file(adam_state(record.optimizer), part / "optimizer.safetensors")
    state = {"step": record.step, "ema_step": record.ema.optimization_step, "config": asdict(config)}
    (part / "state.json").write_text(json.dumps(state, indent=1), "utf-8")
    if final.exists():
        os.replace(final, old)
    os.replace(part, final)
    shutil.rmtree(old, ignore_errors=True)
    others = [folder for folder in checkpoints(config.output_dir) if folder != final]
    for oldest in others[:max(0, len(others) - config.checkpoints_total_limit + 1)]:
        shutil.rmtree(oldest)
    return final


def save_weights(model: torch.nn.Module, folder: Path) -> None:
    """As diffusers does it; several networks under one plain module: their weights alone, in a file of the same name."""
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
        return
    folder.mkdir()
    save_file({name: flat(value) for name, value in model.state_dict().items()}, folder / "diffusion_pytorch_model.safetensors")


def adam_state(optimizer) -> dict[str, Tensor]:
    """Adam's moments under flat names, as a safetensors file wants them."""
    slots = optimizer.state_dict()["state"]
    return {f"{i}.{name}": flat(value) for i, slot in slots.items() for name, value in slot.items()}


def flat(tensor: Tensor) -> Tensor:
    """A copy that safetensors can store."""
    return tensor.detach().cpu().contiguous()


def laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment in its parameter's memory layout (channels last, for one), which fused Adam takes for granted; Adam's step as it is."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def checkpoints(output_dir: str | Path) -> list[Path]:
    """Complete checkpoints in a folder, oldest first."""
    found = [p.parent for p in Path(output_dir).glob("checkpoint-*/state.json")]
    return sorted((p for p in found if p.name.split("-")[1].isdigit()), key=lambda p: int(p.name.split("-")[1]))


def restore(config, model: UNet2DModel, ema: EMAModel, optimizer) -> int:
    """Load a checkpoint (a folder, or ``"latest"`` in output_dir) in place; returns the number of steps done."""
    if config.resume_from_checkpoint == "latest":
        found = checkpoints(config.output_dir)
        if not found:
            print(f"{config.method}: no checkpoint in {config.output_dir}, not begun yet: starting from step 0", file=sys.stderr)
            return 0
        folder = found[-1]
    else:
        folder = within(config.output_dir, config.resume_from_checkpoint)
    if not (folder / "state.json").is_file():
        raise UserError(f"--resume_from_checkpoint {folder} is no complete checkpoint: give a checkpoint-… folder or 'latest'")
    try:
        state = json.loads((folder / "state.json").read_text("utf-8"))
        weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
        shadow, moments = load_file(folder / "ema.safetensors"), load_file(folder / "optimizer.safetensors")
        same_run(folder, state, config)
        slots: dict[int, dict[str, Tensor]] = {}
        parameters = list(model.parameters())
        for key, value in moments.items():
            index, name = key.split(".", 1)
            slots.setdefault(int(index), {})[name] = laid_out_like(parameters[int(index)], value)
        model.load_state_dict(weights)
        ema.shadow_params = [shadow[f"shadow.{i}"].to(p) for i, p in enumerate(ema.shadow_params)]
        ema.optimization_step = state["ema_step"]
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
        return state["step"]
    except (OSError, KeyError, IndexError, TypeError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{folder} cannot be resumed ({type(error).__name__}: {first_line(error)}): it is damaged or of another "
                        "model; resume from an earlier checkpoint") from None


def same_run(folder: Path, state: dict, config) -> None:
    """Refuse another method's checkpoint, and one with later ones beside it; name other settings that differ."""
    saved, mine = (known.get("method", "scratch") for known in (state["config"], asdict(config)))
    if saved != mine:
        raise UserError(f"{folder} was trained with --method {saved}, not {mine}")
    later = [c.name for c in checkpoints(config.output_dir or folder) if int(c.name.split("-")[1]) > state["step"]]
    if later:
        raise UserError(f"{config.output_dir} also holds {later[-1]}, which goes further than {folder.name}: choose another "
                        "--output_dir to branch off, or resume from latest")
    free = ("max_train_steps", "output_dir", "checkpointing_steps", "checkpoints_total_limit", "resume_from_checkpoint")
    now, defaults = asdict(config), {f.name: f.default for f in fields(config)}
    then = defaults | state["config"]
    if then.get("pairwise_t_max") == 1000:                # how "at every step" was written when T was always 1000
        then["pairwise_t_max"] = None
    changed = [k for k, v in now.items() if k not in free and then[k] != v]
    if unknown := [k for k in then if k not in now and k not in FORMER]:
        print(f"{folder} holds settings that this version does not know, left out: {', '.join(unknown)}", file=sys.stderr)
    if changed:
        print(f"resuming {folder} with other settings than it was saved with: {', '.join(changed)}", file=sys.stderr)
