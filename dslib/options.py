"""The options of the command line, and what ``--help`` says about them."""

import argparse
from dataclasses import fields

EXAMPLES = {
    "adapt": "dslib adapt --target sketches --max_train_steps 300\n"
             "  dslib adapt --train_data_dir my_ten_photos --output_dir runs/mine --compare_finetune",
    "sample": "dslib sample runs/sketches-domainstudio --num_images 16 --scheduler ddpm --num_inference_steps 50",
    "evaluate": "dslib evaluate runs/sketches-domainstudio --target sketches",
    "domains": "dslib domains --output domains.png",
    "pretrain": "dslib pretrain --output_dir runs/source",
    "pretrain-t2i": "dslib pretrain-t2i --stage vae --output_dir runs/t2i-vae\n"
                    "  dslib pretrain-t2i --stage unet --vae runs/t2i-vae/vae --output_dir runs/t2i",
    "table": "dslib table runs/results/*/metrics.json --output table.csv",
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


def add_config(parser: argparse.ArgumentParser, skip: tuple[str, ...] = (), **defaults) -> None:
    """One option a field of TrainConfig, under the same name and with the same default unless given here."""
    from .train import TrainConfig
    for f in fields(TrainConfig):
        if f.name in skip:
            continue
        default = defaults.get(f.name, f.default)
        if isinstance(f.default, bool):
            parser.add_argument(f"--{f.name}", action=argparse.BooleanOptionalAction, default=default, help=HELP[f.name])
        else:
            kind = type(f.default) if f.default is not None else float if f.name == "snr_gamma" else str
            parser.add_argument(f"--{f.name}", type=kind, default=default, help=HELP[f.name])


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults shown, examples left as typed."""


def add_images(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--target", help="a drawn domain: sunglasses, sketches, portraits, adventurers or robots")
    group.add_argument("--train_data_dir", help="a folder with your own images, about ten")


def add_sampling(parser: argparse.ArgumentParser, n: int) -> None:
    parser.add_argument("--num_images", type=int, default=n, help="images to draw")
    parser.add_argument("--scheduler", default="dpmsolver", help="ddpm, ddim or dpmsolver")
    parser.add_argument("--num_inference_steps", type=int, default=20, help="denoising steps an image")


def add_backbone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="st-alex", help="features for the metrics: st-alex, st-vgg, alex or vgg")
