"""What of a notebook comes on the slides, in which steps, and what the speaker notes say."""

import re
from functools import cache

import pytest
from nbformat.v4 import new_code_cell

from tests.lecture.conftest import printed
from tools.lecture import lesson

read = cache(lesson.read)


@pytest.fixture
def sections(ducks):
    return read(ducks)


def html_of(steps):
    return "\n".join(block for step in steps for block in step.blocks)


def test_sections_are_the_slides_with_a_heading(sections):
    assert [section.title for section in sections] == ["09 Ducks", "1 A pond", "2 A lake"]


def test_set_up_exercises_and_sliders_are_left_out(sections):
    everything = "".join(html_of(section.steps) for section in sections)
    assert not any(word in everything for word in ("scale card", "secret_set_up", "Exercises", "interact", "widget"))


def test_an_answer_is_a_step_after_its_question_and_its_code_is_gone(sections):
    steps = sections[1].steps
    asked = next(i for i, step in enumerate(steps) if "class='guess'" in html_of([step]))
    told = next(i for i, step in enumerate(steps) if "Answer: one. It dived." in html_of([step]))
    assert told == asked + 1 and steps[told].answer and not steps[asked].answer
    assert "count" not in html_of([steps[told]]) and "answer 09-1" not in html_of(steps)
    assert "<pre class='out'>3 &lt; 4</pre>" in steps[told].blocks


def test_a_folded_output_is_an_answer_and_its_code_is_not(sections):
    code, told = sections[1].steps[-2:]
    assert "quack" in html_of([code]) and not code.answer
    assert html_of([told]) == "<pre class='out'>quack 3</pre>" and told.answer


def test_a_guess_is_a_box_with_question_and_choices(sections):
    (box,) = [b for s in sections[1].steps for b in s.blocks if "class='guess'" in b]
    assert "how many ducks?" in box and "<li>one</li><li>two &amp; more</li>" in box and "The map" not in box
    assert "guess(" not in html_of(sections[1].steps) and "open" not in html_of(sections[1].steps)
    assert "Your number" in html_of(sections[2].steps)


def test_the_map_comes_before_a_question_with_a_picture_of_its_own(sections):
    first, second = sections[2].steps[1:3]
    assert 'class="map" alt="the map again"' in html_of([first]) and len(first.blocks) == 1
    assert "class='guess'" in second.blocks[0] and "four" in second.blocks[1] and 'alt="a lake"' in second.blocks[2]


def test_pictures_have_words_or_the_title_of_their_section(sections):
    assert 'alt="the map of the pond"' in html_of(sections[1].steps)
    assert '<img alt="1 A pond"' in html_of(sections[1].steps) and 'alt=""' not in html_of(sections[1].steps)


def test_formulas_are_mathml(sections):
    html = html_of(sections[1].steps)
    assert "<mfrac>" in html and html.count("<math") == 2 and "$" not in html


def test_a_formula_is_drawn_whole():
    html = lesson.formula(r"\Bigl\lfloor\frac{x}{s}\Bigr\rfloor + \arg\max_k \|y\|^2", "block")
    assert html.count('stretchy="false">&#x02016;') == 2  # else the first bar grows with the square of the second
    assert "⌊" in html and "<mo>arg</mo>" in html and 'display="block"' in html
    with pytest.raises(ValueError, match="nosuch"):
        lesson.formula(r"\nosuch{x}")


def test_code_that_only_draws_is_left_out(sections):
    html = html_of(sections[1].steps)
    assert "quack" in html and "plt" not in html and "draw" not in html
    assert "import" not in html_of(sections[2].steps) and "boxes" not in html_of(sections[2].steps)
    kept = lesson.shown_code("import a\n\n_, ax = plt.subplots()\nx = draw_it(1)\nax.set(y=1)")
    assert kept == "import a\n\nx = draw_it(1)"
    assert lesson.shown_code('guess("1", ...)\nx = 2\nassert x').startswith("x = 2")


def test_guesses_are_read_with_their_choices():
    source = 'ways = ("a", 2)\nguess("1", ..., ways)\nguess("2", ..., choices=("c", "d"))\na, b = 1, 2\nguess("3", ...)'
    assert lesson.guesses(new_code_cell(source)) == {"1": ["a", "2"], "2": ["c", "d"], "3": []}
    told = printed("guess 4: open. Choose one of: e, f. Write it in place of the three dots.\n")
    for source in ('guess("4", ..., from_above)', 'mine = sorted(ways)\nguess("4", ..., choices=mine)'):
        assert lesson.guesses(new_code_cell(source, outputs=[told])) == {"4": ["e", "f"]}


NOTES = """# Speaker notes: 09_ducks

| section | minutes | in 50 | in 75 | in 90 |
|---|---|---|---|---|
| 1 A pond | 41 | yes | yes | yes |
| 2 A lake | 35 | no | no | yes |

## 1 A pond

**Ask.** Who?

## 2 A lake

**Ask.** When?
"""


def test_notes_are_read(tmp_path):
    (tmp_path / "notes.md").write_text(NOTES, encoding="utf-8")
    pond, lake = lesson.notes(tmp_path / "notes.md").values()
    assert (pond.minutes, pond.lengths, pond.text) == (41, {50, 75, 90}, "**Ask.** Who?")
    assert (lake.minutes, lake.lengths) == (35, {90})
    assert lesson.notes(tmp_path / "none.md") == {}


LEAST = {50: 40, 75: 65, 90: 75}


@pytest.mark.parametrize("path", sorted((lesson.ROOT / "docs" / "notes").glob("*.md")), ids=lambda path: path.stem)
def test_notes_have_the_sections_of_their_notebook_and_fill_the_time(path):
    notebook = lesson.ROOT / "notebooks" / f"{path.stem}.ipynb"
    titles = [section.title for section in read(notebook)]
    notes = lesson.notes(path)
    assert list(notes) == [title for title in titles if title[0].isdigit() and not title.startswith(path.stem[:2])]
    for length, least in LEAST.items():
        assert least <= sum(note.minutes for note in notes.values() if length in note.lengths) <= length
    whole, readme = sum(note.minutes for note in notes.values() if 90 in note.lengths), lesson.ROOT / "README.md"
    first = f"**Time:** {whole} minutes as a [lecture](../docs/notes/{path.name})"
    assert first in notebook.read_text(encoding="utf-8")
    assert re.search(rf"\[{path.stem}\].*\| {whole} min \|", readme.read_text(encoding="utf-8"))
    told, asked = path.read_text(encoding="utf-8"), notebook.read_text(encoding="utf-8")
    asked = re.findall(r'guess\(\\"([\d-]+)', asked)
    assert set(re.findall(r"[Gg]uess (\d\d-\d+)", told)) <= set(asked), "a guess that the notebook does not ask"
    for title, note in notes.items():
        assert re.findall(r"^\*\*(\w+)\.\*\* \S", note.text, re.MULTILINE) == ["Ask", "Draw", "Correct"], title


@pytest.mark.parametrize("path", lesson.lessons(), ids=lambda path: path.stem)
def test_lessons_tell_no_answer_outside_of_an_answer(path):
    sections = read(path)
    steps = [step for section in sections for step in section.steps]
    assert len(sections) >= 7 and sum(step.answer for step in steps) >= 6
    assert "Answer:" not in html_of(step for step in steps if not step.answer)
    html = html_of(steps)
    assert "plt.show" not in html and "open. " not in html and "class='guess'" in html
    assert all(step.blocks for step in steps)
