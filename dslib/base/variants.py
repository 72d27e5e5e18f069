"""What the pairwise losses may compare instead of pixels and Haar detail: the ablations' other choices (chapter 08)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .backbone import load_backbone

SPACES = ("pixels", "centred", "features")
DETAILS = ("haar", "stacked", "haar_level_2", "db2", "pixels")


def space(x: Tensor, name: str = "pixels") -> Tensor:
    """What L_img compares: images (N,C,H,W) → (N,…), on which the cosines are taken.

    ``pixels``: x itself (paper); ``centred``: without the batch's mean image, which all images share and which pushes
    every cosine towards 1; ``features``: pooled activations of ST-AlexNet, centred too (they are all positive).
    """
    if name == "features":
        net = load_backbone("st-alex", str(x.device))
        layers = net.net.forward(net.scaling_layer(x))
        x = torch.cat([F.normalize(layer, dim=1, eps=1e-10).mean(dim=(2, 3)) for layer in layers], dim=1)
    return x if name == "pixels" else x - x.mean(dim=0, keepdim=True)


def detail(x: Tensor, name: str, haar) -> Tensor:
    """What L_hf and L_hfmse look at: images (N,C,H,W) → (N,C',H',W'). haar: the module :mod:`dslib.haar`, which base/ does not import.

    ``haar``: LH + HL + HH (paper); ``stacked``: the three bands side by side, 3C channels; ``haar_level_2``: detail of the
    half-size picture; ``db2``: a longer wavelet's bands, summed; ``pixels``: no transform, the control.
    """
    if name == "stacked":
        return torch.cat(haar.dwt2(x)[1:], dim=1)
    if name == "haar_level_2":
        x = haar.dwt2(x)[0] / 2
    if name == "db2":
        return wavelet_high_frequency(x, "db2")
    return x if name == "pixels" else haar.high_frequency(x)


def wavelet_high_frequency(x: Tensor, wavelet: str) -> Tensor:
    """LH + HL + HH of any orthogonal wavelet that PyWavelets knows, signed as ours, periodic borders: (N,C,H,W) → (N,C,H/2,W/2)."""
    import pywt
    low, high = (torch.tensor(taps[::-1], dtype=x.dtype, device=x.device) for taps in pywt.Wavelet(wavelet).filter_bank[:2])
    kernel = sum(torch.outer(a, b) for a, b in ((low, -high), (-high, low), (high, high)))
    n, size = x.shape[1], len(low)
    padded = F.pad(x, (size // 2 - 1,) * 4, mode="circular")
    return F.conv2d(padded, kernel.expand(n, 1, size, size), stride=2, groups=n)
