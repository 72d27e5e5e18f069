"""Self-checks of chapter 03: Intra-LPIPS and the share of copies."""

import torch
from torch import Tensor

from .common import as_number, attempt, conclude, diagnose


def intra_lpips_by_hand(distances_to_targets: Tensor, distances_within: Tensor) -> float:
    """Each sample joins its nearest target; mean distance of two samples inside each group, then over the groups.

    distances_to_targets: samples to training images (N,K); distances_within: samples to samples (N,N), zero diagonal.
    Groups with fewer than two samples have no pair and are left out.
    """
    nearest = distances_to_targets.argmin(dim=1)
    groups = []
    for k in nearest.unique():
        member = nearest == k
        n = int(member.sum())
        if n > 1:
            groups.append(distances_within[member][:, member].sum() / (n * (n - 1)))
    return float(torch.stack(groups).mean())


def grouped_case() -> tuple[Tensor, Tensor]:
    """Ten samples, seven targets: groups of 4, 3, 2 and 1 samples, three targets without any. (10,7), (10,10)."""
    generator = torch.Generator().manual_seed(7)
    to_targets = 0.5 + 0.3 * torch.rand(10, 7, generator=generator)
    to_targets[torch.arange(10), torch.tensor([3, 0, 3, 4, 3, 0, 3, 5, 5, 5])] = 0.2 + 0.1 * torch.rand(10, generator=generator)
    upper = (0.1 + 0.5 * torch.rand(10, 10, generator=generator)).triu(1)
    return to_targets, upper + upper.T


def check_intra_lpips_by_hand(fn) -> bool:
    """Try the reader's Intra-LPIPS; print ✓ or a diagnosis. True if all is well."""
    to_targets, within = grouped_case()
    nearest = to_targets.argmin(1)
    blocks = [within[nearest == k][:, nearest == k] for k in nearest.unique()]
    totals = torch.tensor([float(block.sum()) for block in blocks])
    n = torch.tensor([float(len(block)) for block in blocks])
    pairs, many = n * (n - 1), n > 1
    inside = totals[many] / pairs[many]
    one = (nearest[:, None] == nearest[None]) & ~torch.eye(len(nearest), dtype=torch.bool)
    mistakes = {
        "the diagonal is in the mean: a sample's distance to itself is no pair, divide by n·(n−1), not by n²":
            (totals / n**2)[many].mean(),
        "the diagonal is in the mean, and a group of one counts as 0: divide by n·(n−1) and leave that group out":
            (totals / n**2).mean(),
        "this is the mean over all pairs: only samples with the same nearest target are compared":
            within.sum() / (len(within) * (len(within) - 1)),
        "a group of one sample counts as 0: it has no pair, leave it out": inside.sum() / len(blocks),
        "targets with fewer than two samples count as 0: they have no pair, leave them out": inside.sum() / to_targets.shape[1],
        "every pair counts alike: take the mean inside each group first, then over the groups, large or small": within[one].mean(),
        "each pair is summed once but n·(n−1) counts it twice: sum the whole block, or halve the number": inside.mean() / 2,
        "each pair is counted twice: there are n·(n−1)/2 pairs, but the whole block holds each of them twice": inside.mean() * 2,
        "the groups are summed: take the mean over them": inside.sum(),
        "samples were sent to the farthest target: argmin": wrong_groups(to_targets, within),
    }
    got, problem = attempt(fn, to_targets.clone(), within.clone())
    want = torch.tensor(intra_lpips_by_hand(to_targets, within))
    return conclude("intra_lpips_by_hand", problem or diagnose(as_number(got), want, mistakes))


def wrong_groups(to_targets: Tensor, within: Tensor) -> Tensor:
    """Intra-LPIPS with every sample in the group of the target farthest from it."""
    return torch.tensor(intra_lpips_by_hand(-to_targets, within))


def check_copy_rate(fn) -> bool:
    """Try the reader's ``copy_rate``, with the default percentile and another; print ✓ or a diagnosis."""
    real = (0.20 + 0.01 * torch.arange(41))[torch.randperm(41, generator=torch.Generator().manual_seed(8))]
    samples = torch.tensor([0.35, 0.02, 0.225, 0.65, 0.215, 0.42, 0.08, 0.5, 0.3, 0.45])
    mistakes = {words: torch.tensor(value) for words, value in {
        "the wrong side: this is the share of samples that are *farther* than the threshold": 0.7,
        "this is in per cent: return a share, from 0 to 1": 30.0,
        "this is how many: divide by the number of samples": 3.0,
        "the threshold is a percentile of the samples: it must come from the real images, which copy nothing": 0.1,
        "the arguments are swapped: this is the share of real images below a percentile of the samples": 0.0,
        "this is the 95th percentile: the threshold lies at the near end, 5 % of the real images are below it": 0.9,
        "the threshold lies below nearly all real images: is it percentile/100 twice, or their minimum?": 0.2,
        "the threshold is the middle of the real images: half of all honest pictures lie below that": 0.6,
    }.items()}
    got, problem = attempt(fn, samples.clone(), real.clone())
    if problem and "quantile" in problem:
        problem += ": torch.quantile takes a share, percentile / 100"
    problem = problem or diagnose(as_number(got), torch.tensor(0.3), mistakes)
    if problem is None:
        got, problem = attempt(fn, samples.clone(), real.clone(), 50)
        problem = problem or diagnose(as_number(got), torch.tensor(0.6), {"the argument percentile is not used": torch.tensor(0.3)})
        problem = problem and f"right for the default percentile, but not for another: {problem}"
    return conclude("copy_rate", problem)
