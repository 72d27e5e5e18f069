"""Our sampling chain against plain loops over diffusers' schedulers."""

import pytest
import torch
from conftest import make_source
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler

from dslib import ddpm, sample
from dslib.env import UserError


@pytest.fixture
def noise():
    return sample.start_noise(3, 16)


@torch.no_grad()
def plain_loop(pipe, kind, noise, steps, seed=0):
    extra = {"thresholding": True, "sample_max_value": 1.0} if kind is DPMSolverMultistepScheduler else {}
    scheduler = kind.from_config(pipe.scheduler.config, timestep_spacing="trailing", **extra)
    scheduler.set_timesteps(steps)
    x_t, seen = noise, []
    extra = {} if kind is DDIMScheduler else {"generator": torch.Generator().manual_seed(seed)}
    for t in scheduler.timesteps:
        x_t = scheduler.step(pipe.unet(x_t, t).sample, t, x_t, **extra).prev_sample
        seen.append(x_t)
    return seen


@pytest.mark.parametrize("name,kind", [("ddim", DDIMScheduler), ("ddpm", DDPMScheduler), ("dpmsolver", DPMSolverMultistepScheduler)])
@pytest.mark.parametrize("steps", [1, 5])
def test_chain_is_a_plain_loop_over_the_scheduler(tiny_source, noise, name, kind, steps):
    links = list(sample.chain(tiny_source.unet, tiny_source.scheduler, noise, steps, name, seed=4))
    expected = plain_loop(tiny_source, kind, noise, steps, seed=4)
    assert len(links) == steps and links[0].t == 999
    for link, x_t in zip(links, expected):
        torch.testing.assert_close(link.x_t, x_t)


def test_chain_yields_the_clipped_guess_of_the_clean_image(tiny_source, noise):
    first = next(sample.chain(tiny_source.unet, tiny_source.scheduler, noise, 5))
    with torch.no_grad():
        eps = tiny_source.unet(noise, 999).sample
    guess = ddpm.predict_x0(noise, torch.full((3,), 999), eps, tiny_source.scheduler.alphas_cumprod)
    torch.testing.assert_close(first.x_0, guess.clamp(-1, 1))


def test_the_last_ddim_link_is_the_guess_itself(tiny_source, noise):
    last = list(sample.chain(tiny_source.unet, tiny_source.scheduler, noise, 5, "ddim"))[-1]
    torch.testing.assert_close(last.x_t, last.x_0, atol=1e-5, rtol=0)


def test_seed_matters_to_ddpm_alone(tiny_source, noise):
    def ends(kind, seed):
        return sample.sample(tiny_source.unet, tiny_source.scheduler, noise, 3, kind, seed)
    assert torch.equal(ends("ddim", 0), ends("ddim", 1))
    assert torch.equal(ends("dpmsolver", 0), ends("dpmsolver", 1))
    assert torch.equal(ends("ddpm", 0), ends("ddpm", 0))
    assert not torch.equal(ends("ddpm", 0), ends("ddpm", 1))


@pytest.mark.parametrize("kind", ["ddim", "dpmsolver"])
def test_batch_size_does_not_change_the_images(tiny_source, noise, kind):
    together, apart = (sample.sample(tiny_source.unet, tiny_source.scheduler, noise, 3, kind, batch_size=b) for b in (32, 2))
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=0)


def test_images_are_in_range(tiny_source, noise):
    images = sample.sample(tiny_source.unet, tiny_source.scheduler, noise, 3)
    assert images.shape == noise.shape and images.abs().max() <= 1


def test_sampling_leaves_the_weights_and_the_scheduler_alone(tiny_source, noise):
    before = {k: v.clone() for k, v in tiny_source.unet.state_dict().items()}
    settings = dict(tiny_source.scheduler.config)
    sample.sample(tiny_source.unet, tiny_source.scheduler, noise, 2, "dpmsolver")
    assert all(torch.equal(v, before[k]) for k, v in tiny_source.unet.state_dict().items())
    assert dict(tiny_source.scheduler.config) == settings


def test_start_noise_of_few_is_the_start_of_many():
    assert torch.equal(sample.start_noise(3, 16, seed=5), sample.start_noise(8, 16, seed=5)[:3])


def test_start_noise_differs_by_image_and_seed():
    noise = sample.start_noise(4, 16, seed=5)
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise, sample.start_noise(4, 16, seed=6))
    assert sample.start_noise(2, 8, channels=1).shape == (2, 1, 8, 8)
    assert sample.start_noise(64, 16).std().item() == pytest.approx(1, abs=0.02)


def test_a_saved_pipeline_samples_in_plain_diffusers(tiny_source_dir):
    pipe = DDPMPipeline.from_pretrained(tiny_source_dir)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(batch_size=2, num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="np").images
    assert images.shape == (2, 16, 16, 3)
    assert images.min() >= 0 and images.max() <= 1 and images.std() > 0


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpmsolver"])
def test_a_model_with_learned_variance_is_sampled(noise, kind):
    pipe = make_source(learned_variance=True)
    images = sample.sample(pipe.unet, pipe.scheduler, noise, 3, kind)
    assert images.shape == noise.shape and images.isfinite().all()


def test_an_unknown_scheduler_is_refused_with_the_known_ones(tiny_source):
    with pytest.raises(UserError, match="'euler'.*ddpm, ddim, dpmsolver"):
        sample.sampler(tiny_source.scheduler, "euler", 5)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_refused(tiny_source, noise, steps):
    with pytest.raises(UserError, match=f"--num_inference_steps is {steps}"):
        sample.sample(tiny_source.unet, tiny_source.scheduler, noise, steps)
