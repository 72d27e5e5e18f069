"""The critic of patches: its piece of 18 pixels, its loss against a loop, what the model minimises, and what it refuses."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import make_images, make_source

from dslib import UserError, ddpm, domainstudio, models, train
from dslib.beyond import patch
from dslib.train import TrainConfig


@pytest.fixture(params=["epsilon", "v_prediction"])
def source(request):
    pipe = make_source()
    pipe.register_modules(scheduler=models.new_scheduler(request.param))
    return pipe


def test_a_score_sees_eighteen_pixels():
    critic, x = patch.new_critic(3, 8), make_images(1, 64).requires_grad_()
    scores = critic(x)
    assert scores.shape == (1, 1, 16, 16)
    slope, = torch.autograd.grad(scores[0, 0, 8, 8], x)
    seen = slope[0].abs().sum(0) > 0
    assert int(seen.any(1).sum()) == int(seen.any(0).sum()) == 18


def test_critics_loss_against_a_loop():
    critic, real, fake = patch.new_critic(3, 8), make_images(3, 16), make_images(2, 16, 5)
    for p in critic.parameters():
        p.data *= 3
    steep = 0.0
    for x in real:
        x = x[None].clone().requires_grad_()
        steep += float(torch.autograd.grad(critic(x).sum(), x)[0].square().sum()) / 3
    yes, no = ((-critic(real)).exp() + 1).log().mean(), (critic(fake).exp() + 1).log().mean()
    expected = float((yes + no).detach()) + 4.0 * steep / 2
    assert float(patch.critic_loss(critic, real, fake, 4.0).detach()) == pytest.approx(expected, rel=1e-4)
    assert steep > 1e-4


def test_the_critic_learns_to_tell_pieces_apart():
    critic, fine = patch.new_critic(3, 8), (torch.arange(16) % 2 * 1.0 - 0.5).expand(4, 3, 16, 16)
    real, fake = fine + 0.1 * make_images(4, 16), 0.1 * make_images(4, 16)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.0, 0.99))
    first, *_, last = [float(patch.learn(critic, optimizer, real, fake, 0.0)) for _ in range(40)]
    assert last < 0.3 * first and critic(real).mean() > 1 > -1 > critic(fake).mean()
    assert not any(p.requires_grad for p in critic.parameters())


def test_the_clean_images_that_it_looks_at_are_those_below_the_limit(source):
    kind, a_bar, seen = ddpm.prediction_type_of(source.scheduler), source.scheduler.alphas_cumprod, []
    x_t, t = make_images(4, 16), torch.tensor([300, 20, 199, 200])
    net = patch.watched(source.unet, seen)
    assert torch.equal(net(x_t[:2], t[:2]).sample, source.unet(x_t[:2], t[:2]).sample)
    net(x_t[2:], t[2:])
    found = patch.clean_below(seen, 200, a_bar, 3, kind)
    for image, i in zip(found, (1, 2)):
        a, answer = a_bar[t[i]], source.unet(x_t[i:i + 1], t[i:i + 1]).sample[0]
        expected = (x_t[i] - (1 - a).sqrt() * answer) / a.sqrt() if kind == "epsilon" else a.sqrt() * x_t[i] - (1 - a).sqrt() * answer
        torch.testing.assert_close(image, expected, rtol=1e-3, atol=1e-4)
    assert len(found) == 2 and found.requires_grad
    assert len(patch.clean_below(seen, 0, a_bar, 3, kind)) == 0


@pytest.mark.parametrize("settings", [{"method": "finetune"}, {}, {"pairwise_on": "source", "num_anchors": 10}],
                         ids=["naive", "published", "anchored"])
def test_the_methods_own_objective_and_the_patches_are_added(tiny_source, monkeypatch, settings):
    monkeypatch.setattr(domainstudio, "draw_anchors", lambda source, n, config: make_images(n, 16, 7)[:, None])
    config, images = TrainConfig(train_batch_size=8, **settings), make_images(10, 16)
    given = {"anchors": make_images(8, 16, 7)} if settings.get("pairwise_on") else {}
    x_0, t, eps = images[:8], torch.arange(8) * 60, torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    _, plain, _ = train.METHODS[config.method](tiny_source, images, config, None)
    net, objective, companions = patch.start(tiny_source, images, config, lambda_patch=0.5)
    assert (companions is not None) == bool(given)
    loss, terms = objective(net, x_0, t, eps, **given)
    own, found = plain(net, x_0, t, eps, **given)
    assert set(terms) == set(found) | {"patch", "critic"}
    torch.testing.assert_close(loss, own + 0.5 * terms["patch"])

    judge = patch.new_critic(3, seed=0)                                    # the same critic, taught by hand
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3, betas=(0.0, 0.99))
    mixed = torch.cat([x_0[:4], given["anchors"][4:]]) if given else x_0
    a = tiny_source.scheduler.alphas_cumprod[t[:4]].view(4, 1, 1, 1)       # of t = 0, 60, 120, 180
    x_t = a.sqrt() * mixed[:4] + (1 - a).sqrt() * eps[:4]
    fake = (x_t - (1 - a).sqrt() * net(x_t, t[:4]).sample) / a.sqrt()
    torch.testing.assert_close(terms["critic"], patch.learn(judge, optimizer, x_0, fake, 0.001))
    torch.testing.assert_close(terms["patch"], F.softplus(-judge(fake)).mean())


def test_the_models_gradient_is_that_of_lambda_times_the_term_and_none_reaches_the_critic(tiny_source):
    config, images = TrainConfig(method="finetune", train_batch_size=4), make_images(10, 16)
    x_0, t, eps = images[:4], torch.tensor([10, 50, 100, 150]), torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def slope(weight):
        net, objective, _ = patch.start(tiny_source, images, config, lambda_patch=weight)
        objective(net, x_0, t, eps)[0].backward()
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    off, on, double = slope(0.0), slope(1.0), slope(2.0)
    assert (on - off).norm() > 1e-6
    torch.testing.assert_close(double - off, 2 * (on - off), rtol=1e-2, atol=1e-3 * float((on - off).abs().max()))


def test_a_step_without_small_t_is_the_methods_own(tiny_source):
    config, images = TrainConfig(method="finetune", train_batch_size=4), make_images(10, 16)
    net, objective, _ = patch.start(tiny_source, images, config)
    loss, terms = objective(net, images[:2], torch.tensor([200, 900]), torch.zeros(2, 3, 16, 16))
    assert loss == terms["simple"] and terms["patch"] == terms["critic"] == 0


def test_a_training_is_repeated_by_its_seed_and_differs_from_the_plain_one(tiny_source, ten_images):
    def ended(start, seed=0):
        config = TrainConfig(method="finetune", max_train_steps=3, train_batch_size=10, seed=seed)
        *_, last = train.adapt(tiny_source, ten_images, config, start=start)
        return torch.cat([p.detach().flatten() for p in last.model.parameters()])

    before = copy.deepcopy(tiny_source.unet.state_dict())
    state = torch.random.get_rng_state()
    one = ended(patch.start)
    assert torch.equal(state, torch.random.get_rng_state()), "the critic's first weights are drawn aside"
    assert torch.equal(one, ended(patch.start)) and not torch.allclose(one, ended(None), atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), tiny_source.unet.state_dict().values()))


@pytest.mark.parametrize("settings, own, words", [
    ({"resume_from_checkpoint": "runs/a/checkpoint-2"}, {}, "--resume_from_checkpoint: the critic"),
    ({"micro_batch_size": 2}, {}, "--micro_batch_size: the critic"),
    ({}, {"lambda_patch": -1.0}, "lambda_patch of the patch critic is -1"),
    ({}, {"gamma": float("nan")}, "gamma of the patch critic is nan")])
def test_what_the_critic_does_not_stand_is_refused(tiny_source, ten_images, settings, own, words):
    with pytest.raises(UserError, match=words):
        patch.start(tiny_source, ten_images, TrainConfig(**settings), **own)
