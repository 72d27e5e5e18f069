"""Words of their own for every training and prior picture: ``metadata.jsonl``, and the prompts that follow from it (chapter 09)."""

import json
import random
import re
from pathlib import Path
from typing import NamedTuple

from diffusers import StableDiffusionPipeline

from .. import data
from ..base.errors import UserError, shown
from . import captions

METADATA = "metadata.jsonl"          # beside the pictures, as the datasets library's imagefolder reads it
DRAWN = "captions"                   # --prior_prompts: captions of faces that the drawing kit draws


def read_metadata(folder: str | Path, paths: list[Path]) -> list[str] | None:
    """The captions of the pictures at ``paths``, in their order, from a folder's ``metadata.jsonl``; None where there is no such file.

    A line is a JSON object with ``file_name``, relative to the folder, and ``text``. Raises UserError that names line and mend: invalid
    JSON, other columns, an empty caption, a file that is no picture of the folder, two captions for one, a picture without a caption.
    """
    file = Path(folder) / METADATA
    if not file.exists():
        return None
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{shown(file)} cannot be read: save it as UTF-8 text, a JSON object a line") from None
    known, found = {path.resolve(): i for i, path in enumerate(paths)}, {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            name, text = one_line(line, f"line {number} of {shown(file)}")
            place = known.get((Path(folder) / name).resolve())
            if place is None:
                raise UserError(f"line {number} of {shown(file)} names {name!r}, which is none of the {len(paths)} pictures that are read: "
                                "mend the name, or take the line out")
            if place in found:
                raise UserError(f"line {number} of {shown(file)}: {name!r} has a caption already; leave one of the two")
            found[place] = text
    if missing := [path.name for i, path in enumerate(paths) if i not in found]:
        others = f", nor for {len(missing) - 1} others" if len(missing) > 1 else ""
        raise UserError(f"{shown(file)} has no line for {missing[0]!r}{others}: every picture needs a caption, or take the file away")
    return [found[i] for i in range(len(paths))]


def one_line(line: str, where: str) -> tuple[str, str]:
    """(file_name, text) of a line; where: what an error calls it."""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is no valid JSON ({error}): write {{\"file_name\": \"0.png\", \"text\": \"a face\"}}") from None
    if not isinstance(entry, dict):
        raise UserError(f"{where} is no JSON object: write {{\"file_name\": \"0.png\", \"text\": \"a face\"}}")
    for key in ("file_name", "text"):
        if key not in entry:
            raise UserError(f"{where} has no {key!r}, only {', '.join(map(repr, entry)) or 'nothing'}: rename the column to {key}")
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise UserError(f"{where}: {key!r} is {entry[key]!r}: it must be words")
    return entry["file_name"], entry["text"].strip()


def styled(text: str, instance_prompt: str, class_prompt: str, rare: str) -> str:
    """P_tar of a caption: "a face with glasses" → "a face in sks style with glasses". One that has the rare word already stays as it is.

    Raises UserError where the caption has neither the rare word nor the class prompt, in whose place the instance prompt goes.
    """
    if rare in text.lower().split():
        return text
    place = re.search(rf"\b{re.escape(class_prompt)}\b", text, re.IGNORECASE)
    if place is None:
        raise UserError(f"the caption {text!r} has neither the rare word {rare!r} nor {class_prompt!r}: use one of them, so that the style "
                        "gets its word")
    return text[:place.start()] + instance_prompt + text[place.end():]


def plain(text: str, instance_prompt: str, class_prompt: str, rare: str) -> str:
    """P_sou of a caption, what the source is asked: the same words without the style.

    "a face in sks style with glasses" → "a face with glasses". Where the instance prompt does not stand in it, the rare word is left out.
    """
    place = re.search(rf"\b{re.escape(instance_prompt)}\b", text, re.IGNORECASE)
    if place is not None:
        return text[:place.start()] + class_prompt + text[place.end():]
    return " ".join(word for word in text.split() if word.lower() != rare)


class Asked(NamedTuple):
    """The prompts of one training picture and of one prior picture."""
    target: str         # P_tar: the training picture's, in the new style
    source: str         # P_sou: the same without the style
    prior: str          # what the source drew the prior picture from
    anchor: str         # the same in the new style


def asked(texts: list[str], prior_prompts: list[str], instance_prompt: str, class_prompt: str, rare: str) -> list[list[Asked]]:
    """The prompts of every training picture i with each of its K companions, prior pictures i·K to (i+1)·K: n lists of K.

    texts: n captions; prior_prompts: m ≥ n, the first K·n of which are used, K = m // n.
    """
    each = len(prior_prompts) // len(texts)
    words = instance_prompt, class_prompt, rare
    sides = [(styled(text, *words), plain(text, *words)) for text in texts]
    drawn = [(prompt, styled(prompt, *words)) for prompt in prior_prompts[:each * len(texts)]]
    return [[Asked(*sides[i], *drawn[i * each + k]) for k in range(each)] for i in range(len(texts))]


def check_fit(pipe: StableDiffusionPipeline, prompts: list[str], what: str) -> None:
    """Raise a UserError that names the first prompt longer than the tokenizer takes."""
    most = pipe.tokenizer.model_max_length
    for prompt in prompts:
        if (n := len(pipe.tokenizer(prompt, truncation=False, verbose=False).input_ids)) > most:
            raise UserError(f"{what} {prompt!r} takes {n} tokens and {most} fit: say it in fewer words")


def prior_prompts(given: str | None, n: int, instance_prompt: str, class_prompt: str, seed: int = 0) -> list[str] | None:
    """The prompts of n prior pictures: None for the class prompt alone, "captions" for captions of drawn faces, else a text file with a
    prompt a line, gone through as often as needed.

    Captions are in the words of the shipped source, with ``class_prompt`` in the place of their opening words, and leave room for the
    instance prompt. Raises UserError for a file that is missing or empty, or a prompt without the class prompt.
    """
    if given is None:
        return None
    if given == DRAWN:
        rng, faces = random.Random(seed), data.load_domain(data.SOURCE, "probe", max(2, n)).labels
        most = captions.POSITIONS - 2 - max(0, captions.length(instance_prompt) - captions.length(class_prompt))
        texts = [captions.caption(face, rng.randrange(10**6), most) for face in faces[:n]]
        return [reopened(one, class_prompt) for one in texts]
    try:
        lines = [line.strip() for line in Path(given).read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise UserError(f"--prior_prompts {given} cannot be read: give a text file with a prompt a line, or the word {DRAWN!r}") from None
    if not lines:
        raise UserError(f"--prior_prompts {given} is empty: a prompt a line is wanted")
    for number, line in enumerate(lines, 1):
        if not re.search(rf"\b{re.escape(class_prompt)}\b", line, re.IGNORECASE):
            raise UserError(f"line {number} of --prior_prompts {given}, {line!r}, lacks the class prompt {class_prompt!r}")
    return [lines[i % len(lines)] for i in range(n)]


def reopened(caption: captions.Caption, class_prompt: str) -> str:
    """A caption with the class prompt as its opening: "a smiling cartoon face with glasses" → "a face with glasses"; the mouth's word
    goes with the opening."""
    opening = next(words for words in sorted(set(captions.OPENINGS), key=len, reverse=True) if words in caption.text)
    return class_prompt + caption.text.split(opening, 1)[1]
