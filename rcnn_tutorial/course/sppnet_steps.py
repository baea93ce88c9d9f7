"""What 02_sppnet computes besides the lesson: a scene with its windows, counts, and the seconds of a record."""

from statistics import mean, stdev
from time import process_time

import torch
from torch import Tensor, nn

from rcnn_tutorial.course import records
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.wrappers import OnDevice
from rcnn_tutorial.detectors.rcnn import RCNN
from rcnn_tutorial.detectors.sppnet import SPPnet
from rcnn_tutorial.proposals.dataset import WithProposals


def scene_with_proposals(index: int, device: str) -> tuple[Tensor, dict[str, Tensor], tuple[str, ...]]:
    """Open a test scene with the 200 best proposals of selective search.

    Returns:
        Its picture (3, H, W), its target with `proposals`, and the names of the classes.
    """
    scenes = WithProposals(load_dataset("shapes", "test"), top=200)
    image, target = OnDevice(scenes, device)[index]
    return image, target, tuple(scenes.classes or ())


def counted_passes(detector: SPPnet, image: Tensor, proposals: Tensor) -> tuple[dict[str, Tensor], int]:
    """Detect on one picture, and count how often the convolutions run."""
    passes: list[int] = []
    hook = detector.net.convs.register_forward_hook(lambda *_: passes.append(1))
    (detection,) = detector([image], proposals=[proposals])
    hook.remove()
    return detection, len(passes)


def extent(gradient: Tensor) -> tuple[int, int]:
    """Height and width of the smallest rectangle that holds all pixels of (1, C, H, W) with a gradient."""
    rows, columns = gradient[0].abs().sum(dim=0).nonzero().unbind(dim=1)
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


def larger_than(boxes: Tensor, side: float) -> Tensor:
    """Those of the boxes (N, 4) whose shorter side is longer than `side` pixels."""
    return boxes[(boxes[:, 2:] - boxes[:, :2]).amin(dim=1) > side]


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights of a network, by name, without its biases."""
    return {name: value.clone() for name, value in net.state_dict().items() if "weight" in name}


def processor_seconds(detector: RCNN | SPPnet, image: Tensor, proposals: Tensor, runs: int = 3) -> float:
    """How long the processor computes to detect on one picture, at best; its proposals are given and cost nothing.

    Of several runs the fastest counts, because the first one also sets things up.
    """
    seconds = []
    for _ in range(runs):
        start = process_time()
        with torch.no_grad():
            detector([image], proposals=[proposals])
        seconds.append(process_time() - start)
    return min(seconds)


def seconds_at_paper_scale(network: str) -> dict[str, dict[str, float]]:
    """Of each detector that the record has timed with that network the seconds of an image by stage."""
    rows = records.load("paper_scale")["rows"]
    return {row["detector"]: row["seconds"] for row in rows if row["network"] == network}


def times_faster(network: str, stage: str | None = None) -> dict[str, float]:
    """How many times the seconds of R-CNN exceed those of SPPnet at one scale, as `claim` takes a mean over runs.

    Args:
        network: of both.
        stage: the stage to compare, such as "convolutions"; None for all of them.
    """
    rows = records.load("paper_scale")["rows"]
    rounds = {row["detector"]: row["rounds"] for row in rows if row["network"] == network}
    both = zip(rounds["R-CNN"], rounds["SPPnet, 1 scale"], strict=True)
    ratios = [(a[stage] / b[stage]) if stage else sum(a.values()) / sum(b.values()) for a, b in both]
    return {"measured": mean(ratios), "spread": stdev(ratios), "runs": len(ratios)}
