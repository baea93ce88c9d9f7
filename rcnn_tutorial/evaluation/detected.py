"""What a detector says about one picture, in a form that can be read, drawn, measured and written to a file."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from rcnn_tutorial.data.masks import decode_masks

SHOWN = 5  # detections that the text of a picture lists


@dataclass(frozen=True, repr=False, eq=False)
class Detected:
    """The D detections of one picture, the best first, on the CPU.

    Attributes:
        path: of the picture's file; None for a picture that was given as pixels.
        size: (width, height) of the picture as a viewer shows it, pixels.
        boxes: (D, 4) float32 x1, y1, x2, y2 in pixels of that picture.
        labels: (D,) int64.
        names: the class of each detection.
        scores: (D,) float32.
        runs: the masks as run lengths, as `data.masks.encode_masks` keeps them; None where the detector gives no masks.
        frame: the number of the frame in a video, from 0; None for a picture.
    """

    path: Path | None
    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    names: tuple[str, ...]
    scores: Tensor
    runs: list[dict] | None = None
    frame: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __bool__(self) -> bool:
        return True  # a picture without detections is an answer, too

    def __repr__(self) -> str:
        where = self.path.name if self.path else "picture"
        where += f", frame {self.frame}" if self.frame is not None else ""
        listed = [f"{name} {score:.2f}" for name, score in zip(self.names, self.scores.tolist(), strict=True)]
        more = [f"and {len(listed) - SHOWN} more"] if len(listed) > SHOWN else []
        what = ", ".join((listed[:SHOWN] + more) or ["nothing"])
        return f"Detected({where}, {self.size[0]}x{self.size[1]}: {what})"

    @property
    def masks(self) -> Tensor | None:
        """The masks as (D, H, W) bool, unpacked at each call; None where the detector gives none."""
        width, height = self.size
        return None if self.runs is None else decode_masks(self.runs, (height, width))

    def counts(self) -> Counter[str]:
        """Count the detections of each class."""
        return Counter(self.names)

    def answer(self) -> dict:
        """Give the detections as a detector does and the metrics take them; masks stay run lengths."""
        answer = {"boxes": self.boxes, "labels": self.labels, "scores": self.scores}
        return answer if self.runs is None else {**answer, "masks": self.runs}
