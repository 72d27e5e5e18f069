"""Self-checks of chapter 13: the whole batch's gradient in the memory of a part, and a weight that follows a price."""

import math

import torch
from torch import Tensor

from .. import losses
from ..beyond import weights
from .common import as_number, attempt, conclude, diagnose


def gradient_in_parts(net, x: Tensor, loss, size: int) -> list[Tensor]:
    """The gradient of loss(net(x)), ``size`` images with a graph at a time: a tensor for each of net's parameters.

    First all answers without a graph, then the loss's slope at each answer, then part by part what the weights did to it.
    """
    with torch.no_grad():
        answers = torch.cat([net(part) for part in x.split(size)])
    slope, = torch.autograd.grad(loss(answers.requires_grad_()), answers)
    weights_of = list(net.parameters())
    total = [torch.zeros_like(p) for p in weights_of]
    for part, pull in zip(x.split(size), slope.split(size)):
        for sum_, one in zip(total, torch.autograd.grad(net(part), weights_of, pull)):
            sum_ += one
    return total


def flat(gradients: list[Tensor]) -> Tensor:
    """All numbers of a list of tensors, in one row."""
    return torch.cat([torch.as_tensor(one).detach().flatten() for one in gradients])


def parts_case() -> tuple:
    """(network, images (6,3,4,4), pairwise loss of its answers): small enough to do by hand."""
    dice = torch.Generator().manual_seed(5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(4, 3, 3, padding=1))
    x = torch.rand(6, 3, 4, 4, generator=dice) * 2 - 1
    known = torch.rand(6, 3, 4, 4, generator=dice) * 2 - 1
    return net, x, lambda answers: 100 * losses.pairwise_kl(answers, known[:len(answers)])


def check_gradient_in_parts(fn) -> bool:
    """Try the reader's gradient of a pairwise loss, three images at a time; print ✓ or a diagnosis. True if all is well."""
    net, x, loss = parts_case()
    parameters, most = list(net.parameters()), []
    right = flat(gradient_in_parts(net, x, loss, 3))

    def watched(part):
        most.append(len(part) if torch.is_grad_enabled() else 0)
        return net(part)

    watched.parameters = net.parameters
    got, problem = attempt(fn, watched, x.clone(), loss, 3)
    if problem is None and not (isinstance(got, (list, tuple)) and len(got) == len(parameters)):
        problem = f"it returns a {type(got).__name__}: expected a list with a tensor for each of net.parameters()"
    each = [flat(torch.autograd.grad(loss(net(part)), parameters)) for part in x.split(3)]
    blind = [flat(torch.autograd.grad(net(part).sum(), parameters)) for part in x.split(3)]
    mistakes = {"each part is compared with itself alone: take the loss of *all* answers, then its slope at each": sum(each),
                "each part is compared with itself alone, and the mean taken: take the loss of all answers": sum(each) / 2,
                "the loss's slope at the answers is not used: give it to torch.autograd.grad as the third argument": sum(blind),
                "this is the mean over the parts: gradients of parts add up": right / 2,
                "this is the last part's gradient alone: add them": flat(torch.autograd.grad(
                    net(x[3:]), parameters, torch.autograd.grad(loss(a := net(x).detach().requires_grad_()), a)[0][3:]))}
    problem = problem or diagnose(flat(got), right, mistakes)
    if problem is None and max(most, default=0) > 3:
        problem = f"the gradient is right, but {max(most)} images had a graph at once: the first pass goes under torch.no_grad()"
    return conclude("gradient_in_parts", problem)


def check_dual_step(fn) -> bool:
    """Try the reader's step of dual ascent above and below the price, and at the bounds; print ✓ or a diagnosis. True if all is well."""
    cases = [(1.0, 0.06, 0.04), (1.0, 0.03, 0.04), (0.5, 0.4, 0.04), (9.9, 0.09, 0.04), (0.0101, 0.01, 0.04)]
    answers, problem = [], None
    for case in cases:
        got, problem = (None, problem) if problem else attempt(fn, *case)
        answers.append(as_number(got) if problem is None else None)
        if problem is None and not isinstance(answers[-1], Tensor):
            problem = f"it returns a {type(got).__name__}, expected a weight"

    def all_of(step) -> Tensor:
        return torch.tensor([float(step(*case)) for case in cases])

    def step(w, level, c, sign=1.0, most=weights.MOST, least=weights.LEAST, far=1.0):
        return min(most, max(least, w * math.exp(sign * weights.RATE * min(far, max(-far, math.log(level / c))))))

    mistakes = {"the wrong way: a loss above its price must make the weight grow": all_of(lambda *a: step(*a, sign=-1.0)),
                "log(L̄/c) is not clipped to [−1, 1]: one wild batch could move the weight far": all_of(lambda *a: step(*a, far=99.0)),
                "the weight is not kept between least and most": all_of(lambda *a: step(*a, most=1e9, least=0.0)),
                "the ratio is taken without its logarithm: at the price the weight must stay":
                    all_of(lambda w, level, c: min(10.0, max(0.01, w * math.exp(weights.RATE * min(1.0, max(-1.0, level / c)))))),
                "the step is added to λ: multiply, so that it is a share of λ":
                    all_of(lambda w, level, c: min(10.0, max(0.01, w + weights.RATE * min(1.0, max(-1.0, math.log(level / c)))))),
                "η is not used": all_of(lambda w, level, c: min(10.0, max(0.01, w * math.exp(min(1.0, max(-1.0, math.log(level / c)))))))}
    problem = problem or diagnose(torch.stack([a.float().reshape(()) for a in answers]), all_of(weights.dual_step), mistakes)
    return conclude("dual_step", problem)
