"""A table of published detectors, as overviews print it, with what they leave out: where each row was measured."""

from typing import NamedTuple


class Published(NamedTuple):
    """One row.

    Attributes:
        name: of the detector.
        pixels: of the input: both sides, or the shorter and the longest longer one.
        accuracy: in percent.
        measure: what that is: mAP at an IoU of 0.5 (VOC), or AP, the mean over IoUs of 0.5 to 0.95 (COCO).
        per_second: images.
        test: the pictures that it was tested on.
        training: the pictures that it was trained on; 07++12 has VOC's test pictures of 2007 too, 07+12 has not.
        gpu: on which the time was taken.
    """

    name: str
    pixels: str
    accuracy: float
    measure: str
    per_second: float
    test: str
    training: str
    gpu: str


# Faster R-CNN: table 3 of SSD has its speed; SSD: table 7; YOLO: table 1; YOLOv2: table 3; YOLOv3: its figure 1;
# RetinaNet: table 1e
TABLE = (
    Published("Faster R-CNN", "600 to 1000", 70.4, "mAP", 7, "VOC 2012", "VOC 07++12", "Titan X"),
    Published("YOLO", "448", 63.4, "mAP", 45, "VOC 2007", "VOC 07+12", "Titan X"),
    Published("SSD 300", "300", 74.3, "mAP", 46, "VOC 2007", "VOC 07+12", "Titan X"),
    Published("SSD 512", "512", 76.8, "mAP", 19, "VOC 2007", "VOC 07+12", "Titan X"),
    Published("YOLOv2", "544", 78.6, "mAP", 40, "VOC 2007", "VOC 07+12", "Titan X"),
    Published("YOLOv3", "416", 31.0, "AP", 35, "COCO", "COCO", "Titan X"),
    Published("RetinaNet", "500 to 833", 34.4, "AP", 11, "COCO", "COCO", "M40"),
)
