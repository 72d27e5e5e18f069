"""Every loss of the GANs against a slow one that anybody can read: values and gradients."""

import math

import pytest
import torch
from conftest import make_gan

from dslib.gan import cdc, dcl, ewc, losses


def maps(n, seed, channels=3, size=4):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same(fast, slow, *inputs):
    """Value and gradient with respect to every input agree."""
    first, second = ([x.clone().requires_grad_() for x in inputs] for _ in range(2))
    a, b = fast(*first), slow(*second)
    torch.testing.assert_close(a, b)
    a.backward()
    b.backward()
    for x, y in zip(first, second):
        torch.testing.assert_close(*(torch.zeros_like(one) if one.grad is None else one.grad for one in (x, y)))


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def test_the_players_losses_are_the_logarithms_of_the_paper():
    real, fake = (torch.randn(5, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (0, 1))
    assert_same(losses.generator_loss, lambda f: sum(-torch.log(sigmoid(s)) for s in f) / 5, fake)
    assert_same(losses.discriminator_loss, lambda r, f: sum(-torch.log(sigmoid(a)) - torch.log(1 - sigmoid(b)) for a, b in zip(r, f)) / 5,
                real, fake)


def test_the_generator_is_taught_where_it_loses_plainly():
    """The saturating loss log(1 − D) has no gradient where D is sure; this one has."""
    score = torch.tensor([-20.0], requires_grad=True)
    losses.generator_loss(score).backward()
    assert score.grad.item() == pytest.approx(-1, abs=1e-6)


def finite_difference(score, x, step=1e-5):
    """The gradient of score(x) (N,) with respect to x (N,…): every value moved by itself, an image's all at once."""
    each = step * torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    return torch.stack([(score(image + each) - score(image - each)).view(image.shape) / (2 * step) for image in x])


def test_r1_is_half_the_mean_squared_gradient_by_finite_differences():
    net, x = make_gan().discriminator.double(), maps(2, 3, size=16).requires_grad_()
    found = losses.r1(net(x), x)
    slow = finite_difference(lambda y: net(y).detach(), x.detach())
    torch.testing.assert_close(found.detach(), slow.square().sum() / 2 / 2, rtol=1e-5, atol=1e-9)


def test_r1_teaches_the_discriminator_as_finite_differences_say():
    net, x = make_gan().discriminator.double().requires_grad_(True), maps(2, 3, size=16).requires_grad_()
    losses.r1(net(x), x).backward()
    weight, step, place = net.stem.weight, 1e-5, (0, 0, 1, 1)

    def at(change):
        with torch.no_grad():
            weight[place] += change
        value = losses.r1(net(x), x).item()
        with torch.no_grad():
            weight[place] -= change
        return value
    assert weight.grad[place].item() == pytest.approx((at(step) - at(-step)) / (2 * step), rel=1e-4)


def test_diversity_is_the_root_mean_square_difference_of_pairs():
    images = maps(4, 5)
    slow = sum((images[i] - images[j]).square().mean() for i in range(4) for j in range(i)) / 6
    assert float(losses.diversity(images)) == pytest.approx(math.sqrt(slow), rel=1e-5)
    assert float(losses.diversity(images[:1].expand(4, -1, -1, -1))) == 0 == float(losses.diversity(images[:1]))


# ------------------------------------------------------------------------------------------ CDC

def cosine(a, b):
    a, b = a.flatten(), b.flatten()
    return (a * b).sum() / a.norm() / b.norm()


def slow_consistency(adapted, source):
    n, total = len(adapted), 0.0
    for i in range(n):
        ada, sou = (torch.stack([torch.exp(cosine(x[i], x[j])) for j in range(n) if j != i]) for x in (adapted, source.detach()))
        p, q = ada / ada.sum(), sou / sou.sum()
        total = total + (p * (p / q).log()).sum()
    return total / (n * (n - 1))


def test_consistency_is_the_mean_kl_of_similarities_from_the_adapted_to_the_source():
    a, s = maps(4, 6).float(), maps(4, 7).float()
    assert_same(cdc.consistency, slow_consistency, a, s)
    assert float(cdc.consistency(a, a)) == 0 < float(cdc.consistency(a, s))
    assert float(cdc.consistency(a, 3 * a)) == pytest.approx(0, abs=1e-7), "blind to brightness: cosines are"


def test_the_layer_depends_on_seed_and_step_alone_and_each_has_its_turn():
    first, again, other = ([cdc.one_layer(step, 5, seed) for step in range(60)] for seed in (0, 0, 1))
    assert first == again != other and set(first) == set(range(5))


# ------------------------------------------------------------------------------------------ DCL

def slow_generator_contrast(a, s, temperature):
    total = 0.0
    for i in range(len(a)):
        f = [torch.exp(cosine(a[i], s[j].detach()) / temperature) for j in range(len(s))]
        total = total - torch.log(f[i] / sum(f))
    return total / len(a)


def slow_discriminator_contrast(d, s, r, temperature):
    total = 0.0
    for i in range(len(d)):
        positive = torch.exp(cosine(d[i], s[i].detach()) / temperature)
        negatives = sum(torch.exp(cosine(d[i], one) / temperature) for one in r)
        total = total - torch.log(positive / (positive + negatives))
    return total / len(d)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_contrasts_are_those_of_the_paper(temperature):
    a, s, r = maps(3, 9), maps(3, 10), maps(5, 11)
    assert_same(lambda x, y: dcl.generator_contrast(x, y, temperature), lambda x, y: slow_generator_contrast(x, y, temperature), a, s)
    assert_same(lambda x, y, z: dcl.discriminator_contrast(x, y, z, temperature),
                lambda x, y, z: slow_discriminator_contrast(x, y, z, temperature), a, s, r)


def test_a_twin_is_found_and_a_stranger_is_not():
    a = maps(4, 12)
    assert dcl.generator_contrast(a, a) < 1e-3 < 1 < dcl.generator_contrast(a, a.roll(1, 0))
    assert dcl.discriminator_contrast(a, a, -a) < 1e-3 < 1 < dcl.discriminator_contrast(a, -a, a)


# ------------------------------------------------------------------------------------------ EWC

def test_the_penalty_is_a_weighted_square_distance():
    weights, start, information = ([maps(1, seed, 2, 3), maps(2, seed, 1, 2)] for seed in (13, 14, 15))
    information = [f.abs() for f in information]

    def slow(*now):
        return sum(float(f) * (p - p_0) ** 2 for x, x_0, i in zip(now, start, information)
                   for p, p_0, f in zip(x.flatten(), x_0.flatten(), i.flatten()))
    assert_same(lambda *now: ewc.penalty(now, start, information), slow, *weights)
    assert ewc.penalty(start, start, information) == 0


def test_the_fisher_information_is_the_mean_square_of_single_gradients():
    """Against torch.func, which differentiates all images at once."""
    pair, z = make_gan(), torch.randn(5, 8, generator=torch.Generator().manual_seed(16))
    parameters = {name: p.detach() for name, p in pair.generator.named_parameters()}

    def log_likelihood(weights, one):
        return torch.log(sigmoid(pair.discriminator(torch.func.functional_call(pair.generator, weights, (one[None],)))[0]))
    each = torch.func.vmap(torch.func.grad(log_likelihood), in_dims=(None, 0))(parameters, z)
    found = ewc.fisher(pair, z)
    for name, f in zip(parameters, found):
        torch.testing.assert_close(f, each[name].square().mean(0), rtol=1e-3, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    assert all((f >= 0).all() for f in found) and any(f.any() for f in found)
    assert not any(p.requires_grad or p.grad is not None for p in pair.parameters())
