"""A page or two for each notebook, to write on: map, formulas, scale card and guesses, without an answer."""

import re
from html import escape
from pathlib import Path

import nbformat

from tools.lecture import lesson

HERE = Path(__file__).parent
PAGES = 2  # at the most


def handout(notebook: Path) -> str:
    """The handout of a notebook as HTML that prints by itself."""
    cells = nbformat.read(notebook, as_version=4).cells
    title, goals = cells[0].source.split("\n", 1)
    rows, sections, exercises, network, asking, named = [], [], [], "", "", title.lstrip("# ")
    for cell in cells[1:]:
        if cell.cell_type == "markdown":
            paragraphs = cell.source.split("\n\n")
            rows += [text for text in paragraphs if "scale card" in text.splitlines()[0]]
            exercises += re.findall(r"^### (\d\d-[A-Z0-9].*)", cell.source, re.MULTILINE)
            if heading := re.match(r"## \d.*", cell.source):
                sections.append([lesson.markdown(heading[0])])
                named = heading[0].lstrip("# ")
            told = [text for text in paragraphs if "$$" in text or "In the code" in text]
            if sections and cell.metadata.get("slideshow", {}).get("slide_type") != "skip":
                sections[-1] += map(lesson.markdown, told)
            asking = next((text for text in paragraphs if "*Guess first:*" in text), asking)
            continue
        pictures = [html for html in lesson.outputs_of(cell, named) if html.startswith("<img")]
        if "network_map(" in cell.source and pictures:
            first = pictures.pop(0)
            network = network or first
        if (asked := lesson.guesses(cell)) and sections:
            sections[-1] += lesson.question([asking] if asking else [], asked)
            sections[-1] += [] if cell.metadata.get("jupyter") else pictures
            asking = ""
    aims = re.search(r"(?:^- .*\n)+", goals, re.MULTILINE)
    blocks = [lesson.markdown(title), lesson.markdown("You will be able to:\n\n" + aims[0]) if aims else ""]
    blocks += [network, *map(lesson.markdown, rows), *(html for section in sections if section[1:] for html in section)]
    boxes = "".join(f"<li>{escape(name)}</li>" for name in exercises)
    style = (HERE / "handouts.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{notebook.stem}</title>\n'
        f"<style>{style}</style></head>\n<body>\n" + "\n".join(blocks) + f"\n<h2>Exercises</h2>\n"
        f"<ul class='choices'>{boxes}</ul>\n</body></html>\n"
    )


def page_count(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def print_all(files: list[Path]) -> list[str]:
    """Prints each file of HTML beside itself as PDF. The names of those that are too long come back."""
    from tools.lecture.check import browser_page

    problems = []
    with browser_page() as (page, complaints):
        for file in files:
            page.goto(file.resolve().as_uri())
            for scale in (1, 0.92, 0.85):  # smaller only where it has to be
                pdf = page.pdf(path=file.with_suffix(".pdf"), format="A4", print_background=True, scale=scale)
                if page_count(pdf) <= PAGES:
                    break
            else:
                problems.append(f"{file.name}: {page_count(pdf)} pages, at most {PAGES}")
        problems += complaints
    return problems
