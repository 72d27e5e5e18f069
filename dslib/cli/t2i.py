"""``dslib adapt-t2i``: teach a text-to-image source a style, or a person and a style (chapters 09 and 10)."""

import math
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
    config_from,
    prepare_output,
    training_images,
)
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


def add_commands(command) -> None:
    """adapt-t2i; command(name, function, text, options) makes a parser."""
    command("adapt-t2i", cmd_adapt_t2i, "Teach a text-to-image source a new style, or a person and a style, from about ten images; "
            "captions may stand in a metadata.jsonl beside them.", adapt_options)


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
