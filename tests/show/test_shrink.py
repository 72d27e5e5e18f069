"""Light notebooks whose faces keep their colours, beside noise too, and whose rare red frames stay red."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dslib import data
from dslib.show import style
from dslib.show.pictures import tile


def png_of(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def back(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


@pytest.fixture(scope="module")
def faces():
    """Eight drawn faces, one of them in a red frame, and as much noise in all colours: (256,256,3) each."""
    sheet = Image.fromarray(tile(data.load_domain(data.SOURCE, "test", 16).images, 4, 0).astype(np.uint8))
    ImageDraw.Draw(sheet).rectangle((0, 0, 63, 63), outline=(255, 0, 0), width=4)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return np.asarray(sheet.convert("RGB")), noise


def test_faces_beside_noise_keep_their_colours(faces):
    pixels = np.concatenate(faces, axis=1)
    error = np.abs(back(style.shrink(png_of(pixels))) - pixels.astype(int))[:, :256]
    assert error.mean() < 2.5, "by colours that cover the noise it is 3.7"


def test_a_rare_frame_stays_red(faces):
    for pixels in (faces[0], np.concatenate(faces, axis=1)):
        corner = back(style.shrink(png_of(pixels)))[:4, :64]
        assert (corner[..., 0] > 215).all() and (corner[..., 1:] < 45).all()


def test_it_is_lighter_and_never_heavier(faces):
    assert len(style.shrink(png_of(faces[0]))) < len(png_of(faces[0]))
    grey = png_of(np.full((16, 16, 3), 128, np.uint8))
    assert len(style.shrink(grey)) <= len(grey)


def test_white_paper_stays_white_beside_nearly_white_things(faces):
    """Faint greys round the figure pulled the ground's entry of the palette with them."""
    paper = np.full((400, 512, 3), 255, np.uint8)
    paper[:100] = np.random.default_rng(1).integers(246, 255, (100, 512, 3))
    paper[140:396, :] = np.concatenate(faces, axis=1)
    small = back(style.shrink(png_of(paper)))
    assert (small[100:140] == 255).all()
