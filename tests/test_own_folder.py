"""Every notebook runs from top to bottom on somebody's own pictures: a folder in VOC's layout, with few steps.

`make notebooks` runs this after the notebooks themselves: `python -m pytest -m own tests`.
"""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("0?_*.ipynb"))
CLASSES = {"leaf": (60, 160, 60), "stone": (150, 140, 130)}
SPLITS = {"train": range(6), "val": range(6, 8), "test": range(8, 12)}
SMALLER = {
    r"^(\s*SCENES, STEPS) = [\d_]+, [\d_]+": r"\1 = 6, 4",
    r"^STEPS = [\d_]+": "STEPS = 4",
    r"^SCENES = [\d_]+": "SCENES = 6",
}
XML = (
    "<annotation><filename>{}.jpg</filename><size><width>{}</width><height>{}</height><depth>3</depth></size>{}"
    "</annotation>"
)
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve pictures of different sizes with one to five leaves and stones in each, small and large, one difficult."""
    root = tmp_path_factory.mktemp("own")
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(12):
        width, height = (int(side) for side in rng.integers(120, 320, 2))
        noise = rng.integers(0, 40, (height, width, 3), dtype=np.uint8) + np.uint8(60)
        image, objects = Image.fromarray(noise), ""
        for k in range(1 + i % 5):
            name = list(CLASSES)[int(rng.integers(2))]
            w, h = (int(side) for side in rng.integers(14, min(width, height) // 2, 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            shape = ImageDraw.Draw(image).ellipse if name == "leaf" else ImageDraw.Draw(image).rectangle
            shape((x, y, x + w - 1, y + h - 1), fill=CLASSES[name])
            objects += OBJECT.format(name, int(i == 9 and k == 0), x + 1, y + 1, x + w, y + h)
        image.save(root / f"JPEGImages/{i:02}.jpg")
        (root / f"Annotations/{i:02}.xml").write_text(XML.format(f"{i:02}", width, height, objects))
    for split, which in SPLITS.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{i:02}\n" for i in which))
    return root


def cells(path, folder):
    """The code of a notebook's cells with their numbers, for this folder and with few pictures and steps."""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            if "parameters" in cell["metadata"].get("tags", []):
                assert 'DATA = "shapes"' in source
                source = source.replace('DATA = "shapes"', f"DATA = {folder.as_posix()!r}")
                for pattern, replacement in SMALLER.items():
                    source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
            yield number, source


@pytest.mark.own
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_on_own_pictures(path, folder, capsys):
    matplotlib.use("Agg")
    names = {"__name__": "__main__"}
    for number, source in cells(path, folder):
        exec(compile(source, f"{path.name}, cell {number}", "exec"), names)
        plt.close("all")
    for value in names.values():
        if isinstance(value, TemporaryDirectory):
            value.cleanup()
    assert names["DATA"] == folder.as_posix()
    said = capsys.readouterr().out
    assert "answer 0" in said and ": open" in said
