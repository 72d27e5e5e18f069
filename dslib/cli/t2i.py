"""The text-to-image commands: ``dslib adapt-t2i`` and ``pretrain-t2i`` (chapters 09 and 10)."""

import json
import math
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from ..base.device import main_process
from ..base.errors import UserError, shown
from ..base.files import data_dir
from . import tracking
from .options import (
    OR_RESUME,
    add_backbone,
    add_config,
    add_images,
    check_apart,
    check_output_file,
    config_from,
    prepare_output,
    training_images,
)
from .pretraining import REPAIRS
from .watch import watch

#: options without a text-to-image twin
UNCONDITIONAL = ("lambda_vlb", "num_anchors", "pairwise_space", "pairwise_t_min", "pairwise_t_max", "detail")


def cmd_adapt_t2i(args) -> None:
    from ..text import latent, prompted, text_to_image
    if args.method not in text_to_image.METHODS:
        raise UserError(f"--method is {args.method!r}: use one of {', '.join(text_to_image.METHODS)}")
    if bool(args.subject_data_dir) != bool(args.subject_prompt):
        raise UserError("--subject_data_dir and --subject_prompt go together: give both or neither")
    if args.method == "textual-inversion" and (args.subject_prompt or args.lora_rank):
        raise UserError("textual-inversion trains one word's vector: a subject or --lora_rank needs dreambooth or domainstudio")
    for name, least in {"num_images": 2, "num_requests": 0, "guidance_scale": 0, "num_inference_steps": 1, "validation_steps": 0}.items():
        if not least <= getattr(args, name) < math.inf:
            raise UserError(f"--{name} is {getattr(args, name)}: use at least {least}")
    checked = config_of(args, args.method, args.output_dir or "runs")
    source = shipped_or(args.source)
    resolution = source.unet.config.sample_size * source.vae_scale_factor
    images, domain, used = training_images(args, resolution)
    checked = replace(checked, train_batch_size=min(checked.train_batch_size, len(images)))
    subject, about = subject_of(args, resolution)
    used = {"training_images": used} | about
    warn_unknown(source, args)
    texts, prior_prompts = words_of(args, source)
    if args.num_prior_images < len(images) and methods_of(args) != ["textual-inversion"]:
        raise UserError(f"--num_prior_images: {args.num_prior_images} prior images for {len(images)} images: draw at least as many")
    clip = prompted.open_clip(args.clip_model) if args.clip_model else None
    name = domain or Path(args.train_data_dir).resolve().name
    output = Path(args.output_dir or f"runs/{name}-{args.method}-t2i")
    check_apart(args, output)
    prepare_output(output, args.overwrite, args.resume_from_checkpoint, OR_RESUME)
    prior = None if methods_of(args) == ["textual-inversion"] else kept_prior(output / "prior.safetensors", source, args, prior_prompts)
    pipes, histories = {"source": source}, {}
    for method in methods_of(args):
        folder = output if method == args.method else output / method
        config = replace(config_of(args, method, str(folder)), train_batch_size=checked.train_batch_size)
        person = None if method == "textual-inversion" else subject
        stream = text_to_image.adapt(source, images, config, args.instance_prompt, args.class_prompt, prior, person, texts,
                                     None if method == "textual-inversion" else prior_prompts)
        stream = validated(stream, source, args, folder) if args.validation_steps and main_process() else stream
        record, histories[method] = watch(stream, config, method, report_to=args.report_to)
        pipes[method] = text_to_image.adapted(source, record, args.instance_prompt)
        if main_process():
            latent.save_pipeline(pipes[method], folder)
    if main_process():
        done = {"step": record.step, "identity": record.identity, "config": asdict(config_of(args, args.method, str(output)))} | used
        write_adapted(args, pipes, histories, images, domain, shown(name), output, done, clip)
        print(f"Pipeline: {output}  (StableDiffusionPipeline.from_pretrained opens it)")


def shipped_or(source: str | None):
    """The pipeline that was asked for, or the shipped one; a UserError that says how to make it if it is not there."""
    from ..text import latent
    shipped = data_dir() / "text_to_image"
    if source is None and not shipped.is_dir():
        raise UserError(f"no text-to-image source in {shipped}: 'dslib pretrain-t2i --help' says how to train one, or give --source")
    return latent.load_pipeline(source or shipped)


def config_of(args, method: str, output_dir: str):
    """The settings of one method: its own step size unless one was given."""
    rank = 0 if method == "textual-inversion" else args.lora_rank
    from ..text.text_to_image import TextConfig
    return config_from(args, TextConfig, method=method, output_dir=output_dir, lora_rank=rank).rated()


def methods_of(args) -> list[str]:
    """The methods to train, the asked one last."""
    from ..text.text_to_image import METHODS
    return [m for m in METHODS if m != args.method] + [args.method] if args.compare else [args.method]


def subject_of(args, resolution: int):
    """(the person to learn beside the style, or None; what was used of their folder, in words)."""
    from .. import data
    from ..text import text_to_image
    if not args.subject_data_dir:
        return None, {}
    folder = data.ImageFolder(args.subject_data_dir, resolution, recursive=args.recursive)
    return text_to_image.Subject(folder.images, args.subject_prompt), {"subject_images": folder.summary}


def words_of(args, source) -> tuple[list[str] | None, list[str] | None]:
    """(captions of the training images from the folder's metadata.jsonl, prompts of the prior images), None where all have the same."""
    from ..base.images import scan
    from ..text import text_to_image, wording
    texts, words = None, (args.instance_prompt, args.class_prompt)
    if args.train_data_dir:
        texts = wording.read_metadata(args.train_data_dir, scan(Path(args.train_data_dir), args.recursive).paths)
    if texts:
        print(f"{shown(args.train_data_dir)}: {len(texts)} captions from {wording.METADATA}", file=sys.stderr)
    rare = text_to_image.rare_word(args.instance_prompt)
    text_to_image.check_prompts(source, *words, rare)
    prior_prompts = wording.prior_prompts(args.prior_prompts, args.num_prior_images, *words, args.seed)
    told = dict.fromkeys([*(texts or []), *(prior_prompts or [])])
    wording.check_fit(source, [wording.styled(text, *words, rare) for text in told], "the prompt")
    check_validation(args, source)
    return texts, prior_prompts


def check_validation(args, source) -> None:
    """Fill in what is drawn during training, and refuse an empty prompt or one that does not fit."""
    from ..text import wording
    if args.validation_prompt and not args.validation_steps:
        raise UserError("--validation_prompt needs --validation_steps: how often it is drawn")
    args.validation_prompt = args.validation_prompt or [args.instance_prompt]
    if not all(prompt.strip() for prompt in args.validation_prompt):
        raise UserError("--validation_prompt is empty: use words such as 'a face in sks style with glasses'")
    wording.check_fit(source, args.validation_prompt, "--validation_prompt")


def validated(stream, source, args, folder: Path):
    """The steps of a training; every ``--validation_steps`` of them the prompts are drawn, always from the same noise, a row each."""
    from ..base.files import write_atomic
    from ..show import plots
    from ..text import latent, text_to_image
    for step in stream:
        if step.step % args.validation_steps == 0:
            pipe = text_to_image.adapted(source, step, args.instance_prompt)
            drawn = latent.sheet(pipe, args.validation_prompt, 4, args.guidance_scale, args.num_inference_steps, args.seed)
            rows = dict(zip(args.validation_prompt, drawn))
            (folder / "validation").mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "validation" / f"step-{step.step:05d}.png", plots.to_png(plots.rows(rows, 4), 75))
        yield step


def warn_unknown(source, args) -> None:
    """Say which words of the prompts a source of whole words never saw; a large tokenizer splits words as a matter of course."""
    from ..text import captions
    if len(source.tokenizer) > 5000:
        return
    for option in ("instance_prompt", "class_prompt", "subject_prompt"):
        if unknown := captions.unknown_words(source.tokenizer, getattr(args, option) or ""):
            print(f"--{option}: {', '.join(map(repr, unknown))} is no word of this source: it is spelt out letter by letter, and means "
                  "nothing to it", file=sys.stderr)


def kept_prior(path: Path, source, args, prompts: list[str] | None = None):
    """The source's own pictures of the class, as latents: drawn once, kept beside the results, read again by a resumed run."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save

    from ..base.files import write_atomic
    from ..base.identity import fingerprint
    from ..text import text_to_image
    networks = (source.unet, source.vae, source.text_encoder)
    wanted = {"class_prompt": args.class_prompt, "num_prior_images": str(args.num_prior_images), "seed": str(args.seed),
              "guidance_scale": str(args.guidance_scale), "source": fingerprint(*(network.state_dict() for network in networks))}
    wanted |= {"prior_prompts": "\n".join(prompts)} if prompts else {}
    try:
        with safe_open(path, "pt") as file:
            drawn = {"source": wanted["source"]} | (file.metadata() or {})      # before there were fingerprints none was kept
            if drawn == wanted:
                return file.get_tensor("prior")
    except (OSError, SafetensorError):                              # none there, or a damaged one: it is drawn anew
        pass
    prior = text_to_image.prior_latents(source, args.class_prompt, args.num_prior_images, args.guidance_scale, args.seed,
                                        prompts)
    if main_process():
        write_atomic(path, save({"prior": prior.contiguous()}, metadata=wanted))
    return prior


def write_adapted(args, pipes, histories, images, domain, name, output, done, clip=None) -> None:
    """Draw the same noise and prompts with every model, score what can be scored, and write the report. done: step, identity, config."""
    from ..base.files import write_atomic
    from ..measure.score import score_all, text_table
    from ..show import card, plots
    from ..show.page import write_report
    from ..text import prompted
    drawing = args.guidance_scale, args.num_inference_steps, args.seed
    found = {key: prompted.measure(pipe, args.class_prompt if key == "source" else args.instance_prompt, images, domain,
                                   args.num_images, args.num_requests, *drawing)
             for key, pipe in pipes.items()}
    print("scoring …", file=sys.stderr)
    samples = {key: one["images"] for key, one in found.items()}
    tracking.show(samples[args.method], done["step"])
    scores = score_all(samples, images, domain, args.backbone)
    answers = {key: one["obeyed"] for key, one in found.items()}
    facts = {"target": name, "source": args.source or "shipped", "train_data_dir": args.train_data_dir and shown(args.train_data_dir),
             "backbone": args.backbone, "resolution": images.shape[-1], "num_images": args.num_images, "seed": args.seed,
             "scheduler": type(pipes["source"].scheduler).__name__.removesuffix("Scheduler").lower(),
             "num_inference_steps": args.num_inference_steps, "guidance_scale": args.guidance_scale,
             "instance_prompt": args.instance_prompt, "class_prompt": args.class_prompt, **done,
             "obeyed": {key: {k: v._asdict() for k, v in one.items()} for key, one in answers.items()}}
    if clip:
        facts["clip"] = prompted.clip_similarity(samples | {"training images": images}, args.class_prompt, images, *clip)
    lead = f"{args.instance_prompt!r}: {len(images)} training images, {done['step']} steps, seed {args.seed}."
    where = write_report(output, f"{name}: {' and '.join(histories)}", lead, images, samples, scores, histories, facts)
    for method in histories:
        beside = method != args.method
        card.adapted(output / method if beside else output, "words", facts, scores, domain, len(images), method if beside else None)
    asked = prompted.sheet(pipes, 2, args.instance_prompt, args.class_prompt, *drawing)
    write_atomic(output / "prompts.png", plots.to_png(plots.rows(asked, 2 * len(prompted.SHEET)), 90))
    print(text_table(scores))
    if any(answers.values()):
        print("\n" + prompted.table(answers))
    for key, row in facts.get("clip", {}).items():
        print(f"CLIP cosine, {key:<18} with {args.class_prompt!r} {row['text']:.3f}, with the training images {row['image']:.3f}")
    if args.subject_prompt:
        prompts = [args.instance_prompt, args.subject_prompt,
                   prompted.both_words(args.instance_prompt, args.subject_prompt, args.class_prompt)]
        rows = prompted.person_sheet(pipes, prompts, 3, *drawing)
        write_atomic(output / "person.png", plots.to_png(plots.rows(rows, 9), 75))
        print(f"\nPerson:   {output / 'person.png'}  (three of each: {'; '.join(prompts)})")
    print(f"\nReport:   {where}\nPrompts:  {output / 'prompts.png'}  (pairs of: {'; '.join(prompted.SHEET)})")


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
    from ..text import latent, pretrain_t2i
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
    write_atomic(folder / "reconstructions.png", plots.to_png(plots.rows(pretrain_t2i.reconstructions(vae, args.resolution)), 75))
    facts = {"scaling_factor": vae.config.scaling_factor, "mean_absolute_error": pretrain_t2i.reconstruction_errors(vae, args.resolution),
             "words_kept": {style: {name: kept._asdict() for name, kept in things.items()}
                            for style, things in pretrain_t2i.words_kept(vae, args.resolution, args.num_graded).items()},
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
    from ..text import latent, pretrain_t2i
    pipe = latent.load_pipeline(folder)
    sheet = dict(zip(pretrain_t2i.PROMPTS, latent.sheet(pipe, pretrain_t2i.PROMPTS, 8, args.guidance_scale, args.num_inference_steps)))
    write_atomic(folder / "prompts.png", plots.to_png(plots.rows(sheet, 8), 75))
    graded = pretrain_t2i.attribute_accuracy(pipe, args.num_graded, args.guidance_scale, args.num_inference_steps)
    try:
        before = json.loads((folder / "metrics.json").read_text("utf-8"))
        done = done or {key: before[key] for key in ("step", "identity", "config") if key in before}
    except (OSError, ValueError, TypeError):
        done = done or {}
    facts = {"attributes": {name: row._asdict() for name, row in graded.items()}, "num_graded": args.num_graded, "scheduler": "ddim",
             "guidance_scale": args.guidance_scale, "num_inference_steps": args.num_inference_steps, "config": None} | done
    write_json(folder / "metrics.json", facts)
    print("attribute        accuracy  real drawings  captions")
    for name, row in graded.items():
        print(f"{name:<17}{row.accuracy:8.2f}{row.ceiling:15.2f}{row.n:10d}")
    print(f"{folder / 'metrics.json'}, {folder / 'prompts.png'}")


def add_commands(command) -> None:
    """Both commands; command(name, function, text, options) makes a parser."""
    command("adapt-t2i", cmd_adapt_t2i, "Teach a text-to-image source a new style, or a person and a style, from about ten images; "
            "captions may stand in a metadata.jsonl beside them.",
            adapt_options)
    command("pretrain-t2i", cmd_pretrain_t2i, "Train the text-to-image source model: first --stage vae, then --stage unet; --stage "
            "grade looks at a trained one again.", pretrain_options)


def adapt_options(adapt) -> None:
    from ..text.text_to_image import TextConfig
    add_images(adapt)
    adapt.add_argument("--source", help="pipeline folder or hub id; default: the shipped model")
    adapt.add_argument("--instance_prompt", default="a face in sks style", help="prompt of the training images, with a rare word")
    adapt.add_argument("--class_prompt", default="a face", help="the same without the rare word: what the source is asked")
    adapt.add_argument("--subject_data_dir", help="a folder with images of one person or thing to learn beside the style")
    adapt.add_argument("--subject_prompt", help="its prompt, with a rare word of its own: 'a face of zwx'")
    adapt.add_argument("--num_prior_images", type=int, default=200, help="pictures of the class that the source draws first")
    adapt.add_argument("--prior_prompts", help="what the source draws them from: a text file with a prompt a line, or the word "
                       "'captions' for captions of drawn faces; default: --class_prompt")
    adapt.add_argument("--compare", action="store_true", help="also train the other methods, and put all in the report")
    adapt.add_argument("--clip_model", help="folder or hub id of a CLIP model (safetensors), to report its similarities too")
    adapt.add_argument("--num_requests", type=int, default=200, help="prompts with words the ten never showed, for the report; 0: none")
    adapt.add_argument("--overwrite", action="store_true", help="replace what is in --output_dir")
    add_config(adapt, TextConfig, skip=("lr_warmup_steps", "random_flip", *UNCONDITIONAL), max_train_steps=300)
    tracking.add_tracking(adapt)
    adapt.add_argument("--num_images", type=int, default=64, help="images to draw for the report")
    adapt.add_argument("--guidance_scale", type=float, default=3.0, help="classifier-free guidance when drawing; 1: none")
    adapt.add_argument("--num_inference_steps", type=int, default=20, help="denoising steps an image")
    adapt.add_argument("--validation_steps", type=int, default=0, help="draw pictures every so many steps of training; 0: none")
    adapt.add_argument("--validation_prompt", nargs="+", metavar="PROMPT", help="what to draw then; default: --instance_prompt")
    add_backbone(adapt)


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
