"""Self-checks of chapter 08: how far luck alone moves a run, what stopping early gives, and which settings nothing else beats."""


import torch
from torch import Tensor

from ..study.tables import pooled_std
from .common import as_number, attempt, conclude, diagnose


def not_beaten(losses: Tensor) -> Tensor:
    """Which settings no other one beats in every column: losses (P,M), lower is better → (P,) bool (the Pareto front).

    i is beaten by j if j is nowhere worse and somewhere better.
    """
    nowhere_worse = (losses[None] <= losses[:, None]).all(2)     # [i,j]: j is nowhere worse than i
    somewhere_better = (losses[None] < losses[:, None]).any(2)
    return ~(nowhere_worse & somewhere_better).any(1)


def score_at_hit(hits: list[float], scores: list[float], hit: float) -> float:
    """A run's score where its domain hit first reaches ``hit``, on a straight line between two of its stops.

    hits, scores: at each stop, in the order of training; the first stop is below ``hit``, some later one is not.
    """
    after = next(i for i, reached in enumerate(hits) if reached >= hit)
    share = (hit - hits[after - 1]) / (hits[after] - hits[after - 1])
    return scores[after - 1] + share * (scores[after] - scores[after - 1])


def check_pooled_std(fn) -> bool:
    """Try the reader's spread on groups of unlike means and sizes; print ✓ or a diagnosis. True if all is well."""
    groups = [[1.0, 1.2, 1.7], [5.0, 5.6], [3.0, 3.1, 3.3, 3.9]]
    everything = torch.tensor([value for group in groups for value in group])
    own = torch.cat([torch.tensor(group) - torch.tensor(group).mean() for group in groups])
    each = torch.stack([torch.tensor(group).std() for group in groups])
    mistakes = {"this is the spread about the mean of all: settings differ too, take each group's own mean": everything.std(),
                "this is the variance: the spread is its root": torch.tensor(pooled_std(groups)**2),
                "divided by the number of values: every group has used up one for its mean": own.square().mean().sqrt(),
                "divided by the number of values minus one: every group has used up one, not all of them together":
                    (own.square().sum() / (len(own) - 1)).sqrt(),
                "this is the mean of the groups' spreads: pool the squares, so that large groups count more": each.mean(),
                "the groups' variances are averaged alike: pool the squares, so that large groups count more": each.square().mean().sqrt(),
                "this is the spread of the means, which is what the settings do": torch.tensor(
                    [sum(group) / len(group) for group in groups]).std()}
    got, problem = attempt(fn, [list(group) for group in groups])
    return conclude("pooled_std", problem or diagnose(as_number(got), torch.tensor(pooled_std(groups)), mistakes))


def check_not_beaten(fn) -> bool:
    """Try the reader's front, with twins among the settings; print ✓ or a diagnosis. True if all is well."""
    losses = torch.tensor([[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [2.0, 3.0], [5.0, 5.0], [2.0, 2.0], [1.0, 5.0]])
    want = not_beaten(losses)
    strictly = ~(losses[None] < losses[:, None]).all(2).any(1)
    no_self = ~((losses[None] <= losses[:, None]).all(2) & ~torch.eye(len(losses), dtype=torch.bool)).any(1)
    mistakes = {"this is turned round: True is for those that nothing beats": ~want,
                "larger is not better here: these are losses": not_beaten(-losses),
                "a tie in one column does not protect: beaten means nowhere worse and somewhere better": strictly,
                "twins do not beat each other: the other must be better somewhere": no_self,
                "everything is beaten: does each setting beat itself?": torch.zeros(len(losses), dtype=torch.bool),
                "this is the best in some column: a setting that is best in none may still be unbeaten":
                    (losses == losses.min(0).values).any(1),
                "this is the smallest sum: there is more than one answer": losses.sum(1) == losses.sum(1).min()}
    got, problem = attempt(fn, losses.clone())
    if problem is None and isinstance(got, (list, tuple)) and len(got) == len(losses):
        got = torch.tensor(got)
    if problem is None and isinstance(got, Tensor) and got.shape == want.shape:
        got = got.float()
    return conclude("not_beaten", problem or diagnose(got, want.float(), {words: wrong.float() for words, wrong in mistakes.items()}))


def check_score_at_hit(fn) -> bool:
    """Try the reader's early stopping on a run whose hits fall once; print ✓ or a diagnosis. True if all is well."""
    hits, scores, hit = [0.1, 0.5, 0.8, 0.6, 0.9], [0.40, 0.34, 0.31, 0.28, 0.20], 0.62
    down = torch.tensor(hits).argsort().tolist()
    mistakes = {"this is the score of the stop after it: go only part of the way": 0.31,
                "this is the score of the stop before it: go part of the way": 0.34,
                "this is the stop whose hit is nearest, however late: take the first time that the hit is reached": 0.28,
                "the share is that of the other end: at the stop before, nothing of the way is done": 0.34 + 0.6 * (0.31 - 0.34),
                "this is the last time that the hit is reached: stop at the first":
                    score_at_hit(hits[3:], scores[3:], hit),
                "the stops were sorted by their hits: keep the order of training":
                    score_at_hit([hits[i] for i in down], [scores[i] for i in down], hit),
                "this is the end of the run: stop earlier": 0.20,
                "this is the hit: return the score there": hit}
    got, problem = attempt(fn, list(hits), list(scores), hit)
    wrong = {words: torch.tensor(value) for words, value in mistakes.items()}
    return conclude("score_at_hit", problem or diagnose(as_number(got), torch.tensor(score_at_hit(hits, scores, hit)), wrong))
