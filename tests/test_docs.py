"""What the pages promise: links lead somewhere, names are names of the package, terms stand where the glossary says."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PARTS = "ops|engine|nets|detectors|proposals|data|evaluation|training|compat|weights|course"


def anchors(page):
    """The headings of a page, as GitHub makes addresses of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if link.startswith("https://"):
            continue
        file, _, place = link.partition("#")
        aim = page.parent / file if file else page
        assert aim.exists(), link
        assert not place or place in anchors(aim), link


def missing_names(text):
    """Names in backticks, such as `ops.boxes.encode` and `nets/rpn.py`, that the package does not have."""
    missing = []
    for name in re.findall(rf"`(?:rcnn_tutorial\.)?((?:{PARTS})(?:\.\w+)+)`", text):
        if not name.endswith((".py", ".yaml")) and not exists(name):
            missing.append(name)
    for name in re.findall(rf"`(?:rcnn_tutorial/)?((?:{PARTS})(?:/\w+)*(?:\.\w+)?)`", text):
        is_path = "/" in name or name.endswith(".py")
        if is_path and not (ROOT / "rcnn_tutorial" / name).exists() and not (ROOT / name).exists():
            missing.append(name)
    return missing


def exists(name):
    """Whether a dotted name leads to a module of the package, or to something in one."""
    parts, value = name.split("."), None
    for i in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(["rcnn_tutorial", *parts[:i]]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_pages_name_what_is_there(name):
    assert missing_names((ROOT / name).read_text(encoding="utf-8")) == []


def test_the_search_for_names_finds_them():
    text = "`ops.boxes.encode` `ops.boxes.nothing` `nets/rpn.py` `nets/gone.py` `data/generated` `nets.rpn.RPN.propose`"
    assert missing_names(text) == ["ops.boxes.nothing", "nets/gone.py"]
    assert missing_names("`rcnn_tutorial.ops.gone` `rcnn_tutorial/compat.py` `ops` `opset.gone`") == ["ops.gone"]


def test_terms_stand_where_the_glossary_says():
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| \[([^]]+)\]\(([^)]+)\) \|$", text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| (?!term|---)", text, re.MULTILINE)) > 60
    assert len({term for term, *_ in rows}) == len(rows)
    for term, meaning, place, link in rows:
        assert meaning.endswith("."), term
        if section := re.fullmatch(r"\d\d, section (\d)", place):
            told = section_of(ROOT / "docs" / link, section[1])
            assert re.search(rf"\b{term.split()[-1].removesuffix('s')}", told, re.IGNORECASE), (term, place)


def section_of(path, number):
    """Text and code of one numbered section of a notebook."""
    told, inside = [], False
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and source.startswith("## "):
            inside = source.startswith(f"## {number} ")
        told += [source] * inside
    assert told, f"{path.name} has no section {number}"
    return "\n".join(told)


def test_every_page_of_docs_stands_in_the_contents_of_the_book():
    contents = (ROOT / "tools/lecture/book_pages/contents.md").read_text().splitlines()
    pages = {f"docs/{page.stem}" for page in (ROOT / "docs").glob("*.md")}
    assert pages and pages <= set(contents), pages - set(contents)
