"""What nbval does not see: a notebook that was never run, is too long, or carries what does not belong in it."""

import ast
import re
from pathlib import Path
from statistics import median

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("0?_*.ipynb"))
OPTIONAL = [NOTEBOOKS / "gpu_kernels.ipynb"]
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))
CELL_METADATA = {"tags", "slideshow", "jupyter", "jp-MarkdownHeadingCollapsed"}
MAY_DIFFER = re.compile(
    r"\b(interact|fine_tune|live_losses|train|fit|seconds|perf_counter|process_time|__version__|device)\b"
)
FROM = {
    "IPython",
    "dataclasses",
    "ipywidgets",
    "json",
    "math",
    "matplotlib",
    "numpy",
    "pathlib",
    "PIL",
    "rcnn_tutorial",
    "statistics",
    "tempfile",
    "time",
    "torch",
    "torchvision",
}

by_name = pytest.mark.parametrize("path", LESSONS + OPTIONAL + SOLUTIONS, ids=lambda p: f"{p.parent.name}/{p.stem}")
lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook, [c for c in notebook.cells if c.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def main_flow(notebook):
    """The cells before the exercises."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## Exercises"):
            return
        yield cell


@by_name
def test_run_top_to_bottom_and_normalised(path):
    notebook, code = read(path)
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1)), "not run top to bottom: make run"
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    ids = [c.id for c in notebook.cells]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z0-9-]+", i) for i in ids)
    assert all(set(c.metadata) <= CELL_METADATA for c in notebook.cells), "more metadata than make run leaves"
    assert path.stat().st_size < 2_000_000


@by_name
def test_outputs_are_clean(path):
    for cell in read(path)[1]:
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", cell.id
            data = output.get("data", {})
            assert not {"image/png", "image/jpeg"} <= set(data), f"{cell.id}: one picture twice"
            for kind in {"image/png", "image/jpeg"} & set(data):
                assert output.metadata.get(kind, {}).get("alt"), f"{cell.id}: a picture without a description"
                live = "interact" in cell.source or "live_losses" in cell.source
                assert cell.source.rstrip().endswith("plt.show()") or live, cell.id
        if "plt.show()" in cell.source and "interact" not in cell.source:
            assert any(o.output_type == "display_data" for o in cell.outputs), f"{cell.id}: shows nothing"
        assert set(tags(cell)) <= {"parameters", "nbval-ignore-output"}, cell.id
        if "nbval-ignore-output" in tags(cell):
            assert MAY_DIFFER.search(cell.source), f"{cell.id}: nothing in it may differ"


@by_name
def test_code_comes_from_the_package(path):
    for cell in read(path)[1]:
        source = "\n".join("" if line.startswith(("%", "!")) else line for line in cell.source.splitlines())
        for node in ast.walk(ast.parse(source)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {n.split(".")[0] for n in names} <= FROM, cell.id
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 15, f"{cell.id}: {node.name} belongs in the package"


@lessons
def test_economy(path):
    notebook, _ = read(path)
    cells = list(main_flow(notebook))
    code = [c for c in cells if c.cell_type == "code"]
    words = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    assert len(code) <= 30 and words <= 2500, (len(code), words)
    sections = [c for c in cells if c.cell_type == "markdown" and re.match(r"## \d", c.source)]
    assert 5 <= len(sections) <= 9
    assert all(c.metadata.get("slideshow", {}).get("slide_type") for c in notebook.cells), "a cell without slide type"


@pytest.mark.parametrize("path", [NOTEBOOKS / "00_boxes.ipynb", NOTEBOOKS / "03_fast_rcnn.ipynb"], ids=lambda p: p.stem)
def test_cells_fit_a_slide(path):
    _, code = read(path)
    lengths = [len(c.source.splitlines()) for c in code]
    assert max(lengths) <= 15 and median(lengths) <= 8
    assert all(len(line) <= 88 for c in code for line in c.source.splitlines())
    asked = {m for c in code for m in re.findall(r'guess\("([\w-]+)"', c.source)}
    checked = {m for c in code for m in re.findall(r'check\("([\w-]+)"', c.source)}
    assert not asked & checked, "a guess and an exercise share an id"


@pytest.mark.parametrize("path", OPTIONAL, ids=lambda p: p.stem)
def test_economy_of_what_is_optional(path):
    notebook, code = read(path)
    words = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    assert len(code) <= 15 and words <= 2500 and "parameters" in tags(code[0]), (len(code), words)
    assert all(len(c.source.splitlines()) <= 15 for c in code)
    assert all(len(line) <= 88 for c in code for line in c.source.splitlines())
    assert all(c.metadata.get("slideshow", {}).get("slide_type") for c in notebook.cells), "a cell without slide type"


@lessons
def test_parameters_and_first_cell(path):
    notebook, code = read(path)
    assert "parameters" in tags(code[0]) and "DATA =" in code[0].source
    first = notebook.cells[0].source
    assert first.startswith(f"# {path.stem[:2]} ") and "**Time:**" in first and "you can" in first
    assert "scale card" in notebook.cells[1].source


@lessons
def test_the_answer_is_hidden_behind_the_guess(path):
    notebook, code = read(path)
    asked = [m for c in code for m in re.findall(r'guess\("([\w-]+)"', c.source)]
    told = [m for c in code for m in re.findall(r'reveal\(\s*"([\w-]+)"', c.source)]
    assert asked == told and len(set(asked)) == len(asked) > 0
    for cell in code:
        if re.search(r"\breveal\(", cell.source):
            hidden = cell.metadata.get("jupyter", {})
            assert hidden.get("outputs_hidden") and hidden.get("source_hidden"), f"{cell.id}: must be folded"
        if re.search(r"\bguess\(", cell.source):
            assert cell.outputs and "open" in cell.outputs[0].text, f"{cell.id}: a guess was left in"


@lessons
def test_exercises_are_open_and_solved(path):
    _, code = read(path)
    checked = [m for c in code for m in re.findall(r'check\("([\w-]+)"', c.source)]
    assert checked
    for cell in code:
        if re.match(r"check\(", cell.source):
            lines = cell.outputs[0].text.splitlines()
            assert lines and all(line.endswith(": open") for line in lines), f"{cell.id}: an answer was left in"
    _, solved = read(NOTEBOOKS / "solutions" / path.name)
    assert [m for c in solved for m in re.findall(r'check\("([\w-]+)"', c.source)] == checked
    lines = [line for c in solved for o in c.outputs for line in o.get("text", "").splitlines()]
    assert lines and all(line.endswith(": right") for line in lines)


def test_every_lesson_has_a_row_in_the_readme():
    readme = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    assert LESSONS and all(f"notebooks/{p.name}" in readme for p in LESSONS)
