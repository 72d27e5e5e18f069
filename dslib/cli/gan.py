"""The GANs on the command line: ``dslib pretrain-gan``, and what ``adapt``, ``sample`` and ``evaluate`` do with one."""

import os
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..base.errors import UserError, shown
from . import hub, tracking
from .options import OR_RESUME, add_config, check_apart, check_drawing, config_from, prepare_output, training_images
from .results import write_scores
from .watch import watch

if TYPE_CHECKING:                # whoever asks for help does not wait for torch
    from torch import Tensor

COLLAPSED = "{} (collapsed)"     # how tables call such a model
OF_DIFFUSION = ("scheduler", "num_inference_steps", "source_until", "lambda_patch")


def is_method(word: str) -> bool:
    """Whether ``--method`` adapts a GAN."""
    from ..gan.adapt import METHODS
    return word in METHODS


def is_folder(folder: str | Path) -> bool:
    """Whether a folder holds a GAN."""
    from ..gan.folder import is_gan
    return is_gan(folder)


def defaults() -> dict[str, dict]:
    """Each GAN's method's settings, where they are the defaults: what ``dslib table`` leaves out when it compares runs."""
    from ..gan.adapt import METHODS, GANConfig
    return {method: {f.name: f.default for f in fields(GANConfig)} | {"method": None} for method in METHODS}


def refuse(args, names, why: str) -> None:
    """A UserError for the first of these options that was given another value than its default."""
    for name in names:
        if getattr(args, name, None) != args.parser.get_default(name):
            raise UserError(f"--{name} {why}: leave it out")


def only(config: type, other: type) -> list[str]:
    """The options of a config class that another has not."""
    return [f.name for f in fields(config) if f.name not in {f.name for f in fields(other)}]


def check_options(args) -> None:
    """Refuse what was asked for but belongs to the other kind of source."""
    from ..gan.adapt import GANConfig
    from ..gan.loop import UNUSED
    from ..train import TrainConfig
    if is_method(args.method):
        refuse(args, (*only(TrainConfig, GANConfig), *UNUSED, *OF_DIFFUSION), f"is of diffusion models, not of {args.method}")
    else:
        refuse(args, only(GANConfig, TrainConfig), f"is of GANs, not of {args.method}")


def add_options(parser, of_gan: bool) -> None:
    """``--method`` and what only GANs have; of_gan: the options they share with diffusion models get a GAN's defaults, too."""
    from ..gan.adapt import METHODS, GANConfig
    from ..train import METHODS as OTHERS
    from ..train import TrainConfig
    shared = {f.name: f.default for f in fields(GANConfig) if f.name != "method"}
    differs = ", ".join(f"{f.name} {shared[f.name]}" for f in fields(TrainConfig) if shared.get(f.name, f.default) != f.default)
    words = f"of a diffusion model: {', '.join(OTHERS)}; of a GAN: {', '.join(METHODS)}"
    parser.add_argument("--method", default="domainstudio", help=words)
    group = parser.add_argument_group("with a GAN's --method", f"Other defaults there: {differs}.")
    add_config(group, GANConfig, skip=tuple(f.name for f in fields(TrainConfig)))
    if of_gan:
        parser.set_defaults(**{name: default for name, default in shared.items() if name in {f.name for f in fields(TrainConfig)}})


def adapt(args) -> None:
    """``dslib adapt`` with a GAN's method."""
    from .. import models
    from ..gan import adapt as methods
    from ..gan.folder import load_gan, save_gan
    config = config_from(args, methods.GANConfig, output_dir=args.output_dir or "runs")
    if args.compare_finetune and args.resume_from_checkpoint not in (None, "latest"):
        raise UserError("--compare_finetune trains two models: resume them with --resume_from_checkpoint latest, not from one checkpoint")
    source = load_gan(args.source)
    check_drawing(args, models.new_scheduler(), 2, source.resolution)
    images, domain, used = training_images(args, source.resolution)
    name = domain or Path(args.train_data_dir).resolve().name
    output = Path(args.output_dir or f"runs/{name}-{args.method}")
    check_apart(args, output)
    config = methods.fitted(source, images, replace(config, output_dir=str(output)))
    prepare_output(output, args.overwrite, args.resume_from_checkpoint, OR_RESUME)
    pairs, histories = {"source": source}, {}
    for method in (["tgan"] if args.compare_finetune and config.method != "tgan" else []) + [config.method]:
        folder = output if method == config.method else output / method
        mine = config_from(args, methods.GANConfig, method=method, output_dir=str(folder), train_batch_size=config.train_batch_size)
        record, histories[method] = watch(methods.adapt(source, images, mine), mine, method, report_to=args.report_to)
        pairs[method] = record.averaged()
        save_gan(pairs[method], folder)
    try:
        done = {"step": record.step, "identity": record.identity, "training_images": used, "config": asdict(config)}
        write_results(args, pairs, histories, images, domain, shown(name), output, done)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f" while drawing; the trained model is in {output}: 'dslib sample {output}' draws with it") from None
    hub.push(args, output)


def write_results(args, pairs, histories, images, domain, name, output, done) -> None:
    """Draw the same latents with every pair, score them, and write the report; a generator that has collapsed is called so everywhere."""
    from ..gan import draw
    generator = pairs["source"].generator
    z = draw.latents(args.num_images, generator.latent, args.seed)
    drawn = {key: draw.draw(pair.generator, z) for key, pair in pairs.items()}
    tracking.show(drawn[args.method], done["step"])
    collapsed = {key: why for key in histories if (why := collapse(key, drawn[key], drawn["source"], "the source"))}
    samples = {COLLAPSED.format(key) if key in collapsed else key: one for key, one in drawn.items()}
    drawing = {"resolution": generator.resolution, "scheduler": "gan", "num_inference_steps": 1, "collapsed": collapsed,
               "diversity": {key: float(draw.diversity(one)) for key, one in samples.items()}}
    write_scores(args, samples, histories, images, domain, name, output, done, drawing,
                 "".join(f" {key} has collapsed: {why}." for key, why in collapsed.items()))
    print(f"GAN:      {output}  (dslib sample draws with it)")


def collapse(name: str, images: "Tensor", others: "Tensor", whose: str) -> str | None:
    """As :func:`dslib.gan.draw.collapse`; says it on stderr, too, with the mend."""
    from ..gan import draw
    if why := draw.collapse(images, others, whose):
        print(f"{name} has collapsed, {why}: try fewer --max_train_steps or a lower --learning_rate", file=sys.stderr)
    return why


def drawn(args, folder: str | Path, least: int) -> "Tensor":
    """--num_images images of the GAN in a folder, from the latents of --seed. Raises UserError for options of diffusion models."""
    from .. import models
    from ..gan import draw
    from ..gan.folder import load_gan
    refuse(args, (name for name in OF_DIFFUSION if hasattr(args, name)), f"is of diffusion models, {folder} holds a GAN")
    generator = load_gan(folder).generator
    check_drawing(args, models.new_scheduler(), least, generator.resolution)
    return draw.draw(generator, draw.latents(args.num_images, generator.latent, args.seed))


def sample(args) -> None:
    """``dslib sample`` of a GAN."""
    from .. import data
    from ..base.files import write_atomic
    from ..show import plots
    folder = Path(args.output_dir or Path(args.pipeline) / "samples")
    check_apart(args, folder)
    images = drawn(args, args.pipeline, 1)
    prepare_output(folder, args.overwrite, run=False)
    data.write_images(folder, images, f"dslib {__version__}")
    write_atomic(folder / "grid.png", plots.to_png(plots.grid(images), 75))
    print(f"{args.num_images} images and grid.png in {folder}")


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
    record, _ = watch(stream, config, "pretrain-gan", output / "log.csv", config.train_batch_size, ("discriminator", "diversity"),
                      args.report_to)
    folders.save_gan(record.averaged(), output)
    settings = asdict(config) | {"num_images": args.num_images, "resolution": args.resolution}
    grade(output, {"step": record.step, "identity": record.identity, "config": settings}, args.num_graded)


def grade(folder: Path, done: dict, n: int) -> None:
    """Draw n samples with the saved GAN, write a grid of 64 and the Fréchet ratio against real avatars; say so if it has collapsed.

    done: step, identity, config."""
    from .. import data, metrics
    from ..base.files import write_atomic, write_json
    from ..gan import draw
    from ..gan.folder import load_gan
    from ..show import card, plots
    generator = load_gan(folder).generator
    images = draw.draw(generator, draw.latents(n, generator.latent))
    tracking.show(images, done["step"])
    write_atomic(folder / "samples.png", plots.to_png(plots.grid(images[:64], 16), 100))
    real = data.load_domain(data.SOURCE, "test", 2 * n, generator.resolution).images
    collapsed = draw.collapse(images, real, "real avatars")
    facts = {"frechet_ratio": metrics.frechet_ratio(images, real), "diversity": float(draw.diversity(images)),
             "diversity_real": float(draw.diversity(real)), "collapsed": collapsed, "num_samples": n, "backbone": "st-alex"} | done
    write_json(folder / "metrics.json", facts)
    card.pretrained(folder, "gan", facts)
    print(f"Fréchet ratio {facts['frechet_ratio']:.2f} ({n} samples, st-alex; 1 = as good as real): {folder}")
    if collapsed:
        raise UserError(f"the generator in {folder} has collapsed, {collapsed}: resume an earlier checkpoint with a lower --learning_rate, "
                        "or train it again with another --seed")


def add_commands(command) -> None:
    """pretrain-gan; command(name, function, text, options) makes a parser."""
    command("pretrain-gan", cmd_pretrain_gan, "Train the source GAN from random weights on drawn avatars.", pretrain_options)


def pretrain_options(parser) -> None:
    from ..gan.loop import UNUSED
    from ..gan.networks import CHANNELS, LATENT
    from ..gan.pretrain import PretrainGAN
    parser.add_argument("--num_images", type=int, default=24000, help="avatars to draw")
    parser.add_argument("--resolution", type=int, default=64, help="pixels a side: 4·2^(number of channels − 1)")
    parser.add_argument("--channels", type=int, nargs="+", default=list(CHANNELS), help="of the maps of 4, 8, 16 … pixels")
    parser.add_argument("--latent", type=int, default=LATENT, help="length of a latent z")
    parser.add_argument("--num_graded", type=int, default=400, help="samples for the Fréchet ratio at the end")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in --output_dir")
    add_config(parser, PretrainGAN, skip=UNUSED, output_dir="runs/gan")
    tracking.add_tracking(parser)
