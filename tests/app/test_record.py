import csv
from collections import namedtuple

import pytest
import torch

from rcnn_tutorial.app import curves, record
from rcnn_tutorial.app.record import Record, numbers, rank, save_whole, summary
from rcnn_tutorial.training import History

CLASSES = ("background", "leaf", "stone")


class Model:
    """Writes its number."""

    def __init__(self, number):
        self.number = number

    def save(self, path):
        path.write_text(str(self.number))


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """A record whose evaluations find given numbers, and draws nothing."""
    aps = iter([])
    monkeypatch.setattr(record, "predict", lambda *arguments, **options: ([], []))
    monkeypatch.setattr(record, "numbers", lambda *arguments: {"AP": next(aps), "AP50": 0.5})
    monkeypatch.setattr(record, "draw_curves", lambda history, path: path.write_text(str(history.steps)))

    def make(*values, **options):
        nonlocal aps
        aps = iter(values)
        return Record(tmp_path, [0], CLASSES, {}, **options)

    return make


def history_of(steps, evaluations=()):
    losses = {"class": [1.0 / (i + 1) for i in range(steps)], "box": [0.5] * steps}
    return History(losses, [0.1] * steps, [2.0] * steps, list(evaluations))


def test_the_best_weights_are_kept(scripted, tmp_path):
    keeper = scripted(0.2, 0.4, 0.4, 0.3, 0.5)
    kept = []
    for number in range(5):
        keeper.evaluate(Model(number))
        kept.append((tmp_path / "best.pt").read_text())
    assert kept == ["0", "1", "1", "1", "4"]


def test_a_run_that_goes_on_knows_its_best(scripted, tmp_path):
    keeper = scripted(0.3, 0.41, evaluations=[{"step": 5, "AP": 0.4}])
    keeper.evaluate(Model(0))
    assert not (tmp_path / "best.pt").exists()
    keeper.evaluate(Model(1))
    assert (tmp_path / "best.pt").read_text() == "1"


def test_without_objects_any_weights_are_the_best(scripted, tmp_path):
    keeper = scripted(float("nan"), float("nan"), 0.0)
    kept = []
    for number in range(3):
        keeper.evaluate(Model(number))
        kept.append((tmp_path / "best.pt").read_text())
    assert kept == ["0", "0", "2"]
    assert rank({"AP": 0.5, "mask_AP": 0.3}) == 0.3


def test_rows_are_added_and_those_of_a_killed_run_replaced(scripted, tmp_path):
    def rows():
        with open(tmp_path / "history.csv", newline="") as file:
            return [(int(row["step"]), float(row["total"]), row["AP"]) for row in csv.DictReader(file)]

    first = scripted()
    first.log(history_of(2))
    first.log(history_of(4, [{"step": 3, "AP": 0.25, "AP50": 0.5}]))
    expected = [(1, 1.5, ""), (2, 1.0, ""), (3, pytest.approx(5 / 6), "0.25"), (4, 0.75, "")]
    assert rows() == expected and (tmp_path / "curves.png").read_text() == "4"
    again = scripted()
    again.log(history_of(3, [{"step": 3, "AP": float("nan"), "AP50": 0.5}]))
    assert rows() == [*expected[:2], (3, pytest.approx(5 / 6), "")]
    for each in (first, again):
        each.close()


def test_weights_that_cannot_be_written_leave_the_old_ones(tmp_path):
    class Full(Model):
        def save(self, path):
            path.write_text("half")
            raise OSError(28, "No space left on device", str(path))

    save_whole(Model(1), tmp_path / "best.pt")
    with pytest.raises(OSError):
        save_whole(Full(2), tmp_path / "best.pt")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("best.pt", "1")]


def test_masks_are_measured_where_there_are_some():
    box = torch.tensor([[1.0, 1, 5, 5]])
    found = {"boxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
    assert numbers([found], [found], CLASSES)["AP"] == pytest.approx(1)
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[:, 1:5, 1:5] = True
    with_masks = numbers([found | {"masks": masks}], [found | {"masks": masks.roll(3, 1)}], CLASSES)
    assert with_masks["AP"] == pytest.approx(1) and with_masks["mask_AP"] == 0


def test_the_summary_has_what_one_wants_to_know(tmp_path):
    per_class = {f"c{k}": {"AP50": k / 20} for k in range(12)}
    boxes = {"AP": 0.5, "AP50": 0.75, "per_class": per_class}
    results = {"boxes": boxes, "pictures": 9, "seconds": {"training": 75}, "masks": {"AP": 0.1, "AP50": 0.2}}
    first, second, third, last = summary(results, tmp_path)
    assert first == "AP 0.500, AP50 0.750 on 9 validation pictures, of the best weights."
    assert "AP 0.100" in second and third.endswith("c9 0.45 and 2 more.") and "1 min 15 s" in last


def test_the_curves_are_those_of_the_history(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(curves.plt, "close", kept.append)
    history = history_of(8, [{"step": 4, "AP": 0.2, "AP50": 0.4}, {"step": 8, "AP": 0.3, "AP50": 0.6}])
    curves.draw_curves(history, tmp_path / "curves.png")
    monkeypatch.undo()
    upper, lower = kept[0].axes
    lines = {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for ax in (upper, lower) for line in ax.lines
    }
    assert lines["AP"] == ([4, 8], [0.2, 0.3]) and lines["AP at IoU 0.5"] == ([4, 8], [0.4, 0.6])
    assert lines["box"] == (list(range(2, 9)), [0.5] * 7)
    assert lines["sum of all losses"][1][0] == pytest.approx((1.5 + 1.0) / 2)
    assert upper.lines[0].get_ydata()[0] == 1.5 and len(upper.lines[0].get_xdata()) == 8
    assert lower.get_ylabel() == "average precision" and "means of 2 steps" in upper.get_title()
    curves.plt.close(kept[0])


def test_pictures_without_objects_are_drawn_too(tmp_path):
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    dataset = [(torch.rand(3, 24, 32), empty)] * 2
    Detector = namedtuple("Detector", "classes")
    with pytest.MonkeyPatch.context() as patch:
        answer = empty | {"scores": torch.zeros(0)}
        patch.setattr(curves, "predict", lambda *arguments, **options: ([answer] * 2, [empty] * 2))
        curves.draw_detections(Detector(CLASSES), dataset, tmp_path / "validation.jpg")
    assert (tmp_path / "validation.jpg").stat().st_size > 5_000
