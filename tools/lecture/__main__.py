"""Slides, handouts and their check: python -m tools.lecture slides [--minutes 50] [NOTEBOOK ...]"""

import argparse
from pathlib import Path

from tools.lecture import check, lesson, slides

BUILD = lesson.ROOT / "build"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["slides", "check"])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--minutes", type=int, choices=[50, 75, 90], help="leave out what the speaker notes leave out")
    args = parser.parse_args()
    out = BUILD / "slides"
    if args.do == "check":
        check.main(out, BUILD / "check")
    out.mkdir(parents=True, exist_ok=True)
    for notebook in args.notebooks or lesson.lessons():
        name = notebook.stem + (f"_{args.minutes}" if args.minutes else "")
        (out / f"{name}.html").write_text(slides.deck(notebook, args.minutes), encoding="utf-8")


if __name__ == "__main__":
    main()
