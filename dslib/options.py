"""The options of the command line, what ``--help`` says about them, and what is checked before work begins."""

import argparse
import shutil
from dataclasses import fields
from pathlib import Path

from .env import UserError, main_process

EXAMPLES = {
    "adapt": "dslib adapt --target sketches --max_train_steps 300\n"
             "  dslib adapt --train_data_dir my_ten_photos --output_dir runs/mine --compare_finetune",
    "sample": "dslib sample runs/sketches-domainstudio --num_images 16 --scheduler ddpm --num_inference_steps 50",
    "evaluate": "dslib evaluate runs/sketches-domainstudio --target sketches",
    "fidelity": "dslib fidelity runs/mine/samples my_held_out_images\n"
                "  dslib fidelity runs/mine/samples my_held_out_images --feature_extractor inception-v3-compat",
    "domains": "dslib domains --output domains.png\n  dslib domains --write_real runs/real --target sunglasses --num_images 300",
    "pretrain": "dslib pretrain --output_dir runs/source",
    "adapt-t2i": "dslib adapt-t2i --target portraits --compare\n"
                 "  dslib adapt-t2i --train_data_dir my_ten_photos --instance_prompt 'a face in sks style' --output_dir runs/mine-t2i",
    "pretrain-t2i": "dslib pretrain-t2i --stage vae --output_dir runs/t2i-vae\n"
                    "  dslib pretrain-t2i --stage unet --vae runs/t2i-vae/vae --output_dir runs/t2i",
    "table": "dslib table runs/*/metrics.json --output table.csv",
    "env": "dslib env",
}

HELP = {
    "method": "scratch, finetune or domainstudio", "max_train_steps": "optimiser steps",
    "train_batch_size": "images a step; capped at the number of images", "learning_rate": "AdamW's step size",
    "lr_warmup_steps": "steps of linear warm-up", "lr_decay_steps": "last steps over which the rate falls to zero",
    "lambda_img": "weight of the pairwise similarity loss (λ2)", "lambda_hf": "weight of its high-frequency twin (λ3)",
    "lambda_hfmse": "weight of high-frequency reconstruction (λ4)",
    "lambda_vlb": "weight of the variational bound (λ1), for a source that predicts its variance",
    "pairwise_variant": "paper, or authors: reversed KL, mean, three images",
    "pairwise_weighting": "sqrt_alphas_cumprod: steps near T pull no harder than the others; or none as published",
    "hfmse_weighting": "alphas_cumprod, or none as published", "adam_beta1": "AdamW", "adam_beta2": "AdamW",
    "pairwise_direction": "of KL: ada||sou (paper) or sou||ada", "pairwise_temperature": "of the softmax over the other images",
    "pairwise_space": "what λ2's term compares: pixels, centred (without the mean image) or features",
    "pairwise_t_min": "first step t at which the pairwise terms pull", "pairwise_t_max": "they pull below this step",
    "detail": "what λ3's and λ4's terms look at: haar, stacked, haar_level_2, db2, or pixels (the control)",
    "lora_rank": "train matrices of this rank beside the attention's (LoRA) instead of the whole U-Net; 0: the whole U-Net",
    "bank_steps": "draw the same noise again after so many steps; 0: never",
    "adam_weight_decay": "AdamW", "max_grad_norm": "gradients are clipped to this norm",
    "ema_max_decay": "averaging of the weights, reached after a warm-up", "ema_power": "speed of that warm-up",
    "random_flip": "mirror images at random", "snr_gamma": "min-SNR-γ weighting of the loss",
    "lambda_coarse": "weight of the error's coarse scales, which hold the colours",
    "high_noise_weight": "how many times more the steps near T count", "mixed_precision": "no, fp16 or bf16",
    "seed": "fixes everything drawn at random", "output_dir": "where everything is written",
    "checkpointing_steps": "save a checkpoint every so many steps; 0: only on Ctrl-C",
    "checkpoints_total_limit": "how many checkpoints to keep",
    "resume_from_checkpoint": "a checkpoint folder, or latest",
}


def add_config(parser: argparse.ArgumentParser, skip: tuple[str, ...] = (), helps: dict[str, str] | None = None, **defaults) -> None:
    """One option a field of TrainConfig, under the same name, with the same default and help unless given here."""
    helps = HELP | (helps or {})
    from .train import TrainConfig
    for f in fields(TrainConfig):
        if f.name in skip:
            continue
        default = defaults.get(f.name, f.default)
        if isinstance(f.default, bool):
            parser.add_argument(f"--{f.name}", action=argparse.BooleanOptionalAction, default=default, help=helps[f.name])
        else:
            kind = type(f.default) if f.default is not None else float if f.name == "snr_gamma" else str
            parser.add_argument(f"--{f.name}", type=kind, default=default, help=helps[f.name])


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults shown, examples left as typed."""


def add_images(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--target", help="a drawn domain: sunglasses, sketches, portraits, adventurers or robots")
    group.add_argument("--train_data_dir", help="a folder with your own images, about ten")
    parser.add_argument("--recursive", action="store_true", help="read the subfolders of folders of images, too")


def add_sampling(parser: argparse.ArgumentParser, n: int) -> None:
    parser.add_argument("--num_images", type=int, default=n, help="images to draw")
    parser.add_argument("--scheduler", default="dpmsolver", help="ddpm, ddim or dpmsolver")
    parser.add_argument("--num_inference_steps", type=int, default=20, help="denoising steps an image")


def add_backbone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="st-alex", help="features for the metrics: st-alex, st-vgg, alex or vgg")


# ------------------------------------------------------------------- what is checked before work begins

def config_from(args: argparse.Namespace, **changes):
    """The TrainConfig that the options describe, checked."""
    from .train import TrainConfig
    given = {f.name: getattr(args, f.name) for f in fields(TrainConfig) if hasattr(args, f.name)}
    return TrainConfig(**(given | changes)).check()


CHECKPOINTS = ("checkpoint-*/state.json", "finetune/checkpoint-*/state.json")
GO_ON = ", or --resume_from_checkpoint latest to go on"


def prepare_output(folder: Path, overwrite: bool, resume: str | None = None, mend: str = "", option: str = "--output_dir",
                   run: bool = True) -> Path:
    """Make the output folder, or refuse: existing content is only replaced when that was asked for.

    A run that resumes may go on in a folder that holds its own checkpoints; mend: what else the reader could do. run: whether a run
    will be written, whose forerunner's checkpoints go; pictures leave such a run alone.
    """
    if not main_process():
        return folder
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{option} {folder} is a file: name a folder")
    try:
        ours = resume and any(next(folder.glob(pattern), None) for pattern in CHECKPOINTS)
        if folder.is_dir() and any(folder.iterdir()) and not (overwrite or ours):
            none, mend = (" and holds no checkpoint to resume", "") if resume else ("", mend)
            raise UserError(f"{folder} is not empty{none}: choose another {option} or add --overwrite to replace what is in it{mend}")
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".write-test.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{option} {folder} cannot be written ({error.strerror}): choose another folder") from None
    if run and overwrite and not resume:
        for pattern in CHECKPOINTS:
            for old in folder.glob(pattern):
                shutil.rmtree(old.parent)
        for name in ("model_index.json", "finetune/model_index.json", "log.csv"):
            (folder / name).unlink(missing_ok=True)
    return folder


def check_output_file(path: str | None, overwrite: bool) -> None:
    """Find out now, not after the work, that a result file may not or cannot be written."""
    if path is None:
        return
    if Path(path).exists() and not overwrite:
        raise UserError(f"{path} exists: choose another --output or add --overwrite")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {path} cannot be written ({error.strerror}: {error.filename}): choose another place") from None


def training_images(args, resolution: int):
    """(images, domain name or None) from --target or --train_data_dir."""
    from . import data
    if args.target is not None:
        if data.check_domain(args.target) not in data.TARGETS:
            role = "the source" if args.target == data.SOURCE else "no target"
            raise UserError(f"{args.target} is {role} domain: choose one of {', '.join(data.TARGETS)}")
        return data.load_domain(args.target, "ten", None, resolution).images, args.target
    least = 1 if getattr(args, "method", "finetune") != "domainstudio" else 2
    return data.ImageFolder(args.train_data_dir, resolution, at_least=least, recursive=getattr(args, "recursive", False)).images, None


def check_drawing(args, scheduler, least: int, size: int = 64) -> None:
    """Find a wrong sampling option or an unavailable backbone before hours are spent, not after."""
    from . import metrics, sample
    sample.sampler(scheduler, args.scheduler, args.num_inference_steps)
    if args.num_images < least:
        raise UserError(f"--num_images is {args.num_images}: it must be at least {least}")
    if hasattr(args, "backbone") and size < metrics.SMALLEST:
        raise UserError(f"images of {size} pixels are too small for the metrics' networks: at least {metrics.SMALLEST} are needed "
                        "(a source's sample_size, or --resolution for a folder of samples)")
    if hasattr(args, "backbone"):
        metrics.load_backbone(args.backbone)
