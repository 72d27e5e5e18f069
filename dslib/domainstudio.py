"""The method: what is minimised, in pixels and in latents, and where each way of adapting starts
(chapter 06)."""

import copy
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import UNet2DModel
from torch import Tensor

from . import ddpm, haar, losses, sample
from .base import parts, variants
from .base.bank import Bank
from .base.device import processes
from .base.errors import UserError
from .base.knobs import knob
from .base.micro import in_parts

#: γ of L_simple's weights over t where none is given: none as published, or the v-source's own
SNR_GAMMA = {"epsilon": 0.0, "v_prediction": 5.0}


@dataclass(kw_only=True)
class Objective:
    """The weights λ of DomainStudio §1, and the choices that chapter 08 changes one at a time."""
    lambda_img: float = knob(0.3, "weight of the pairwise similarity loss (λ2)", "least_zero")
    lambda_hf: float = knob(0.3, "weight of its high-frequency twin (λ3)", "least_zero")
    lambda_hfmse: float = knob(0.5, "weight of high-frequency reconstruction (λ4)", "least_zero")
    lambda_vlb: float = knob(
        0.001, "weight of the variational bound (λ1), for a source that predicts its variance",
        "least_zero")
    lambda_distill: float = knob(
        0.0, "weight of plain distillation, ‖x̃_0 of the model − x̃_0 of the source‖², a rival of "
        "λ2 and λ3", "least_zero")
    snr_gamma: float | None = knob(
        None, "min-SNR-γ weights of L_simple over t; 0: none; default: none for a source that "
        "predicts ε, as published, and 5 for one that predicts v", "least_zero", kind=float)
    pairwise_variant: str = knob(
        "paper", "paper, or authors: reversed KL, mean, three images (ledger rows 1-3)",
        choices=("paper", "authors"))
    pairwise_weighting: str = knob(
        "sqrt_alphas_cumprod",
        "sqrt_alphas_cumprod: steps near T pull no harder than the others; or none as published",
        choices=("sqrt_alphas_cumprod", "none"))
    hfmse_weighting: str = knob(
        "alphas_cumprod", "alphas_cumprod, or none as published (ledger row 9)",
        choices=("alphas_cumprod", "none"))
    pairwise_direction: str = knob(
        "ada||sou", "of KL: ada||sou (paper) or sou||ada", choices=("ada||sou", "sou||ada"))
    pairwise_temperature: float = knob(1.0, "of the softmax over the other images", "positive")
    pairwise_space: str = knob(
        "pixels", "what λ2's term compares: pixels, centred (without the mean image) or features",
        choices=variants.SPACES)
    pairwise_on: str = knob(
        "target", "whose noised images the pairwise terms compare: target, the few (paper), or "
        "source: samples of the source's own (anchored, an extension)",
        choices=("target", "source"))
    num_anchors: int = knob(200, "source samples that --pairwise_on source draws once", "positive")
    pairwise_t_min: int = knob(0, "first step t at which the pairwise terms pull", "least_zero")
    pairwise_t_max: int | None = knob(
        None, "they pull below this step; default: T", "positive", kind=int)
    detail: str = knob(
        "haar", "what λ3's and λ4's terms look at: haar, stacked, haar_level_2, db2, or pixels "
        "(the control)",
        choices=variants.DETAILS)
    micro_batch_size: int = knob(
        0, "images that pass the networks at a time: less memory, the same gradient; 0: all",
        "least_zero")


def terms(ada: Tensor, sou: Tensor, target: Tensor, t: Tensor, a_bar: Tensor, config: Objective,
          latents: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
    """L_img, L_hf and L_hfmse (DomainStudio §1, §2), unweighted, of a model in pixels or in
    latents.

    ada, sou: predicted clean images x̃_0 of both models, and target: the training images, all
    (N,C,H,W); t: (N,) steps; a_bar: (T,). latents: the predicted z̃_0 of both, (N,c,h,w), where
    images are decoded ones: then L_img compares these. No gradient is sent to the source.
    """
    near_t = pull(t, a_bar, config)
    compared, sou = gathered(losses.scale_gradient(ada, near_t)), gathered(sou)
    alike = compared, sou
    if latents is not None:
        alike = gathered(losses.scale_gradient(latents[0], near_t)), gathered(latents[1])
    kept, options = slice(None), {"direction": config.pairwise_direction,
                                  "temperature": config.pairwise_temperature}
    if config.pairwise_variant == "authors":
        kept, options = slice(3), options | {"direction": "sou||ada", "reduction": "mean"}
    detail = partial(variants.detail, name=config.detail, haar=haar)
    img = losses.pairwise_kl(*(variants.space(x[kept], config.pairwise_space) for x in alike),
                             **options)
    hf = losses.hf_pairwise_kl(compared[kept], sou[kept], hf=detail, **options)
    found = {"img": img, "hf": hf, "hfmse": hfmse(ada, target, t, a_bar, config)}
    if config.lambda_distill:
        found["distill"] = (compared - sou).square().mean()
    return found


def hfmse(ada: Tensor, target: Tensor, t: Tensor, a_bar: Tensor, config: Objective) -> Tensor:
    """L_hfmse, weighted by ᾱ_t unless the config says otherwise; shapes as in :func:`terms`."""
    weight = a_bar[t] if config.hfmse_weighting == "alphas_cumprod" else None
    return losses.hf_mse(ada, target, weight,
                         hf=partial(variants.detail, name=config.detail, haar=haar))


def least_batch(config: Objective) -> int:
    """Images that the pairwise terms need in a batch: 2, or the authors' 3; with anchors twice."""
    pairs = {"paper": 2, "authors": 3}[config.pairwise_variant]
    return 2 * pairs if config.pairwise_on == "source" else pairs


def total(found: dict[str, Tensor], config: Objective) -> Tensor:
    """The sum that is minimised: every term times its λ, "hf" times ``lambda_hf`` (λ3) and so on;
    a term without one, such as L_simple, counts once."""
    return sum(getattr(config, f"lambda_{name}", 1.0) * value for name, value in found.items())


def domainstudio_loss(net, frozen, x_0: Tensor, t: Tensor, eps: Tensor, a_bar: Tensor,
                      betas: Tensor, config: Objective, prediction_type: str = "epsilon",
                      ) -> tuple[Tensor, dict[str, Tensor]]:
    """L_simple + λ1·L_vlb + λ2·L_img + λ3·L_hf + λ4·L_hfmse (DomainStudio §1), and each term
    unweighted.

    The same x_t, t and ε go to both models; ``frozen=None`` leaves out the last three: naive
    fine-tuning. x_0, eps: (N,C,R,R); t: (N,); a_bar, betas: (T,); prediction_type: what both
    networks answer, ε or v: L_simple is the error of that answer, all else compares the clean
    images that it implies.
    """
    x_t = ddpm.q_sample(x_0, t, eps, a_bar)
    output, variance = split_variance(net(x_t, t).sample, x_0.shape[1])
    error = output - ddpm.target(x_0, eps, t, a_bar, prediction_type)
    found = {"simple": l_simple(error, t, a_bar, config, prediction_type)}
    if variance is not None:
        eps_ada = ddpm.guess(output, x_t, t, a_bar, prediction_type).eps
        found["vlb"] = losses.vlb(eps_ada, variance, x_0, x_t, t, betas)
    if frozen is not None:
        ada = ddpm.guess(output, x_t, t, a_bar, prediction_type).x_0
        found |= terms(ada, known_guess(frozen, x_t, t, a_bar, prediction_type), x_0, t, a_bar,
                       config)
    return total(found, config), found


def anchored_loss(net, frozen, x_0: Tensor, t: Tensor, eps: Tensor, a_bar: Tensor, betas: Tensor,
                  config: Objective, prediction_type: str, anchors: Tensor) -> tuple[Tensor, dict]:
    """The same terms, with L_img and L_hf on noised samples of the source: an extension, not the
    paper's.

    The published terms compare x̃_0 of the noised few, and can be kept while the few are memorised.
    Here the first half of the batch are training images (L_simple, L_vlb, L_hfmse), the second half
    anchors (L_img, L_hf), each with a t and ε of its own, in one pass. x_0, anchors, eps:
    (N,C,R,R), anchors[i] in the place of x_0[i].
    """
    n = len(x_0) // 2
    mixed = torch.cat([x_0[:n], anchors[n:]])
    x_t = ddpm.q_sample(mixed, t, eps, a_bar)
    output, variance = split_variance(net(x_t, t).sample, x_0.shape[1])
    error = output[:n] - ddpm.target(x_0[:n], eps[:n], t[:n], a_bar, prediction_type)
    guess = ddpm.guess(output, x_t, t, a_bar, prediction_type)
    sou = known_guess(frozen, x_t[n:], t[n:], a_bar, prediction_type)
    found = {"simple": l_simple(error, t[:n], a_bar, config, prediction_type)}
    if variance is not None:
        found["vlb"] = losses.vlb(guess.eps[:n], variance[:n], x_0[:n], x_t[:n], t[:n], betas)
    pairs = terms(guess.x_0[n:], sou, anchors[n:], t[n:], a_bar, config)
    found |= pairs | {"hfmse": hfmse(guess.x_0[:n], x_0[:n], t[:n], a_bar, config)}
    return total(found, config), found


def l_simple(error: Tensor, t: Tensor, a_bar: Tensor, config: Objective,
             prediction_type: str = "epsilon") -> Tensor:
    """The mean square of the answer's error (N,C,R,R) (DDPM eq. 14), weighted over t as
    ``snr_gamma`` says; by default a source of v is adapted with the weights it was trained with."""
    gamma = SNR_GAMMA[prediction_type] if config.snr_gamma is None else config.snr_gamma
    if not gamma:
        return error.square().mean()
    weight = ddpm.snr_weight(a_bar, t, gamma, prediction_type)
    return (weight * error.square().mean(dim=(1, 2, 3))).mean()


def pull(t: Tensor, a_bar: Tensor, config: Objective) -> Tensor:
    """How hard the pairwise terms pull at each image's step, (N,): √ᾱ_t or 1, and 0 outside the
    range asked for."""
    weighted = config.pairwise_weighting == "sqrt_alphas_cumprod"
    factor = a_bar[t].sqrt() if weighted else torch.ones_like(a_bar[t])
    last = len(a_bar) if config.pairwise_t_max is None else config.pairwise_t_max
    return factor * ((t >= config.pairwise_t_min) & (t < last))


def gathered(x: Tensor) -> Tensor:
    """The images of all processes (N·P,…), in the batch's order and with gradients; x itself in a
    single process.

    So the pairwise terms compare the whole batch, however many processes share it: every process
    has the same loss, and DistributedDataParallel's mean of the gradients that ``all_gather`` sums
    is that loss's gradient.
    """
    if processes().num_processes == 1:
        return x
    from torch.distributed.nn.functional import all_gather
    return torch.cat(all_gather(x.contiguous()))


def known_guess(frozen, x_t: Tensor, t: Tensor, a_bar: Tensor, prediction_type: str) -> Tensor:
    """x̃_0 (N,C,R,R) of a network that takes no gradient, for x_t (N,C,R,R) at steps t (N,)."""
    with torch.inference_mode():
        answer, _ = split_variance(frozen(x_t, t).sample, x_t.shape[1])
    return ddpm.guess(answer.clone(), x_t, t, a_bar, prediction_type).x_0


def split_variance(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """A model's output → (answer, variance): None unless there are 2C channels, the second half
    placing the variance."""
    return (output, None) if output.shape[1] == channels else tuple(output.split(channels, dim=1))


# ------------------------------------- where each method starts: (network, objective, companions)

def finetune(source, images, config, frozen=None):
    """Naive fine-tuning: a copy of the U-Net and L_simple (and L_vlb where variance is learned)."""
    return part_of(source.unet, config), against(source, None, config), None


def scratch(source, images, config, frozen=None):
    """The same loss from random weights of the same architecture."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return UNet2DModel.from_config(source.unet.config), against(source, None, config), None


def domainstudio(source, images, config, frozen=None):
    """A copy of the source's U-Net and the whole objective, on the few or anchored on the source's
    samples.

    frozen: who answers for the source, by default a frozen copy; where the noise repeats
    (``bank_steps``) its answers are kept in a :class:`dslib.base.bank.Bank`.
    """
    if frozen is None:
        frozen = copy.deepcopy(source.unet).requires_grad_(False).eval()
        frozen = Bank(frozen) if config.bank_steps else frozen
    anchored = config.pairwise_on == "source"
    anchors = {"anchors": draw_anchors(source, len(images), config)} if anchored else None
    return part_of(source.unet, config), against(source, frozen, config), anchors


def draw_anchors(source, n: int, config: Objective) -> Tensor:
    """Samples of the source, as many for each of n images: (n,K,C,R,R) in [-1,1], n·K of
    ``num_anchors``.

    Raises UserError where there are fewer of them than images.
    """
    if config.num_anchors < n:
        raise UserError(f"--num_anchors is {config.num_anchors} and there are {n} images: draw at "
                        f"least as many")
    size, each = source.unet.config.sample_size, config.num_anchors // n
    noise = sample.start_noise(n * each, size, 10_000 + config.seed, source.unet.config.in_channels)
    steps = min(20, len(source.scheduler.alphas_cumprod))
    drawn = sample.sample(source.unet, source.scheduler, noise, steps, "dpmsolver",
                          progress="anchors")
    return drawn.view(n, each, *drawn.shape[1:])


def part_of(unet: UNet2DModel, config) -> UNet2DModel:
    """A copy of which ``config.trained_parts`` take gradients; the original is left untouched."""
    return parts.trainable(unet, config.trained_parts, config.lora_rank, config.seed)


def against(source, frozen, config: Objective):
    """The loss as the loop asks for it: ``objective(net, x_0, t, eps)`` → (loss, terms)."""
    a_bar, betas = source.scheduler.alphas_cumprod.clone(), source.scheduler.betas.clone()
    kind = ddpm.prediction_type_of(source.scheduler)

    def objective(net, x_0, t, eps, anchors=None):
        known = frozen and in_parts(frozen.to(x_0.device), config.micro_batch_size)
        here = a_bar.to(x_0.device), betas.to(x_0.device), config, kind
        net = in_parts(net, config.micro_batch_size)
        if anchors is not None:
            return anchored_loss(net, known, x_0, t, eps, *here, anchors)
        return domainstudio_loss(net, known, x_0, t, eps, *here)

    return objective
