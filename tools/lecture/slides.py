"""One file of slides for each notebook, which a browser opens without a network."""

from html import escape
from pathlib import Path

from tools.lecture import lesson

HERE = Path(__file__).parent
STYLES = ("reveal/reveal.css", "slides.css")
SCRIPTS = ("reveal/reveal.js", "reveal/notes.js", "pages.js")


def step_html(step: lesson.Step) -> str:
    names = ["step"] + ["answer"] * step.answer + ["waits"] * (step.answer or step.fragment) + ["fresh"] * step.fresh
    return f'<div class="{" ".join(names)}">\n' + "\n".join(step.blocks) + "\n</div>"


def section_html(section: lesson.Section, note: lesson.Note | None) -> str:
    """A section, from which `pages.js` makes slides of one size."""
    blocks = [step_html(step) for step in section.steps]
    if note:
        told = f"<p>{note.minutes} minutes for this section.</p>{lesson.markdown(note.text)}"
        blocks.append(f'<aside class="notes">{told}</aside>')
    minutes = note.minutes if note else 0
    body = "\n".join(blocks)
    return f'<section data-title="{escape(section.title)}" data-minutes="{minutes}">\n{body}\n</section>\n'


def deck(notebook: Path, minutes: int | None = None) -> str:
    """The slides of a notebook, without the sections that the notes leave out of a lecture of so many minutes."""
    notes = lesson.notes_of(notebook)
    body = "".join(
        section_html(section, notes.get(section.title))
        for section in lesson.read(notebook)
        if minutes is None or section.title not in notes or minutes in notes[section.title].lengths
    )
    style = "".join(f"<style>{(HERE / name).read_text(encoding='utf-8')}</style>\n" for name in STYLES)
    script = "".join(f"<script>{(HERE / name).read_text(encoding='utf-8')}</script>\n" for name in SCRIPTS)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{notebook.stem}</title>\n{style}</head>\n'
        f'<body><div class="reveal"><div class="slides">\n{body}</div></div>\n{script}</body></html>\n'
    )
