"""Pictures as people have them: of every kind several members, with the right value or message."""

import io
import os
import struct
import warnings

import numpy as np
import profiles
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin, features

from dslib import data, metrics
from dslib.base import decoding, images, pixels
from dslib.cli import options
from dslib.env import UserError
from dslib.measure import probes

RED, BLUE = (200, 40, 60), (20, 60, 220)


def halves(size=(20, 20), left=RED, right=BLUE) -> Image.Image:
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, size[0], size[1]))
    return image


def grey_halves(left=60, right=200) -> Image.Image:
    return halves(left=(left,) * 3, right=(right,) * 3).convert("L")


def sides(path, resolution=20) -> list:
    """The mean colours of the left and the right half of a file as it is read."""
    seen = pixels.to_uint8(decoding.read_image(path, resolution)[None])[0].float()
    return [seen[:, 3:-3, part].mean(dim=(1, 2)).tolist() for part in (slice(3, 7), slice(-7, -3))]


def refusal(call, *words) -> str:
    """The message of the UserError that call() raises: one printable line that holds the words."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable() and all(word in message for word in words), message
    return message


# ------------------------------------------------------------ every format that Pillow reads here

AVIF = pytest.param("a.avif", {"quality": 95}, 8, marks=pytest.mark.skipif(
    not features.check("avif"), reason="this Pillow has no AVIF"))


@pytest.mark.parametrize("name, options, tolerance", [
    ("a.jpe", {"quality": 95, "format": "JPEG"}, 4), ("a.JFIF", {"quality": 95}, 4),
    ("a.jpeg", {"quality": 95}, 4), ("a.gif", {}, 2), ("a.ppm", {}, 0), ("a.pnm", {}, 0),
    ("a.tga", {}, 0), ("a.ico", {"sizes": [(20, 20)]}, 0), ("a.jp2", {}, 2), ("a.j2k", {}, 2),
    ("a.dib", {}, 0), ("a.pcx", {}, 0), ("a.qoi", {}, 0), ("a.sgi", {}, 0), ("a.dds", {}, 0),
    ("a.apng", {"format": "PNG"}, 0), ("a.mpo", {"quality": 95}, 4), ("a.im", {}, 0),
    ("a.icns", {}, 4), AVIF])
def test_what_pillow_reads_is_read(tmp_path, name, options, tolerance):
    picture = halves((32, 32)) if name == "a.icns" else halves()
    if name == "a.qoi":
        (tmp_path / name).write_bytes(qoi(picture))
    else:
        picture.save(tmp_path / name, **options)
    folder = data.ImageFolder(tmp_path, 20)
    assert len(folder) == 1 and not folder.left_out
    for seen, want in zip(sides(tmp_path / name), (RED, BLUE)):
        assert seen == pytest.approx(want, abs=tolerance)


def qoi(picture) -> bytes:
    """The simplest QOI file: every pixel in full."""
    body = b"".join(b"\xfe" + bytes(pixel) for pixel in np.asarray(picture).reshape(-1, 3))
    return b"qoif" + struct.pack(">IIBB", *picture.size, 3, 0) + body + bytes(7) + b"\1"


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tiff", "a.avif"])
def test_of_animations_the_first_frame_is_read(tmp_path, name):
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    lossless = {"lossless": True} if name == "a.webp" else {}
    halves().save(tmp_path / name, save_all=True, append_images=[halves(left=BLUE)] * 2, **lossless)
    assert sides(tmp_path / name)[0] == pytest.approx(RED, abs=8)


def test_formats_without_pixels_are_not_tried():
    assert not {".pdf", ".eps", ".ps", ".mpg", ".wmf", ".h5"} & set(decoding.endings())
    assert not {"EPS", "PDF", "MPEG", "WMF"} & set(decoding.formats())
    assert {".jfif", ".gif", ".jp2", ".ico", ".tga", ".bmp", ".webp"} <= set(decoding.ENDINGS)


# ------------------------------------------------------------ nothing is left out without a word

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


@pytest.fixture
def no_heif(monkeypatch):
    monkeypatch.setattr(decoding, "heif", lambda: False)


@pytest.mark.parametrize("name, content, words", [
    ("IMG_1.HEIC", HEIC, ("HEIC", "pillow-heif", "PNG")), ("b.heif", HEIC, ("pillow-heif",)),
    ("c.hif", HEIC, ("pillow-heif",)), ("d.svg", b"<svg>", ("vector", "PNG")),
    ("e.pdf", b"%PDF-1.7", ("page format", "PNG")), ("f.MP4", b"\0\0\0\x18ftypisom", ("video",)),
    ("g.CR2", b"II*\0", ("camera raw", "JPEG or PNG")), ("h.dng", b"II*\0", ("camera raw",)),
    ("i.jxl", b"\xff\x0a", ("JPEG XL",)), ("j.zip", b"PK\3\4", ("unpack",)),
    ("photo", b"\xff\xd8\xff\xe0", ("JPEG with no ending", "rename")),
    ("photo.jpg_large", b"\x89PNG\r\n", ("PNG with ending .jpg_large", "rename"))])
def test_pictures_left_out_are_said(tmp_path, no_heif, capsys, name, content, words):
    halves().save(tmp_path / "good.png")
    halves().save(tmp_path / "good.jpg")
    (tmp_path / name).write_bytes(content)
    folder = data.ImageFolder(tmp_path, 16)
    assert len(folder) == 2 and list(folder.left_out.values()) == [[name]]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and folder.summary in said
    for word in ("2 images read (1 JPEG, 1 PNG)", "left out: 1 ", name, *words):
        assert word in said
    (tmp_path / "good.png").unlink()
    (tmp_path / "good.jpg").unlink()
    refusal(lambda: data.ImageFolder(tmp_path, 16), "no images that can be read", name, *words)


def test_six_heic_beside_four_png(tmp_path, no_heif, capsys):
    for i in range(4):
        halves().save(tmp_path / f"{i}.png")
    for i in range(6):
        (tmp_path / f"IMG_{i}.heic").write_bytes(HEIC)
    folder = data.ImageFolder(tmp_path, 16)
    assert {len(names) for names in folder.left_out.values()} == {6}
    assert "6 HEIC (pip install pillow-heif, or save as PNG): IMG_0.heic" in folder.summary
    refusal(lambda: data.ImageFolder(tmp_path, 16, at_least=5), "4 images", "6 HEIC")


def test_what_systems_and_captions_leave_is_no_picture(tmp_path, capsys):
    halves().save(tmp_path / "a.png")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.png", "a.txt", "a.json",
                 "metadata.jsonl", "README", "a.caption", "a.npz", "a.csv"):
        (tmp_path / name).write_bytes(b"text")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    for below in (".hidden", "__MACOSX"):
        halves().save(tmp_path / below / "x.png")
    folder = data.ImageFolder(tmp_path, 16)
    assert (folder.left_out, folder.below, capsys.readouterr().err) == ({}, {}, "")
    assert folder.summary == "1 image read (1 PNG)"


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    if not decoding.heif():
        pytest.skip("pillow-heif is not installed")
    halves((64, 64)).save(tmp_path / "a.heic", quality=95)
    assert ".heic" in decoding.endings()
    folder = data.ImageFolder(tmp_path, 20)
    assert folder.summary == "1 image read (1 HEIC)"
    assert sides(tmp_path / "a.heic")[0] == pytest.approx(RED, abs=8)


# ------------------------------------------------------------ layouts people have

LAYOUTS = {"classes": ("cats/1.png", "dogs/1.png", "dogs/2.png"), "repeats": ("10_sks/1.png",),
           "hub": ("train/1.png", "train/metadata.jsonl"), "deep": ("data/train/a/1.png",),
           "heaps": ("10_a/1.png", "20_b/1.png", "20_b/1.txt", "reg/x.gif")}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_in_subfolders_are_found(tmp_path, layout, capsys):
    for name in LAYOUTS[layout]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".png", ".gif")):
            halves().save(tmp_path / name)
        else:
            (tmp_path / name).write_text("{}")
    pictures = sorted(n for n in LAYOUTS[layout] if n.endswith((".png", ".gif")))
    tops = sorted({name.split("/")[0] for name in pictures})
    counts = [f"{top} ({sum(n.startswith(top + '/') for n in pictures)})" for top in tops]
    refusal(lambda: data.ImageFolder(tmp_path, 16), "no images", "--recursive", *counts)
    folder = data.ImageFolder(tmp_path, 16, recursive=True)
    assert [p.relative_to(tmp_path).as_posix() for p in folder.paths] == pictures
    assert capsys.readouterr().err == ""
    halves().save(tmp_path / "top.png")
    folder = data.ImageFolder(tmp_path, 16)
    assert len(folder) == 1 and sum(folder.below.values()) == len(pictures)
    assert "--recursive" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    (tmp_path / "a").mkdir()
    halves().save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)
    assert len(images.list_images(tmp_path, recursive=True)) == 1
    refusal(lambda: images.list_images(tmp_path), "--recursive", "a (1)")


def test_the_option_reads_subfolders(tmp_path):
    import argparse
    for i in range(3):
        (tmp_path / f"class{i}").mkdir()
        halves().save(tmp_path / f"class{i}" / "0.png")
    parser = argparse.ArgumentParser()
    options.add_images(parser)
    args = parser.parse_args(["--train_data_dir", str(tmp_path), "--recursive"])
    assert options.training_images(args, 16)[0].shape == (3, 3, 16, 16)


# ------------------------------------------------------------ colours by the embedded profile

EMBED = {"jpeg": ("a.jpg", {"quality": 98, "subsampling": 0}), "png": ("a.png", {}),
         "webp": ("a.webp", {"lossless": True}), "tiff": ("a.tif", {}),
         "jfif": ("a.jfif", {"quality": 98, "subsampling": 0}),
         "avif": ("a.avif", {"quality": 98, "subsampling": "4:4:4"})}


@pytest.mark.parametrize("kind", EMBED)
@pytest.mark.parametrize("stored, want", [((85, 177, 78), (29, 180, 61)), (RED, None)])
def test_display_p3_becomes_srgb(tmp_path, kind, stored, want):
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    name, saved = EMBED[kind]
    picture = halves(left=stored)
    picture.save(tmp_path / name, icc_profile=profiles.rgb(profiles.P3), **saved)
    by_the_book = profiles.to_srgb(np.array(stored), profiles.P3)
    seen = sides(tmp_path / name)[0]
    assert seen == pytest.approx(by_the_book, abs=4 if kind in ("jpeg", "jfif", "avif") else 1)
    assert want is None or seen == pytest.approx(want, abs=4)


@pytest.mark.parametrize("make", ["palette", "alpha", "rotated", "linear", "srgb", "pillow's srgb"])
def test_every_rgb_picture_is_converted(tmp_path, make, capsys):
    picture, extra = halves(left=(85, 177, 78)), {}
    profile, want = profiles.rgb(profiles.P3), (29, 180, 61)
    if make == "palette":
        picture = picture.quantize(4)
    elif make == "alpha":
        picture.putalpha(Image.linear_gradient("L").resize((20, 20)).point(lambda v: 128))
        want = [round(255 + (c - 255) * 128 / 255) for c in want]
    elif make == "rotated":
        picture = picture.transpose(Image.Transpose.ROTATE_90)
        extra = {"exif": oriented(6)}
    elif make == "linear":
        profile = profiles.rgb(profiles.SRGB, profiles.gamma(1))
        want = profiles.encoded(np.array([85, 177, 78]) / 255) * 255
    else:
        profile, want = profiles.rgb(profiles.SRGB), (85, 177, 78)
        if make == "pillow's srgb":
            profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(tmp_path / "a.png", icc_profile=profile, **extra)
    assert sides(tmp_path / "a.png")[0] == pytest.approx(list(want), abs=1.2)
    assert capsys.readouterr().err == ""


def oriented(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "alpha.png", "deep.png"])
def test_grey_stays_grey_and_follows_its_profile(tmp_path, gamma, name):
    picture = grey_halves()
    if name == "alpha.png":
        picture = picture.convert("LA")
    if name == "deep.png":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    picture.save(tmp_path / name, icc_profile=profiles.grey(gamma),
                 **({"quality": 98} if name == "a.jpg" else {}))
    pixels = decoding.read_image(tmp_path / name, 20)
    assert torch.equal(pixels[0], pixels[1]) and torch.equal(pixels[0], pixels[2])
    for seen, value in zip(sides(tmp_path / name), (60, 200)):
        want = float(profiles.encoded(np.array((value / 255) ** gamma)) * 255)
        assert seen[0] == pytest.approx(want, abs=3 if name == "a.jpg" else 1.5)


def inks() -> np.ndarray:
    """Lab of the corners of C, M, Y, K: each ink darkens and tints, black covers."""
    lab = np.zeros((2, 2, 2, 2, 3))
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        tint = np.array([-30 * c + 40 * m, -30 * c - 5 * m + 60 * y])
        lab[c, m, y, k] = [100 - 20 * c - 25 * m - 5 * y if not k else 0, *(tint * (1 - k))]
    return lab


@pytest.mark.parametrize("corner", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 0, 0),
                                    (0, 0, 0, 1), (0, 0, 0, 0)])
@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_is_converted_by_its_profile(tmp_path, corner, name):
    picture = Image.new("CMYK", (20, 20), tuple(255 * ink for ink in corner))
    quality = {"quality": 98} if name == "a.jpg" else {}
    picture.save(tmp_path / name, icc_profile=profiles.cmyk(inks()), **quality)
    want = profiles.lab_to_srgb(inks()[corner])
    assert sides(tmp_path / name)[0] == pytest.approx(want.tolist(), abs=6)


@pytest.mark.parametrize("mode, profile", [
    ("RGB", b"garbage"), ("RGB", profiles.rgb(profiles.P3)[:200]), ("RGB", profiles.grey(1)),
    ("RGB", profiles.cmyk(inks())), ("L", profiles.rgb(profiles.P3)), ("L", b"\0" * 300),
    ("CMYK", profiles.rgb(profiles.P3)), ("CMYK", profiles.grey(2)),
    ("RGB", profiles.profile(b"RGB ", {})),
    ("RGB", profiles.rgb(profiles.P3).replace(b"mntr", b"link"))])
def test_a_profile_that_does_not_fit_is_named_and_left_aside(tmp_path, mode, profile, capsys):
    picture = halves(left=(85, 177, 78)).convert(mode)
    picture.save(tmp_path / "a.tif")
    plain = decoding.read_image(tmp_path / "a.tif", 20)
    picture.save(tmp_path / "a.tif", icc_profile=profile)
    assert torch.equal(decoding.read_image(tmp_path / "a.tif", 20), plain)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "a.tif" in said and "profile" in said


def test_lab_is_read_as_its_colours(tmp_path):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    ImageCms.profileToProfile(halves(), srgb, lab, outputMode="LAB").save(tmp_path / "a.tif")
    for seen, want in zip(sides(tmp_path / "a.tif"), (RED, BLUE)):
        assert seen == pytest.approx(want, abs=4)


# ------------------------------------------------------------ deep and odd numbers

def ramp(low=0.0, high=1.0) -> np.ndarray:
    """(20,20): the left half at a quarter, the right at three quarters, some of both ends."""
    values = np.full((20, 20), 0.25)
    values[:, 10:] = 0.75
    values[0], values[-1] = 0, 1
    return low + values * (high - low)


def with_one(values: np.ndarray, value: float) -> np.ndarray:
    values = values.copy()
    values[0, 0] = value
    return values


DEEP = {    # name: (values, their type)
    "floats to 1": (ramp(), np.float32), "one of 1.02": (with_one(ramp(), 1.02), np.float32),
    "one of -0.3": (with_one(ramp(), -0.3), np.float32),
    "one of 900": (with_one(ramp(), 900), np.float32),
    "one NaN": (with_one(ramp(), np.nan), np.float32),
    "one inf": (with_one(ramp(), np.inf), np.float32),
    "one -inf": (with_one(ramp(), -np.inf), np.float32),
    "floats to 255": (ramp(0, 255), np.float32),
    "overshoot of 255": (with_one(ramp(0, 255), 261), np.float32),
    "floats to 65535": (ramp(0, 65535), np.float32),
    "floats from -1 to 1": (ramp(-1, 1), np.float32),
    "int32 to 255": (ramp(0, 255), np.int32), "int32 to 4095": (ramp(0, 4095), np.int32),
    "int32 to 65535": (ramp(0, 65535), np.int32), "int32 to 100000": (ramp(0, 100000), np.int32),
    "int32 to 2^31": (ramp(0, 2**31 - 1), np.int32), "uint16": (ramp(0, 65535), np.uint16),
    "12 bits in 16": (ramp(0, 4095), np.uint16), "8 bits in 16": (ramp(0, 255), np.uint16)}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_greys_are_scaled_sensibly(tmp_path, kind):
    values, dtype = DEEP[kind]
    Image.fromarray(values.astype(dtype)).save(tmp_path / "a.tif")
    for seen, want in zip(sides(tmp_path / "a.tif"), (64, 191)):
        assert seen == pytest.approx([want] * 3, abs=2)


def test_black_stays_black_and_no_number_is_said(tmp_path, capsys):
    for dtype in (np.uint16, np.int32, np.float32):
        Image.fromarray(np.zeros((20, 20), dtype)).save(tmp_path / "a.tif")
        assert decoding.read_image(tmp_path / "a.tif", 20).max() == -1
    Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(tmp_path / "a.tif")
    refusal(lambda: decoding.read_image(tmp_path / "a.tif", 20), "a.tif", "no finite number")
    Image.fromarray(with_one(ramp(), np.nan).astype(np.float32)).save(tmp_path / "a.tif")
    decoding.read_image(tmp_path / "a.tif", 20)
    assert "1 pixels are no finite numbers" in capsys.readouterr().err


def test_the_depth_that_a_file_declares_is_its_scale(tmp_path):
    dark = np.full((20, 20), 2000, np.uint16)
    Image.fromarray(dark).save(tmp_path / "a.png")          # PNG: always of 65535
    assert sides(tmp_path / "a.png")[0] == pytest.approx([8] * 3, abs=1)
    (tmp_path / "a.pgm").write_bytes(b"P5 20 20 4095\n" + dark.astype(">u2").tobytes())
    assert sides(tmp_path / "a.pgm")[0] == pytest.approx([125] * 3, abs=1)
    Image.fromarray(dark).save(tmp_path / "a.tif", tiffinfo={262: 0})       # 0 is white
    assert sides(tmp_path / "a.tif")[0] == pytest.approx([255 - 125] * 3, abs=1)


def test_a_transparent_value_of_16_bits_is_white(tmp_path):
    values = np.full((20, 20), 300, np.uint16)
    values[:, 10:] = 200
    Image.fromarray(values).save(tmp_path / "a.png", transparency=200)
    assert [side[0] for side in sides(tmp_path / "a.png")] == [1, 255]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_tiff_is_turned_as_it_says(tmp_path, mode, turn):
    """Found by the drawn files below: by its name Pillow 13 maps such a file, rows mixed up."""
    values = np.arange(0, 240, 240 / 400).reshape(20, 20).astype(np.uint8)
    picture = Image.fromarray(values).convert(mode if mode != "I;16" else "L")
    if mode == "I;16":
        picture = Image.fromarray(values.astype(np.uint16) * 257 + 200)
    picture.save(tmp_path / "a.tif", exif=oriented(turn))
    want = by_hand(values[..., None], "L", None, None, turn)
    seen = (decoding.read_image(tmp_path / "a.tif", 20).permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(seen - want).max() <= 1.1


# ------------------------------------------------------------ limits are not called damage

def png_header(width, height) -> bytes:
    import zlib
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head
            + struct.pack(">II", zlib.crc32(head), 64) + b"IDAT" + bytes(64))


@pytest.mark.parametrize("name, content", [
    ("a.png", png_header(20000, 10000)), ("a.png", png_header(100000, 100000)),
    ("wide.png", png_header(2_000_000, 100)),
    ("a.bmp", b"BM" + struct.pack("<IIIIiiHHI", 54, 0, 54, 40, 20000, 10000, 1, 24, 0) + bytes(20)),
    ("a.pgm", b"P5 20000 10000 255\n"),
    ("a.gif", b"GIF89a" + struct.pack("<HH", 20000, 10000) + bytes(9) + b","
     + struct.pack("<HHHH", 0, 0, 20000, 10000) + b"\0\2\0"),
    ("a.tga", bytes((0, 0, 2)) + bytes(9) + struct.pack("<HHBB", 20000, 10000, 24, 0))])
def test_a_giant_is_told_its_size_and_the_mend(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    message = refusal(lambda: decoding.read_image(tmp_path / name, 16), name, "smaller")
    assert "damaged" not in message and ("200 megapixels" in message or "too large" in message)


def test_a_jpeg_of_200_megapixels_is_read(tmp_path):
    """The picture of a telephone. Decoded to an eighth, so in little memory; no warning either."""
    Image.new("RGB", (16320, 12240), RED).save(tmp_path / "a.jpg", quality=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sides(tmp_path / "a.jpg")[0] == pytest.approx(RED, abs=6)
    assert Image.MAX_IMAGE_PIXELS == 89478485


@pytest.mark.parametrize("content, words", [
    *((b"\0\0\0\x18ftyp" + brand + bytes(300), ("HEIC", "pillow-heif")) for brand in BRANDS),
    (b"%PDF-1.7\n" + bytes(300), ("PDF",)), (b"%!PS-Adobe-3.0 EPSF", ("PostScript",)),
    (b"<?xml version='1.0'?><svg xmlns='x'/>", ("SVG",)), (b"\0\0\0\x18ftypisom", ("video",)),
    (b"\0\0\0\x14ftypqt  ", ("video",)), (b"\xff\x0a\xfa\x7f", ("JPEG XL",)),
    (b"<!DOCTYPE html><html>", ("web page", "download")), (b"PK\3\4....", ("ZIP", "unpack")),
    (b"version https://git-lfs.github.com/spec/v1\noid", ("Git LFS", "git lfs pull")),
    (b"\0\0\0\x18ftypcrx ", ("camera raw",))])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_file_is_called_what_it_is(tmp_path, no_heif, monkeypatch, content, words, name):
    monkeypatch.setattr(decoding, "formats", lambda: [f for f in Image.ID if f not in decoding.NO_RASTER
                                                    and f in Image.OPEN and f != "HEIF"])
    (tmp_path / name).write_bytes(content)
    message = refusal(lambda: decoding.read_image(tmp_path / name, 16), name, *words)
    assert "damaged" not in message


def test_a_kind_of_tiff_that_pillow_lacks_is_no_damage(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    at = content.index(struct.pack("<HH", 277, 3))      # samples a pixel: 3 become 4 of floats
    content[at + 8] = 2
    (tmp_path / "a.tif").write_bytes(content)
    refusal(lambda: decoding.read_image(tmp_path / "a.tif", 16), "a.tif", "TIFF", "8-bit PNG")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.tif", "a.bmp", "a.jp2"])
def test_half_a_file_is_damaged(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:len(whole) // 2])
    refusal(lambda: decoding.read_image(tmp_path / name, 16), name, "damaged")


@pytest.mark.parametrize("make", ["text", "history", "broken exif", "odd orientation",
                                  "big profile"])
def test_what_lies_around_the_pixels_stops_nothing(tmp_path, make):
    path, extra = tmp_path / "a.png", PngImagePlugin.PngInfo()
    if make == "text":
        extra.add_text("workflow", "x" * 3_000_000, zip=True)      # Pillow's own limit: 1 MB
    elif make == "history":
        extra.add_itxt("XML:com.adobe.xmp", "y" * 3_000_000, zip=True)
    exif = {"broken exif": b"Exif\0\0II*\0\xff\xff\xff\xff",
            "odd orientation": oriented(77).tobytes()}
    profile = profiles.rgb(profiles.SRGB)
    if make == "big profile":
        profile += bytes(3_000_000)
    halves().save(path, pnginfo=extra, icc_profile=profile,
                  **({"exif": exif[make]} if make in exif else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sides(path)[0] == pytest.approx(RED, abs=1)


# ------------------------------------------------------------ names that no terminal takes

@pytest.mark.skipif(os.name != "posix", reason="such names are POSIX's")
@pytest.mark.parametrize("name, want", [
    (b"caf\xe9", "caf\\xe9"), (b"a\nb", "a\\nb"), (b"a\x1b[31mb", "a\\x1b[31mb"),
    (b"a\rb", "a\\rb"),
    (b"a\tb", "a\\tb"), ("a\u202eb".encode(), "a\\u202eb"), (b"\xff\xfe", "\\xff\\xfe"),
    ("größe 图".encode(), "größe 图")])
def test_names_are_printed_safely(tmp_path, no_heif, name, want, capsys):
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(folder)
    refusal(lambda: data.ImageFolder(os.fsdecode(folder), 16), want, "no images")
    with open(os.path.join(folder, name + b".png"), "wb") as file:
        file.write(b"nothing")
    refusal(lambda: data.ImageFolder(os.fsdecode(folder), 16), want + ".png")
    halves().save(os.path.join(folder, name + b".png"), format="PNG")
    with open(os.path.join(folder, name + b".heic"), "wb") as file:
        file.write(HEIC)
    read = data.ImageFolder(os.fsdecode(folder), 16)
    assert read.summary.isprintable() and want + ".heic" in read.summary
    said = capsys.readouterr().err
    assert want in said and said.count("\n") == 1
    said.encode("utf-8")


# ------------------------------------------------------------ tensors of another range

PIXELS = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8,
                       generator=torch.Generator().manual_seed(0))
FLOATS = pixels.to_float(PIXELS)
TAKERS = {
    "lpips_matrix": lambda x: metrics.lpips_matrix(x),
    "lpips_matrix, second": lambda x: metrics.lpips_matrix(FLOATS[:1], x),
    "intra_lpips": lambda x: torch.tensor(metrics.intra_lpips(x, FLOATS[:1]).mean),
    "intra_lpips, targets": lambda x: torch.tensor(metrics.intra_lpips(FLOATS, x[:1]).mean),
    "nearest_lpips": lambda x: metrics.nearest_lpips(FLOATS, x[:2] * 1),
    "pooled_features": lambda x: metrics.pooled_features(x),
    "probe_features": lambda x: probes.probe_features(x),
    "lpips_features": lambda x: metrics.lpips_features(x)}


@pytest.mark.parametrize("taker", TAKERS)
def test_uint8_is_converted_and_other_ranges_are_refused(taker):
    call = TAKERS[taker]
    assert torch.equal(call(PIXELS), call(FLOATS))
    for wrong, words in ((PIXELS.float(), ("range from 0 to 255", "[-1,1]")),
                         (FLOATS * 4, ("range from -4 to 4", "[-1,1]")),
                         (PIXELS.long(), ("int64", "[-1,1]"))):
        refusal(lambda x=wrong: call(x), *words)
    for value in (float("nan"), float("inf"), float("-inf")):
        broken = FLOATS.clone()
        broken[0, 0, 0, 0] = value
        refusal(lambda x=broken: call(x), "NaN or infinity")


def test_training_takes_uint8_and_refuses_other_ranges():
    from conftest import make_source

    from dslib import train
    source, config = make_source(), train.TrainConfig(max_train_steps=1, method="finetune")
    small = PIXELS[..., :16, :16]
    steps = [next(train.adapt(source, x, config)).terms for x in (small, pixels.to_float(small))]
    assert all(torch.equal(steps[0][name], steps[1][name]) for name in steps[0])
    refusal(lambda: next(train.adapt(source, small.float(), config)), "range from 0 to 255")
    refusal(lambda: next(train.adapt(source, small.float() / 0, config)), "NaN or infinity")
    assert pixels.to_uint8(small) is not None and torch.equal(pixels.to_uint8(small), small)


def test_dull_and_overshooting_pictures_pass():
    for x in (FLOATS * 1.5, (FLOATS + 1) / 2, FLOATS.double(), FLOATS[:0]):
        assert pixels.pictures(x) is x


# ------------------------------------------------------------ drawn files against a slow reference

KINDS = {   # format: (ending, modes, how it is saved)
    "PNG": (".png", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), {}),
    "TIFF": (".tif", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F", "CMYK"), {}),
    "WEBP": (".webp", ("RGB", "RGBA"), {"lossless": True, "exact": True}),
    "GIF": (".gif", ("L", "P"), {}), "TGA": (".tga", ("L", "P", "RGB", "RGBA"), {}),
    "BMP": (".bmp", ("1", "L", "P", "RGB"), {}), "PPM": (".ppm", ("L", "RGB"), {}),
    "JPEG2000": (".jp2", ("L", "RGB", "RGBA"), {})}
PROFILED = TURNED = ("PNG", "TIFF", "WEBP")
MOVING = ("PNG", "GIF", "WEBP", "TIFF")
SWAP = profiles.rgb(profiles.SRGB[:, [1, 2, 0]])        # calls its red what sRGB calls green …
BANDS = {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}


@st.composite
def files(draw):
    """(format, numbers (h,w,bands), mode, palette, profile, orientation, frames)."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    mode = draw(st.sampled_from(KINDS[kind][1]))
    side, extra, wide = draw(st.integers(8, 14)), 2 * draw(st.integers(0, 4)), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (side, side + extra) if wide else (side + extra, side)
    numbers = rng.integers(0, 256, (*shape, BANDS.get(mode, 1)))
    if mode == "1":
        numbers = numbers // 128 * 255
    if mode == "I;16":
        numbers = numbers * 256 + rng.integers(0, 256, numbers.shape)
        numbers[0, 0] = 65535
    if mode == "F":
        numbers = numbers / 255
    palette = rng.integers(0, 256, (256, 3)) if mode == "P" else None
    embedded = [None, "swap", "grey", "garbage"] if kind in PROFILED else [None]
    profile = draw(st.sampled_from(embedded))
    turn = draw(st.integers(1, 8)) if kind in TURNED else 1
    frames = draw(st.integers(1, 3)) if kind in MOVING else 1
    return kind, numbers, mode, palette, profile, turn, frames


def picture_of(numbers, mode, palette) -> Image.Image:
    if mode == "1":
        return Image.fromarray(numbers[..., 0].astype(np.uint8)).convert("1", dither=0)
    if mode in ("I;16", "F"):
        return Image.fromarray(numbers[..., 0].astype(np.uint16 if mode == "I;16" else np.float32))
    size = numbers.shape[1::-1]
    image = Image.frombytes(mode, size, numbers.astype(np.uint8).tobytes())
    if palette is not None:
        image.putpalette(palette.astype(np.uint8).tobytes())
    return image


def by_hand(numbers, mode, palette, profile, turn) -> np.ndarray:
    """What the file shows, pixel by pixel: (H,W,3) of 0…255."""
    height, width = numbers.shape[:2]
    out = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            n, alpha = [float(v) for v in numbers[y, x]], 255.0
            if mode in ("LA", "RGBA"):
                alpha = n.pop()
            if mode == "I;16":
                n = [n[0] / 257]
            if mode == "F":
                n = [n[0] * 255]
            if mode == "P":
                n = list(palette[int(n[0])])
            if mode == "CMYK":
                n = [(255 - c) * (255 - n[3]) / 255 for c in n[:3]]
            if len(n) == 1:
                if profile == "grey":
                    n = [float(profiles.encoded(np.array(round(n[0]) / 255)) * 255)]
                n = n * 3
            elif profile == "swap" and mode != "CMYK":
                n = [n[2], n[0], n[1]]
            out[y, x] = [255 + (c - 255) * alpha / 255 for c in n]
    if turn >= 5:
        out = out.transpose(1, 0, 2)
    return {1: out, 2: out[:, ::-1], 3: out[::-1, ::-1], 4: out[::-1], 5: out,
            6: out[:, ::-1], 7: out[::-1, ::-1], 8: out[::-1]}[turn]


PROFILES = {"swap": SWAP, "grey": profiles.grey(1), "garbage": b"garbage"}


@settings(max_examples=200, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files())
def test_any_file_reads_as_its_pixels_say(tmp_path, drawn):
    kind, numbers, mode, palette, profile, turn, frames = drawn
    ending, _, saved = KINDS[kind]
    picture, path = picture_of(numbers, mode, palette), tmp_path / f"a{ending}"
    saved = dict(saved)
    if profile:
        saved["icc_profile"] = PROFILES[profile]
    if turn != 1:
        saved["exif"] = oriented(turn)
    if frames > 1:
        others = [picture.transpose(Image.Transpose.ROTATE_180)] * (frames - 1)
        saved |= {"save_all": True, "append_images": others}
    buffer = io.BytesIO()
    picture.save(buffer, kind, **saved)
    path.write_bytes(buffer.getvalue())
    want = by_hand(numbers, mode, palette, profile, turn)
    height, width = want.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    want = want[top:top + side, left:left + side]
    seen = (decoding.read_image(path, side).permute(1, 2, 0).numpy() + 1) * 127.5
    tolerance = 1.6 if kind != "JPEG2000" else 2.5
    assert np.abs(seen - want).max() <= tolerance, (kind, mode, profile, turn, frames)
