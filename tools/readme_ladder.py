"""Make what the README says of the ladder, the rivals and the command: pictures, and text between marks, of records."""

from pathlib import Path

from matplotlib import pyplot as plt

from rcnn_tutorial.cache import fingerprint
from rcnn_tutorial.course import draw, records
from rcnn_tutorial.course.records import command, ladder, rivals

ROOT = Path(__file__).parent.parent
TRAINED, RIVALS = ROOT / "docs/trained_shapes.jpg", ROOT / "docs/rivals_shapes.jpg"
NAMES = {"shapes": "ladder_shapes", "blood cells": "ladder_bccd"}


def found() -> dict[str, dict]:
    """The records, by the name of their data."""
    return {data: records.load(name) for data, name in NAMES.items()}


def tables() -> dict[str, str]:
    """README's tables, and a sentence, by the name that is in their marks."""
    return {
        "ladder": ladder.markdown(ladder.summary(found())),
        "rivals": ladder.markdown(rivals.summary(), list(rivals.RIVALS)),
        "command": command.sentence(),
    }


def marks(name: str) -> tuple[str, str]:
    """What stands before a table and behind it."""
    return f"<!-- {name} -->\n", f"<!-- end of {name} -->"


def picture(data: str) -> Path:
    """Where the picture of a data set lies."""
    return ROOT / f"docs/{NAMES[data]}.jpg"


def comment(record: dict) -> bytes:
    """What the picture's file says of the record that it shows."""
    return fingerprint(record["runs"]).encode()


def main() -> None:
    draw.setup()
    for data, record in found().items():
        draw.trade_off(ladder.points(record), ladder.under(record), ladder.X_LABEL, f"AP, {data}")
        plt.savefig(picture(data), dpi=110, pil_kwargs={"quality": 85, "comment": comment(record)})
        print(picture(data))
    race = records.load(NAMES["shapes"])
    draw.trade_off(ladder.shipped_points(race), ladder.under(race), ladder.X_LABEL, "AP, shapes")
    about = fingerprint(ladder.shipped_points(race)).encode()
    plt.savefig(TRAINED, dpi=110, pil_kwargs={"quality": 85, "comment": about})
    print(TRAINED)
    draw.trade_off(rivals.points(), {}, ladder.X_LABEL, "AP, shapes", ladder=False)
    about = fingerprint(rivals.points()).encode()
    plt.savefig(RIVALS, dpi=110, pil_kwargs={"quality": 85, "comment": about})
    print(RIVALS)
    readme = ROOT / "README.md"
    for name, table in tables().items():
        begin, end = marks(name)
        before, rest = readme.read_text(encoding="utf-8").split(begin)
        readme.write_text(f"{before}{begin}\n{table}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")
    print(readme)


if __name__ == "__main__":
    main()
