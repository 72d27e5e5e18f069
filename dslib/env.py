"""Errors, seeds and folders: the plumbing every other module leans on (read with chapter 00)."""

import os
import tempfile
from pathlib import Path


class UserError(ValueError):
    """A mistake the reader can mend: one line that names the file or option and the mend."""


def data_dir() -> Path:
    """The course's ``data/`` folder: ``$DSLIB_DATA`` if set, else the one beside the package."""
    return Path(os.environ.get("DSLIB_DATA") or Path(__file__).resolve().parent.parent / "data")


def cache_dir() -> Path:
    """A writable folder for drawn images: ``$DSLIB_CACHE``, else ``~/.cache/dslib``, else a temporary one."""
    for path in (os.environ.get("DSLIB_CACHE"), Path.home() / ".cache" / "dslib", Path(tempfile.gettempdir()) / "dslib"):
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


def device_name() -> str:
    """The device accelerate will choose: CUDA, Apple's MPS or the CPU."""
    import torch
    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name(0)})"
    return "mps" if torch.backends.mps.is_available() else "cpu"
