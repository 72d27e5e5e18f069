"""Diagrams: what is lit follows the paper's terms, and the numbers drawn are the source's and (5.1)'s."""

import json
import re

import pytest
import torch

from dslib import UserError, haar
from dslib.base.files import data_dir
from dslib.show import diagrams, plots


def strong(figure) -> set[str]:
    """The words of a figure that are not dim."""
    return {text.get_text() for text in figure.axes[0].texts if text.get_text() and (text.get_alpha() or 1) == 1}


@pytest.mark.parametrize("part, needs, leaves", [
    ("img", {"sou", "ada", "rows", "L_img"}, {"rows_hf", "detail", "answer"}), ("hf", {"sou", "rows_hf", "L_hf"}, {"rows", "detail"}),
    ("hfmse", {"x_0", "ada", "detail"}, {"sou", "guess_sou", "rows", "rows_hf"}),
    ("simple", {"ada", "answer"}, {"sou", "guess_ada", "detail"}),
    ("noise", {"x_0", "eps", "x_t"}, {"sou", "ada", "sum"})])
def test_a_part_lights_what_it_needs_and_nothing_else(part, needs, leaves):
    found = strong(diagrams.method((part,)))
    assert {diagrams.BOXES[name][4] for name in needs} <= found and not {diagrams.BOXES[name][4] for name in leaves} & found


def test_without_a_part_everything_is_lit_and_two_parts_are_a_union():
    everything = {one[4] for one in diagrams.BOXES.values()}
    assert everything <= strong(diagrams.method())
    assert strong(diagrams.method(("img", "hfmse"))) >= strong(diagrams.method(("img",))) | strong(diagrams.method(("hfmse",)))


def test_a_part_that_is_not_there_is_named():
    with pytest.raises(UserError, match="no part of the method is called wavelet"):
        diagrams.method(("img", "wavelet"))


def test_the_sketch_of_the_unet_has_the_sources_levels():
    config = json.loads((data_dir() / "source" / "unet" / "config.json").read_text("utf-8"))
    words = [text.get_text() for text in diagrams.unet().axes[0].texts]
    for level, channels in enumerate(config["block_out_channels"]):
        assert words.count(f"{config['sample_size'] >> level}²\n×{channels}") == 2


def test_the_signs_and_formulas_of_the_block_are_those_of_the_transform():
    for (formula, _, signs), band in zip(diagrams.BANDS.values(), haar.dwt2(torch.eye(4).view(4, 1, 2, 2))):
        assert ["+" if value > 0 else "-" for value in band.flatten().tolist()] == list(signs)
        written = re.findall(r"([+−]?) ?([abcd])", formula)
        assert [letter for _, letter in written] == list("abcd") and ["-" if sign == "−" else "+" for sign, _ in written] == list(signs)


def test_diagrams_can_be_drawn():
    assert all(plots.to_png(figure, 40)[:4] == b"\x89PNG" for figure in (diagrams.method(("hf",)), diagrams.unet(), diagrams.haar_block()))
