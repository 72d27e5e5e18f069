"""Errors, seeds and folders: the plumbing every other module leans on (read with chapter 00)."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from .base.device import device, device_name, main_process, processes
from .base.errors import UserError, first_line
from .base.files import cache_dir, data_dir

__all__ = ["Runtime", "UserError", "address", "cache_dir", "data_dir", "device", "device_name",
           "fetch_data", "first_line", "install", "installed", "main_process", "missing",
           "on_colab", "on_kaggle", "one_at_a_time", "prepare", "processes", "requirements",
           "run_or_explain", "start", "versions"]


def versions() -> dict[str, str]:
    """What runs here: Python, packages, device; "missing" with the mend where one is not there."""
    import platform

    import torch
    found = {"python": platform.python_version()}
    for name in ("dslib", "torch", "torchvision", "diffusers", "accelerate", "safetensors", "lpips",
                 "stlpips-pytorch", "torch-fidelity", "PyWavelets", "dicebear-core",
                 "dicebear-styles", "resvg-py", "jupyterlab", "ipywidgets", "nbval", "jupytext"):
        found[name] = installed(name) or "missing: pip install -e '.[notebooks,dev]'"
    source = data_dir() / "source"
    there = (source / "model_index.json").exists()
    return found | {"device": device_name(), "cpu threads": str(torch.get_num_threads()),
                    "cache": str(cache_dir()),
                    "source model": str(source) if there
                    else "missing: dslib pretrain --output_dir data/source"}


TIERS = ("smoke", "cpu", "colab", "full")


class Runtime(NamedTuple):
    """What a chapter runs on."""
    tier: str       # smoke (CI) | cpu (the committed outputs) | colab (one GPU) | full
    device: str
    seed: int

    def pick(self, **by_tier):
        """This tier's setting, or that of the nearest tier below: ``rt.pick(smoke=4, cpu=300)``."""
        for tier in reversed(TIERS[:TIERS.index(self.tier) + 1]):
            if tier in by_tier:
                return by_tier[tier]
        return next(iter(by_tier.values()))


# ------------------------------------------------------ a notebook opened alone, as in Colab

COURSE = Path(__file__).resolve().parent.parent      # holds dslib/, data/ and pyproject.toml
KEPT = ("torch", "torchvision", "numpy")   # never changed by a setup: loaded, and belong together


def on_colab() -> bool:
    """True in a Colab runtime."""
    return "COLAB_RELEASE_TAG" in os.environ


def on_kaggle() -> bool:
    """True in a Kaggle notebook, which must be told that it may use the Internet."""
    return "KAGGLE_KERNEL_RUN_TYPE" in os.environ


def requirements() -> list[str]:
    """What the chapters need, as pyproject.toml has it: ["torch>=2.2", …].

    Empty for a pip install, which brought it all.
    """
    pyproject = COURSE / "pyproject.toml"
    text = pyproject.read_text("utf-8") if pyproject.exists() else ""
    lists = re.findall(r"^(?:dependencies|colab) = \[(.*?)\]$", text, re.M | re.S)
    return [need for found in lists for need in re.findall(r'"(.+?)"', found)]


def installed(name: str) -> str | None:
    """The version of an installed package, None where it is not there."""
    from importlib.metadata import PackageNotFoundError, version
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def missing() -> list[str]:
    """The requirements of which this kernel has no version at all; an old one is left as it is."""
    return [need for need in requirements() if not installed(re.match(r"[\w.-]+", need)[0])]


def run_or_explain(command: list[str], purpose: str) -> None:
    """Run a program quietly; where it fails, a UserError with the one line of it that says why."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"{purpose} failed: {command[0]}: {error.strerror}") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        lines = said or ["no reason given"]
        why = next((line for line in lines if re.match("error|fatal", line, re.I)), lines[-1])
        raise UserError(f"{purpose} failed: {why[:300]} (mend that and run the cell again)")


def one_at_a_time():
    """A lock that two setups share; it is gone with its process, however that ends."""
    from filelock import FileLock
    return FileLock(cache_dir() / "setup.lock")


def install() -> None:
    """pip installs what is missing, nothing else; KEPT stay at their versions. Raises UserError."""
    import importlib
    with one_at_a_time(), tempfile.TemporaryDirectory() as folder:
        if needs := missing():      # asked again: another setup may have been here meanwhile
            print(f"installing {', '.join(needs)} (once, about a minute) …", flush=True)
            keep = Path(folder) / "keep.txt"
            there = {name: installed(name) for name in KEPT}
            lines = [f"{name}=={found}\n" for name, found in there.items() if found]
            keep.write_text("".join(lines), "utf-8")
            run_or_explain([sys.executable, "-m", "pip", "install", "-q", "-c", str(keep), *needs],
                           "installing what the course needs")
    importlib.invalidate_caches()


def address() -> str | None:
    """The repository's address, from [project.urls] in pyproject.toml (`make badges`), or None."""
    from importlib.metadata import metadata
    pyproject = COURSE / "pyproject.toml"
    if pyproject.exists():
        found = re.search(r'^Repository = "(.+)"$', pyproject.read_text("utf-8"), re.M)
    else:
        urls = metadata("dslib").get_all("Project-URL") or []
        found = re.search(r"^Repository, (.+)$", "\n".join(urls), re.M)
    return found[1] if found else None


def fetch_data() -> None:
    """Where an install left ``data/`` out, clone the repository into the cache and use that one.

    Raises UserError.
    """
    if "DSLIB_DATA" in os.environ or (data_dir() / "source").exists():
        return
    if not (repository := address()):
        return                                       # whoever reads data says what is missing
    home = cache_dir() / "course"
    with one_at_a_time(), tempfile.TemporaryDirectory(dir=cache_dir()) as part:
        if not home.exists():                 # whole or not at all: the last step is a rename
            run_or_explain(["git", "clone", "-q", "--depth=1", repository, f"{part}/course"],
                           "fetching the course's data")
            os.rename(f"{part}/course", home)
    os.environ["DSLIB_DATA"] = str(home / "data")


def prepare() -> None:
    """What a chapter needs before it can begin: installed on Colab and Kaggle, elsewhere named."""
    hosted = on_colab() or on_kaggle()
    if needs := missing():
        if hosted:
            install()
        else:
            said = (f"this kernel has no {', '.join(needs)}: choose the kernel in .venv "
                    f"(make install), or run %pip install -e '{COURSE}[notebooks]' and restart "
                    "the kernel")
            if "torch" in " ".join(needs):
                raise UserError(said)
            print(said)
    if hosted:                           # so that !python -m dslib works from any folder
        paths = [str(COURSE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
    fetch_data()


def start(seed: int = 0) -> Runtime:
    """Begin a chapter: seed everything, choose the tier, say so.

    The tier is ``$DSLIB_TIER``; else colab on a GPU, cpu without. ``$DSLIB_SEED``, where it is
    set, comes before seed. A notebook opened alone gets what it lacks first (:func:`prepare`).
    """
    prepare()
    if not (wish := os.environ.get("DSLIB_SEED", str(seed))).isdecimal():
        raise UserError(f"DSLIB_SEED is {wish!r}: use a whole number from 0")
    seed = int(wish)
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
    version = __import__("dslib").__version__
    print(f"dslib {version} · torch {torch.__version__} · {name} · tier {tier} · seed {seed}")
    if tier == "cpu" and on_colab():
        print("A GPU makes this several times faster: Runtime ▸ Change runtime type ▸ GPU. "
              "The CPU works too.")
    return Runtime(tier, name, seed)
