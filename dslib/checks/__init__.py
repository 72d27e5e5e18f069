"""Self-checks for the exercises: they say what is wrong, they never raise, and tests run them too.

A module a chapter; ``checks.check_x(fn)`` tries the reader's function, ``checks.solution("x")`` prints the reference."""

import difflib
import inspect

from .. import ddpm, haar, losses, metrics
from .ablating import check_not_beaten, check_pooled_std, check_score_at_hit, not_beaten, pooled_std, score_at_hit
from .bands import check_haar, check_inverse_haar, check_weighted_hf_mse, weighted_hf_mse
from .common import check_expected, use
from .copying import check_copy_rate, check_intra_lpips_by_hand, intra_lpips_by_hand
from .forward import check_nearest, check_predict_x0, check_q_sample, nearest
from .measuring import check_entropy_bits, check_half_sample_error, check_lpips_from_features, entropy_bits, lpips_from_features
from .objective import balanced_weights, check_balanced_weights, check_total_loss, total_loss
from .person import check_one_batch, check_recognised, one_batch, recognised_by_hand
from .plane import (
    adapt,
    angle_kl,
    angle_log_probs,
    check_adapt,
    check_angle_kl,
    check_angle_log_probs,
    check_guess_points,
    check_noise_points,
    guess_points,
    noise_points,
)
from .prompting import check_dreambooth_loss, check_guided, dreambooth_loss_by_hand, guided
from .similarity import authors_weight, check_authors_weight, check_pairwise_kl, check_pairwise_log_probs
from .training import check_ddim_step, check_ema_update, check_simple_loss, ddim_step, ema_update, simple_loss

SOLUTIONS = {
    "nearest": nearest, "q_sample": ddpm.q_sample, "predict_x0": ddpm.predict_x0,
    "simple_loss": simple_loss, "ema_update": ema_update, "ddim_step": ddim_step,
    "noise_points": noise_points, "guess_points": guess_points, "angle_log_probs": angle_log_probs, "angle_kl": angle_kl, "adapt": adapt,
    "intra_lpips_by_hand": intra_lpips_by_hand, "copy_rate": metrics.copy_rate,
    "pairwise_log_probs": losses.pairwise_log_probs, "pairwise_kl": losses.pairwise_kl, "authors_weight": authors_weight,
    "haar": haar.dwt2, "inverse_haar": haar.idwt2, "weighted_hf_mse": weighted_hf_mse,
    "total_loss": total_loss, "balanced_weights": balanced_weights,
    "lpips_from_features": lpips_from_features, "entropy_bits": entropy_bits, "half_sample_error": metrics.half_sample_error,
    "pooled_std": pooled_std, "score_at_hit": score_at_hit, "not_beaten": not_beaten,
    "guided": guided, "dreambooth_loss": dreambooth_loss_by_hand,
    "one_batch": one_batch, "recognised": recognised_by_hand,
}
__all__ = ["SOLUTIONS", "solution",
           "check_expected", "use",
           "adapt", "angle_kl", "angle_log_probs", "check_adapt", "check_angle_kl", "check_angle_log_probs", "check_guess_points",
           "check_noise_points", "guess_points", "noise_points",
           "check_nearest", "check_predict_x0", "check_q_sample", "nearest",
           "check_ddim_step", "check_ema_update", "check_simple_loss", "ddim_step", "ema_update", "simple_loss",
           "check_copy_rate", "check_intra_lpips_by_hand", "intra_lpips_by_hand",
           "authors_weight", "check_authors_weight", "check_pairwise_kl", "check_pairwise_log_probs",
           "check_haar", "check_inverse_haar", "check_weighted_hf_mse", "weighted_hf_mse",
           "balanced_weights", "check_balanced_weights", "check_total_loss", "total_loss",
           "check_entropy_bits", "check_half_sample_error", "check_lpips_from_features", "entropy_bits", "lpips_from_features",
           "check_not_beaten", "check_pooled_std", "check_score_at_hit", "not_beaten", "pooled_std", "score_at_hit",
           "check_dreambooth_loss", "check_guided", "dreambooth_loss_by_hand", "guided",
           "check_one_batch", "check_recognised", "one_batch", "recognised_by_hand"]


def solution(name: str) -> None:
    """Print the reference's own source: what the checks compare with."""
    name = {"haar_step": "haar"}.get(name, name)                  # its self-check has the name of the function to write
    if name not in SOLUTIONS:
        near = difflib.get_close_matches(name, SOLUTIONS, n=1)
        print(f"no exercise {name!r}: {f'did you mean {near[0]!r}? ' if near else ''}known are {', '.join(SOLUTIONS)}")
        return
    print(inspect.getsource(SOLUTIONS[name]))
