"""Promises of the repository as a whole."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from pathlib import Path

import pytest
import yaml

import rcnn_tutorial

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


FILES = {"weights", "cache", "saving"}
LIBRARY = {"ops", "engine", "data", "proposals", "evaluation", "training", "nets", "detectors"} | FILES
MAY_IMPORT = {  # part of the package: the parts that it may know
    "engine": set(),
    "ops": {"engine"},
    "weights": set(),
    "cache": set(),
    "data": {"ops", "engine"},
    "nets": {"ops", "engine", "weights"},
    "proposals": {"ops", "engine", "data", "cache"},
    "evaluation": {"ops", "engine", "data"},  # they see a detector only through its call
    "training": {"ops", "engine", "data", "evaluation", "cache"},
    "saving": {"nets", "weights", "cache"},
    "detectors": LIBRARY | {"compat"},  # `from_torchvision` is found in detectors/fpn.py too
    "compat": LIBRARY,
    "__init__": LIBRARY | {"app"},  # names that are imported when they are first used
    "course": LIBRARY | {"compat"},
    "app": LIBRARY | {"compat", "course"},  # it draws what the notebooks draw
    "__main__": {"app"},
}


def test_imports_go_down_only():
    """ops and engine lie under the networks, those under the detectors, and what only lessons use lies on top."""
    for path in PACKAGE:
        part = path.relative_to(ROOT / "rcnn_tutorial").parts[0].removesuffix(".py")
        assert part in MAY_IMPORT, f"{part}: expected a line in MAY_IMPORT that says what it may import"
        above = parts_imported(path.read_text(encoding="utf-8")) - MAY_IMPORT[part] - {part}
        assert not above, f"{path}: imports {sorted(above)}, which {part} may not know"


def test_the_order_of_the_parts_has_no_way_back():
    """Two pairs may know each other: the rules choose what makes them fast, and detectors/fpn.py names `compat`."""
    pairs = {frozenset(("ops", "engine")), frozenset(("detectors", "compat"))}
    for part in MAY_IMPORT:
        for other in reachable(part):
            assert part not in reachable(other) or frozenset((part, other)) in pairs, (part, other)
    assert not any("course" in parts for part, parts in MAY_IMPORT.items() if part != "app")


def reachable(part):
    """All parts that a part may come to know, directly or through others, but itself."""
    known, new = set(), {part}
    while new:
        known |= new
        new = set().union(*(MAY_IMPORT[name] for name in new)) - known
    return known - {part}


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
        parts |= {(name + ".__init__").split(".")[1] for name in names if name.split(".")[0] == "rcnn_tutorial"}
    return parts


def test_the_search_for_imports_finds_them():
    source = (
        "import rcnn_tutorial.data\ndef f():\n    from rcnn_tutorial import draw\n    from rcnn_tutorial.ops import nms"
    )
    assert parts_imported(source) == {"data", "draw", "ops"}
    assert parts_imported("import torch\nimport rcnn_tutorial") == {"__init__"}
    assert parts_imported("from rcnn_tutorial import train\nimport rcnn_tutorials.data") == {"train"}


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


def test_the_package_gives_its_public_names():
    for name, home in rcnn_tutorial._MODULES.items():
        module = import_module(f"rcnn_tutorial.{home}")
        assert getattr(rcnn_tutorial, name) is getattr(module, name), name
    assert {"__version__", *rcnn_tutorial.__all__} <= set(dir(rcnn_tutorial))
    assert sorted(rcnn_tutorial.__all__) == rcnn_tutorial.__all__ == list(rcnn_tutorial._MODULES)
    with pytest.raises(AttributeError, match="'rcnn_tutorial' has no attribute 'nonsense'"):
        _ = rcnn_tutorial.nonsense


def test_the_public_names_have_types():
    """Editors and pyright read them under `if TYPE_CHECKING`: these imports are to say what `__getattr__` does."""
    tree = ast.parse((ROOT / "rcnn_tutorial/__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "rcnn_tutorial" in node.module]
    typed = {alias.name: node.module.removeprefix("rcnn_tutorial.") for node in imports for alias in node.names}
    assert typed == rcnn_tutorial._MODULES
    assert (ROOT / "rcnn_tutorial/py.typed").is_file()


def test_the_version_is_told_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert rcnn_tutorial.__version__ == metadata.version("rcnn-tutorial") == project["version"] == citation["version"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version = {{{project['version']}}}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    assert citation["license"] == project["license"]


def test_importing_the_package_loads_nothing_else():
    heavy = ["torch", "numpy", "importlib.metadata", "rcnn_tutorial.data", "rcnn_tutorial.training"]
    code = f"import sys, rcnn_tutorial; print(rcnn_tutorial.__name__, *sys.modules.keys() & {heavy})"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["rcnn_tutorial"]


def test_the_hooks_before_a_commit_are_the_linters_of_make_lint():
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]  # nothing is fetched
    entries = " ".join(hook["entry"] for repo in hooks for hook in repo["hooks"])
    linters = re.findall(r"/(ruff \w+|pyright)", lint)
    assert linters == ["ruff check", "ruff format", "pyright"] == re.findall(r"/(ruff \w+|pyright)", entries)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dev = {re.match(r"[\w-]+", name)[0] for name in project["optional-dependencies"]["dev"]}
    assert {"ruff", "pyright", "hatchling"} <= dev


def test_the_forms_for_issues_ask_something():
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert [form.stem for form in forms] == ["bug", "config", "finding", "unclear"]
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        if form.stem != "config":
            assert content["name"] and content["description"] and len(content["body"]) >= 3
            ids = [field["id"] for field in content["body"]]
            assert len(set(ids)) == len(ids) and all(field["attributes"]["label"] for field in content["body"])
