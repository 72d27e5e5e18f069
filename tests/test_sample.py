"""Our sampling chain against plain loops over diffusers' schedulers."""

import pytest
import torch
from conftest import make_source
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler

from dslib import ddpm, models, sample
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


# ------------------------------------------------------------------------------------------ v beside ε

@pytest.fixture
def v_source():
    pipe = make_source(seed=7)
    return DDPMPipeline(unet=pipe.unet, scheduler=models.new_scheduler("v_prediction"))


@pytest.mark.parametrize("name,kind", [("ddim", DDIMScheduler), ("ddpm", DDPMScheduler), ("dpmsolver", DPMSolverMultistepScheduler)])
def test_a_v_model_is_walked_as_diffusers_walks_it(v_source, noise, name, kind):
    links = list(sample.chain(v_source.unet, v_source.scheduler, noise, 5, name, seed=4))
    expected = plain_loop(v_source, kind, noise, 5, seed=4)
    assert all(torch.equal(link.x_t, x_t) for link, x_t in zip(links, expected))
    as_epsilon = plain_loop(make_source(seed=7), kind, noise, 5, seed=4)
    assert not torch.allclose(expected[-1], as_epsilon[-1], atol=1e-3)


def test_a_v_chain_yields_the_guess_of_v(v_source, noise):
    a_bar = v_source.scheduler.alphas_cumprod
    x_t = noise
    for link in sample.chain(v_source.unet, v_source.scheduler, noise, 4):
        with torch.no_grad():
            output = v_source.unet(x_t, link.t).sample
        a = a_bar[link.t]
        torch.testing.assert_close(link.x_0, (a.sqrt() * x_t - (1 - a).sqrt() * output).clamp(-1, 1))
        x_t = link.x_t
    torch.testing.assert_close(link.x_t, link.x_0, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpmsolver"])
@torch.no_grad()
def test_epsilon_chains_are_what_they_were_bit_for_bit(tiny_source, noise, kind):
    """The loop as it stood before v was known, written out once more."""
    steps, a_bar = sample.sampler(tiny_source.scheduler, kind, 5), tiny_source.scheduler.alphas_cumprod
    extra, x_t = {} if kind == "ddim" else {"generator": torch.Generator().manual_seed(2)}, noise
    links = list(sample.chain(tiny_source.unet, tiny_source.scheduler, noise, 5, kind, seed=2))
    for t, link in zip(steps.timesteps, links):
        eps = tiny_source.unet(x_t, t).sample
        x_0 = ((x_t - (1 - a_bar[t]).sqrt() * eps) / a_bar[t].sqrt()).clamp(-1, 1)
        x_t = steps.step(eps, t, x_t, **extra).prev_sample
        assert torch.equal(link.x_0, x_0) and torch.equal(link.x_t, x_t)


def test_a_third_prediction_type_is_refused(tiny_source, noise):
    scheduler = DDPMScheduler.from_config(tiny_source.scheduler.config, prediction_type="sample")
    with pytest.raises(UserError, match="'sample'"):
        sample.sample(tiny_source.unet, scheduler, noise, 2)


# ------------------------------------------------------------------------------------------ the source until t_0

@pytest.fixture
def adapted():
    return make_source(seed=99).unet


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpmsolver"])
@pytest.mark.parametrize("until", [None, 999, 1000])
def test_from_the_last_step_on_all_is_the_adapted_models(tiny_source, adapted, noise, kind, until):
    plain = sample.sample(adapted, tiny_source.scheduler, noise, 5, kind)
    both = sample.sample(adapted, tiny_source.scheduler, noise, 5, kind, source=tiny_source, source_until=until)
    assert torch.equal(both, plain)
    assert not torch.equal(plain, sample.sample(tiny_source.unet, tiny_source.scheduler, noise, 5, kind))


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpmsolver"])
def test_until_zero_all_is_the_sources_but_step_zero(tiny_source, adapted, noise, kind):
    """Five steps end at t = 199: the source alone. A thousand would end at 0, the adapted model's."""
    alone = sample.sample(tiny_source.unet, tiny_source.scheduler, noise, 5, kind)
    assert torch.equal(sample.sample(adapted, tiny_source.scheduler, noise, 5, kind, source=tiny_source.unet, source_until=0), alone)


@pytest.mark.parametrize("until,sources", [(1000, []), (999, []), (998, [999]), (599, [999, 799]), (598, [999, 799, 599]),
                                           (199, [999, 799, 599, 399]), (0, [999, 799, 599, 399, 199])])
@torch.no_grad()
def test_each_step_is_drawn_by_the_model_it_belongs_to(tiny_source, adapted, noise, until, sources):
    steps, x_t = sample.sampler(tiny_source.scheduler, "dpmsolver", 5), noise
    links = list(sample.chain(adapted, tiny_source.scheduler, noise, 5, "dpmsolver", source=tiny_source.unet, source_until=until))
    assert [link.t for link in links] == [999, 799, 599, 399, 199]
    for t, link in zip(steps.timesteps, links):
        net = tiny_source.unet if int(t) in sources else adapted
        x_t = steps.step(net(x_t, t).sample, t, x_t).prev_sample
        assert torch.equal(link.x_t, x_t)


def test_step_zero_is_the_adapted_models_even_until_zero(tiny_source, adapted):
    short = DDPMScheduler(num_train_timesteps=4, beta_schedule="linear")
    noise, asked = sample.start_noise(1, 16), []
    for name, net in (("source", tiny_source.unet), ("adapted", adapted)):
        net.register_forward_hook(lambda module, given, output, name=name: asked.append((int(given[1]), name)))
    list(sample.chain(adapted, short, noise, 4, source=tiny_source.unet, source_until=0))
    assert asked == [(3, "source"), (2, "source"), (1, "source"), (0, "adapted")]


def test_both_models_are_put_to_rest_and_images_fit_any_batch(tiny_source, adapted, noise):
    tiny_source.unet.train(), adapted.train()
    together, apart = (sample.sample(adapted, tiny_source.scheduler, noise, 3, batch_size=b, source=tiny_source, source_until=500)
                       for b in (32, 2))
    assert not tiny_source.unet.training and not adapted.training
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=0)


@pytest.mark.parametrize("until", [-1, 1001, 5000])
def test_impossible_places_to_hand_over_are_refused(tiny_source, adapted, noise, until):
    with pytest.raises(UserError, match=f"--source_until is {until}: use 0 to 1000"):
        sample.sample(adapted, tiny_source.scheduler, noise, 2, source=tiny_source.unet, source_until=until)


def test_until_without_a_source_is_refused(tiny_source, adapted, noise):
    with pytest.raises(UserError, match="--source_until 500 needs the source"):
        sample.sample(adapted, tiny_source.scheduler, noise, 2, source_until=500)


def test_models_that_do_not_fit_together_are_refused(tiny_source, adapted, v_source, noise):
    def refused(words, source):
        with pytest.raises(UserError, match=words) as caught:
            next(sample.chain(adapted, tiny_source.scheduler, noise, 2, source=source, source_until=500))
        assert "\n" not in str(caught.value)
    refused("predicts v_prediction and the adapted model epsilon", v_source)
    refused("sample_size is 32, the adapted model's 16", make_source(32).unet)
    refused("out_channels is 6, the adapted model's 3", make_source(learned_variance=True))
    other = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    refused("different noise schedules", DDPMPipeline(unet=tiny_source.unet, scheduler=other))
