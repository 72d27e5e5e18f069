"""The model card that a run leaves in its folder, ``README.md``: what the model is, of which pictures, under which terms, how good."""

import os
import re
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from ..base import avatars
from ..base.errors import note, shown
from ..base.files import as_json, write_atomic
from ..measure.score import Score, explanation, text_table

NAME = "README.md"
OURS = "<!-- Written by dslib, and written again by the next run here. Without this line the card is yours, and stays. -->"
TITLES = {"diffusion": "An unconditional diffusion model", "gan": "A GAN", "words": "A text-to-image diffusion model"}
LOAD = {
    "diffusion": 'from diffusers import DDPMPipeline\nDDPMPipeline.from_pretrained(".")().images[0].save("new.png")',
    "words": 'from diffusers import StableDiffusionPipeline\npipe = StableDiffusionPipeline.from_pretrained(".", safety_checker=None)\n'
             'pipe(PROMPT, guidance_scale=3.0).images[0].save("new.png")',
    "gan": 'from dslib.gan import draw, folder\ngenerator = folder.load_gan(".").generator\n'
           "images = draw.draw(generator, draw.latents(16, generator.latent, seed=0))            # (16,3,R,R) in [-1,1]"}
COURSE = "`dslib`, a course on few-shot adaptation (DomainStudio, arXiv 2306.14153)"
NOBODY = "The training images hold no photograph and no real person."
OWN = """The pictures are the maker's own; dslib knows neither their origin nor their licence. **You must have the right to these
pictures**, to train on them and to pass on what was trained: write here where they are from. About ten images of a person are personal
data. The model can draw them again, so it is personal data, too: ask that person first."""
UNKNOWN = "The terms of the base model hold for this one, too: see its own card."
WEIGHTS = """The code of dslib is MIT. So are the weights, as far as they are dslib's: the terms of the pictures and of the base model come
first."""
LIMITS = """- {images}
- Details smudge, eyes differ in size, and what is rare in the training images is drawn badly or never.
- What it draws follows its training images. Nothing follows from it about people.
- It has no safety filter. Say that its pictures are generated, and do not use them to deceive, to harass, or as somebody's own work.
- The scores are of one run and of few samples; other seeds give others."""


def is_ours(path: Path) -> bool:
    """Whether there is no card yet, or one that a run wrote."""
    return not path.exists() or OURS in path.read_text("utf-8", "replace")


def write_card(folder: Path, head: dict, title: str, sections: dict[str, str]) -> None:
    """Write the card whole, under the head that the model hub reads; somebody else's README.md stays as it is."""
    if not is_ours(folder / NAME):
        note(f"{shown(folder / NAME)} is not of dslib: it stays, and no model card is written")
        return
    data = ModelCardData(license="other", license_name="see-data-and-licence", **head)
    body = "".join(f"## {name}\n\n{text.strip()}\n\n" for name, text in sections.items())
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {title}\n\n{body}{OURS}\n")
    write_atomic(folder / NAME, str(card).encode("utf-8", "backslashreplace"))


def credit(domain: str) -> str:
    """Whose drawings a drawn domain rests on, in the words of the style's own definition."""
    meta = avatars.definition(avatars.DRAWN[domain][0])["meta"]
    filtered = f", and the filter `{domain}` of dslib" if domain in avatars.TWINS else ""
    return (f"{meta['license']['text']}. Changes made: parts and colours combined at random, a plain background, pixels instead of "
            f"curves{filtered}. The artist does not endorse this model.")


def head_of(kind: str, *tags: str, base: str | None = None) -> dict:
    """What the head says of a kind of model: the library that opens it, what it does, words to find it by."""
    library = {} if kind == "gan" else {"library_name": "diffusers"}
    task = "text-to-image" if kind == "words" else "unconditional-image-generation"
    return library | {"pipeline_tag": task, "base_model": base, "tags": ["dslib", "arxiv:2306.14153", *tags]}


def base_of(source: str, kind: str) -> tuple[str, str, str | None]:
    """(the base model in words, the terms of its pictures, its hub id or None) from what a run says of its source."""
    if source == "shipped":
        others = (" Its autoencoder learned from the styles, too, that the course's `THIRD_PARTY.md` lists as *styles that only train*."
                  if kind == "words" else "")
        return "the course's source model of drawn faces", f"The base model learned from drawn faces. {credit('avataaars')}{others}", None
    if os.path.exists(source):
        return f"a model of one's own, `{shown(Path(source).resolve().name)}`", UNKNOWN, None
    hub = source if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else None
    return f"`{shown(source)}`", UNKNOWN, hub


def settings(config: dict) -> str:
    """All settings of a training but its places, folded."""
    told = {name: value for name, value in config.items() if name not in ("output_dir", "resume_from_checkpoint")}
    return f"<details><summary>All settings</summary>\n\n```json\n{as_json(told)}\n```\n</details>"


def weights(config: dict) -> str:
    """The method and, where it has any, the weights λ of its terms."""
    told = {} if config["method"] in ("finetune", "scratch", "dreambooth", "textual-inversion") else {
        name: value for name, value in config.items() if name.startswith("lambda_") and value}
    listed = ", ".join(f"`{name}` {value:g}" for name, value in told.items())
    anchored = ", anchored on samples of the base model" if told and config.get("pairwise_on") == "source" else ""
    return f"`{config['method']}`{anchored}" + (f"; weights λ: {listed}" if listed else "")


def trained(step: int, config: dict) -> str:
    """How long a training was, and all its settings, as the end of a list."""
    return (f"- {step} steps of {config['train_batch_size']} images, learning rate {config['learning_rate']:g}, seed {config['seed']}\n\n"
            + settings(config))


def usage(kind: str, prompt: str | None = None) -> str:
    """How to draw with the folder or, once it is there, with its name on the hub."""
    code = LOAD[kind].replace("PROMPT", repr(prompt))
    return f"```python\n{code}\n```\n\nThe dot is this folder: give its path, or the model's name on the hub."


def adapted(folder: Path, kind: str, facts: dict, scores: list[Score], domain: str | None, images: int, method: str | None = None) -> None:
    """The card of a model adapted to a few images.

    kind: of ``TITLES``; facts: as in metrics.json; domain: a drawn one, None for one's own folder; method: that of a folder inside the
    run's, which ``--compare_finetune`` trained beside it.
    """
    prints, config = facts.get("identity") or {}, facts["config"] | ({"method": method} if method else {})
    base, terms, hub = base_of(facts["source"], kind)
    drawn, size = f"drawn by the course, domain `{domain}`" if domain else "from the maker's own folder", facts["resolution"]
    about = [f"{TITLES[kind]} of {size}×{size} pixels, adapted to {images} images with {COURSE}.\n",
             f"- Base model: {base}, fingerprint `{prints.get('source', 'unknown')}`", f"- Method: {weights(config)}",
             f"- Training images: {images}, {drawn}, fingerprint `{prints.get('images', 'unknown')}`"]
    about += [f"- Prompt: {shown(facts[name])!r}" for name in ("instance_prompt", "subject_prompt") if facts.get(name)]
    pictures = f"{NOBODY} {credit(domain)}" if domain else OWN
    if domain and facts.get("subject_images"):
        pictures += f"\n\nOf the person or thing that it learned beside the style: {OWN}"
    name = (folder.resolve().parent if method else folder.resolve()).name
    write_card(folder, head_of(kind, "few-shot", base=hub), f"{shown(name)}: {config['method']}", {
        "What it is": "\n".join([*about, trained(facts["step"], config)]),
        "Use it": usage(kind, facts.get("instance_prompt")),
        "Scores": f"{text_table(scores)}\n\n{facts['num_images']} samples, features {facts['backbone']}, seed {facts['seed']}. "
                  + explanation(scores),
        "Data and licence": f"{pictures}\n\n{terms}\n\n{WEIGHTS}",
        "Limits": LIMITS.format(images=f"It learned from {images} images and may draw them again: compare before you show its pictures.")})


def pretrained(folder: Path, kind: str, facts: dict, source: str | None = None) -> None:
    """The card of a source trained on drawn faces. facts: as in metrics.json; source: the pipeline that it began from, if any."""
    config, size = facts["config"], facts["config"]["resolution"]
    begun, terms = ("random weights", "") if source is None else (base_of(source, kind)[0], f"\n\n{base_of(source, kind)[1]}")
    about = [f"{TITLES[kind]} of drawn faces, {size}×{size} pixels, to be adapted with {COURSE}.\n", f"- Began from {begun}",
             f"- Training images: {config['num_images']}, drawn by the course, domain `avataaars`, fingerprint "
             f"`{(facts.get('identity') or {}).get('images', 'unknown')}`", trained(facts["step"], config)]
    scores = (f"Fréchet ratio {facts['frechet_ratio']:.2f}: distance of {facts['num_samples']} samples to real drawings, over the "
              f"distance between two sets of real ones. 1 is as good as real. Features {facts['backbone']}.")
    scores += f" **It has collapsed: {facts['collapsed']}.**" if facts.get("collapsed") else ""
    write_card(folder, head_of(kind), f"{shown(folder.resolve().name)}: a source of drawn faces", {
        "What it is": "\n".join(about), "Use it": usage(kind), "Scores": scores,
        "Data and licence": f"{NOBODY} {credit('avataaars')}{terms}\n\n{WEIGHTS}",
        "Limits": LIMITS.format(images="It draws what a drawing kit draws: flat colours, centred heads, a palette's skin tones.")})
