"""Every loss against a slow reference written from the formulas with plain numbers: value and gradient."""

import math

import pytest
import torch
from conftest import make_images
from diffusers import DDPMScheduler

from dslib import ddpm, losses
from dslib.env import UserError


@pytest.fixture
def pair():
    """Adapted and source predictions, four images each."""
    return make_images(4, 8, seed=1).double(), make_images(4, 8, seed=2).double()


# ------------------------------------------------------------------------------------------ slow references

def slow_cosine(a, b):
    a, b = a.flatten(), b.flatten()
    return sum(a * b) / (sum(a * a).sqrt() * sum(b * b).sqrt())


def slow_probs(x):
    """p_i over j≠i as a list of lists of 0-dim tensors."""
    rows = []
    for i in range(len(x)):
        weights = [slow_cosine(x[i], x[j]).exp() for j in range(len(x)) if j != i]
        rows.append([w / sum(weights) for w in weights])
    return rows


def slow_kl(p_rows, q_rows):
    return sum(p * (p / q).log() for p_row, q_row in zip(p_rows, q_rows) for p, q in zip(p_row, q_row))


def slow_hf(x):
    out = torch.zeros(*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2, dtype=x.dtype)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            a, b = x[..., 2 * i, 2 * j], x[..., 2 * i, 2 * j + 1]
            c, d = x[..., 2 * i + 1, 2 * j], x[..., 2 * i + 1, 2 * j + 1]
            lh, hl, hh = (-a + b - c + d) / 2, (-a - b + c + d) / 2, (a - b - c + d) / 2
            out[..., i, j] = lh + hl + hh
    return out


def value_and_gradient(function, x):
    x = x.clone().requires_grad_()
    value = function(x)
    (gradient,) = torch.autograd.grad(value, x)
    return value.detach(), gradient


def assert_same(fast, slow, x):
    """Both functions of x agree in value and gradient. The library works in float32, the reference in float64."""
    (value, gradient), (value_slow, gradient_slow) = value_and_gradient(fast, x), value_and_gradient(slow, x)
    torch.testing.assert_close(value, value_slow, atol=1e-6, rtol=1e-4, check_dtype=False)
    torch.testing.assert_close(gradient, gradient_slow, atol=1e-3 * gradient_slow.abs().max().item(), rtol=1e-3, check_dtype=False)
    assert gradient_slow.abs().max() > 0


# ------------------------------------------------------------------------------------------ p_i

def test_log_probs_against_double_loop(pair):
    x, _ = pair
    expected = torch.tensor([[float(p) for p in row] for row in slow_probs(x)])
    torch.testing.assert_close(losses.pairwise_log_probs(x).exp(), expected, atol=1e-6, rtol=1e-5, check_dtype=False)


def test_each_row_is_a_distribution_over_the_others(ten_images):
    probs = losses.pairwise_log_probs(ten_images).exp()
    assert probs.shape == (10, 9)
    torch.testing.assert_close(probs.sum(1), torch.ones(10))


def test_drop_diagonal_keeps_order():
    square = torch.arange(16).view(4, 4)
    assert losses.drop_diagonal(square).tolist() == [[1, 2, 3], [4, 6, 7], [8, 9, 11], [12, 13, 14]]


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("loss", [losses.pairwise_kl, losses.hf_pairwise_kl])
def test_fewer_than_two_images_are_refused(loss, n):
    with pytest.raises(UserError, match=f"batch of {n}.*at least 2"):
        loss(torch.rand(n, 3, 8, 8), torch.rand(n, 3, 8, 8))


# ------------------------------------------------------------------------------------------ L_img and L_hf

@pytest.mark.parametrize("direction", ["ada||sou", "sou||ada"])
@pytest.mark.parametrize("n", [3, 4])
def test_pairwise_kl_against_double_loop(pair, direction, n):
    adapted, source = pair[0][:n], pair[1][:n]

    def slow(x):
        p, q = slow_probs(x), slow_probs(source)
        return slow_kl(p, q) if direction == "ada||sou" else slow_kl(q, p)

    assert_same(lambda x: losses.pairwise_kl(x, source, direction), slow, adapted)


def test_hf_pairwise_kl_against_double_loop(pair):
    adapted, source = pair
    assert_same(lambda x: losses.hf_pairwise_kl(x, source), lambda x: slow_kl(slow_probs(slow_hf(x)), slow_probs(slow_hf(source))), adapted)


@pytest.mark.parametrize("loss", [losses.pairwise_kl, losses.hf_pairwise_kl])
@pytest.mark.parametrize("direction", ["ada||sou", "sou||ada"])
def test_zero_when_equal_and_positive_otherwise(pair, loss, direction):
    adapted, source = pair
    assert loss(source, source, direction).item() == pytest.approx(0, abs=1e-7)
    assert loss(adapted, source, direction).item() > 1e-4


@pytest.mark.parametrize("loss", [losses.pairwise_kl, losses.hf_pairwise_kl])
def test_order_of_the_batch_does_not_matter(pair, loss):
    adapted, source = pair
    order = [2, 0, 3, 1]
    assert loss(adapted[order], source[order]).item() == pytest.approx(loss(adapted, source).item(), rel=1e-4)


@pytest.mark.parametrize("loss", [losses.pairwise_kl, losses.hf_pairwise_kl])
def test_brightness_scale_of_an_image_does_not_matter(pair, loss):
    adapted, source = pair
    scale = torch.tensor([0.5, 2.0, 1.0, 10.0]).view(4, 1, 1, 1)
    assert loss(scale * adapted, source).item() == pytest.approx(loss(adapted, source).item(), rel=1e-4)


def test_the_two_directions_differ(pair):
    forward, backward = (losses.pairwise_kl(*pair, direction=d).item() for d in ("ada||sou", "sou||ada"))
    assert backward == pytest.approx(losses.pairwise_kl(pair[1], pair[0]).item(), rel=1e-5)
    assert forward != pytest.approx(backward, rel=1e-4)


def test_an_unknown_direction_is_refused(pair):
    with pytest.raises(UserError, match="'sideways'"):
        losses.pairwise_kl(*pair, direction="sideways")


@pytest.mark.parametrize("direction", ["ada||sou", "sou||ada"])
def test_mean_is_the_sum_over_all_entries(pair, direction):
    total, mean = (losses.pairwise_kl(*pair, direction=direction, reduction=r).item() for r in ("sum", "mean"))
    assert mean == pytest.approx(total / (4 * 3), rel=1e-5)


@pytest.mark.parametrize("loss", [losses.pairwise_kl, losses.hf_pairwise_kl])
def test_no_gradient_reaches_the_source(pair, loss):
    adapted, source = (x.clone().requires_grad_() for x in pair)
    loss(adapted, source).backward()
    assert source.grad is None
    assert adapted.grad.abs().max() > 0


def test_scale_gradient_scales_nothing_else():
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    factor = torch.tensor([1.0, 0.5, 0.0])
    y = losses.scale_gradient(x, factor)
    assert torch.equal(y, x)
    (y**3).sum().backward()
    torch.testing.assert_close(x.grad, 3 * x.detach() ** 2 * factor.view(-1, 1, 1, 1))


def test_with_the_root_of_alpha_bar_no_step_pulls_through_a_magnified_guess(pair):
    """∂L/∂ε of the weighted loss is the unweighted one's times √ᾱ_t, image by image."""
    from dslib import ddpm
    schedule, t = ddpm.alphas_cumprod(ddpm.linear_betas()), torch.arange(len(pair[0])) * 90
    found = []
    for weighted in (True, False):
        eps = pair[0].clone().requires_grad_(True)
        x_0 = ddpm.predict_x0(pair[1], t, eps, schedule)
        compared = losses.scale_gradient(x_0, schedule[t].sqrt()) if weighted else x_0
        found.append(torch.autograd.grad(losses.pairwise_kl(compared, pair[1]), eps)[0])
    torch.testing.assert_close(found[0], found[1] * schedule[t].sqrt().view(-1, 1, 1, 1))


@pytest.mark.parametrize("loss", [losses.pairwise_kl, losses.hf_pairwise_kl])
def test_two_images_are_blind(pair, loss):
    """With one other image p is 1 whatever the images show, so nothing is learned."""
    value, gradient = value_and_gradient(lambda x: loss(x, pair[1][:2]), pair[0][:2])
    assert value == 0
    assert gradient.abs().max() == 0


def test_authors_variant_is_their_kldivloss(pair):
    adapted, source = pair[0][:3].float(), pair[1][:3].float()

    def theirs(x):
        def similarities(images):
            flat = images.flatten(1)
            return torch.stack([torch.stack([torch.cosine_similarity(flat[i], flat[j], dim=0) for j in range(3) if j != i])
                                for i in range(3)])
        log_p_ada, p_sou = similarities(x).log_softmax(1), similarities(source).softmax(1)
        return torch.nn.KLDivLoss(reduction="mean")(log_p_ada, p_sou)

    assert_same(lambda x: losses.pairwise_kl(x, source, "sou||ada", "mean"), theirs, adapted)


# ------------------------------------------------------------------------------------------ L_hfmse

def test_hf_mse_against_loop(pair):
    adapted, target = pair
    assert_same(lambda x: losses.hf_mse(x, target), lambda x: (slow_hf(x) - slow_hf(target)).square().mean(), adapted)


def test_hf_mse_weight_against_loop(pair):
    adapted, target = pair
    weight = torch.tensor([0.1, 0.9, 0.0, 2.0], dtype=torch.float64)

    def slow(x):
        return sum(w * (slow_hf(a[None]) - slow_hf(b[None])).square().mean() for w, a, b in zip(weight, x, target)) / 4

    assert_same(lambda x: losses.hf_mse(x, target, weight), slow, adapted)


def test_hf_mse_weight_of_ones_is_no_weight(pair):
    assert losses.hf_mse(*pair, torch.ones(4)).item() == pytest.approx(losses.hf_mse(*pair).item())


def test_hf_mse_zero_when_equal_and_deaf_to_brightness(pair):
    x, other = pair
    assert losses.hf_mse(x, x) == 0
    assert losses.hf_mse(x + 0.3, x).item() == pytest.approx(0, abs=1e-12)
    assert losses.hf_mse(x, other) > 0


def test_alphas_cumprod_weighting_turns_the_error_into_one_of_the_noise(ten_images):
    """ᾱ_t·|hf(x̃_0 − x_0)|² = (1 − ᾱ_t)·|hf(ε − ε_ada)|²: bounded at every t."""
    schedule = ddpm.alphas_cumprod(ddpm.linear_betas())
    t = torch.linspace(0, 999, 10).long()
    eps, eps_ada = torch.randn(10, 3, 16, 16), torch.randn(10, 3, 16, 16)
    x0_ada = ddpm.predict_x0(ddpm.q_sample(ten_images, t, eps, schedule), t, eps_ada, schedule)
    weighted = losses.hf_mse(x0_ada, ten_images, schedule[t])
    assert weighted.item() == pytest.approx(losses.hf_mse(eps_ada, eps, 1 - schedule[t]).item(), rel=1e-3)


# ------------------------------------------------------------------------------------------ L_vlb

BETAS = ddpm.linear_betas().double()
SCHEDULER = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", variance_type="learned_range", clip_sample=True)


def one_pixel(t, eps, v, x_0=0.3, noise=0.5):
    """The arguments of vlb for a picture of a single value."""
    def image(value):
        return torch.full((1, 1, 1, 1), float(value), dtype=torch.float64)
    step = torch.tensor([t])
    a_bar = torch.cumprod(1 - BETAS, 0)
    x_t = ddpm.q_sample(image(x_0), step, image(noise), a_bar)
    return dict(eps=image(eps), v=image(v), x_0=image(x_0), x_t=x_t, t=step, betas=BETAS)


def posterior_mean(x_0, x_t, t):
    """Mean of q(x_{t−1}|x_t,x_0) by conditioning one Gaussian on another, without the textbook coefficients."""
    a_bar = torch.cumprod(1 - BETAS, 0)
    prior_mean, prior_var = a_bar[t - 1].sqrt() * x_0, 1 - a_bar[t - 1]      # x_{t−1} given x_0
    gain = prior_var * (1 - BETAS[t]).sqrt() / ((1 - BETAS[t]) * prior_var + BETAS[t])
    return prior_mean + gain * (x_t - (1 - BETAS[t]).sqrt() * prior_mean), prior_var * (1 - gain * (1 - BETAS[t]).sqrt())


@pytest.mark.parametrize("t", [1, 2, 100, 500, 999])
@pytest.mark.parametrize("v", [-1.0, -0.3, 0.8])
def test_vlb_is_the_kl_of_two_gaussians(t, v):
    arguments = one_pixel(t, eps=0.4, v=v)
    x_t, a_bar = arguments["x_t"].item(), torch.cumprod(1 - BETAS, 0)
    mean_q, var_q = posterior_mean(0.3, x_t, t)
    x0_model = min(1, max(-1, (x_t - (1 - a_bar[t]).sqrt() * 0.4) / a_bar[t].sqrt()))
    mean_p, _ = posterior_mean(x0_model, x_t, t)
    var_p = SCHEDULER._get_variance(t, torch.tensor(v, dtype=torch.float64)).exp()   # diffusers returns the log for learned_range
    q, p = (torch.distributions.Normal(m, s.sqrt()) for m, s in ((mean_q, var_q), (mean_p, var_p)))
    expected = torch.distributions.kl_divergence(q, p) / math.log(2)
    assert losses.vlb(**arguments).item() == pytest.approx(expected.item(), rel=2e-3, abs=1e-9)


@pytest.mark.parametrize("v", [-1.0, 0.5])
def test_vlb_mean_and_variance_are_the_ones_diffusers_samples_with(v):
    """If x_0 is what diffusers' own reverse step aims at, only the variances can differ."""
    t = 400
    arguments = one_pixel(t, eps=0.5, v=v, x_0=0.3, noise=0.5)        # eps is the true noise: the means agree
    output = torch.cat([arguments["eps"], arguments["v"]], dim=1)
    drawn = [SCHEDULER.step(output, t, arguments["x_t"], generator=torch.Generator().manual_seed(s)).prev_sample.item()
             for s in range(4)]
    noises = [torch.randn(1, 1, 1, 1, generator=torch.Generator().manual_seed(s), dtype=torch.float64).item() for s in range(4)]
    sigma = (drawn[0] - drawn[1]) / (noises[0] - noises[1])
    mean_q, var_q = posterior_mean(0.3, arguments["x_t"].item(), t)
    assert drawn[2] - sigma * noises[2] == pytest.approx(mean_q.item(), abs=1e-4)
    ratio = (var_q / sigma**2).item()
    assert losses.vlb(**arguments).item() == pytest.approx(0.5 * (ratio - 1 - math.log(ratio)) / math.log(2), rel=1e-2, abs=1e-7)


@pytest.mark.parametrize("x_0", [-1.0, -0.5 + 1 / 255, 0.3, 1.0])
@pytest.mark.parametrize("v", [-1.0, 0.0, 1.0])
def test_vlb_at_the_first_step_is_the_mass_of_a_bin(x_0, v):
    arguments = one_pixel(0, eps=0.9, v=v, x_0=x_0, noise=0.2)
    a_bar = (1 - BETAS[0])
    mean = min(1, max(-1, ((arguments["x_t"] - (1 - a_bar).sqrt() * 0.9) / a_bar.sqrt()).item()))
    beta_tilde_1 = BETAS[1] * (1 - a_bar) / (1 - a_bar * (1 - BETAS[1]))
    sigma = math.exp(0.5 * ((1 - v) / 2 * math.log(beta_tilde_1) + (1 + v) / 2 * math.log(BETAS[0])))
    low = mean - 12 * sigma if x_0 <= -0.999 else x_0 - 1 / 255
    high = mean + 12 * sigma if x_0 >= 0.999 else x_0 + 1 / 255
    x = torch.linspace(low, high, 200_001, dtype=torch.float64)
    density = (-0.5 * ((x - mean) / sigma) ** 2).exp() / (sigma * math.sqrt(2 * math.pi))
    mass = torch.trapezoid(density, x).item()
    assert losses.vlb(**arguments).item() == pytest.approx(-math.log(mass) / math.log(2), rel=1e-3, abs=1e-6)


def test_vlb_trains_the_variance_alone():
    arguments = one_pixel(300, eps=0.1, v=0.2)
    arguments["eps"].requires_grad_()
    arguments["v"].requires_grad_()
    losses.vlb(**arguments).backward()
    assert arguments["eps"].grad is None
    assert arguments["v"].grad.abs().item() > 0


def test_vlb_is_least_and_zero_at_the_right_variance():
    """With the true noise the posterior's own variance β̃_t, v = −1, is best."""
    values = [losses.vlb(**one_pixel(5, eps=0.5, v=v, noise=0.5)).item() for v in (-1.4, -1.2, -1.0, -0.8, -0.6)]
    assert values[2] == pytest.approx(0, abs=1e-8)
    assert min(values) == values[2]
    assert values[0] > values[1] and values[4] > values[3]


def test_vlb_of_a_batch_is_the_mean_of_its_images():
    steps = [0, 1, 700]
    singles = [one_pixel(t, eps=0.4, v=0.1) for t in steps]
    batch = {key: torch.cat([s[key] for s in singles]) for key in ("eps", "v", "x_0", "x_t", "t")} | {"betas": BETAS}
    assert losses.vlb(**batch).item() == pytest.approx(sum(losses.vlb(**s).item() for s in singles) / 3, rel=1e-6)
