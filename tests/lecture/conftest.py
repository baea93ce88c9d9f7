"""A notebook with one of everything that slides and handouts treat in a way of its own."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PNG = "iVBORw0KGgo="


def picture(alt=None):
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return new_output("display_data", {"image/png": PNG, "text/plain": "<Figure>"}, metadata=metadata)


def printed(text):
    return new_output("stream", name="stdout", text=text)


def cell(source, kind="subslide", outputs=None, hide=""):
    made = new_markdown_cell(source) if outputs is None else new_code_cell(source, outputs=outputs)
    made.metadata = {"slideshow": {"slide_type": kind}}
    if hide:
        made.metadata["jupyter"] = {f"{part}_hidden": True for part in hide.split()}
    return made


CELLS = [
    cell("# 09 Ducks\n\nAt the end you can\n\n- tell a duck;\n- count ducks.\n", "slide"),
    cell("| scale card | here |\n|---|---|\n| ducks | 3 |", "skip"),
    cell("import secret_set_up", "skip", []),
    cell("## 1 A pond\n\nThe *area* is\n\n$$a = \\frac{w}{h}$$\n\nIn the code, $a$ is `area`.", "slide"),
    cell("*Guess first:* how many ducks?\n\nThe map is below."),
    cell(
        'guess("09-1", ..., choices=("one", "two & more"))\ndraw.network_map(draw.POND)\nplt.show()',
        "fragment",
        [printed("guess 09-1: open. Choose one of: one, two & more.\n"), picture("the map of the pond")],
    ),
    cell("answer = count(pond)\ndraw.pond()", "fragment", [printed("answer 09-1: one. It dived.\n3 < 4\n"), picture()],
         "source outputs"),
    cell("from pond import duck\n\n\ndef quack(n):\n    return n\n\n\nprint(quack(2))\ndraw.pond(2)\nplt.show()", "-",
         [printed("2\n"), picture()]),
    cell("print(quack(3))", "-", [printed("quack 3\n")], "outputs"),
    cell("interact(quack)", "-", [new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}})]),
    cell("## 2 A lake", "slide"),
    cell('boxes = [1, 2]\nguess("09-2", ...)\ndraw.network_map(draw.POND)\ndraw.boxes(boxes)', "-",
         [printed("guess 09-2: open.\nfour\n"), picture("the map again"), picture("a lake")]),
    cell("from pond import lake\n\ndraw.lake(lake)\nplt.show()", "-", [picture()]),
    cell("## Exercises", "skip"),
    cell("### 09-A Count\n\nCount them.", "skip"),
]  # fmt: skip


@pytest.fixture(scope="session")
def ducks(tmp_path_factory):
    path = tmp_path_factory.mktemp("notebooks") / "09_ducks.ipynb"
    nbformat.write(new_notebook(cells=CELLS), path)
    return path
