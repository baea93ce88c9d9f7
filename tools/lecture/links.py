"""Links of a site of files: each leads to a file and a place that are there, and no page loads from a network."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("video", "src")}


class Page(HTMLParser):
    """What a page loads, what it links to, and the places that it has."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads, self.links, self.places = [], [], {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        at = dict(attrs)
        self.places |= {at[key] for key in ("id", "name") if at.get(key)}
        if tag == "link" and at.get("rel") in ("canonical", "search", "prev", "next", "author"):
            self.links.append(at.get("href") or "")
            return
        self.loads += [at[key] for name, key in LOADS if tag == name and at.get(key)]
        self.links += [at["href"]] if tag == "a" and at.get("href") else []


def broken(site: Path) -> list[str]:
    """What is wrong with the pages of a site, a sentence for each fault."""
    files = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]  # there, templates
    pages = {path.resolve(): Page(path) for path in files}
    problems = [] if pages else [f"{site} has no page"]
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for link in page.loads + page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    problems.append(f"{name} loads {link}")
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not aim.exists():
                problems.append(f"{name}: no file {link}")
            elif aim in pages and unquote(parts.fragment) not in pages[aim].places:
                problems.append(f"{name}: no place {link}")
    return problems
