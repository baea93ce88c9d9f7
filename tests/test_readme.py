"""The code of README and docs/library.md runs as it stands there, block after block, on four small pictures.

The lines of README that call the command are typed as they stand, or looked up in its help.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image
from torchvision.models import WeightsEnum
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from typer.main import get_command

from rcnn_tutorial.app.cli import app
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


def test_the_code_of_the_readme_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    names = {}
    smaller = {"steps=1000": "steps=2", "path/to/new/pictures": (folder / "JPEGImages").as_posix()}
    run("README.md", folder, smaller, names)
    assert names["fitted"].history.steps == 2 and names["fitted"].model.classes == ("background", "cat", "dog")
    assert "AP50" in capsys.readouterr().out and len(names["found"]) == 4
    plt.close("all")


def commands_of(text):
    """The lines of README that call the command, of blocks and of the table, without what stands before it."""
    lines = re.findall(r"^(?:\S*bin/)?rcnn-tutorial (.+)$", text, re.MULTILINE)
    lines += re.findall(r"-m rcnn_tutorial (.+)$", text, re.MULTILINE)
    for row in re.findall(r"^\|[^|]+\|([^|]+)\| `tests/.*$", text, re.MULTILINE):
        lines += re.findall(r"`([a-z]+(?: [^`]+)?)`", row)
    return lines


def unknown_words(line):
    """What of a line the command does not know: a subcommand, or an option."""
    command, words = get_command(app), shlex.split(line)
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        if name not in command.commands:
            return [name]
        command = command.commands[name]
    options = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    return [word for word in words if word.startswith("-") and word not in options]


def test_the_command_knows_what_the_readme_types():
    lines = [line for line in commands_of((ROOT / "README.md").read_text(encoding="utf-8")) if line != "tensorboard"]
    assert len(lines) >= 20, lines
    assert not {line: unknown for line in lines if (unknown := unknown_words(line))}
    assert unknown_words("train DATA --epoch 3") == ["--epoch"] and unknown_words("teach DATA") == ["teach"]
    assert unknown_words("data check DATA --json x") == [] == unknown_words("train --resume runs/fpn")


@pytest.mark.whole
def test_the_two_commands_of_the_readme(folder, tmp_path):
    """A new user's first two lines, from the console, with few steps."""
    script = Path(sys.executable).with_name("rcnn-tutorial")
    lines = commands_of((ROOT / "README.md").read_text(encoding="utf-8"))[:2]
    assert [line.split()[0] for line in lines] == ["train", "detect"]
    places = {"path/to/folder": folder.as_posix(), "path/to/new/pictures": (folder / "JPEGImages").as_posix()}
    for line, more in zip(lines, (["--steps", "2"], []), strict=True):
        for old, new in places.items():
            line = line.replace(old, new)
        done = subprocess.run([script, *shlex.split(line), *more], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert {"best.pt", "results.json", "curves.png"} <= {path.name for path in (tmp_path / "runs/fpn").iterdir()}
    assert {"0.jpg", "detections.json"} <= {path.name for path in (tmp_path / "runs/detect").iterdir()}


def test_the_code_of_the_library_page_runs(folder, monkeypatch, capsys):
    torch.manual_seed(0)
    coco = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda weights, **kwargs: coco)  # in place of the download
    names = {"model": FPN(tiny_net(), ("background", "cat", "dog"), FPNSettings.tiny())}
    run("docs/library.md", folder, SMALLER, names)
    assert float(capsys.readouterr().out.splitlines()[-1]) >= 0
    assert names["model"].classes[1] == "square" and isinstance(names["theirs"], FasterRCNN)
    assert set(names["history"].losses) == {"objectness", "rpn_box", "class", "box"}
