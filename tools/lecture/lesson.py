"""A notebook as a lecture sees it: sections of steps, from the file as committed. Nothing is executed."""

import ast
import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

ROOT = Path(__file__).resolve().parents[2]
DRAWING = {"draw", "plt", "ax", "claim", "guess"}
WIDGET = "application/vnd.jupyter.widget-view+json"
ANSWER = re.compile(r"^answer [\w-]+: (.*)$")


@dataclass
class Step:
    """What appears at one key: HTML blocks, and whether they answer a question."""

    blocks: list[str]
    answer: bool = False
    fragment: bool = False  # waits for a key
    fresh: bool = False  # begins a page


@dataclass
class Section:
    """A slide of the notebook with a heading, and all that follows it."""

    title: str
    steps: list[Step] = field(default_factory=list)


UNKNOWN = {
    r"\lfloor": "⌊",
    r"\rfloor": "⌋",
    r"\lceil": "⌈",
    r"\rceil": "⌉",
    r"\arg": r"\operatorname{arg}",
}  # to latex2mathml


def formula(tex: str, display: str = "inline") -> str:
    """A formula as MathML, which browsers draw by themselves: no script and no font is loaded.

    Raises:
        ValueError: a command that the converter would show instead of drawing it.
    """
    for command, sign in UNKNOWN.items():
        tex = re.sub(re.escape(command) + r"(?![A-Za-z])", lambda found, sign=sign: sign, tex)
    html = convert(tex, display=display).replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')
    if left := re.findall(r"\\[A-Za-z]+", html):
        raise ValueError(f"tex: expected commands that become MathML, got {left} in {tex!r}")
    return html


class _Renderer(IPythonRenderer):
    def block_math(self, body):
        return formula(body, "block")

    def inline_math(self, body):
        return formula(body)


def markdown(text: str) -> str:
    return MarkdownWithMath(renderer=_Renderer(escape=False, exclude_anchor_links=True)).render(text).strip()


def blocks_of(text: str) -> list[str]:
    """The paragraphs, lists, formulas and tables of a text, each as HTML."""
    return [html for part in re.split(r"\n\s*\n", text) if (html := markdown(part))]


def guesses(cell) -> dict[str, list[str]]:
    """The ids that a cell asks for, each with its choices, which are none where a number is asked."""
    asked, names = {}, {}
    for node in ast.walk(ast.parse(cell.source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = node.value
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "guess":
            given = [*node.args[2:], *(keyword.value for keyword in node.keywords)]
            choices = [names.get(each.id) if isinstance(each, ast.Name) else each for each in given[:1]]
            asked[node.args[0].value] = choices[0] if choices else ast.Tuple([])
    printed = "\n".join(output.get("text", "") for output in cell.get("outputs", []))
    for id, choices in asked.items():
        try:
            asked[id] = [str(choice) for choice in ast.literal_eval(choices)]
        except ValueError:  # computed, or of another cell: as `guess` printed them
            line = re.search(rf"^guess {re.escape(id)}: .*Choose one of: (.*)\. Write it", printed, re.MULTILINE)
            asked[id] = line[1].split(", ") if line else []
    return asked


def shown_code(source: str) -> str:
    """Code without what only draws, and none where nothing is left but imports, or, beside a question, preparation."""

    def draws(node):
        call = node.value if isinstance(node, ast.Expr | ast.Assign) else None
        while isinstance(call, ast.Call | ast.Attribute):
            call = call.func if isinstance(call, ast.Call) else call.value
        return isinstance(call, ast.Name) and call.id in DRAWING

    lines, body = source.splitlines(), ast.parse(source).body
    for node in reversed(body):
        if draws(node):
            del lines[node.lineno - 1 : node.end_lineno]
    kept = [node for node in body if not draws(node)]
    told = ast.FunctionDef | ast.ClassDef | ast.Assert
    prints = any(getattr(getattr(n, "func", None), "id", "") == "print" for k in kept for n in ast.walk(k))
    if "guess(" in source and not prints and not any(isinstance(n, told) for k in kept for n in ast.walk(k)):
        return ""
    if all(isinstance(node, ast.Import | ast.ImportFrom) for node in kept):
        return ""
    return re.sub(r"\n{3,}", "\n\n\n", "\n".join(lines)).strip("\n")


def outputs_of(cell, title: str) -> list[str]:
    """The outputs of a cell as HTML: answers as sentences, other text as it was printed, pictures with their words."""
    blocks, printed, maps = [], [], "network_map(" in cell.source

    def flush():
        if text := "\n".join(printed).strip("\n"):
            blocks.append(f"<pre class='out'>{escape(text)}</pre>")
        printed.clear()

    for output in cell.get("outputs", []):
        data = output.get("data", {})
        for line in output.get("text", "").splitlines():
            if told := ANSWER.match(line):
                flush()
                blocks.append(f"<p class='told'>Answer: {escape(told[1])}</p>")
            elif not line.startswith("guess "):
                printed.append(line)
        if kind := next((k for k in data if k.startswith("image/")), None):
            flush()
            alt = output.get("metadata", {}).get(kind, {}).get("alt", title)
            body = "".join(data[kind].split())
            name = ' class="map"' if maps else ""  # the network's, of large letters
            maps = False
            blocks.append(f'<img{name} alt="{escape(alt)}" src="data:{kind};base64,{body}">')
        elif "text/markdown" in data:
            flush()
            blocks += blocks_of(data["text/markdown"])
        elif "text/plain" in data:
            printed += data["text/plain"].splitlines()
    flush()
    return blocks


def question(paragraphs: list[str], asked: dict[str, list[str]]) -> list[str]:
    """A box with the question and a line for each guess; what the text says after the question comes behind it."""
    lines = []
    for choices in asked.values():
        ways = "".join(f"<li>{escape(choice)}</li>" for choice in choices)
        blank = "<p class='choices'>Your number: <span></span></p>"
        lines.append(f"<ul class='choices'>{ways}</ul>" if ways else blank)
    asking = blocks_of(paragraphs[0]) if paragraphs else []
    behind = [html for text in paragraphs[1:] for html in blocks_of(text)]
    return [f"<div class='guess'>{''.join(asking + lines)}</div>", *behind]


def read(path: Path) -> list[Section]:
    """The sections of a notebook, without what is skipped: set-up, sliders, exercises, sources."""
    sections: list[Section] = []
    waiting: list[str] = []  # the paragraphs from a question on, for the cell that takes the guess
    fresh = False
    for cell in nbformat.read(path, as_version=4).cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if kind in ("skip", "notes") or any(WIDGET in o.get("data", {}) for o in cell.get("outputs", [])):
            continue
        source, folded = cell.source, cell.metadata.get("jupyter", {})
        if kind == "slide" and (heading := re.match(r"#+ (.*)", source)):
            sections.append(Section(heading[1]))
        section, fresh = sections[-1], fresh or kind in ("slide", "subslide")
        step = Step([], fragment=kind == "fragment")
        if cell.cell_type == "markdown":
            asked_at = source.find("*Guess first:*")
            waiting = source[asked_at:].split("\n\n") if asked_at >= 0 else []
            step.blocks = blocks_of(source[:asked_at] if waiting else source)
            parts = [step]
        else:
            asked = guesses(cell)
            if asked:
                step.blocks, waiting = question(waiting, asked), []
            code = "" if folded.get("source_hidden") else shown_code(source)
            if code:
                step.blocks.append(Highlight2HTML()(code).strip())
            told = outputs_of(cell, section.title)
            parts = [step]
            network = [block for block in told if 'class="map"' in block]
            if len(told) > len(network) > 0:  # the map is for the section, the others for the question
                told = [block for block in told if block not in network]
                parts.insert(0, Step(network))
            if folded.get("outputs_hidden"):
                parts.append(Step(told, answer=True))
            else:
                step.blocks += told
        for part in parts:
            if part.blocks:
                part.fresh, fresh = fresh, False
                section.steps.append(part)
    return sections


@dataclass
class Note:
    """What `docs/notes` says of a section: its minutes, the lengths of lecture that it belongs to, and what to do."""

    minutes: int
    lengths: set[int]
    text: str = ""


def notes(path: Path) -> dict[str, Note]:
    """The speaker notes of a notebook by section; none where the file is missing."""
    if not path.exists():
        return {}
    table, *texts = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.M)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines() if line[:1] == "|"]
    lengths = [int(name.removeprefix("in ")) for name in rows[0][2:]]
    found = {
        title: Note(int(minutes), {n for n, mark in zip(lengths, marks, strict=True) if mark == "yes"})
        for title, minutes, *marks in rows[2:]
    }
    for text in texts:
        title, _, body = text.partition("\n")
        found[title.strip()].text = body.strip()
    return found


def notes_of(notebook: Path) -> dict[str, Note]:
    return notes(ROOT / "docs" / "notes" / f"{notebook.stem}.md")


def lessons() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("0*.ipynb"))
