"""What of a U-Net is trained: all of it, its first and last layers, or low-rank matrices beside its weights (rivals, chapter 08)."""

import copy

import torch

from .errors import UserError

PARTS = ("all", "ends")
ENDS = ("conv_in.", "conv_norm_out.", "conv_out.")


def trainable(unet: torch.nn.Module, parts: str = "all", lora_rank: int = 0, seed: int = 0) -> torch.nn.Module:
    """A copy of the network of which ``parts`` take gradients; the original is left untouched.

    ``all``: full fine-tuning. ``ends``: the first and last convolution and the last norm, nothing between ("curse of
    dimensionality", NeurIPS 2024, at 64 px). lora_rank above 0: every convolution and linear layer W of the blocks is frozen and
    gets B·A of that rank beside it (Hu et al. 2022), through peft; B starts at zero. Raises UserError for both at once.
    """
    if lora_rank and parts != "all":
        raise UserError(f"--lora_rank {lora_rank} and --trained_parts {parts} exclude each other: use one of them")
    unet = copy.deepcopy(unet).requires_grad_(parts == "all" and not lora_rank)
    if parts == "ends":
        for name, weight in unet.named_parameters():
            weight.requires_grad_(name.startswith(ENDS))
    if lora_rank:
        add_lora(unet, lora_rank, seed)
    return unet


def add_lora(unet: torch.nn.Module, rank: int, seed: int = 0) -> None:
    """Low-rank matrices beside every convolution and linear layer inside the blocks, in place."""
    from peft import LoraConfig, inject_adapter_in_model
    inside = [name for name, layer in unet.named_modules()
              if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)) and name.startswith(("down_blocks.", "up_blocks.", "mid_block."))]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=inside), unet)


def merged(unet: torch.nn.Module) -> torch.nn.Module:
    """The network with the matrices of :func:`add_lora` added to its weights and gone, in place: an ordinary U-Net again.

    One with diffusers' own adapters, as text-to-image trains them, is left as it is.
    """
    if getattr(unet, "_hf_peft_config_loaded", False):
        return unet
    for name, layer in list(unet.named_modules()):
        if hasattr(layer, "base_layer"):
            layer.merge()
            unet.set_submodule(name, layer.get_base_layer())
    if hasattr(unet, "peft_config"):
        del unet.peft_config
    return unet


def share_trained(unet: torch.nn.Module) -> float:
    """Share of the numbers in the network that take gradients, in [0,1]."""
    sizes = [(p.numel(), p.requires_grad) for p in unet.parameters()]
    return sum(n for n, trained in sizes if trained) / sum(n for n, _ in sizes)
