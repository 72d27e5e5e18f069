"""The questions of the chapters: what a file must hold, what may be believed of it, and what becomes of it on the screen."""

import base64
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import jupytext
import nbformat
import pytest

from dslib import UserError
from dslib.show import quiz

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "data" / "quizzes").glob("*.json"))
SOURCES = {path.stem: path for path in sorted((ROOT / "notebooks" / "src").glob("*.py"))}
QUESTIONS = [pytest.param(path, question, id=f"{path.stem}-{number}") for path in FILES
             for number, question in enumerate(json.loads(path.read_text("utf-8"))["questions"], 1)]
chapters = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
questions = pytest.mark.parametrize("path, question", QUESTIONS)


def committed(stem: str):
    return nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)


def said_in(stem: str) -> str:
    """All that a reader of the chapter sees: texts, code, printed outputs, tables."""
    cells = [cell for cell in committed(stem).cells if "quiz" not in cell.metadata.get("tags", [])]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    said = ["".join(o.get("text", o.get("data", {}).get("text/markdown", ""))) for o in outputs]
    return "\n".join([cell.source for cell in cells] + said)


def test_every_chapter_has_five_questions():
    assert [path.stem for path in FILES] == list(SOURCES)
    assert Counter(param.values[0].stem for param in QUESTIONS) == dict.fromkeys(SOURCES, 5)


@questions
def test_a_question_has_all_its_parts_and_as_many_right_answers_as_it_says(path, question):
    assert set(question) <= {"ask", "where", "code", "sketch", "right", "options"} and question["ask"].strip()
    assert question["right"] == sum(entry.get("right", False) for entry in question["options"]) >= 1
    assert 3 <= len(question["options"]) <= 5 and question["right"] < len(question["options"]) - 1
    for entry in question["options"]:
        assert set(entry) <= {"text", "why", "right"} and entry["text"].strip()


@questions
def test_every_answer_is_told_why_and_each_in_its_own_words(path, question):
    whys = [entry["why"] for entry in question["options"]]
    assert min(map(len, whys)) > 30 and len(set(whys)) == len(whys)
    assert len({entry["text"] for entry in question["options"]}) == len(whys)
    for sentence in re.split(r"(?<=[.!?])\s", " ".join([question["ask"], *whys])):
        assert len(sentence.split()) <= 27, sentence


@questions
def test_a_question_points_to_a_heading_of_its_chapter(path, question):
    headings = re.findall(r"^#+ (.+)$", "\n\n".join(c.source for c in jupytext.read(SOURCES[path.stem]).cells if c.cell_type == "markdown"),
                          re.M)
    assert question["where"] in headings


def strange_numbers(question: dict, text: str) -> list[str]:
    """Numbers with a decimal point, and shares, that neither the chapter nor the question itself states."""
    def found(words):
        return set(re.findall(r"\d+\.\d+(?:e-\d+)?|\d+(?= ?%)", words))
    told = " ".join(" ".join([entry["text"], entry["why"]]) for entry in question["options"])
    stated = text + question["ask"]
    shares = {str(round(100 * float(value))) for value in re.findall(r"(?<![\d.])[01]\.\d\d+", stated)}
    return sorted(n for n in found(told) if n not in stated and n not in shares
                  and not any(value.startswith(n) for value in found(stated)))


@questions
def test_numbers_are_the_chapters(path, question):
    assert not strange_numbers(question, said_in(path.stem))


def test_a_number_that_the_chapter_does_not_state_is_found():
    question = {"ask": "12 of 0.5?", "options": [{"text": "a", "why": "It is 0.271, not 0.5: 93%."}]}
    assert strange_numbers(question, "0.242 and 7%") == ["0.271", "93"]
    assert strange_numbers(question, "0.271 and a hit of 0.934") == []


def test_right_answers_are_not_told_by_their_length_or_place():
    single = [question for param in QUESTIONS if (question := param.values[1])["right"] == 1]
    ranks = Counter()
    for question in single:
        right, wrong = ([len(entry["text"]) for entry in question["options"] if entry.get("right", False) == holds]
                        for holds in (True, False))
        ranks["shortest"] += right[0] < min(wrong)
        ranks["longest"] += right[0] > max(wrong)
    assert max(ranks.values()) <= 0.35 * len(single), ranks
    places = Counter(i for path in FILES for question in quiz.load(path.stem.split("_")[0])
                     for i, entry in enumerate(question["options"][:4]) if entry.get("right"))
    assert all(0.15 * len(QUESTIONS) <= places[i] <= 0.35 * len(QUESTIONS) for i in range(4)), places


def test_the_order_is_the_same_every_time_and_is_not_the_files():
    shown = [[entry["text"] for entry in question["options"]] for question in quiz.load("04")]
    assert shown == [[entry["text"] for entry in question["options"]] for question in quiz.load("04")]
    filed = [[entry["text"] for entry in param.values[1]["options"]] for param in QUESTIONS if param.values[0].stem.startswith("04")]
    assert shown != filed and [sorted(texts) for texts in shown] == [sorted(texts) for texts in filed]


def test_a_chapter_without_questions_is_one_line():
    with pytest.raises(UserError, match=r"no questions for chapter '15'.*use one of 00, 01, 02, 02b"):
        quiz.load("15")


@chapters
def test_the_page_is_whole_and_asks_nothing_of_the_network(path):
    text = quiz.output(path.stem.split("_")[0])["text/html"]
    page = ElementTree.fromstring(text.replace('width="380" height="200">', 'width="380" height="200"/>'))     # well formed
    assert "<script" not in text and "\n" not in text
    sources = [image.get("src") for image in page.iter("img")]
    assert not re.search(r"https?:|//", re.sub(r'src="data:[^"]*"', "", text)) and all(s.startswith("data:") for s in sources)
    assert len(page.findall("fieldset")) == len(page.findall("fieldset/legend")) == 5
    for question, drawn in zip(quiz.load(path.stem.split("_")[0]), page.findall("fieldset")):
        answers = drawn.findall("details")
        assert [answer[0].tag for answer in answers] == ["summary"] * len(question["options"])
        assert [answer.get("class") == "holds" for answer in answers] == [entry.get("right", False) for entry in question["options"]]
        for answer in answers:
            said = "".join(answer[1].itertext())
            assert said.startswith("✓ It holds." if answer.get("class") == "holds" else "✗ No.")
    for image in page.iter("img"):
        assert len(image.get("alt")) > 60
        drawing = ElementTree.fromstring(base64.b64decode(image.get("src").split(",")[1]))
        letters = {node.text for node in drawing.iter("{http://www.w3.org/2000/svg}text")}
        assert {"A", "B", "C", "D"} <= letters


def test_signs_of_code_and_formulas_survive():
    assert quiz.rich("`a < b` & *c* $x_i * y_i < 2$ d") == "<code>a &lt; b</code> &amp; <em>c</em> $x_i * y_i &lt; 2$ d"


@chapters
def test_the_committed_cell_shows_these_questions(path):
    cells = [cell for cell in committed(path.stem).cells if "quiz" in cell.metadata.get("tags", [])]
    chapter = path.stem.split("_")[0]
    assert [cell.source for cell in cells] == [f'from dslib.show import quiz\n\nquiz.ask("{chapter}")']
    assert [dict(output.data) for output in cells[0].outputs] == [quiz.output(chapter)], "tools/build_notebooks.py --text"
    assert len(json.dumps(cells[0].outputs)) < 30_000


def test_asking_shows_what_is_committed(monkeypatch):
    seen = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: seen.append((data, raw)))
    quiz.ask("05")
    assert seen == [(quiz.output("05"), True)]


def test_changed_questions_are_taken_over_without_a_run(tmp_path):
    for folder in ("tools", "notebooks/src", "data/quizzes", "dslib"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    target = Path(shutil.copy(ROOT / "notebooks" / "05_haar_bands.ipynb", tmp_path / "notebooks"))
    before = nbformat.read(target, as_version=4)
    file = tmp_path / "data" / "quizzes" / "05_haar_bands.json"
    file.write_text(file.read_text("utf-8").replace("A vertical edge", "An upright edge"), "utf-8")
    subprocess.run([sys.executable, tmp_path / "tools" / "build_notebooks.py", "--text", "05_haar_bands"], check=True, capture_output=True,
                   env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"})
    after = nbformat.read(target, as_version=4)
    changed = [new.source for old, new in zip(before.cells, after.cells) if old.get("outputs") != new.get("outputs")]
    assert changed == ['from dslib.show import quiz\n\nquiz.ask("05")']
    assert "An upright edge" in json.dumps(after.cells[-2].outputs, ensure_ascii=False)
