"""Pictures that a model drew say so in their files; what drops it is known, not hoped away."""

import pytest
from conftest import make_images
from PIL import Image

from dslib import UserError, data
from dslib.base.provenance import GENERATED, KEY, made_by


def test_generated_pictures_say_so_and_by_what_and_others_do_not(tmp_path):
    for name, author in (("drawn", 'dslib <0.1> & "more"'), ("real", None)):
        (tmp_path / name).mkdir()
        data.write_images(tmp_path / name, make_images(2, 16), author)
        assert [made_by(tmp_path / name / f"{i:04d}.png") for i in (0, 1)] == [author] * 2
    plain, marked = (Image.open(tmp_path / name / "0000.png") for name in ("real", "drawn"))
    assert plain.tobytes() == marked.tobytes() and GENERATED in marked.info[KEY] and KEY not in plain.info


def test_the_line_is_xml_that_a_reader_of_xmp_finds(tmp_path):
    import xml.etree.ElementTree as xml
    data.write_images(tmp_path, make_images(1, 16), "a & b")
    one = xml.fromstring(Image.open(tmp_path / "0000.png").info[KEY]).find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert one.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == GENERATED
    assert one.get("{http://ns.adobe.com/xap/1.0/}CreatorTool") == "a & b"


def test_writing_the_pixels_anew_drops_it(tmp_path):
    data.write_images(tmp_path, make_images(1, 16), "dslib")
    Image.open(tmp_path / "0000.png").convert("RGB").copy().save(tmp_path / "again.jpg")
    assert made_by(tmp_path / "again.jpg") is None


def test_no_picture_is_one_line(tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    for name in ("notes.png", "missing.png"):
        with pytest.raises(UserError, match=f"{name} is no picture"):
            made_by(tmp_path / name)
