"""The exercises of 06_mask_rcnn: cells and pixels in `e06_cells`, the branch and its loss in `e06_head`."""

from rcnn_tutorial.course.exercises.e06_cells import ALIGN, PASTE, READ, TARGET
from rcnn_tutorial.course.exercises.e06_head import HEAD, LOSS, eight_objects

__all__ = ["EXERCISES", "eight_objects"]

EXERCISES = {"06-A": READ, "06-B": ALIGN, "06-C": LOSS, "06-D": TARGET, "06-E": PASTE, "06-F": HEAD}
