"""Which device computes, and which process writes: accelerate's answers, asked in one way."""


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


def new_accelerator(mixed_precision: str):
    """An Accelerator; accelerate keeps the first one's precision for good, which a notebook may
    want to change."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed_precision)


def share_of(batch: int, accelerator) -> slice:
    """Which part of the batch is this process's."""
    each = batch // accelerator.num_processes
    return slice(accelerator.process_index * each, (accelerator.process_index + 1) * each)
