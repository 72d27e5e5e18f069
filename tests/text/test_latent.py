"""A tiny Stable Diffusion: built, saved, opened again, refused where it must be; trained, resumed, graded."""

import copy
import json
import math
import pickle
import shutil

import pytest
import torch
from conftest import make_images, make_text_pipeline
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from dslib import data, ddpm, models, sample, train
from dslib.base import avatars
from dslib.cli.commands import main
from dslib.env import UserError
from dslib.measure import probes
from dslib.pretrain import PretrainConfig
from dslib.text import captions, grading_t2i, latent, pretrain_t2i

PROMPTS = ["a face", "a face with red hair", ""]


@pytest.fixture
def own_copy(tiny_text_dir, tmp_path):
    """A saved pipeline that a test may break."""
    return shutil.copytree(tiny_text_dir, tmp_path / "pipeline")


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def noise(n=3):
    return sample.start_noise(n, 8, 0, 4)


def config(**changes):
    return PretrainConfig(**({"max_train_steps": 4, "train_batch_size": 4, "ema_max_decay": 0.5} | changes)).check()


def refused(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


# ------------------------------------------------------------------------------------------------ there and back

def test_the_folder_is_an_ordinary_pipeline_without_pickles(tiny_text_dir):
    assert sorted(p.name for p in tiny_text_dir.iterdir()) == ["model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae"]
    assert {p.suffix for p in tiny_text_dir.rglob("*") if p.is_file()} == {".json", ".safetensors", ".txt"}
    assert {"vocab.json", "merges.txt"} <= {p.name for p in (tiny_text_dir / "tokenizer").iterdir()}
    assert isinstance(StableDiffusionPipeline.from_pretrained(tiny_text_dir), StableDiffusionPipeline)


def test_saved_and_loaded_pipelines_draw_the_same_images(tiny_text_dir):
    images = latent.draw(make_text_pipeline(), PROMPTS, noise(), num_inference_steps=2)
    again = latent.draw(latent.load_pipeline(tiny_text_dir), PROMPTS, noise(), num_inference_steps=2)
    assert images.shape == (3, 3, 32, 32) and images.abs().max() <= 1
    assert torch.equal(images, again)


def test_half_precision_is_stored_and_comes_back_in_full(tiny_text, tmp_path):
    latent.save_pipeline(tiny_text, tmp_path, half=True)
    for part in latent.PARTS:
        stored = load_file(next((tmp_path / part).glob("*.safetensors")))
        assert {v.dtype for v in stored.values()} == {torch.float16}
        assert next(getattr(tiny_text, part).parameters()).dtype == torch.float32
    loaded = latent.load_pipeline(tmp_path)
    for a, b in zip(loaded.unet.parameters(), tiny_text.unet.parameters()):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_loading_and_saving_say_nothing(tiny_text, tiny_text_dir, tmp_path, capfd, caplog):
    latent.load_pipeline(tiny_text_dir)
    latent.save_pipeline(tiny_text, tmp_path)
    assert capfd.readouterr() == ("", "") and [r.getMessage() for r in caplog.records] == []


def test_the_full_size_fits_fifteen_megabytes():
    tokenizer = captions.new_tokenizer()
    networks = latent.new_vae(), latent.new_text_encoder(tokenizer), latent.new_unet()
    assert 2 * sum(p.numel() for network in networks for p in network.parameters()) < 14.5e6


# ------------------------------------------------------------------------------------------------------- refused

def test_what_is_no_pipeline_folder(tmp_path, tiny_source_dir, tiny_text_dir):
    refused(lambda: latent.load_pipeline(tmp_path / "nothing"), "no folder", "CompVis/stable-diffusion-v1-4")
    refused(lambda: latent.load_pipeline(tmp_path), "no model_index.json")
    refused(lambda: latent.load_pipeline(tiny_source_dir), "holds a DDPMPipeline", "a StableDiffusionPipeline is needed")
    refused(lambda: models.load_source(tiny_text_dir), "holds a StableDiffusionPipeline", "a DDPMPipeline is needed")


@pytest.mark.parametrize("part", latent.PARTS)
def test_pickled_weights_are_refused_unopened(own_copy, part):
    for weights in (own_copy / part).glob("*.safetensors"):
        weights.unlink()
    (own_copy / part / "pytorch_model.bin").write_bytes(pickle.dumps("not opened"))
    refused(lambda: latent.load_pipeline(own_copy), "pytorch_model.bin is a pickle", "safetensors")


@pytest.mark.parametrize("part", latent.PARTS)
def test_missing_and_damaged_weights_are_named(own_copy, part):
    stored = next((own_copy / part).glob("*.safetensors"))
    stored.write_bytes(b"half")
    refused(lambda: latent.load_pipeline(own_copy), "could not be opened")
    stored.unlink()
    refused(lambda: latent.load_pipeline(own_copy), f"{part} holds no .safetensors weights")


@pytest.mark.parametrize(("part", "changes", "words"), [
    ("vae", {"latent_channels": 8}, ("takes 4 channels and the VAE makes 8",)),
    ("text_encoder", {"hidden_size": 64}, ("attends to vectors of 32 numbers", "64")),
    ("text_encoder", {"vocab_size": 5}, ("the tokenizer has", "5 in")),
    ("scheduler", {"prediction_type": "sample"}, ("prediction_type", "sample"))])
def test_parts_that_do_not_fit(tiny_text, part, changes, words):
    config = getattr(tiny_text, part).config
    if part == "text_encoder":
        config.update(changes)
    else:
        getattr(tiny_text, part).register_to_config(**changes)
    refused(lambda: latent.check_parts(tiny_text, "runs/mine"), "runs/mine", *words)


def test_odd_sizes_and_counts(tiny_text):
    refused(lambda: latent.encode(tiny_text.vae, torch.zeros(1, 3, 30, 30)), "30×30", "multiple of 4")
    refused(lambda: latent.draw(tiny_text, PROMPTS, noise(2)), "3 prompts and noise for 2 images")
    refused(lambda: latent.load_vae("nowhere"), "nowhere holds no autoencoder", "--stage vae")


# ------------------------------------------------------------------------------------------------------ drawing

def test_composed_without_a_second_direction_is_the_pipelines_own_guidance(tiny_text):
    noise = sample.start_noise(2, 8, 0, 4)
    composed = latent.draw_composed(tiny_text, "a face with glasses", "a face", "a face", noise, 2.5, 4)
    assert torch.allclose(composed, latent.draw(tiny_text, ["a face with glasses"] * 2, noise, 2.5, 4), atol=1e-4)


def test_the_second_direction_of_composed_is_added_at_its_scale(tiny_text):
    """From the class to a style, on top of nothing: a DDIM step by hand."""
    noise, words = sample.start_noise(2, 8, 0, 4), latent.embed(tiny_text, ["", "a face", "a face in sks style"])
    scheduler = type(tiny_text.scheduler).from_config(tiny_text.scheduler.config)
    scheduler.set_timesteps(1)
    t = scheduler.timesteps[0]
    with torch.no_grad():
        empty, away, towards = (tiny_text.unet(noise, t, one.expand(2, -1, -1)).sample for one in words.split(1))
        z = scheduler.step(empty + 4.0 * (towards - away), t, noise).prev_sample
        want = latent.decode(tiny_text.vae, z).clamp(-1, 1)
    assert torch.allclose(latent.draw_composed(tiny_text, "", "a face in sks style", "a face", noise, 4.0, 1), want, atol=1e-5)
    assert not torch.allclose(latent.draw_composed(tiny_text, "", "a face", "a face in sks style", noise, 4.0, 1), want, atol=1e-3)


def test_drawing_goes_by_prompt_and_noise(tiny_text):
    def images(prompt, start, scale=3.0, batch_size=50):
        return latent.draw(tiny_text, [prompt] * 3, start, scale, 2, batch_size)
    base = images("a face", noise())
    assert torch.equal(base, images("a face", noise()))
    torch.testing.assert_close(base, images("a face", noise(), batch_size=2), atol=1e-4, rtol=1e-4)
    assert not torch.equal(base, images("a face with an afro", noise()))
    torch.testing.assert_close(images("", noise(), 1.0), images("", noise(), 7.0), atol=1e-3, rtol=1e-3)   # nothing to be guided by


def test_encode_is_the_scaled_mean_and_decode_undoes_the_scale(tiny_text):
    images, vae = make_images(5, 32), tiny_text.vae
    vae.register_to_config(scaling_factor=0.25)
    with torch.no_grad():
        mean = vae.encode(images).latent_dist.mean
        torch.testing.assert_close(latent.encode(vae, images, batch_size=2), 0.25 * mean)
        torch.testing.assert_close(latent.decode(vae, 0.25 * mean), vae.decode(mean).sample)
    pixels = data.to_uint8(images)
    torch.testing.assert_close(latent.encode(vae, pixels), latent.encode(vae, data.to_float(pixels)))


def rare_rows(pipe):
    return pipe.tokenizer.convert_tokens_to_ids([f"{word}</w>" for word in captions.RARE])


def test_rare_words_become_as_long_as_the_longest_and_keep_their_direction(tiny_text):
    text_encoder, rows = copy.deepcopy(tiny_text.text_encoder), rare_rows(tiny_text)
    before = tiny_text.text_encoder.get_input_embeddings().weight
    latent.lengthen_rare_words(text_encoder, tiny_text.tokenizer)
    after = text_encoder.get_input_embeddings().weight
    others = [i for i in range(len(before)) if i not in rows]
    assert len(set(rows)) == 2 and torch.equal(after[others], before[others])
    assert torch.allclose(after[rows].norm(dim=1), before.norm(dim=1).max()) and (after[rows] != before[rows]).any(1).all()
    assert torch.allclose(torch.cosine_similarity(after[rows], before[rows]), torch.ones(2))


def test_embed_is_the_text_encoders_last_layer(tiny_text):
    vectors = latent.embed(tiny_text, PROMPTS)
    assert vectors.shape == (3, captions.POSITIONS, 32)
    expected = tiny_text.encode_prompt("a face", "cpu", 1, False)[0]
    torch.testing.assert_close(vectors[:1], expected)


# ----------------------------------------------------------------------------------------------------- training

def vae_run(tiny_text, **changes):
    return list(pretrain_t2i.train_vae(make_images(6, 32), config(**changes), copy.deepcopy(tiny_text.vae)))


def unet_run(tiny_text, **changes):
    latents = latent.encode(tiny_text.vae, make_images(6, 32))
    ids = captions.token_ids(tiny_text.tokenizer, ["a face", "red hair", "a bun", "glasses", "a hat", "a beard"])[:, None].repeat(1, 2, 1)
    stream = pretrain_t2i.train_unet(latents, ids, config(**changes), copy.deepcopy(tiny_text.text_encoder), copy.deepcopy(tiny_text.unet),
                                     tiny_text.scheduler.alphas_cumprod)
    return list(stream)


def test_the_unets_error_is_that_of_what_it_is_asked_for(tiny_text):
    x_0 = latent.encode(tiny_text.vae, make_images(6, 32))[train.batch_indices(0, 6, 4, 0)]
    words = [["a face", "red hair", "a bun", "glasses", "a hat", "a beard"][i] for i in train.batch_indices(0, 6, 4, 0)]
    draws, a_bar = torch.Generator().manual_seed(0), tiny_text.scheduler.alphas_cumprod
    t = ddpm.sample_timesteps(4, 1000, draws)
    eps = torch.randn(x_0.shape, generator=draws)
    a = a_bar[t].view(-1, 1, 1, 1)
    with torch.no_grad():
        answer = tiny_text.unet(a.sqrt() * x_0 + (1 - a).sqrt() * eps, t, latent.embed(tiny_text, words)).sample
    for kind, wanted in (("epsilon", eps), ("v_prediction", a.sqrt() * eps - (1 - a).sqrt() * x_0)):
        step = unet_run(tiny_text, prediction_type=kind)[0]
        torch.testing.assert_close(step.terms["simple"], (answer - wanted).square().mean(), atol=1e-5, rtol=1e-4)


def test_the_autoencoder_learns_pixels(tiny_text):
    steps = vae_run(tiny_text, max_train_steps=30, learning_rate=2e-3)
    assert set(steps[0].terms) == {"l1", "l2", "lpips", "kl"}
    assert steps[-1].terms["l1"] < 0.8 * steps[0].terms["l1"]


def test_the_autoencoders_loss_against_the_formulas(tiny_text):
    images, vae = make_images(4, 32), copy.deepcopy(tiny_text.vae)
    step = next(pretrain_t2i.train_vae(images, config(), copy.deepcopy(vae)))
    generator = torch.Generator().manual_seed(0)
    x = images[train.batch_indices(0, 4, 4, 0)]
    ddpm.sample_timesteps(4, 1, generator)
    noise = torch.randn(x.shape, generator=generator).flatten(1)[:, :4 * 64].view(4, 4, 8, 8)
    with torch.no_grad():
        posterior = vae.encode(x).latent_dist
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().mean() / (4 * 64)             # diffusers sums over an image's numbers
    torch.testing.assert_close(step.terms["l1"], (decoded - x).abs().mean(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(step.terms["kl"], kl, atol=1e-5, rtol=1e-4)
    weighted = step.terms["l1"] + step.terms["l2"] + 0.3 * step.terms["lpips"] + 1e-4 * step.terms["kl"]
    torch.testing.assert_close(step.loss, weighted)


def test_the_scale_gives_unit_variance(tiny_text):
    images = make_images(8, 32)
    factor = pretrain_t2i.set_scale(tiny_text.vae, images)
    assert tiny_text.vae.config.scaling_factor == factor
    assert latent.encode(tiny_text.vae, images).std() == pytest.approx(1, abs=1e-3)


def test_text_encoder_and_unet_learn_together_and_the_autoencoder_stays(tiny_text):
    before = {part: weights(getattr(tiny_text, part)) for part in latent.PARTS}
    trained = unet_run(tiny_text)[-1].averaged()
    assert same(before["vae"], weights(tiny_text.vae))
    assert not same(before["unet"], weights(trained.unet)) and not same(before["text_encoder"], weights(trained.text_encoder))


def test_the_loss_is_the_error_of_the_noise_under_the_caption(tiny_text):
    step = unet_run(tiny_text, max_train_steps=1)[0]
    latents = latent.encode(tiny_text.vae, make_images(6, 32))
    prompts = ["a face", "red hair", "a bun", "glasses", "a hat", "a beard"]
    generator, chosen = torch.Generator().manual_seed(0), train.batch_indices(0, 6, 4, 0)
    t = ddpm.sample_timesteps(4, 1000, generator)
    eps = torch.randn(4, 4, 8, 8, generator=generator)
    x_t = tiny_text.scheduler.add_noise(latents[chosen], eps, t)
    with torch.no_grad():
        text = tiny_text.encode_prompt([prompts[i] for i in chosen], "cpu", 1, False)[0]
        expected = (tiny_text.unet(x_t, t, text).sample - eps).square().mean()
    torch.testing.assert_close(step.loss, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("run", [vae_run, unet_run])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_text, tmp_path, run):
    whole = run(tiny_text)[-1]
    run(tiny_text, max_train_steps=2, output_dir=str(tmp_path), checkpointing_steps=2)
    resumed = run(tiny_text, output_dir=str(tmp_path), resume_from_checkpoint="latest")
    assert [s.step for s in resumed] == [3, 4]
    assert same(weights(whole.model), weights(resumed[-1].model)) and same(weights(whole.averaged()), weights(resumed[-1].averaged()))
    assert not [p for p in tmp_path.rglob("*") if p.suffix not in ("", ".json", ".safetensors")]


def test_every_wording_is_drawn_and_goes_with_its_image():
    seen, images = set(), torch.arange(4.0).view(4, 1, 1, 1).repeat(1, 1, 2, 2)
    ids = torch.stack([torch.stack([torch.tensor([i, k]) for k in range(3)]) for i in range(4)]).short()     # (4, 3, 2): image, wording
    net = torch.nn.Linear(1, 1)

    def objective(net, x_0, t, eps, words):
        assert torch.equal(x_0[:, 0, 0, 0].long(), words[:, 0])
        seen.update(map(tuple, words.tolist()))
        loss = net(torch.ones(1, 1)).square().mean()
        return loss, {"simple": loss}

    list(train.fit(net, images, config(max_train_steps=40), objective, torch.ones(1), {"words": ids}))
    assert seen == {(i, k) for i in range(4) for k in range(3)}


# ------------------------------------------------------------------------------------------------------- grading

def test_obedience_counts_what_was_said():
    probe = probes.FactorProbe({"skin": ["pale", "dark"], "glasses": ["none", "glasses"]}, {}, lambda images: {
        "skin": torch.tensor([0, 1, 1]), "glasses": torch.tensor([1, 1, 0])})
    said = [{"skin": "pale"}, {"skin": "pale", "glasses": "glasses"}, {"skin": "dark", "mouth": "sad"}]
    assert probes.obeyed(torch.zeros(3, 3, 8, 8), said, probe) == {"skin": (2 / 3, 3), "glasses": (1.0, 1)}


def test_real_drawings_obey_their_captions_and_another_pictures_do_not():
    probe = grading_t2i.attribute_probe(32, n=500)
    wanted, real = grading_t2i.held_out(100, 32)
    said = [one.said for one in wanted]
    true, wrong = probes.obeyed(real, said, probe), probes.obeyed(real.roll(1, 0), said, probe)
    assert {"background", "clothes_colour"} <= set(true)
    for name in ("background", "skin"):
        if name in true:
            assert true[name][0] > 0.6 > wrong[name][0] + 0.1


def test_accuracy_of_an_untrained_pipeline_has_the_real_ones_beside_it(tiny_text):
    probe = grading_t2i.attribute_probe(32, n=500)
    graded = grading_t2i.attribute_accuracy(tiny_text, 12, num_inference_steps=1, probe=probe)
    assert graded and all(0 <= row.accuracy <= 1 and row.ceiling >= 0 and 0 < row.n <= 12 for row in graded.values())


# -------------------------------------------------------------------------------------------------- command line

SMALL = ["--num_images", "6", "--num_others", "0", "--max_train_steps", "2", "--train_batch_size", "2", "--resolution", "32",
         "--checkpointing_steps", "0"]


def test_both_stages_and_grading_from_the_command_line(tmp_path, monkeypatch, capsys):
    new_vae, new_unet, new_text = latent.new_vae, latent.new_unet, latent.new_text_encoder
    monkeypatch.setattr(latent, "new_vae", lambda resolution, latent_channels: new_vae(resolution, (8, 8, 8), latent_channels))
    monkeypatch.setattr(latent, "new_unet", lambda resolution, latent_channels: new_unet(resolution, (16, 16), 32, latent_channels))
    monkeypatch.setattr(latent, "new_text_encoder", lambda tokenizer: new_text(tokenizer, 32, 1))
    probe = probes.FactorProbe({"background": ["red", "blue"]}, {}, lambda images: {"background": torch.zeros(len(images)).long()})
    monkeypatch.setattr(grading_t2i, "attribute_probe", lambda resolution: probe)
    monkeypatch.setattr(grading_t2i, "words_kept", lambda vae, resolution, n: {"robots": {"mouth": grading_t2i.Kept(0.9, 0.5)}})
    first, second = tmp_path / "one", tmp_path / "two"
    scaled, set_scale = [], pretrain_t2i.set_scale
    monkeypatch.setattr(pretrain_t2i, "set_scale", lambda vae, images: scaled.append(images) or set_scale(vae, images))
    assert main(["pretrain-t2i", "--stage", "vae", "--screened", "1", "--output_dir", str(first), *SMALL]) == 0
    assert torch.equal(scaled[0], pretrain_t2i.vae_pixels(6, 0, 32, 1))                 # latents are scaled by pictures without a screen
    begun_there = ["--source", str(first / "vae"), "--learning_rate", "1e-12", "--output_dir", str(tmp_path / "still")]
    assert main(["pretrain-t2i", "--stage", "vae", *SMALL, *begun_there]) == 0
    assert same(weights(latent.load_vae(tmp_path / "still" / "vae")), weights(latent.load_vae(first / "vae")))
    assert "robots       mouth 90% → 50%" in capsys.readouterr().out
    assert (first / "reconstructions.png").exists() and json.loads((first / "metrics.json").read_text())["scaling_factor"] > 0
    graded = ["--num_graded", "60", "--num_inference_steps", "1"]
    assert main(["pretrain-t2i", "--stage", "unet", "--vae", str(first / "vae"), "--output_dir", str(second), *SMALL, *graded]) == 0
    facts = json.loads((second / "metrics.json").read_text())
    assert facts["config"]["max_train_steps"] == 2 and (second / "prompts.png").exists()
    saved = latent.load_pipeline(second)
    lengths = saved.text_encoder.get_input_embeddings().weight.norm(dim=1)
    assert torch.allclose(lengths[rare_rows(saved)], lengths.max(), rtol=1e-3)
    assert same(weights(latent.load_vae(first / "vae")), weights(saved.vae))
    third = tmp_path / "three"
    more = ["pretrain-t2i", "--stage", "unet", "--vae", str(first / "vae"), "--output_dir", str(third), "--overwrite", "--num_styled", "1",
            *SMALL, *graded]
    velocity, begun = ["--prediction_type", "v_prediction"], ["--source", str(second)]
    stated = {"pixel": {"style": grading_t2i.Obedience(0.5, 1.0, 4)}}
    monkeypatch.setattr(grading_t2i, "styled_accuracy", lambda pipe, n, **_: stated if n == 12 else None)
    assert main([*more, *velocity]) == 0
    assert latent.load_pipeline(third).scheduler.config.prediction_type == "v_prediction"
    asked = [json.loads((folder / "metrics.json").read_text())["config"] for folder in (second, third)]
    assert [(one["lambda_coarse"], one["high_noise_weight"]) for one in asked] == [(0.25, 10.0), (0.0, 1.0)]
    assert main([*more, *begun]) == 0
    facts_of_styles = json.loads((third / "metrics.json").read_text())
    assert facts_of_styles["config"]["num_styled"] == 1 and (third / "styles.png").exists() and not (second / "styles.png").exists()
    assert facts_of_styles["styles"] == {"pixel": {"style": {"accuracy": 0.5, "ceiling": 1.0, "n": 4}}}
    assert main([*more, *begun, *velocity]) == 2 and "predicts epsilon: add --prediction_type epsilon" in capsys.readouterr().err
    monkeypatch.setattr(latent, "new_text_encoder", lambda tokenizer: new_text(tokenizer, 32, 2))
    assert main([*more, *begun]) == 2 and "of another shape than what is to be trained" in capsys.readouterr().err
    assert main(["pretrain-t2i", "--stage", "grade", "--output_dir", str(second), *graded]) == 2
    assert "metrics.json exists" in capsys.readouterr().err
    assert main(["pretrain-t2i", "--stage", "grade", "--output_dir", str(second), "--overwrite", *graded]) == 0
    again = json.loads((second / "metrics.json").read_text())
    assert again == facts


@pytest.mark.parametrize(("options", "words"), [
    (["--stage", "unet"], ("--vae", "--stage vae")), (["--stage", "unet", "--vae", "/nowhere"], ("/nowhere holds no autoencoder",)),
    (["--stage", "vae", "--resolution", "60"], ("--resolution is 60", "multiple of 16")),
    (["--stage", "vae", "--screened", "2"], ("--screened is 2",)), (["--stage", "vae", "--num_images", "0"], ("--num_images is 0",)),
    (["--stage", "unet", "--vae", "x", "--empty_captions", "1.5"], ("--empty_captions is 1.5",)),
    (["--stage", "vae", "--learning_rate", "-1"], ("--learning_rate is -1",)),
    (["--stage", "grade"], ("no folder",))])
def test_wrong_options_are_one_line(tmp_path, capsys, options, words):
    assert main(["pretrain-t2i", "--output_dir", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and all(word in said for word in words), said


def test_training_styles_are_no_targets():
    targets = {style for name, (style, _) in avatars.DOMAINS.items() if name not in ("avataaars", "sunglasses")}
    assert not {style.removesuffix("-neutral") for style in avatars.OTHER_STYLES} & targets


def test_a_training_style_is_no_target_domain(capsys):
    assert main(["adapt", "--target", "captioned"]) == 2
    assert "captioned is no target domain" in capsys.readouterr().err


def test_networks_begin_with_another_pipelines_weights(tiny_text):
    text, unet = latent.new_text_encoder(tiny_text.tokenizer, 32, 1), latent.new_unet(8, (16, 32), 32)
    pretrain_t2i.go_on_from([tiny_text.text_encoder, tiny_text.unet], [text, unet], "runs/first")
    assert same(weights(text), weights(tiny_text.text_encoder)) and same(weights(unet), weights(tiny_text.unet))


def test_faces_of_all_styles_come_with_their_labels_and_their_style():
    pixels, labels, styles = pretrain_t2i.captioned_pixels(3, 2, 32, 1)
    assert pixels.shape == (3 + 2 * len(captions.STYLES), 3, 32, 32) and len(labels) == len(styles) == len(pixels)
    assert styles == [None] * 3 + [style for style in captions.STYLES for _ in range(2)]
    one = styles.index("pixel-art")
    drawn, told = data.draw_domain("captioned-pixel-art", "train", 2, 32)
    assert told == labels[one:one + 2] and torch.equal(pixels[one:one + 2], torch.from_numpy(drawn).permute(0, 3, 1, 2))


def test_a_line_screen_darkens_dark_places_of_a_share_of_the_pictures():
    grey = torch.linspace(0, 255, 32).view(1, 1, 1, 32).expand(60, 3, 32, 32).to(torch.uint8)       # dark on the left
    done = pretrain_t2i.screened(grey, 0.5, seed=1)
    changed = (done != grey).flatten(1).any(1)
    assert 18 < changed.sum() < 42 and torch.equal(done, pretrain_t2i.screened(grey, 0.5, seed=1)) and (done <= grey.clamp(min=64)).all()
    lost = (grey.float() - done.float())[changed].mean((0, 1, 2))
    assert lost[4:12].mean() > 3 * lost[28:].mean()
    assert torch.equal(pretrain_t2i.screened(grey, 0.0), grey)
    flat = torch.full((400, 3, 64, 64), 90, dtype=torch.uint8)                                      # of one tone only lines are left
    angles = []
    for one in pretrain_t2i.screened(flat, 1.0)[:, 0].float():
        if one.std() > 1:
            spectrum = torch.fft.fft2(one - one.mean()).abs()
            fy, fx = divmod(int(spectrum.argmax()), 64)
            angles.append(math.degrees(math.atan2(min(fy, 64 - fy), min(fx, 64 - fx))))
    assert len(angles) > 90 and all(any(low <= angle < low + 15 for angle in angles) for low in range(0, 90, 15)), "at all angles"


def test_styles_are_graded_by_their_own_captions_and_probes(tiny_text, monkeypatch):
    """Pictures of a style are of one brightness, and light ones have glasses: a model that draws every style as it should, one that draws
    all in the style of the first."""
    words = list(captions.STYLES.values())
    shade = {word: (i + 1) / 20 for i, word in enumerate(words)} | {"none": -0.5}
    told, relabelled = [], []

    def load_domain(name, split, n, resolution):
        word = captions.STYLES.get(name.removeprefix(f"{avatars.CAPTIONED}-"), "none")
        labels = [{"backgroundColor": list(captions.COLOURS)[i % 20], "glasses": "dark01"} for i in range(n)]
        return data.Domain(torch.full((n, 3, 32, 32), shade[word]), labels, name, split)

    def factor_probe(domain, *_, relabel, **__):
        if domain.endswith("big-ears"):
            raise UserError("nothing to read")
        relabelled.append(relabel({"backgroundColor": "#b6e3f4"}))
        return probes.FactorProbe({"glasses": ["none", "glasses", "sunglasses"]}, {}, lambda x: {"glasses": torch.full((len(x),), 2)})

    def draw(pipe, prompts, *_, right=True, **__):
        told.extend(prompts)
        named = [next(word for word in words if f"in {word} style" in prompt) for prompt in prompts]
        return torch.stack([torch.full((3, 32, 32), shade[word if right else words[0]]) for word in named])

    monkeypatch.setattr(data, "load_domain", load_domain)
    monkeypatch.setattr(probes, "factor_probe", factor_probe)
    monkeypatch.setattr(probes, "probe_features",
                        lambda x: torch.nn.functional.one_hot((20 * x.mean((1, 2, 3))).round().long() + 10, 24).double())
    monkeypatch.setattr(latent, "draw", draw)
    found = grading_t2i.styled_accuracy(tiny_text, 6)
    assert list(found) == words and all(row["style"] == (1.0, 1.0, 6) for row in found.values())
    assert len(told) == 6 * len(words) and all("style" in prompt for prompt in told)
    assert found["round"].keys() == {"style"}, "of that one nothing else can be read"
    assert found["pixel"]["glasses"].accuracy == 1.0 and 0 < found["pixel"]["glasses"].n < 6, "only what the caption says is asked"
    assert {"background": "light blue", "glasses": "none"}.items() <= relabelled[words.index("pixel") - 1].items()
    monkeypatch.setattr(latent, "draw", lambda *given, **__: draw(*given, right=False))
    wrong = [row["style"] for row in grading_t2i.styled_accuracy(tiny_text, 6).values()]
    assert [row.accuracy for row in wrong] == [1.0] + [0.0] * (len(words) - 1) and all(row.ceiling == 1.0 for row in wrong)


def test_every_style_is_drawn_beside_the_same_words(tiny_text):
    sheet = grading_t2i.style_sheet(tiny_text, 1, num_inference_steps=1)
    assert list(sheet)[:2] == ["a face", "a face in round style"] and len(sheet) == 1 + len(captions.STYLES)
    assert all(images.shape == (len(grading_t2i.BESIDE), 3, 32, 32) for images in sheet.values())
    noise = sample.start_noise(1, 8, 0, 4)
    alone = latent.draw(tiny_text, ["a face in pixel style with a beard"], noise, num_inference_steps=1)
    torch.testing.assert_close(sheet["a face in pixel style"][2:3], alone, atol=1e-4, rtol=0)


def test_small_things_are_read_from_decoded_pictures(tiny_text, monkeypatch):
    """An autoencoder that changes nothing keeps all; one that paints everything grey keeps what guessing gives."""
    seen = []
    probe = probes.FactorProbe({"glasses": ["none", "round"]}, {}, lambda images: {"glasses": (images.mean((1, 2, 3)) > 0).long()})
    monkeypatch.setattr(probes, "factor_probe", lambda domain, *_, **options: seen.append((domain, options["relabel"])) or probe)
    pictures = torch.cat([torch.full((3, 3, 32, 32), -0.5), torch.full((3, 3, 32, 32), 0.5)])
    labels = [{}] * 3 + [{"glasses": "round", "accessories": "round"}] * 3
    monkeypatch.setattr(data, "load_domain", lambda *_: data.Domain(pictures, labels, "any", "test"))
    monkeypatch.setattr(captions, "attributes", grading_t2i.with_none)
    monkeypatch.setattr(latent, "encode", lambda vae, images: images)
    monkeypatch.setattr(latent, "decode", lambda vae, z: z)
    assert set(grading_t2i.words_kept(None, 32, 6)) == {avatars.CAPTIONED, *avatars.targets()}
    assert all(found == {"glasses": (1.0, 1.0)} for found in grading_t2i.words_kept(None, 32, 6).values())
    monkeypatch.setattr(latent, "decode", lambda vae, z: torch.zeros_like(z))
    assert grading_t2i.words_kept(None, 32, 6)["robots"] == {"glasses": (1.0, 0.5)}
    domains = [domain for domain, _ in seen]
    assert {"sketches-with-words", "portraits-with-words", "adventurers-with-words", "engraved-with-words", "robots"} <= set(domains)
    assert [relabel for domain, relabel in seen if domain == "engraved-with-words"] == [captions.attributes] * 3
