"""One file that holds a picture → an upright sRGB tensor in [-1,1], or one line that says why not (chapter 00)."""

import threading
import warnings
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from torch import Tensor

from .errors import UserError, note, shown
from .pixels import to_float

SMALLEST = 8                # pixels a side; less is no picture
MOST = 178_956_970          # pixels that are decoded: Pillow's own limit
MOST_JPEG = 500_000_000     # JPEG decodes to an eighth a side, so larger ones fit

# vector pages, video, and formats that Pillow knows by name alone
NO_RASTER = {"EPS", "PDF", "MPEG", "WMF", "BUFR", "GRIB", "HDF5", "IPTC", "PALM"}
HEIF_ENDINGS = (".heic", ".heif", ".hif", ".heics", ".heifs")

Image.init()
ENDINGS = tuple(sorted(e for e, f in Image.registered_extensions().items()
                       if f not in NO_RASTER and (f in Image.OPEN or f == "MPO")))

HEIC_MEND = "pip install pillow-heif, or save as PNG"


def heif() -> bool:
    """True where pillow-heif is installed; Pillow opens HEIC from then on."""
    if "HEIF" in Image.OPEN:
        return True
    try:
        from pillow_heif import register_heif_opener
        register_heif_opener()
    except Exception:       # not installed, or built for another machine
        return False
    return "HEIF" in Image.OPEN


def endings() -> tuple[str, ...]:
    """The endings, in small letters, of the files that are read here and now."""
    return (*ENDINGS, *HEIF_ENDINGS) if heif() else ENDINGS


def formats() -> list[str]:
    """The names of Pillow's formats that are tried: those that hold pixels."""
    return [name for name in Image.ID if name not in NO_RASTER and name in Image.OPEN]


def read_image(path: Path, resolution: int) -> Tensor:
    """One picture, any mode and size → (3,R,R) float32 in [-1,1]: upright, sRGB, centre-cropped.

    Raises UserError naming the file, what is wrong with it and the mend.
    """
    path = Path(path)
    image = decode(path, resolution)
    if min(image.size) < SMALLEST:
        raise UserError(f"{shown(path)} is {image.width}×{image.height}: images need at least "
                        f"{SMALLEST} pixels a side")
    image = ImageOps.fit(image, (resolution, resolution), method=Image.Resampling.LANCZOS)
    return to_float(torch.from_numpy(np.array(image)).permute(2, 0, 1))


LIMITS = threading.RLock()


@contextmanager
def own_limits():
    """Our limits instead of Pillow's, and none of its warnings, while a file is opened and read.

    A camera's 200 megapixels or an editor's long history in a PNG are no attack.
    """
    with LIMITS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = MOST_JPEG, 64 * 2**20
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = kept


def decode(path: Path, resolution: int) -> Image.Image:
    """A file → upright RGB at its own size (huge JPEGs smaller). Raises UserError with the mend."""
    heif()
    try:
        # a file, not its name: by its name Pillow 13 maps a TIFF into memory and turns it wrongly
        with open(path, "rb") as file, own_limits(), Image.open(file, formats=formats()) as opened:
            check_pixels(opened, path, resolution)
            known = tags(opened)
            opened.load()
            return upright(as_rgb(opened, shown(path), known), opened)
    except UserError:
        raise
    except PermissionError:
        raise UserError(f"{shown(path)} may not be read: change its permissions or take it out of "
                        "the folder") from None
    except FileNotFoundError:
        raise UserError(f"{shown(path)} is gone: it was there when the folder was read") from None
    except (MemoryError, Image.DecompressionBombError):
        raise UserError(f"{shown(path)} is too large to be read here: save it smaller, for example "
                        "2048 pixels a side, or take it out of the folder") from None
    except Exception as error:      # decoders raise what they like; all is about this file
        raise UserError(f"{shown(path)} {what_it_is(path, error)}") from None


def check_pixels(opened: Image.Image, path: Path, resolution: int) -> None:
    """Have a huge JPEG decoded smaller, not below twice the resolution; refuse other giants."""
    width, height = opened.size
    if width * height > MOST and opened.format in ("JPEG", "MPO") and width * height <= MOST_JPEG:
        opened.draft(opened.mode, (2 * resolution, 2 * resolution))
    if opened.width * opened.height > MOST:
        raise UserError(f"{shown(path)} is {width}×{height}, {width * height / 1e6:.0f} megapixels"
                        f": {MOST / 1e6:.0f} are read at most (JPEG: {MOST_JPEG / 1e6:.0f}); save "
                        "it smaller, for example 2048 pixels a side")


TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
         6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}


def upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """The picture turned as its file's EXIF orientation says; damaged EXIF turns nothing."""
    try:
        turn = TURNS.get(opened.getexif().get(0x0112))
    except Exception:
        turn = None
    return image.transpose(Image.Transpose[turn]) if turn else image


class Tags(NamedTuple):
    """What the file says of its numbers and what Pillow forgets when it loads them."""
    top: float | None = None        # full scale of 16-bit and deeper greys, None: not said
    inverted: bool = False          # 0 is white
    unsigned: bool = False          # 32-bit integers from 0 on


def tags(opened: Image.Image) -> Tags:
    """Full scale and sign of deep greys. Also scales a PNG's transparent colour as its pixels."""
    raw = opened.tile[0][3] if opened.tile else ""
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    clear = opened.info.get("transparency")
    if opened.format == "PNG" and clear is not None:
        scale = {"L;2": 85, "L;4": 17}.get(raw)
        if scale and isinstance(clear, int):
            opened.info["transparency"] = clear * scale
        if raw == "RGB;16B" and isinstance(clear, tuple):
            opened.info["transparency"] = tuple(c >> 8 for c in clear)
    if opened.format == "TIFF":
        get = opened.tag_v2.get
        bits, kind = (v[0] if isinstance(v, tuple) and v else v for v in (get(258), get(339, 1)))
        whole = kind == 1
        top = 2.0**bits - 1 if whole and bits in (10, 12, 14) else None
        return Tags(top, get(262) == 0 and opened.mode[0] in "IF", whole and bits == 32)
    full = opened.mode.startswith("I") and opened.format in ("PNG", "PPM")
    return Tags(65535.0 if full else None)


def sniff(head: bytes) -> str:
    """What a file's first bytes say it is; empty if they say nothing."""
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"):
        return "AVIF" if b"avif" in head[12:64] and b"heic" not in head[12:64] else "HEIC"
    if brand in (b"avif", b"avis", b"crx "):
        return "camera raw" if brand == b"crx " else "AVIF"
    if brand[:3] in (b"iso", b"mp4", b"qt ", b"M4V", b"avc", b"3gp", b"3g2", b"MSN", b"XAV"):
        return "video"
    for start, what in (
            (b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF8", "GIF"), (b"II*\0", "TIFF"),
            (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"), (b"8BPS", "Photoshop"),
            (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"%PDF", "PDF"),
            (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"%!PS", "PostScript"), (b"FUJIFILM", "camera raw"),
            (b"IIU\0", "camera raw"), (b"IIRO", "camera raw"), (b"\x1aE\xdf\xa3", "video"),
            (b"PK\x03\x04", "ZIP archive"), (b"\x1f\x8b", "gzip archive"), (b"Rar!", "RAR archive"),
            (b"v/1\x01", "OpenEXR"), (b"#?RADIANCE", "Radiance HDR"), (b"gimp xcf", "GIMP"),
            (b"version https://git-lfs", "Git LFS pointer"), (b"\0\x05\x16\x07", "AppleDouble")):
        if head.startswith(start):
            return what
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "video"}.get(head[8:12], "")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "web page"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG"
    return ""


MENDS = {"HEIC": HEIC_MEND, "video": "save single frames as PNG", "Git LFS pointer": "git lfs pull",
         "web page": "download the picture itself", "AppleDouble": "delete it",
         **dict.fromkeys(("ZIP archive", "gzip archive", "RAR archive"), "unpack it"),
         **dict.fromkeys(("JPEG XL", "PDF", "PostScript", "SVG", "camera raw", "OpenEXR",
                          "Radiance HDR", "GIMP"), "save it as PNG")}


def what_it_is(path: Path, error: Exception) -> str:
    """The real reason why a file could not be read, and the mend."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as broken:
        return f"cannot be read ({broken.strerror}): copy it elsewhere or take it out of the folder"
    if not head:
        return "is empty: replace it or take it out of the folder"
    inside = sniff(head)
    unopened = isinstance(error, Image.UnidentifiedImageError)
    if inside in MENDS and unopened:
        return (f"is no image that is read here but {inside}, whatever its name says (not an image "
                f"for Pillow): {MENDS[inside]}")
    reason = real_reason(path, inside) if unopened else brief(error)
    if any(word in reason.lower() for word in ("unknown pixel mode", "not supported", "unsupported",
                                               "not available", "unknown raw", "image mode")):
        return (f"is a kind of {inside or 'image'} that is not read here ({reason}): save it as an "
                "8-bit PNG, or replace it if it is damaged")
    return f"is damaged or not an image ({reason}): replace it or take it out of the folder"


def brief(error: Exception) -> str:
    """An error's text in one printable line; its kind where the text alone says nothing."""
    text = shown(error)[:160]
    return text if text and not isinstance(error, KeyError) else type(error).__name__ + " " + text


def real_reason(path: Path, inside: str) -> str:
    """Pillow says only that no format fits; the format itself, asked alone, says why."""
    plugin = {"WebP": "WEBP", "Photoshop": "PSD", "JPEG 2000": "JPEG2000"}.get(inside, inside)
    if plugin in Image.OPEN:
        try:
            with open(path, "rb") as file, own_limits():
                Image.OPEN[plugin][0](file, "")
        except Exception as error:
            return brief(error)
    return "Pillow knows no such format"


# ---------------------------------------------------------------------------------- colours

def as_rgb(image: Image.Image, name: str = "the picture", known: Tags | None = None) -> Image.Image:
    """Any Pillow mode → RGB in sRGB: by the embedded profile, deep greys at 8 bits, alpha on white.

    name: what a warning calls the picture; known: what its file says of its numbers. Without a
    profile the numbers are taken as sRGB; CMYK is then turned by formula. Grey stays R = G = B.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = eight_bits(image, name, known or Tags())
    if image.mode == "La":
        image = image.convert("LA")
    alpha, grey = None, image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    if grey:
        image = image.convert("L")      # of three equal channels: exact
    elif image.mode not in ("CMYK", "LAB"):
        image = image.convert("RGB")
    rgb = to_srgb(image, profile, name)
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return rgb


SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}


def to_srgb(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """L, RGB, CMYK or LAB → RGB in sRGB by a profile that fits, perceptual where it has a choice.

    A broken profile, or one of another kind of picture, is named in one line and left aside.
    """
    if profile:
        try:
            rgb = ImageCms.applyTransform(image, transform(profile, image.mode))
            return rgb.convert("L").convert("RGB") if image.mode == "L" else rgb
        except Exception as error:      # ImageCms raises OSError, ValueError, PyCMSError …
            note(f"{name}: its colour profile is left aside ({shown(error)[:100]}), "
                 "its colours are taken as sRGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return image.convert("RGB")


@lru_cache(maxsize=16)
def transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """The way from a profile's colours in a Pillow mode to sRGB. Raises if it is for another."""
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    space, kind = source.profile.xcolor_space.strip(), source.profile.device_class.strip()
    if space != SPACES[mode]:
        raise ValueError(f"it is for {space} pictures and this one is {SPACES[mode]}")
    if kind in ("link", "abst", "nmcl"):
        raise ValueError(f"it is a profile of class {kind}, which describes no picture")
    exact = 0x0100 if mode == "L" else 0        # LCMS's NOOPTIMIZE: else dark greys are 10 off
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB",
                                   ImageCms.Intent.PERCEPTUAL, exact)


def eight_bits(image: Image.Image, name: str, known: Tags) -> Image.Image:
    """Greys of 16 or 32 bits or floats → mode L, or LA where one value is transparent.

    The full scale is what the file says (PNG of 16 bits: 65535, TIFF of 12 bits: 4095), else
    :func:`full_scale` of the values. Values beyond it are clipped. NaN is black, infinities are
    the ends; both are said. Raises UserError where no value is finite.
    """
    values = np.asarray(image, dtype=np.float64)
    clear = image.info.get("transparency")
    alpha = np.where(values == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
    if known.unsigned:
        values = np.where(values < 0, values + 2.0**32, values)
    finite = np.isfinite(values)
    if not finite.any():
        raise UserError(f"{name} holds no finite number: it comes from a calculation that failed, "
                        "take it out of the folder")
    bottom, top = (0.0, known.top) if known.top else full_scale(values[finite], image.mode)
    if not finite.all():
        note(f"{name}: {(~finite).sum()} pixels are no finite numbers; NaN is read as black")
        values = np.nan_to_num(values, nan=max(bottom, 0.0), posinf=top, neginf=bottom)
    values = (values.clip(bottom, top) - bottom) * (255.0 / (top - bottom))
    grey = (255 - values if known.inverted else values).round().astype(np.uint8)
    if alpha is None:
        return Image.fromarray(grey)
    return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))


def full_scale(values: np.ndarray, mode: str) -> tuple[float, float]:
    """(black, white) of numbers whose file does not say: by where the bulk of them lies.

    Half a percent at either end is not looked at, so that a few stray values change nothing. White
    is 1 for floats whose bulk is below 16 (brighter than 1 is clipped), else the first of 255,
    4095 and 65535 that holds the bulk with a quarter to spare, else the bulk's own end. For 16 bits
    it is the first of the three that holds every value: cameras' 12 bits come in files of 16.
    Black is 0, or minus white where the bulk reaches more than a twentieth of white below zero.
    """
    if mode.startswith("I;16"):
        return 0.0, next(top for top in (255.0, 4095.0, 65535.0) if values.max() <= top)
    low, high = (float(v) for v in np.quantile(values, (0.005, 0.995)))
    bulk = max(high, -low)
    if mode == "F" and bulk <= 16:
        white = 1.0
    else:
        white = next((top for top in (255.0, 4095.0, 65535.0) if bulk <= 1.25 * top), bulk)
    return (-white if low < -white / 20 else 0.0), white
