"""A typical slip for every exercise: what a page without a kernel shows beside the right answer."""

import math

import torch
import torch.nn.functional as F

from .. import ddpm, haar, losses
from ..gan import cdc
from . import measuring, objective, person, plane, similarity, training


def unscaled(x, t, eps, schedule):
    """√ᾱ_t·x + ε: the noise keeps its full size."""
    return ddpm.at(schedule, t, x).sqrt() * x + eps


def undivided(x_t, t, eps, schedule):
    """The division by √ᾱ_t is left out."""
    return x_t - (1 - ddpm.at(schedule, t, x_t)).sqrt() * eps


def diagonal_first(x):
    """The softmax before the diagonal is dropped."""
    return losses.drop_diagonal(F.log_softmax(losses.cosine_matrix(x), dim=1))


def mean_kl(adapted, source):
    """F.kl_div as it comes: another direction, and a mean."""
    return losses.pairwise_kl(adapted, source, "sou||ada", "mean")


def without(what: str):
    """A training loop with one thing left out."""
    def typical(model, batches, loss, lr):
        wrong = training.train_loop(model, batches[:1], loss, lr)
        torch.nn.utils.vector_to_parameters(training.wrong_train_loop(model, batches, loss, lr, what), wrong.parameters())
        return wrong
    return typical


def plane_loop(source, batches, a_bar, lambda_img, lr):
    """The loop in the plane without scale_gradient."""
    wrong = plane.adapt(source, batches[:1], a_bar, 0.0, lr)
    torch.nn.utils.vector_to_parameters(plane.wrong_loop(source, batches, lambda_img, lr, "unweighted"), wrong.parameters())
    return wrong


def unsoftened(net, frozen, x_0, t, eps, schedule, published=False):
    """hfmse with its weight, the pairwise terms without theirs."""
    right = objective.terms_of(net, frozen, x_0, t, eps, schedule, published)
    return objective.terms_of(net, frozen, x_0, t, eps, schedule, True) | {"hfmse": right["hfmse"]}


def no_ratio(x_t, eps, t, t_prev, z, schedule):
    """√β in the place of √β̃."""
    mean = training.ddpm_step(x_t, eps, t, t_prev, torch.zeros_like(z), schedule)
    return mean + (1 - schedule[t] / schedule[t_prev]).sqrt() * z


TYPICAL = {
    "nearest": lambda samples, images: torch.cdist(samples.flatten(1), images.flatten(1)).argmin(0),
    "q_sample": unscaled, "predict_x0": undivided,
    "simple_loss": lambda model, x_0, t, eps, schedule: (model(ddpm.q_sample(x_0, t, eps, schedule), t).sample - x_0).square().mean(),
    "ema_update": lambda average, new, step, max_decay, power: max_decay * average + (1 - max_decay) * new,
    "train_loop": without("accumulate"),
    "ddim_step": lambda x_t, eps, t, t_prev, schedule: (x_t - (1 - schedule[t]).sqrt() * eps) / schedule[t].sqrt(),
    "ddpm_step": no_ratio,
    "noise_points": lambda x_0, t, eps, a_bar: a_bar[t][:, None].sqrt() * x_0 + eps,
    "guess_points": lambda x_t, t, eps, a_bar: x_t - (1 - a_bar[t][:, None]).sqrt() * eps,
    "angle_log_probs": diagonal_first, "angle_kl": lambda adapted, source: plane.angle_kl(source, adapted), "adapt": plane_loop,
    "copy_rate": lambda samples, real, percentile=5: (samples < samples.quantile(percentile / 100)).float().mean(),
    "intra_lpips_by_hand": lambda to_targets, within: within.sum() / (len(within) * (len(within) - 1)),
    "pairwise_log_probs": diagonal_first, "pairwise_kl": mean_kl,
    "authors_weight": lambda weight, n=3: similarity.authors_weight(weight, 3),
    "haar_step": lambda x: (lambda ll, lh, hl, hh: (ll, hl, lh, hh))(*haar.dwt2(x)),
    "inverse_haar": lambda ll, lh, hl, hh: haar.idwt2(ll, hl, lh, hh),
    "weighted_hf_mse": lambda adapted, target, a: losses.hf_mse(adapted, target),
    "terms_of": unsoftened, "total_loss": lambda terms, weights: sum(terms.values()),
    "balanced_weights": lambda norms, share=0.5: {k: 1.0 if k == "simple" else norms["simple"] / v if v else 0.0 for k, v in norms.items()},
    "lpips_from_features": lambda a, b: torch.cdist(a, b), "entropy_bits": lambda counts: measuring.entropy_bits(counts) * 0.6931472,
    "half_sample_error": lambda statistic, n, repeats: 0.1,
    "pooled_std": lambda groups: torch.tensor([v for group in groups for v in group]).std(),
    "score_at_hit": lambda hits, scores, hit: scores[-1], "not_beaten": lambda points: points.sum(1) == points.sum(1).min(),
    "guided": lambda eps_empty, eps_text, scale: eps_text + scale * (eps_text - eps_empty),
    "dreambooth_loss": lambda net, z, prior, t, eps, texts, a: (
        net(ddpm.q_sample(z, t, eps, a), t, texts[:1].expand(len(z), -1, -1)).sample
        - ddpm.target(z, eps, t, a, "v_prediction")).square().mean(),
    "one_batch": lambda *given: person.one_batch(*given)[0],
    "recognised": lambda read, who: 1 - person.recognised_by_hand(read, who),
    "players_losses": lambda real, fake: (F.softplus(-real).mean(), F.softplus(-fake).mean()),
    "cdc_loss": lambda adapted, source, z, layer: cdc.consistency(adapted.trace(z).image, source.trace(z).image),
    "auc": lambda members, others: float((members[:, None] < others[None]).float().mean()),
    "caught": lambda members, others, false_alarms=0.01: float((members < members.quantile(false_alarms)).float().mean()),
    "gradient_in_parts": lambda net, x, loss, size: [sum(one) for one in zip(*(
        torch.autograd.grad(loss(net(part)), list(net.parameters())) for part in x.split(size)))],
    "dual_step": lambda weight, level, price: weight * min(math.e, max(1 / math.e, level / price)) ** 0.05,
    "push": lambda log_odds, t, a_bar, t_max=700: ((t < t_max) * F.softplus(-log_odds)).mean(),
    "flicker": lambda clips, truth: 127.5 * (clips - truth).abs().flatten(1).mean(1),
}
