"""Prompts for what the ten never showed: what is asked, what a probe reads back, and how the command reports it."""

import json

import pytest
import torch
from conftest import make_images

from dslib import data
from dslib.base import avatars
from dslib.cli import commands, t2i
from dslib.env import UserError
from dslib.measure import probes
from dslib.text import captions, latent, prompted, text_to_image


@pytest.mark.parametrize("domain", prompted.ASKED)
def test_requests_say_what_they_ask(domain):
    asked = prompted.requests(60, domain, captions.INSTANCE_PROMPT, seed=1)
    assert asked == prompted.requests(60, domain, captions.INSTANCE_PROMPT, 1) != prompted.requests(60, domain, captions.INSTANCE_PROMPT, 2)
    tokenizer = captions.new_tokenizer()
    for one in asked:
        assert one.text.startswith("a face in sks style") and not captions.unknown_words(tokenizer, one.text)
        assert set(one.said) == set(prompted.ASKED[domain])
        assert ("beard" in one.text) == (one.said.get("beard") == "beard") and ("glasses" in one.text) == (one.said["glasses"] != "none")
        assert ("wearing" in one.text) == (one.said.get("headwear", "none") != "none")
        assert all(word in one.text for word in one.said.values() if word != "none")
        assert len(tokenizer(one.text).input_ids) <= captions.POSITIONS
    assert {one.said["glasses"] for one in asked} == {"glasses", "none"} | ({"sunglasses"} if domain in data.TWINS else set())
    assert "sks" not in prompted.requests(1, domain)[0].text
    with pytest.raises(UserError, match="nothing is known to ask of robots"):
        prompted.requests(3, "robots")


@pytest.mark.parametrize("domain", prompted.ASKED)
def test_what_is_asked_is_drawn_as_often_as_not(domain):
    labels = data.load_domain(avatars.WITH_WORDS[domain], "probe", 60, 32).labels
    for name in {"glasses", "beard"} & set(prompted.ASKED[domain]):
        shown = sum(prompted.words_of(domain)(one)[name] != "none" for one in labels)
        assert 15 <= shown <= 45
    if domain == "portraits":
        assert {prompted.style_attributes(one)["background"] for one in labels} <= set(captions.COLOURS.values())


@pytest.mark.parametrize(("domain", "labels", "text"), [
    ("portraits", {"accessories": "glasses", "skinColor": "#ffdbb4", "backgroundColor": "#2e3440"},
     "a face with glasses and pale skin on a black background"),
    ("sketches", {"beard": "variant01"}, "a face with a beard"), ("sketches", {}, "a face"),
    ("engraved", {"accessories": "eyepatch", "top": "turban", "mouth": "sad", "backgroundColor": "#e06c75"},
     "a face wearing a turban on a red background")])
def test_a_caption_says_what_can_be_asked_and_no_more(domain, labels, text):
    assert prompted.caption_of(labels, domain) == text


def test_obedience_is_the_share_that_shows_the_word_and_chance_is_that_of_exchanged_prompts(monkeypatch):
    """A probe that reads a picture's mean: light is glasses, dark is none."""
    classes = {"glasses": ["none", "glasses"], "hat": ["none", "hat"]}
    reader = probes.FactorProbe(classes, {"glasses": 0.9, "hat": 1.0}, lambda x: {
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


@pytest.fixture(scope="module")
def clip_dir(tmp_path_factory):
    """A CLIP with random weights and a few hundred words."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor
    torch.manual_seed(0)
    tokenizer = captions.new_tokenizer()
    width = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = width | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "bos_token_id": tokenizer.bos_token_id,
                    "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = CLIPConfig(text_config=text, vision_config=width | {"image_size": 32, "patch_size": 8}, projection_dim=16)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder, safe_serialization=True)
    size = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size), tokenizer).save_pretrained(folder)
    return folder


def test_clip_similarities_are_cosines_of_its_vectors(clip_dir):
    from transformers import CLIPModel, CLIPProcessor
    drawn, targets = make_images(3, 32, seed=1), make_images(2, 32, seed=2)
    found = prompted.clip_similarity({"one": drawn, "targets": targets}, "a face", targets, *prompted.open_clip(clip_dir))
    clip, processor = CLIPModel.from_pretrained(clip_dir).eval(), CLIPProcessor.from_pretrained(clip_dir)
    with torch.no_grad():
        alone = [clip(**processor(text=["a face"], images=[one.permute(1, 2, 0).numpy()], return_tensors="pt"))
                 for one in data.to_uint8(torch.cat([drawn, targets]))]
    seen = [one.image_embeds[0] for one in alone]
    by_hand = sum(torch.cosine_similarity(a, b, 0) for a in seen[:3] for b in seen[3:]) / 6
    assert found["one"]["image"] == pytest.approx(float(by_hand), abs=1e-5)
    said = sum(torch.cosine_similarity(a, alone[0].text_embeds[0], 0) for a in seen[:3]) / 3
    assert found["one"]["text"] == pytest.approx(float(said), abs=1e-5)
    assert found["targets"]["image"] > 0.5 - 1e-6 and found["targets"] != found["one"]
    with pytest.raises(UserError, match="could not be opened as a CLIP model"):
        prompted.open_clip(clip_dir / "missing")


def test_both_words_stand_side_by_side():
    assert prompted.both_words("a face in sks style", "a face of zwx") == "a face of zwx in sks style"
    assert prompted.both_words("a dog in sks style", "a zwx dog", "a dog") == "a zwx dog in sks style"
    assert prompted.both_words("a sks face", "a zwx face") == "a sks zwx face"
    assert prompted.both_words("a face in Zwx style", "a sks dog", "a dog") == "a face in Zwx sks style"


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
    return commands.main(["adapt-t2i", "--source", str(tiny_text_dir), "--train_data_dir", str(ten), "--output_dir", str(output),
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
    assert facts["config"]["learning_rate"] == 5e-4 and facts["instance_prompt"] == captions.INSTANCE_PROMPT
    assert {"report.html", "samples.png", "prompts.png", "losses.png", "prior.safetensors"} <= {p.name for p in output.iterdir()}
    assert adapt(tiny_text_dir, ten, output) == 2 and "is not empty" in capsys.readouterr().err


def test_a_resumed_command_keeps_its_prior_images(tiny_text_dir, ten, tmp_path, monkeypatch):
    output = tmp_path / "out"
    assert adapt(tiny_text_dir, ten, output, "--checkpointing_steps", "1", "--lora_rank", "2") == 0
    monkeypatch.setattr(text_to_image, "prior_latents", lambda *_: pytest.fail("drawn again"))
    assert adapt(tiny_text_dir, ten, output, "--checkpointing_steps", "1", "--lora_rank", "2", "--resume_from_checkpoint", "latest",
                 "--max_train_steps", "3") == 0
    assert json.loads((output / "metrics.json").read_text())["config"]["max_train_steps"] == 3


def test_adapt_t2i_learns_a_person_too(tiny_text_dir, ten, tmp_path, clip_dir, capsys):
    output = tmp_path / "out"
    person = ["--subject_data_dir", str(ten), "--subject_prompt", "a face of zwx"]
    assert adapt(tiny_text_dir, ten, output, "--method", "dreambooth", "--clip_model", str(clip_dir), *person) == 0
    assert (output / "model_index.json").is_file() and (output / "person.png").is_file()
    assert "a face in sks style; a face of zwx; a face of zwx in sks style" in capsys.readouterr().out
    assert set(json.loads((output / "metrics.json").read_text())["clip"]) == {"source", "dreambooth", "training images"}


@pytest.mark.parametrize(("options", "words"), [
    (["--method", "finetune"], "use one of dreambooth, textual-inversion, domainstudio"),
    (["--instance_prompt", "a face"], "lacks the rare word"), (["--instance_prompt", ""], "--instance_prompt is empty"),
    (["--class_prompt", "a sks face"], "holds the rare word"), (["--num_prior_images", "3"], "3 prior images for 5 images"),
    (["--subject_prompt", "a zwx face"], "go together"),
    (["--method", "textual-inversion", "--lora_rank", "2"], "needs dreambooth or domainstudio"),
    (["--method", "textual-inversion", "--compare", "--num_prior_images", "3"], "3 prior images for 5 images"),
    (["--num_images", "1"], "--num_images is 1"),
    (["--clip_model", "no/such/folder"], "could not be opened as a CLIP model"),
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
    monkeypatch.setattr(t2i, "data_dir", lambda: tmp_path / "nothing")
    assert commands.main(["adapt-t2i", "--train_data_dir", str(ten), "--output_dir", str(tmp_path / "out")]) == 2
    assert "pretrain-t2i" in capsys.readouterr().err


def test_the_sheet_asks_in_words_that_every_source_knows_and_as_captions_do():
    tokenizer = captions.new_tokenizer()
    assert not any(captions.unknown_words(tokenizer, text) for text in prompted.SHEET)
    assert prompted.SHEET[0] == captions.CLASS_PROMPT
    assert all("skin on a" in text and text.endswith(" background") for text in prompted.SHEET[1:])
