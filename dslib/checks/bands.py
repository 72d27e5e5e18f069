"""Self-checks of chapter 05: the Haar transform, its inverse, the weighted loss of the bands."""

import torch
from torch import Tensor

from .. import haar
from .common import attempt, conclude, diagnose, report


def weighted_hf_mse(adapted: Tensor, target: Tensor, alphas_cumprod_t: Tensor) -> Tensor:
    """mean ᾱ_t·(hf(x̃_0) − hf(x_0))², one weight an image: (N,C,H,W), (N,C,H,W), (N,) → scalar."""
    error = haar.high_frequency(adapted) - haar.high_frequency(target)           # (N,C,H/2,W/2)
    return (alphas_cumprod_t.view(-1, 1, 1, 1) * error.square()).mean()


def check_haar(fn) -> bool:
    """Try the reader's ``haar``, x → (ll, lh, hl, hh); print ✓ or a diagnosis. True if all is well."""
    x = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(5))
    want = ll, lh, hl, hh = haar.dwt2(x)
    a, b, c, d = (quarter for half in x.chunk(2, dim=-2) for quarter in half.chunk(2, dim=-1))
    mistakes = {
        "lh and hl are swapped: the first letter filters along the height, the second along the width": (ll, hl, lh, hh),
        "these are PyWavelets' cA, cH, cV, cD: its cH is −hl and its cV is −lh": (ll, -hl, -lh, hh),
        "lh and hl have the wrong sign: H = (−1, 1) takes the earlier pixel from the later one": (ll, -lh, -hl, hh),
        "hh has the wrong sign: the two minus signs of H cancel at the top left, (a − b − c + d)/2": (ll, lh, hl, -hh),
        "the ½ is missing: 1/√2 along the height times 1/√2 along the width": (2 * ll, 2 * lh, 2 * hl, 2 * hh),
        "divided by 4: the energy is kept when the sums are halved": (ll / 2, lh / 2, hl / 2, hh / 2),
        "ll is the mean of the block, but the other bands are halved: halve the sum there too": (ll / 2, lh, hl, hh),
        "divided by √2 only once: there is one 1/√2 for the height and one for the width": tuple(2 ** 0.5 * band for band in want),
        "the picture was cut into quarters: a is x[..., 0::2, 0::2], every second pixel of every second row":
            ((a + b + c + d) / 2, (-a + b - c + d) / 2, (-a - b + c + d) / 2, (a - b - c + d) / 2),
    }
    got, problem = attempt(fn, x.clone())
    problem = problem or misshapen_bands(got, tuple(ll.shape))
    return conclude("haar", problem or diagnose(torch.stack(tuple(got)), torch.stack(want),
                                                {words: torch.stack(wrong) for words, wrong in mistakes.items()}))


def misshapen_bands(got, shape: tuple[int, ...]) -> str | None:
    """What keeps an answer from being four bands of a shape, or None."""
    if isinstance(got, Tensor):
        return "it returns one tensor: return the four bands, return ll, lh, hl, hh"
    if not isinstance(got, (tuple, list)) or len(got) != 4:
        found = f"{len(got)} values" if isinstance(got, (tuple, list)) else f"a {type(got).__name__}"
        return f"it returns {found}, expected the four bands ll, lh, hl, hh (PyWavelets nests them: cA, (cH, cV, cD))"
    for name, band in zip(("ll", "lh", "hl", "hh"), got):
        if not isinstance(band, Tensor):
            return f"{name} is a {type(band).__name__}, expected a tensor"
        if tuple(band.shape) != shape:
            return f"{name} has the shape {tuple(band.shape)}, expected {shape}: half the height and half the width"
    return None


def check_inverse_haar(fn) -> bool:
    """Try the reader's ``inverse_haar``, (ll, lh, hl, hh) → x; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(6)
    ll, lh, hl, hh = (torch.randn(2, 3, 2, 4, generator=generator) for _ in range(4))
    none, want = torch.zeros_like(ll), haar.idwt2(ll, lh, hl, hh)
    mistakes = {
        "lh and hl are swapped: lh turns its sign from left to right, hl from top to bottom": haar.idwt2(ll, hl, lh, hh),
        "lh and hl have the wrong sign: with H = (−1, 1), lh is added on the right and taken away on the left":
            haar.idwt2(ll, -lh, -hl, hh),
        "hh has the wrong sign: it is added on the main diagonal, at a and d": haar.idwt2(ll, lh, hl, -hh),
        "the ½ is missing: the transform is orthonormal, so its inverse has the same factor": 2 * want,
        "divided by 4: the transform halved, the inverse halves again, and that is all": want / 2,
        "only ll was used: the picture without its detail": haar.idwt2(ll, none, none, none),
        "ll was left out: the detail without the picture": haar.idwt2(none, lh, hl, hh),
        "the bands lie side by side: their values must be mixed, then interleaved, x[..., 0::2, 0::2] = (ll − lh − hl + hh) / 2":
            torch.cat([torch.cat([ll, lh], dim=-1), torch.cat([hl, hh], dim=-1)], dim=-2),
    }
    return report("inverse_haar", fn, (ll, lh, hl, hh), want, mistakes)


def check_weighted_hf_mse(fn) -> bool:
    """Try the reader's ``weighted_hf_mse``; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(7)
    adapted, target = (torch.randn(4, 3, 8, 8, generator=generator) for _ in range(2))
    a = torch.tensor([0.9, 0.5, 0.2, 0.01])
    error = haar.high_frequency(adapted) - haar.high_frequency(target)           # (4,3,4,4)
    square, column = error.square(), a.view(-1, 1, 1, 1)
    bands = torch.stack(haar.dwt2(adapted - target))                              # (4 bands,4,3,4,4)
    mistakes = {
        "the weight is not used": square.mean(),
        "one weight for the whole batch: weigh each image's error first, then take the mean": a.mean() * square.mean(),
        "the weight ran along the width: give it the shape (N,1,1,1) with .view(-1, 1, 1, 1)": (a * square).mean(),
        "every image got the first image's weight": a[0] * square.mean(),
        "the mean is missing: this is the sum over everything": (column * square).sum(),
        "the mean over the images is missing: each image's mean error was added up": (column * square).mean(dim=(1, 2, 3)).sum(),
        "divided by the sum of the weights: then steps near T weigh as much as before": (column * square).mean() / a.mean(),
        "the weight is squared with the error: weigh the square": (column * error).square().mean(),
        "this is the square root of ᾱ_t: the weight is ᾱ_t itself": (column.sqrt() * square).mean(),
        "this is 1 − ᾱ_t: it would raise the steps near T instead": ((1 - column) * square).mean(),
        "these are absolute errors: square them": (column * error.abs()).mean(),
        "these are pixels: take hf(x) = LH + HL + HH of both first": (column * (adapted - target).square()).mean(),
        "LL is in the sum too: hf(x) is LH + HL + HH": (column * bands.sum(0).square()).mean(),
        "this is LL: hf(x) is LH + HL + HH": (column * bands[0].square()).mean(),
        "the three bands are squared one by one: the loss squares their sum, hf(x) = LH + HL + HH":
            (column * bands[1:].square()).mean(),
        "the three squared bands are added: the loss squares their sum, hf(x) = LH + HL + HH":
            (column * bands[1:].square().sum(0)).mean(),
    }
    return report("weighted_hf_mse", fn, (adapted, target, a), weighted_hf_mse(adapted, target, a), mistakes)
