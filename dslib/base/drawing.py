"""Drawn faces in blocks, from the cache or fresh; the committed ten of every target."""

import hashlib
import json
import os
import zipfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from . import avatars, twins
from .files import as_json, cache_dir, data_dir
from .progress import progress

BLOCK = 250          # drawn images a cache file


def read_ten(name: str, n: int, resolution: int) -> tuple[np.ndarray, list[dict[str, str]]]:
    """The committed PNGs ``data/<name>/<resolution>/NN.png`` and their labels."""
    folder = data_dir() / name
    paths = sorted((folder / str(resolution)).glob("*.png"))[:n]
    labels = json.loads((folder / "labels.json").read_text("utf-8"))
    return np.stack([np.array(Image.open(p).convert("RGB")) for p in paths]), labels[:n]


def draw_domain(name: str, split: str, n: int, resolution: int = 64, workers: int = 1,
                ) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Draw, or fetch from the cache, n images: uint8 (n,R,R,3) and labels. 3 to 9 ms an image a core."""
    blocks = {start: read_block(block_path(name, split, start, resolution)) for start in range(0, n, BLOCK)}
    jobs = [(name, split, start, start + BLOCK, resolution) for start, block in blocks.items() if block is None]
    bar = progress(total=len(jobs) * BLOCK, desc=f"drawing {name}/{split}", unit="img", shown=len(jobs) >= 4, leave=False)
    with ExitStack() as stack:
        draw = map
        if workers > 1 and len(jobs) > 1:
            draw = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn"))).map
        for job, block in zip(jobs, draw(avatars.draw_block, jobs)):
            save_block(job, *block)
            blocks[job[2]] = block
            bar.update(BLOCK)
    bar.close()
    pixels = np.concatenate([pixels for pixels, _ in blocks.values()])[:n]
    return pixels, [label for _, labels in blocks.values() for label in labels][:n]


def block_path(name: str, split: str, start: int, resolution: int) -> Path:
    """Where a block of drawn images is cached; the name holds what determines its content."""
    from importlib.metadata import version
    drawn_with = "-".join(version(package) for package in ("dicebear-core", "dicebear-styles", "resvg-py"))
    drawn = (*avatars.DRAWN[name], twin, twins.VERSION) if (twin := avatars.filter_of(name)) else avatars.DRAWN[name]
    options = hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:8]
    return cache_dir() / f"{name}-{split}-{resolution}-{start:06d}-{drawn_with}-{options}.npz"


def save_block(job: tuple, pixels: np.ndarray, labels: list[dict[str, str]]) -> None:
    """Cache a block, whole or not at all. A full disk costs the cache, not the images: it is only said."""
    path = block_path(job[0], job[1], job[2], job[4])
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez_compressed(file, pixels=pixels, labels=np.frombuffer(json.dumps(labels).encode(), np.uint8))
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        print(f"drawn images are not kept in {path.parent} ({error.strerror or error}): set DSLIB_CACHE to a folder with room")


def read_block(path: Path) -> tuple[np.ndarray, list[dict[str, str]]] | None:
    """A cached block, or None if it is not there or damaged: then it is drawn again."""
    try:
        with np.load(path, allow_pickle=False) as block:
            return block["pixels"], json.loads(block["labels"].tobytes().decode())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_ten(folder: Path, names: tuple[str, ...], shots: int) -> None:
    """Draw the committed training images again: ``<folder>/<domain>/{64,256}/NN.png`` and ``labels.json``."""
    for name in names:
        for resolution in (64, 256):
            (folder / name / str(resolution)).mkdir(parents=True, exist_ok=True)
            pixels, labels = avatars.draw_block((name, "ten", 0, shots, resolution))
            for i, image in enumerate(pixels):
                Image.fromarray(image).save(folder / name / str(resolution) / f"{i:02d}.png", optimize=True)
        (folder / name / "labels.json").write_text(as_json(labels) + "\n", "utf-8")
