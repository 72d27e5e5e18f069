"""The reading group's ten questions: each leads to a section of a chapter that is there, and that holds a cell."""

import re
from pathlib import Path

import jupytext

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LINK = re.compile(r"\[(\w+)\]\((\w+)\.ipynb\), \*([^*]+)\*")


def sections(stem: str) -> dict[str, int]:
    """Heading → code cells below it, up to the next heading of its rank or above."""
    found, under = {}, []
    for cell in jupytext.read(NOTEBOOKS / "src" / f"{stem}.py").cells:
        if cell.cell_type == "code":
            for heading, _ in under:
                found[heading] += 1
            continue
        for marks, heading in re.findall(r"^(##+) (.+)$", cell.source, re.M):
            under = [(name, rank) for name, rank in under if rank < len(marks)] + [(heading, len(marks))]
            found[heading] = 0
    return found


def test_each_of_the_ten_questions_leads_to_sections_that_run():
    text = (NOTEBOOKS / "README.md").read_text("utf-8")
    table = text[text.index("## Ten questions, and where they are answered"):].split("\n## ")[0:2][0]
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+) \|$", table, re.M)
    assert [int(row[0]) for row in rows] == list(range(1, 11))
    for number, _, answer, links in rows:
        found = LINK.findall(links)
        assert found and len(answer) > 30, f"question {number} leads nowhere"
        for chapter, stem, heading in found:
            assert stem.startswith(f"{chapter}_"), (chapter, stem)
            assert sections(stem).get(heading), f"question {number}: {stem} has no section {heading!r} with a cell"
