"""The teaching kit holds what it promises: sections that exist, a variant of every exercise, minutes that add up, answers."""

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

from dslib.checks.exercises import CHAPTER_OF

ROOT = Path(__file__).resolve().parents[2]
KIT = (ROOT / "notebooks" / "README.md").read_text("utf-8")
CITED = sorted(set(re.findall(r"\b(\d\d|02b), ((?:\*[^*\n]+\*(?:,? (?:then|and) )?)+)", KIT.replace("\n", " "))))


def part(heading: str) -> str:
    """The text of one section."""
    return re.search(rf"^## {heading}.*?\n(.*?)(?=^## |\Z)", KIT, re.M | re.S)[1]


def headings(chapter: str) -> str:
    path = next((ROOT / "notebooks" / "src").glob(f"{chapter}_*.py"))
    return "\n".join(re.findall(r"^# #+ (.*)$", path.read_text("utf-8"), re.M))


@pytest.mark.parametrize("chapter, cited", CITED)
def test_every_section_that_is_cited_is_a_heading_of_its_chapter(chapter, cited):
    assert [name for name in re.findall(r"\*([^*]+)\*", cited) if name not in headings(chapter)] == []


def test_citations_are_found_at_all():
    assert len(CITED) > 20 and ("04", "*The mental model*, then *When the loss is blind*") in CITED


def test_every_exercise_has_a_variant_and_no_variant_is_of_nothing():
    rows = re.findall(r"^\| (`.*?) \|", part("Variants and viva"), re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(CHAPTER_OF)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "src").glob("*.py")), ids=lambda path: path.stem)
def test_a_card_and_the_table_state_the_minutes_that_the_exercises_state(path):
    text, chapter = path.read_text("utf-8"), path.stem.split("_")[0]
    stated = sum(map(int, re.findall(r"^# \*Difficulty .*?(\d+) minutes", text, re.M)))
    assert f" min, exercises {stated} min more / " in re.search(r"^# \| Read / run \| (.*) \|$", text, re.M)[1] and stated
    row = re.search(rf"^\| {chapter} \| (`.*) \|$", KIT, re.M)[1]
    assert sum(map(int, re.findall(r"\((\d+)", row))) == stated


@pytest.mark.parametrize("minutes", [60, 90])
def test_the_minutes_of_a_meeting_follow_each_other(minutes):
    spans = [tuple(map(int, span)) for span in re.findall(r"^\| (\d+)–(\d+) \|", part(f"Reading group: {minutes} minutes"), re.M)]
    assert spans[0][0] == 0 and spans[-1][1] == minutes and all(a[1] == b[0] for a, b in zip(spans, spans[1:]))


def test_the_three_blocks_and_the_ticket_take_what_they_are_given():
    rows = re.findall(r"^\| (\d+)–(\d+) \| \*\*([\w -]+)\*\*", part("Reading group: 90 minutes"), re.M)
    lasting = {name: int(end) - int(begin) for begin, end, name in rows}
    assert lasting == {"framing": 20, "hands-on": 40, "debate": 20, "exit ticket": 10}


def test_every_question_of_the_meetings_has_an_answer():
    asked = set(re.findall(r"\*\*(A\d)\*\*", part("Reading group: 60") + part("Reading group: 90")))
    assert asked == set(re.findall(r"^\| (A\d) \|", part("Answer key"), re.M)) and asked


def test_the_points_add_up_and_exercises_of_the_coursework_exist():
    points = [int(n) for n in re.findall(r"^\| [^|]+ \| (\d+) \|", part("Grading"), re.M)]
    assert sum(points) == 100
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| [12] \|[^|]*\|([^|]*)\|", part("Coursework"), re.M))))
    assert named and named <= set(CHAPTER_OF)


TEXTS = sorted(path for pattern in ("*.md", "*/*.md", "data/*/README.md") for path in ROOT.glob(pattern)
               if not {".venv", "build", "runs"} & set(path.parts))
SNIPPETS = [(path.relative_to(ROOT).as_posix(), code) for path in TEXTS
            for code in re.findall(r"^```python\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)]


def missing_names(code: str) -> list[str]:
    """What a snippet takes from dslib's modules that is not there."""
    tree, known = ast.parse(code), {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "dslib":
            for alias in node.names:
                try:
                    exec(ast.unparse(ast.ImportFrom(node.module, [alias], 0)), known)
                except ImportError:
                    known[alias.asname or alias.name] = None
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return sorted({name for name, found in known.items() if found is None} |
                  {f"{node.value.id}.{node.attr}" for node in used if isinstance(known.get(node.value.id), ModuleType)
                   and not hasattr(known[node.value.id], node.attr)})


@pytest.mark.parametrize("path, code", SNIPPETS, ids=[f"{path}-{i}" for i, (path, _) in enumerate(SNIPPETS)])
def test_snippets_in_texts_name_what_is_there(path, code):
    assert missing_names(code) == []


def test_a_snippet_with_a_name_that_is_gone_is_found():
    assert len(SNIPPETS) > 5
    assert missing_names("from dslib.measure import report, score\nscore.nothing(1)\nscore.score_all(2)") == ["report", "score.nothing"]
