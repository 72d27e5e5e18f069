"""Chapter 02's self-checks: they agree with diffusers, and each typical mistake gets its own hint."""

import copy

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.training_utils import EMAModel

from dslib import checks, ddpm, models
from dslib.checks import training


@pytest.mark.parametrize("name", ["simple_loss", "ema_update", "ddim_step", "ddpm_step"])
@pytest.mark.parametrize("wrong, hint", [
    (lambda *args: None, "nothing written yet"),
    (lambda *args: 1 / 0, "ZeroDivisionError"),
    (lambda: 1, "TypeError"),
    (lambda *args: "three", "expected a tensor"),
    (lambda *args: torch.zeros(2, 7), "shape"),
])
def test_what_is_no_answer_at_all_is_named(name, wrong, hint, capsys):
    assert not getattr(checks, f"check_{name}")(wrong)
    assert hint in capsys.readouterr().out


def asked(m, x, t, e, s):
    return m(ddpm.q_sample(x, t, e, s), t).sample


@pytest.mark.parametrize("wrong, hint", [
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - x).square().mean(), "compared with x_0"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - ddpm.q_sample(x, t, e, s)).square().mean(), "compared with x_t"),
    (lambda m, x, t, e, s: (m(x, t).sample - e).square().mean(), "clean picture"),
    (lambda m, x, t, e, s: (m(e, t).sample - e).square().mean(), "bare noise"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - e).square().sum(), "this is the sum"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - e).square().flatten(1).sum(1).mean(), "summed over the pixels"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - e).abs().mean(), "mean absolute error"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - e).mean(), "both signs"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - e).square().mean().sqrt(), "root"),
    (lambda m, x, t, e, s: (asked(m, x, t[:1].expand(4), e, s) - e).square().mean(), "first image's t"),
    (lambda m, x, t, e, s: (m(ddpm.q_sample(x, t, e, s), t[0]).sample - e).square().mean(), "another t"),
    (lambda m, x, t, e, s: (asked(m, x, t, torch.randn_like(e), s) - e).square().mean(), "noise of its own"),
    (lambda m, x, t, e, s: (m(ddpm.q_sample(x, t, e, s), t) - e).square().mean(), "its tensor is .sample"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - e).square().mean().detach(), "no gradient"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - e).square().mean().item(), "expected a tensor"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - e).square(), "shape"),
    (lambda m, x, t, e, s: asked(m, x, t, e, s).mean() * float("nan"), "NaN"),
    (lambda m, x, t, e, s: (asked(m, x, t, e, s) - e).square().mean() * 3, "differ"),
])
def test_simple_loss_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_simple_loss(wrong)
    assert hint in capsys.readouterr().out


def mix(a, n, decay):
    return decay * a + (1 - decay) * n


@pytest.mark.parametrize("wrong, hint", [
    (lambda a, n, k, m, p: mix(n, a, min(m, 1 - (1 + k) ** -p)), "weights are swapped: the decay"),
    (lambda a, n, k, m, p: mix(a, n, m), "there is no warm-up"),
    (lambda a, n, k, m, p: mix(n, a, m), "no warm-up, and"),
    (lambda a, n, k, m, p: mix(a, n, 1 - (1 + k) ** -p), "cap is missing"),
    (lambda a, n, k, m, p: mix(a, n, max(m, 1 - (1 + k) ** -p)), "so min"),
    (lambda a, n, k, m, p: mix(a, n, min(m, 1 - (1 + k) ** p)), "exponent's sign"),
    (lambda a, n, k, m, p: mix(a, n, min(m, (1 + k) ** -p)), "is forgotten"),
    (lambda a, n, k, m, p: n, "nothing is averaged"),
    (lambda a, n, k, m, p: mix(a, n, min(m, 1 - (2 + k) ** -p)), "count from 0"),
    (lambda a, n, k, m, p: mix(a, n, min(m, 1 - k ** -p)), "ZeroDivisionError"),
    (lambda a, n, k, m, p: a, "differ"),
])
def test_ema_update_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_ema_update(wrong)
    assert hint in capsys.readouterr().out


def test_ema_update_in_place_is_fine():
    assert checks.check_ema_update(lambda a, n, k, m, p: a.lerp_(n, 1 - min(m, 1 - (1 + k) ** -p)))


def guess(x, e, a):
    return (x - (1 - a).sqrt() * e) / a.sqrt()


def bar(schedule, t):
    return schedule[t] if t >= 0 else torch.ones(())


@pytest.mark.parametrize("wrong, hint", [
    (lambda x, e, t, p, s: bar(s, p).sqrt() * guess(x, e, s[t]), "direction pointing to x_t is forgotten"),
    (lambda x, e, t, p, s: guess(x, e, s[t]), "noised again, to t_prev"),
    (lambda x, e, t, p, s: checks.ddim_step(x, e, t, t, s), "never used"),
    (lambda x, e, t, p, s: bar(s, p).sqrt() * guess(x, e, s[t]).clamp(-1, 1) + (1 - bar(s, p)).sqrt() * e, "is clipped"),
    (lambda x, e, t, p, s: s[t].sqrt() * guess(x, e, s[t]) + (1 - bar(s, p)).sqrt() * e, "the guess is scaled with"),
    (lambda x, e, t, p, s: bar(s, p).sqrt() * guess(x, e, s[t]) + (1 - s[t]).sqrt() * e, "the noise is scaled with"),
    (lambda x, e, t, p, s: checks.ddim_step(x, e, p, t, s), "swapped"),
    (lambda x, e, t, p, s: bar(s, p) * guess(x, e, s[t]) + (1 - bar(s, p)) * e, "roots are missing where"),
    (lambda x, e, t, p, s: bar(s, p) * guess(x, e, s[t]) + (1 - bar(s, p)).sqrt() * e, "root over ᾱ_prev"),
    (lambda x, e, t, p, s: bar(s, p).sqrt() * guess(x, e, s[t]) + (1 - bar(s, p)) * e, "root over 1−ᾱ_prev"),
    (lambda x, e, t, p, s: bar(s, p).sqrt() * (x - (1 - s[t]) * e) / s[t] + (1 - bar(s, p)).sqrt() * e, "roots are missing in"),
    (lambda x, e, t, p, s: bar(s, p).sqrt() * (x - (1 - s[t]).sqrt() * e) + (1 - bar(s, p)).sqrt() * e, "not divided"),
    (lambda x, e, t, p, s: bar(s, p).sqrt() * guess(x, e, s[t]) + torch.randn_like(x), "noise of its own"),
    (lambda x, e, t, p, s: s[p].sqrt() * guess(x, e, s[t]) + (1 - s[p]).sqrt() * e, "looked up alphas_cumprod[−1]"),
    (lambda x, e, t, p, s: checks.ddim_step(x, e, t, p, s) if p >= 0 else None, "not at its end"),
    (lambda x, e, t, p, s: x * 2, "differ"),
])
def test_ddim_step_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_ddim_step(wrong)
    assert hint in capsys.readouterr().out


def test_ddim_step_is_diffusers():
    scheduler = DDIMScheduler.from_config(models.new_scheduler().config, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(5)
    generator = torch.Generator().manual_seed(0)
    for t in scheduler.timesteps.tolist():
        x_t, eps = torch.randn(2, 2, 3, 8, 8, generator=generator)
        ours = checks.ddim_step(x_t, eps, t, t - 200, scheduler.alphas_cumprod)
        torch.testing.assert_close(ours, scheduler.step(eps, t, x_t).prev_sample)
    assert t - 200 == -1


def test_ema_update_is_diffusers():
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, generator=generator))
    ema, average = EMAModel([weight], decay=0.9, use_ema_warmup=True, power=0.75), torch.zeros(5)
    for step in range(40):
        weight.data += torch.randn(5, generator=generator)
        ema.step([weight])
        average = checks.ema_update(average, weight.detach(), step, max_decay=0.9, power=0.75)
        torch.testing.assert_close(average, ema.shadow_params[0])


def test_the_checks_leave_the_random_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    checks.check_simple_loss(lambda m, x, t, e, s: torch.randn(()))
    checks.check_ddim_step(lambda x, e, t, p, s: torch.randn_like(x))
    assert torch.equal(torch.rand(3), expected)


# ------------------------------------------------------------------------- the step of DDPM


def posterior(x, e, t, p, z, s, part="right"):
    """DDPM's step with one thing wrong."""
    a, b = s[t], s[p] if p >= 0 or part == "wrapped" else torch.ones(())
    beta = 1 - a if part == "ratio" else 1 - a / b
    x_0 = (x - (1 - a).sqrt() * e) / (1 if part == "undivided" else a.sqrt())
    x_0 = x_0.clamp(-1, 1) if part == "clipped" else x_0
    first, second = b.sqrt() * beta / (1 - a), (a / b).sqrt() * (1 - b) / (1 - a)
    first = b * beta / (1 - a) if part == "root of x_0" else first
    second = a / b * (1 - b) / (1 - a) if part == "root of x_t" else second
    first, second = (second, first) if part == "swapped" else (first, second)
    spread = {"mean": 0 * beta, "large": beta.sqrt(), "variance": beta * (1 - b) / (1 - a), "ratio": (1 - b).sqrt()}.get(
        part, (beta * (1 - b) / (1 - a)).sqrt())
    z = torch.randn_like(z) if part == "dice" else z
    end = (1 - a).sqrt() * z if part == "end" and p < 0 else 0
    return first * x_0 + second * x + spread * z + end


@pytest.mark.parametrize("part, hint", [
    ("mean", "the mean alone"), ("large", "the larger one"), ("variance", "its square root"), ("swapped", "factors are swapped"),
    ("root of x_0", "in x̃_0's factor"), ("root of x_t", "in x_t's factor"), ("undivided", "not divided"), ("clipped", "is clipped"),
    ("dice", "use the z it is given"),
    ("ratio", "not 1 − ᾱ_t"), ("wrapped", "looked up alphas_cumprod[−1]"), ("end", "noise is added to the finished image"),
])
def test_ddpm_step_mistakes_are_named(part, hint, capsys):
    assert not checks.check_ddpm_step(lambda *given: posterior(*given, part))
    assert hint in capsys.readouterr().out
    assert checks.check_ddpm_step(posterior)


@pytest.mark.parametrize("wrong, hint", [
    (lambda x, e, t, p, z, s: checks.ddim_step(x, e, t, p, s), "DDIM's step"),
    (lambda x, e, t, p, z, s: bar(s, p).sqrt() * guess(x, e, s[t]) + (1 - bar(s, p)).sqrt() * z, "x_t must keep its share"),
    (lambda x, e, t, p, z, s: 2 * x, "differ"),
])
def test_other_steps_are_told_from_ddpms(wrong, hint, capsys):
    assert not checks.check_ddpm_step(wrong)
    assert hint in capsys.readouterr().out


def test_ddpm_step_is_diffusers():
    scheduler = DDPMScheduler.from_config(models.new_scheduler().config, timestep_spacing="trailing", clip_sample=False)
    scheduler.set_timesteps(5)
    generator = torch.Generator().manual_seed(0)
    for t in scheduler.timesteps.tolist():
        x_t, eps, z = torch.randn(3, 2, 3, 8, 8, generator=generator)
        theirs = scheduler.step(eps, t, x_t, generator=torch.Generator().manual_seed(t)).prev_sample
        z = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t))
        torch.testing.assert_close(checks.ddpm_step(x_t, eps, t, t - 200, z, scheduler.alphas_cumprod), theirs)
    assert t - 200 == -1


# ------------------------------------------------------------------------- the training loop


def loop(zero=True, clip=True, optimizer=torch.optim.AdamW, decay=0.0, stop=None, average=True, count=0, early=False, train="copy"):
    """A training loop with one thing wrong."""
    def train_loop(model, batches, loss, lr, max_decay=0.99, power=0.75):
        net = model if train == "given" else copy.deepcopy(model)
        slow = copy.deepcopy(net)
        optim = optimizer(net.parameters(), lr, weight_decay=decay)
        for step, batch in enumerate(batches[:stop]):
            if zero:
                optim.zero_grad()
            loss(net, *batch).backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            before = [p.detach().clone() for p in net.parameters()]
            optim.step()
            for one, new in zip(slow.parameters(), before if early else net.parameters()):
                one.data = checks.ema_update(one.data, new.data, step + count, max_decay, power)
        return slow if average else net
    return train_loop


@pytest.mark.parametrize("wrong, hint", [
    (loop(zero=False), "pile up"), (loop(clip=False), "not clipped"), (loop(optimizer=torch.optim.SGD), "plain SGD"),
    (loop(decay=0.01), "weight_decay=0.0"), (loop(stop=1), "first batch"), (loop(average=False), "last weights"),
    (loop(count=1), "from 1"), (loop(count=10**9), "no warm-up"), (loop(early=True), "before optimizer.step()"),
    (loop(train="given"), "trained itself"), (loop(stop=0), "no step was taken"), (lambda *given: None, "nothing written yet"),
    (lambda *given: 0.1, "expected the network"), (lambda model: model, "TypeError"),
    (lambda m, b, loss, lr: loop()(m, b, loss, 2 * lr), "differ"),
])
def test_training_loop_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_train_loop(wrong)
    assert hint in capsys.readouterr().out


def test_right_loops_written_otherwise_pass():
    assert checks.check_train_loop(loop()) and checks.check_train_loop(loop(optimizer=torch.optim.Adam))


def test_the_case_tells_clipping_from_none():
    """Some gradients are longer than 1, some shorter: so neither never clipping nor always normalising passes."""
    model, batches, loss, _ = training.loop_case()
    norms = []
    for batch in batches:
        model.zero_grad()
        loss(model, *batch).backward()
        norms.append(float(model.weight.grad.norm()))
    assert min(norms) < 0.9 and max(norms) > 1.1
