"""Pictures as people have them → upright sRGB tensors in [-1,1], or one line that says why not.

``scan`` says what a folder holds, ``read_image`` reads one file, ``pictures`` checks a tensor.
"""

import os
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from torch import Tensor

from .errors import UserError

SMALLEST = 8                # pixels a side; less is no picture
MOST = 178_956_970          # pixels that are decoded: Pillow's own limit
MOST_JPEG = 500_000_000     # JPEG decodes to an eighth a side, so larger ones fit
PEEK = 20_000               # entries looked at to say where pictures lie that are not read

# --------------------------------------------------------------------------- which files

# vector pages, video, and formats that Pillow knows by name alone
NO_RASTER = {"EPS", "PDF", "MPEG", "WMF", "BUFR", "GRIB", "HDF5", "IPTC", "PALM"}
HEIF_ENDINGS = (".heic", ".heif", ".hif", ".heics", ".heifs")
USUAL = "PNG, JPEG, WebP, AVIF, TIFF, BMP or GIF"

Image.init()
ENDINGS = tuple(sorted(e for e, f in Image.registered_extensions().items()
                       if f not in NO_RASTER and (f in Image.OPEN or f == "MPO")))

HEIC_MEND = "pip install pillow-heif, or save as PNG"
RAW = "camera raw (export as JPEG or PNG)"
VECTOR = "vector or page format (export as PNG)"
VIDEO = "video (save single frames as PNG)"
ARCHIVE = "archive (unpack it)"
EDITOR = "format that is not read here (export as PNG)"
KNOWN = {      # endings of files that hold pictures we do not read: what they are and the mend
    **dict.fromkeys(HEIF_ENDINGS, f"HEIC ({HEIC_MEND})"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF (pip install -U pillow, or save as PNG)"),
    ".webp": "WebP (pip install -U pillow, or save as PNG)",
    ".jxl": "JPEG XL (save as PNG)",
    **dict.fromkeys((".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng", ".raf",
                     ".orf", ".rw2", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".raw"), RAW),
    **dict.fromkeys((".svg", ".svgz", ".pdf", ".eps", ".ps", ".ai", ".wmf", ".emf", ".cdr",
                     ".djvu"), VECTOR),
    **dict.fromkeys((".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv",
                     ".3gp", ".mts"), VIDEO),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"), ARCHIVE),
    **dict.fromkeys((".exr", ".hdr", ".xcf", ".kra", ".psb", ".jxr", ".wdp", ".bpg", ".dcm",
                     ".palm", ".clip", ".afphoto"), EDITOR),
}
JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
NO_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information"}


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


def shown(text: object) -> str:
    """A file name or message as one printable line: what no terminal takes is escaped."""
    out = []
    for c in str(text):
        if "\udc80" <= c <= "\udcff":           # a byte that is no UTF-8, as Python keeps it
            out.append(f"\\x{ord(c) - 0xdc00:02x}")
        else:
            out.append(c if c.isprintable() else c.encode("unicode_escape").decode("ascii"))
    return "".join(out)


def note(line: str) -> None:
    """Say one line on stderr; of several processes only the first does."""
    if os.environ.get("RANK", "0") == "0":
        print(line.encode("utf-8", "backslashreplace").decode("utf-8"), file=sys.stderr)


# --------------------------------------------------------------------- what a folder holds

class Found(NamedTuple):
    """What a folder holds: pictures to read, what was left out and why, and where others lie."""
    paths: list[Path]               # in order of their names
    left_out: dict[str, list[str]]  # reason → names of files that may be pictures
    others: list[str]               # names of files that are no pictures: captions and the like
    below: dict[str, int]           # subfolder that was not looked into → pictures in it


def children(folder: Path) -> tuple[list[Path], list[Path]]:
    """(files, folders) of a folder by name; hidden ones, system files and broken links left out."""
    try:
        here = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
        files = [p for p in here if p.is_file() and p.name.lower() not in JUNK]
        return files, [p for p in here if p.is_dir() and p.name.lower() not in NO_FOLDERS]
    except PermissionError:
        raise UserError(f"{shown(folder)} may not be read: change its permissions") from None
    except OSError as error:
        raise UserError(f"{shown(folder)} cannot be read ({error.strerror}): copy it elsewhere"
                        ) from None


def walk(folder: Path, been: set[str]):
    """Files of a folder and of all folders below it, each folder once, links that loop or not."""
    real = os.path.realpath(folder)
    if real in been:
        return
    been.add(real)
    files, folders = children(folder)
    yield from files
    for below in folders:
        yield from walk(below, been)


def pictures_below(folder: Path) -> int:
    """How many files with a picture's ending lie in a folder and below, of ``PEEK`` at most."""
    kinds = endings()
    try:
        return sum(p.suffix.lower() in kinds for p in islice(walk(folder, set()), PEEK))
    except UserError:
        return 0


def why_left_out(path: Path) -> str | None:
    """Why a file without a known ending is left out, or None if it is no picture at all."""
    known = KNOWN.get(path.suffix.lower())
    if known:
        return known
    try:
        with open(path, "rb") as file:
            inside = sniff(file.read(64))
    except OSError:
        return None
    if inside not in ("PNG", "JPEG", "WebP", "GIF", "TIFF", "HEIC", "AVIF", "JPEG XL"):
        return None
    ending = f"ending {path.suffix}" if path.suffix else "no ending"
    return shown(f"{inside} with {ending} (rename to .{inside.lower().replace('jpeg xl', 'jxl')})")


def check_folder(folder: Path) -> None:
    """Raise UserError if a folder is missing or is a file."""
    try:
        exists, is_dir = folder.exists(), folder.is_dir()
    except (OSError, ValueError):       # a name too long, a zero byte
        exists = is_dir = False
    if not exists:
        raise UserError(f"no folder {shown(folder)}: give the folder that holds your images")
    if not is_dir:
        raise UserError(f"{shown(folder)} is a file: give the folder that holds your images")


def scan(folder: Path, recursive: bool = False) -> Found:
    """What a folder holds; recursive: also what lies in its subfolders, in order of the paths.

    Hidden files and folders and what systems leave behind are not looked at, linked folders once.
    Raises UserError for a folder that is missing, a file, or may not be read.
    """
    check_folder(folder)
    files, folders = children(folder)
    if recursive:
        files = list(walk(folder, set()))
        folders = []
    kinds, paths, left_out, others = endings(), [], {}, []
    for path in files:
        if path.suffix.lower() in kinds:
            paths.append(path)
            continue
        reason, name = why_left_out(path), shown(path.relative_to(folder))
        if reason:
            left_out.setdefault(reason, []).append(name)
        else:
            others.append(name)
    below = {shown(p.name): n for p in folders if (n := pictures_below(p))}
    return Found(paths, left_out, others, below)


def listed(names: list[str], most: int = 3) -> str:
    """The first names, and … where there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def kinds_of(paths: list[Path]) -> str:
    """"4 PNG, 2 JPEG": files by the format that their endings name."""
    names = Image.registered_extensions() | dict.fromkeys(HEIF_ENDINGS, "HEIC")
    count = {}
    for path in paths:
        kind = names[path.suffix.lower()]
        count[kind] = count.get(kind, 0) + 1
    return ", ".join(f"{n} {kind}" for kind, n in count.items())


def unused(found: Found) -> str:
    """What was left out and why, in one line; empty if nothing was."""
    parts = [f"{len(names)} {reason}: {listed(names)}" for reason, names in found.left_out.items()]
    if found.below:
        where = listed([f"{name} {n}" for name, n in found.below.items()], 8)
        parts.append(f"{sum(found.below.values())} in subfolders (--recursive reads them): {where}")
    return "; ".join(parts)


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """The image files of a folder by name, or a UserError that says what was found instead."""
    found = scan(Path(folder), recursive)
    check_any(Path(folder), found)
    return found.paths


def check_any(folder: Path, found: Found) -> None:
    """Raise UserError, with what is there and where pictures are, if there is nothing to read."""
    if found.paths:
        return
    n = len(found.others)
    other = f" ({n} other file{'s' if n != 1 else ''})" if n or not found.left_out else ""
    if found.below:
        where = listed([f"{name} ({k})" for name, k in found.below.items()], 8)
        left = f"; left out: {unused(found._replace(below={}))}" if found.left_out else ""
        raise UserError(f"{shown(folder)} holds no images itself{other}, its subfolders do: "
                        f"{where}; give one of them, or add --recursive to read them all{left}")
    if found.left_out:
        raise UserError(f"{shown(folder)} holds no images that can be read here{other}; "
                        f"left out: {unused(found)}")
    raise UserError(f"{shown(folder)} holds no images{other}: put {USUAL} files in it")


# ----------------------------------------------------------------------------- one picture

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


# ---------------------------------------------------------------------------------- tensors

def to_float(pixels: Tensor) -> Tensor:
    """uint8 (N,3,H,W) in [0,255] → float32 in [-1,1]; float tensors pass through."""
    return pixels.float() / 127.5 - 1.0 if pixels.dtype == torch.uint8 else pixels


def to_uint8(images: Tensor) -> Tensor:
    """float in [-1,1], clamped → uint8 in [0,255]: :func:`to_float`'s inverse; uint8 passes."""
    images = images.detach().cpu()
    if images.dtype == torch.uint8:
        return images
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


FAR = 2.0       # no picture in [-1,1] has a value beyond this; [0,255] and standardised ones have


def check_pictures(images: Tensor, what: str = "the images") -> Tensor:
    """The images themselves if they are uint8, or finite floats within [-2,2]; else a UserError."""
    if images.dtype == torch.uint8 or not images.numel():
        return images
    if not images.dtype.is_floating_point:
        kind = str(images.dtype).removeprefix("torch.")
        raise UserError(f"{what} are {kind}: give uint8 in [0,255] or floats in [-1,1]")
    low, high = (float(v) for v in images.detach().aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{what} hold NaN or infinity: they come from a calculation that failed, "
                        "draw or read them again")
    if max(-low, high) > FAR:
        raise UserError(f"{what} range from {low:.3g} to {high:.3g}: give floats in [-1,1] (from "
                        "[0,255]: images / 127.5 - 1) or uint8 tensors")
    return images


def pictures(images: Tensor, what: str = "the images") -> Tensor:
    """uint8 in [0,255] or floats in [-1,1] → floats in [-1,1], grey ones with three equal channels.

    Raises UserError for other ranges. Floats in [0,1] cannot be told from dull pictures and pass.
    """
    images = to_float(check_pictures(images, what))
    return in_channels(images, 3) if images.ndim == 4 and images.shape[1] == 1 else images


LUMA = (0.299, 0.587, 0.114)        # what Pillow's mode L is made of


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Pictures (N,1,H,W) or (N,3,H,W), uint8 or floats → (N,channels,H,W): grey of colours, or grey three times. Grey stays grey."""
    if images.shape[1] == channels:
        return images
    if (images.shape[1], channels) == (1, 3):
        return images.expand(-1, 3, -1, -1)
    if (images.shape[1], channels) != (3, 1):
        raise UserError(f"pictures of {images.shape[1]} channels cannot be made into {channels}: 1 (grey) and 3 (colour) are known")
    grey = sum(weight * images[:, i:i + 1].double() for i, weight in enumerate(LUMA))
    return grey.round().to(torch.uint8) if images.dtype == torch.uint8 else grey.to(images.dtype)


class ImageFolder:
    """The pictures of a folder as tensors: ``folder[i]`` (3,R,R) and ``folder.images`` (n,3,R,R), in [-1,1].

    Whatever Pillow reads here comes out as upright sRGB, transparency on white, centre-cropped to a square and resized with
    antialiasing; of animations the first frame. Sorted by name; recursive: with the subfolders', sorted by path. ``summary`` says
    in one line what was used and what was left out, ``left_out`` has {reason: names}, ``below`` {subfolder not looked at: pictures}.
    Where something was left out, that is also said on stderr. Raises UserError that names the folder or file: missing or empty
    folder, fewer than ``at_least`` images, unreadable or tiny files.
    """

    def __init__(self, path: str | Path, resolution: int = 64, at_least: int = 1, skip: tuple[str, ...] = (),
                 recursive: bool = False):
        found = scan(Path(path), recursive)
        check_any(Path(path), found)
        self.paths = [p for p in found.paths if p.name not in skip]
        self.left_out, self.below, left, n = found.left_out, found.below, unused(found), len(self.paths)
        holds = f"{n} image" + ("s" if n != 1 else "")
        if n < at_least:
            raise UserError(f"{shown(path)} holds {holds}: at least {at_least} are needed to compare them in pairs, about 10 is usual; add "
                            "more (or adapt with --method finetune, which compares nothing)" + (f"; left out: {left}" if left else ""))
        self.summary = f"{holds} read ({kinds_of(self.paths)})" + (f"; left out: {left}" if left else "")
        if left:
            note(f"{shown(path)}: {self.summary}")
        self.images = torch.stack([read_image(p, resolution) for p in self.paths])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def write_images(folder: Path, images: Tensor) -> None:
    """Images (N,3,R,R), or grey (N,1,R,R), in [-1,1] as ``0000.png`` … in a folder; numbered ones there are replaced or removed."""
    for old in folder.glob("[0-9][0-9][0-9][0-9].png"):
        old.unlink()
    for i, pixels in enumerate(to_uint8(images).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(folder / f"{i:04d}.png")
