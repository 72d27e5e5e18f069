"""Self-checks of chapter 10: three prompts in one batch, and a person's share."""

import torch
from torch import Tensor

from .. import ddpm
from .common import as_number, attempt, conclude, diagnose, noise_case


def one_batch(z_0: Tensor, z_prior: Tensor, z_subject: Tensor, t: Tensor, eps: Tensor, texts: Tensor,
              alphas_cumprod: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a U-Net is given to learn style, class and person in one pass: x_t (3N,C,r,r), t (3N,), text (3N,L,width)."""
    n = len(z_0)
    x_t = torch.cat([ddpm.q_sample(z, t, eps, alphas_cumprod) for z in (z_0, z_prior, z_subject)])
    return x_t, t.repeat(3), texts.repeat_interleave(n, 0)


def recognised_by_hand(read: dict[str, list[str]], person: dict[str, str]) -> float:
    """The share of (picture, attribute) pairs in which the word read is the person's own."""
    right = [word == person[name] for name in person for word in read[name]]
    return sum(right) / len(right)


def check_one_batch(fn) -> bool:
    """Try the reader's batch of three; print ✓ or a diagnosis. True if all is well."""
    z_0, t, eps, schedule, _ = noise_case()
    parts, texts = [z_0, 0.5 * z_0.flip(0), -0.3 * z_0], torch.arange(18.0).view(3, 2, 3)
    want = one_batch(*parts, t, eps, texts, schedule)
    got, problem = attempt(fn, *(p.clone() for p in parts), t, eps, texts, schedule)
    if problem is None and not (isinstance(got, tuple) and len(got) == 3):
        problem = "return three tensors: x_t, t, text"
    problem = problem or batch_problem(got, want, parts, t, texts)
    return conclude("one_batch", problem)


def batch_problem(got: tuple, want: tuple, parts: list[Tensor], t: Tensor, texts: Tensor) -> str | None:
    """The first of the three that is wrong, and how."""
    x_t, steps, text = want
    swapped = x_t.view(3, 4, *x_t.shape[1:])
    latents = {"the latents are not noised: call ddpm.q_sample on each": torch.cat(parts),
               "the order is training, prior, subject, as in texts": swapped[[0, 2, 1]].flatten(0, 1),
               "one of each in turn: put all training latents first, then all prior ones, then the subject's":
                   swapped.transpose(0, 1).flatten(0, 1)}
    problem = diagnose(got[0], x_t, latents)
    if problem:
        return "x_t: " + problem
    steps_mistakes = {"every step three times in a row: latents come part by part, so the steps must repeat as a whole":
                      t.repeat_interleave(3).float()}
    problem = diagnose(got[1].float() if isinstance(got[1], Tensor) else got[1], steps.float(), steps_mistakes)
    if problem:
        return "t: " + problem
    texts_mistakes = {"the prompts take turns: the first N latents all have texts[0] (repeat_interleave)": texts.repeat(4, 1, 1),
                      "all have the training prompt": texts[:1].expand(12, -1, -1)}
    problem = diagnose(got[2], text, texts_mistakes)
    return problem and "text: " + problem


def check_recognised(fn) -> bool:
    """Try the reader's share; print ✓ or a diagnosis. True if all is well."""
    read = {"skin": ["dark", "dark", "pale", "dark"], "glasses": ["glasses", "none", "glasses", "none"],
            "background": ["blue", "red", "red", "blue"]}
    person = {"skin": "dark", "glasses": "glasses"}
    got, problem = attempt(fn, {name: list(words) for name, words in read.items()}, dict(person))
    mistakes = {"this counts pictures that show everything at once: count every attribute of every picture": 0.25,
                "this counts pictures that show anything of the person": 1.0,
                "this is the number, not the share": 5.0, "the background is not the person's: use the attributes in person": 5 / 12,
                "this is the share that differs": 3 / 8}
    mistakes = {words: torch.tensor(value) for words, value in mistakes.items()}
    return conclude("recognised", problem or diagnose(as_number(got), torch.tensor(recognised_by_hand(read, person)), mistakes))
