"""The published table."""

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.course.literature import TABLE

ROWS = {row.name: row for row in TABLE}
FIGURES = {
    "CMP-02": {"Faster R-CNN": (70.4, 7)},
    "CMP-03": {"SSD 300": (74.3, 46), "SSD 512": (76.8, 19)},
    "CMP-04": {"YOLO": (63.4, 45), "YOLOv2": (78.6, 40), "YOLOv3": (31.0, 35)},
    "CMP-05": {"RetinaNet": (34.4, 11)},
}


def test_the_table_has_the_figures_of_the_texts():
    for row, figures in FIGURES.items():
        for name, figure in figures.items():
            found = (ROWS[name].accuracy, ROWS[name].per_second)
            claim(row, condition=found == figure, note=f"accuracy and images a second of {name} in the table")
    assert sum(map(len, FIGURES.values())) == len(TABLE)


def test_what_may_be_compared():
    """Two measures never share their test pictures."""
    for one in TABLE:
        for other in TABLE:
            assert one.test != other.test or one.measure == other.measure
    alike = {row.name for row in TABLE if row[5:] == ROWS["SSD 512"][5:]}
    assert alike == {"YOLO", "SSD 300", "SSD 512", "YOLOv2"}
