"""The command line: ``dslib adapt``, ``sample``, ``evaluate``, ``fidelity``, ``domains`` …; for text t2i.py, for GANs gan.py."""

import argparse
import csv
import io
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from .. import __version__
from ..base.device import main_process
from ..base.errors import UserError, run, shown
from ..base.locks import release
from . import exporting, gan, hub, leaking, pretraining, pretraining_t2i, t2i, tracking
from .options import (
    EXAMPLES,
    OR_RESUME,
    HelpFormatter,
    Parser,
    add_backbone,
    add_config,
    add_images,
    add_sampling,
    check_apart,
    check_drawing,
    check_output_file,
    config_from,
    expand_home,
    prepare_output,
    training_images,
)
from .results import write_scores
from .watch import watch


def cmd_adapt(args) -> None:
    from .. import models, sample, train
    check_method(args)
    if gan.is_method(args.method):
        gan.adapt(args)
        return
    check_patch(args, config_from(args, train.TrainConfig, output_dir=args.output_dir or "runs"))
    if args.compare_finetune and args.resume_from_checkpoint not in (None, "latest"):
        raise UserError("--compare_finetune trains two models: resume them with --resume_from_checkpoint latest, not from one checkpoint")
    source = models.load_source(args.source)
    check_drawing(args, source.scheduler, 2, source.unet.config.sample_size)
    sample.check_source(source.unet, source.scheduler, source, args.source_until)
    images, domain, used = training_images(args, source.unet.config.sample_size, source.unet.config.in_channels)
    name = domain or Path(args.train_data_dir).resolve().name
    output = Path(args.output_dir or f"runs/{name}-{args.method}")
    check_apart(args, output)
    config = config_from(args, train.TrainConfig, output_dir=str(output))
    prepare_output(output, args.overwrite, args.resume_from_checkpoint, OR_RESUME)
    methods = [config.method]
    if args.compare_finetune and config.method != "finetune":
        methods.insert(0, "finetune")
    unets, histories = {"source": source.unet}, {}
    for method in methods:
        folder = output if method == config.method else output / method
        weight = args.lambda_patch if method == config.method else 0.0            # the baseline stays what it is
        this = replace(config, method=method, output_dir=str(folder))
        record, histories[method] = adapt_one(source, images, this, args.report_to, weight)
        unets[method] = record.averaged()
        if main_process():
            models.save_pipeline(unets[method], source.scheduler, folder)
    if main_process():
        try:
            done = {"step": record.step, "identity": record.identity, "training_images": used,
                    "config": asdict(config) | ({"lambda_patch": args.lambda_patch} if args.lambda_patch else {})}
            write_results(args, source, unets, histories, images, domain, shown(name), output, done)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f" while drawing; the trained model is in {output}: 'dslib sample {output}' draws with it") from None
        hub.push(args, output)


def check_method(args) -> None:
    """Say where a method of text-to-image sources belongs, and which option is another kind of method's, before any work."""
    from ..gan.adapt import METHODS as OF_GANS
    from ..text import text_to_image
    from ..train import METHODS
    known = ", ".join((*METHODS, *OF_GANS))
    if args.method not in (*METHODS, *OF_GANS) and args.method in text_to_image.METHODS:
        raise UserError(f"--method is {args.method!r}, which adapts text-to-image models: use one of {known}, or dslib adapt-t2i")
    if args.method not in (*METHODS, *OF_GANS):
        raise UserError(f"--method is {args.method!r}: use one of {', '.join(METHODS)}, or of {', '.join(OF_GANS)} with a GAN as --source")
    gan.check_options(args)


def check_patch(args, config) -> None:
    """Refuse, before any work, what a critic of patches does not stand."""
    from ..beyond import patch
    if args.lambda_patch:
        patch.check(config, {"--lambda_patch": args.lambda_patch})


def adapt_one(source, images, config, report_to: str | None = None, lambda_patch: float = 0.0):
    """Train one method, with a critic of patches beside its objective where that has a weight; returns (last Step, history)."""
    from .. import train
    from ..beyond import patch
    start = partial(patch.start, lambda_patch=lambda_patch) if lambda_patch else None
    return watch(train.adapt(source, images, config, start=start), config, config.method, report_to=report_to)


def write_results(args, source, unets, histories, images, domain, name, output, done) -> None:
    """Sample every model from the same noise, score, and write the report. done: the run's step, identity, images in words, config."""
    from .. import sample
    size, channels = source.unet.config.sample_size, source.unet.config.in_channels
    noise = sample.start_noise(args.num_images, size, args.seed, channels)
    drawing = (args.num_inference_steps, args.scheduler)
    samples = {key: sample.sample(unet, source.scheduler, noise, *drawing, progress=f"sampling {key}") for key, unet in unets.items()}
    tracking.show(samples[args.method], done["step"])
    if args.source_until is not None:
        for key in histories:
            name_until = f"{key}, source until {args.source_until}"
            samples[name_until] = sample.sample(unets[key], source.scheduler, noise, *drawing, progress=f"sampling {name_until}",
                                                source=source, source_until=args.source_until)
    write_scores(args, samples, histories, images, domain, name, output, done,
                 {"resolution": size, "scheduler": args.scheduler, "num_inference_steps": args.num_inference_steps})
    print(f"Pipeline: {output}  (DDPMPipeline.from_pretrained opens it)")


def cmd_sample(args) -> None:
    from .. import data, models, sample
    from ..base.files import write_atomic
    from ..show import plots
    if gan.is_folder(args.pipeline):
        gan.sample(args)
        return
    pipe = models.load_source(args.pipeline)
    check_drawing(args, pipe.scheduler, least=1)
    first = None if args.source_until is None else models.load_source(args.source)
    sample.check_source(pipe.unet, pipe.scheduler, first, args.source_until)
    local = Path(args.pipeline)
    folder = Path(args.output_dir or (local / "samples" if local.is_dir() else Path("runs") / local.name / "samples"))
    check_apart(args, folder)
    prepare_output(folder, args.overwrite, run=False)
    noise = sample.start_noise(args.num_images, pipe.unet.config.sample_size, args.seed, pipe.unet.config.in_channels)
    drawing = (args.num_inference_steps, args.scheduler, args.seed)
    images = sample.sample(pipe.unet, pipe.scheduler, noise, *drawing, progress="sampling", source=first, source_until=args.source_until)
    data.write_images(folder, images, f"dslib {__version__}")
    write_atomic(folder / "grid.png", plots.to_png(plots.grid(images), 75))
    print(f"{args.num_images} images and grid.png in {folder}")


def cmd_evaluate(args) -> None:
    from .. import data, models, sample
    from ..measure.score import score_all, text_table, write_metrics
    check_output_file(args.output, args.overwrite)
    folder, facts, channels = Path(args.samples), {}, 3
    if gan.is_folder(folder):
        images = gan.drawn(args, folder, 2)
        size = images.shape[-1]
    elif (folder / "model_index.json").exists() or not folder.is_dir():
        pipe = models.load_source(args.samples)
        check_drawing(args, pipe.scheduler, 2, pipe.unet.config.sample_size)
        size, channels = pipe.unet.config.sample_size, pipe.unet.config.in_channels
        noise = sample.start_noise(args.num_images, size, args.seed, channels)
        images = sample.sample(pipe.unet, pipe.scheduler, noise, args.num_inference_steps, args.scheduler, progress="sampling")
    else:
        size = args.resolution
        check_drawing(args, models.new_scheduler(), 2, size)
        found = data.ImageFolder(folder, size, at_least=2, skip=("grid.png",), recursive=args.recursive)
        images, facts = found.images[:args.num_images], {"sample_images": found.summary}
    targets, domain, facts["training_images"] = training_images(args, size, channels)
    name = shown(folder.name)
    if gan.is_folder(folder) and (why := gan.collapse(name, images, targets, "the training images")):
        name, facts["collapsed"] = gan.COLLAPSED.format(name), why
    scores = score_all({name: images}, targets, domain, args.backbone)
    print(text_table(scores))
    print(f"\nbackbone {args.backbone}, {size}×{size} pixels, {len(images)} images, seed {args.seed}")
    if args.output:
        write_metrics(Path(args.output), scores, {"backbone": args.backbone, "resolution": size, "seed": args.seed} | facts)


def cmd_fidelity(args) -> None:
    from ..base.files import write_json
    from ..measure import fidelity
    check_output_file(args.output, args.overwrite)
    samples, real = fidelity.read_pair(args.samples, args.real, args.resolution, args.recursive)
    found = fidelity.fidelity(samples, real, args.feature_extractor)
    for name, value in found.items():
        print(f"{name:<12} {value:.6g}")
    size = f"{args.resolution}×{args.resolution} pixels"
    print(f"\n{len(samples)} samples, {len(real)} real images, {size}, {args.feature_extractor}, torch-fidelity")
    if args.output:
        facts = {"feature_extractor": args.feature_extractor, "resolution": args.resolution, "samples": len(samples), "real": len(real)}
        write_json(Path(args.output), facts | found)


def cmd_domains(args) -> None:
    from .. import data
    from ..base.files import write_atomic
    from ..show import plots
    if args.write_real:
        if args.target is None:
            raise UserError("--write_real needs --target, the domain to draw")
        images = data.load_domain(args.target, "test", args.num_images).images
        prepare_output(Path(args.write_real), args.overwrite, option="--write_real", run=False)
        data.write_images(Path(args.write_real), images)
        print(f"{len(images)} held-out images of {args.target} are in {args.write_real}")
        return
    if args.write_ten:
        from ..base import drawing
        drawing.write_ten(Path(args.write_ten), data.TARGETS + data.TWINS, data.SHOTS)
        print(f"the {data.SHOTS} training images of every target domain are in {args.write_ten}")
        return
    check_output_file(args.output, args.overwrite)
    named = {data.SOURCE: data.load_domain(data.SOURCE, "test", 10).images}
    named |= {name: data.load_domain(name, "ten").images for name in data.TARGETS + data.TWINS}
    write_atomic(Path(args.output), plots.to_png(plots.rows(named), 75))
    print(f"{args.output}: {', '.join(named)}")


def cmd_table(args) -> None:
    from ..base.files import write_atomic
    from ..study import grading, tables
    check_output_file(args.output, args.overwrite)
    missing = [path for path in args.metrics if not Path(path).is_file()]
    if missing:
        raise UserError(f"no file {missing[0]}: give the metrics.json files that dslib adapt wrote")
    table = tables.collate([Path(path) for path in args.metrics], gan.defaults())
    if args.pool:
        table = tables.pool(table, tables.load_table(args.pool))
    print(tables.collated_text(table))
    if args.check:
        faults = grading.check_table(tables.load_table(args.check), table, args.least_seeds)
        print("".join(f"\n✗ {line}" for line in faults) or f"\n✓ {args.check}: {len(table)} rows, as the {len(args.metrics)} runs say")
        if faults:
            raise UserError(f"{args.check}: {len(faults)} findings, the first: {faults[0]}")
    if args.output:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in table for name in row)))
        writer.writeheader()
        writer.writerows(table)
        write_atomic(Path(args.output), text.getvalue().encode())


def cmd_env(args) -> None:
    from ..env import versions
    print("\n".join(f"{name:<20} {value}" for name, value in versions().items()))


#: help of --source_until
UNTIL = "{} the steps above this t are the source's, as the authors' code can do (ledger row 15)"


def build_parser(of_gan: bool = False) -> argparse.ArgumentParser:
    """Every command; its options come when it is asked for. of_gan: the defaults of ``adapt`` are those of a GAN's methods."""
    parser = Parser(prog="dslib", description="Adapt a diffusion model to about ten images (DomainStudio, arXiv 2306.14153).",
                    epilog="dslib COMMAND --help shows every option and an example.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function, text: str, options=None) -> None:
        sub = commands.add_parser(name, help=text, description=text, epilog=f"example:\n  {EXAMPLES[name]}",
                                  usage=f"dslib {name} …    (dslib {name} --help lists every option)", formatter_class=HelpFormatter)
        sub.set_defaults(function=function, parser=sub)
        sub.options = options

    command("adapt", cmd_adapt, "Fine-tune a source model on about ten images and write pipeline, pictures and report.",
            partial(adapt_options, of_gan=of_gan))
    command("sample", cmd_sample, "Draw images with a saved pipeline, or a GAN.", sample_options)
    command("evaluate", cmd_evaluate, "Score a pipeline, a GAN or a folder of samples, against training images.", evaluate_options)
    command("fidelity", cmd_fidelity, "Compare two folders of images by torch-fidelity: FID and KID with Inception, or the same "
            "statistics on features that need no download.", fidelity_options)
    command("domains", cmd_domains, "Write a contact sheet of all domains, or a domain's held-out images.", domains_options)
    for wing in (pretraining, gan, t2i, pretraining_t2i, exporting, leaking):
        wing.add_commands(command)
    command("table", cmd_table, "Collate the metrics.json of many runs: mean and spread over seeds.", table_options)
    command("env", cmd_env, "Show versions, device and what is missing.")
    return parser


def adapt_options(adapt, of_gan: bool = False) -> None:
    from ..train import TrainConfig
    add_images(adapt)
    adapt.add_argument("--source", help="pipeline folder or hub id, or the folder of a GAN; default: the shipped avatar model")
    adapt.add_argument("--compare_finetune", action="store_true", help="also train the naive baseline and put both in the report")
    adapt.add_argument("--overwrite", action="store_true", help="replace what is in --output_dir")
    add_config(adapt, TrainConfig, skip=("lr_warmup_steps", "method"))
    adapt.add_argument("--lambda_patch", type=float, default=0.0, help="weight of a critic of patches beside the objective, for detail "
                       "(an extension, chapter 14); tried: 0.05; 0: none")
    tracking.add_tracking(adapt)
    hub.add_pushing(adapt)
    gan.add_options(adapt, of_gan)
    add_sampling(adapt, 64)
    adapt.add_argument("--source_until", type=int, help=UNTIL.format("also draw rows in which"))
    add_backbone(adapt)


def sample_options(draw) -> None:
    draw.add_argument("pipeline", help="pipeline folder or hub id, or the folder of a GAN")
    draw.add_argument("--output_dir", help="default: samples/ inside the pipeline folder")
    draw.add_argument("--seed", type=int, default=0, help="start noise")
    draw.add_argument("--overwrite", action="store_true", help="replace what is in --output_dir")
    add_sampling(draw, 16)
    draw.add_argument("--source", help="of --source_until: the source that the pipeline was adapted from; default: the shipped one")
    draw.add_argument("--source_until", type=int, help=UNTIL.format("draw so that"))


def evaluate_options(evaluate) -> None:
    evaluate.add_argument("samples", help="pipeline folder, hub id, or folder of images")
    add_images(evaluate)
    evaluate.add_argument("--seed", type=int, default=0, help="start noise")
    evaluate.add_argument("--resolution", type=int, default=64, help="size at which a folder of images is read")
    evaluate.add_argument("--output", help="also write the scores to this JSON file")
    evaluate.add_argument("--overwrite", action="store_true", help="replace --output if it exists")
    add_sampling(evaluate, 200)
    add_backbone(evaluate)


def fidelity_options(fid) -> None:
    fid.add_argument("samples", help="folder of drawn images (grid.png is left out)")
    fid.add_argument("real", help="folder of real images")
    fid.add_argument("--recursive", action="store_true", help="read the subfolders, too")
    fid.add_argument("--feature_extractor", default="st-alex", help="st-alex, st-vgg, alex, vgg or inception-v3-compat")
    fid.add_argument("--resolution", type=int, default=64, help="size at which both folders are read")
    fid.add_argument("--output", help="also write the numbers to this JSON file")
    fid.add_argument("--overwrite", action="store_true", help="replace --output if it exists")


def domains_options(domains) -> None:
    domains.add_argument("--output", default="domains.png", help="the picture to write")
    domains.add_argument("--overwrite", action="store_true", help="replace what is there")
    domains.add_argument("--write_real", metavar="DIR", help="instead: write held-out images of --target into DIR")
    domains.add_argument("--target", help="of --write_real: a drawn domain")
    domains.add_argument("--num_images", type=int, default=300, help="of --write_real")
    domains.add_argument("--write_ten", metavar="DIR", help="instead: draw the committed training images again into DIR")


def table_options(table) -> None:
    table.add_argument("metrics", nargs="+", help="metrics.json files")
    table.add_argument("--output", help="also write the table to this CSV file")
    table.add_argument("--overwrite", action="store_true", help="replace --output if it exists")
    table.add_argument("--pool", help="a CSV file of this command: count its seeds in, whose metrics.json are not at hand")
    table.add_argument("--check", help="compare this CSV file with the runs: four rows a domain, enough seeds, the runs' own numbers")
    table.add_argument("--least_seeds", type=int, default=3, help="seeds that --check asks for")


def main(argv: list[str] | None = None) -> int:
    """Run a command; a mistake of the reader's ends in one line and exit code 2."""
    def command() -> None:
        args = build_parser().parse_args(argv)
        if args.function is cmd_adapt and gan.is_method(args.method):
            args = build_parser(of_gan=True).parse_args(argv)
        expand_home(args)
        tracking.check(args)
        hub.check(args)
        args.function(args)
    try:
        return run(command, "dslib")
    finally:
        tracking.finish()
        release()
