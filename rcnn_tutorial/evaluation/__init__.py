"""How good is a detector, and what does it get wrong?

Every measure takes the detections and the targets of a data set as two lists, one dict per image, in the same
order, and computes on the CPU. `predict` makes the two lists, and `predict_together` in several processes.
"""

from rcnn_tutorial.evaluation.coco import coco_ap, size_thirds
from rcnn_tutorial.evaluation.coco_bootstrap import coco_intervals
from rcnn_tutorial.evaluation.curves import average_precision, best_f1, precision_recall
from rcnn_tutorial.evaluation.kinds import Failures, failures
from rcnn_tutorial.evaluation.matching import MatchedDetections, match_detections
from rcnn_tutorial.evaluation.prediction import predict, predict_together
from rcnn_tutorial.evaluation.proposals import average_best_overlap, best_overlaps, mean_average_best_overlap, recall
from rcnn_tutorial.evaluation.resampling import Interval, bootstrap, student_interval
from rcnn_tutorial.evaluation.voc import VocAP, voc_ap

__all__ = [
    "Failures",
    "Interval",
    "MatchedDetections",
    "VocAP",
    "average_best_overlap",
    "average_precision",
    "best_f1",
    "best_overlaps",
    "bootstrap",
    "coco_ap",
    "coco_intervals",
    "failures",
    "match_detections",
    "mean_average_best_overlap",
    "precision_recall",
    "predict",
    "predict_together",
    "recall",
    "size_thirds",
    "student_interval",
    "voc_ap",
]
