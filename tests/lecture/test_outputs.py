"""What slides, handouts and the book are made of, and what their checks find. No browser and no network is used."""

import re

import pytest

from tests.lecture.test_lesson import NOTES, read
from tools.lecture import book, check, handouts, lesson, links, slides


def test_slides_hold_all_that_they_need(ducks):
    html = slides.deck(ducks)
    assert not re.search(r"""(src|href)\s*=\s*["']https?:|url\(["']?https?:|@import""", html)
    assert "Reveal.initialize" in html and "RevealNotes" in html and 'class="step answer waits"' in html
    assert (slides.HERE / "reveal" / "LICENSE").read_text(encoding="utf-8").count("Permission is hereby granted") == 1


def test_slides_follow_the_notes(ducks, monkeypatch, tmp_path):
    (tmp_path / "notes.md").write_text(NOTES, encoding="utf-8")
    monkeypatch.setattr(lesson, "notes_of", lambda path: lesson.notes(tmp_path / "notes.md"))
    titles = {minutes: re.findall('data-title="([^"]+)"', slides.deck(ducks, minutes)) for minutes in (50, 90, None)}
    assert titles[90] == titles[None] == ["09 Ducks", "1 A pond", "2 A lake"]
    assert titles[50] == ["09 Ducks", "1 A pond"]
    whole = slides.deck(ducks)
    assert '<aside class="notes"><p>41 minutes for this section.</p><p><strong>Ask.</strong> Who?</p></aside>' in whole
    assert 'data-minutes="35"' in whole


def test_a_handout_asks_and_does_not_answer(ducks):
    html = handouts.handout(ducks)
    for told in ("count ducks", "scale card", "<mfrac>", "In the code", "how many ducks?", "Your number", "09-A Count"):
        assert told in html, told
    assert "It dived" not in html and "quack" not in html and 'class="step' not in html
    assert re.findall('alt="([^"]+)"', html) == ["the map of the pond", "a lake"]  # the map once


@pytest.mark.parametrize("path", lesson.lessons(), ids=lambda path: path.stem)
def test_handouts_of_the_lessons(path):
    html = handouts.handout(path)
    asked = [s for section in read(path) for step in section.steps for s in step.blocks if "class='guess'" in s]
    assert html.count("class='guess'") == len(asked) > 0
    assert "Answer:" not in html and "class='out'" not in html


def test_pages_of_a_pdf_are_counted():
    assert handouts.page_count(b"<</Type /Pages /Count 2>> <</Type /Page /A 1>> <</Type/Page>>") == 2


GOOD = {"right": 1200, "bottom": 700, "text": 24, "code": 18, "told": False}


@pytest.mark.parametrize(
    "before, after, word",
    [
        ({}, {"right": 1290}, "side"),
        ({}, {"bottom": 721}, "bottom"),
        ({}, {"text": 23.9}, "text"),
        ({}, {"code": 17}, "code"),
        ({"told": True}, {}, "answer"),
    ],
)
def test_problems_of_a_slide(before, after, word):
    assert check.problems_of(GOOD, GOOD | {"told": True}) == []
    (problem,) = check.problems_of(GOOD | before, GOOD | after)
    assert word in problem


def test_no_browser_is_said(monkeypatch):
    monkeypatch.setattr(check, "browser", lambda: None)
    with pytest.raises(SystemExit, match="No Chromium is installed"), check.browser_page():
        pass


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<h1 id="here">A</h1><a href="b.html#there">b</a><img src="c.png">')
    (tmp_path / "b.html").write_text(
        '<a href="a.html#here">a</a><a href="https://example.org">x</a><a href="#">top</a>'
    )
    assert links.broken(tmp_path) == ["a.html: no file c.png", "a.html: no place b.html#there"]
    (tmp_path / "a.html").write_text('<h1 id="here">A</h1><script src="https://example.org/x.js"></script>')
    assert links.broken(tmp_path) == ["a.html loads https://example.org/x.js"]
    (tmp_path / "a.html").write_text('<h1 id="here">A</h1><img src="data:image/png;base64,AA==">')
    assert links.broken(tmp_path) == []
    assert links.broken(tmp_path / "none") != []


def test_links_of_a_page_lead_into_the_book():
    pages = {"index.md", "docs/library.md", "notebooks/00_boxes.ipynb", "docs/overview.jpg"}
    text = (
        "[the `nms`](../rcnn_tutorial/ops/nms.py) [top](../README.md#start) [script](../tools/notebooks.py) "
        "[00](../notebooks/00_boxes.ipynb) [web](https://example.org) [here](#b) ![p](overview.jpg)"
    )
    assert book.rewrite(text, "docs/architecture.md", pages) == (
        '<a href="../api/rcnn_tutorial.ops.nms.html">the <code>nms</code></a> [top](../index.md#start) script '
        "[00](../notebooks/00_boxes.ipynb) [web](https://example.org) [here](#b) ![p](overview.jpg)"
    )


def test_folded_cells_are_folded_in_the_book():
    image = {"data": {"image/png": ""}, "metadata": {"image/png": {"alt": "a duck"}}}
    slider = {"data": {"application/vnd.jupyter.widget-view+json": {}}}
    both = {"source_hidden": True, "outputs_hidden": True}
    cells = [
        {"cell_type": "markdown", "source": ["## 1 A pond\n", "Water."], "metadata": {}},
        {"cell_type": "code", "source": [], "metadata": {"jupyter": both, "tags": ["x"]}, "outputs": [image, slider]},
        {"cell_type": "code", "source": [], "metadata": {}, "outputs": [{"data": {"image/png": ""}}]},
        {"cell_type": "code", "source": [], "metadata": {"jupyter": {"outputs_hidden": True}}, "outputs": []},
    ]
    assert book.fold({"cells": cells}) == ["a duck", "1 A pond"]
    assert [cell["metadata"].get("tags") for cell in cells[1:]] == [["x", "hide-cell"], [], ["hide-output"]]
    assert cells[1]["outputs"] == [image]


def test_docstrings_stand_as_they_were_typed():
    lines = ["Do *not* bold a|b_ c.", "", "  a | table", "", "Args:", "    x: two * three."]
    assert book.plain(lines) == [
        "Do \\*not\\* bold a\\|b\\_ c.",
        "",
        "::",
        "",
        "      a | table",
        "",
        "Args:",
        "    x: two \\* three.",
        "",
    ]
