"""The shipped text-to-image source: ordinary, light, and as good as its card says."""

import json
import re

import pytest
import torch

from dslib import data, ddpm, env, sample
from dslib.show import plots
from dslib.text import captions, latent

FOLDER = env.data_dir() / "text_to_image"


@pytest.fixture(scope="module")
def source():
    return latent.load_pipeline(FOLDER)


def test_it_is_light_and_holds_no_pickle():
    files = [p for p in FOLDER.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 15e6
    assert not [p for p in files if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]


def test_its_vocabulary_is_the_scripts(source):
    assert source.tokenizer.get_vocab() == captions.new_tokenizer().get_vocab()


def test_it_answers_v_and_knows_styles(source):
    assert source.scheduler.config.prediction_type == "v_prediction" and source.unet.config.in_channels == 8
    noise, prompts = sample.start_noise(3, 16, 0, 8), ["a face in ink style", "a face in pixel style", "a face on a yellow background"]
    ink, pixel, yellow = latent.draw(source, prompts, noise[:1].expand(3, -1, -1, -1), 3.0, 8)
    rough = [(one[:, :, 1:] - one[:, :, :-1]).abs().mean() for one in (pixel, yellow)]
    assert rough[0] > 1.3 * rough[1], "pixels have more edges"
    colour = [(one.max(0).values - one.min(0).values)[20:44, 20:44].mean() for one in (ink, yellow)]
    assert colour[0] < 0.7 * colour[1], "faces of ink are black and white"


def test_the_card_states_what_was_measured():
    attributes = json.loads((FOLDER / "metrics.json").read_text())["attributes"]
    assert {"skin", "hair_colour", "glasses", "headwear", "hair"} <= set(attributes)
    card = (FOLDER / "README.md").read_text("utf-8")
    for name, row in attributes.items():
        stated = re.search(rf"^\| {name} \| (\d+) % \| (\d+) % \| (\d+) \|$", card, re.M)
        assert stated, f"{name} is not in the card's table"
        assert [int(x) for x in stated.groups()] == [round(100 * row["accuracy"]), round(100 * row["ceiling"]), row["n"]]


def test_the_card_states_every_style():
    card, styles = (FOLDER / "README.md").read_text("utf-8"), json.loads((FOLDER / "metrics.json").read_text())["styles"]
    assert list(styles) == list(captions.STYLES.values())
    for style, found in styles.items():
        row = re.search(rf"^\| {style} \| (\d+) % \((\d+)\) \|", card, re.M)
        assert row, f"{style} is not in the card's table"
        assert [int(x) for x in row.groups()] == [round(100 * found["style"][key]) for key in ("accuracy", "ceiling")]


def test_the_autoencoder_keeps_nine_tenths_of_small_things_in_every_style():
    """What a probe reads of glasses, beards and mouths; the whole table is the card's."""
    card, kept = (FOLDER / "README.md").read_text("utf-8"), json.loads((FOLDER / "vae.json").read_text())["words_kept"]
    assert {"engraved", "portraits", "sketches", "adventurers", "robots", "gouache"} <= set(kept)
    for style, things in kept.items():
        for thing, share in things.items():
            assert thing == "eyes" or share["decoded"] >= 0.895 * share["real"], (style, thing)
            assert f"| {style} | {thing} | {100 * share['real']:.0f} % | {100 * share['decoded']:.0f} % |" in card


def test_two_rare_words_are_two_prompts_to_the_u_net(source):
    """Before training: the answers to a style's and a person's prompt differ at least a quarter as much as glasses make a difference."""
    faces = data.load_domain("portraits", "ten").images
    z, t = latent.encode(source.vae, faces), torch.full((10,), 500)
    eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    z_t = ddpm.q_sample(z, t, eps, source.scheduler.alphas_cumprod)
    prompts = ["a face in sks style", "a face of zwx", "a face", "a face with glasses"]
    with torch.no_grad():
        style, person, face, glasses = (source.unet(z_t, t, text.expand(10, -1, -1)).sample
                                        for text in latent.embed(source, prompts).split(1))
    assert (style - person).square().mean() > 0.25 * (glasses - face).square().mean()


def test_a_colour_that_is_asked_for_is_drawn(source):
    """No probe: the corners' mean colour is nearer to the background that the caption names than to the other's."""
    wanted = {"yellow": "#e5c07b", "black": "#2e3440"}
    noise = sample.start_noise(4, source.unet.config.sample_size, seed=0, channels=source.unet.config.in_channels)
    colours = {word: torch.tensor([int(code[i:i + 2], 16) / 127.5 - 1 for i in (1, 3, 5)]) for word, code in wanted.items()}
    for word, other in (("yellow", "black"), ("black", "yellow")):
        corners = latent.draw(source, [f"a face on a {word} background"] * 4, noise, 3.0, 8)[:, :, :6, [0, 1, 2, 61, 62, 63]].mean((2, 3))
        near, far = ((corners - colours[w]).norm(dim=1) for w in (word, other))
        assert (near < far).sum() >= 3


def test_the_decoder_gives_targets_back(source):
    images = data.load_domain("portraits", "ten").images
    with torch.no_grad():
        back = latent.decode(source.vae, latent.encode(source.vae, images)).clamp(-1, 1)
    assert (back - images).abs().mean() < 0.1 and plots.tile(back, 10).std() > 20
