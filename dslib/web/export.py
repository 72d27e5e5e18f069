"""A folder for any web server: models as ONNX, what the browser needs to draw with them, and how near they are to PyTorch."""

import html
import io
import json
import re
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from .. import data, ddpm, models, sample
from ..base.errors import UserError
from ..base.files import write_atomic, write_json
from ..base.pixels import to_uint8
from . import runtime
from .onnx_file import check_packages, halve, parity, to_onnx

PAGE = Path(__file__).with_name("page")
SCRIPTS = ("sampler.js", "worker.js", "try.js", "try.css")
STEPS = (10, 20, 50)
REAL_IMAGES = 400       # unseen ones, by which a copy is told
TOLERANCE = 0.05        # of a picture's range from -1 to 1, after 20 steps: six shades of 255
ANSWERS = 0.05          # of the network's outputs, whose variance is one


def load(folder: str | Path):
    """The pipeline of a run folder. A UserError says which models a page cannot draw with, and what to do."""
    index = Path(folder) / "model_index.json"
    if Path(folder).is_dir() and not index.exists():
        raise UserError(f"{folder} holds no finished model (no model_index.json): give the --output_dir of a dslib adapt run that ended")
    if index.exists() and "StableDiffusion" in index.read_text("utf-8"):
        raise UserError(f"{folder} is a text-to-image model: dslib export takes unconditional ones, such as those of dslib adapt")
    config = Path(folder) / "unet" / "config.json"
    if config.exists() and any(map(json.loads(config.read_text("utf-8")).get, ("num_class_embeds", "class_embed_type"))):
        raise UserError(f"{folder} is class-conditional: dslib export takes unconditional models, whose U-Net has no num_class_embeds")
    return models.load_source(folder)


def slug(name: str) -> str:
    """A title as a file name and a word of an address: "Naive, 270 steps" → "naive-270-steps"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def targets(folder: Path, size: int, channels: int) -> tuple[Tensor | None, float | None]:
    """The training images (n,C,R,R) that a run folder's metrics.json (or its parent's) names, and :func:`copy_limit` where it is known.

    None for a source, or if they are gone.
    """
    found = next((place / "metrics.json" for place in (folder, folder.parent) if (place / "metrics.json").is_file()), None)
    facts = json.loads(found.read_text("utf-8")) if found else {}
    facts = facts.get("config", facts) | facts
    if facts.get("train_data_dir") and Path(facts["train_data_dir"]).is_dir():
        return data.in_channels(data.ImageFolder(facts["train_data_dir"], size, at_least=1).images, channels), None
    if facts.get("target") in data.TARGETS + data.TWINS:
        images, real = (data.in_channels(data.load_domain(facts["target"], split, n, size).images, channels)
                        for split, n in (("ten", None), ("test", REAL_IMAGES)))
        return images, copy_limit(images, real)
    return None, None


def copy_limit(images: Tensor, real: Tensor) -> float:
    """The distance to the nearest of images (n,C,R,R) that 95 % of unseen real ones (m,C,R,R) keep: nearer is a copy, in pixels.

    Root mean square, in [0,2]. The course's own copy rate asks the same in LPIPS; a page in a browser has no such network.
    """
    distance = torch.cdist(real.flatten(1), images.flatten(1)) / images[0].numel() ** 0.5
    return round(float(distance.min(1).values.quantile(0.05)), 4)


def strip(images) -> bytes:
    """Pictures (n,C,R,R) in [-1,1] side by side as a PNG, for the page to compare with."""
    from PIL import Image
    pixels = to_uint8(images).movedim(1, 3).movedim(0, 1).flatten(1, 2).expand(-1, -1, 3)
    into = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(into, "PNG")
    return into.getvalue()


def entry(pipe, name: str, title: str, about: str, source: str | None) -> dict:
    """What the page must know of a model to draw with it."""
    scheduler, config = pipe.scheduler, pipe.unet.config
    return {"id": name, "title": title, "about": about, "file": f"{name}.onnx", "resolution": config.sample_size,
            "channels": config.in_channels, "prediction_type": ddpm.prediction_type_of(scheduler),
            "clip_sample": bool(scheduler.config.get("clip_sample", False)),
            "clip_range": scheduler.config.get("clip_sample_range", 1.0), "source": source, "a_bar": scheduler.alphas_cumprod.tolist(),
            "timesteps": {n: sample.sampler(scheduler, "ddim", n).timesteps.tolist() for n in STEPS}}


def check_sizes(pipes: list, folders: list[dict]) -> None:
    """A UserError unless all models take one noise."""
    shapes = [(pipe.unet.config.sample_size, pipe.unet.config.in_channels) for pipe in pipes]
    for place, shape in zip(folders, shapes, strict=True):
        if shape != shapes[0]:
            raise UserError(f"{place['folder']} draws {shape[0]} pixels in {shape[1]} channels, {folders[0]['folder']} {shapes[0][0]} in "
                            f"{shapes[0][1]}: the models of a page share their noise, export these apart")


def adapted(pipe, source) -> bool:
    """Whether the page may let ``source`` draw the steps above t_0 for this model (:func:`dslib.sample.check_source`)."""
    try:
        return pipe is not source and sample.check_source(pipe.unet, pipe.scheduler, source, 0) is not None
    except UserError:
        return False


def check_parity(found: dict, title: str, float32: bool) -> None:
    """A UserError where the browser's pictures would not be PyTorch's."""
    if found["image"] > TOLERANCE or max(found["answers"]) > ANSWERS:
        mend = "report this as a fault of dslib export" if float32 else "add --float32, which keeps the weights as they are"
        raise UserError(f"{title}: the ONNX file does not draw what PyTorch draws (largest difference {found['image']:.3g} after "
                        f"{found['steps']} steps, {max(found['answers']):.3g} in a step; allowed are {TOLERANCE} and {ANSWERS}): {mend}")


def write_models(folders: list[dict], out: Path, float32: bool = False) -> dict:
    """ONNX files, training images and models.json of {"folder", "title", "about"} entries; the first may be the others' source.

    Returns the parity report by title. Raises UserError, before anything is written, where a model is not to be exported or its file
    does not draw as PyTorch does.
    """
    check_packages()
    listed, reports, contents = [], {}, {}
    pipes = [load(place["folder"]) for place in folders]
    check_sizes(pipes, folders)
    for place, pipe in zip(folders, pipes, strict=True):
        name, graph = slug(place["title"]), to_onnx(pipe.unet)
        model = entry(pipe, name, place["title"], place.get("about", ""), slug(folders[0]["title"]) if adapted(pipe, pipes[0]) else None)
        content = (graph if float32 else halve(graph)).SerializeToString()
        reports[place["title"]] = parity(pipe.unet, pipe.scheduler, content)
        check_parity(reports[place["title"]], place["title"], float32)
        images, limit = targets(Path(place["folder"]), model["resolution"], model["channels"])
        if images is not None:
            contents[f"{name}.png"], model["nearest"] = strip(images), {"file": f"{name}.png", "images": len(images), "limit": limit}
        contents[model["file"]], model["bytes"] = content, len(content)
        listed.append(model)
    for file, content in contents.items():
        write_atomic(out / file, content)
    write_json(out / "parity.json", reports)
    write_json(out / "models.json", {"models": listed})
    return reports


def write_scripts(out: Path) -> None:
    """The page's own scripts and style."""
    for name in SCRIPTS:
        write_atomic(out / name, (PAGE / name).read_bytes())


def write_runtime(out: Path, cache: Path | None = None) -> None:
    """onnxruntime-web into ``out/ort``. Raises UserError where it cannot be had; then nothing is written."""
    ready = runtime.files(cache)
    sizes = {name: (ready / name).stat().st_size for name in runtime.FILES}
    for name in (*runtime.FILES, "package.json"):
        write_atomic(out / "ort" / name, (ready / name).read_bytes())
    write_json(out / "ort" / "sizes.json", sizes)


def fragment(root: str) -> str:
    """The page's own part as HTML; root: where its files are, seen from the page ("" or "_static/try/")."""
    return (PAGE / "fragment.html").read_text("utf-8").replace("ROOT", root)


def export(folders: list[dict], out: Path, float32: bool = False, title: str = "Try it") -> dict:
    """Everything for a page of one's own in ``out``, which must be empty or new: open index.html through any web server."""
    with tempfile.TemporaryDirectory(prefix="dslib-export-") as part:
        reports = write_models(folders, Path(part), float32)
        write_scripts(Path(part))
        write_runtime(Path(part))
        text = (PAGE / "index.html").read_text("utf-8").replace("TITLE", html.escape(title)).replace("FRAGMENT", fragment(""))
        write_atomic(Path(part) / "index.html", text.encode())
        shutil.copytree(part, out, dirs_exist_ok=True)
    return reports
