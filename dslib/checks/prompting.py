"""Self-checks of chapter 09: guidance and DreamBooth's loss."""

import torch
from torch import Tensor

from .. import ddpm
from .common import attempt, conclude, diagnose, noise_case, report


def guided(eps_empty: Tensor, eps_text: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022): from the empty prompt's noise, ``scale`` times the way to the text's."""
    return eps_empty + scale * (eps_text - eps_empty)


def dreambooth_loss_by_hand(net, z_0: Tensor, z_prior: Tensor, t: Tensor, eps: Tensor, texts: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """L_simple of the training images under P_tar, texts[0], plus L_simple of the prior images under P_sou, texts[1]; net answers v."""
    total = 0.0
    for z, text in ((z_0, texts[:1]), (z_prior, texts[1:])):
        answer = net(ddpm.q_sample(z, t, eps, alphas_cumprod), t, text.expand(len(z), -1, -1)).sample
        total = total + (answer - ddpm.target(z, eps, t, alphas_cumprod, "v_prediction")).square().mean()
    return total


def check_guided(fn) -> bool:
    """Try the reader's guidance; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(2)
    empty, text = (torch.randn(2, 4, 3, 3, generator=generator) for _ in range(2))
    scale, want = 3.0, guided(empty, text, 3.0)
    mistakes = {"the two are exchanged: start from the empty prompt and go towards the text": guided(text, empty, scale),
                "this starts from the text's noise: a scale of 1 must give the text's noise itself": text + scale * (text - empty),
                "the scale is not used": text, "this is the difference alone: add the empty prompt's noise": scale * (text - empty),
                "the sign is wrong: it goes away from the text": empty - scale * (text - empty),
                "a mean of the two with scale as weight: the weights are 1 − scale and scale": (empty + scale * text) / (1 + scale),
                "only the text's noise is scaled": scale * text}
    return report("guided", lambda a, b: fn(a, b, scale), (empty, text), want, mistakes)


class Told:
    """Stands in for a U-Net: what it answers depends on x_t, t and text, so that every mix-up shows."""

    def __init__(self):
        self.weight = torch.tensor(0.5, requires_grad=True)

    def __call__(self, x_t: Tensor, t: Tensor, text: Tensor):
        if len(text) != len(x_t):
            raise ValueError(f"{len(x_t)} noised latents and {len(text)} texts: expand the text to the batch")
        told = text.mean((1, 2)).view(-1, 1, 1, 1) + 0.001 * t.view(-1, 1, 1, 1)
        return type("Output", (), {"sample": self.weight * x_t + told})()


def check_dreambooth_loss(fn) -> bool:
    """Try the reader's DreamBooth loss, value and gradient; print ✓ or a diagnosis. True if all is well."""
    x_0, t, eps, schedule, _ = noise_case()
    z_prior, texts = 0.5 * x_0.flip(0) + 0.1, torch.tensor([1.0, -0.4]).view(2, 1, 1).expand(2, 3, 5).clone()

    def part(z: Tensor, text: Tensor, noised: bool = True, goal: Tensor | None = None) -> Tensor:
        answer = Told()(ddpm.q_sample(z, t, eps, schedule) if noised else z, t, text.expand(len(z), -1, -1)).sample
        goal = ddpm.target(z, eps, t, schedule, "v_prediction") if goal is None else goal
        return (answer - goal).square().mean().detach()

    tar, sou = texts[:1], texts[1:]
    want = part(x_0, tar) + part(z_prior, sou)
    mistakes = {"the prior images are missing: add their loss": part(x_0, tar), "the training images are missing": part(z_prior, sou),
                "this is the mean of both parts: DreamBooth adds them": want / 2,
                "the prompts are exchanged: texts[0] belongs to the training images": part(x_0, sou) + part(z_prior, tar),
                "both parts have the training prompt: prior images get texts[1]": part(x_0, tar) + part(z_prior, tar),
                "both parts have the class prompt: training images get texts[0]": part(x_0, sou) + part(z_prior, sou),
                "this network answers v, not the noise: compare with ddpm.target(…, \"v_prediction\")":
                    part(x_0, tar, goal=eps) + part(z_prior, sou, goal=eps),
                "both parts have the training images' v: the prior images have their own":
                    part(x_0, tar) + part(z_prior, sou, goal=ddpm.target(x_0, eps, t, schedule, "v_prediction")),
                "the latents are not noised: call ddpm.q_sample first": part(x_0, tar, False) + part(z_prior, sou, False)}
    net = Told()
    got, problem = attempt(fn, net, x_0.clone(), z_prior.clone(), t, eps, texts, schedule)
    problem = problem or diagnose(got.detach() if isinstance(got, Tensor) else got, want, mistakes)
    if problem is None and not got.requires_grad:
        problem = "the value is right but no gradient flows: do not detach, no .item()"
    if problem is None:
        wanted = torch.autograd.grad(dreambooth_loss_by_hand(net, x_0, z_prior, t, eps, texts, schedule), net.weight)[0]
        found = torch.autograd.grad(got, net.weight, allow_unused=True)[0]
        if found is None or not torch.allclose(found, wanted, rtol=1e-3):
            problem = "the value is right but its gradient is not: both parts must reach the network"
    return conclude("dreambooth_loss", problem)
