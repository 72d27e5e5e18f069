"""ANT: loss and noise against slow loops, for sources of ε and of v; where guidance leads; a classifier that must know something."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import make_images, make_source

from dslib import UserError, ddpm, domainstudio, models, train
from dslib.beyond import ant
from dslib.train import TrainConfig

KINDS = ["epsilon", "v_prediction"]
T = torch.tensor([0, 40, 400, 900])


@pytest.fixture(params=KINDS)
def source(request):
    """A source of each kind, of 16 pixels."""
    pipe = make_source()
    pipe.register_modules(scheduler=models.new_scheduler(request.param))
    return pipe


@pytest.fixture
def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = ant.Classifier(3, ddpm.alphas_cumprod(ddpm.linear_betas()), 8).requires_grad_(False)
    net.last.weight.mul_(300)                            # as sure of itself as a trained one, so that guidance is felt
    return net


@pytest.fixture
def few_drawings(monkeypatch):
    """Source samples that nobody needs to draw, plainly darker than the ten."""
    monkeypatch.setattr(domainstudio, "draw_anchors", lambda source, n, config: make_images(20, 16, 9).view(10, 2, 3, 16, 16) * 0.3 - 0.7)


def batch():
    return make_images(4, 16), T, torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def kind_of(source):
    return ddpm.prediction_type_of(source.scheduler)


def noise_of(source, x_t, t):
    """One image's ε̂ from the network's answer, written out for both kinds."""
    a, answer = source.scheduler.alphas_cumprod[t], source.unet(x_t[None], t[None]).sample[0]
    return answer if kind_of(source) == "epsilon" else a.sqrt() * answer + (1 - a).sqrt() * x_t


def test_the_loss_against_a_loop_in_units_of_epsilon(source, classifier):
    """For v each image's squared error of ε is divided by ᾱ_t: v's units."""
    (x_0, t, eps), a_bar, alphas = batch(), source.scheduler.alphas_cumprod, 1 - source.scheduler.betas
    expected, sizes = [], []
    for image, step, noise in zip(x_0, t, eps):
        a, before = a_bar[step], a_bar[step - 1] if step else torch.tensor(1.0)
        x_t = (a.sqrt() * image + (1 - a).sqrt() * noise).requires_grad_()
        slope, = torch.autograd.grad(torch.sigmoid(classifier(x_t[None], step[None])).log().sum(), x_t)
        g = ((1 - before) * (alphas[step] / (1 - a)).sqrt()) ** 2 * 50.0 * slope
        error = (noise - noise_of(source, x_t, step) - g).square().mean()
        expected.append(error if kind_of(source) == "epsilon" else error / a)
        sizes.append(g.square().mean())
    loss, terms = ant.guided_loss(source.unet, classifier, x_0, t, eps, a_bar, source.scheduler.betas, TrainConfig(snr_gamma=0.0), 50.0,
                                  kind_of(source))
    torch.testing.assert_close(loss, sum(expected) / 4, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(terms["guidance"], sum(sizes) / 4, rtol=1e-4, atol=0)
    assert terms["guidance"] > 1e-6, "the loop would agree without guidance, too"


def test_weights_over_t_are_those_of_l_simple(source, classifier):
    (x_0, t, eps), a_bar = batch(), source.scheduler.alphas_cumprod
    rest = a_bar, source.scheduler.betas, TrainConfig(snr_gamma=5.0), 5.0, kind_of(source)
    whole = ant.guided_loss(source.unet, classifier, x_0, t, eps, *rest)[0]
    plain = TrainConfig(snr_gamma=0.0)
    single = [ant.guided_loss(source.unet, classifier, *(one[i:i + 1] for one in (x_0, t, eps)), *rest[:2], plain, *rest[3:])[0]
              for i in range(4)]
    torch.testing.assert_close(whole, (ddpm.snr_weight(a_bar, t, 5.0, kind_of(source)) * torch.stack(single)).mean(), rtol=1e-3, atol=1e-5)


def test_noise_against_a_loop_and_harder_than_the_one_drawn(source):
    (x_0, t, eps), a_bar = batch(), source.scheduler.alphas_cumprod

    def error(noise, image, step):
        a = a_bar[step]
        return (noise - noise_of(source, a.sqrt() * image + (1 - a).sqrt() * noise, step)).square().sum()

    found = ant.worst_noise(source.unet, x_0, t, eps, a_bar, 3, 0.02, kind_of(source))
    for image, step, noise, new in zip(x_0, t, eps, found):
        for _ in range(3):
            noise = noise.detach().requires_grad_()
            moved = noise.detach() + 0.02 * torch.autograd.grad(error(noise, image, step), noise)[0]
            noise = (moved - moved.mean()) / (moved - moved.mean()).square().mean().sqrt()
        torch.testing.assert_close(new, noise, rtol=1e-3, atol=1e-4)
    straight, worst = (sum(float(error(one, image, step).detach()) for one, image, step in zip(noises, x_0, t))
                       for noises in (ant.normalised(eps), found))
    assert worst > straight
    assert not found.requires_grad and all(p.grad is None for p in source.unet.parameters())
    assert ant.worst_noise(source.unet, x_0, t, eps, a_bar, 0) is eps


def test_sigma_hat_is_what_moves_ddpms_mean_by_gamma_beta_tilde_times_the_slope():
    """DDPM's posterior mean (eq. 11) of ε − σ̂_t·γ·∇log p lies γ·β̃_t·∇log p from that of ε: the printed square is smaller."""
    betas = ddpm.linear_betas().double()
    a_bar, slope = ddpm.alphas_cumprod(betas), torch.linspace(-1, 1, 5).double()
    found = ant.sigma_hat(a_bar)
    for t in (1, 10, 300, 999):
        change = -betas[t] / (1 - a_bar[t]).sqrt() / (1 - betas[t]).sqrt() * (-found[t] * 5 * slope)
        torch.testing.assert_close(change, 5 * betas[t] * (1 - a_bar[t - 1]) / (1 - a_bar[t]) * slope)
    assert found[0] == 0 and (found[1:] > 0).all() and (found < 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_that_the_loss_asks_for_is_nearer_to_the_target(classifier, kind):
    """The minimum is target − g; the ε that it implies, as one step of classifier guidance, raises log p(y=T)."""
    (x_0, t, eps), a_bar = batch(), classifier.a_bar
    x_t, t = ddpm.q_sample(x_0, t[1:2].expand(4), eps, a_bar), t[1:2].expand(4)
    g = ant.guidance(classifier, x_t, t)
    wanted = ddpm.target(x_0, eps, t, a_bar, kind) - ant.as_answer(g, t, a_bar, kind)
    asked = ddpm.guess(wanted, x_t, t, a_bar, kind).eps
    torch.testing.assert_close(asked, eps - g, rtol=1e-4, atol=1e-5)
    step = (eps - asked) / g.abs().max() * 0.1
    assert (F.logsigmoid(classifier(x_t + step, t)) > F.logsigmoid(classifier(x_t, t))).all()


def test_the_classifier_says_nothing_where_nothing_is_to_be_seen(classifier):
    x, t = make_images(4, 16), torch.full((4,), 999)
    with torch.no_grad():
        assert (classifier(x, t).abs() < 0.01 * classifier(x, torch.zeros_like(t)).abs()).all()


def test_training_the_classifier_is_repeated_by_its_seed_and_learns_what_differs():
    a_bar, others, few = ddpm.alphas_cumprod(ddpm.linear_betas()), make_images(20, 16, 1) * 0.3 - 0.7, make_images(10, 16)
    state = torch.random.get_rng_state()
    one, same, other = (ant.fit_classifier(others, few, a_bar, 30, seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(one.first.weight, same.first.weight) and not torch.equal(one.first.weight, other.first.weight)
    trained, blind = (ant.accuracies(ant.fit_classifier(others, few, a_bar, steps), others, few) for steps in (100, 0))
    assert list(trained) == [50, 250, 500, 750] and trained[50] > 0.9 and 0.3 < blind[50] < 0.7


def test_balanced_accuracy_against_counting(classifier):
    """Whoever always says no is right on all others and on none of the few: 0.5, however many there are."""
    classifier.last.weight.zero_()
    classifier.last.bias.fill_(-1.0)
    assert set(ant.accuracies(classifier, make_images(9, 16), make_images(2, 16)).values()) == {0.5}


def test_a_classifier_at_chance_is_refused():
    same, a_bar = make_images(10, 16), ddpm.alphas_cumprod(ddpm.linear_betas())
    with pytest.raises(UserError, match="chance is 50%.*images of another domain"):
        ant.checked_classifier(same, same, a_bar, 20)
    with pytest.raises(UserError, match="at least 2 of each"):
        ant.checked_classifier(same, same[:1], a_bar, 20)


def test_without_guidance_and_chosen_noise_it_is_plain_fine_tuning(source, few_drawings):
    config = TrainConfig(method="finetune", max_train_steps=2, train_batch_size=4)
    *_, naive = train.adapt(source, make_images(10, 16), config)

    def ended(**own):
        *_, last = train.adapt(source, make_images(10, 16), config,
                               start=lambda *given: ant.start(*given, classifier_steps=40, **own))
        return last

    def moved(last):
        return max(float((a - b).detach().abs().max()) for a, b in zip(naive.model.parameters(), last.model.parameters()))

    assert moved(ended(gamma=0.0, inner_steps=0)) < 1e-6
    assert moved(ended(gamma=5.0, inner_steps=0)) > 1e-6 and moved(ended(gamma=0.0, inner_steps=1)) > 1e-6


def test_adapters_alone_are_trained_and_repeated(source, few_drawings):
    config = TrainConfig(method="finetune", max_train_steps=2, train_batch_size=4, lora_rank=2, micro_batch_size=2)

    def ended():
        before = copy.deepcopy(source.unet.state_dict())
        *_, last = train.adapt(source, make_images(10, 16), config, start=lambda *given: ant.start(*given, classifier_steps=40))
        assert all(torch.equal(a, b) for a, b in zip(before.values(), source.unet.state_dict().values()))
        return last

    one, two = ended(), ended()
    trained = [name for name, p in one.model.named_parameters() if p.requires_grad]
    assert trained and all("lora" in name for name in trained)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters()))
    assert set(one.terms) == {"simple", "guidance"}


def test_a_source_that_learns_its_variance_keeps_its_bound(few_drawings):
    source = make_source(learned_variance=True)
    step = next(train.adapt(source, make_images(10, 16), TrainConfig(method="finetune", train_batch_size=4),
                            start=lambda *given: ant.start(*given, classifier_steps=40)))
    assert float(step.loss) == pytest.approx(float(step.terms["simple"] + 0.001 * step.terms["vlb"]), rel=1e-5)


@pytest.mark.parametrize("name", ["gamma", "omega", "inner_steps"])
def test_impossible_numbers_are_named(tiny_source, ten_images, name):
    with pytest.raises(UserError, match=f"{name} of ANT is -1"):
        ant.start(tiny_source, ten_images, TrainConfig(), **{name: -1})
