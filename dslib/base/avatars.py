"""The drawn domains (a new one is a line of DOMAINS), and their faces: deterministic from (domain, split, index). Read with chapter 00.

DiceBear draws an SVG from a style and a seed, resvg turns it into pixels. Nothing here needs torch, so that
worker processes start quickly (only a twin's filter does).
"""

import io
import json
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image

PALETTE = ["#b6e3f4", "#c0aede", "#d1d4f9", "#ffd5dc", "#ffdfbf", "#8fbcbb", "#2e3440",
           "#e06c75", "#98c379", "#e5c07b", "#4f7cac", "#7a5c8e", "#d9d9d9", "#3a6b52"]
PAPER = ["#ffffff", "#f6f0e2", "#efe4cf", "#e8e8e8"]

MOUTHS = ["concerned", "default", "disbelief", "eating", "grimace", "sad", "screamOpen", "serious", "smile",
          "tongue", "twinkle"]
FACE = {"scale": 1.15, "translateY": 4, "mouthVariant": MOUTHS, "backgroundColor": PALETTE}
SUNGLASSES = ["sunglasses", "wayfarers", "kurt"]

#: domain name -> (DiceBear style, options)
DOMAINS = {
    "avataaars": ("avataaars", FACE),
    "sunglasses": ("avataaars", FACE | {"accessoriesProbability": 100, "accessoriesVariant": SUNGLASSES}),
    "sketches": ("lorelei", {"backgroundColor": PAPER}),
    "portraits": ("open-peeps", {"backgroundColor": PALETTE}),
    "adventurers": ("adventurer", {"backgroundColor": PALETTE}),
    "robots": ("bottts", {"backgroundColor": PALETTE}),
}

#: what only the text-to-image source model is trained on (chapter 09): the source's faces with glasses and beards more often,
#: for captions, and, for its autoencoder, styles that are no target's
CAPTIONED = "captioned"
OTHER_STYLES = ("big-ears", "big-smile", "croodles", "cutouts", "dylan", "landscape", "micah", "miniavs", "notionists",
                "notionists-neutral", "personas", "pixel-art", "shapes", "toon-head")
#: the styles among these that draw faces, with what a caption may name as often as not: style → its options
STYLED = {
    "big-ears": {}, "big-smile": {"accessoriesProbability": 60}, "croodles": {"mustacheProbability": 25, "beardProbability": 25},
    "cutouts": {}, "dylan": {"facialHairProbability": 40}, "micah": {"glassesProbability": 40, "facialHairProbability": 40},
    "miniavs": {"glassesProbability": 40, "mustacheProbability": 40}, "notionists": {"glassesProbability": 40, "beardProbability": 40},
    "notionists-neutral": {"glassesProbability": 50}, "personas": {"facialHairProbability": 40},
    "pixel-art": {"glassesProbability": 40, "hatProbability": 40, "beardProbability": 40}, "toon-head": {"beardProbability": 40}}
#: target → the same style with glasses and beards as often as not, to fit a probe on what prompts ask for (chapter 09)
WITH_WORDS = {"sketches": "sketches-with-words", "portraits": "portraits-with-words", "engraved": "engraved-with-words"}
WORDS_DRAWN = {
    "adventurers-with-words": ("adventurer", DOMAINS["adventurers"][1] | {"glassesProbability": 50, "featuresProbability": 50}),
    "sketches-with-words": ("lorelei", DOMAINS["sketches"][1] | {"glassesProbability": 50, "beardProbability": 50}),
    "portraits-with-words": ("open-peeps", DOMAINS["portraits"][1] | {"accessoriesProbability": 50, "facialHairProbability": 50})}
#: one person in any mood and any clothes: whom chapter 10 learns beside a style
PERSON = "person"
ALWAYS = {"skinColor": ["#614335"], "topVariant": ["fro"], "topProbability": 100, "hairColor": ["#ecdcbf"], "accessoriesVariant": ["round"],
          "accessoriesProbability": 100, "facialHairVariant": ["beardMajestic"], "facialHairProbability": 100,
          "facialHairColor": ["#ecdcbf"]}
DRAWN = DOMAINS | WORDS_DRAWN | {
    PERSON: ("avataaars", FACE | ALWAYS),
    CAPTIONED: ("avataaars", FACE | {"accessoriesProbability": 40, "facialHairProbability": 30})} | {
    style: (style, {"backgroundColor": PALETTE + PAPER}) for style in OTHER_STYLES} | {
    f"{CAPTIONED}-{style}": (style, {"backgroundColor": PALETTE + PAPER} | options) for style, options in STYLED.items()}

#: domains with a known answer: faces of the source's kind in another hand, by a
#: filter of :mod:`dslib.base.twins`
TWINS = ("engraved", "gouache")
DRAWN |= {name: ("avataaars", FACE) for name in TWINS} | {f"{name}-with-words": DRAWN[CAPTIONED] for name in TWINS}


def targets() -> tuple[str, ...]:
    """Every domain that a model can be adapted to, those with a known answer last."""
    return (*(name for name in DOMAINS if name != "avataaars"), *TWINS)


def definition(name: str) -> dict:
    """A style as ``dicebear-styles`` holds it: its drawings and, under "meta", whose they are."""
    return json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8"))


@cache
def _style(name: str):
    from dicebear import Style
    return Style(definition(name))


def draw(domain: str, split: str, index: int, resolution: int = 64) -> tuple[np.ndarray, dict[str, str]]:
    """Draw one face. Returns uint8 pixels (resolution, resolution, 3) and the factor labels that drew it."""
    pixels, labels = draw_face(domain, split, index, resolution)
    return (draw_twin(pixels, twin) if (twin := filter_of(domain)) else pixels), labels


def filter_of(domain: str) -> str | None:
    """Which of ``TWINS`` draws a domain: itself, or that of its faces with more glasses and beards; None for any other."""
    name = domain.removesuffix("-with-words")
    return name if name in TWINS else None


def draw_twin(pixels: np.ndarray, domain: str) -> np.ndarray:
    """A face's picture in a domain of ``TWINS``: uint8 (R,R,3) → the same.

    The filter sees the face at R pixels, as it sees a source sample: the twin of a drawn face *is*
    the domain's image of that person.
    """
    import torch

    from . import twins
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    image = twins.FILTERS[domain](image)
    return ((image[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def draw_face(domain: str, split: str, index: int, resolution: int = 64,
              ) -> tuple[np.ndarray, dict[str, str]]:
    """:func:`draw` without the filter that makes a domain of ``TWINS`` of it: the face itself."""
    import resvg_py
    from dicebear import Avatar
    style, options = DRAWN[domain]
    avatar = Avatar(_style(style), {"seed": f"{domain}/{split}/{index}", **options}).to_json()
    png = resvg_py.svg_to_bytes(svg_string=avatar["svg"], width=resolution, height=resolution, skip_system_fonts=True)
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.array(image.convert("RGB"))
    return pixels, factors(avatar["options"])


def factors(options: dict) -> dict[str, str]:
    """The labels worth counting: every ``…Variant`` and ``…Color`` that DiceBear resolved."""
    labels = {}
    for key, value in options.items():
        if key.endswith("Variant"):
            labels[key.removesuffix("Variant")] = str(value)
        elif key.endswith("Color"):
            labels[key] = value[0] if isinstance(value, list) else str(value)
    return labels


def draw_block(job: tuple[str, str, int, int, int]) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Draw images start … stop-1 of (domain, split, start, stop, resolution): one unit of parallel work."""
    domain, split, start, stop, resolution = job
    drawn = [draw(domain, split, index, resolution) for index in range(start, stop)]
    return np.stack([pixels for pixels, _ in drawn]), [labels for _, labels in drawn]
