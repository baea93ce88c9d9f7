"""Promises of the repository as a whole."""

import ast
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "rcnn_tutorial").rglob("*.py"))
FORBIDDEN = ("torchvision.ops", "torchvision.models.detection")


def dotted(node):
    """torch.ops.torchvision.nms as text, for a chain of attributes."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def forbidden_names(source):
    """Names of torchvision's operators and detectors that a source uses, however they are imported."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Attribute):
            names.add(dotted(node))
    return {n for n in names if n.startswith(FORBIDDEN) or n.startswith("torch.ops.torchvision")}


def test_the_operators_are_our_own():
    assert len(PACKAGE) > 10
    for path in PACKAGE:
        assert not forbidden_names(path.read_text(encoding="utf-8")), path


def test_the_search_for_borrowed_operators_finds_them():
    for source in (
        "import torchvision.ops",
        "from torchvision import ops",
        "from torchvision.ops import nms",
        "import torchvision\ntorchvision.ops.nms",
        "from torchvision.models import detection",
        "import torch\ntorch.ops.torchvision.nms(a, b, 0.5)",
    ):
        assert forbidden_names(source), source
    assert not forbidden_names("from torchvision.transforms.v2 import functional\nimport torch\ntorch.ops.aten.add")


def test_imports_go_down_only():
    """ops and engine know nothing above them; training and evaluation see a detector only through its call."""
    above = {
        "ops": {"cache", "data", "nets", "proposals", "detectors", "training", "evaluation", "compat", "weights"},
        "engine": {"cache", "data", "nets", "proposals", "detectors", "training", "evaluation", "compat", "weights"},
        "data": {"nets", "proposals", "detectors", "training", "evaluation", "compat", "weights"},
        "training": {"nets", "proposals", "detectors", "compat", "weights"},
        "evaluation": {"nets", "proposals", "detectors", "training", "compat", "weights"},
        "nets": {"proposals", "detectors", "training", "evaluation", "compat"},
    }
    for path in PACKAGE:
        part = path.relative_to(ROOT / "rcnn_tutorial").parts[0].removesuffix(".py")
        used = parts_imported(path.read_text(encoding="utf-8"))
        assert not used & above.get(part, set()), (path, used & above[part])
        assert part == "course" or "course" not in used, path


def parts_imported(source):
    """Parts of the package that a source imports, wherever in it."""
    parts = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name.startswith("rcnn_tutorial.")}
    return parts


def test_the_search_for_imports_finds_them():
    source = (
        "import rcnn_tutorial.data\ndef f():\n    from rcnn_tutorial import draw\n    from rcnn_tutorial.ops import nms"
    )
    assert parts_imported(source) == {"data", "draw", "ops"}


def test_public_functions_say_what_they_take():
    for path in PACKAGE:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and path.parent.name == "ops":
                text = ast.get_docstring(node) or ""
                assert all(part in text for part in ("Args:", "Returns:", "Raises:")) or node.name == "validate", (
                    node.name
                )


def test_dependencies_are_written_down_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, installed = conda["dependencies"]
    assert python == f"python{project['requires-python']}" and pip == "pip"
    assert installed == {"pip": ["-e .[dev]"]}
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    oldest = dict(re.match(r"(\w+)>=([\d.]+)", d).groups() for d in project["dependencies"] if d.startswith("torch"))
    assert f"torch=={oldest['torch']}.0 torchvision=={oldest['torchvision']}.0" in workflow
    assert f'python: "{project["requires-python"].removeprefix(">=")}"' in workflow


def test_no_weights_and_no_large_files():
    for path in ROOT.glob("rcnn_tutorial/**/*"):
        assert not path.is_file() or path.stat().st_size < 3_000_000, path
