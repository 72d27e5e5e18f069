"""Self-checks for the exercises: they say what is wrong, they never raise, and tests run them too.

A module a chapter. ``checks.mine("x")`` tries the reader's x, keeps it in ``my_domainstudio.py`` and gives it back, or the
library's; ``checks.check_x(fn)`` only tries; ``checks.solution("x")`` prints the reference. ``python -m dslib.checks FILE`` grades."""

from .ablating import check_not_beaten, check_pooled_std, check_score_at_hit, not_beaten, pooled_std, score_at_hit
from .adversarial import cdc_loss, check_cdc_loss, check_players_losses, players_losses
from .bands import check_haar, check_inverse_haar, check_weighted_hf_mse, weighted_hf_mse
from .cheaper import check_dual_step, check_gradient_in_parts, gradient_in_parts
from .common import check_expected, guarded
from .copying import check_copy_rate, check_intra_lpips_by_hand, intra_lpips_by_hand
from .exercises import CHAPTERS, SOLUTIONS, solution
from .forward import check_nearest, check_predict_x0, check_q_sample, nearest
from .leaking import check_auc, check_caught
from .measuring import check_entropy_bits, check_half_sample_error, check_lpips_from_features, entropy_bits, lpips_from_features
from .mine import mine
from .objective import balanced_weights, check_balanced_weights, check_terms_of, check_total_loss, terms_of, total_loss
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
from .training import (
    check_ddim_step,
    check_ddpm_step,
    check_ema_update,
    check_simple_loss,
    check_train_loop,
    ddim_step,
    ddpm_step,
    ema_update,
    simple_loss,
    train_loop,
)
from .wishing import check_flicker, check_push

__all__ = ["CHAPTERS", "SOLUTIONS", "solution", "mine", "guarded", "check_expected",
           "adapt", "angle_kl", "angle_log_probs", "check_adapt", "check_angle_kl", "check_angle_log_probs", "check_guess_points",
           "check_noise_points", "guess_points", "noise_points",
           "check_nearest", "check_predict_x0", "check_q_sample", "nearest",
           "check_ddim_step", "check_ema_update", "check_simple_loss", "ddim_step", "ema_update", "simple_loss",
           "check_ddpm_step", "check_train_loop", "ddpm_step", "train_loop", "check_terms_of", "terms_of",
           "check_copy_rate", "check_intra_lpips_by_hand", "intra_lpips_by_hand",
           "authors_weight", "check_authors_weight", "check_pairwise_kl", "check_pairwise_log_probs",
           "check_haar", "check_inverse_haar", "check_weighted_hf_mse", "weighted_hf_mse",
           "balanced_weights", "check_balanced_weights", "check_total_loss", "total_loss",
           "check_entropy_bits", "check_half_sample_error", "check_lpips_from_features", "entropy_bits", "lpips_from_features",
           "check_not_beaten", "check_pooled_std", "check_score_at_hit", "not_beaten", "pooled_std", "score_at_hit",
           "check_dreambooth_loss", "check_guided", "dreambooth_loss_by_hand", "guided",
           "check_one_batch", "check_recognised", "one_batch", "recognised_by_hand",
           "cdc_loss", "check_cdc_loss", "check_players_losses", "players_losses",
           "check_auc", "check_caught",
           "check_dual_step", "check_gradient_in_parts", "gradient_in_parts",
           "check_flicker", "check_push"]
