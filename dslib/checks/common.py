"""What every self-check shares: call the reader's function, name the mistake, print one line."""

import functools
import json
from numbers import Real

import torch
from torch import Tensor, nn

from .. import ddpm
from ..base.files import data_dir
from . import limits
from .limits import NoNetwork, OutOfTime, limited, offline


def attempt(fn, *args) -> tuple[object, str | None]:
    """Call the reader's function, for a while and offline: (result, None), or (None, what went wrong) in one line."""
    try:
        with limited(limits.SECONDS), offline():
            result = fn(*args)
    except OutOfTime:
        return None, f"it does not end: stopped after {limits.SECONDS:.0f} s. Is there a loop whose condition never changes?"
    except NoNetwork:
        return None, "it asks for the network: all that it needs is in its arguments"
    except SystemExit:
        return None, "it calls exit(): return the answer instead"
    except Exception as error:                            # whatever the reader's code raises is a finding, not a crash
        return None, f"it raised {type(error).__name__}: {error}"
    return (result, None) if result is not None else (None, "it returns None: nothing written yet?")


def attempt_twice(call) -> tuple[object, str | None]:
    """Call a function of no arguments twice: (result, None), or (None, what went wrong), dice included."""
    with torch.random.fork_rng(devices=[]):
        (first, problem), (second, _) = attempt(call), attempt(call)
    if isinstance(first, Tensor) and isinstance(second, Tensor) and not torch.equal(first.nan_to_num(), second.nan_to_num()):
        return None, "two calls with the same arguments differ: it draws noise of its own; use the eps it is given"
    return first, problem


def diagnose(got, want: Tensor, mistakes: dict[str, Tensor]) -> str | None:
    """Compare an answer with the reference, then with what typical mistakes give. None if it is right."""
    if not isinstance(got, Tensor):
        return f"it returns a {type(got).__name__}, expected a tensor"
    if tuple(got.shape) != tuple(want.shape):
        return f"the shape is {tuple(got.shape)}, expected {tuple(want.shape)}"
    if not got.is_floating_point():
        return f"the dtype is {got.dtype}, expected a floating-point tensor"
    if not torch.isfinite(got).all():
        return "there are NaN or infinite values: is something divided by zero, or a root or a logarithm taken of a " \
               "negative number? (F.kl_div wants log_target=True when both arguments are logarithms)"
    if torch.allclose(got.to(want), want, rtol=1e-4, atol=1e-5):
        return None
    for words, wrong in mistakes.items():
        if torch.allclose(got.to(want), wrong, rtol=1e-4, atol=1e-5):
            return words
    return f"the values differ by up to {float((got.to(want) - want).abs().max()):.3g} from the reference"


def diagnose_gradient(loss: Tensor, adapted: Tensor, source: Tensor, wanted: Tensor) -> str | None:
    """Does the loss teach the adapted model, and leave the source alone?"""
    if not loss.requires_grad:
        return "the value is right but no gradient flows: is something detached, or inside no_grad, that must learn?"
    loss.backward()
    if source.grad is not None and float(source.grad.abs().max()) > 0:
        return "the value is right but a gradient flows into the source: detach it, the source is the fixed reference"
    if adapted.grad is None:
        return "the value is right but the adapted images get no gradient"
    if not torch.allclose(adapted.grad, wanted, rtol=1e-3, atol=1e-6):
        return "the value is right but its gradient is not: nothing of the adapted images' distribution may be detached"
    return None


def report(name: str, fn, arguments: tuple, want: Tensor, mistakes: dict[str, Tensor]) -> bool:
    """Run, diagnose, print one line."""
    got, problem = attempt(fn, *(a.clone() for a in arguments))
    return conclude(name, problem or diagnose(got, want, mistakes))


def conclude(name: str, problem: str | None) -> bool:
    """Print one line; True if there is no problem."""
    print(f"✗ {name}: {problem}" if problem else f"✓ {name}: all checks passed")
    return problem is None


def guarded(student, reference, from_file: bool = False):
    """The reader's function, watched: where it fails later, one line says how, and from then on the reference answers.

    Failing: an exception, None, or another shape, dtype, device or other values than the reference on arguments of a
    new kind. Compared are numbers and tensors, alone or in tuples, lists and dicts; networks are taken as they are.
    """
    known, broken = set(), []

    @functools.wraps(student)
    def answer(*args, **kwargs):
        if broken:
            return reference(*args, **kwargs)
        got, problem = called(student, args, kwargs)
        kind = tuple(kind_of(a) for a in (*args, *kwargs.values()))
        if problem is None and kind not in known and not isinstance(got, nn.Module):
            with torch.no_grad():
                problem = unlike(got, reference(*args, **kwargs))
            known.add(kind)
        if problem:
            broken.append(problem)
            print(f"✗ your {student.__name__} passed its check, but here {problem[:200]}. Going on with the library's "
                  f"{getattr(reference, '__name__', 'own')}")
            return reference(*args, **kwargs)
        return got
    answer.student, answer.reference, answer.from_file = student, reference, from_file
    return answer


def called(fn, args: tuple, kwargs: dict) -> tuple[object, str | None]:
    """As :func:`attempt`, without its limits: this is the reader's function at work, perhaps for minutes."""
    try:
        result = fn(*args, **kwargs)
    except Exception as error:
        return None, f"it raised {type(error).__name__}: {error}"
    return result, "it returns None" if result is None else None


def kind_of(value) -> tuple:
    """What may trip a function that was right on other arguments: of a tensor shape, dtype and device."""
    return (tuple(value.shape), value.dtype, value.device) if isinstance(value, Tensor) else (type(value),)


def tensors_of(value) -> dict[str, Tensor]:
    """The numbers and tensors of an answer by place: "" for one alone, else its key or number."""
    alone = as_number(value)
    if isinstance(alone, Tensor):
        return {"": alone}
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (tuple, list)) else ()
    return {f" of {place}": as_number(one) for place, one in places if isinstance(as_number(one), Tensor)}


def unlike(got, want) -> str | None:
    """How an answer differs from the reference's, in words that follow "here"; None if it does not."""
    mine, theirs = tensors_of(got), tensors_of(want)
    if mine.keys() != theirs.keys():
        return f"it returns {len(mine)} tensors, expected {len(theirs)}"
    for place, wanted in theirs.items():
        if problem := unlike_tensor(mine[place], wanted, place):
            return problem
    return None


def unlike_tensor(got: Tensor, want: Tensor, place: str) -> str | None:
    """:func:`unlike` for one tensor of an answer."""
    for what in ("shape", "dtype", "device"):
        mine, theirs = getattr(got, what), getattr(want, what)
        if mine != theirs:
            mine, theirs = (tuple(mine), tuple(theirs)) if what == "shape" else (mine, theirs)
            return f"the {what}{place} is {mine}, expected {theirs}"
    got, want = (x.detach().double() for x in (got, want))
    if not torch.allclose(got, want, rtol=1e-3, atol=1e-4, equal_nan=True):
        return f"the values{place} differ by up to {float((got - want).abs().max()):.3g}"
    return None


def as_number(got) -> object:
    """A Python, NumPy or one-element tensor number as a 0-dim float tensor; anything else as it is, for ``diagnose``."""
    try:
        return torch.tensor(float(got)) if isinstance(got, Real) or getattr(got, "shape", None) == () else got
    except (TypeError, ValueError, RuntimeError):
        return got


def stacked(results: list) -> object:
    """Tensors of one shape as one tensor; anything else as the first of it, for ``diagnose`` to name."""
    alike = all(isinstance(r, Tensor) and r.shape == results[0].shape for r in results)
    return torch.stack(results) if alike else results[0]


def noise_case() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Four small images at four steps: (x_0, t, eps, alphas_cumprod, ᾱ shaped (4,1,1,1))."""
    generator = torch.Generator().manual_seed(1)
    x_0, eps = torch.rand(4, 3, 4, 4, generator=generator) * 2 - 1, torch.randn(4, 3, 4, 4, generator=generator)
    t, schedule = torch.tensor([3, 120, 480, 800]), ddpm.alphas_cumprod(ddpm.linear_betas())
    return x_0, t, eps, schedule, schedule[t].view(-1, 1, 1, 1)


def check_expected(chapter: str, runtime, **measured: float | None) -> bool:
    """Compare what a chapter measured with ``data/expected/<chapter>.json``; prints one line a value, never raises.

    The file holds ``{"seconds": {tier: s}, "values": {name: {tier: [value, tolerance]}}}``, and ``{"seeds": {tier: {name: {seed:
    value}}}}`` of further training seeds, if there are any; True if nothing is off.
    """
    path, fine = data_dir() / "expected" / f"{chapter}.json", True
    try:
        content = json.loads(path.read_text("utf-8"))
        known, seeds = content["values"], content.get("seeds", {}).get(runtime.tier, {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        print(f"– nothing to compare with: data/expected/{path.name} is missing or damaged")
        known, seeds, fine = {}, {}, False
    for name, value in measured.items():
        if value is None:
            print(f"– {name}: could not be measured (too few images?)")
            continue
        if runtime.tier not in known.get(name, {}):
            print(f"– {name}: {value:.3g} (nothing recorded for tier {runtime.tier})")
            continue
        want, tolerance = known[name][runtime.tier]
        near = abs(value - want) <= tolerance                # False for NaN
        others = "; other seeds " * (name in seeds) + ", ".join(f"{other:.3g}" for other in seeds.get(name, {}).values())
        print(f"{'✓' if near else '✗'} {name}: {value:.3g}, expected {want:.3g} ± {tolerance:.2g}{others}")
        fine = fine and near
    return fine
