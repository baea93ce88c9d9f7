"""The code of README and docs/library.md runs as it stands there, block after block, on four small pictures."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.models import WeightsEnum
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn

from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.backbones import tiny_net

ROOT = Path(__file__).parents[1]
SMALLER = {  # what makes hours of it seconds
    "steps=1000": "steps=2",
    "steps=2000, batch_size=2": "steps=1, batch_size=1",
    "warmup=200": "warmup=0",
    'fasterrcnn_resnet50_fpn(weights="DEFAULT")': 'fasterrcnn_resnet50_fpn(weights="DEFAULT", min_size=96)',
}
XML = """<annotation><filename>{0}.jpg</filename><size><width>100</width><height>80</height><depth>3</depth></size>
<object><name>{1}</name><difficult>0</difficult>
<bndbox><xmin>31</xmin><ymin>21</ymin><xmax>80</xmax><ymax>60</ymax></bndbox></object></annotation>"""


@pytest.fixture
def folder(tmp_path):
    """Four pictures with a red object each, three cats and a dog, in PASCAL VOC's layout."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    for i in range(4):
        image = Image.new("RGB", (100, 80), (20, 60 * i, 60))
        image.paste((200, 50, 50), (30, 20, 80, 60))
        image.save(tmp_path / f"JPEGImages/{i}.jpg")
        (tmp_path / f"Annotations/{i}.xml").write_text(XML.format(i, "dog" if i == 3 else "cat"))
    for split in ("train", "test"):
        (tmp_path / f"ImageSets/Main/{split}.txt").write_text("0\n1\n2\n3\n")
    return tmp_path


def run(page, folder, smaller, names):
    """Run the blocks of a page in one namespace, with the folder's path and what makes seconds of hours put in."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL))
    places = {"path/to/folder": folder.as_posix(), "runs/first": (folder / "runs").as_posix()}
    for old, new in (places | smaller).items():
        assert old in code, old
        code = code.replace(old, new)
    exec(compile(code, page, "exec"), names)
    assert (folder / "runs/checkpoint.pt").is_file()


def test_the_code_of_the_readme_runs(folder, capsys):
    names = {}
    several = folder / "several"
    run("README.md", folder, {"steps=1000": "steps=2", "runs/several": several.as_posix()}, names)
    assert (several / "checkpoint.pt").is_file() and names["device"].type in ("cpu", "cuda")
    assert float(capsys.readouterr().out.splitlines()[-1]) >= 0
    assert names["history"].steps == 2 and names["model"].classes == ("background", "cat", "dog")


def test_the_code_of_the_library_page_runs(folder, monkeypatch, capsys):
    torch.manual_seed(0)
    coco = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda weights, **kwargs: coco)  # in place of the download
    names = {"model": FPN(tiny_net(), ("background", "cat", "dog"), FPNSettings.tiny())}
    run("docs/library.md", folder, SMALLER, names)
    assert float(capsys.readouterr().out.splitlines()[-1]) >= 0
    assert names["model"].classes[1] == "square" and isinstance(names["theirs"], FasterRCNN)
    assert set(names["history"].losses) == {"objectness", "rpn_box", "class", "box"}
