"""Errors, seeds and folders: the plumbing every other module leans on (read with chapter 00)."""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple


class UserError(ValueError):
    """A mistake the reader can mend: one line that names the file or option and the mend."""


def first_line(error: Exception) -> str:
    """The first line of an error's text, short enough for a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def data_dir() -> Path:
    """The course's ``data/`` folder: ``$DSLIB_DATA`` if set, else the one beside the package."""
    return Path(os.environ.get("DSLIB_DATA") or Path(__file__).resolve().parent.parent / "data")


def cache_dir() -> Path:
    """A writable folder for drawn images: ``$DSLIB_CACHE``, else ``~/.cache/dslib``, else a temporary one."""
    home = os.path.expanduser("~/.cache/dslib")
    for path in (os.environ.get("DSLIB_CACHE"), home, Path(tempfile.gettempdir()) / "dslib"):
        if not path:
            continue
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                return Path(path)
        except OSError:
            continue
    raise UserError("no writable folder for drawn images: set DSLIB_CACHE to one")


def versions() -> dict[str, str]:
    """What runs here: Python, the packages that matter, the device; "missing" with the mend where one is not there."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch
    found = {"python": platform.python_version()}
    for name in ("dslib", "torch", "torchvision", "diffusers", "accelerate", "safetensors", "lpips", "stlpips-pytorch",
                 "torch-fidelity", "PyWavelets", "dicebear-core", "dicebear-styles", "resvg-py", "jupyterlab", "ipywidgets", "nbval",
                 "jupytext"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing: pip install -e '.[notebooks,dev]'"
    source = data_dir() / "source" / "model_index.json"
    return found | {"device": device_name(), "cpu threads": str(torch.get_num_threads()), "cache": str(cache_dir()),
                    "source model": str(source.parent) if source.exists() else "missing: dslib pretrain --output_dir data/source"}


def main_process() -> bool:
    """True in the one process that writes; the others of an ``accelerate launch`` only train."""
    from accelerate import PartialState
    return PartialState().is_main_process


def device():
    """The torch device that accelerate chooses: CUDA, Apple's MPS or the CPU."""
    from accelerate import PartialState
    return PartialState().device


def device_name() -> str:
    """The device in words."""
    import torch
    return f"cuda ({torch.cuda.get_device_name(0)})" if device().type == "cuda" else device().type


TIERS = ("smoke", "cpu", "colab", "full")


class Runtime(NamedTuple):
    """What a chapter runs on."""
    tier: str       # smoke (CI) | cpu (the committed outputs) | colab (one GPU) | full
    device: str
    seed: int

    def pick(self, **by_tier):
        """The setting of this tier: ``rt.pick(smoke=4, cpu=300)``; a tier that is not named takes the one below it."""
        for tier in reversed(TIERS[:TIERS.index(self.tier) + 1]):
            if tier in by_tier:
                return by_tier[tier]
        return next(iter(by_tier.values()))


def start(seed: int = 0) -> Runtime:
    """Begin a chapter: seed everything, choose the tier (``$DSLIB_TIER``; else colab on a GPU, cpu without), say so."""
    import random

    import numpy as np
    import torch
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    name = device_name()
    tier = os.environ.get("DSLIB_TIER") or ("colab" if name.startswith("cuda") else "cpu")
    if tier not in TIERS:
        raise UserError(f"DSLIB_TIER is {tier!r}: use one of {', '.join(TIERS)}")
    print(f"dslib {__import__('dslib').__version__} · torch {torch.__version__} · {name} · tier {tier} · seed {seed}")
    if tier == "cpu" and os.environ.get("COLAB_RELEASE_TAG"):
        print("A GPU makes this several times faster: Runtime ▸ Change runtime type ▸ GPU. The CPU works too.")
    return Runtime(tier, name, seed)
