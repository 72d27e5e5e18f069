"""λ by itself: prices against a loop, dual ascent against arithmetic, balanced gradients against autograd, one term at a time."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import make_images, make_source

from dslib import data, ddpm, domainstudio, losses, train
from dslib.base.errors import UserError
from dslib.beyond import weights


@pytest.fixture(scope="module")
def source():
    return make_source(32)


CONFIG = train.TrainConfig(pairwise_on="source", num_anchors=12, max_train_steps=3, train_batch_size=6)


def test_a_price_is_the_loss_of_the_twins_of_the_sources_guesses(source):
    images = make_images(8, 32, 1)
    found = weights.price(source, images, "gouache", batch=4, batches=3, seed=5)
    draws, a_bar, img, hf = torch.Generator().manual_seed(5), source.scheduler.alphas_cumprod, [], []
    for _ in range(3):
        x_0 = images[torch.randperm(8, generator=draws)[:4]]
        t, eps = ddpm.sample_timesteps(4, 1000, draws), torch.randn(x_0.shape, generator=draws)
        guesses = []
        for i in range(4):                                                       # one picture at a time, by the formula of ε
            x_t = a_bar[t[i]].sqrt() * x_0[i] + (1 - a_bar[t[i]]).sqrt() * eps[i]
            with torch.no_grad():
                answer = source.unet(x_t[None], t[i]).sample[0]
            guesses.append((x_t - (1 - a_bar[t[i]]).sqrt() * answer) / a_bar[t[i]].sqrt())
        sou = torch.stack(guesses)
        twin = torch.cat([data.twin(one[None].clamp(-1, 1), "gouache") for one in sou])
        img.append(losses.pairwise_kl(twin, sou))
        hf.append(losses.hf_pairwise_kl(twin, sou))
    assert found["img"] == pytest.approx(float(sum(img) / 3), rel=1e-3) and found["hf"] == pytest.approx(float(sum(hf) / 3), rel=1e-3)
    assert found["img"] > 0 and found["hf"] > 0
    other = weights.price(source, images, "engraved", batch=4, batches=3, seed=5)
    usual = weights.usual_price(source, images, batch=4, batches=3, seed=5)
    assert usual == {term: pytest.approx((found[term] + other[term]) / 2) for term in ("img", "hf")}


def test_what_a_model_pays_is_asked_at_the_same_noise(source):
    images, other = make_images(8, 32, 1), make_source(32, seed=9)
    assert weights.paid(source, source.unet, images, batches=2)["img"] == pytest.approx(0, abs=1e-6), "the source itself pays nothing"
    draws, a_bar, img = torch.Generator().manual_seed(0), source.scheduler.alphas_cumprod, []
    for _ in range(2):
        x_0 = images[torch.randperm(8, generator=draws)[:5]]
        t, eps = ddpm.sample_timesteps(5, 1000, draws), torch.randn(x_0.shape, generator=draws)
        x_t = torch.stack([a_bar[k].sqrt() * x + (1 - a_bar[k]).sqrt() * e for k, x, e in zip(t, x_0, eps)])
        with torch.no_grad():
            ada, sou = (torch.stack([(x - (1 - a_bar[k]).sqrt() * e) / a_bar[k].sqrt() for k, x, e in zip(t, x_t, net(x_t, t).sample)])
                        for net in (other.unet, source.unet))
        img.append(float(losses.pairwise_kl(ada, sou)))
    assert weights.paid(source, other.unet, images, batches=2)["img"] == pytest.approx(sum(img) / 2, rel=1e-3) and min(img) > 0


@pytest.mark.parametrize("name, more, words", [("portraits", {}, "nobody knows the right answer in 'portraits'"),
                                               ("engraved", {"batch": 1}, "batches of 1"), ("engraved", {"batch": 9}, "there are 8")])
def test_a_price_that_cannot_be_measured_is_refused(source, name, more, words):
    with pytest.raises(UserError, match=words):
        weights.price(source, make_images(8, 32, 1), name, **more)


def test_a_weight_grows_above_its_price_and_falls_below_it():
    one = weights.Dual(price=0.5, weight=1.0)
    one.follow(1.0)                                                              # e^(0.05·log 2)
    assert one.level == 1.0 and one.weight == pytest.approx(2 ** 0.05)
    one.follow(0.0)                                                              # the running mean is 0.9: still above
    assert one.level == pytest.approx(0.9) and one.weight == pytest.approx(2 ** 0.05 * 1.8 ** 0.05)
    low = weights.Dual(price=0.5, weight=1.0)
    low.follow(0.0)                                                              # one step moves log λ by η at most
    assert low.weight == pytest.approx(math.exp(-weights.RATE))
    for value, bound in ((9.0, weights.MOST), (0.0, weights.LEAST)):
        far = weights.Dual(price=0.5)
        for _ in range(400):
            far.follow(value)
        assert far.weight == bound


def test_the_weights_of_a_step_are_those_that_the_steps_before_left(source):
    history, losses_seen = [], []
    start = partial(weights.dual, prices={"img": 1e-3, "hf": 10.0}, history=history)
    for step in train.adapt(source, make_images(6, 32, 2), CONFIG, start=start):
        terms = {name: float(value) for name, value in step.terms.items()}
        lam = history[step.step - 2] if step.step > 1 else {"img": weights.START, "hf": weights.START}
        expected = terms["simple"] + lam["img"] * terms["img"] + lam["hf"] * terms["hf"] + CONFIG.lambda_hfmse * terms["hfmse"]
        losses_seen.append(float(step.loss))
        assert losses_seen[-1] == pytest.approx(expected, rel=1e-5)
    assert history[-1]["hf"] < weights.START and len(history) == 3
    assert history[-1]["L_img"] == pytest.approx(terms["img"] * 0.1 + 0.9 * history[-2]["L_img"], rel=1e-4)


def test_with_fixed_weights_the_steps_are_the_anchored_forms(source, monkeypatch):
    monkeypatch.setattr(weights, "RATE", 0.0)
    images, config = make_images(6, 32, 2), replace(CONFIG, lambda_img=weights.START, lambda_hf=weights.START)
    *_, mine = train.adapt(source, images, config, start=partial(weights.dual, prices={"img": 1.0, "hf": 1.0}))
    *_, usual = train.adapt(source, images, config)
    assert all(torch.equal(a, b) for a, b in zip(mine.model.state_dict().values(), usual.model.state_dict().values()))


def test_a_weight_that_runs_away_is_bounded_and_said(source, monkeypatch, capsys):
    monkeypatch.setattr(weights, "RATE", 5.0)
    config = replace(CONFIG, max_train_steps=54, learning_rate=1e-3)
    list(train.adapt(source, make_images(6, 32, 2), config, start=partial(weights.dual, prices={"img": 1e-9, "hf": 1e9})))
    said = capsys.readouterr().err
    assert said.count("has been at its bound of 10") == 1 and "λ of L_img" in said and "give a higher price" in said


def test_balance_makes_each_gradient_a_share_of_l_simples():
    lengths = {"simple": [9.0] + [2.0] * 10, "img": [0.5, 1.5], "hf": [], "hfmse": [1e-9]}
    found = weights.balance(lengths, {"img": 0.3, "hf": 0.7, "hfmse": 0.5})
    assert found == {"img": pytest.approx(0.3 * 2.0 / 1.0), "hf": 0.7, "hfmse": weights.MOST}


def test_measured_lengths_are_those_of_each_terms_own_gradient(source):
    net = make_source(32, seed=7).unet
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    frozen, (a_bar, betas) = source.unet.requires_grad_(False), (source.scheduler.alphas_cumprod, source.scheduler.betas)
    x_0, anchors, eps = (make_images(6, 32, seed) for seed in (1, 2, 3))
    t = torch.tensor([10, 300, 700, 20, 400, 800])
    parameters = list(net.parameters())

    def terms():
        return domainstudio.anchored_loss(net, frozen, x_0, t, eps, a_bar, betas, CONFIG, "epsilon", anchors)[1]

    lengths = {name: [] for name in ("simple", "img", "hf", "hfmse")}
    weights.measured(terms(), parameters, lengths)
    for name, (length,) in lengths.items():
        net.zero_grad()
        terms()[name].backward()
        assert length == pytest.approx(float(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()), rel=1e-4)


def test_balanced_training_minimises_the_weighted_sum_it_says(source):
    history = []
    for step in train.adapt(source, make_images(6, 32, 2), CONFIG, start=partial(weights.balanced, history=history)):
        terms = {name: float(value) for name, value in step.terms.items()}
        lam = history[step.step - 1]
        expected = terms["simple"] + sum(lam[name] * terms[name] for name in ("img", "hf", "hfmse"))
        assert float(step.loss) == pytest.approx(expected, rel=1e-5)
    assert history[0]["hfmse"] != CONFIG.lambda_hfmse and history[0]["img"] == CONFIG.lambda_img, "at the first step L_img has no gradient"


def test_balanced_weights_of_the_published_form_follow_the_gradients(source, monkeypatch):
    """With L_hfmse magnified sixteenfold its weight becomes a sixteenth, and the run stays the same."""
    monkeypatch.setattr(weights, "EVERY", 1)
    monkeypatch.setattr(weights, "MOST", 1e9)
    images, config = make_images(4, 32, 2), train.TrainConfig(max_train_steps=3, lambda_img=0.0, lambda_hf=0.0)

    def run(start):
        *_, last = train.adapt(source, images, config, start=start)
        return torch.cat([p.detach().flatten() for p in last.model.parameters()])
    original, size = domainstudio.domainstudio_loss, 1.0

    def magnified(*args):
        total, terms = original(*args)
        return total, {"simple": terms["simple"], "img": 0 * terms["img"], "hf": 0 * terms["hf"], "hfmse": size * terms["hfmse"]}
    monkeypatch.setattr(domainstudio, "domainstudio_loss", magnified)
    plain = run(weights.balanced)
    size = 16.0
    assert torch.equal(plain, run(weights.balanced))     # a power of two: not even the rounding differs
    assert not torch.equal(plain, run(None))


def test_balanced_weights_take_a_source_of_v_for_what_it_is(monkeypatch):
    source, seen, original = make_source(32), [], domainstudio.domainstudio_loss
    source.scheduler.register_to_config(prediction_type="v_prediction")
    monkeypatch.setattr(domainstudio, "domainstudio_loss", lambda *args: seen.append(args[-1]) or original(*args))
    assert len(list(train.adapt(source, make_images(4, 32, 2), train.TrainConfig(max_train_steps=1), start=weights.balanced))) == 1
    assert seen == ["v_prediction"]


@pytest.mark.parametrize("start", [weights.dual, weights.balanced])
@pytest.mark.parametrize("changes, words", [({"method": "finetune"}, "only domainstudio"),
                                            ({"resume_from_checkpoint": "latest", "output_dir": "runs/x"}, "not in a checkpoint")])
def test_another_method_and_a_resumed_run_are_refused(source, start, changes, words):
    with pytest.raises(UserError, match=words):
        start(source, make_images(6, 32, 2), replace(CONFIG, **changes))


def test_a_price_without_anchors_is_refused(source):
    with pytest.raises(UserError, match="--pairwise_on source"):
        weights.dual(source, make_images(6, 32, 2), replace(CONFIG, pairwise_on="target"))


def test_a_price_of_nothing_is_refused(source):
    with pytest.raises(UserError, match="above 0"):
        weights.dual(source, make_images(6, 32, 2), CONFIG, prices={"img": 0.0, "hf": 1.0})
