"""Which device computes, and which process writes: accelerate's answers, asked in one way. And what a step draws unseen."""

from contextlib import contextmanager


def processes():
    """Accelerate's view of this process: its device, how many share the work, and which one it is.

    Asked everywhere in the same way, because the first question decides: with ``ACCELERATE_USE_CPU`` it must be the CPU.
    """
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def main_process() -> bool:
    """True in the one process that writes; the others of an ``accelerate launch`` only train."""
    return processes().is_main_process


def device():
    """The torch device that accelerate chooses: CUDA, Apple's MPS or the CPU."""
    return processes().device


def device_name() -> str:
    """The device in words."""
    import torch
    return f"cuda ({torch.cuda.get_device_name(0)})" if device().type == "cuda" else device().type


def new_accelerator(mixed_precision: str, **tracking):
    """An Accelerator, with trackers if asked; accelerate keeps the first one's precision for good, which a notebook may
    want to change."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed_precision, **tracking)


def share_of(batch: int, accelerator) -> slice:
    """Which part of the batch is this process's."""
    each = batch // accelerator.num_processes
    return slice(accelerator.process_index * each, (accelerator.process_index + 1) * each)


@contextmanager
def seeded(seed: int, step: int, accelerator):
    """Inside, what draws from a global generator (a network's dropout) depends on seed, step and process alone.

    So a resumed run drops what the uninterrupted one would have, and each process of several drops its own. Torch's, numpy's and Python's
    generators are afterwards where the caller had them (Apple's GPU has no copy to go back to).
    """
    import random

    import numpy as np
    import torch
    cuda, kept = [accelerator.device] if accelerator.device.type == "cuda" else [], (random.getstate(), np.random.get_state())
    number = ((seed * 1_000_003 + step) * 65_537 + 1 + accelerator.process_index) % 2**63
    try:
        with torch.random.fork_rng(cuda):
            torch.manual_seed(number)
            random.seed(number)
            np.random.seed(number % 2**32)
            yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
