"""The same code on Stable Diffusion 1.x's own layout, far narrower: four levels, a VAE factor of eight, 77 positions, PNDM."""

import json

import pytest
import torch
from conftest import make_images
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from dslib import data, sample
from dslib.cli import commands
from dslib.text import captions, latent


@pytest.fixture(scope="module")
def shaped_dir(tmp_path_factory):
    """A pipeline folder with Stable Diffusion 1.5's classes and config keys; random weights, a tenth of the width."""
    torch.manual_seed(0)
    tokenizer = captions.new_tokenizer()
    tokenizer.model_max_length = 77
    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=192, projection_dim=48, num_hidden_layers=12, num_attention_heads=12,
        max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id))
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=64, block_out_channels=(32, 32, 64, 64), layers_per_block=2,
        norm_num_groups=32, scaling_factor=0.18215, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(32, 64, 128, 128), cross_attention_dim=48,
        attention_head_dim=8, down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    scheduler = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
                              set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1)
    pipe = StableDiffusionPipeline(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    folder = tmp_path_factory.mktemp("shaped")
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def ten(tmp_path):
    folder = tmp_path / "ten"
    folder.mkdir()
    for i, pixels in enumerate(data.to_uint8(make_images(4, 80)).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_it_is_laid_out_like_stable_diffusion(shaped_dir):
    pipe = latent.load_pipeline(shaped_dir)
    assert pipe.vae_scale_factor == 8 and pipe.tokenizer.model_max_length == 77 and isinstance(pipe.scheduler, PNDMScheduler)
    assert latent.encode(pipe.vae, make_images(2, 64)).shape == (2, 4, 8, 8) and latent.embed(pipe, ["a face"]).shape == (1, 77, 48)
    _, maps = latent.attention_maps(pipe, "a face", sample.start_noise(1, 8, channels=4), num_inference_steps=2)
    assert [word for word, _ in maps][1:3] == ["a", "face"] and maps[0][1].shape == (8, 8)


@pytest.mark.parametrize("options", [["--method", "domainstudio"], ["--method", "domainstudio", "--lora_rank", "2"],
                                     ["--method", "domainstudio", "--pairwise_variant", "authors"],
                                     ["--method", "dreambooth"], ["--method", "textual-inversion"]], ids=" ".join)
def test_every_method_adapts_it_and_plain_diffusers_opens_the_result(shaped_dir, ten, tmp_path, options):
    output = tmp_path / "out"
    assert commands.main(["adapt-t2i", "--source", str(shaped_dir), "--train_data_dir", str(ten), "--output_dir", str(output),
                     "--max_train_steps", "2", "--train_batch_size", "4", "--num_prior_images", "4",
                     "--num_images", "4", "--num_inference_steps", "2", *options]) == 0
    before = latent.load_pipeline(shaped_dir)
    after = StableDiffusionPipeline.from_pretrained(str(output), safety_checker=None)
    after.set_progress_bar_config(disable=True)
    assert type(after.scheduler) is PNDMScheduler and after.scheduler.config.beta_end == 0.012
    assert same(before.vae, after.vae) and same(before.text_encoder, after.text_encoder) == (options[1] != "textual-inversion")
    assert same(before.unet, after.unet) == (options[1] == "textual-inversion")
    assert not any("lora" in name for name in after.unet.state_dict())
    noise = sample.start_noise(1, 8, channels=4)
    assert torch.equal(latent.draw(after, ["a sks face"], noise, num_inference_steps=2),
                       latent.draw(latent.load_pipeline(output), ["a sks face"], noise, num_inference_steps=2))
    assert json.loads((output / "metrics.json").read_text())["resolution"] == 64


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_an_unconditional_source_and_a_text_source_are_not_taken_for_each_other(shaped_dir, ten, capsys):
    assert commands.main(["adapt", "--source", str(shaped_dir), "--train_data_dir", str(ten)]) == 2
    assert "adapt-t2i" in capsys.readouterr().err
    assert commands.main(["adapt-t2i", "--source", str(data.data_dir() / "source"), "--train_data_dir", str(ten)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
