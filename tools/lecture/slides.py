"""One file of slides for each notebook, which a browser opens without a network."""

from html import escape
from pathlib import Path

from tools.lecture import lesson

HERE = Path(__file__).parent
PARTS = {name: HERE / name for name in ("reveal/reveal.css", "slides.css", "reveal/reveal.js", "reveal/notes.js", "pages.js")}


def step_html(step: lesson.Step) -> str:
    names = ["step"] + ["answer"] * step.answer + ["waits"] * (step.answer or step.fragment) + ["fresh"] * step.fresh
    return f'<div class="{" ".join(names)}">\n' + "\n".join(step.blocks) + "\n</div>"


def section_html(section: lesson.Section, note: lesson.Note | None) -> str:
    """A section, from which `pages.js` makes slides of one size."""
    steps = "\n".join(map(step_html, section.steps))
    said = f"<p>{note.minutes} minutes for this section.</p>" + lesson.markdown(note.text) if note else ""
    aside = f'<aside class="notes">{said}</aside>' if said else ""
    return f'<section data-title="{escape(section.title)}" data-minutes="{note.minutes if note else 0}">\n{steps}\n{aside}</section>'


def deck(notebook: Path, minutes: int | None = None) -> str:
    """The slides of a notebook, without the sections that the notes leave out of a lecture of so many minutes."""
    notes = lesson.notes_of(notebook)
    sections = [
        section_html(section, notes.get(section.title))
        for section in lesson.read(notebook)
        if minutes is None or section.title not in notes or minutes in notes[section.title].lengths
    ]
    part = {name: path.read_text(encoding="utf-8") for name, path in PARTS.items()}
    style = "".join(f"<style>{text}</style>\n" for name, text in part.items() if name.endswith(".css"))
    script = "".join(f"<script>{text}</script>\n" for name, text in part.items() if name.endswith(".js"))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{notebook.stem}</title>\n{style}</head>\n'
        f'<body><div class="reveal"><div class="slides">\n{"".join(sections)}</div></div>\n{script}</body></html>\n'
    )
