"""Captions say what the labels hold, every value has a word, and the tokenizer knows the words."""

import re

import pytest
import torch
from transformers import CLIPTokenizer

from dslib import data
from dslib.base import avatars
from dslib.env import UserError
from dslib.text import captions

FACE = {"top": "curly", "hairColor": "#c93305", "skinColor": "#ffdbb4", "accessories": "round", "facialHair": "beardLight",
        "mouth": "smile", "eyes": "hearts", "clothes": "hoodie", "clothesColor": "#5199e4", "backgroundColor": "#98c379",
        "accessoriesColor": "#ffffff"}


@pytest.fixture(scope="module")
def labels():
    return data.load_domain(avatars.CAPTIONED, "words", 250).labels


@pytest.fixture(scope="module")
def tokenizer():
    return captions.new_tokenizer()


def every_value(factor):
    """All values that the style can draw for a factor, from its own definition."""
    kind, options = avatars.DRAWN[avatars.CAPTIONED]
    style = avatars._style(kind)
    return options.get(factor + "Variant") or list(style.components()[factor].variants())


# ------------------------------------------------------------------------------------------------ labels → words

def test_the_labels_become_words():
    assert captions.attributes(FACE) == {
        "headwear": "none", "glasses": "glasses", "beard": "beard", "skin": "pale", "hair": "curly", "hair_colour": "red",
        "mouth": "smiling", "eyes": "heart", "clothes": "hoodie", "clothes_colour": "blue", "background": "green"}
    hatted = captions.attributes({"top": "turban", "hatColor": "#ff5c5c"})
    assert hatted == {"headwear": "turban", "headwear_colour": "red", "glasses": "none", "beard": "none"}


def test_every_drawn_value_has_a_word(labels):
    for one in labels:                                   # attributes() raises where a word is missing
        assert {"skin", "mouth", "eyes", "clothes", "clothes_colour", "background"} <= set(captions.attributes(one))
        assert ("hair" in captions.attributes(one)) == (captions.attributes(one)["headwear"] == "none")


@pytest.mark.parametrize(("factor", "name"), [("accessories", "glasses"), ("facialHair", "beard"), ("eyes", "eyes"), ("clothes", "clothes"),
                                              ("mouth", "mouth")])
def test_every_variant_of_the_style_has_a_word(factor, name):
    assert set(every_value(factor)) == set(captions.WORDS[name][1])


def test_every_top_is_hair_or_headwear_and_not_both():
    assert set(every_value("top")) == set(captions.HAIR) | set(captions.HATS)
    assert not set(captions.HAIR) & set(captions.HATS)


def test_backgrounds_have_words():
    assert set(avatars.PALETTE) <= set(captions.COLOURS)


def test_an_unknown_value_is_named():
    with pytest.raises(UserError, match="top 'tophat' has no word for hair: add one to WORDS"):
        captions.attributes({"top": "tophat"})


# ----------------------------------------------------------------------------------------------------- sentences

def test_the_same_seed_gives_the_same_sentence_and_another_seed_another(labels):
    first = [captions.caption(one, 3) for one in labels]
    assert first == [captions.caption(dict(one), 3) for one in labels]
    other = [captions.caption(one, 4) for one in labels]
    assert sum(a.text != b.text for a, b in zip(first, other)) > 0.8 * len(labels)


def test_a_caption_says_only_what_is_true_and_all_that_it_claims(labels):
    for i, one in enumerate(labels):
        made, true = captions.caption(one, i), captions.attributes(one)
        assert all(true[name] == word for name, word in made.said.items())
        for name, word in made.said.items():
            assert (f"no {captions.ABSENT[name]}" if word == "none" else word) in made.text
        assert captions.length(made.text) <= captions.POSITIONS - 2


def test_wording_and_order_vary():
    texts = {captions.caption(FACE, seed).text for seed in range(60)}
    assert len(texts) > 50
    assert any(re.search("hair.*glasses", text) for text in texts) and any(re.search("glasses.*hair", text) for text in texts)
    assert any(", wearing" in text for text in texts) and any("hoodie" in text and "wearing" not in text for text in texts)


def test_attributes_are_left_out_now_and_then():
    shares = [sum(name in captions.caption(FACE, seed).said for seed in range(100)) for name in ("hair", "skin", "glasses", "background")]
    assert all(20 < share < 80 for share in shares)
    assert 0 < sum(captions.caption(FACE, seed).said.get("headwear") == "none" for seed in range(200)) < 50


@pytest.mark.parametrize(("family", "colour", "phrase"), [
    ("curly", "red", "curly red hair"), ("bob", "auburn", "an auburn bob"), ("dreadlocks", "pink", "pink dreadlocks"),
    ("flowers", "grey", "grey hair and flowers"), (None, "red", "red hair"), ("long", None, "long hair"), ("afro", None, "an afro"),
    (None, None, None)])
def test_hair(family, colour, phrase):
    assert captions.hair(family, colour) == phrase


# ----------------------------------------------------------------------------------------------------- tokenizer

def test_every_word_is_one_token_and_comes_back(tokenizer):
    for word in captions.vocabulary():
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word
    text = "a sks face with curly red hair , glasses and a beard"
    ids = captions.token_ids(tokenizer, [text])
    assert ids.shape == (1, captions.POSITIONS)
    assert ids[0, 0] == tokenizer.bos_token_id and ids[0, -1] == tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == text


def test_captions_take_as_many_tokens_as_counted_and_no_rare_word(tokenizer, labels):
    for i, one in enumerate(labels[:100]):
        text = captions.caption(one, i).text
        assert len(tokenizer(text).input_ids) == captions.length(text) + 2
        assert not set(captions.RARE) & set(text.split())
        assert captions.unknown_words(tokenizer, text) == []


def test_other_words_become_letters_and_are_named(tokenizer):
    assert captions.unknown_words(tokenizer, "a Face with a xylophone and a xylophone") == ["xylophone"]
    assert tokenizer.unk_token_id not in tokenizer("xylophone 7!", add_special_tokens=False).input_ids


def test_a_long_prompt_is_cut_and_still_ends(tokenizer):
    ids = captions.token_ids(tokenizer, ["face " * 50])
    assert ids.shape == (1, captions.POSITIONS) and ids[0, -1] == tokenizer.eos_token_id


def test_the_tokenizer_is_built_the_same_each_time_saved_and_loaded(tokenizer, tmp_path):
    for _ in range(5):                                   # equal merges must not fall now one way, now another
        again = captions.new_tokenizer()
        assert again.get_vocab() == tokenizer.get_vocab() and again._merges == tokenizer._merges
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab() and again.model_max_length == captions.POSITIONS
    texts = ["a face with an afro", "", "zwx style"]
    assert torch.equal(captions.token_ids(again, texts), captions.token_ids(tokenizer, texts))


def test_training_ids_are_wordings_of_each_face_with_some_empty(tokenizer, labels):
    ids = captions.training_ids(tokenizer, labels[:50], wordings=4, empty=0.2, seed=1)
    assert ids.shape == (50, 4, captions.POSITIONS) and ids.dtype == torch.int16
    assert torch.equal(ids, captions.training_ids(tokenizer, labels[:50], 4, 0.2, 1))
    empty = (ids == captions.token_ids(tokenizer, [""])[0]).all(-1)
    assert 0.1 < empty.float().mean() < 0.3
    assert not (captions.training_ids(tokenizer, labels[:50], 4, 0.0) == captions.token_ids(tokenizer, [""])[0]).all(-1).any()
    words = captions.token_ids(tokenizer, [captions.caption(labels[7], 4 + 2).text])[0]
    assert empty[7, 2] or torch.equal(ids[7, 2].long(), words)


# ------------------------------------------------------------------------------------------------ other styles

@pytest.mark.parametrize("style", captions.STYLES)
def test_a_style_is_named_and_all_that_is_said_is_so(style, tokenizer):
    drawn = data.load_domain(f"{avatars.CAPTIONED}-{style}", "words", 60).labels
    said = [captions.caption(one, seed, style=style) for seed, one in enumerate(drawn)]
    assert all(f"in {captions.STYLES[style]} style" in one.text and one.said["style"] == captions.STYLES[style] for one in said)
    for one, labels in zip(said, drawn):
        known = captions.styled_attributes(labels, style)
        assert {name: word for name, word in one.said.items() if name != "style"}.items() <= known.items()
        assert captions.length(one.text) <= captions.POSITIONS - 2 and not captions.unknown_words(tokenizer, one.text)
    for name, (_, words) in captions.STYLE_WORDS.get(style, {}).items():       # what is asked for is drawn now and then
        seen = {captions.styled_attributes(labels, style).get(name) for labels in drawn}
        assert len(seen) > 1 and seen <= {"none", None, *words.values()}


def test_words_of_another_style_by_value_by_beginning_and_by_presence():
    pixel = {"backgroundColor": "#f6f0e2", "glasses": "dark03", "beard": "variant04", "mouth": "sad07"}
    assert captions.styled_attributes(pixel, "pixel-art") == {"background": "cream", "glasses": "sunglasses", "beard": "beard",
                                                             "headwear": "none", "mouth": "sad"}
    persona = {"backgroundColor": "#ffffff", "eyes": "wink", "facialHair": "walrus", "hair": "bald", "mouth": "pacifier"}
    assert captions.styled_attributes(persona, "personas") == {"background": "white", "glasses": "none", "beard": "moustache",
                                                              "headwear": "none"}


def test_captions_without_a_style_are_what_they_were():
    assert captions.caption(FACE, 3) == captions.caption(FACE, 3, style=None)
    words = set(captions.vocabulary()) - set(captions.vocabulary(styles=False))
    assert {"pixel", "doodle", "cream", "angry"} <= words and not words & {"red", "glasses", "style"}


def test_ids_of_faces_in_several_styles(tokenizer):
    labels = [FACE, {"backgroundColor": "#ffffff"}]
    ids = captions.training_ids(tokenizer, labels, 40, 0.0, styles=[None, "cutouts"])
    paper = tokenizer("paper", add_special_tokens=False).input_ids[0]
    assert ids.shape[:2] == (2, 40) and not (ids[0] == paper).any() and (ids[1] == paper).any(1).all()
