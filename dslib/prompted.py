"""Ask an adapted text-to-image model for words that its ten training images never showed, and count the answers (chapter 09)."""

import random
from typing import NamedTuple

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from . import avatars, captions, data, factors, latent, pretrain_t2i, report, sample
from .env import UserError

#: target domain → what a prompt can ask of it and a probe read back from its pictures
ASKED = {"sketches": ("glasses", "beard"), "portraits": ("glasses", "beard", "skin", "background")}


class Request(NamedTuple):
    """A prompt, and what a picture that obeys it shows."""
    text: str
    said: dict[str, str]          # attribute → word; "none" where the prompt asks for nothing


def requests(n: int, domain: str = "portraits", word: str = "", seed: int = 0) -> list[Request]:
    """n prompts such as "a sks face with dark skin and glasses on a blue background", drawn at random.

    word: the rare word to put before "face", or the empty string for the source's own language.
    """
    if domain not in ASKED:
        raise UserError(f"nothing is known to ask of {domain}: use one of {', '.join(ASKED)}")
    rng, found = random.Random(f"{seed}/{domain}"), []
    backgrounds = sorted({captions.COLOURS[colour] for colour in avatars.PALETTE})
    skins = sorted(set(captions.WORDS["skin"][1].values()))
    for _ in range(n):
        said = {"glasses": rng.choice(["glasses", "none"]), "beard": rng.choice(["beard", "none"])}
        if "skin" in ASKED[domain]:
            said |= {"skin": rng.choice(skins), "background": rng.choice(backgrounds)}
        order = rng.sample(("glasses", "beard", "skin"), 3)
        text = captions.sentence({k: v for k, v in said.items() if v != "none"}, "face", order, 0.9)
        found.append(Request(text.replace("face", f"{word} face".strip(), 1), said))
    return found


def style_attributes(labels: dict[str, str]) -> dict[str, str]:
    """A style's own factor labels → {attribute: word}, of what prompts can ask; "none" for no glasses or no beard."""
    glasses, beard = labels.get("glasses", labels.get("accessories")), labels.get("beard", labels.get("facialHair"))
    found = {"glasses": "glasses" if glasses else "none", "beard": "beard" if beard else "none"}
    for name, values in (("skin", captions.WORDS["skin"][1]), ("background", captions.COLOURS)):
        factor = captions.WORDS[name][0]
        if labels.get(factor) in values:
            found[name] = values[labels[factor]]
    return found


def probe(domain: str, resolution: int = 64, n: int = 3000) -> factors.FactorProbe:
    """Reads what can be asked back from a style's pictures; fitted on drawings half of which have glasses or a beard."""
    return factors.factor_probe(avatars.WITH_WORDS[domain], resolution, n=n, trust=0.5, relabel=style_attributes)


class Obeyed(NamedTuple):
    """How well a model obeys, by attribute."""
    share: float        # of the pictures, those that show what was asked
    ceiling: float      # the probe's own accuracy on real drawings of the style
    chance: float       # what pictures give that ignore the prompt: the same ones, prompts exchanged among them
    n: int


def obeyed(images: Tensor, asked: list[Request], domain: str, resolution: int = 64) -> dict[str, Obeyed]:
    """{attribute: :class:`Obeyed`} of images (N,3,R,R) drawn from N requests; attributes that the probe cannot read are missing."""
    reader, said = probe(domain, resolution), [one.said for one in asked]
    shown, turned = pretrain_t2i.obeyed(images, said, reader), []
    for by in range(1, 6):
        turned.append(pretrain_t2i.obeyed(images, said[by:] + said[:by], reader))
    return {name: Obeyed(share, reader.accuracy[name], sum(one[name][0] for one in turned) / len(turned), n)
            for name, (share, n) in shown.items() if name in ASKED[domain]}


def measure(pipe: StableDiffusionPipeline, prompt: str, targets: Tensor, domain: str | None, word: str = captions.RARE[0], n: int = 64,
            num_requests: int = 200, guidance_scale: float = 3.0, num_inference_steps: int = 20, seed: int = 0) -> dict:
    """Everything about one model: {"images": n drawn from the prompt alone, "scores": :class:`dslib.report.Score`, "obeyed": …}.

    word: the rare word that requests carry, or "" for the source. Without a drawn domain nothing is asked.
    """
    size, channels = pipe.unet.config.sample_size, pipe.unet.config.in_channels
    noise = sample.start_noise(max(n, num_requests), size, seed, channels)
    images = latent.draw(pipe, [prompt] * n, noise[:n], guidance_scale, num_inference_steps, progress="drawing")
    found = {"images": images, "obeyed": {}}
    if domain in ASKED and num_requests:
        asked = requests(num_requests, domain, word, seed)
        drawn = latent.draw(pipe, [one.text for one in asked], noise[:num_requests], guidance_scale, num_inference_steps,
                            progress="drawing requests")
        found["obeyed"] = obeyed(drawn, asked, domain, targets.shape[-1])
    return found


SHEET = ("a face", "a face with glasses", "a face with a beard", "a face with dark skin", "a face on a yellow background",
         "a face with glasses, a beard and orange skin on a blue background")


def sheet(pipes: dict[str, StableDiffusionPipeline], columns: int = 3, word: str = captions.RARE[0], guidance_scale: float = 3.0,
          num_inference_steps: int = 20, seed: int = 0) -> dict[str, Tensor]:
    """The same prompts and the same noise through every model: {model: images (columns·prompts,3,R,R)}, prompt after prompt.

    The model called "source" gets its own language, the others the rare word.
    """
    rows = {}
    for name, pipe in pipes.items():
        noise = sample.start_noise(columns, pipe.unet.config.sample_size, seed, pipe.unet.config.in_channels)
        texts = [text if name == "source" else text.replace("face", f"{word} face", 1) for text in SHEET]
        rows[name] = torch.cat([latent.draw(pipe, [text] * columns, noise, guidance_scale, num_inference_steps) for text in texts])
    return rows


def table(found: dict[str, dict[str, Obeyed]]) -> str:
    """{model: {attribute: Obeyed}} as Markdown; the last row is how well the probe reads real drawings."""
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    lines = ["| model | " + " | ".join(names) + " |", "|" + "---|" * (1 + len(names))]
    for model, row in found.items():
        lines.append(f"| {model} | " + " | ".join(f"{row[k].share:.0%} (by chance {row[k].chance:.0%})" for k in names) + " |")
    last = next(iter(found.values()))
    return "\n".join([*lines, "| real drawings | " + " | ".join(f"{last[k].ceiling:.0%}" for k in names) + " |"])


def scored(images: dict[str, Tensor], targets: Tensor, domain: str | None, backbone: str = "st-alex") -> list[report.Score]:
    """The usual table of :func:`dslib.report.score_all`, of pictures drawn from the instance prompt alone."""
    return report.score_all(images, targets, domain if domain in data.TARGETS else None, backbone)
