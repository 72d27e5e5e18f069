"""Ask an adapted text-to-image model for words that its ten training images never showed, or for a person, and count the answers
(chapters 09 and 10)."""

import random
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor
from transformers.utils import logging

from .. import data, sample
from ..base import avatars
from ..base.errors import UserError, first_line
from ..base.pixels import check_pictures
from ..base.progress import quiet
from ..measure import probes
from . import captions, latent, text_to_image

#: target domain → what a prompt can ask of it and a probe read back from its pictures
ASKED = {"sketches": ("glasses", "beard"), "portraits": ("glasses", "beard", "skin", "background"),
         "engraved": ("glasses", "headwear", "skin", "background")}
#: what may be asked of a thing, as often each
CHOICES = {"glasses": ("glasses", "none"), "beard": ("beard", "none")}
OF_TWINS = {"glasses": ("glasses", "sunglasses", "none"), "headwear": ("hat", "turban", "beanie", "none")}


class Request(NamedTuple):
    """A prompt, and what a picture that obeys it shows."""
    text: str
    said: dict[str, str]          # attribute → word; "none" where the prompt asks for nothing


def requests(n: int, domain: str = "portraits", prompt: str = captions.CLASS_PROMPT, seed: int = 0) -> list[Request]:
    """n prompts such as "a face in sks style with dark skin and glasses on a blue background", drawn at random.

    prompt: what stands in the place of "a face": the prompt that a model was adapted with.
    """
    if domain not in ASKED:
        raise UserError(f"nothing is known to ask of {domain}: use one of {', '.join(ASKED)}")
    rng, found = random.Random(f"{seed}/{domain}"), []
    backgrounds = sorted({captions.COLOURS[colour] for colour in avatars.PALETTE})
    skins = sorted(set(captions.WORDS["skin"][1].values()))
    for _ in range(n):
        said = {name: rng.choice(words) for name, words in (OF_TWINS if domain in data.TWINS else CHOICES).items()}
        if "skin" in ASKED[domain]:
            said |= {"skin": rng.choice(skins), "background": rng.choice(backgrounds)}
        order = rng.sample(("glasses", "beard", "skin"), 3)
        text = captions.sentence({k: v for k, v in said.items() if v != "none"}, "face", order, 0.9)
        found.append(Request(text.replace(captions.CLASS_PROMPT, prompt, 1), said))
    return found


#: the styles' skins: the source's, and the darkest of ``portraits``, which is another brown than the source's
STYLE_SKIN = captions.WORDS["skin"][1] | {"#694d3d": "dark"}


def style_attributes(labels: dict[str, str]) -> dict[str, str]:
    """A style's own factor labels → {attribute: word}, of what prompts can ask; "none" for no glasses or no beard."""
    glasses, beard = labels.get("glasses", labels.get("accessories")), labels.get("beard", labels.get("facialHair"))
    found = {"glasses": "glasses" if glasses else "none", "beard": "beard" if beard else "none"}
    for name, values in (("skin", STYLE_SKIN), ("background", captions.COLOURS)):
        factor = captions.WORDS[name][0]
        if labels.get(factor) in values:
            found[name] = values[labels[factor]]
    return found


def words_of(domain: str):
    """What turns a domain's factor labels into {attribute: word}."""
    return captions.attributes if domain in data.TWINS else style_attributes


def probe(domain: str, resolution: int = 64, n: int = 3000) -> probes.FactorProbe:
    """Reads what can be asked back from a style's pictures; fitted on drawings half of which have glasses or a beard."""
    return probes.factor_probe(avatars.WITH_WORDS[domain], resolution, n=n, trust=0.5, relabel=words_of(domain))


def caption_of(labels: dict[str, str], domain: str) -> str:
    """A sentence that says of a domain's picture what can be asked: "a face with glasses and pale skin on a blue background"."""
    known = words_of(domain)(labels)
    said = {name: known[name] for name in ASKED[domain] if known.get(name, "none") not in ("none", "eyepatch")}
    return captions.sentence(said, "face", sorted(captions.WORDS), 0.9)


class Obeyed(NamedTuple):
    """How well a model obeys, by attribute."""
    share: float        # of the pictures, those that show what was asked
    ceiling: float      # the probe's own accuracy on real drawings of the style
    chance: float       # what pictures give that ignore the prompt: the same ones, prompts exchanged among them
    n: int


def obeyed(images: Tensor, asked: list[Request], domain: str, resolution: int = 64,
           reader: probes.FactorProbe | None = None) -> dict[str, Obeyed]:
    """{attribute: :class:`Obeyed`} of images (N,3,R,R) drawn from N requests; attributes that the probe cannot read are missing.

    reader: what :func:`probe` gave, if not the usual one.
    """
    reader, said = reader or probe(domain, resolution), [one.said for one in asked]
    shown, turned = probes.obeyed(images, said, reader), []
    for by in range(1, 6):
        turned.append(probes.obeyed(images, said[by:] + said[:by], reader))
    return {name: Obeyed(share, reader.accuracy[name], sum(one[name][0] for one in turned) / len(turned), n)
            for name, (share, n) in shown.items() if name in ASKED[domain]}


def measure(pipe: StableDiffusionPipeline, prompt: str, targets: Tensor, domain: str | None, n: int = 64, num_requests: int = 200,
            guidance_scale: float = 3.0, num_inference_steps: int = 20, seed: int = 0,
            reader: probes.FactorProbe | None = None) -> dict:
    """What one model draws and obeys: {"images": n (n,3,R,R) from the prompt alone, "asked": (num_requests,3,R,R) from requests that
    begin with it, "obeyed": {attribute: :class:`Obeyed`}}. Where nothing is known to ask of the domain, the last two are empty.
    """
    size, channels = pipe.unet.config.sample_size, pipe.unet.config.in_channels
    noise = sample.start_noise(max(n, num_requests), size, seed, channels)
    images = latent.draw(pipe, [prompt] * n, noise[:n], guidance_scale, num_inference_steps, progress="drawing")
    found = {"images": images, "asked": images[:0], "obeyed": {}}
    if domain in ASKED and num_requests:
        asked = requests(num_requests, domain, prompt, seed)
        drawn = latent.draw(pipe, [one.text for one in asked], noise[:num_requests], guidance_scale, num_inference_steps,
                            progress="drawing requests")
        found |= {"asked": drawn, "obeyed": obeyed(drawn, asked, domain, targets.shape[-1], reader)}
    return found


#: the class alone, and questions that name skin and background, as captions of the kit's drawings do
SHEET = ("a face", "a face with light skin on a teal background", "a face with glasses and light skin on a teal background",
         "a face with a beard and light skin on a teal background", "a face with dark skin on a light blue background",
         "a face with glasses, a beard and orange skin on a blue background")


def sheet(pipes: dict[str, StableDiffusionPipeline], columns: int = 3, instance_prompt: str = captions.INSTANCE_PROMPT,
          class_prompt: str = captions.CLASS_PROMPT, guidance_scale: float = 3.0, num_inference_steps: int = 20,
          seed: int = 0) -> dict[str, Tensor]:
    """``SHEET`` and the same noise through every model: {model: images (columns·prompts,3,R,R)}, prompt after prompt.

    The model called "source" is asked for the class, the others for the instance.
    """
    def texts(name: str) -> list[str]:
        return [text.replace(SHEET[0], class_prompt if name == "source" else instance_prompt, 1) for text in SHEET]
    return {name: latent.sheet(pipe, texts(name), columns, guidance_scale, num_inference_steps, seed).flatten(0, 1)
            for name, pipe in pipes.items()}


def table(found: dict[str, dict[str, Obeyed]]) -> str:
    """{model: {attribute: Obeyed}} as Markdown; the last row is how well the probe reads real drawings."""
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    lines = ["| model | " + " | ".join(names) + " |", "|" + "---|" * (1 + len(names))]
    for model, row in found.items():
        lines.append(f"| {model} | " + " | ".join(f"{row[k].share:.0%} (by chance {row[k].chance:.0%})" for k in names) + " |")
    last = next(iter(found.values()))
    return "\n".join([*lines, "| real drawings | " + " | ".join(f"{last[k].ceiling:.0%}" for k in names) + " |"])


def open_clip(model: str | Path) -> tuple[CLIPModel, CLIPProcessor]:
    """A CLIP model (Radford et al. 2021) and its processor from a folder or hub id, safetensors only; UserError if there is none."""
    try:
        with quiet(logging):
            return CLIPModel.from_pretrained(str(model), use_safetensors=True).eval(), CLIPProcessor.from_pretrained(str(model))
    except Exception as error:          # no network, no such folder, another kind of model, pickled weights: all are about this option
        raise UserError(f"--clip_model {model} could not be opened as a CLIP model: {first_line(error)}") from None


@torch.no_grad()
def clip_similarity(images: dict[str, Tensor], prompt: str, targets: Tensor, clip: CLIPModel,
                    processor: CLIPProcessor) -> dict[str, dict[str, float]]:
    """What CLIP says of each model's images {name: (N,3,R,R)}: {name: {"text": …, "image": …}}, mean cosines in [-1,1] with a prompt's
    vector and with those of the target images (n,3,R,R).

    prompt: without the rare word, which means nothing to CLIP. Meant for photographs and large checkpoints: nothing says that CLIP
    can tell tiny drawings apart.
    """
    def vectors(x: Tensor) -> tuple[Tensor, Tensor]:
        pixels = list(data.to_uint8(check_pictures(x)).permute(0, 2, 3, 1).numpy())
        found = [clip(**processor(text=[prompt], images=pixels[start:start + 32], return_tensors="pt")) for start in range(0, len(x), 32)]
        return torch.cat([one.image_embeds for one in found]), found[0].text_embeds

    (real, said), rows = vectors(targets), {name: vectors(x)[0] for name, x in images.items()}
    return {name: {"text": float((x @ said.T).mean()), "image": float((x @ real.T).mean())} for name, x in rows.items()}


# ------------------------------------------------------------------------------------------- is it still this person?

def identity(labels: list[dict[str, str]]) -> dict[str, str]:
    """What is the same in every picture of a person, {attribute: word}; what a person has not got (a hat) is left out."""
    found = [captions.attributes(one) for one in labels]
    if not found:
        raise UserError("an identity needs at least one labelled picture")
    return {name: word for name, word in found[0].items() if word != "none" and all(one.get(name) == word for one in found)}


def recognised(images: Tensor, person: dict[str, str], reader: probes.FactorProbe) -> dict[str, float]:
    """Share of images (N,3,R,R) that show the person's word, by attribute; attributes that the probe does not read are missing."""
    read = reader.read(images)
    return {name: float((read[name] == reader.classes[name].index(word)).float().mean())
            for name, word in person.items() if word in reader.classes.get(name, ())}


def both_words(instance_prompt: str, subject_prompt: str, class_prompt: str = captions.CLASS_PROMPT) -> str:
    """The style's prompt of the subject: "a face in sks style", "a face of zwx" → "a face of zwx in sks style".

    Where the class prompt is no part of the style's, the subject's rare word goes behind the style's: "a sks zwx face".
    """
    if class_prompt in instance_prompt:
        return instance_prompt.replace(class_prompt, subject_prompt, 1)
    style, who = text_to_image.rare_word(instance_prompt), text_to_image.rare_word(subject_prompt)
    return " ".join(f"{word} {who}" if word.lower() == style else word for word in instance_prompt.split())


def person_sheet(pipes: dict[str, StableDiffusionPipeline], prompts: list[str], columns: int = 3, guidance_scale: float = 3.0,
                 num_inference_steps: int = 20, seed: int = 0) -> dict[str, Tensor]:
    """Every prompt and the same noise through every model: {model: images (columns·prompts,3,R,R)}, prompt after prompt."""
    return {name: latent.sheet(pipe, prompts, columns, guidance_scale, num_inference_steps, seed).flatten(0, 1)
            for name, pipe in pipes.items()}
