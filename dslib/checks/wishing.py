"""Self-checks of chapter 14: a push that a probe gives, and what flickers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ddpm
from ..beyond import attribute, video
from .common import as_number, attempt, conclude, diagnose


def push_case() -> tuple[Tensor, Tensor, Tensor]:
    """(log-odds (6,), steps t (6,), ᾱ (1000,)): one step is the limit itself, one is beyond it."""
    odds = torch.tensor([0.3, -2.0, 5.0, 1.5, -4.0, -1.0])
    return odds, torch.tensor([10, 400, 699, 300, 700, 900]), ddpm.alphas_cumprod(ddpm.linear_betas())


def check_push(fn) -> bool:
    """Try the reader's push, its gradient, and pictures that are far from the wish; print ✓ or a diagnosis. True if all is well."""
    odds, t, a_bar = push_case()
    right, each, root = attribute.push(odds, t, a_bar), F.softplus(-odds), a_bar[t].sqrt()
    near = t < attribute.T_MAX
    away = (root * near * F.softplus(odds)).mean()
    mistakes = {"this pushes the wish away: small where p is small; it is −log p, and p = σ(log-odds)": away,
                "√ᾱ_t is missing: x̃_0 of a large t would push most": (near * each).mean(),
                "the weight is ᾱ_t: take its square root": (root.square() * near * each).mean(),
                "steps t ≥ t_max push too: leave them out": (root * each).mean(),
                "t = t_max pushes too: only t *below* it does": (root * (t <= attribute.T_MAX) * each).mean(),
                "the mean is over the steps below t_max alone: the others count as 0": (root * near * each).sum() / near.sum(),
                "this is the sum: take the mean": (root * near * each).sum(),
                "this is 1 − p: take −log p": (root * near * torch.sigmoid(-odds)).mean(),
                "the sign is missing: log p is below 0, so the loss is −log p": -right}
    asked = odds.clone().requires_grad_()
    got, problem = attempt(fn, asked, t.clone(), a_bar.clone())
    problem = problem or diagnose(as_number(plain(got)), right, mistakes)
    if problem is None and not (isinstance(got, Tensor) and got.requires_grad):
        problem = "the value is right but no gradient flows to the log-odds: return a tensor, without item() or detach()"
    return conclude("push", problem or far_problem(fn, t, a_bar))


def far_problem(fn, t: Tensor, a_bar: Tensor) -> str | None:
    """What goes wrong where p is too small for a float."""
    far = torch.full((len(t),), -200.0)
    got, problem = attempt(fn, far, t.clone(), a_bar.clone())
    answer = as_number(plain(got))
    if isinstance(answer, Tensor) and not torch.isfinite(answer).all():
        return "right, but infinite for log-odds of −200, where σ is 0 in a float: F.softplus(−x) is −log σ(x) without it"
    return problem or diagnose(answer, attribute.push(far, t, a_bar), {})


def plain(got) -> object:
    """A tensor without its graph; anything else as it is."""
    return got.detach() if isinstance(got, Tensor) else got


def flicker_case() -> tuple[Tensor, Tensor]:
    """Two clips of four frames, drawn and true: (2,4,3,5,5) each, in [-1,1]."""
    dice = torch.Generator().manual_seed(14)
    drawn, truth = (torch.rand(2, 4, 3, 5, 5, generator=dice) * 2 - 1 for _ in range(2))
    return drawn, truth


def check_flicker(fn) -> bool:
    """Try the reader's flicker; print ✓ or a diagnosis. True if all is well."""
    drawn, truth = flicker_case()
    mine, true = video.changes(drawn), video.changes(truth)

    def levels(x: Tensor) -> Tensor:
        return video.LEVELS * x.flatten(1).mean(1)

    right = levels((mine - true).abs())
    mistakes = {"it is in units of [-1,1]: times 127.5 for levels of 255": right / video.LEVELS,
                "times 255 is too much: from −1 to 1 is 2": 2 * right,
                "the frames are compared: compare the *changes* between frames": levels((drawn - truth).abs()),
                "the true changes are not taken off: a clip that moves as it should would flicker": levels(mine.abs()),
                "the absolute values are taken before the difference: a change to the wrong side would pass":
                    levels((mine.abs() - true.abs()).abs()),
                "no absolute value: up and down cancel": levels(mine - true),
                "this is the square: take the absolute value": levels((mine - true).square()),
                "this is the sum over the pixels: take the mean": video.LEVELS * (mine - true).abs().flatten(1).sum(1),
                "only the first and the last frame are compared: take every pair of neighbours":
                    levels(((drawn[:, -1] - drawn[:, 0]) - (truth[:, -1] - truth[:, 0])).abs())}
    got, problem = attempt(fn, drawn.clone(), truth.clone())
    if problem is None and isinstance(got, Tensor) and got.dim() == 0:
        problem = "it returns one number for all clips: a number for each, (n,)"
    return conclude("flicker", problem or diagnose(got, right, mistakes))
