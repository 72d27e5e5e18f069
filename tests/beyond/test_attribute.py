"""A wish: its loss against a slow loop, attacks against their definition, probes that are refused, and the control on pixels."""

import copy
import math

import pytest
import torch
from conftest import make_images, make_source

from dslib import data, ddpm, domainstudio, losses, models, train
from dslib.base.errors import UserError
from dslib.beyond import attribute

LABELS = ({"accessories": "kurt", "mouth": "smile"}, {"mouth": "screamOpen"})
WISH = "glasses=sunglasses"


def bars(n, resolution, seed=0):
    """Faces of sorts, every second with a dark bar where glasses would be."""
    images = make_images(n, resolution, seed) * 0.3 + 0.3
    images[::2, :, resolution // 4:resolution // 2] = -1
    return images


@pytest.fixture
def drawn(monkeypatch):
    """Labelled pictures that nobody draws: sunglasses are a dark bar."""
    def load_domain(name, split, n=None, resolution=64, workers=1):
        return data.Domain(bars(n, resolution, len(split)), [LABELS[i % 2] for i in range(n)], name, split)
    monkeypatch.setattr(data, "load_domain", load_domain)


@pytest.fixture
def probe():
    return attribute.Probe(WISH, attribute.new_net(1).requires_grad_(False), 0.9, False)


@pytest.fixture(params=["epsilon", "v_prediction"])
def source(request):
    pipe = make_source()
    pipe.register_modules(scheduler=models.new_scheduler(request.param))
    return pipe


def settings(**more):
    return train.TrainConfig(**{"max_train_steps": 2, "train_batch_size": 4, "lambda_img": 2.0, "lambda_hf": 3.0} | more)


@pytest.mark.parametrize("wish, words", [
    ("hats=red", "unknown attribute 'hats'.*known are skin, hair, .*glasses"), ("glasses=monocle", "may be eyepatch, glasses, sunglasses"),
    ("glasses", "glasses may be")])
def test_an_unknown_wish_is_refused_with_the_known_ones(wish, words):
    with pytest.raises(UserError, match=words):
        attribute.parse(wish)


def test_labels_say_who_shows_the_wish(drawn):
    images, has = attribute.labelled(WISH, "test", 6, 16)
    assert has.tolist() == [True, False] * 3 and images.shape == (6, 3, 16, 16)
    assert attribute.labelled("glasses=glasses", "test", 6, 16)[1].tolist() == [False] * 6
    with pytest.raises(UserError, match="0 of 6 pictures show glasses=glasses"):
        attribute.enough("glasses=glasses", "test", 6, 16)


def test_balanced_accuracy_counts_both_sides_alike():
    has = torch.tensor([True] * 2 + [False] * 8)
    assert attribute.balanced(torch.zeros(10, dtype=torch.bool), has) == 0.5
    assert attribute.balanced(torch.tensor([True, False] + [False] * 6 + [True] * 2), has) == pytest.approx((0.5 + 0.75) / 2)


def test_the_push_against_its_definition():
    a_bar = ddpm.alphas_cumprod(ddpm.linear_betas())
    odds, t = torch.tensor([0.3, -2.0, 5.0, -4.0]), torch.tensor([10, 400, 699, 700])
    slow = sum(math.sqrt(float(a_bar[step])) * -math.log(1 / (1 + math.exp(-float(x)))) for x, step in zip(odds[:3], t[:3])) / 4
    assert float(attribute.push(odds, t, a_bar)) == pytest.approx(slow, rel=1e-5), "the last step is beyond t_max"


def test_the_loss_against_a_slow_loop(source, probe):
    frozen = copy.deepcopy(source.unet)
    with torch.no_grad():
        for p in source.unet.parameters():
            p.add_(0.02)
    x_0, t = make_images(4, 16), torch.tensor([5, 300, 600, 900])
    eps = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    a_bar, kind, config = source.scheduler.alphas_cumprod, source.scheduler.config.prediction_type, settings()
    total, found = attribute.wish_loss(source.unet, frozen, x_0, t, eps, a_bar, config, kind, probe)
    clean, minus_log = {"ada": [], "sou": []}, []
    for i in range(4):
        a = a_bar[t[i]]
        x_t = a.sqrt() * x_0[i] + (1 - a).sqrt() * eps[i]
        for name, net in (("ada", source.unet), ("sou", frozen)):
            out = net(x_t[None], t[i:i + 1]).sample[0]
            one = (x_t - (1 - a).sqrt() * out) / a.sqrt() if kind == "epsilon" else a.sqrt() * x_t - (1 - a).sqrt() * out
            clean[name].append(one)
        p = torch.sigmoid(probe.net(clean["ada"][i].clamp(-1, 1)[None]))[0, 0]
        minus_log.append(a.sqrt() * -p.log() if t[i] < attribute.T_MAX else torch.tensor(0.0))
    ada, sou = torch.stack(clean["ada"]), torch.stack(clean["sou"])
    wish, img, hf = sum(minus_log) / 4, losses.pairwise_kl(ada, sou), losses.hf_pairwise_kl(ada, sou)
    torch.testing.assert_close(found["wish"], wish, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(total, wish + 2 * img + 3 * hf, rtol=1e-3, atol=1e-5)
    assert found.keys() == {"wish", "img", "hf"}


def test_what_lies_outside_is_pushed_too():
    x = torch.tensor([-3.0, 0.5, 2.0], requires_grad=True)
    attribute.held(x).sum().backward()
    assert attribute.held(x).tolist() == [-1, 0.5, 1] and x.grad.tolist() == [1, 1, 1]


def test_an_attack_stays_within_its_radius_and_is_worse_than_chance_moves(probe):
    images, has = make_images(4, 16), torch.tensor([True, False, True, False])
    attacked = attribute.worst(probe.net, images, has, 0.5, 3)
    assert (attacked - images).flatten(1).norm(dim=1).max() <= 0.5 + 1e-5
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    by_chance = images + attribute.within(noise, 0.5, exactly=True)
    right = torch.where(has, 1.0, -1.0)
    assert ((probe.net(attacked) - probe.net(by_chance))[:, 0] * right < 0).all()
    assert torch.equal(attribute.within(torch.zeros(1, 3, 2, 2), 1.0), torch.zeros(1, 3, 2, 2))


def test_a_jitter_keeps_what_is_shown_and_is_drawn_from_its_generator(drawn):
    images = bars(4, 16)
    one, same, other = (attribute.jitter(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other) and one.shape == images.shape
    assert (one[::2].mean(dim=(1, 2, 3)) < one[1::2].mean(dim=(1, 2, 3))).all(), "the bars are still there"


@pytest.mark.parametrize("robust", [False, True])
def test_a_probe_and_the_judge_read_unseen_pictures(drawn, robust):
    probe = attribute.train_probe(make_source(32), WISH, robust, pictures=40, steps=30)
    assert probe.accuracy > 0.9 and probe.robust == robust and probe.wish == WISH
    assert attribute.judge(WISH, 32, 40)(bars(8, 32, 9)).tolist() == [True, False] * 4


def test_the_guesses_are_the_sources_of_noised_pictures(source):
    images = make_images(5, 16)
    seen = attribute.guesses(source, images, 3, batch_size=2)
    assert seen.shape == images.shape and seen.abs().max() <= 1 and torch.equal(seen, attribute.guesses(source, images, 3, batch_size=2))
    assert not torch.equal(seen, attribute.guesses(source, images, 3, seed=1, batch_size=2))
    assert (seen - images).abs().mean() < 0.2, "at hardly any noise a guess is hardly another picture"


def test_a_probe_at_chance_is_refused_by_name(drawn, monkeypatch, probe):
    monkeypatch.setattr(data, "load_domain", lambda name, split, n, resolution, workers=1: data.Domain(
        make_images(n, resolution, len(split)), [LABELS[i % 2] for i in range(n)], name, split))
    with pytest.raises(UserError, match="the probe of glasses=sunglasses is right in .* of unseen"):
        attribute.train_probe(make_source(), WISH, False, pictures=40, steps=2)
    with pytest.raises(UserError, match="probe of glasses=sunglasses"):
        attribute.adapt(make_source(), probe._replace(accuracy=0.6), settings(), make_images(4, 16))


def test_a_training_pleases_its_probe_and_leaves_the_source_alone(source, probe):
    before = {name: value.clone() for name, value in source.unet.state_dict().items()}
    samples = make_images(6, 16)
    config = settings(max_train_steps=12, learning_rate=5e-3, lambda_img=0.0, lambda_hf=0.0)
    steps = list(attribute.adapt(source, probe, config, samples))
    assert all(torch.equal(value, before[name]) for name, value in source.unet.state_dict().items())
    x_0, t, eps = samples, torch.full((6,), 200), torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    a_bar, kind = source.scheduler.alphas_cumprod, source.scheduler.config.prediction_type
    after, at_first = (attribute.wish_loss(net, None, x_0, t, eps, a_bar, config, kind, probe)[0] for net in (steps[-1].model, source.unet))
    assert after < at_first and steps[-1].terms.keys() == {"wish"}


@pytest.mark.parametrize("more, terms", [({}, {"wish", "img", "hf"}), ({"lambda_img": 0.0, "lambda_hf": 0.0, "lambda_distill": 1.0},
                                                                       {"wish", "img", "hf", "distill"})])
def test_what_holds_people_is_a_setting_and_samples_are_drawn_where_none_are_given(tiny_source, probe, monkeypatch, more, terms):
    asked = []
    monkeypatch.setattr(domainstudio, "draw_anchors", lambda source, n, config: asked.append(n) or make_images(n, 16)[:, None])
    *_, last = attribute.adapt(tiny_source, probe._replace(robust=True), settings(num_anchors=6, **more))
    assert last.terms.keys() == terms and asked == [6]
    *_, again = attribute.adapt(tiny_source, probe._replace(robust=True), settings(num_anchors=6, **more))
    assert all(torch.equal(a, b) for a, b in zip(last.model.state_dict().values(), again.model.state_dict().values()))


def test_pixels_please_a_probe_by_little(probe):
    images = make_images(3, 16)
    moved = attribute.push_pixels(images, probe, 1.0)
    assert (probe.net(moved) > probe.net(images)).all() and moved.abs().max() <= 1
    assert 0.3 < (moved - images).flatten(1).norm(dim=1).max() <= 1 + 1e-5


def test_noise_is_no_familiar_face(drawn):
    face = attribute.familiar(32, 20)
    assert face(bars(20, 32, 11)).float().mean() > 0.8, "other faces than those that it compares with"
    assert not face(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)).any()
