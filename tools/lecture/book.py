"""The book: a folder of pages with the notebooks, the documentation and the package, which opens without a network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "book"
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*", "notebooks/*.ipynb", "notebooks/solutions/*.ipynb"]
RENAMED = {"README.md": "index.md", "notebooks/solutions": "solutions.md"}


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
