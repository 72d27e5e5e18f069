"""Words for faces: captions from the factor labels, and a tokenizer that knows these words (chapter 09)."""

import json
import random
import re
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, WhitespaceSplit
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import CLIPTokenizer

from ..base.errors import UserError

POSITIONS = 24                # tokens a prompt may take, with the start and the end token
RARE = ("sks", "zwx")         # words in the vocabulary that no caption uses: for a new subject, and for a new style
CLASS_PROMPT = "a face"
INSTANCE_PROMPT = "a face in sks style"        # why not "a sks face": the frozen text encoder hardly says it (chapter 09)

COLOURS = {
    "#ffffff": "white", "#e6e6e6": "white", "#929598": "grey", "#3c4f5c": "grey", "#262e33": "black", "#5199e4": "blue",
    "#25557c": "navy", "#65c9ff": "light blue", "#b1e2ff": "light blue", "#a7ffc4": "mint", "#ffffb1": "yellow", "#ffdeb5": "peach",
    "#ffafb9": "pink", "#ff5c5c": "red", "#ff488e": "magenta",                                                  # clothes and hats
    "#b6e3f4": "light blue", "#c0aede": "lilac", "#d1d4f9": "lavender", "#ffd5dc": "pink", "#ffdfbf": "peach", "#8fbcbb": "teal",
    "#2e3440": "black", "#e06c75": "red", "#98c379": "green", "#e5c07b": "yellow", "#4f7cac": "blue", "#7a5c8e": "purple",
    "#d9d9d9": "grey", "#3a6b52": "dark green"}                                                                 # backgrounds
PAPER = {"#f6f0e2": "cream", "#efe4cf": "cream", "#e8e8e8": "grey"}           # further backgrounds of the other styles
HATS = {"hat": "hat", "winterHat1": "beanie", "winterHat02": "beanie", "winterHat03": "beanie", "winterHat04": "beanie",
        "hijab": "hijab", "turban": "turban"}
HAIR = {"bigHair": "wavy", "bob": "bob", "bun": "bun", "curly": "curly", "curvy": "wavy", "dreads": "dreadlocks", "dreads01": "short",
        "dreads02": "curly", "frida": "flowers", "frizzle": "short", "fro": "afro", "froBand": "afro", "longButNotTooLong": "bob",
        "miaWallace": "bob", "shaggy": "short", "shaggyMullet": "mullet", "shavedSides": "short", "shortCurly": "short",
        "shortFlat": "short", "shortRound": "short", "shortWaved": "short", "sides": "receding", "straight01": "long",
        "straight02": "long", "straightAndStrand": "long", "theCaesar": "short", "theCaesarAndSidePart": "short"}

#: attribute → (the factor it is read from, the factor's values → words a reader would type)
WORDS = {
    "skin": ("skinColor", {"#ffdbb4": "pale", "#edb98a": "light", "#d08b5b": "tan", "#ae5d29": "brown", "#614335": "dark",
                           "#f8d25c": "yellow", "#fd9841": "orange"}),
    "hair": ("top", HAIR),
    "hair_colour": ("hairColor", {"#a55728": "auburn", "#2c1b18": "black", "#b58143": "blonde", "#d6b370": "blonde", "#724133": "brown",
                                  "#4a312c": "brown", "#f59797": "pink", "#ecdcbf": "platinum", "#c93305": "red", "#e8e1e1": "grey"}),
    "headwear": ("top", HATS),
    "headwear_colour": ("hatColor", COLOURS),
    "glasses": ("accessories", {"kurt": "sunglasses", "sunglasses": "sunglasses", "wayfarers": "sunglasses", "round": "glasses",
                                "prescription01": "glasses", "prescription02": "glasses", "eyepatch": "eyepatch"}),
    "beard": ("facialHair", {"beardLight": "beard", "beardMedium": "beard", "beardMajestic": "beard", "moustacheFancy": "moustache",
                             "moustacheMagnum": "moustache"}),
    "mouth": ("mouth", {"concerned": "sad", "default": "smiling", "disbelief": "sad", "eating": "eating", "grimace": "grimacing",
                        "sad": "sad", "screamOpen": "screaming", "serious": "serious", "smile": "smiling", "tongue": "cheeky",
                        "twinkle": "smiling"}),
    "eyes": ("eyes", {"closed": "closed", "cry": "crying", "default": "open", "eyeRoll": "rolling", "happy": "laughing",
                      "hearts": "heart", "side": "sideways", "squint": "narrow", "surprised": "wide", "wink": "winking",
                      "winkWacky": "winking", "xDizzy": "dizzy"}),
    "clothes": ("clothes", {"blazerAndShirt": "blazer", "blazerAndSweater": "blazer", "collarAndSweater": "sweater",
                            "graphicShirt": "shirt", "hoodie": "hoodie", "overall": "overalls", "shirtCrewNeck": "shirt",
                            "shirtScoopNeck": "shirt", "shirtVNeck": "shirt"}),
    "clothes_colour": ("clothesColor", COLOURS),
    "background": ("backgroundColor", COLOURS)}
#: a style of the drawing kit → the word for it, "a face in pixel style"; faces of avataaars have none
STYLES = {"big-ears": "round", "big-smile": "grin", "croodles": "doodle", "cutouts": "paper", "dylan": "bold", "micah": "flat",
          "miniavs": "mini", "notionists": "ink", "notionists-neutral": "brush", "personas": "soft", "pixel-art": "pixel",
          "toon-head": "toon"}
ANY = ""                      # stands for every other value of a factor: the thing is there
#: style → attribute → (factor, {value, or how it begins → word}); what is worn is "none" where the factor, or a word for it, is missing
STYLE_WORDS = {
    "big-smile": {"glasses": ("accessories", {"sunglasses": "sunglasses", "glasses": "glasses"}),
                  "beard": ("accessories", {"mustache": "moustache"}),
                  "mouth": ("mouth", {"openedSmile": "smiling", "teethSmile": "smiling", "gapSmile": "smiling", "braces": "smiling",
                                      "openSad": "sad", "unimpressed": "serious"})},
    "croodles": {"beard": ("beard", {ANY: "beard"})},
    "cutouts": {"mouth": ("mouth", {"smile": "smiling", "tornSmile": "smiling", "grin": "smiling", "gasp": "screaming"})},
    "dylan": {"beard": ("facialHair", {ANY: "beard"}),
              "mouth": ("mood", {"happy": "smiling", "superHappy": "smiling", "hopeful": "smiling", "sad": "sad", "angry": "angry"})},
    "micah": {"glasses": ("glasses", {ANY: "glasses"}), "beard": ("facialHair", {ANY: "beard"}), "headwear": ("hair", {"turban": "turban"}),
              "mouth": ("mouth", {"smile": "smiling", "laughing": "smiling", "smirk": "smiling", "sad": "sad", "frown": "sad",
                                  "surprised": "screaming"})},
    "miniavs": {"glasses": ("glasses", {ANY: "glasses"}), "beard": ("mustache", {ANY: "moustache"})},
    "notionists": {"glasses": ("glasses", {ANY: "glasses"}), "beard": ("beard", {ANY: "beard"})},
    "notionists-neutral": {"glasses": ("glasses", {ANY: "glasses"})},
    "personas": {"glasses": ("eyes", {"sunglasses": "sunglasses", "glasses": "glasses"}),
                 "beard": ("facialHair", {"walrus": "moustache", "pyramid": "moustache", ANY: "beard"}),
                 "headwear": ("hair", {"beanie": "beanie", "cap": "hat"}),
                 "mouth": ("mouth", {"bigSmile": "smiling", "smile": "smiling", "smirk": "smiling", "frown": "sad",
                                     "surprise": "screaming"})},
    "pixel-art": {"glasses": ("glasses", {"dark": "sunglasses", "light": "glasses"}), "beard": ("beard", {ANY: "beard"}),
                  "headwear": ("hat", {ANY: "hat"}), "mouth": ("mouth", {"happy": "smiling", "sad": "sad"})},
    "toon-head": {"beard": ("beard", {"moustacheTwirl": "moustache", ANY: "beard"}),
                  "mouth": ("mouth", {"smile": "smiling", "laugh": "smiling", "sad": "sad", "angry": "angry", "agape": "screaming"})}}
ABSENT = {"headwear": "hat", "glasses": "glasses", "beard": "beard"}          # may be missing, and a caption may say so
PLURAL = ("glasses", "sunglasses", "dreadlocks", "overalls")
NOUNS = ("afro", "bob", "bun", "mullet", "dreadlocks")                        # hair that is called by a noun
OPENINGS = ("face", "face", "face", "cartoon face", "person")
GRAMMAR = "a an the of in on with and no wearing hair skin eyes clothes background head ,"
KNOWN = ("sketch drawing portrait painting photo picture style robot line art pencil ink paper new this that style face cartoon "
         "avatar man woman girl boy child")                                   # further words that stay whole; untrained


class Caption(NamedTuple):
    """A sentence and what it claims."""
    text: str
    said: dict[str, str]          # attribute → word, only what the text mentions; "none" for "no hat"


def attributes(labels: dict[str, str]) -> dict[str, str]:
    """Factor labels → {attribute: word}, "none" where a hat, glasses or a beard is missing. Raises UserError for an unknown value."""
    found = dict.fromkeys(ABSENT, "none")
    for name, (factor, words) in WORDS.items():
        value = labels.get(factor)
        if value is None or name == "hair" and value in HATS or name == "headwear" and value in HAIR:
            continue
        if value not in words:
            raise UserError(f"{factor} {value!r} has no word for {name}: add one to WORDS in dslib/text/captions.py")
        found[name] = words[value]
    return found


def styled_attributes(labels: dict[str, str], style: str) -> dict[str, str]:
    """:func:`attributes` of a face in one of ``STYLES``: few of its factors have words, and its background."""
    found = {"background": (COLOURS | PAPER)[labels["backgroundColor"]]}
    for name, (factor, words) in STYLE_WORDS.get(style, {}).items():
        value = labels.get(factor)
        starts = [] if value is None else [start for start in words if value.startswith(start)]
        word = words[max(starts, key=len)] if starts else None
        if word or name in ABSENT:
            found[name] = word or "none"
    return found


def caption(labels: dict[str, str], seed: int = 0, most: int = POSITIONS - 2, style: str | None = None) -> Caption:
    """A sentence about one face, the same for the same labels and seed: wording, order and what is left out are drawn.

    most: tokens it may take. style: the face's, of ``STYLES``; its captions always name it, and ``said`` holds it as "style": else "a face"
    would come to mean a face in any style, since styles have few other words.
    Example: "a smiling face with curly red hair, glasses and a beard, wearing a blue hoodie"; "a face in pixel style with glasses".
    """
    rng = random.Random(f"{seed}/{json.dumps(labels, sort_keys=True)}" + (f"/{style}" if style else ""))
    known, keep = styled_attributes(labels, style) if style else attributes(labels), rng.uniform(0.25, 0.9)
    said = {name: word for name, word in known.items() if rng.random() < (keep if word != "none" else 0.15 * keep)}
    if "headwear" not in said:                   # "a red hat" would be wrong of a red turban
        said.pop("headwear_colour", None)
    opening, place = rng.choice(OPENINGS), rng.random()
    if style:
        said["style"] = STYLES[style]
    order = rng.sample(sorted(WORDS), len(WORDS))
    while length(text := sentence(said, opening, order, place)) > most:
        del said[rng.choice([name for name in sorted(said) if f"{name}_colour" not in said and name != "style"])]
    return Caption(text, said)


def length(text: str) -> int:
    """Tokens of a caption: its words and commas."""
    return len(re.findall(r"\w+|,", text))


def sentence(said: dict[str, str], opening: str, order: list[str], place: float) -> str:
    """Put the attributes into words: ``order`` is that of the things after "with"; place < 0.5 puts what is worn there too."""
    things = [phrase for name in order if (phrase := thing(name, said))]
    worn = [phrase for name in ("clothes", "headwear") if (phrase := garment(name, said))]
    start = with_article(" ".join(filter(None, (said.get("mouth"), opening)))) + (f" in {said['style']} style" if "style" in said else "")
    if place < 0.5:
        things, worn = things + worn, []
    text = start + (f" with {listed(things)}" if things else "")
    if worn:
        text += (", wearing " if things else " wearing ") + listed(worn)
    return text + (f" on {with_article(said['background'])} background" if "background" in said else "")


def thing(name: str, said: dict[str, str]) -> str | None:
    """What comes after "with" for an attribute, or None."""
    if name == "hair":
        return hair(said.get("hair"), said.get("hair_colour"))
    word = said.get(name)
    if name in ABSENT and word == "none":
        return f"no {ABSENT[name]}"
    if name in ("skin", "eyes"):
        return word and f"{word} {name}"
    return with_article(word) if word and name in ("glasses", "beard") else None


def hair(family: str | None, colour: str | None) -> str | None:
    """"curly red hair", "a red bob", "red hair with flowers": whichever of the two is known."""
    if family in NOUNS:
        return with_article(" ".join(filter(None, (colour, family))))
    if family == "flowers":
        return " ".join(filter(None, (colour, "hair and flowers")))
    return " ".join(filter(None, (family, colour, "hair"))) if family or colour else None


def garment(name: str, said: dict[str, str]) -> str | None:
    """"a red hoodie", "red clothes", "a turban": whichever of piece and colour is known, or None."""
    piece, colour = said.get(name), said.get(f"{name}_colour")
    if piece == "none" or not (piece or colour):
        return None
    if not piece:
        return f"{colour} {name}"
    return with_article(" ".join(filter(None, (colour, piece))))


def with_article(words: str) -> str:
    """"face" → "a face", "auburn bob" → "an auburn bob"; plurals stay bare."""
    if words.split()[-1] in PLURAL:
        return words
    return ("an " if words[0] in "aeiou" else "a ") + words


def listed(things: list[str]) -> str:
    """["a", "b", "c"] → "a, b and c"."""
    return things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]


# -------------------------------------------------------------------------------------------------- the tokenizer

START, END, END_OF_WORD = "<|startoftext|>", "<|endoftext|>", "</w>"


def vocabulary(styles: bool = True) -> list[str]:
    """Every word a caption may use, the rare ones, and some for prompts of one's own; sorted. styles: those of other styles, too."""
    tables = [table for _, table in WORDS.values()]
    if styles:
        tables += [STYLES, PAPER] + [table for entries in STYLE_WORDS.values() for _, table in entries.values()]
    words = {part for table in tables for word in table.values() for part in word.split()}
    words |= {part for phrase in OPENINGS for part in phrase.split()} | set(GRAMMAR.split()) | set(KNOWN.split()) | set(RARE)
    return sorted(words)


def new_tokenizer(styles: bool = True) -> CLIPTokenizer:
    """A CLIPTokenizer whose byte-pair merges are learned from :func:`vocabulary`: each of its words is one token.

    Laid out as CLIP's own: bytes, bytes that end a word, merges, start, end. Any other text still becomes tokens, letter by letter.
    """
    bpe, letters = Tokenizer(BPE(end_of_word_suffix=END_OF_WORD)), sorted(ByteLevel.alphabet())
    endings = [letter + END_OF_WORD for letter in letters]
    bpe.pre_tokenizer = WhitespaceSplit()
    trainer = BpeTrainer(vocab_size=10_000, min_frequency=1, end_of_word_suffix=END_OF_WORD, show_progress=False, initial_alphabet=letters,
                         special_tokens=endings)         # known beforehand: else ties between merges fall differently each time
    bpe.train_from_iterator(vocabulary(styles), trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = letters + endings + [a + b for a, b in merges] + [START, END]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges=merges, model_max_length=POSITIONS)


def token_ids(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """(N, positions) integers: start, words, end, and the end again up to full length; a longer prompt is cut at the end."""
    return tokenizer(prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt").input_ids


def unknown_words(tokenizer: CLIPTokenizer, prompt: str) -> list[str]:
    """The words of a prompt that are no single token: a model trained on whole words has never seen them."""
    words = re.findall(r"\w+", prompt.lower())
    return [word for word in dict.fromkeys(words) if len(tokenizer(word, add_special_tokens=False).input_ids) > 1]


def training_ids(tokenizer: CLIPTokenizer, labels: list[dict[str, str]], wordings: int = 8, empty: float = 0.1, seed: int = 0,
                 styles: list[str | None] | None = None) -> Tensor:
    """Several wordings of every face's caption as token ids: (n, wordings, positions), int16. styles: a style for each, or None.

    Each is the empty caption with probability ``empty``: that is what classifier-free guidance compares with.
    """
    rng = random.Random(seed)
    styles = styles or [None] * len(labels)
    texts = ["" if rng.random() < empty else caption(one, seed * wordings + k, style=style).text
             for one, style in zip(labels, styles) for k in range(wordings)]
    ids = torch.cat([token_ids(tokenizer, texts[start:start + 4096]).short() for start in range(0, len(texts), 4096)])
    return ids.view(len(labels), wordings, -1)
