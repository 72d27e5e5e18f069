"""Prompts for what the ten never showed: what is asked, what a probe reads back, and how the command reports it."""

import json

import pytest
import torch
from conftest import make_images

from dslib import avatars, captions, cli, data, factors, latent, prompted, text_to_image
from dslib.env import UserError


@pytest.mark.parametrize("domain", prompted.ASKED)
def test_requests_say_what_they_ask(domain):
    asked = prompted.requests(60, domain, "sks", seed=1)
    assert asked == prompted.requests(60, domain, "sks", seed=1) != prompted.requests(60, domain, "sks", seed=2)
    tokenizer = captions.new_tokenizer()
    for one in asked:
        assert one.text.count("sks face") == 1 and not captions.unknown_words(tokenizer, one.text)
        assert set(one.said) == set(prompted.ASKED[domain])
        assert ("beard" in one.text) == (one.said["beard"] == "beard") and ("glasses" in one.text) == (one.said["glasses"] == "glasses")
        assert all(word in one.text for word in one.said.values() if word != "none")
        assert len(tokenizer(one.text).input_ids) <= captions.POSITIONS
    assert {one.said["glasses"] for one in asked} == {"glasses", "none"}
    assert "sks" not in prompted.requests(1, domain)[0].text
    with pytest.raises(UserError, match="nothing is known to ask of robots"):
        prompted.requests(3, "robots")


@pytest.mark.parametrize("domain", prompted.ASKED)
def test_what_is_asked_is_drawn_as_often_as_not(domain):
    labels = data.load_domain(avatars.WITH_WORDS[domain], "probe", 60, 32).labels
    for name in ("glasses", "beard"):
        shown = sum(prompted.style_attributes(one)[name] != "none" for one in labels)
        assert 15 <= shown <= 45
    if domain == "portraits":
        assert {prompted.style_attributes(one)["background"] for one in labels} <= set(captions.COLOURS.values())


def test_obedience_is_the_share_that_shows_the_word_and_chance_is_that_of_exchanged_prompts(monkeypatch):
    """A probe that reads a picture's mean: light is glasses, dark is none."""
    classes = {"glasses": ["none", "glasses"], "hat": ["none", "hat"]}
    reader = factors.FactorProbe(classes, {"glasses": 0.9, "hat": 1.0}, lambda x: {
        "glasses": (x.mean((1, 2, 3)) > 0).long(), "hat": torch.zeros(len(x), dtype=torch.long)})
    monkeypatch.setattr(prompted, "probe", lambda *_: reader)
    words = ["glasses", "none", "none", "glasses", "none", "none", "none", "none"]
    asked = [prompted.Request("", {"glasses": word, "beard": "none"}) for word in words]
    images = torch.stack([torch.full((3, 4, 4), 1.0 if word == "glasses" else -1.0) for word in words])
    images[1] *= -1                                                    # one picture shows glasses that nobody asked for
    found = prompted.obeyed(images, asked, "portraits")
    assert list(found) == ["glasses"] and found["glasses"].share == 7 / 8 and found["glasses"].ceiling == 0.9
    assert found["glasses"].n == 8 and found["glasses"].chance < 7 / 8
    by_hand = [sum((images[i, 0, 0, 0] > 0) == (words[(i + k) % 8] == "glasses") for i in range(8)) / 8 for k in range(1, 6)]
    assert found["glasses"].chance == pytest.approx(float(sum(by_hand)) / 5)
    assert "88%" in prompted.table({"dreambooth": found}) and "90%" in prompted.table({"dreambooth": found})


def test_the_sheet_draws_every_model_from_the_same_noise(tiny_text):
    rows = prompted.sheet({"source": tiny_text, "again": tiny_text}, 2, num_inference_steps=2)
    assert rows["source"].shape == (2 * len(prompted.SHEET), 3, 32, 32)
    plain = prompted.sheet({"source": tiny_text}, 2, num_inference_steps=2)["source"]
    assert torch.equal(plain, rows["source"]) and not torch.equal(rows["again"], rows["source"])


# ------------------------------------------------------------------------------------------------ the command

@pytest.fixture
def ten(tmp_path):
    from PIL import Image
    folder = tmp_path / "ten"
    folder.mkdir()
    for i, pixels in enumerate(data.to_uint8(make_images(5, 32)).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def adapt(tiny_text_dir, ten, output, *more):
    return cli.main(["adapt-t2i", "--source", str(tiny_text_dir), "--train_data_dir", str(ten), "--output_dir", str(output),
                     "--max_train_steps", "2", "--num_prior_images", "6", "--num_images", "6", "--num_inference_steps", "2", *more])


def test_adapt_t2i_writes_an_ordinary_pipeline_and_a_report(tiny_text_dir, ten, tmp_path, capsys):
    output = tmp_path / "out"
    assert adapt(tiny_text_dir, ten, output, "--compare") == 0
    said = capsys.readouterr().out
    assert "textual-inversion" in said and "dreambooth" in said and "domainstudio" in said
    for folder in (output, output / "dreambooth", output / "textual-inversion"):
        latent.load_pipeline(folder)
    facts = json.loads((output / "metrics.json").read_text())
    assert [row["name"] for row in facts["scores"]] == ["source", "dreambooth", "textual-inversion", "domainstudio"]
    assert facts["config"]["learning_rate"] == 2e-4 and facts["instance_prompt"] == "a sks face"
    assert {"report.html", "samples.png", "prompts.png", "losses.png", "prior.safetensors"} <= {p.name for p in output.iterdir()}
    assert adapt(tiny_text_dir, ten, output) == 2 and "is not empty" in capsys.readouterr().err


def test_a_resumed_command_keeps_its_prior_images(tiny_text_dir, ten, tmp_path, monkeypatch):
    output = tmp_path / "out"
    assert adapt(tiny_text_dir, ten, output, "--checkpointing_steps", "1", "--lora_rank", "2") == 0
    monkeypatch.setattr(text_to_image, "prior_latents", lambda *_: pytest.fail("drawn again"))
    assert adapt(tiny_text_dir, ten, output, "--checkpointing_steps", "1", "--lora_rank", "2", "--resume_from_checkpoint", "latest",
                 "--max_train_steps", "3") == 0
    assert json.loads((output / "metrics.json").read_text())["config"]["max_train_steps"] == 3


def test_adapt_t2i_learns_a_person_too(tiny_text_dir, ten, tmp_path):
    output = tmp_path / "out"
    person = ["--subject_data_dir", str(ten), "--subject_prompt", "a zwx face"]
    assert adapt(tiny_text_dir, ten, output, "--method", "dreambooth", *person) == 0
    assert (output / "model_index.json").is_file()


@pytest.mark.parametrize(("options", "words"), [
    (["--method", "finetune"], "use one of dreambooth, textual-inversion, domainstudio"),
    (["--instance_prompt", "a face"], "lacks the rare word"), (["--instance_prompt", ""], "--instance_prompt is empty"),
    (["--class_prompt", "a sks face"], "holds the rare word"), (["--num_prior_images", "3"], "3 prior images for 5 images"),
    (["--subject_prompt", "a zwx face"], "go together"), (["--num_images", "1"], "--num_images is 1"),
    (["--lora_rank", "-1"], "--lora_rank is -1"), (["--learning_rate", "-1"], "--learning_rate is -1"),
    (["--guidance_scale", "-2"], "--guidance_scale is -2")])
def test_a_wrong_option_is_one_line_before_anything_is_written(tiny_text_dir, ten, tmp_path, capsys, options, words):
    assert adapt(tiny_text_dir, ten, tmp_path / "out", *options) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1] and said[-1].startswith("dslib: error:")
    assert not (tmp_path / "out").exists()


def test_unknown_words_are_named(tiny_text_dir, ten, tmp_path, capsys):
    assert adapt(tiny_text_dir, ten, tmp_path / "out", "--instance_prompt", "a sks zebra face", "--method", "dreambooth") == 0
    assert "--instance_prompt: 'zebra' is no word of this source" in capsys.readouterr().err


def test_without_a_source_the_command_that_makes_one_is_named(ten, tmp_path, capsys, monkeypatch):
    from dslib import cli_t2i
    monkeypatch.setattr(cli_t2i, "data_dir", lambda: tmp_path / "nothing")
    assert cli.main(["adapt-t2i", "--train_data_dir", str(ten), "--output_dir", str(tmp_path / "out")]) == 2
    assert "pretrain-t2i" in capsys.readouterr().err
