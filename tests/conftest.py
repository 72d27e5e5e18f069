"""Shared fixtures: a tiny random source model and ten structured images."""

import os
import tempfile

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("ACCELERATE_USE_CPU", "true")     # the tests compare bit for bit, which a GPU does not promise
os.environ.setdefault("DSLIB_CACHE", tempfile.mkdtemp(prefix="dslib-cache-"))

import pytest  # noqa: E402
import torch  # noqa: E402
from diffusers import DDPMPipeline  # noqa: E402

from dslib import models  # noqa: E402
from dslib.show import plots, widgets  # noqa: E402
from dslib.text import captions, latent  # noqa: E402


def make_source(resolution: int = 16, learned_variance: bool = False, seed: int = 1234) -> DDPMPipeline:
    """A pipeline with random weights: too small to draw anything, large enough to have every part."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = models.new_unet(resolution, (8, 32), learned_variance)
    return DDPMPipeline(unet=unet.eval(), scheduler=models.new_scheduler())


def make_text_pipeline(seed: int = 1234):
    """A text-to-image pipeline with random weights: 32×32 images, 8×8 latents."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = captions.new_tokenizer()
        networks = latent.new_vae(32, (8, 8, 16)), latent.new_text_encoder(tokenizer, 32, 1), latent.new_unet(8, (16, 32), 32)
    vae, text_encoder, unet = (network.eval() for network in networks)
    return latent.assemble(vae, text_encoder, tokenizer, unet)


def make_images(n: int, resolution: int, seed: int = 0) -> torch.Tensor:
    """Soft coloured blobs with a little noise on top, (n,3,R,R) in [-1,1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=generator) * 2 - 1
    smooth = torch.nn.functional.interpolate(coarse, size=resolution, mode="bilinear")
    return (smooth + 0.1 * torch.randn(n, 3, resolution, resolution, generator=generator)).clamp(-1, 1)


@pytest.fixture
def tiny_source() -> DDPMPipeline:
    return make_source()


@pytest.fixture
def ten_images() -> torch.Tensor:
    return make_images(10, 16)


@pytest.fixture(scope="session")
def tiny_source_dir(tmp_path_factory):
    """The same source as ``tiny_source``, saved: tests read it and never write to it."""
    folder = tmp_path_factory.mktemp("tiny-source")
    pipe = make_source()
    return models.save_pipeline(pipe.unet, pipe.scheduler, folder)


@pytest.fixture
def tiny_text():
    return make_text_pipeline()


@pytest.fixture(scope="session")
def tiny_text_dir(tmp_path_factory):
    """The same pipeline as ``tiny_text``, saved: tests read it and never write to it."""
    return latent.save_pipeline(make_text_pipeline(), tmp_path_factory.mktemp("tiny-text"))


@pytest.fixture
def explored(monkeypatch):
    """Calls an explorer: explored(call) → (text alternatives in the order they were drawn, its controls)."""
    def explored(call):
        seen, controls = [], {}
        real = widgets.explore
        monkeypatch.setattr(plots, "show", lambda figure, alt, **_: seen.append(alt))
        monkeypatch.setattr(widgets, "explore", lambda redraw, **given: (controls.update(given), real(redraw, **given)))
        call()
        return seen, controls
    return explored
