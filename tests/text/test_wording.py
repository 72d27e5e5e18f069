"""Captions of one's own: metadata.jsonl line by line, the prompts that follow, and losses in which every picture has its own words."""

import copy
import json

import pytest
import torch
from conftest import make_images
from test_prompted import adapt as command
from test_prompted import ten  # noqa: F401
from test_text_to_image import SOU, TAR, config, first_batch, hf, run, same, slow_kl, weights

from dslib.env import UserError
from dslib.text import captions, latent, text_to_image, wording

STYLE = ("a face in sks style", "a face", "sks")


@pytest.fixture
def folder(tmp_path):
    """Three pictures' paths; what they hold is nobody's business here."""
    for name in ("a.png", "b.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path, [tmp_path / name for name in ("a.png", "b.png", "sub/c.png")]


def write(folder, *lines):
    (folder[0] / wording.METADATA).write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines), "utf-8")
    return wording.read_metadata(*folder)


A, B, C = ({"file_name": name, "text": f"a face {i}"} for i, name in enumerate(("a.png", "b.png", "sub/c.png")))


def test_captions_come_in_the_order_of_the_pictures(folder):
    assert wording.read_metadata(*folder) is None
    assert write(folder, C, "", {"text": " a face 0 ", "file_name": "./a.png", "more": 1}, B) == ["a face 0", "a face 1", "a face 2"]
    file = folder[0] / wording.METADATA
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())               # as some editors begin a file
    assert wording.read_metadata(*folder)[2] == "a face 2"


@pytest.mark.parametrize(("lines", "words"), [
    ([A, '{"file_name": "b.png", "text"', C], r"line 2 of .*metadata\.jsonl is no valid JSON"),
    ([A, ["b.png", "a face"], C], "line 2 .* is no JSON object"),
    ([{"file_name": "a.png", "caption": "a face"}], "line 1 .* has no 'text', only 'file_name', 'caption': rename the column to text"),
    ([{"image": "a.png", "text": "a face"}], "has no 'file_name'.*rename the column to file_name"),
    ([A, B | {"text": "  "}], "line 2 .*'text' is '  ': it must be words"), ([A, B | {"text": 7}], "'text' is 7"),
    ([A, B, C, A | {"file_name": "d.png"}], "line 4 .* names 'd.png', which is none of the 3 pictures"),
    ([A, B, C, A], "line 4 .*'a.png' has a caption already"),
    ([A], "has no line for 'b.png', nor for 1 others: every picture needs a caption"), ([A, B], "has no line for 'c.png': every")])
def test_a_wrong_line_is_named_with_its_mend(folder, lines, words):
    with pytest.raises(UserError, match=words):
        write(folder, *lines)


def test_a_file_that_is_no_text_is_named(folder):
    (folder[0] / wording.METADATA).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read: save it as UTF-8"):
        wording.read_metadata(*folder)


@pytest.mark.parametrize(("text", "target", "source"), [
    ("a face with glasses", "a face in sks style with glasses", "a face with glasses"),
    ("A face", "a face in sks style", "A face"), ("a face in sks style with a hat", "a face in sks style with a hat", "a face with a hat"),
    ("a sks drawing of a man", "a sks drawing of a man", "a drawing of a man")])
def test_a_caption_gets_the_styles_word_once_and_loses_it_for_the_source(text, target, source):
    assert wording.styled(text, *STYLE) == target and wording.plain(text, *STYLE) == source


@pytest.mark.parametrize("text", ["a man", "a faces", "glasses"])
def test_a_caption_without_a_place_for_the_style_is_refused(text):
    with pytest.raises(UserError, match=f"the caption '{text}' has neither the rare word 'sks' nor 'a face'"):
        wording.styled(text, *STYLE)


def test_every_picture_keeps_its_words_beside_its_companions():
    drawn = [f"a face with {i}" for i in range(5)]
    found = wording.asked(["a face, old", "a face, young"], drawn, *STYLE)
    assert [[one.prior for one in row] for row in found] == [drawn[:2], drawn[2:4]]
    assert found[1][0] == ("a face in sks style, young", "a face, young", "a face with 2", "a face in sks style with 2")


def test_prior_prompts_are_read_or_drawn_and_fit_in_the_new_style(tmp_path, tiny_text):
    assert wording.prior_prompts(None, 5, *STYLE[:2]) is None
    (tmp_path / "p.txt").write_text("a face\n\na face with a hat\n")
    assert wording.prior_prompts(str(tmp_path / "p.txt"), 3, *STYLE[:2]) == ["a face", "a face with a hat", "a face"]
    drawn = wording.prior_prompts("captions", 30, *STYLE[:2], seed=1)
    assert len(drawn) == 30 and len(set(drawn)) > 20 and drawn == wording.prior_prompts("captions", 30, *STYLE[:2], seed=1)
    assert drawn != wording.prior_prompts("captions", 30, *STYLE[:2], seed=2) and all(one.startswith("a face") for one in drawn)
    wording.check_fit(tiny_text, [wording.styled(one, *STYLE) for one in drawn], "the prompt")
    with pytest.raises(UserError, match="the caption 'a face face.* takes 2[5-9] tokens and 24 fit: say it in fewer words"):
        wording.check_fit(tiny_text, ["a face", "a face" + " face" * 22], "the caption")


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read: give a text file"), ("\n \n", "is empty"),
                                                ("a face\na dog", "line 2 of --prior_prompts .* lacks the class prompt 'a face'")])
def test_a_wrong_file_of_prior_prompts_is_named(tmp_path, content, words):
    if content is not None:
        (tmp_path / "p.txt").write_text(content)
    with pytest.raises(UserError, match=words):
        wording.prior_prompts(str(tmp_path / "p.txt"), 3, *STYLE[:2])


# ------------------------------------------------------------------------------------------------ in the losses

OWN = [["a sks face", "a face", "a face with glasses", "a sks face with glasses"],
       ["a sks face with a hat", "a face with a hat", "a face", "a sks face"],
       ["a sks face with a beard", "a face with a beard", "a face on a red background", "a sks face on a red background"],
       ["a sks face", "a face", "a face with a beard", "a sks face with a beard"]]


@pytest.mark.parametrize("pairwise_on", ["target", "source"])
def test_every_picture_is_asked_with_its_own_words(tiny_text, pairwise_on):
    """Against one image and one pass at a time; anchored, the pairs are the noised prior pictures, the detail the training images'."""
    _, z_0, t, eps, _ = first_batch(tiny_text)
    z_pr, a_bar, drift = z_0.roll(1, 0) * 0.7, tiny_text.scheduler.alphas_cumprod, copy.deepcopy(tiny_text.unet)
    with torch.no_grad():
        for p in drift.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5)))
    table = list(dict.fromkeys(prompt for row in OWN for prompt in row))
    rows = torch.tensor([[table.index(prompt) for prompt in row] for row in OWN])
    texts = text_to_image.chosen(latent.embed(tiny_text, table), rows)
    settings = config("domainstudio", pairwise_weighting="none", hfmse_weighting="none", pairwise_on=pairwise_on)
    found = {name: [] for name in ("simple", "prior", "ada", "sou", "own")}
    with torch.no_grad():
        _, terms = text_to_image.dreambooth_loss(drift, tiny_text.unet, tiny_text.vae, z_0, z_pr, t, eps, texts, a_bar, settings)
        for i, prompts in enumerate(OWN):
            one, (tar, sou, prior, anchor) = slice(i, i + 1), (latent.embed(tiny_text, [prompt]) for prompt in prompts)
            x_t, p_t = (tiny_text.scheduler.add_noise(z[one], eps[one], t[one]) for z in (z_0, z_pr))

            def guess(net, noisy, text, step=t[one], a=a_bar[t[i]]):
                answer = net(noisy, step, text).sample
                return (noisy - (1 - a).sqrt() * answer) / a.sqrt(), answer

            own, answer = guess(drift, x_t, tar)
            found["simple"].append((answer - eps[one]).square().mean())
            found["prior"].append((guess(drift, p_t, prior)[1] - eps[one]).square().mean())
            found["own"].append(own)
            found["ada"].append(guess(drift, p_t, anchor)[0] if pairwise_on == "source" else own)
            found["sou"].append(guess(tiny_text.unet, p_t, prior)[0] if pairwise_on == "source" else guess(tiny_text.unet, x_t, sou)[0])
        z_ada, z_sou, z_own = (torch.cat(found[name]) for name in ("ada", "sou", "own"))
        x_ada, x_sou, x_own, x_0 = (latent.decode(tiny_text.vae, z) for z in (z_ada, z_sou, z_own, z_0))
    expected = {"simple": torch.stack(found["simple"]).mean(), "prior": torch.stack(found["prior"]).mean(),
                "img": slow_kl(z_ada, z_sou), "hf": slow_kl(hf(x_ada), hf(x_sou)), "hfmse": (hf(x_own) - hf(x_0)).square().mean()}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, atol=1e-5, rtol=2e-3)


@pytest.mark.parametrize("method", ["dreambooth", "domainstudio"])
def test_the_same_words_for_all_change_nothing(tiny_text, method):
    prior = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    plain = run(tiny_text, method, prior)[-1]
    given = tiny_text, make_images(4, 32), config(method), TAR, SOU, prior, None
    told = list(text_to_image.adapt(*given, [SOU] * 4, [SOU] * 8))[-1]
    assert plain.terms.keys() == told.terms.keys()
    for name, value in weights(plain.model).items():
        torch.testing.assert_close(told.model.state_dict()[name], value, atol=1e-5, rtol=1e-4)
    worded = list(text_to_image.adapt(*given, ["a face", "a face with a hat", "a sks face", "a face with glasses"], [SOU] * 8))[-1]
    assert not same(weights(plain.model), weights(worded.model))


def test_a_word_is_learned_from_captions_of_its_own(tiny_text):
    """Textual Inversion: image i under its own caption, the new word beginning as "face"."""
    chosen, z_0, t, eps, _ = first_batch(tiny_text)
    texts = ["a face", "a face with a hat", "a face with glasses", "a face with a beard"]
    steps = list(text_to_image.adapt(tiny_text, make_images(4, 32), config("textual-inversion"), TAR, SOU, None, None, texts))
    with torch.no_grad():
        words = latent.embed(tiny_text, [texts[i].replace("a face", "a face face") for i in chosen])
        wanted = (tiny_text.unet(tiny_text.scheduler.add_noise(z_0, eps, t), t, words).sample - eps).square().mean()
    torch.testing.assert_close(steps[0].loss, wanted, atol=1e-5, rtol=1e-4)


def test_a_subject_keeps_its_own_prompt_beside_captions(tiny_text):
    person = text_to_image.Subject(make_images(2, 32, seed=5), "a zwx face")
    prior = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    given = tiny_text, make_images(4, 32), config("domainstudio", pairwise_on="source"), TAR, SOU, prior
    plain, told = (list(text_to_image.adapt(*given, person, *more))[-1] for more in ((), ([SOU] * 4, [SOU] * 8)))
    for name, value in plain.terms.items():
        torch.testing.assert_close(told.terms[name], value, atol=1e-5, rtol=1e-3)
    assert "subject" in told.terms


@pytest.mark.parametrize(("changes", "texts", "words"), [
    ({"pairwise_variant": "authors"}, ["a face"] * 4, "need --pairwise_variant paper"),
    ({"pairwise_variant": "authors", "pairwise_on": "source"}, None, "--pairwise_on source needs --pairwise_variant paper"),
    ({}, ["a face"] * 3, "3 captions for 4 images"), ({}, ["a face" + " face" * 22] * 4, "takes 2[5-9] tokens and 24 fit"),
    ({}, ["a dog"] * 4, "the caption 'a dog' has neither")])
def test_words_that_do_not_fit_are_refused(tiny_text, changes, texts, words):
    given = tiny_text, make_images(4, 32), config("domainstudio", **changes), TAR, SOU, torch.zeros(8, 4, 8, 8), None
    with pytest.raises(UserError, match=words):
        text_to_image.adapt(*given, texts)


# ------------------------------------------------------------------------------------------------ in the command

def test_the_command_reads_captions_draws_worded_priors_and_validates(tiny_text_dir, ten, tmp_path, capsys):  # noqa: F811
    texts = ["a face", "a face with a hat", "a face with glasses", "a face", "a face in sks style"]
    (ten / wording.METADATA).write_text("\n".join(json.dumps({"file_name": f"{i}.png", "text": text}) for i, text in enumerate(texts)))
    hot = ["--method", "dreambooth", "--learning_rate", "0.05"]
    more = [*hot, "--prior_prompts", "captions", "--validation_steps", "1", "--validation_prompt",
            "a face in sks style", "a face in sks style with glasses"]
    assert command(tiny_text_dir, ten, tmp_path / "told", *more) == 0
    assert "5 captions from metadata.jsonl" in capsys.readouterr().err
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "told" / "validation").iterdir()}
    assert sorted(drawn) == ["step-00001.png", "step-00002.png"] and len(set(drawn.values())) == 2, "the model of that step draws"
    (ten / wording.METADATA).unlink()
    assert command(tiny_text_dir, ten, tmp_path / "plain", *hot) == 0
    told, plain = (latent.load_pipeline(tmp_path / name).unet.state_dict() for name in ("told", "plain"))
    assert not same(told, plain)


@pytest.mark.parametrize(("options", "words"), [
    (["--validation_prompt", "a face"], "--validation_prompt needs --validation_steps"),
    (["--validation_steps", "2", "--validation_prompt", "a face", " "], "--validation_prompt is empty"),
    (["--validation_steps", "2", "--validation_prompt", "a face" + " face" * 22], "--validation_prompt 'a face face"),
    (["--validation_steps", "-1"], "--validation_steps is -1"),
    (["--prior_prompts", "none.txt"], "--prior_prompts none.txt cannot be read"),
    (["--pairwise_on", "moon"], "pairwise_on")])
def test_wrong_words_are_one_line_before_anything_is_written(tiny_text_dir, ten, tmp_path, capsys, options, words):  # noqa: F811
    assert command(tiny_text_dir, ten, tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1] and not (tmp_path / "out").exists()


def test_a_caption_of_a_picture_that_is_not_there_stops_the_command(tiny_text_dir, ten, tmp_path, capsys):  # noqa: F811
    (ten / wording.METADATA).write_text(json.dumps({"file_name": "9.png", "text": "a face"}))
    assert command(tiny_text_dir, ten, tmp_path / "out") == 2
    assert "line 1 of" in (said := capsys.readouterr().err) and "names '9.png'" in said and not (tmp_path / "out").exists()


def test_another_choice_of_prior_prompts_draws_them_anew(tiny_text_dir, ten, tmp_path, monkeypatch):  # noqa: F811
    drawn, real = [], text_to_image.prior_latents
    monkeypatch.setattr(text_to_image, "prior_latents", lambda *given: drawn.append(given[-1]) or real(*given))
    for more in ((), ("--prior_prompts", "captions")):
        assert command(tiny_text_dir, ten, tmp_path / "out", "--method", "dreambooth", "--overwrite", *more) == 0
    assert drawn[0] is None and len(drawn[1]) == 6 and drawn[1] == wording.prior_prompts("captions", 6, captions.INSTANCE_PROMPT, "a face")
