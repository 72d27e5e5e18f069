"""The reading group's ten questions: each leads to sections of chapters that are there, and that hold a cell."""

import re
from pathlib import Path

import jupytext
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
TEXT = (NOTEBOOKS / "README.md").read_text("utf-8")
PART = TEXT[TEXT.index("## Ten questions for the discussion"):TEXT.index("## Answer key")]
QUESTIONS = re.findall(r"\*\*(\d+)\. (.+?)\*\*\n(.+?)(?=\n\n\*\*\d|\Z)", PART, re.S)


def sections(chapter: str) -> dict[str, int]:
    """Heading → code cells below it, up to the next heading of its rank or above."""
    found, under = {}, []
    for cell in jupytext.read(next((NOTEBOOKS / "src").glob(f"{chapter}_*.py"))).cells:
        if cell.cell_type == "code":
            for heading, _ in under:
                found[heading] += 1
            continue
        for marks, heading in re.findall(r"^(##+) (.+)$", cell.source, re.M):
            under = [(name, rank) for name, rank in under if rank < len(marks)] + [(heading, len(marks))]
            found[heading] = 0
    return found


def test_there_are_ten_questions():
    assert [int(number) for number, _, _ in QUESTIONS] == list(range(1, 11))


@pytest.mark.parametrize("number, text", [(number, text) for number, _, text in QUESTIONS], ids=[number for number, _, _ in QUESTIONS])
def test_each_question_leads_to_sections_that_run(number, text):
    cell = re.search(r"\*Cells?:\* (.+?)(?=\n\*Not known|\Z)", text, re.S)
    assert cell and "*Not known:*" in text
    named = re.split(r"\b(?=\d\db?, )", " ".join(cell[1].split()))
    parts = [part for part in named if re.match(r"\d\db?, ", part)]
    led = [(part[:part.index(",")], heading) for part in parts for heading in re.findall(r"\*([^*]+)\*", part)]
    assert led, f"question {number} names no chapter and section"
    for chapter, heading in led:
        known = sections(chapter)
        match = [name for name in known if name.replace("$", "").startswith(heading.rstrip("."))]
        assert match and known[match[0]], f"question {number}: chapter {chapter} has no section {heading!r} with a cell: {list(known)}"


def test_sections_count_the_cells_below_a_heading():
    known = sections("08")
    assert known["A domain with a known answer"] >= known["On other domains"] > 0 and known["What can go wrong"] == 0
