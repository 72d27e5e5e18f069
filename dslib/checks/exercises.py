"""The exercises of all chapters in the order in which they are written: name → where, and the reference."""

import difflib
import inspect

from .. import ddpm, haar, losses, metrics
from ..beyond import attribute, video, weights
from ..measure import membership
from . import (
    ablating,
    adversarial,
    bands,
    cheaper,
    copying,
    forward,
    leaking,
    measuring,
    objective,
    person,
    plane,
    prompting,
    similarity,
    training,
    wishing,
)

SOLUTIONS = {
    "nearest": forward.nearest, "q_sample": ddpm.q_sample, "predict_x0": ddpm.predict_x0,
    "simple_loss": training.simple_loss, "ema_update": training.ema_update, "train_loop": training.train_loop,
    "ddim_step": training.ddim_step, "ddpm_step": training.ddpm_step,
    "noise_points": plane.noise_points, "guess_points": plane.guess_points, "angle_log_probs": plane.angle_log_probs,
    "angle_kl": plane.angle_kl, "adapt": plane.adapt,
    "copy_rate": metrics.copy_rate, "intra_lpips_by_hand": copying.intra_lpips_by_hand,
    "pairwise_log_probs": losses.pairwise_log_probs, "pairwise_kl": losses.pairwise_kl, "authors_weight": similarity.authors_weight,
    "haar": haar.dwt2, "inverse_haar": haar.idwt2, "weighted_hf_mse": bands.weighted_hf_mse,
    "terms_of": objective.terms_of, "total_loss": objective.total_loss, "balanced_weights": objective.balanced_weights,
    "lpips_from_features": measuring.lpips_from_features, "entropy_bits": measuring.entropy_bits,
    "half_sample_error": metrics.half_sample_error,
    "pooled_std": ablating.pooled_std, "score_at_hit": ablating.score_at_hit, "not_beaten": ablating.not_beaten,
    "guided": prompting.guided, "dreambooth_loss": prompting.dreambooth_loss_by_hand,
    "one_batch": person.one_batch, "recognised": person.recognised_by_hand,
    "players_losses": adversarial.players_losses, "cdc_loss": adversarial.cdc_loss,
    "auc": membership.auc, "caught": membership.caught,
    "gradient_in_parts": cheaper.gradient_in_parts, "dual_step": weights.dual_step,
    "push": attribute.push, "flicker": video.flicker,
}
CHAPTERS = {
    "00": ["nearest"], "01": ["q_sample", "predict_x0"],
    "02": ["simple_loss", "ema_update", "train_loop", "ddim_step", "ddpm_step"],
    "02b": ["noise_points", "guess_points", "angle_log_probs", "angle_kl", "adapt"],
    "03": ["copy_rate", "intra_lpips_by_hand"], "04": ["pairwise_log_probs", "pairwise_kl", "authors_weight"],
    "05": ["haar_step", "inverse_haar", "weighted_hf_mse"], "06": ["terms_of", "total_loss", "balanced_weights"],
    "07": ["lpips_from_features", "entropy_bits", "half_sample_error"], "08": ["pooled_std", "score_at_hit", "not_beaten"],
    "09": ["guided", "dreambooth_loss"], "10": ["one_batch", "recognised"],
    "11": ["players_losses", "cdc_loss"], "12": ["auc", "caught"],
    "13": ["gradient_in_parts", "dual_step"],
    "14": ["push", "flicker"],
}
CHAPTER_OF = {name: chapter for chapter, names in CHAPTERS.items() for name in names}
WHOLE = ("q_sample", "predict_x0", "ema_update", "train_loop", "pairwise_log_probs", "pairwise_kl", "haar_step",
         "weighted_hf_mse", "terms_of", "total_loss")         # what DomainStudio is made of: a hand-in needs all of these


def known_as(name: str) -> str:
    """The key of an exercise in SOLUTIONS: the function of chapter 05 is written as ``haar_step``."""
    return {"haar_step": "haar"}.get(name, name)


def unknown(name: str) -> str:
    """What to say of a name that is no exercise's."""
    near = difflib.get_close_matches(name, SOLUTIONS, n=1)
    return f"no exercise {name!r}: {f'did you mean {near[0]!r}? ' if near else ''}known are {', '.join(SOLUTIONS)}"


def solution(name: str) -> None:
    """Print the reference's own source: what the checks compare with."""
    reference = SOLUTIONS.get(known_as(name))
    print(inspect.getsource(reference) if reference else unknown(name))


def reference_of(name: str):
    """The library's function of an exercise."""
    return SOLUTIONS[known_as(name)]


def check_of(name: str):
    """The self-check of an exercise."""
    modules = (forward, training, plane, copying, similarity, bands, objective, measuring, ablating, prompting, person, adversarial,
               leaking, cheaper, wishing)
    return next(vars(m)[f"check_{known_as(name)}"] for m in modules if f"check_{known_as(name)}" in vars(m))
