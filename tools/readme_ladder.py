"""Make what the README says of the ladder, from its records: docs/ladder.jpg, and the table between the two marks."""

from pathlib import Path

from matplotlib import pyplot as plt

from rcnn_tutorial import draw, records
from rcnn_tutorial.cache import fingerprint
from rcnn_tutorial.records import ladder

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs/ladder.jpg"
BEGIN, END = "<!-- ladder -->\n", "<!-- end of ladder -->"
NAMES = {"shapes": "ladder_shapes", "blood cells": "ladder_bccd"}


def found() -> dict[str, dict]:
    """The records, by the name of their data."""
    return {data: records.load(name) for data, name in NAMES.items()}


def comment(record: dict) -> bytes:
    """What the picture's file says of the record that it shows."""
    return fingerprint(record["runs"]).encode()


def main() -> None:
    all_records = found()
    shown = all_records["shapes"]
    draw.setup()
    draw.trade_off(ladder.points(shown), ladder.under(shown), ladder.X_LABEL)
    plt.savefig(PICTURE, dpi=75, pil_kwargs={"quality": 85, "comment": comment(shown)})
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    table = ladder.markdown(ladder.summary(all_records))
    readme.write_text(f"{before}{BEGIN}\n{table}\n\n{END}{after}", encoding="utf-8")
    print(PICTURE, readme)


if __name__ == "__main__":
    main()
