"""Recall and best overlap of proposals, against loops."""

import pytest
import torch
from torchvision.ops import box_iou

from rcnn_tutorial.evaluation import average_best_overlap, best_overlaps, mean_average_best_overlap, recall


def hand_case():
    """Two objects in one image, one (and a crowd) in another, none in a third."""
    windows = [
        torch.tensor([[0, 0, 10, 4], [0, 0, 10, 6], [0, 0, 10, 10]]).float(),
        torch.tensor([[0, 0, 10, 7]]).float(),
        torch.tensor([[0, 0, 10, 7]]).float(),
    ]
    targets = [
        {"boxes": torch.tensor([[0, 0, 10, 10], [50, 50, 60, 60]]).float(), "labels": torch.tensor([1, 2])},
        {
            "boxes": torch.tensor([[0, 0, 10, 10], [0, 0, 10, 7]]).float(),
            "labels": torch.tensor([1, 1]),
            "iscrowd": torch.tensor([False, True]),
        },
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    return windows, targets


def test_by_hand():
    windows, targets = hand_case()
    assert best_overlaps(windows, targets).tolist() == pytest.approx([1, 0, 0.7])
    assert best_overlaps(windows, targets, top=[1, 2]).flatten().tolist() == pytest.approx([0.4, 0, 0.7, 0.6, 0, 0.7])
    assert recall(windows, targets).tolist() == pytest.approx([2 / 3, 2 / 3])  # 7 / 10 covers at 0.7
    assert recall(windows, targets, top=2).tolist() == pytest.approx([2 / 3, 1 / 3])
    curve = recall(windows, targets, iou_thresholds=(0.5,), top=(1, 2, 1000))
    assert curve.shape == (3, 1) and curve.flatten().tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert average_best_overlap(windows, targets).item() == pytest.approx(1.7 / 3)
    assert mean_average_best_overlap(windows, targets).item() == pytest.approx((0.85 + 0) / 2)
    assert mean_average_best_overlap(windows, targets, top=torch.tensor([1, 3])).tolist() == pytest.approx(
        [0.275, 0.425]
    )


@pytest.mark.parametrize("seed", range(3))
def test_recall_equals_a_loop(seed):
    generator = torch.Generator().manual_seed(seed)

    def boxes(count):
        corner = torch.rand(count, 2, generator=generator) * 60
        return torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=generator) * 40), 1)

    windows = [boxes(count) for count in (40, 0, 7, 25)]
    targets = [
        {"boxes": boxes(n), "labels": torch.ones(n, dtype=torch.int64), "difficult": torch.arange(n) == 2}
        for n in (5, 3, 1, 0)
    ]
    for top in (1, 5, 30):
        for threshold in (0.3, 0.5):
            covered = []
            for proposal, target in zip(windows, targets, strict=True):
                for box, difficult in zip(target["boxes"], target["difficult"], strict=True):
                    ious = [box_iou(window[None], box[None]).item() for window in proposal[:top]]
                    if not difficult:
                        covered.append(any(iou >= threshold for iou in ious))
            measured = recall(windows, targets, iou_thresholds=[threshold], top=top)
            assert measured.tolist() == pytest.approx([sum(covered) / len(covered)])


def test_overlap_at_the_threshold_covers():
    for side in range(1, 11):
        window = torch.tensor([[0, 0, 1, side]]).float()
        target = {"boxes": torch.tensor([[0, 0, 1, 10]]).float(), "labels": torch.tensor([1])}
        assert recall([window], [target], iou_thresholds=[side / 10])[0] == 1
        assert recall([window], [target], iou_thresholds=[min(side / 10 + 1e-9, 1)])[0] == (side == 10)


def test_without_objects():
    windows, targets = hand_case()
    assert recall(windows[2:], targets[2:]).isnan().all() and recall([], [], top=[1, 2]).shape == (2, 2)
    assert average_best_overlap(windows[2:], targets[2:]).isnan()
    assert mean_average_best_overlap([], [], top=[1, 2]).isnan().all()


def test_refused():
    windows, targets = hand_case()
    with pytest.raises(ValueError, match="proposals: expected one tensor per image, 3, got 2"):
        recall(windows[:2], targets)
    with pytest.raises(ValueError, match="top: expected numbers from 1 on"):
        recall(windows, targets, top=[10, 0])
    with pytest.raises(ValueError, match="iou_threshold"):
        recall(windows, targets, iou_thresholds=[0.5, 0])
