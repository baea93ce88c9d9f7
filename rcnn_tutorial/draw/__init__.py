"""The pictures of the notebooks: each function draws one idea, large enough for the last row of a lecture hall."""

from rcnn_tutorial.draw.bars import ablation, shares
from rcnn_tutorial.draw.curves import live_losses, losses, precision_recall, recall_curves
from rcnn_tutorial.draw.detector import pipeline, time_bar
from rcnn_tutorial.draw.mistakes import kind_bars, kind_stacks, kinds
from rcnn_tutorial.draw.overlap import iou_slide, iou_table, nms_step, nms_strip, threshold_curve
from rcnn_tutorial.draw.pictures import boxes, close_up, contact_sheet, label, outlines, picture, scene
from rcnn_tutorial.draw.style import BAD, COLORS, GOOD, KIND_COLORS, PALE, PLAIN, STATES, Style, class_color, setup
from rcnn_tutorial.draw.windows import coverage, grouping, iou_histogram, moves, windows_by_iou

__all__ = [
    "BAD",
    "COLORS",
    "GOOD",
    "KIND_COLORS",
    "PALE",
    "PLAIN",
    "STATES",
    "Style",
    "ablation",
    "boxes",
    "class_color",
    "close_up",
    "contact_sheet",
    "coverage",
    "grouping",
    "iou_histogram",
    "iou_slide",
    "iou_table",
    "kind_bars",
    "kind_stacks",
    "kinds",
    "label",
    "live_losses",
    "losses",
    "moves",
    "nms_step",
    "nms_strip",
    "outlines",
    "picture",
    "pipeline",
    "precision_recall",
    "recall_curves",
    "scene",
    "setup",
    "shares",
    "threshold_curve",
    "time_bar",
    "windows_by_iou",
]
