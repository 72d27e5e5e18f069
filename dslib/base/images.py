"""A folder of pictures as people have it: which files are read, what was left out and why (chapter 00)."""

import os
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from .decoding import HEIC_MEND, HEIF_ENDINGS, endings, read_image, sniff
from .errors import UserError, note, shown

PEEK = 20_000               # entries looked at to say where pictures lie that are not read
USUAL = "PNG, JPEG, WebP, AVIF, TIFF, BMP or GIF"
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
