"""The pictures of the notebooks: each function draws one idea, large enough for the last row of a lecture hall."""

from rcnn_tutorial.draw.bars import ablation, shares
from rcnn_tutorial.draw.curves import live_losses, losses, precision_recall, recall_curves
from rcnn_tutorial.draw.detector import pipeline, time_bar
from rcnn_tutorial.draw.maps import by_scale, pyramid_bins, receptive, shift_strip
from rcnn_tutorial.draw.mistakes import kind_bars, kind_stacks, kinds
from rcnn_tutorial.draw.overlap import iou_slide, iou_table, nms_step, nms_strip, threshold_curve
from rcnn_tutorial.draw.pictures import boxes, close_up, contact_sheet, label, outlines, picture, scene
from rcnn_tutorial.draw.regions import (
    compression,
    kind_groups,
    landing,
    loss_curves,
    roi_grid,
    singular_values,
    target_histograms,
)
from rcnn_tutorial.draw.stages import (
    cost_bars,
    cost_curves,
    flow,
    gradient_norms,
    layer_table,
    locks,
    speed_up,
    time_shares,
)
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
    "by_scale",
    "class_color",
    "close_up",
    "compression",
    "contact_sheet",
    "cost_bars",
    "cost_curves",
    "coverage",
    "flow",
    "gradient_norms",
    "grouping",
    "iou_histogram",
    "iou_slide",
    "iou_table",
    "kind_bars",
    "kind_groups",
    "kind_stacks",
    "kinds",
    "label",
    "landing",
    "layer_table",
    "live_losses",
    "locks",
    "loss_curves",
    "losses",
    "moves",
    "nms_step",
    "nms_strip",
    "outlines",
    "picture",
    "pipeline",
    "precision_recall",
    "pyramid_bins",
    "recall_curves",
    "receptive",
    "roi_grid",
    "scene",
    "setup",
    "shares",
    "shift_strip",
    "singular_values",
    "speed_up",
    "target_histograms",
    "threshold_curve",
    "time_bar",
    "time_shares",
    "windows_by_iou",
]
