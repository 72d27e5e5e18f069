"""The commands of the GANs: ``dslib pretrain-gan``, and ``dslib adapt --method tgan …`` with its kin."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from ..base.device import main_process
from ..base.errors import UserError
from .options import OR_RESUME, add_config, config_from, prepare_output
from .watch import watch


def cmd_pretrain_gan(args) -> None:
    """Draw faces, train, save, grade."""
    import torch

    from .. import data
    from ..gan import folder as folders
    from ..gan import pretrain
    config = config_from(args, pretrain.PretrainGAN)
    if args.num_images < 1 or args.num_graded < 2:
        raise UserError(f"--num_images {args.num_images} --num_graded {args.num_graded}: use at least 1 and 2")
    pair = folders.new_pair(args.resolution, tuple(args.channels), args.latent, args.seed)
    output = prepare_output(Path(args.output_dir), args.overwrite, args.resume_from_checkpoint, OR_RESUME)
    pixels, _ = data.draw_domain(data.SOURCE, "train", args.num_images, args.resolution, workers=os.cpu_count() or 1)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    stream = pretrain.pretrain(images, config, pair)
    record, _ = watch(stream, config, "pretrain-gan", output / "log.csv", config.train_batch_size, ("discriminator", "diversity"))
    if not main_process():
        return
    folders.save_gan(record.averaged(), output)
    grade(output, asdict(config) | {"num_images": args.num_images, "resolution": args.resolution}, args.num_graded)


def grade(folder: Path, settings: dict, n: int) -> None:
    """Draw n samples with the saved GAN, write a grid of 64 and the Fréchet ratio against real avatars; say so if it has collapsed."""
    from .. import data, metrics
    from ..base.files import write_atomic
    from ..gan import draw
    from ..gan.folder import load_gan
    from ..show import plots
    generator = load_gan(folder).generator
    images = draw.draw(generator, draw.latents(n, generator.latent))
    write_atomic(folder / "samples.png", plots.to_png(plots.grid(images[:64], 16), 150))
    real = data.load_domain(data.SOURCE, "test", 2 * n, generator.resolution).images
    collapsed = draw.collapse(images, real)
    facts = {"frechet_ratio": metrics.frechet_ratio(images, real), "diversity": float(draw.diversity(images)),
             "diversity_real": float(draw.diversity(real)), "collapsed": collapsed, "num_samples": n, "backbone": "st-alex", "config": settings}
    write_atomic(folder / "metrics.json", json.dumps(facts, indent=1).encode())
    print(f"Fréchet ratio {facts['frechet_ratio']:.2f} ({n} samples, st-alex; 1 = as good as real): {folder}")
    if collapsed:
        raise UserError(f"the generator in {folder} has collapsed, {collapsed}: resume an earlier checkpoint with a lower --learning_rate, "
                        "or train it again with another --seed")


def add_commands(command) -> None:
    """pretrain-gan; command(name, function, text) makes a parser."""
    from ..gan.loop import UNUSED
    from ..gan.networks import CHANNELS, LATENT
    from ..gan.pretrain import PretrainGAN
    parser = command("pretrain-gan", cmd_pretrain_gan, "Train the source GAN from random weights on drawn avatars.")
    parser.add_argument("--num_images", type=int, default=24000, help="avatars to draw")
    parser.add_argument("--resolution", type=int, default=64, help="pixels a side: 4·2^(number of channels − 1)")
    parser.add_argument("--channels", type=int, nargs="+", default=list(CHANNELS), help="of the maps of 4, 8, 16 … pixels")
    parser.add_argument("--latent", type=int, default=LATENT, help="length of a latent z")
    parser.add_argument("--num_graded", type=int, default=400, help="samples for the Fréchet ratio at the end")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in --output_dir")
    add_config(parser, PretrainGAN, skip=UNUSED, output_dir="runs/gan")
