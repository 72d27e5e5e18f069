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
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import UserError, first_line
from .files import as_json, to_disk, within
from .finite import check_weights, first_broken
from .identity import PARTS, other_part

#: keys that files hold from before the settings were split into the loop's, the objective's and pre-training's
FORMER = {"method", "snr_gamma", "lambda_coarse", "high_noise_weight", "lora_rank", "bank_steps", "random_flip", "lambda_img", "lambda_hf",
          "lambda_hfmse", "lambda_vlb", "pairwise_variant", "pairwise_weighting", "hfmse_weighting", "pairwise_direction",
          "pairwise_temperature", "pairwise_space", "pairwise_t_min", "pairwise_t_max", "detail"}

WEIGHTS, AVERAGE, MOMENTS = "unet/diffusion_pytorch_model.safetensors", "ema.safetensors", "optimizer.safetensors"


class Damaged(Exception):
    """A checkpoint whose files are not all there, or not to their end, or hold no numbers."""


def save_checkpoint(config, record) -> Path:
    """Write ``checkpoint-<step>/``: weights, averaged weights, Adam's moments, the settings, what the run was given.

    config: the run's :class:`dslib.train.TrainConfig`; record: its :class:`dslib.train.Step`. Raises UserError, and writes nothing,
    where a weight is NaN or infinite. A damaged checkpoint of the same step is replaced; other damaged ones go, and the oldest whole
    ones beyond ``checkpoints_total_limit``.
    """
    check_weights(record.step, record.model, config)
    final = Path(config.output_dir) / f"checkpoint-{record.step}"
    part, old = final.with_name(final.name + ".part"), final.with_name(final.name + ".old.part")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    save_weights(record.model, part / "unet")
    save_file({f"shadow.{i}": flat(p) for i, p in enumerate(record.ema.shadow_params)}, part / AVERAGE)
    save_file(adam_state(record.optimizer), part / MOMENTS)
    state = {"step": record.step, "ema_step": record.ema.optimization_step, "identity": record.identity or {}, "config": asdict(config)}
    (part / "state.json").write_text(as_json(state), "utf-8")
    for file in (f for f in part.rglob("*") if f.is_file()):
        to_disk(file)
    if final.exists():
        os.replace(final, old)
    os.replace(part, final)
    tidy(final, config.checkpoints_total_limit)
    return final


def tidy(newest: Path, limit: int) -> None:
    """Remove what a killed run left half-written, damaged checkpoints, and the oldest whole ones beyond ``limit``."""
    folders = [folder for folder in newest.parent.glob("checkpoint-*") if folder != newest and folder.is_dir()]
    for leftover in (folder for folder in folders if folder.name.endswith(".part")):
        shutil.rmtree(leftover, ignore_errors=True)
    whole = []
    for folder in sorted((f for f in folders if step_of(f) is not None), key=step_of):
        if fault_of(folder) is None:
            whole.append(folder)
        else:
            shutil.rmtree(folder)
    for oldest in whole[:max(0, len(whole) - limit + 1)]:
        shutil.rmtree(oldest)


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


def step_of(folder: Path) -> int | None:
    """The step in a checkpoint folder's name, None for any other folder."""
    number = folder.name.removeprefix("checkpoint-")
    return int(number) if number != folder.name and number.isdecimal() else None


def checkpoints(output_dir: str | Path) -> list[Path]:
    """Checkpoints in a folder that have a state.json, which is written last; oldest first."""
    found = [p.parent for p in Path(output_dir).glob("checkpoint-*/state.json")]
    return sorted((p for p in found if step_of(p) is not None), key=step_of)


def fault_of(folder: Path) -> str | None:
    """What a look at a checkpoint's files, not at their numbers, finds missing, empty or cut off; None if they are whole."""
    try:
        if not {"step", "ema_step", "config"} <= json.loads((folder / "state.json").read_text("utf-8")).keys():
            return "state.json lacks an entry"
        for name in (WEIGHTS, AVERAGE, MOMENTS):
            if not (folder / name).is_file():
                return f"{name} is missing"
            with safe_open(folder / name, "pt"):
                pass
        return None
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        return first_line(error)


def read(folder: Path) -> tuple[dict, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """(state, weights, averaged weights, Adam's moments) of a checkpoint. Raises :class:`Damaged` with the reason."""
    if fault := fault_of(folder):
        raise Damaged(fault)
    try:
        weights, shadow, moments = (load_file(folder / name) for name in (WEIGHTS, AVERAGE, MOMENTS))
    except (OSError, SafetensorError) as error:
        raise Damaged(first_line(error)) from None
    if name := first_broken(weights) or first_broken(shadow) or first_broken(moments):
        raise Damaged(f"{name} holds NaN or infinity")
    return json.loads((folder / "state.json").read_text("utf-8")), weights, shadow, moments


def put_back(output_dir: Path) -> None:
    """A checkpoint that was being replaced when its process was killed gets its name back; what is half-written goes."""
    for old in output_dir.glob("checkpoint-*.old.part"):
        final = old.with_name(old.name.removesuffix(".old.part"))
        if not final.exists():
            os.replace(old, final)
    for part in output_dir.glob("checkpoint-*.part"):
        shutil.rmtree(part, ignore_errors=True)


def newest_whole(config) -> tuple[Path, tuple] | None:
    """The last checkpoint in ``output_dir`` that can be read, with what it holds; None where there is none at all.

    Says in one line which ones were passed over, and why. Raises UserError if all are damaged.
    """
    put_back(Path(config.output_dir))
    folders = sorted((f for f in Path(config.output_dir).glob("checkpoint-*") if step_of(f) is not None), key=step_of, reverse=True)
    faults = []
    for folder in folders:
        try:
            content = read(folder)
        except Damaged as fault:
            faults.append(f"{folder.name} is damaged ({fault})")
            continue
        if faults:
            print(f"{config.output_dir}: {', '.join(faults)}: resuming from {folder.name}, the last whole one", file=sys.stderr)
        return folder, content
    if faults:
        raise UserError(f"{config.output_dir}: {', '.join(faults)}, and there is no whole checkpoint before: begin anew with "
                        "--overwrite and without --resume_from_checkpoint")
    return None


def restore(config, model: UNet2DModel, ema: EMAModel, optimizer, identity: dict[str, str] | None = None) -> int:
    """Load a checkpoint (a folder, or ``"latest"`` in output_dir) in place; returns the number of steps done, 0 where none is asked for.

    identity: fingerprints of what this run was given. Raises UserError where the checkpoint is another run's, is damaged, or goes
    beyond ``max_train_steps``.
    """
    if not config.resume_from_checkpoint:
        return 0
    if config.resume_from_checkpoint == "latest":
        found = newest_whole(config)
        if found is None:
            what = getattr(config, "method", "training")              # a pre-training has no methods
            print(f"{what}: no checkpoint in {config.output_dir}, not begun yet: starting from step 0", file=sys.stderr)
            return 0
        folder, content = found
    else:
        folder = within(config.output_dir, config.resume_from_checkpoint)
        if not (folder / "state.json").is_file():
            raise UserError(f"--resume_from_checkpoint {folder} is no complete checkpoint: give a checkpoint-… folder or 'latest'")
        try:
            content = read(folder)
        except Damaged as fault:
            raise UserError(f"{folder} is damaged ({fault}): give an earlier checkpoint, or 'latest', which takes the last whole one"
                            ) from None
    same_run(folder, content[0], config, identity or {})
    try:
        return load(model, ema, optimizer, *content)
    except (KeyError, IndexError, TypeError, RuntimeError, ValueError) as error:
        raise UserError(f"{folder} cannot be resumed ({type(error).__name__}: {first_line(error)}): it is of another model") from None


def load(model: UNet2DModel, ema: EMAModel, optimizer, state: dict, weights: dict[str, Tensor], shadow: dict[str, Tensor],
         moments: dict[str, Tensor]) -> int:
    """Put what :func:`read` gave in its place; returns the number of steps done."""
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


def same_run(folder: Path, state: dict, config, identity: dict[str, str]) -> None:
    """Refuse another run's checkpoint, one with later ones beside it and one beyond the end; name other settings that differ."""
    saved, mine = (known.get("method", "scratch") for known in (state["config"], asdict(config)))
    if saved != mine:
        raise UserError(f"{folder} was trained with --method {saved}, not {mine}")
    theirs = state.get("identity") or {}                   # a checkpoint from before there were fingerprints has none
    if part := other_part(identity, theirs):
        raise UserError(f"{PARTS[part]} not those of {folder} (fingerprint {identity[part]}, there {theirs[part]}): give the same ones "
                        "again, or begin a run of its own in another --output_dir")
    if state["step"] > config.max_train_steps:
        raise UserError(f"{folder} has done {state['step']} steps, more than --max_train_steps {config.max_train_steps}: ask for "
                        f"{state['step']} or more, or choose another --output_dir")
    later = [c.name for c in checkpoints(config.output_dir or folder) if step_of(c) > state["step"] and fault_of(c) is None]
    if later and config.resume_from_checkpoint != "latest":
        raise UserError(f"{config.output_dir} also holds {later[-1]}, which goes further than {folder.name}: choose another "
                        "--output_dir to branch off, or resume from latest")
    free = ("max_train_steps", "output_dir", "checkpointing_steps", "checkpointing_seconds", "checkpoints_total_limit",
            "resume_from_checkpoint")
    now, defaults = asdict(config), {f.name: f.default for f in fields(config)}
    then = defaults | state["config"]
    if then.get("pairwise_t_max") == 1000:                # how "at every step" was written when T was always 1000
        then["pairwise_t_max"] = None
    changed = [k for k, v in now.items() if k not in free and then[k] != v]
    if unknown := [k for k in then if k not in now and k not in FORMER]:
        print(f"{folder} holds settings that this version does not know, left out: {', '.join(unknown)}", file=sys.stderr)
    if changed:
        print(f"resuming {folder} with other settings than it was saved with: {', '.join(changed)}", file=sys.stderr)
