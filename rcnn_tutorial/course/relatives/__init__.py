"""Small versions of three relatives of the series: YOLO's grid, SSD's default boxes, R-FCN's position-sensitive maps.

They are for comparing ideas on equal terms: they start from layers of the shipped detectors, and are called as every
detector is. None reproduces its paper, and each file says what it leaves out.
"""

from rcnn_tutorial.course.relatives.grid import GridDetector
from rcnn_tutorial.course.relatives.rfcn import SmallRFCN
from rcnn_tutorial.course.relatives.ssd import SmallSSD
from rcnn_tutorial.detectors import load
from rcnn_tutorial.nets.fpn import BottomUp

__all__ = ["GridDetector", "SmallRFCN", "SmallSSD", "shipped_stages"]


def shipped_stages() -> BottomUp:
    """The bottom-up stages of the shipped FPN, maps at strides 4, 8, 16 and 32; new ones at each call."""
    return load("fpn").body.bottom_up
