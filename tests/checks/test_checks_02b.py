"""Chapter 02b's self-checks: every typical mistake gets its own words; a function that fails later is replaced, and a line says so."""

import copy

import pytest
import torch

from dslib import checks, ddpm, losses
from dslib.plane import plane


def a(a_bar, t):
    return a_bar[t][:, None]


@pytest.mark.parametrize("wrong, hint", [
    (lambda x, t, e, s: a(s, t) * x + (1 - a(s, t)) * e, "square roots"),
    (lambda x, t, e, s: a(s, t).sqrt() * x + e, "noise is not scaled"),
    (lambda x, t, e, s: x + (1 - a(s, t)).sqrt() * e, "point is not scaled"),
    (lambda x, t, e, s: a(s, t).sqrt() * e + (1 - a(s, t)).sqrt() * x, "swapped"),
    (lambda x, t, e, s: s[t[0]].sqrt() * x + (1 - s[t[0]]).sqrt() * e, "first one's t"),
    (lambda x, t, e, s: s[t].sqrt() * x, "RuntimeError"),
    (lambda x, t, e, s: x.T, "shape"),
    (lambda x, t, e, s: None, "nothing written yet"),
])
def test_noise_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_noise_points(wrong)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("wrong, hint", [
    (lambda x, t, e, s: (x - e) / a(s, t).sqrt(), "forgotten"),
    (lambda x, t, e, s: x - (1 - a(s, t)).sqrt() * e, "division"),
    (lambda x, t, e, s: (x - (1 - a(s, t)).sqrt() * e) / a(s, t), "its square root"),
    (lambda x, t, e, s: (x - (1 - a(s, t)) * e) / a(s, t), "roots are missing"),
    (lambda x, t, e, s: (x + (1 - a(s, t)).sqrt() * e) / a(s, t).sqrt(), "taken away"),
    (lambda x, t, e, s: x * float("nan"), "NaN"),
])
def test_guess_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_guess_points(wrong)
    assert hint in capsys.readouterr().out


def cosines(x):
    return losses.drop_diagonal(losses.cosine_matrix(x))


@pytest.mark.parametrize("wrong, hint", [
    (lambda x: losses.cosine_matrix(x).log_softmax(1), "diagonal is kept"),
    (lambda x: losses.drop_diagonal(losses.cosine_matrix(x).log_softmax(1)), "took part"),
    (lambda x: cosines(x).log_softmax(0), "wrong axis"),
    (lambda x: losses.drop_diagonal(x @ x.T).log_softmax(1), "dot products"),
    (lambda x: cosines(x).softmax(1), "logarithms"),
    (cosines, "softmax is missing"),
    (lambda x: torch.log_softmax(losses.drop_diagonal(torch.deg2rad(plane.turn(x[:, None], x[None]))), 1), "softmax of angles"),
    (lambda x: [x], "expected a tensor"),
])
def test_probability_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_angle_log_probs(wrong)
    assert hint in capsys.readouterr().out


def into_source(adapted, source):
    p, q = losses.pairwise_log_probs(adapted), losses.pairwise_log_probs(source)
    return (p.exp() * (p - q)).sum()


@pytest.mark.parametrize("wrong, hint", [
    (lambda x, y: losses.pairwise_kl(x, y, "sou||ada"), "swapped"),
    (lambda x, y: losses.pairwise_kl(x, y, reduction="mean"), "mean over all"),
    (lambda x, y: losses.pairwise_kl(x, y) / len(x), "divided by N"),
    (lambda x, y: losses.pairwise_kl(x, y, "sou||ada", "mean"), "authors' code"),
    (lambda x, y: -losses.pairwise_kl(x, y), "never negative"),
    (lambda x, y: losses.pairwise_kl(x, y).detach(), "no gradient flows"),
    (into_source, "into the source"),
])
def test_kl_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_angle_kl(wrong)
    assert hint in capsys.readouterr().out


def loop(optimizer=torch.optim.Adam, zero=True, held="y", weighted=True, sign=1, simple=1.0, stop=None, no_grad=False, part=1,
         decay=1, backwards=False):
    """A training loop with one thing wrong."""
    def adapt(source, batches, a_bar, lambda_img, lr):
        model = copy.deepcopy(source)
        optim = optimizer(model.parameters(), lr)
        for step, (x_0, t, eps, y_0, s, eta) in enumerate(batches[:stop]):
            optim.param_groups[0]["lr"] = lr * (1 - decay * step / len(batches))
            if held == "x":
                y_0, s, eta = x_0, t, eps
            y_s = ddpm.q_sample(y_0, s, eta, a_bar)
            before = plane.guess(source, y_s, s).detach()
            with torch.set_grad_enabled(not no_grad):
                after = plane.guess(model, y_s, s)
                after = losses.scale_gradient(after, a_bar[s].sqrt()) if weighted else after
                img = losses.pairwise_kl(after, before, "sou||ada" if backwards else "ada||sou") / part
            error = (model(ddpm.q_sample(x_0, t, eps, a_bar), t) - eps).square().mean()
            if zero:
                optim.zero_grad()
            (simple * error + sign * lambda_img * img).backward()
            optim.step()
        return model
    return adapt


def on_the_source(source, batches, a_bar, lambda_img, lr):
    for _ in plane.finetune(source, copy.deepcopy(source), batches, lambda_img, lr):
        pass
    return source


@pytest.mark.parametrize("wrong, hint", [
    (loop(zero=False), "pile up"), (loop(held="x"), "looks at the ten"), (loop(weighted=False), "scale_gradient"),
    (loop(sign=-1), "subtracted"), (loop(simple=0.0), "L_simple is missing"), (loop(torch.optim.SGD), "SGD"),
    (loop(stop=1), "first batch"), (loop(no_grad=True), "teaches nothing"), (loop(sign=0), "teaches nothing"),
    (loop(part=5), "is a sum"), (loop(decay=0), "learning rate"),
    (on_the_source, "source itself"), (lambda source, *_: copy.deepcopy(source), "no step"),
    (lambda *_: 0.3, "expected the adapted network"), (lambda *_: None, "nothing written yet"),
    (loop(simple=2.0), "over both coordinates"), (loop(backwards=True), "turned round"),
    (loop(simple=3.0), "values differ"), (lambda source: source, "TypeError"),
])
def test_loop_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_adapt(wrong)
    assert hint in capsys.readouterr().out


def test_a_right_loop_written_otherwise_passes():
    assert checks.check_adapt(loop()) and checks.check_adapt(
        lambda source, batches, a_bar, lambda_img, lr: plane.adapted(source, batches, lambda_img, lr))


# ---------------------------------------------------------------------- the reader's, or the library's


X = torch.randn(4, 2)


def double(x):
    return x * 2


def test_the_readers_function_goes_on_working():
    def mine(x):
        mine.calls += 1
        return x * 2
    mine.calls = 0
    chosen = checks.guarded(mine, double)
    assert torch.equal(chosen(X), X * 2) and torch.equal(chosen(X), X * 2) and mine.calls == 2


@pytest.mark.parametrize("student, words", [
    (lambda x: x * 2 if len(x) == 4 else x[:1], "the shape is (1, 2), expected (6, 2)"),
    (lambda x: x * 2 if len(x) == 4 else (x * 2).double(), "the dtype is torch.float64"),
    (lambda x: x * 2 if len(x) == 4 else (x * 2).to("meta"), "the device is meta"),
    (lambda x: x * 2 if len(x) == 4 else x * 3, "the values differ"),
    (lambda x: x * 2 if len(x) == 4 else 1 / 0, "ZeroDivisionError"),
    (lambda x: x * 2 if len(x) == 4 else None, "returns None"),
    (lambda x: x * 2 if len(x) == 4 else "two", "it returns 0 tensors, expected 1"),
])
def test_where_it_fails_later_the_library_goes_on_and_a_line_says_so(student, words, capsys):
    chosen = checks.guarded(student, double)
    assert torch.equal(chosen(X), X * 2)
    capsys.readouterr()
    other = torch.randn(6, 2)
    assert torch.equal(chosen(other), other * 2) and torch.equal(chosen(other), other * 2) and torch.equal(chosen(X), X * 2)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and words in said and "Going on with the library's double" in said


@pytest.mark.parametrize("student, words", [
    (lambda x: {"a": x, "b": x * 3}, "the values of b differ"), (lambda x: {"a": x}, "it returns 1 tensors, expected 2")])
def test_the_parts_of_an_answer_are_compared_by_name(student, words, capsys):
    assert torch.equal(checks.guarded(student, lambda x: {"a": x, "b": x * 2})(X)["b"], X * 2)
    assert words in capsys.readouterr().out


def test_numbers_are_compared_too(capsys):
    assert checks.guarded(lambda x: 0.5, lambda x: 0.25)(X) == 0.25
    assert "the values differ by up to 0.25" in capsys.readouterr().out


def test_gradients_flow_and_networks_are_left_alone():
    x = X.clone().requires_grad_()
    checks.guarded(lambda x: x.square().sum(), lambda x: x.square().sum())(x).backward()
    assert torch.equal(x.grad, 2 * X)
    network = plane.new_denoiser(8)
    assert checks.guarded(lambda: network, lambda: 1 / 0)() is network
