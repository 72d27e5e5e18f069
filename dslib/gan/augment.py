"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738): the same kind of change to real and drawn images, through which the generator's
gradient flows. Ranges and order are those of the paper; the random numbers are drawn before, so that a step can be repeated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.errors import UserError

POLICY = "color,translation,cutout"


def words(policy: str) -> list[str]:
    """The augmentations of ``--diffaugment``, ``none`` for no one. Raises UserError for an unknown word."""
    asked = [word.strip() for word in policy.split(",")] if policy != "none" else []
    for word in asked:
        if word not in POLICY.split(","):
            raise UserError(f"--diffaugment is {policy!r}: use none, or some of {POLICY}, between commas")
    return asked


def draw(n: int, resolution: int, policy: str, generator: torch.Generator) -> dict[str, Tensor]:
    """The random numbers for n images, each (n,) or (n,2), by name: what :func:`augment` is told to do."""
    found, asked, device = {}, words(policy), generator.device
    if "color" in asked:
        found["color"] = torch.rand(n, 3, generator=generator, device=device)
    if "translation" in asked:
        most = resolution // 8
        found["translation"] = torch.randint(-most, most + 1, (n, 2), generator=generator, device=device)
    if "cutout" in asked:
        found["cutout"] = torch.randint(0, resolution + 1, (n, 2), generator=generator, device=device)
    return found


def augment(x: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """Images (N,3,R,R) as :func:`draw` says; without anything drawn x itself."""
    for name, function in {"color": colour, "translation": translate, "cutout": cut_out}.items():
        if name in drawn:
            x = function(x, drawn[name])
    return x


def colour(x: Tensor, u: Tensor) -> Tensor:
    """Brightness + (u_0 − ½), saturation × 2u_1 about the pixel's grey, contrast × (½ + u_2) about the image's mean; u: (N,3) in [0,1]."""
    brightness, saturation, contrast = (one.view(-1, 1, 1, 1) for one in u.to(x).unbind(1))
    x = x + brightness - 0.5
    x = torch.lerp(x.mean(1, keepdim=True), x, 2 * saturation)
    return torch.lerp(x.mean((1, 2, 3), keepdim=True), x, 0.5 + contrast)


def translate(x: Tensor, shift: Tensor) -> Tensor:
    """Image i moves down by shift_i0 and right by shift_i1 pixels, (N,2) integers; zeros (grey) come in."""
    n, channels, size, _ = x.shape
    padded = F.pad(x, (1, 1, 1, 1))                                                      # index 0 and size + 1 are outside
    rows, columns = ((torch.arange(size, device=x.device) - shift[:, i, None] + 1).clamp(0, size + 1) for i in (0, 1))    # (N,R)
    padded = padded.gather(2, rows[:, None, :, None].expand(n, channels, size, size + 2))
    return padded.gather(3, columns[:, None, None, :].expand(n, channels, size, size))


def cut_out(x: Tensor, centre: Tensor) -> Tensor:
    """A square of half the image's side about centre_i, (N,2) in [0,R], is set to zero (grey)."""
    size = x.shape[-1]
    inside = ((torch.arange(size, device=x.device) - centre[:, :, None] + 0.5).abs() < size / 4)      # (N,2,R)
    return x * ~(inside[:, 0, None, :, None] & inside[:, 1, None, None, :])
