"""Slides, handouts and a book of the notebooks as committed, and a look at them; nothing is executed.

python -m tools.lecture slides [--minutes 50] [NOTEBOOK ...]   build/slides/*.html
python -m tools.lecture handouts [NOTEBOOK ...]                build/handouts/*.html, and *.pdf where Chromium is
python -m tools.lecture book                                   the site build/book, and its links
python -m tools.lecture check                                  every slide in a browser, with pictures in build/check
"""

import argparse
import sys
from pathlib import Path

from tools.lecture import book, check, handouts, lesson, links, slides

BUILD = lesson.ROOT / "build"


def write(folder: Path, name: str, html: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.html"
    path.write_text(html, encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["slides", "handouts", "book", "check"])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--minutes", type=int, choices=[50, 75, 90], help="leave out what the speaker notes leave out")
    args = parser.parse_args()
    notebooks, problems = args.notebooks or lesson.lessons(), []
    if args.do == "slides":
        for path in notebooks:
            name = path.stem + (f"_{args.minutes}" if args.minutes else "")
            write(BUILD / "slides", name, slides.deck(path, args.minutes))
    elif args.do == "handouts":
        files = [write(BUILD / "handouts", path.stem, handouts.handout(path)) for path in notebooks]
        if check.browser():
            problems = handouts.print_all(files)
        else:
            print("No Chromium is installed, so the handouts are HTML. Print them from a browser.")
    elif args.do == "book":
        problems = ["Sphinx found faults in the book."] if book.build(BUILD / "book") else links.broken(BUILD / "book")
    else:
        problems = check.check_slides(sorted((BUILD / "slides").glob("*.html")), BUILD / "check")
        problems += check.check_book(BUILD / "book")
        print(f"{len(problems)} problems")
    sys.exit("\n".join(problems) or None)


if __name__ == "__main__":
    main()
