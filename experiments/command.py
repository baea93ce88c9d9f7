"""How far the one command of README comes on photographs of blood cells: `rcnn-tutorial train bccd --epochs 30`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

from experiments.comparison import tested
from experiments.scenes import Experiment, device
from rcnn_tutorial.app.train import fit
from rcnn_tutorial.data import load_dataset

EPOCHS = 30
COMMAND = f"rcnn-tutorial train bccd --epochs {EPOCHS}"


def blood_cells(seed: int) -> dict[str, dict]:
    """What the command trains, and keeps as best.pt for its validation pictures, is measured on the test pictures."""
    start = process_time()  # other users of the machine do not count
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        fitted = fit("bccd", epochs=EPOCHS, seed=seed, folder=path, device=device(), progress=False)
    seconds = {"seconds": round(process_time() - start, 1)}
    return {COMMAND: tested(fitted.model, load_dataset("bccd", "test")) | seconds}


EXPERIMENTS = {
    "command_bccd": Experiment("one command, on blood cells", (), blood_cells, {"command": COMMAND}),
}
