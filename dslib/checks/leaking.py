"""Self-checks of chapter 12: can members be told from strangers, and can one be sure of any?"""

import torch
from torch import Tensor

from ..measure import membership
from .common import as_number, attempt, conclude, diagnose


def check_auc(fn) -> bool:
    """Try the reader's ``auc``; print ✓ or a diagnosis. True if all is well."""
    members, others = torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([2.0, 3.0, 4.0, 6.0, 7.0])
    got, problem = attempt(fn, members.clone(), others.clone())
    right = membership.auc(members, others)
    lower, ties = (members[:, None] < others).float(), (members[:, None] == others).float()
    mistakes = {"a tie counts nothing: it is half a pair": lower.mean(), "a tie counts a whole pair: it is half": (lower + ties).mean(),
                "this is 1 − AUC: a *low* error makes a member": torch.tensor(1 - right),
                "this is the number of pairs: divide by N·M": (lower + ties / 2).sum(),
                "this compares the means only: 0 or 1, whatever the spread": (members.mean() < others.mean()).float()}
    return conclude("auc", problem or diagnose(as_number(got), torch.tensor(right), mistakes))


def check_caught(fn) -> bool:
    """Try the reader's ``caught``; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(1)
    others = torch.randperm(200, generator=generator).float()
    members = torch.tensor([-1.0, 0.5, 1.5, 2.0, 2.5, 9.0, 9.5, 10.5, 199.2, 199.5])
    right = torch.tensor([membership.caught(members, others, share) for share in (0.01, 0.05)])
    ordered, answers, problem = others.sort().values, [], None
    for share in (0.01, 0.05):
        got, problem = (None, problem) if problem else attempt(fn, members.clone(), others.clone(), share)
        answers.append(as_number(got) if problem is None else None)
        if problem is None and not isinstance(answers[-1], Tensor):
            problem = f"it returns a {type(got).__name__}, expected a share between 0 and 1"
    mistakes = {
        "one stranger too few is allowed: with 200 and 1 % the threshold is the third smallest error, sorted[2]":
            torch.stack([(members < ordered[allowed - 1]).float().mean() for allowed in (2, 10)]),
        "false_alarms is not used: more of them allowed catch more": right[[0, 0]],
        "these are the strangers that are accused: return the share of members": torch.tensor([0.01, 0.05]),
        "this is the number of members: divide by N": right * len(members),
        "the threshold is of the members' own errors: it must be the strangers'": torch.stack(
            [(members < members.quantile(share)).float().mean() for share in (0.01, 0.05)]),
        "a high error is taken for a member: found is an error below the threshold": torch.stack(
            [(members > ordered[-allowed - 1]).float().mean() for allowed in (2, 10)]),
    }
    return conclude("caught", problem or diagnose(torch.stack([a.float().reshape(()) for a in answers]), right, mistakes))
