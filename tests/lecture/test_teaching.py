"""What docs/teaching.md prints below its demonstrations is what they print, and each notebook has its questions."""

import contextlib
import io
import re

from tools.lecture import lesson

PAGE = (lesson.ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")


def test_demonstrations_print_what_stands_below_them():
    told = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(told) == PAGE.count("```python") == PAGE.count("### ") - 18 >= 6
    names = {}
    for code, text in told:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        assert printed.getvalue() == text, code


def test_each_lesson_has_four_polls_and_an_exam_of_ten_points():
    polls, exams = PAGE.split("\n## Polls")[1].split("\n## Exam questions")
    for path in lesson.lessons():
        number = path.stem[:2]
        asked = re.search(rf"^### {number} .*?(?=^### |\Z)", polls, re.MULTILINE | re.DOTALL)[0]
        rows = [line.split(" | ") for line in asked.splitlines() if line.startswith("| ") and "choices" not in line]
        assert len(rows) == 4
        for _, choices, right, _ in rows:
            assert right in choices.split("; " if ";" in choices else ", "), choices
        marked = re.search(rf"^### {number} .*?(?=^### |\Z)", exams, re.MULTILINE | re.DOTALL)[0]
        points = [int(n) for n in re.findall(r"^\| [a-e] \| (\d+) \|", marked, re.MULTILINE)]
        assert sum(points) == 10 and re.findall(r"\((\w)\) [A-Z]", marked) == list("abcde")[: len(points)]
