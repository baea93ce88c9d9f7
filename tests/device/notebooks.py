"""Run the cells of notebooks on the simulated device, and say where one mixes devices.

    python -m tests.device.notebooks [notebooks/04_faster_rcnn.ipynb ...]

With few pictures and steps, since each call passes through the simulation: a notebook takes some minutes. Cells that
ask for an accuracy fail then, and cells that read what these would have made; only mixed devices count.
"""

import json
import re
import sys
from pathlib import Path

import matplotlib

from tests.device import DeviceMix, simulated_cuda

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMALLER = {  # what makes minutes of hours
    r"^SCENES = .*": "SCENES = 9",
    r"^STEPS = .*": "STEPS = 2",
    r"range\((40|100|120|300)\)": "range(9)",
    r"(count|len\(own\)|\w+\)), 60\b": r"\1, 9",
    r'"test": 60': '"test": 9',
    r"on_log=draw.live_losses\(\), ": "",
    r"^interact\(.*": "",
}


def cells(path):
    """The code of a notebook's cells, with their numbers."""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            for pattern, replacement in SMALLER.items():
                source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
            yield number, source


def mixed(path):
    """The cells that mix devices, each with the error."""
    names, found = {"__name__": "__main__"}, []
    with simulated_cuda():
        for number, source in cells(path):
            try:
                exec(compile(source, f"{path.name}, cell {number}", "exec"), names)
            except DeviceMix as error:
                found.append(f"{path.name}, cell {number}: {error}")
            except Exception as error:  # of too little training
                print(f"({path.name}, cell {number}: {type(error).__name__}: {str(error)[:100]})")
    return found


if __name__ == "__main__":
    matplotlib.use("Agg")
    paths = [Path(name) for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("0*.ipynb"))
    errors = [error for path in paths for error in mixed(path)]
    sys.exit("\n".join(errors) or 0)
