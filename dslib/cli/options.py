"""The options of the command line, what ``--help`` says about them, and what is checked before work begins."""

import argparse
import os
import shutil
import sys
from dataclasses import fields
from pathlib import Path

from ..base.device import main_process
from ..base.errors import UserError
from ..base.files import check_output_file  # noqa: F401  (for the commands)
from ..base.locks import FILES, lock_folder, release

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
    "pretrain-gan": "dslib pretrain-gan --output_dir runs/gan",
    "pretrain-t2i": "dslib pretrain-t2i --stage vae --output_dir runs/t2i-vae\n"
                    "  dslib pretrain-t2i --stage unet --vae runs/t2i-vae/vae --output_dir runs/t2i",
    "table": "dslib table runs/*/metrics.json --output table.csv",
    "export": "dslib export runs/mine --output_dir web\n"
              "  dslib export data/source runs/demo/finetune runs/demo --output_dir web --overwrite",
    "leaks": "dslib leaks data/adapted/naive --target engraved\n"
             "  dslib leaks runs/mine --train_data_dir my_ten_images --unseen_data_dir my_other_images",
    "env": "dslib env",
}


def add_config(parser: argparse.ArgumentParser, config: type, skip: tuple[str, ...] = (), **defaults) -> None:
    """One option a field of a config class, under the same name, with its own help, and its default unless given here."""
    for f in fields(config):
        if f.name in skip:
            continue
        default, about = defaults.get(f.name, f.default), f.metadata["help"]
        if f.metadata["kind"] is bool:
            parser.add_argument(f"--{f.name}", action=argparse.BooleanOptionalAction, default=default, help=about)
        else:
            parser.add_argument(f"--{f.name}", type=f.metadata["kind"], default=default, help=about)


class Parser(argparse.ArgumentParser):
    """A parser whose options come when it is asked for: a command's need its config class, and that torch and diffusers.

    Help that is longer than a pipe's buffer, into a closed pipe, ends like any other output there; argparse keeps silent about it.
    """
    options = None          # a function that adds them to a parser

    def parse_known_args(self, args=None, namespace=None):
        self.fill()
        return super().parse_known_args(args, namespace)

    def fill(self) -> None:
        """Add the options, once."""
        if self.options is not None:
            add, self.options = self.options, None
            add(self)

    def _print_message(self, message, file=None):
        if message and (file := file or sys.stderr) is not None:
            file.write(message)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults shown, examples left as typed."""


def add_images(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    from ..base import avatars
    group.add_argument("--target", help=f"a drawn domain: {', '.join(avatars.targets())}")
    group.add_argument("--train_data_dir", help="a folder with your own images, about ten")
    parser.add_argument("--recursive", action="store_true", help="read the subfolders of folders of images, too")


def add_sampling(parser: argparse.ArgumentParser, n: int) -> None:
    parser.add_argument("--num_images", type=int, default=n, help="images to draw")
    parser.add_argument("--scheduler", default="dpmsolver", help="ddpm, ddim or dpmsolver")
    parser.add_argument("--num_inference_steps", type=int, default=20, help="denoising steps an image")


def add_backbone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="st-alex", help="features for the metrics: st-alex, st-vgg, alex or vgg")


# ------------------------------------------------------------------- what is checked before work begins

def config_from(args: argparse.Namespace, config: type, **changes):
    """The config of a class that the options describe, checked."""
    given = {f.name: getattr(args, f.name) for f in fields(config) if hasattr(args, f.name)}
    return config(**(given | changes)).check()


CHECKPOINTS = ("checkpoint-*/state.json", "finetune/checkpoint-*/state.json", "tgan/checkpoint-*/state.json")
RESULTS = ("model_index.json", "gan.safetensors")      # the sign of a run that came to its end
OR_RESUME = ", or --resume_from_checkpoint latest to go on"


def prepare_output(folder: Path, overwrite: bool, resume: str | None = None, mend: str = "", option: str = "--output_dir",
                   run: bool = True) -> Path:
    """Make the output folder and lock it for this run, or refuse: existing content is only replaced when that was asked for.

    A run that resumes may go on in a folder that holds its own checkpoints, or in which it was killed before the first. mend: what else
    the reader could do. run: whether a run will be written, whose forerunner's checkpoints go; pictures leave such a run alone.
    """
    if not main_process():
        return folder
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{option} {folder} is a file: name a folder")
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".write-test.part"
        probe.touch()
        probe.unlink()
        killed = run and lock_folder(folder, option) and not any((folder / name).exists() for name in RESULTS)
        ours = resume and (killed or any(next(folder.glob(pattern), None) for pattern in CHECKPOINTS))
        if not (overwrite or ours) and any(entry.name not in FILES for entry in folder.iterdir()):
            release(mark=killed)
            none, mend = (" and holds no checkpoint to resume", "") if resume else ("", mend)
            raise UserError(f"{folder} is not empty{none}: choose another {option} or add --overwrite to replace what is in it{mend}")
    except OSError as error:
        raise UserError(f"{option} {folder} cannot be written ({error.strerror}): choose another folder") from None
    if run and overwrite and not resume:
        for pattern in CHECKPOINTS:
            for old in folder.glob(pattern):
                shutil.rmtree(old.parent)
        for name in (*RESULTS, "finetune/model_index.json", "tgan/gan.safetensors", "log.csv"):
            (folder / name).unlink(missing_ok=True)
    return folder


INPUTS = ("train_data_dir", "unseen_data_dir", "subject_data_dir", "source", "pipeline", "vae")


def check_apart(args, output: Path) -> None:
    """A UserError where results would be written over what they are made from, or among the pictures that the next run reads."""
    for name in INPUTS:
        given = getattr(args, name, None)
        if not given or not os.path.exists(given):          # a hub id is nowhere here
            continue
        there, here = os.path.realpath(given), os.path.realpath(output)
        option = f"the {name}" if name == "pipeline" else f"--{name}"
        if here == there:
            raise UserError(f"--output_dir {output} is {option} itself: choose another folder, so that nothing is written over")
        if name.endswith("data_dir") and getattr(args, "recursive", False) and here.startswith(os.path.join(there, "")):
            raise UserError(f"--output_dir {output} lies in {option}, which --recursive reads: choose a folder outside it")


def expand_home(args) -> None:
    """``~/`` at the beginning of an option is the home folder, also where the shell leaves it (``--output_dir=~/x``)."""
    for name, value in vars(args).items():
        if isinstance(value, str) and (value == "~" or value.startswith("~/")):
            setattr(args, name, os.path.expanduser(value))


def training_images(args, resolution: int, channels: int = 3):
    """(images (n,channels,R,R), domain name or None, what was used and left out, in words) from --target or --train_data_dir."""
    from .. import data
    if args.target is not None:
        if data.check_domain(args.target) not in data.TARGETS + data.TWINS:
            role = "the source" if args.target == data.SOURCE else "no target"
            raise UserError(f"{args.target} is {role} domain: choose one of {', '.join(data.TARGETS + data.TWINS)}")
        images = data.load_domain(args.target, "ten", None, resolution).images
        return data.in_channels(images, channels), args.target, f"{len(images)} images of the drawn domain {args.target}"
    least = 1 if getattr(args, "method", "finetune") != "domainstudio" else 2
    folder = data.ImageFolder(args.train_data_dir, resolution, at_least=least, recursive=getattr(args, "recursive", False))
    return data.in_channels(folder.images, channels), None, folder.summary


def check_drawing(args, scheduler, least: int, size: int = 64) -> None:
    """Find a wrong sampling option or an unavailable backbone before hours are spent, not after."""
    from .. import metrics, sample
    sample.sampler(scheduler, args.scheduler, args.num_inference_steps)
    if args.num_images < least:
        raise UserError(f"--num_images is {args.num_images}: it must be at least {least}")
    if hasattr(args, "backbone") and size < metrics.SMALLEST:
        raise UserError(f"images of {size} pixels are too small for the metrics' networks: at least {metrics.SMALLEST} are needed "
                        "(a source's sample_size, or --resolution for a folder of samples)")
    if hasattr(args, "backbone"):
        metrics.load_backbone(args.backbone)
