"""The book: a folder of pages with the notebooks, the documentation and the package, which opens without a network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "book_pages"
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.*", "notebooks/**/*.ipynb"]
RENAMED = {"README.md": "index.md", "notebooks/solutions": "solutions.md"}

FOLDS = {(True, True): "hide-cell", (True, False): "hide-input", (False, True): "hide-output"}


def fold(notebook: dict) -> list[str]:
    """Turns JupyterLab's folding into tags that the page understands, and leaves sliders out, which need a kernel.

    Returns:
        the words of each picture, which are its section's title where it has none of its own.
    """
    words, title = [], ""
    for cell in notebook["cells"]:
        first = "".join(cell["source"]).partition("\n")[0]
        if cell["cell_type"] == "markdown":
            title = first.lstrip("# ") if first.startswith("#") else title
            continue
        folded = cell["metadata"].get("jupyter", {})
        key = (folded.get("source_hidden", False), folded.get("outputs_hidden", False))
        cell["metadata"].setdefault("tags", []).extend([FOLDS[key]] if key in FOLDS else [])
        cell["outputs"] = [o for o in cell["outputs"] if not any("widget" in kind for kind in o.get("data", {}))]
        for output in cell["outputs"]:
            kinds = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
            words += [output.get("metadata", {}).get(kind, {}).get("alt", title) for kind in kinds]
    return words


def plain(lines: list[str]) -> list[str]:
    """A docstring for Sphinx: tables, lists and sums stay as they were typed, and no sign in a sentence is markup."""
    result = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip()):
        named = re.match(r"(Args|Returns|Raises|Yields|Attributes):\n", block)
        if not named and re.search(r"^(\s|- |\d\. |\|)", block, re.MULTILINE):
            result += ["::", "", *("    " + line for line in block.split("\n")), ""]
        else:
            result += [*re.sub(r"([*|]|_\b)", r"\\\1", block).split("\n"), ""]
    return result


def link(target: str, page: str, pages: set[str]) -> str | None:
    """Where a link of a page leads in the book: a page of it, the code of a module, or nowhere."""
    if re.match(r"\w+:|#", target):
        return target
    path, mark, place = target.partition("#")
    folder = os.path.dirname(page)
    aim = os.path.normpath(os.path.join(folder, path))
    aim = RENAMED.get(aim, aim)
    if aim.startswith("rcnn_tutorial/") and not aim.startswith("rcnn_tutorial/course"):
        module = aim.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        aim = f"api/{module}.html"
    elif aim not in pages:
        return None
    return os.path.relpath(aim, folder or ".") + mark + place


def rewrite(text: str, page: str, pages: set[str]) -> str:
    """A page whose links lead to what the book has; where it has nothing, the words of the link remain."""

    def turn(found: re.Match) -> str:
        aim = link(found[3], page, pages)
        if aim is None:
            return found[0] if found[1] else found[2]
        if aim.endswith(".html"):
            label = re.sub(r"`([^`]*)`", r"<code>\1</code>", found[2])
            return f'<a href="{aim}">{label}</a>'
        return f"{found[1]}[{found[2]}]({aim})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", turn, text)


def gather(source: Path) -> None:
    """Copies what the book is made of into one folder."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(HERE, source)
    files = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern)) if path.is_file()]
    names = {path: str(path.relative_to(ROOT)) for path in files}
    pages = {RENAMED.get(name, name) for name in names.values()} | {"solutions.md"}
    for path, name in names.items():
        aim = source / RENAMED.get(name, name)
        aim.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".md":
            shutil.copy(path, aim)
            continue
        text = rewrite(path.read_text(encoding="utf-8"), name, pages)
        contents = (HERE / "contents.md").read_text(encoding="utf-8") if name == "README.md" else ""
        aim.write_text(text + contents, encoding="utf-8")


def build(site: Path) -> int:
    """The exit status of Sphinx, which takes a warning for a fault."""
    source = site.with_name("book-source")
    gather(source)
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(source / "_cache"), source, site]
    status = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode
    (site / ".nojekyll").touch()  # the host's pages leave folders with an underscore alone
    return status
