"""``dslib pretrain-t2i``: the text-to-image source, stage by stage: an autoencoder, a U-Net with words, and their grades (chapter 09)."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from ..base.device import main_process
from ..base.errors import UserError
from . import tracking
from .options import OR_RESUME, add_config, check_apart, check_output_file, config_from, prepare_output
from .pretraining import REPAIRS
from .watch import watch


def cmd_pretrain_t2i(args) -> None:
    from ..text import pretrain_t2i
    for name, value in pretrain_t2i.STAGES[args.stage].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in ("lambda_coarse", "high_noise_weight"):
        if getattr(args, name) is None:
            setattr(args, name, REPAIRS[args.prediction_type == "epsilon"][name])
    if args.stage == "grade":
        if Path(args.output_dir).is_dir():
            check_output_file(str(Path(args.output_dir) / "metrics.json"), args.overwrite)
        grade_t2i(Path(args.output_dir), args)
        return
    if args.resolution % 16 or args.resolution < 32:
        raise UserError(f"--resolution is {args.resolution}: it must be a multiple of 16 and at least 32")
    least = {"num_images": 1, "num_others": 0, "latent_channels": 1, "num_styled": 0, "num_graded": 2, "wordings": 1}
    for name, least_value in least.items():
        if getattr(args, name) < least_value:
            raise UserError(f"--{name} is {getattr(args, name)}: use at least {least_value}")
    if not 0 <= args.screened <= 1:
        raise UserError(f"--screened is {args.screened}: use a share from 0 to 1")
    if not 0 <= args.empty_captions < 1:
        raise UserError(f"--empty_captions is {args.empty_captions}: use a share from 0 to below 1")
    if args.stage == "unet" and not args.vae:
        raise UserError("--stage unet needs --vae, the folder that '--stage vae' wrote (…/vae)")
    from ..pretrain import PretrainConfig
    config = config_from(args, PretrainConfig)
    (pretrain_vae if args.stage == "vae" else pretrain_unet)(args, config)


def pretrain_vae(args, config) -> None:
    """Stage one: draw many styles, train the autoencoder, write ``vae/``, reconstructions.png and metrics.json."""
    import torch

    from ..base.files import write_atomic, write_json
    from ..show import plots
    from ..text import grading_t2i, latent, pretrain_t2i
    check_apart(args, Path(args.output_dir))
    folder = prepare_output(Path(args.output_dir), args.overwrite, args.resume_from_checkpoint, OR_RESUME)
    drawn = pretrain_t2i.vae_pixels(args.num_images, args.num_others, args.resolution, os.cpu_count() or 1)
    pixels = pretrain_t2i.screened(drawn, args.screened, args.seed)
    torch.manual_seed(args.seed)
    new = latent.new_vae(args.resolution, latent_channels=args.latent_channels)
    if args.source:
        pretrain_t2i.go_on_from([latent.load_vae(args.source)], [new], args.source)
    stream = pretrain_t2i.train_vae(pixels, config, new)
    record, _ = watch(stream, config, "vae", folder / "log.csv", config.train_batch_size, report_to=args.report_to)
    if not main_process():
        return
    vae = record.averaged().vae
    pretrain_t2i.set_scale(vae, drawn[:2000])
    vae = latent.load_vae(latent.save_vae(vae, folder / "vae"))
    write_atomic(folder / "reconstructions.png", plots.to_png(plots.rows(grading_t2i.reconstructions(vae, args.resolution)), 75))
    facts = {"scaling_factor": vae.config.scaling_factor, "mean_absolute_error": grading_t2i.reconstruction_errors(vae, args.resolution),
             "words_kept": {style: {name: kept._asdict() for name, kept in things.items()}
                            for style, things in grading_t2i.words_kept(vae, args.resolution, args.num_graded).items()},
             "step": record.step, "identity": record.identity,
             "config": asdict(config) | {"num_images": args.num_images, "num_others": args.num_others, "resolution": args.resolution,
                                         "latent_channels": args.latent_channels, "screened": args.screened,
                                         "source": args.source}}
    write_json(folder / "metrics.json", facts)
    print(f"autoencoder in {folder / 'vae'}; mean absolute error {facts['mean_absolute_error']}")
    print("read from real pictures → from decoded ones:")
    for style, things in facts["words_kept"].items():
        print(f"{style:<12}", "  ".join(f"{name} {kept['real']:.0%} → {kept['decoded']:.0%}" for name, kept in things.items()))


def pretrain_unet(args, config) -> None:
    """Stage two: encode all faces once, train text encoder and U-Net on latents and captions, write the pipeline, grade it."""
    import torch

    from ..base import identity
    from ..text import captions, latent, pretrain_t2i
    vae, first = latent.load_vae(args.vae), latent.load_pipeline(args.source) if args.source else None
    if first and (said := first.scheduler.config.prediction_type) != config.prediction_type:
        raise UserError(f"--source {args.source} predicts {said}: add --prediction_type {said}")
    check_apart(args, Path(args.output_dir))
    folder = prepare_output(Path(args.output_dir), args.overwrite, args.resume_from_checkpoint, OR_RESUME)
    pixels, labels, styles = pretrain_t2i.captioned_pixels(args.num_images, args.num_styled, args.resolution, os.cpu_count() or 1)
    latents = latent.encode(vae, pixels, progress="encoding")
    tokenizer = captions.new_tokenizer()
    ids = captions.training_ids(tokenizer, labels, args.wordings, args.empty_captions, args.seed, styles)
    torch.manual_seed(args.seed)
    text_encoder, scheduler = latent.new_text_encoder(tokenizer), latent.new_scheduler(config.prediction_type)
    unet = latent.new_unet(latents.shape[-1], latent_channels=latents.shape[1])
    if first:
        pretrain_t2i.go_on_from([first.text_encoder, first.unet], [text_encoder, unet], args.source)
    given = identity.of_run(pixels, scheduler.alphas_cumprod, vae)
    stream = pretrain_t2i.train_unet(latents, ids, config, text_encoder, unet, scheduler.alphas_cumprod, given)
    record, _ = watch(stream, config, "unet", folder / "log.csv", config.train_batch_size, report_to=args.report_to)
    if not main_process():
        return
    trained = record.averaged()
    latent.lengthen_rare_words(trained.text_encoder, tokenizer)
    latent.save_pipeline(latent.assemble(vae, trained.text_encoder, tokenizer, trained.unet, scheduler), folder, half=True)
    settings = asdict(config) | {name: getattr(args, name) for name in
                                 ("num_images", "num_styled", "source", "wordings", "empty_captions", "resolution")}
    grade_t2i(folder, args, {"step": record.step, "identity": record.identity, "config": settings})


def grade_t2i(folder: Path, args, done: dict | None = None) -> None:
    """Write prompts.png and metrics.json for the pipeline in a folder: does it draw what captions say? done: step, identity and config
    of its training, by default what metrics.json says of them."""
    from ..base.files import write_atomic, write_json
    from ..show import plots
    from ..text import grading_t2i, latent
    pipe, given = latent.load_pipeline(folder), {"guidance_scale": args.guidance_scale, "num_inference_steps": args.num_inference_steps}
    sheet = dict(zip(grading_t2i.PROMPTS, latent.sheet(pipe, grading_t2i.PROMPTS, 8, **given)))
    write_atomic(folder / "prompts.png", plots.to_png(plots.rows(sheet, 8), 75))
    graded = grading_t2i.attribute_accuracy(pipe, args.num_graded, **given)
    try:
        before = json.loads((folder / "metrics.json").read_text("utf-8"))
        done = done or {key: before[key] for key in ("step", "identity", "config") if key in before}
    except (OSError, ValueError, TypeError):
        done = done or {}
    facts = {"attributes": {name: row._asdict() for name, row in graded.items()}, "num_graded": args.num_graded, "scheduler": "ddim",
             "config": None} | given | done
    written = ["metrics.json", "prompts.png"]
    if ((facts["config"] or {}).get("num_styled")):                   # a source that was told styles
        styles = grading_t2i.styled_accuracy(pipe, max(args.num_graded // 5, 2), **given)
        facts["styles"] = {style: {name: row._asdict() for name, row in found.items()} for style, found in styles.items()}
        write_atomic(folder / "styles.png", plots.to_png(plots.rows(grading_t2i.style_sheet(pipe, 2, **given), 10), 75))
        written.append("styles.png")
    write_json(folder / "metrics.json", facts)
    print("attribute        accuracy  real drawings  captions")
    for name, row in graded.items():
        print(f"{name:<17}{row.accuracy:8.2f}{row.ceiling:15.2f}{row.n:10d}")
    for style, found in facts.get("styles", {}).items():
        print(f"{style:<9}", "  ".join(f"{name} {row['accuracy']:.0%} (real {row['ceiling']:.0%})" for name, row in found.items()))
    print(", ".join(str(folder / name) for name in written))


def add_commands(command) -> None:
    """pretrain-t2i; command(name, function, text, options) makes a parser."""
    command("pretrain-t2i", cmd_pretrain_t2i, "Train the text-to-image source model: first --stage vae, then --stage unet; --stage "
            "grade looks at a trained one again.", pretrain_options)


def pretrain_options(t2i) -> None:
    from ..pretrain import PretrainConfig
    t2i.add_argument("--stage", required=True, choices=("vae", "unet", "grade"), help="what to train, or grade")
    t2i.add_argument("--vae", help="the vae folder of the first stage, for --stage unet")
    t2i.add_argument("--num_images", type=int, default=24000, help="captioned faces to draw")
    t2i.add_argument("--num_others", type=int, default=1000, help="pictures of each other style, for --stage vae")
    t2i.add_argument("--num_styled", type=int, default=0, help="captioned faces of each other style, for --stage unet")
    t2i.add_argument("--source", help="the folder to begin with: of an autoencoder, or of a pipeline of the same shape")
    t2i.add_argument("--screened", type=float, default=0.0, help="share of the pictures under a line screen, for --stage vae")
    t2i.add_argument("--latent_channels", type=int, default=4, help="numbers that the autoencoder keeps of 4×4 pixels, for --stage vae")
    t2i.add_argument("--wordings", type=int, default=8, help="different captions a face")
    t2i.add_argument("--empty_captions", type=float, default=0.1, help="share of empty captions, for classifier-free guidance")
    t2i.add_argument("--resolution", type=int, default=64, help="pixels a side")
    t2i.add_argument("--num_graded", type=int, default=400,
                     help="held-out captions to draw at the end; for --stage vae, pictures to read small things from")
    t2i.add_argument("--guidance_scale", type=float, default=3.0, help="classifier-free guidance when drawing; 1: none")
    t2i.add_argument("--num_inference_steps", type=int, default=20, help="denoising steps an image")
    t2i.add_argument("--overwrite", action="store_true", help="replace what is in --output_dir")
    add_config(t2i, PretrainConfig, skip=("bank_steps", "random_flip"), max_train_steps=None, train_batch_size=None,
               learning_rate=None, lr_warmup_steps=None, lr_decay_steps=None,
               adam_beta2=0.99, ema_max_decay=0.998, snr_gamma=5.0, lambda_coarse=None, high_noise_weight=None,
               checkpointing_steps=250, output_dir="runs/t2i")
    tracking.add_tracking(t2i)
