"""The forward process against diffusers' schedulers."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from dslib import ddpm

T = 1000
SCHEDULE = ddpm.alphas_cumprod(ddpm.linear_betas())


@pytest.fixture
def scheduler():
    return DDPMScheduler(num_train_timesteps=T, beta_schedule="linear")


@pytest.fixture
def noised(ten_images):
    t = torch.tensor([0, 1, 5, 50, 111, 222, 500, 750, 900, 999])
    eps = torch.randn(ten_images.shape, generator=torch.Generator().manual_seed(1))
    return ten_images, t, eps


def test_schedule_is_diffusers(scheduler):
    torch.testing.assert_close(SCHEDULE, scheduler.alphas_cumprod)
    torch.testing.assert_close(ddpm.linear_betas(), scheduler.betas)


@pytest.mark.parametrize("steps", [10, 1000])
def test_schedule_falls_within_zero_and_one(steps):
    schedule = ddpm.alphas_cumprod(ddpm.linear_betas(steps))
    assert schedule.shape == (steps,)
    assert (schedule.diff() < 0).all() and schedule[-1] > 0 and schedule[0] < 1


def test_q_sample_is_add_noise(scheduler, noised):
    x_0, t, eps = noised
    torch.testing.assert_close(ddpm.q_sample(x_0, t, eps, SCHEDULE), scheduler.add_noise(x_0, eps, t))


def test_predict_x0_inverts_q_sample(noised):
    x_0, t, eps = (v.double() if v.is_floating_point() else v for v in noised)
    schedule = SCHEDULE.double()
    x_t = ddpm.q_sample(x_0, t, eps, schedule)
    torch.testing.assert_close(ddpm.predict_x0(x_t, t, eps, schedule), x_0, atol=1e-10, rtol=0)


def test_predict_x0_is_what_ddim_calls_pred_original_sample(noised):
    x_t, t, eps = noised
    scheduler = DDIMScheduler(num_train_timesteps=T, beta_schedule="linear", clip_sample=False)
    scheduler.set_timesteps(T)
    ours = ddpm.predict_x0(x_t, t, eps, SCHEDULE)
    for i in range(len(t)):
        theirs = scheduler.step(eps[i:i + 1], int(t[i]), x_t[i:i + 1]).pred_original_sample
        torch.testing.assert_close(ours[i:i + 1], theirs)


def test_formulas_send_gradients_to_the_noise(noised):
    x_0, t, eps = noised
    eps.requires_grad_()
    ddpm.predict_x0(ddpm.q_sample(x_0, t, eps.detach(), SCHEDULE), t, eps, SCHEDULE).sum().backward()
    expected = -((1 - SCHEDULE[t]) / SCHEDULE[t]).sqrt()
    torch.testing.assert_close(eps.grad[:, 0, 0, 0], expected)


def draws(n, times, total=T):
    return torch.stack([ddpm.sample_timesteps(n, total, torch.Generator().manual_seed(s)) for s in range(times)])


@pytest.mark.parametrize("n,total", [(1, 1000), (7, 1000), (10, 1000), (5, 3), (64, 10)])
def test_timesteps_are_integers_in_range(n, total):
    t = draws(n, 50, total)
    assert t.shape == (50, n) and t.dtype == torch.int64
    assert t.min() >= 0 and t.max() < total


def test_timesteps_fall_one_in_every_stretch():
    t = draws(10, 200)
    for row in t:
        assert sorted((row // 100).tolist()) == list(range(10))


def test_timesteps_are_uniform_for_every_image_of_the_batch():
    """Chi-square on ten bins with nine degrees of freedom: 27.9 is its 99.9 % point."""
    t = draws(4, 2000)
    for column in t.T:
        counts = torch.bincount(column // 100, minlength=10).float()
        assert ((counts - 200).square() / 200).sum() < 27.9


def test_timesteps_are_not_tied_to_the_place_in_the_batch():
    t = draws(10, 300).float()
    assert torch.corrcoef(t.T)[0, 1:].abs().max() < 0.3


def test_timesteps_depend_on_the_seed_alone():
    assert torch.equal(draws(10, 3), draws(10, 3))
    assert not torch.equal(draws(10, 1)[0], draws(10, 2)[1])
