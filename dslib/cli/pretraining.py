"""``dslib pretrain``: a source model from drawn avatars, saved and graded (chapter 02)."""

import os
from dataclasses import asdict
from pathlib import Path

from ..base.device import main_process
from ..base.errors import UserError
from . import tracking
from .options import OR_RESUME, add_config, check_apart, config_from, prepare_output
from .watch import watch

#: what ε needs so that colours are learned, and v does not (chapter 02)
REPAIRS = {True: {"lambda_coarse": 0.25, "high_noise_weight": 10.0, "norm_num_groups": 2},
           False: {"lambda_coarse": 0.0, "high_noise_weight": 1.0, "norm_num_groups": 8}}


def cmd_pretrain(args) -> None:
    import torch

    from .. import data, models, pretrain
    for name, value in REPAIRS[args.prediction_type == "epsilon"].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    config = config_from(args, pretrain.PretrainConfig)
    if args.num_images < 1 or args.num_graded < 2:
        raise UserError(f"--num_images {args.num_images} --num_graded {args.num_graded}: use at least 1 and 2")
    if args.resolution % 8 or args.resolution < 32:
        raise UserError(f"--resolution is {args.resolution}: it must be a multiple of 8 and at least 32")
    check_apart(args, Path(args.output_dir))
    start = start_of(args.source, config.prediction_type, args.resolution) if args.source else None
    folder = prepare_output(Path(args.output_dir), args.overwrite, args.resume_from_checkpoint, OR_RESUME)
    pixels, _ = data.draw_domain(data.SOURCE, "train", args.num_images, args.resolution, workers=os.cpu_count() or 1)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    torch.manual_seed(args.seed)
    model, scheduler = start or (models.new_unet(args.resolution, tuple(args.channels), norm_num_groups=args.norm_num_groups),
                                 models.new_scheduler(config.prediction_type))
    record, _ = watch(pretrain.pretrain(images, config, model, scheduler.alphas_cumprod), config, "pretrain",
                      folder / "log.csv", config.train_batch_size, report_to=args.report_to)
    if not main_process():
        return
    models.save_pipeline(record.averaged(), scheduler, folder, half=True)
    settings = asdict(config) | {"num_images": args.num_images, "resolution": args.resolution}
    grade_source(folder, {"step": record.step, "identity": record.identity, "config": settings}, args.num_graded, args.source)


def start_of(source: str, prediction_type: str, resolution: int):
    """(U-Net, scheduler) of the source that pre-training goes on from, or a UserError if it is not what the options say."""
    from .. import models
    pipe = models.load_source(source)
    said, unet = pipe.scheduler.config.prediction_type, pipe.unet.config
    if said != prediction_type:
        raise UserError(f"--source {source} predicts {said}: add --prediction_type {said}")
    if unet.sample_size != resolution:
        raise UserError(f"--source {source} draws {unet.sample_size} pixels a side: add --resolution {unet.sample_size}")
    if (unet.in_channels, unet.out_channels) != (3, 3):
        raise UserError(f"--source {source} turns {unet.in_channels} channels into {unet.out_channels}: pre-training needs 3 and 3, "
                        "a colour source without a learned variance")
    return pipe.unet, pipe.scheduler


def grade_source(folder: Path, done: dict, n: int = 400, source: str | None = None) -> None:
    """Draw n samples with the saved source, write a grid of 64, the Fréchet ratio against real avatars and the model card.

    done: step, identity, config; source: the pipeline that the training began from, if any."""
    from .. import data, metrics, models, sample
    from ..base.files import write_atomic, write_json
    from ..show import card, plots
    pipe = models.load_source(folder)
    size = pipe.unet.config.sample_size
    steps = min(20, len(pipe.scheduler.alphas_cumprod))
    images = sample.sample(pipe.unet, pipe.scheduler, sample.start_noise(n, size, 0), steps, progress="sampling")
    tracking.show(images, done["step"])
    write_atomic(folder / "samples.png", plots.to_png(plots.grid(images[:64], 16), 100))
    real = data.load_domain(data.SOURCE, "test", 2 * n, size).images
    facts = {"frechet_ratio": metrics.frechet_ratio(images, real), "num_samples": n, "scheduler": "ddim",
             "num_inference_steps": steps, "backbone": "st-alex"} | done
    write_json(folder / "metrics.json", facts)
    card.pretrained(folder, "diffusion", facts, source)
    print(f"Fréchet ratio {facts['frechet_ratio']:.2f} ({n} samples, st-alex; 1 = as good as real): {folder}")


def add_commands(command) -> None:
    """pretrain; command(name, function, text, options) makes a parser."""
    command("pretrain", cmd_pretrain, "Train the source model from random weights on drawn avatars.", pretrain_options)


def pretrain_options(pretrain) -> None:
    from ..pretrain import PretrainConfig
    pretrain.add_argument("--num_images", type=int, default=24000, help="avatars to draw")
    pretrain.add_argument("--resolution", type=int, default=64, help="pixels a side")
    pretrain.add_argument("--channels", type=int, nargs="+", default=[16, 32, 64, 128], help="of the U-Net's levels, finest first")
    pretrain.add_argument("--norm_num_groups", type=int, help="of every group norm; default: 2 for epsilon, 8 for v_prediction")
    pretrain.add_argument("--source", help="start from this pipeline's weights instead of random ones")
    pretrain.add_argument("--num_graded", type=int, default=400, help="samples for the Fréchet ratio at the end")
    pretrain.add_argument("--overwrite", action="store_true", help="replace what is in --output_dir")
    add_config(pretrain, PretrainConfig, skip=("bank_steps",), max_train_steps=7000, train_batch_size=32, learning_rate=1e-3,
               lr_warmup_steps=200, lr_decay_steps=2500,
               adam_beta2=0.99, ema_max_decay=0.998, random_flip=True, snr_gamma=5.0, lambda_coarse=None, high_noise_weight=None,
               checkpointing_steps=250, output_dir="runs/source")
    tracking.add_tracking(pretrain)
