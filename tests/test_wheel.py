"""The wheel holds all files of the package, and works where the repository is not."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
DETECTS = """
import sys
from pathlib import Path

import torch

import rcnn_tutorial
from rcnn_tutorial.course import claims, records
from rcnn_tutorial.data.generated.shapes import CLASSES, scene
from rcnn_tutorial.ops.boxes import box_iou

assert Path(rcnn_tutorial.__file__).is_relative_to(sys.argv[1]), rcnn_tutorial.__file__
assert rcnn_tutorial.__version__ == sys.argv[2]
assert records.load("fpn")["test"] and "FPN-01" in claims.STATEMENTS

torch.set_num_threads(1)
model = rcnn_tutorial.load("fpn")
assert tuple(model.classes) == CLASSES
drawn = scene(0, 300_001)
(detections,) = model([torch.from_numpy(drawn.image).permute(2, 0, 1) / 255])  # (H, W, 3) -> (3, H, W)
iou = box_iou(detections["boxes"][:1], torch.from_numpy(drawn.boxes))  # (1, N), of the surest detection
assert iou.max() > 0.5 and detections["labels"][0] == drawn.labels[iou.argmax()], (detections, drawn)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built as pip builds it, but with the hatchling that is installed: no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("*.whl")
    return file


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    files = [path.relative_to(ROOT) for path in (ROOT / "rcnn_tutorial").rglob("*") if path.is_file()]
    expected = {path.as_posix() for path in files if not any(part.startswith((".", "__pyc")) for part in path.parts)}
    names = set(ZipFile(wheel).namelist())
    held = {name for name in names if ".dist-info/" not in name}
    assert held == expected, sorted(held ^ expected)
    data = {"py.typed", "course/statements.json", "course/records/fpn.json", "weights/backbone.pt", "weights/fpn.pt"}
    assert {f"rcnn_tutorial/{name}" for name in data} <= held
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_detects_outside_the_repository(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    command = [sys.executable, "-c", DETECTS, str(site), wheel.name.split("-")[1]]
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
