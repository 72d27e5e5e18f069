"""Grade a text-to-image source: does it draw what captions say, in every style, and what does its autoencoder keep (chapter 09)?"""

from contextlib import suppress
from functools import partial
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor

from .. import data, sample
from ..base import avatars
from ..base.errors import UserError
from ..measure import probes
from . import captions, latent


class Obedience(NamedTuple):
    """How often a picture shows what its caption says, by attribute."""
    accuracy: float         # share of the pictures in which the probe finds the word
    ceiling: float          # the same for real drawings: how far the probe can be trusted
    n: int                  # pictures whose caption names the attribute


def attribute_probe(resolution: int = 64, n: int = 4000) -> probes.FactorProbe:
    """Reads the captions' attributes back from pictures; attributes that it reads badly are left out."""
    return probes.factor_probe(avatars.CAPTIONED, resolution, n=n, trust=0.5, relabel=captions.attributes)


def held_out(n: int, resolution: int = 64, seed: int = 0) -> tuple[list[captions.Caption], Tensor]:
    """Captions of faces that no training saw, and the faces themselves, (n,3,R,R)."""
    drawn = data.load_domain(avatars.CAPTIONED, "test", n, resolution)
    return [captions.caption(one, seed) for one in drawn.labels], drawn.images


def attribute_accuracy(pipe: StableDiffusionPipeline, n: int = 400, guidance_scale: float = 3.0, num_inference_steps: int = 20,
                       seed: int = 0, probe: probes.FactorProbe | None = None) -> dict[str, Obedience]:
    """Draw held-out captions and let the probe read them back: {attribute: :class:`Obedience`}."""
    resolution = pipe.unet.config.sample_size * pipe.vae_scale_factor
    wanted, real = held_out(n, resolution, seed)
    return read_back(pipe, wanted, real, [probe or attribute_probe(resolution)], guidance_scale, num_inference_steps, seed)


def read_back(pipe: StableDiffusionPipeline, wanted: list[captions.Caption], real: Tensor, readers: list[probes.FactorProbe],
              guidance_scale: float, num_inference_steps: int, seed: int) -> dict[str, Obedience]:
    """Draw captions and let probes read them from the pictures, and from the real ones (n,3,R,R)."""
    noise = sample.start_noise(len(wanted), pipe.unet.config.sample_size, seed, pipe.unet.config.in_channels)
    images = latent.draw(pipe, [one.text for one in wanted], noise, guidance_scale, num_inference_steps, progress="drawing captions")
    said, found = [one.said for one in wanted], {}
    for reader in readers:
        ceiling = probes.obeyed(real, said, reader)
        found |= {name: Obedience(share, ceiling[name][0], asked) for name, (share, asked) in probes.obeyed(images, said, reader).items()}
    return found


def style_probe(resolution: int = 64, n: int = 150) -> probes.FactorProbe:
    """Reads from a picture which of ``captions.STYLES`` it is drawn in, "none" for the source's own: {"style": …}. Fitted on n of each."""
    names = {f"{avatars.CAPTIONED}-{style}": word for style, word in captions.STYLES.items()} | {avatars.CAPTIONED: "none"}
    features = [probes.probe_features(data.load_domain(name, "probe", n, resolution).images) for name in names]
    answers = torch.arange(len(names)).repeat_interleave(n)
    fitted, classes = torch.arange(len(answers)) % 4 < 3, {"style": list(names.values())}
    features = torch.cat(features)
    decide = probes.fit_factors(features[fitted], {"style": answers[fitted]}, classes, 0.1)
    right = float((decide(features[~fitted])["style"] == answers[~fitted]).float().mean())
    return probes.FactorProbe(classes, {"style": right}, lambda images: decide(probes.probe_features(images)))


def styled_accuracy(pipe: StableDiffusionPipeline, n: int = 60, guidance_scale: float = 3.0, num_inference_steps: int = 20,
                    seed: int = 0) -> dict[str, dict[str, Obedience]]:
    """As :func:`attribute_accuracy`, for n held-out captions of every style that has a word: {style's word: {attribute: …}}.

    "style" is read by :func:`style_probe`, what else captions say by a probe of that style; what it reads badly is left out.
    """
    resolution, found = pipe.unet.config.sample_size * pipe.vae_scale_factor, {}
    which = style_probe(resolution)
    for style, word in captions.STYLES.items():
        domain, relabel = f"{avatars.CAPTIONED}-{style}", partial(captions.styled_attributes, style=style)
        readers = [which]
        with suppress(UserError):                           # where nothing of it can be read
            readers.append(probes.factor_probe(domain, resolution, n=800, trust=0.5, relabel=relabel))
        drawn = data.load_domain(domain, "test", n, resolution)
        wanted = [captions.caption(labels, seed, style=style) for labels in drawn.labels]
        found[word] = read_back(pipe, wanted, drawn.images, readers, guidance_scale, num_inference_steps, seed)
    return found


#: what ``dslib pretrain-t2i`` draws to look at
PROMPTS = ("a face", "a smiling face with curly red hair, glasses and a beard", "a face with long black hair and pale skin",
           "a face with dark skin and a blue turban", "a sad face with a green hat on a yellow background",
           "a face with an afro and sunglasses", "a face with a grey bob, wearing a red hoodie", "a person with a moustache and a bun",
           "a face with orange skin and heart eyes", "a face with a pink hijab on a blue background")
#: what every style is asked for beside it
BESIDE = ("", " with glasses", " with a beard", " on a yellow background", " with glasses and a beard on a blue background")


def style_sheet(pipe: StableDiffusionPipeline, columns: int = 2, guidance_scale: float = 3.0,
                num_inference_steps: int = 20) -> dict[str, Tensor]:
    """Every style with every one of ``BESIDE``, the same noise for all: {"a face in … style": images (columns·5,3,R,R)}."""
    starts = [captions.CLASS_PROMPT] + [f"{captions.CLASS_PROMPT} in {word} style" for word in captions.STYLES.values()]
    return {start: latent.sheet(pipe, [start + more for more in BESIDE], columns, guidance_scale, num_inference_steps).flatten(0, 1)
            for start in starts}


def reconstruction_errors(vae: AutoencoderKL, resolution: int = 64, n: int = 50) -> dict[str, float]:
    """Mean absolute error, in [0,2], of decoded held-out images of every domain: the targets' styles are new to the autoencoder."""
    errors = {}
    for name in (avatars.CAPTIONED, *data.TARGETS):
        images = data.load_domain(name, "test", n, resolution).images
        with torch.inference_mode():
            errors[name] = round(float((latent.decode(vae, latent.encode(vae, images)).clamp(-1, 1) - images).abs().mean()), 5)
    return errors


def reconstructions(vae: AutoencoderKL, resolution: int = 64, n: int = 10) -> dict[str, Tensor]:
    """Held-out images of every domain and what comes back from the latents: {row: images (n,3,R,R)}."""
    rows = {}
    for name in (avatars.CAPTIONED, *data.TARGETS):
        images = data.load_domain(name, "test", n, resolution).images
        with torch.inference_mode():
            rows |= {name: images, f"{name}, decoded": latent.decode(vae, latent.encode(vae, images)).clamp(-1, 1)}
    return rows


SMALL_THINGS = ("glasses", "accessories", "beard", "facialHair", "mouth", "eyes")      # attributes and factors that are few pixels large


class Kept(NamedTuple):
    """How often a probe reads a small thing from pictures."""
    real: float          # from the pictures themselves
    decoded: float       # from what the autoencoder makes of them


def with_none(labels: dict[str, str]) -> dict[str, str]:
    """A style's labels, "none" where glasses or a beard is missing."""
    return dict.fromkeys(("glasses", "accessories", "beard", "facialHair"), "none") | labels


def words_kept(vae: AutoencoderKL, resolution: int = 64, n: int = 400) -> dict[str, dict[str, Kept]]:
    """What of glasses, beards, mouths and eyes comes back from the latents: {style: {thing: :class:`Kept`}}, on n held-out pictures.

    Of the source's faces and of every target style, read by a probe of that style, fitted on 4·n other pictures of it; a thing that
    the probe does not read well from real pictures is left out, and a style without any is empty.
    """
    found = {}
    for style in (avatars.CAPTIONED, *avatars.targets()):
        domain = f"{style}-with-words" if f"{style}-with-words" in avatars.DRAWN else style
        relabel = captions.attributes if avatars.DRAWN[domain][0] == "avataaars" else with_none
        try:
            probe = probes.factor_probe(domain, resolution, n=4 * n, trust=0.4, relabel=relabel)
        except UserError:                                # too few pictures, or too small ones, to read anything
            found[style] = {}
            continue
        drawn = data.load_domain(domain, "test", n, resolution)
        with torch.inference_mode():
            decoded = torch.cat([latent.decode(vae, latent.encode(vae, part)).clamp(-1, 1) for part in drawn.images.split(50)])
        said = [relabel(one) for one in drawn.labels]
        real, kept = (probes.obeyed(images, said, probe) for images in (drawn.images, decoded))
        found[style] = {name: Kept(round(real[name][0], 3), round(kept[name][0], 3)) for name in SMALL_THINGS if name in real}
    return found
