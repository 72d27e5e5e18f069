"""Shared fixtures: a tiny random source model and ten structured images.

Nothing heavy is imported above: the process that only hands tests to its workers needs no torch.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("ACCELERATE_USE_CPU", "true")     # the tests compare bit for bit, which a GPU does not promise
os.environ["DSLIB_MINE"] = os.path.join(tempfile.gettempdir(), "dslib-tests", "nobody.py")      # no reader's own functions
if "DSLIB_CACHE" not in os.environ:                     # one for all: workers, kernels and commands take it over from here
    CACHE = tempfile.TemporaryDirectory(prefix="dslib-cache-")
    os.environ["DSLIB_CACHE"] = CACHE.name

import pytest  # noqa: E402

# About how many seconds of one core a file of tests takes, if long; only the order matters. Notebooks' are in data/expected.
SECONDS = {"test_sd_shaped.py": 75, "test_colab.py": 60, "test_browser.py": 60, "test_site.py": 45, "test_cli.py": 45,
           "test_text_to_image.py": 35, "test_frozen.py": 30, "test_processes.py": 30, "test_train.py": 25, "test_latent.py": 25,
           "test_prompted.py": 25, "test_metrics.py": 20, "test_notebooks.py": 14, "test_data.py": 6,
           "test_manners.py": 90, "test_whole.py": 70, "test_mine.py": 35, "test_sources.py": 60, "test_randomness.py": 40}


def seconds_of(path: Path) -> float:
    """About how long a file of tests or a notebook takes in the smoke tier."""
    if path.suffix != ".ipynb":
        return SECONDS.get(path.name, 0)
    expected = path.resolve().parent.parent / "data" / "expected" / f"{path.name[:2]}.json"
    return json.loads(expected.read_text())["seconds"]["smoke"] if expected.exists() else 0


def pytest_collection_modifyitems(items):
    """With several workers, the files that take longest go first: then all workers end at about the same time."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: -seconds_of(item.path))


def make_source(resolution: int = 16, learned_variance: bool = False, seed: int = 1234):
    """A DDPMPipeline with random weights: too small to draw anything, large enough to have every part."""
    import torch
    from diffusers import DDPMPipeline

    from dslib import models
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = models.new_unet(resolution, (8, 32), learned_variance)
    return DDPMPipeline(unet=unet.eval(), scheduler=models.new_scheduler())


def make_text_pipeline(seed: int = 1234):
    """A text-to-image pipeline with random weights: 32×32 images, 8×8 latents."""
    import torch

    from dslib.text import captions, latent
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = captions.new_tokenizer(styles=False)
        networks = latent.new_vae(32, (8, 8, 16)), latent.new_text_encoder(tokenizer, 32, 1), latent.new_unet(8, (16, 32), 32)
    vae, text_encoder, unet = (network.eval() for network in networks)
    return latent.assemble(vae, text_encoder, tokenizer, unet)


def make_gan(channels: tuple[int, ...] = (16, 16, 8), seed: int = 1234):
    """A GAN with random weights, ready to be a source: 16×16 images of three channels, twice the side for each more."""
    from dslib.gan.networks import Pair
    return Pair(8, channels, seed).requires_grad_(False).eval()


def make_images(n: int, resolution: int, seed: int = 0):
    """Soft coloured blobs with a little noise on top, (n,3,R,R) in [-1,1]."""
    import torch
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=generator) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, size=resolution, mode="bilinear")
    return (smooth + 0.1 * torch.randn(n, 3, resolution, resolution, generator=generator)).clamp(-1, 1)


@pytest.fixture
def tiny_source():
    return make_source()


@pytest.fixture
def ten_images():
    return make_images(10, 16)


@pytest.fixture(scope="session")
def tiny_source_dir(tmp_path_factory):
    """The same source as ``tiny_source``, saved: tests read it and never write to it."""
    from dslib import models
    folder = tmp_path_factory.mktemp("tiny-source")
    pipe = make_source()
    return models.save_pipeline(pipe.unet, pipe.scheduler, folder)


@pytest.fixture
def tiny_text():
    return make_text_pipeline()


@pytest.fixture(scope="session")
def tiny_text_dir(tmp_path_factory):
    """The same pipeline as ``tiny_text``, saved: tests read it and never write to it."""
    from dslib.text import latent
    return latent.save_pipeline(make_text_pipeline(), tmp_path_factory.mktemp("tiny-text"))


@pytest.fixture
def explored(monkeypatch):
    """Calls an explorer: explored(call) → (text alternatives in the order they were drawn, its controls)."""
    from dslib.show import explorer, plots

    def explored(call):
        seen, controls = [], {}
        real = explorer.explore
        monkeypatch.setattr(plots, "show", lambda figure, alt, **_: seen.append(alt))
        monkeypatch.setattr(explorer, "explore", lambda redraw, **given: (controls.update(given), real(redraw, **given)))
        call()
        return seen, controls
    return explored


@pytest.fixture(scope="module")
def source_dir(tmp_path_factory):
    """A saved pipeline of 32 pixels, the least that the metrics' networks accept."""
    from dslib import models
    pipe = make_source(32)
    return models.save_pipeline(pipe.unet, pipe.scheduler, tmp_path_factory.mktemp("source"))
