"""A frozen source that remembers its answers: what a sweep saves (chapter 08), and what a run with ``bank_steps`` saves (chapter 09)."""

import hashlib
from types import SimpleNamespace

from diffusers import UNet2DConditionModel, UNet2DModel
from torch import Tensor


class Bank:
    """Call it as the U-Net it wraps; a question it has answered before costs no second pass.

    The noise of a training step depends on its seed and number alone. So runs that share source, images and seed ask the
    same questions, whatever their weights λ: with one bank, ``train.adapt(…, frozen=bank)`` asks the source in the first
    run only, and the answers are the very same numbers. On the CPU a float32 answer takes as much room as its x_t: 0.5 MB
    for ten images of 64×64. ``asked`` and ``known`` count the U-Net's.
    """

    def __init__(self, unet: UNet2DModel | UNet2DConditionModel):
        self.unet, self.answers, self.asked, self.known = unet, {}, 0, 0

    def to(self, device) -> "Bank":
        self.unet.to(device)
        return self

    def __call__(self, *question: Tensor) -> SimpleNamespace:
        """x_t (N,C,H,W), t (N,) and, for a text-to-image model, text (N,L,width) → an object with ``sample`` (N,C,H,W), as U-Nets give."""
        def ask(*question):
            self.known += 1
            return self.unet(*question).sample
        self.asked += 1
        return SimpleNamespace(sample=self.remember("unet", ask, *question))

    def remember(self, name: str, function, *question: Tensor) -> Tensor:
        """``function(*question)``, a tensor; computed once for a name and the same numbers, then kept on the CPU."""
        key = hashlib.blake2b(name.encode())
        for tensor in question:
            key.update(tensor.detach().cpu().numpy().tobytes())
        key = key.digest()
        if key not in self.answers:
            self.answers[key] = function(*question).detach().cpu()
        return self.answers[key].to(question[0].device)
