"""A picture's file says that a model drew it: XMP with IPTC's digital source type, which agencies and search engines read (chapter 12).

A line in a file, no seal: anybody can write it, and many programs drop it when they write the pixels anew. C2PA's signed manifests need
a certificate, and are dropped as easily.
"""

import re
from html import escape, unescape
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from .errors import UserError, first_line

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
KEY = "XML:com.adobe.xmp"


def mark(made_by: str) -> PngInfo:
    """What ``Image.save(…, pnginfo=mark("dslib 0.1.0"))`` writes into a PNG: generated, and by what."""
    info = PngInfo()
    info.add_itxt(KEY, '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
                  '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
                  'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
                  f'Iptc4xmpExt:DigitalSourceType="{GENERATED}" xmp:CreatorTool="{escape(made_by)}"/></rdf:RDF></x:xmpmeta>')
    return info


def made_by(path: str | Path) -> str | None:
    """Who says to have generated a picture, by its file; None where the file does not say. Raises UserError for no picture."""
    try:
        with Image.open(path) as picture:
            words = picture.info.get(KEY) or picture.info.get("xmp") or ""
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no picture that can be read: {first_line(error)}") from None
    words = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    if "trainedAlgorithmicMedia" not in words:
        return None
    tool = re.search(r'CreatorTool(?:="|>)([^"<]*)', words)
    return unescape(tool[1]) if tool else "unknown"
