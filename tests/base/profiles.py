"""Colour profiles made by hand, and what they mean by the book: a slow reference for the tests."""

import struct

import numpy as np

SRGB = np.array([[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169],
                 [0.0139322, 0.0971045, 0.7141733]])        # columns: R, G, B in XYZ, for D50
P3 = np.array([[0.5151187, 0.2919778, 0.1571035], [0.2411892, 0.6922441, 0.0665668],
               [-0.0010505, 0.0418791, 0.7840713]])
D50 = (0.9642, 1.0, 0.8249)


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def srgb_curve() -> bytes:
    return b"para\0\0\0\0\0\x03\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def gamma(value: float) -> bytes:
    return b"para\0\0\0\0\0\0\0\0" + fixed(value)


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr",
            connection: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 4 from its tags."""
    text = "test".encode("utf-16-be")
    words = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = {b"desc": words, b"cprt": words, b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)} | tags
    start, table, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"\0" * 4, 0x04000000, kind, space,
                       connection) + bytes(12) + b"acsp" + bytes(28) + fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def rgb(primaries: np.ndarray, curve: bytes | None = None) -> bytes:
    curve = curve or srgb_curve()
    columns = {name: b"XYZ \0\0\0\0" + fixed(*primaries[:, i])
               for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return profile(b"RGB ", columns | {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def grey(value: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": gamma(value)})


def cmyk(inks: np.ndarray) -> bytes:
    """inks (2,2,2,2,3): the Lab colour of every corner of C, M, Y, K; colours between are mixed."""
    lab = inks.reshape(-1, 3) * [2.55, 1, 1] + [0, 128, 128]
    same = bytes(range(256))
    table = (b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + same * 4
             + lab.round().astype(np.uint8).tobytes() + same * 3)
    return profile(b"CMYK", {b"A2B0": table, b"A2B1": table}, b"prtr", b"Lab ")


def decoded(c: np.ndarray) -> np.ndarray:
    """sRGB's curve: code values in [0,1] → light."""
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """Light → code values in [0,1] by sRGB's curve, out of range clipped."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def to_srgb(pixels: np.ndarray, primaries: np.ndarray) -> np.ndarray:
    """(…,3) code values 0…255 of a matrix profile with sRGB's curve → sRGB's, by the book."""
    light = decoded(pixels / 255) @ primaries.T @ np.linalg.inv(SRGB).T
    return encoded(light) * 255


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """(3,) Lab for D50 → sRGB code values."""
    fy = (lab[0] + 16) / 116
    f = np.array([fy + lab[1] / 500, fy, fy - lab[2] / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return encoded(np.linalg.inv(SRGB) @ xyz) * 255
