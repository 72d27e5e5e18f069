"""Numbers that are none: the first NaN or infinity is named, with the step, the term and a likely cause."""

from collections.abc import Iterable, Mapping
from dataclasses import fields

import torch
from torch import Tensor

from .errors import UserError


def is_finite(tensor: Tensor) -> bool:
    """Whether every number of a tensor is one; one on the meta device, where a wrong kind of network may be opened, has none."""
    return not tensor.is_floating_point() or tensor.is_meta or bool(tensor.isfinite().all())


def first_broken(tensors: Iterable[tuple[str, Tensor]] | Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity."""
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    return next((name for name, tensor in pairs if not is_finite(tensor)), None)


@torch.no_grad()
def check_start(model: torch.nn.Module, images: Tensor) -> None:
    """Raise a UserError where the weights to start from, or the images or latents (n,C,h,w), hold NaN or infinity."""
    if name := first_broken(model.named_parameters()):
        raise UserError(f"the weights to start from hold NaN or infinity ({name}): take another source, or save this one again")
    if not is_finite(images):
        raise UserError("the images hold NaN or infinity (or the latents that the source makes of them): read them again, or take "
                        "another source")


def check_loss(step: int, loss: Tensor, terms: Mapping[str, Tensor], config) -> None:
    """Raise a UserError where the loss (0-dim) of a step is no number. One look at one number while all is well."""
    if bool(loss.detach().isfinite()):
        return
    broken = [f"{name} is {value.item():.3g}" for name, value in terms.items() if not is_finite(value.detach())]
    what = ", ".join(broken) or f"the weighted sum is {loss.item():.3g}"
    raise UserError(f"step {step}: the loss is no finite number ({what}); {likely_cause(config)}{kept(config)}")


@torch.no_grad()
def check_weights(step: int, model: torch.nn.Module, config) -> None:
    """Raise a UserError where a step left NaN or infinity in a weight: such a model is neither saved nor drawn with."""
    if name := first_broken(model.named_parameters()):
        raise UserError(f"step {step}: the weights are no finite numbers any more ({name}); {likely_cause(config)}{kept(config)}")


def check_drawn(images: Tensor, what: str = "the model") -> Tensor:
    """The images themselves; a UserError where a model has drawn NaN or infinity."""
    if not is_finite(images):
        raise UserError(f"{what} draws NaN or infinity instead of pictures: its weights are broken or overflow; take an earlier "
                        "checkpoint, or another model")
    return images


def kept(config) -> str:
    """What is left after a training has failed."""
    return f"; the checkpoints in {config.output_dir}, if any, are from before" if config.output_dir else ""


def likely_cause(config) -> str:
    """A setting that explains numbers growing without bound, and its mend."""
    if config.mixed_precision == "fp16":
        return "fp16 ends at 65504: use --mixed_precision bf16 or no"
    if config.learning_rate > 0.05:
        return f"--learning_rate {config.learning_rate:g} is a likely cause: try 5e-4"
    for f in fields(config):
        value, usual = getattr(config, f.name), f.default
        if f.metadata["kind"] is float and isinstance(value, float) and isinstance(usual, float) and f.name != "learning_rate":
            if value > 100 * max(usual, 1.0):
                return f"--{f.name} {value:g} is a likely cause: the default is {usual:g}"
            if f.name == "pairwise_temperature" and value < 1e-3:
                return f"--{f.name} {value:g} is a likely cause: the default is {usual:g}"
    return f"a likely cause is --learning_rate {config.learning_rate:g}: try a tenth of it"
