"""Make what the README says of the ladder, from its records: three pictures, and the table between the two marks."""

from pathlib import Path

from matplotlib import pyplot as plt

from rcnn_tutorial.cache import fingerprint
from rcnn_tutorial.course import draw, records
from rcnn_tutorial.course.records import ladder

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- ladder -->\n", "<!-- end of ladder -->"
TRAINED = ROOT / "docs/trained_shapes.jpg"
NAMES = {"shapes": "ladder_shapes", "blood cells": "ladder_bccd"}


def found() -> dict[str, dict]:
    """The records, by the name of their data."""
    return {data: records.load(name) for data, name in NAMES.items()}


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
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    table = ladder.markdown(ladder.summary(found()))
    readme.write_text(f"{before}{BEGIN}\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
    print(readme)


if __name__ == "__main__":
    main()
