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
