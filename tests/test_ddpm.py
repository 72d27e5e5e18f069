"""The forward process against diffusers' schedulers."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from dslib import ddpm
from dslib.env import UserError

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


# ------------------------------------------------------------------------------------------ v beside ε

@pytest.fixture
def doubles(noised):
    x_0, t, eps = noised
    return x_0.double(), t, eps.double(), SCHEDULE.double()


def test_velocity_is_diffusers(noised):
    x_0, t, eps = noised
    for kind in (DDPMScheduler, DDIMScheduler):
        theirs = kind(num_train_timesteps=T, beta_schedule="linear").get_velocity(x_0, eps, t)
        torch.testing.assert_close(ddpm.velocity(x_0, eps, t, SCHEDULE), theirs)


def test_velocity_is_the_slope_along_the_circle(doubles):
    """v = dx_t/dφ with √ᾱ = cos φ: by central differences of the forward process."""
    x_0, t, eps, schedule = doubles
    angle, step = schedule.sqrt().acos(), 1e-5
    ahead, behind = (ddpm.q_sample(x_0, t, eps, (angle + d).cos().square()) for d in (step, -step))
    torch.testing.assert_close(ddpm.velocity(x_0, eps, t, schedule), (ahead - behind) / (2 * step), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("prediction_type", ddpm.PREDICTION_TYPES)
def test_guess_is_what_step_calls_pred_original_sample(noised, kind, prediction_type):
    x_t, t, output = noised
    scheduler = kind(num_train_timesteps=T, beta_schedule="linear", clip_sample=False, prediction_type=prediction_type)
    scheduler.set_timesteps(T)
    ours = ddpm.guess(output, x_t, t, SCHEDULE, prediction_type)
    for i in range(len(t)):
        one = slice(i, i + 1)
        theirs = scheduler.step(output[one], int(t[i]), x_t[one]).pred_original_sample
        torch.testing.assert_close(ours.x_0[one], theirs)


@pytest.mark.parametrize("prediction_type", ddpm.PREDICTION_TYPES)
@pytest.mark.parametrize("algorithm,field", [("dpmsolver++", "x_0"), ("dpmsolver", "eps")])
def test_guess_is_what_dpm_solver_makes_of_the_output(noised, prediction_type, algorithm, field):
    """``dpmsolver++`` works on the clean image, ``dpmsolver`` on the noise: both fields against diffusers."""
    x_t, t, output = noised
    scheduler = DPMSolverMultistepScheduler(num_train_timesteps=T, beta_schedule="linear", prediction_type=prediction_type,
                                            algorithm_type=algorithm, final_sigmas_type="sigma_min", timestep_spacing="trailing")
    scheduler.set_timesteps(T)
    ours = getattr(ddpm.guess(output, x_t, t, SCHEDULE, prediction_type), field)
    for i in range(len(t)):
        scheduler._step_index = int((scheduler.timesteps == t[i]).nonzero())
        theirs = scheduler.convert_model_output(output[i:i + 1], sample=x_t[i:i + 1])
        torch.testing.assert_close(ours[i:i + 1], theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("prediction_type", ddpm.PREDICTION_TYPES)
def test_guess_of_the_target_is_the_truth(doubles, prediction_type):
    x_0, t, eps, schedule = doubles
    asked = ddpm.target(x_0, eps, t, schedule, prediction_type)
    guess = ddpm.guess(asked, ddpm.q_sample(x_0, t, eps, schedule), t, schedule, prediction_type)
    torch.testing.assert_close(guess.x_0, x_0, atol=1e-10, rtol=0)
    torch.testing.assert_close(guess.eps, eps, atol=1e-10, rtol=0)


def test_guess_and_velocity_number_by_number():
    """A slow reference with plain floats, a different t for every image."""
    t = torch.tensor([3, 640])
    output, x_t, eps = (torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(s)).double() for s in range(3))
    schedule = SCHEDULE.double()
    got, v = ddpm.guess(output, x_t, t, schedule, "v_prediction"), ddpm.velocity(x_t, eps, t, schedule)
    for place in itertools.product(range(2), [0], range(2), range(2)):
        a = float(schedule[t[place[0]]])
        o, x, e = (float(tensor[place]) for tensor in (output, x_t, eps))
        assert float(got.x_0[place]) == pytest.approx(math.sqrt(a) * x - math.sqrt(1 - a) * o)
        assert float(got.eps[place]) == pytest.approx(math.sqrt(a) * o + math.sqrt(1 - a) * x)
        assert float(v[place]) == pytest.approx(math.sqrt(a) * e - math.sqrt(1 - a) * x)


def test_an_epsilon_guess_is_predict_x0_bit_for_bit(noised):
    x_t, t, eps = noised
    for guess in (ddpm.guess(eps, x_t, t, SCHEDULE), ddpm.guess(eps, x_t, t, SCHEDULE, "epsilon")):
        assert torch.equal(guess.x_0, ddpm.predict_x0(x_t, t, eps, SCHEDULE)) and guess.eps is eps
    assert ddpm.target(x_t, eps, t, SCHEDULE) is eps
    a = SCHEDULE[t].view(-1, 1, 1, 1)
    assert torch.equal(ddpm.predict_x0(x_t, t, eps, SCHEDULE), (x_t - (1 - a).sqrt() * eps) / a.sqrt())


def test_an_error_of_v_is_never_magnified(doubles):
    x_t, t, output, schedule = doubles
    guesses = [ddpm.guess(output + shift, x_t, t, schedule, "v_prediction").x_0 for shift in (0, 1)]
    assert (guesses[1] - guesses[0]).abs().max() <= 1
    guesses = [ddpm.guess(output + shift, x_t, t, schedule, "epsilon").x_0 for shift in (0, 1)]
    assert (guesses[1] - guesses[0]).abs().max() > 100


@pytest.mark.parametrize("prediction_type", ["sample", "v", "", "flow"])
def test_a_third_prediction_type_is_one_clear_line(noised, prediction_type):
    x_t, t, eps = noised
    for call in (lambda: ddpm.guess(eps, x_t, t, SCHEDULE, prediction_type),
                 lambda: ddpm.target(x_t, eps, t, SCHEDULE, prediction_type)):
        with pytest.raises(UserError, match=f"'{prediction_type}': only epsilon and v_prediction") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_scheduler_that_does_not_say_means_epsilon(scheduler):
    assert ddpm.prediction_type_of(scheduler) == "epsilon"
    assert ddpm.prediction_type_of(SimpleNamespace(config={})) == "epsilon"
    assert ddpm.prediction_type_of(SimpleNamespace(config={"prediction_type": None})) == "epsilon"
    assert ddpm.prediction_type_of(DDPMScheduler(prediction_type="v_prediction")) == "v_prediction"
    with pytest.raises(UserError, match="'sample'"):
        ddpm.prediction_type_of(DDPMScheduler(prediction_type="sample"))


@pytest.mark.parametrize("gamma,least", [(5.0, 0.1), (1.0, 0.0), (20.0, 0.3)])
def test_v_weight_number_by_number(gamma, least):
    t = torch.tensor([0, 10, 300, 600, 999])
    weights = ddpm.snr_weight(SCHEDULE, t, gamma, "v_prediction", least)
    for step, weight in zip(t.tolist(), weights.tolist()):
        snr = float(SCHEDULE[step]) / (1 - float(SCHEDULE[step]))
        assert weight == pytest.approx(max(least, min(snr, gamma) / (snr + 1)), rel=1e-4)


def test_v_weight_rises_to_its_summit_at_gamma_and_keeps_a_floor():
    weights = ddpm.snr_weight(SCHEDULE, torch.arange(T), prediction_type="v_prediction")
    assert weights.min().item() == pytest.approx(0.1) and weights[-1].item() == pytest.approx(0.1)
    assert weights.max().item() == pytest.approx(5 / 6, abs=0.01)
    snr = SCHEDULE / (1 - SCHEDULE)
    assert snr[weights.argmax()].item() == pytest.approx(5, rel=0.05)
