"""``dslib leaks``: can somebody who has the weights tell which pictures a model was trained on?"""

from pathlib import Path

from ..base.errors import UserError
from .options import add_images, check_output_file, training_images


def cmd_leaks(args) -> None:
    from .. import models
    from ..base.files import write_json
    from ..measure import membership
    check_output_file(args.output, args.overwrite)
    if gan_folder(args.pipeline):
        raise UserError(f"{args.pipeline} is a GAN, which denoises nothing: dslib leaks asks diffusion models")
    pipe = models.load_source(args.pipeline)
    config = pipe.unet.config
    members, domain, used = training_images(args, config.sample_size, config.in_channels)
    strangers, unseen = unseen_images(args, domain, config.sample_size, config.in_channels)
    images = check_apart(members, strangers, args)
    errors = membership.denoising_errors(pipe.unet, pipe.scheduler, images, args.steps_t, args.noises, args.seed)
    rows = [{"t": t, "auc": membership.auc(line[:len(members)], line[len(members):]),
             "caught": membership.caught(line[:len(members)], line[len(members):], args.false_alarms)}
            for t, line in zip(args.steps_t, errors)]
    print(f"| t | AUC | found at {args.false_alarms:.1%} false alarms |\n|---|---|---|")
    print("\n".join(f"| {row['t']} | {row['auc']:.3f} | {row['caught']:.0%} |" for row in rows))
    chance = membership.chance(len(members), len(strangers))
    print(f"\n{len(members)} pictures asked about, {len(strangers)} strangers; guessing gives AUC 0.5 ± {chance:.2f} (one standard "
          f"error), and finds {args.false_alarms:.1%}")
    if args.output:
        write_json(Path(args.output), {"rows": rows, "chance": chance, "false_alarms": args.false_alarms, "noises": args.noises,
                                       "seed": args.seed, "asked_about": used, "strangers": unseen})


def gan_folder(folder: str) -> bool:
    """Whether a folder holds a GAN."""
    from ..gan.folder import is_gan
    return is_gan(Path(folder))


def unseen_images(args, domain: str | None, size: int, channels: int):
    """(pictures of the same kind that the model has not seen, what they are in words)."""
    from .. import data
    if args.unseen_data_dir is not None:
        folder = data.ImageFolder(args.unseen_data_dir, size, at_least=1, recursive=args.recursive)
        return data.in_channels(folder.images, channels), folder.summary
    if domain is None:
        raise UserError("--train_data_dir needs --unseen_data_dir too: pictures of the same kind that the model was not trained on, "
                        "a hundred or more")
    images = data.load_domain(domain, "test", args.num_unseen, size).images
    return data.in_channels(images, channels), f"{len(images)} held-out images of the drawn domain {domain}"


def check_apart(members, strangers, args):
    """Both as one batch. Raises UserError where a stranger is among the pictures asked about, or where they are too few to be told."""
    import torch

    from ..measure import membership
    membership.check_share(args.false_alarms, len(strangers))
    if any((strangers == one).flatten(1).all(1).any() for one in members):
        raise UserError("a picture is in both folders: whoever was trained on is no stranger, take it out of --unseen_data_dir")
    return torch.cat([members, strangers])


def add_commands(command) -> None:
    """leaks; command(name, function, text, options) makes a parser."""
    command("leaks", cmd_leaks, "Tell the pictures that a model was trained on from others, by its weights: what you give away with them.",
            leaks_options)


def leaks_options(leaks) -> None:
    leaks.add_argument("pipeline", help="run folder or hub id of a diffusion model")
    add_images(leaks)
    leaks.add_argument("--unseen_data_dir", help="pictures of the same kind that it was not trained on; a --target has its own")
    leaks.add_argument("--num_unseen", type=int, default=200, help="how many of a target's held-out images are asked about")
    leaks.add_argument("--steps_t", type=int, nargs="+", default=[50, 200, 400, 600], help="noise levels at which it is asked")
    leaks.add_argument("--noises", type=int, default=4, help="draws of noise a picture and level")
    leaks.add_argument("--false_alarms", type=float, default=0.01, help="share of strangers that may be accused")
    leaks.add_argument("--seed", type=int, default=0, help="of the noise")
    leaks.add_argument("--output", help="a JSON file for the numbers")
    leaks.add_argument("--overwrite", action="store_true", help="replace --output if it is there")
