"""The chapters' door to every slider: ``widgets.explore_forward``, ``widgets.explore_ablations`` … One redraw function each.

:func:`explore` of :mod:`.explorer` makes any figure a slider's; what is drawn is in :mod:`.sliders_of_models` and :mod:`.sliders_of_runs`.
"""

from .explorer import explore
from .sliders_of_models import (
    GUESS,
    bands_figure,
    chain_figure,
    explore_bands,
    explore_chain,
    explore_forward,
    explore_guidance,
    explore_prompts,
    explore_similarity,
    explore_weights,
    forward_figure,
    guidance_figure,
    prompts_figure,
    similarity_figure,
    weights_figure,
)
from .sliders_of_runs import (
    METRICS,
    ablation_figure,
    along,
    crowds_figure,
    explore_ablations,
    explore_crowds,
    explore_memorisation,
    explore_mixture,
    explore_weight,
    explore_wish,
    grid_for_the_page,
    memorisation_figure,
    mixture_counts,
    mixture_figure,
    weight_figure,
    wish_figure,
)

__all__ = ["GUESS", "METRICS", "ablation_figure", "along", "bands_figure", "chain_figure", "crowds_figure", "explore",
           "explore_ablations", "explore_bands", "explore_chain", "explore_crowds", "explore_forward", "explore_guidance",
           "explore_memorisation", "explore_mixture", "explore_prompts", "explore_similarity", "explore_weight",
           "explore_weights", "explore_wish", "forward_figure", "grid_for_the_page", "guidance_figure", "memorisation_figure",
           "mixture_counts", "mixture_figure", "prompts_figure", "similarity_figure", "weight_figure", "weights_figure",
           "wish_figure"]
