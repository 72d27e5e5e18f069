"""Drawn domains are what was committed; anybody's folder becomes tensors or one clear line."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from dslib import data
from dslib.base import avatars, drawing
from dslib.env import UserError, cache_dir, data_dir

# ------------------------------------------------------------------------------------------ drawn domains

DRAWN = (*avatars.DOMAINS, *avatars.TWINS)


@pytest.mark.parametrize("domain", DRAWN)
def test_avatars_are_deterministic(domain):
    (pixels, labels), (again, labels_again) = (avatars.draw(domain, "check", 3) for _ in range(2))
    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, again) and labels == labels_again
    assert labels and all(isinstance(v, str) for v in labels.values())


@pytest.mark.parametrize("domain", DRAWN)
def test_splits_and_indices_hold_different_images(domain):
    images = [avatars.draw(domain, split, index)[0] for split in ("ten", "test", "train", "probe") for index in range(2)]
    assert len({image.tobytes() for image in images}) == len(images)


def test_domains_differ_for_the_same_index():
    assert len({avatars.draw(domain, "ten", 0)[0].tobytes() for domain in DRAWN}) == len(DRAWN)


@pytest.mark.parametrize("domain", data.TARGETS + data.TWINS)
@pytest.mark.parametrize("resolution", [64, 256])
def test_committed_images_are_the_ones_drawn(domain, resolution):
    paths = sorted((data_dir() / domain / str(resolution)).glob("*"))
    assert [p.name for p in paths] == [f"{i:02d}.png" for i in range(10)]
    labels = json.loads((data_dir() / domain / "labels.json").read_text("utf-8"))
    assert len(labels) == 10
    for index, path in enumerate(paths if resolution == 64 else paths[:2]):
        drawn, drawn_labels = avatars.draw(domain, "ten", index, resolution)
        with Image.open(path) as image:
            assert image.mode == "RGB"
            committed = np.asarray(image, dtype=int)
        assert committed.shape == drawn.shape
        assert np.abs(committed - drawn).max() <= 2
        assert labels[index] == drawn_labels


@pytest.mark.parametrize("domain", data.TARGETS + data.TWINS)
def test_load_domain_reads_the_committed_ten(domain):
    loaded = data.load_domain(domain, "ten")
    assert loaded.images.shape == (10, 3, 64, 64) and loaded.images.dtype == torch.float32
    assert loaded.images.min() >= -1 and loaded.images.max() <= 1 and loaded.images.std() > 0.1
    assert len(loaded.labels) == 10 and (loaded.name, loaded.split) == (domain, "ten")
    with Image.open(data_dir() / domain / "64" / "03.png") as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(data.to_uint8(loaded.images[3:4])[0], expected)


def test_load_domain_draws_and_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("DSLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(drawing, "BLOCK", 3)
    first = data.load_domain("sketches", "test", 4, resolution=16)
    assert first.images.shape == (4, 3, 16, 16) and len(first.labels) == 4
    assert len(list(tmp_path.glob("*.npz"))) == 2 and not list(tmp_path.glob("*.part"))
    monkeypatch.setattr(avatars, "draw_block", None)      # everything must come from the cache now
    again = data.load_domain("sketches", "test", 3, resolution=16)
    assert torch.equal(again.images, first.images[:3]) and again.labels == first.labels[:3]
    monkeypatch.undo()
    pixels, labels = avatars.draw("sketches", "test", 3, 16)
    assert np.array_equal(data.to_uint8(first.images)[3].permute(1, 2, 0).numpy(), pixels) and first.labels[3] == labels


def test_every_sunglasses_face_wears_them():
    kinds = set()
    for index in range(12):
        kinds.add(avatars.draw("sunglasses", "check", index, 16)[1]["accessories"])
    assert kinds == {"sunglasses", "wayfarers", "kurt"}
    for labels in data.load_domain("sunglasses", "ten").labels:
        assert labels["accessories"] in avatars.SUNGLASSES


def test_labels_say_what_is_in_the_picture():
    labels = avatars.factors({"hairVariant": "long", "skinColor": ["#ffffff"], "eyesColor": "red", "seed": "x", "scale": 1.0})
    assert labels == {"hair": "long", "skinColor": "#ffffff", "eyesColor": "red"}


@pytest.mark.parametrize("typed,meant", [("sunglases", "sunglasses"), ("sketch", "sketches"), ("Robots", "robots")])
def test_an_unknown_domain_suggests_the_nearest(typed, meant):
    with pytest.raises(UserError, match=f"'{typed}': did you mean '{meant}'"):
        data.load_domain(typed, "ten")


def test_a_domain_like_no_other_lists_the_known_ones():
    with pytest.raises(UserError, match="known are sunglasses, .*, robots, engraved, gouache; the source is avataaars") as caught:
        data.check_domain("zzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("n", [0, -1, 11, 1000])
def test_impossible_numbers_of_images(n):
    with pytest.raises(UserError, match=rf"(is|not) {n}\b"):
        data.load_domain("sketches", "ten", n)


@pytest.mark.parametrize("resolution", [16, 64])
def test_ten_is_ten_at_any_resolution(resolution):
    with pytest.raises(UserError, match="10 training images, not 11"):
        data.load_domain("robots", "ten", 11, resolution)


def test_a_full_disk_costs_the_cache_and_not_the_images(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DSLIB_CACHE", str(tmp_path))

    def full(file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(drawing.np, "savez_compressed", full)
    monkeypatch.setattr(drawing, "BLOCK", 3)
    assert len(data.load_domain("sketches", "test", 2, resolution=16).images) == 2
    assert "No space left on device" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_cache_folder_falls_back_when_unusable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DSLIB_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "dslib"


# ------------------------------------------------------------------------------------------ pixels and floats

def test_pixels_survive_the_round_trip():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    floats = data.to_float(pixels)
    assert floats.min() == -1 and floats.max() == 1
    assert torch.equal(data.to_uint8(floats), pixels)


def test_floats_pass_and_are_clamped_on_the_way_out():
    x = torch.tensor([-7.0, -1.0, 0.0, 1.0, 7.0])
    assert data.to_float(x) is x
    assert data.to_uint8(x).tolist() == [0, 0, 128, 255, 255]


# ------------------------------------------------------------------------------------------ anybody's folder

RED, BLUE = (200, 40, 60), (20, 60, 220)


def halves(size=(20, 20), left=RED, right=BLUE) -> Image.Image:
    """Left half one colour, right half another."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, size[0], size[1]))
    return image


def rotated_jpeg(path):
    exif = Image.Exif()
    exif[0x0112] = 6                                   # upright after a quarter turn clockwise
    halves().transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)


def paletted_with_hole(path):
    image = halves().quantize(4)
    image.putpixel((0, 0), image.getpixel((1, 1)))
    image.info["transparency"] = image.getpixel((19, 19))   # the right half is a hole
    image.save(path, transparency=image.info["transparency"])


def half_transparent(path):
    image = halves().convert("RGBA")
    image.putalpha(Image.composite(Image.new("L", (20, 20), 255), Image.new("L", (20, 20), 0), halves(left=(255,) * 3, right=(0,) * 3)
                                   .convert("L")))
    image.save(path)


def grey_alpha(path):
    image = Image.new("LA", (20, 20), (80, 255))
    image.paste((80, 0), (10, 0, 20, 20))
    image.save(path)


def sixteen_bit(path):
    values = np.full((20, 20), 80 * 257, np.uint16)
    values[:, 10:] = 220 * 257
    Image.fromarray(values).save(path)


GREY, LIGHT, WHITE = (80,) * 3, (220,) * 3, (255,) * 3
KINDS = {   # name: (file, how to write it, left colour, right colour)
    "rgb png": ("a.png", lambda p: halves().save(p), RED, BLUE),
    "rgb jpeg": ("a.jpg", lambda p: halves().save(p, quality=95), RED, BLUE),
    "upper case": ("A.JPEG", lambda p: halves().save(p, quality=95), RED, BLUE),
    "webp": ("a.webp", lambda p: halves().save(p, lossless=True), RED, BLUE),
    "bmp": ("a.bmp", lambda p: halves().save(p), RED, BLUE),
    "tiff": ("a.tiff", lambda p: halves().save(p), RED, BLUE),
    "tif, lzw": ("a.tif", lambda p: halves().save(p, compression="tiff_lzw"), RED, BLUE),
    "grey": ("a.png", lambda p: halves(left=GREY, right=LIGHT).convert("L").save(p), GREY, LIGHT),
    "black and white": ("a.png", lambda p: halves(left=(0,) * 3, right=WHITE).convert("1").save(p), (0,) * 3, WHITE),
    "grey and alpha": ("a.png", grey_alpha, GREY, WHITE),
    "palette": ("a.png", lambda p: halves().quantize(4).save(p), RED, BLUE),
    "palette with transparency": ("a.png", paletted_with_hole, RED, WHITE),
    "rgba": ("a.png", half_transparent, RED, WHITE),
    "rgba webp": ("a.webp", half_transparent, RED, WHITE),
    "cmyk jpeg": ("a.jpg", lambda p: halves().convert("CMYK").save(p, quality=95), RED, BLUE),
    "16-bit grey png": ("a.png", sixteen_bit, GREY, LIGHT),
    "16-bit grey tiff": ("a.tiff", sixteen_bit, GREY, LIGHT),
    "rotated jpeg": ("a.jpg", rotated_jpeg, RED, BLUE),
    "tall": ("a.png", lambda p: halves((20, 90)).save(p), RED, BLUE),
    "wide": ("a.png", lambda p: halves((90, 20)).save(p), RED, BLUE),
    "small": ("a.png", lambda p: halves((8, 8)).save(p), RED, BLUE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_becomes_an_upright_square_of_the_right_colours(tmp_path, kind):
    name, write, left, right = KINDS[kind]
    write(tmp_path / name)
    folder = data.ImageFolder(tmp_path, 16)
    assert len(folder) == 1 and folder[0].shape == (3, 16, 16) and folder.images.dtype == torch.float32
    assert folder.images.min() >= -1 and folder.images.max() <= 1
    seen = data.to_uint8(folder.images)[0].float()
    tolerance = 6 if name.lower().endswith(("jpg", "jpeg")) else 2
    for side, colour in ((seen[:, 2:-2, 1:5], left), (seen[:, 2:-2, -5:-1], right)):
        assert side.mean(dim=(1, 2)).tolist() == pytest.approx(colour, abs=tolerance)


def test_the_crop_is_from_the_centre(tmp_path):
    image = Image.new("RGB", (60, 20), (0, 0, 0))
    image.paste(WHITE, (20, 0, 40, 20))
    image.save(tmp_path / "a.png")
    image = data.ImageFolder(tmp_path, 16).images
    assert image[..., 1:-1].min() > 0.99 and image.min() > 0.9       # Lanczos looks one pixel over the edge


def test_shrinking_averages_rather_than_picks(tmp_path):
    """Stripes one pixel wide turn into even grey; without antialiasing they would alias to black or white."""
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    image = data.ImageFolder(tmp_path, 16).images
    assert image.abs().max() < 0.1


def test_files_are_sorted_and_others_left_out(tmp_path):
    for name, grey in (("b.png", 200), ("a.png", 10), (".hidden.png", 0)):
        Image.new("L", (10, 10), grey).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    folder = data.ImageFolder(tmp_path, 8)
    assert [p.name for p in folder.paths] == ["a.png", "b.png"]
    assert data.to_uint8(folder.images)[:, 0, 0, 0].tolist() == [10, 200]


# ------------------------------------------------------------------------------------------ bad folders

def good(folder, n=1):
    folder.mkdir(exist_ok=True)
    for i in range(n):
        halves().save(folder / f"good{i}.png")
    return folder


def refused(path, *words, **options):
    """ImageFolder(path) raises one UserError line that holds all the words."""
    with pytest.raises(UserError) as caught:
        data.ImageFolder(path, 16, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "no folder")


def test_file_instead_of_folder(tmp_path):
    refused(good(tmp_path) / "good0.png", "good0.png", "is a file")


def test_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty", "no images")


def test_folder_with_text_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path, str(tmp_path), "no images", "1 other file")


def test_one_image_where_two_are_needed(tmp_path):
    refused(good(tmp_path), str(tmp_path), "1 image", "at least 2", at_least=2)
    assert len(data.ImageFolder(good(tmp_path, 2), 16, at_least=2)) == 2


BROKEN = {
    "zero-byte.png": lambda p: p.write_bytes(b""),
    "text.png": lambda p: p.write_text("I am not a picture"),
    "text.jpg": lambda p: p.write_text("I am not a picture"),
    "html.webp": lambda p: p.write_text("<html>404</html>"),
    "tiny.png": lambda p: halves((7, 7)).save(p),
    "narrow.png": lambda p: halves((7, 300)).save(p),
    "pickle.bmp": lambda p: p.write_bytes(b"\x80\x04\x95pickle"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_file_among_good_ones_is_named(tmp_path, name):
    BROKEN[name](good(tmp_path, 2) / name)
    words = {"zero-byte.png": "empty", "tiny.png": "7×7", "narrow.png": "7×300"}.get(name, "not an image")
    refused(tmp_path, name, words)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File")
@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.bmp", "cut.tiff", "lzw.tif"])
def test_a_truncated_file_is_named_wherever_it_was_cut(tmp_path, name):
    """Cut after so many bytes: never another error than ours, and never a picture with a grey lower half."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path, **({"compression": "tiff_lzw"} if name == "lzw.tif" else {}))
    whole = path.read_bytes()
    for length in sorted({1, 2, 4, 8, 9, 12, 16, 20, 26, 30, 33, 40, 54, 60, *range(64, len(whole) - 80, 97)}):
        path.write_bytes(whole[:length])
        refused(path.parent, name)


def test_a_broken_link_is_left_out_or_named(tmp_path):
    (good(tmp_path) / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert [p.name for p in data.ImageFolder(tmp_path, 16).paths] == ["good0.png"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_and_folder(tmp_path):
    folder = good(tmp_path / "images")
    (folder / "good0.png").chmod(0)
    refused(folder, "good0.png", "permissions")
    folder.chmod(0)
    try:
        refused(folder, "images", "permissions")
    finally:
        folder.chmod(0o700)
