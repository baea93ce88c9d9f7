import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.two_stage import TwoStageSettings, draw_samples
from rcnn_tutorial.ops.boxes import box_iou, clip_boxes_to_image

SIZES = [(200, 300), (200, 300)]


def scene(seed, objects=3, near=60, far=60):
    g = torch.Generator().manual_seed(seed)
    truths = torch.tensor([[10, 10, 70, 60], [120, 20, 180, 90], [200, 100, 290, 190.0]])[:objects]
    close = truths.repeat(near // max(objects, 1), 1)
    close = close + (torch.rand(close.shape, generator=g) - 0.5) * 50
    corner = torch.rand(far, 2, generator=g) * torch.tensor([250, 150.0])
    away = torch.cat((corner, corner + 10 + 40 * torch.rand(far, 2, generator=g)), dim=1)
    return torch.cat((close, away)), {"boxes": truths, "labels": torch.arange(1, objects + 1)}


def drawn(proposals, targets, count=64, background=(0.1, 0.5), seed=0):
    settings = TwoStageSettings(rois=count, background=background)
    generator = torch.Generator().manual_seed(seed)
    return draw_samples(proposals, targets, SIZES[: len(targets)], settings, generator)


def test_a_quarter_is_foreground_and_the_rest_overlaps_a_little():
    proposals, targets = zip(*(scene(i, near=150, far=300) for i in range(2)), strict=True)
    found = drawn(proposals, targets)
    counts = [(int((row > 0).sum()), int((row == 0).sum())) for row in found.labels]
    claim("FAST-12", condition=counts == [(16, 48)] * 2, note="16 foreground and 48 background windows of each image")
    best = torch.stack([box_iou(b, t["boxes"]).amax(1) for b, t in zip(found.boxes, targets, strict=True)])
    background, foreground = best[found.labels == 0], best[found.labels > 0]
    claim(
        "FAST-13",
        condition=bool((background >= 0.1).all() and (background < 0.5).all() and (foreground >= 0.5).all()),
        note="background windows have IoU in [0.1, 0.5)",
    )


def test_labels_and_truths_belong_to_the_windows():
    proposals, targets = zip(*(scene(i) for i in range(2)), strict=True)
    found = drawn(proposals, targets)
    for boxes, labels, matched, target in zip(*found, targets, strict=True):
        iou, nearest = box_iou(boxes, target["boxes"]).max(dim=1)
        own = labels > 0
        assert own.any() and torch.equal(labels[own], target["labels"][nearest[own]])
        assert torch.equal(matched[own], nearest[own]) and (matched[~own] == -1).all()


@pytest.mark.parametrize(
    ("iou", "label"),
    [(0.09, -1), (0.1, 0), (0.49, 0), (0.5, 1), (1.0, 1)],
    ids=["far", "floor", "near", "half", "same"],
)
def test_bounds(iou, label):
    target = {"boxes": torch.tensor([[0, 0, 100, 100.0]]), "labels": torch.tensor([1])}
    window = torch.tensor([[0, 0, 100 * iou, 100.0]])
    found = drawn([window], [target], count=2, background=(0.1, 0.5))  # one foreground at most: 25 % of 2 is 0
    states = {tuple(box.tolist()): int(k) for box, k in zip(found.boxes[0], found.labels[0], strict=True)}
    assert states[tuple(window[0].tolist())] == (label if label < 1 else -1)
    found = drawn([window], [target], count=8)
    states = {tuple(box.tolist()): int(k) for box, k in zip(found.boxes[0], found.labels[0], strict=True)}
    assert states[tuple(window[0].tolist())] == label


def test_an_image_without_objects():
    proposals, target = scene(0, objects=0, near=0)
    assert (drawn([proposals], [target]).labels == -1).all()
    found = drawn([proposals], [target], background=(0.0, 0.5))
    assert (found.labels == 0).sum() == min(64, len(proposals)) and (found.matched == -1).all()
    both = drawn([proposals, scene(1)[0]], [target, scene(1)[1]])
    assert (both.labels[0] == -1).all() and (both.labels[1] > 0).any()


def test_an_image_without_proposals_trains_on_its_objects():
    target = scene(0)[1]
    found = drawn([torch.zeros(0, 4)], [target])
    assert sorted(found.labels[0].tolist(), reverse=True) == [3, 2, 1]
    nothing = drawn([torch.zeros(0, 4)], [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}])
    assert nothing.boxes.shape == (1, 0, 4)


def test_proposals_outside_or_without_area_are_never_drawn():
    target = scene(0)[1]
    odd = torch.tensor([[-50, -50, -10, -10], [310, 10, 350, 40], [20, 20, 20, 60], [-40, 5, 35, 70.0]])
    found = drawn([odd], [target], background=(0.0, 0.5))
    used = found.boxes[0][found.labels[0] >= 0]
    assert [0, 5, 35, 70] in used.tolist() and len(used) == 4  # the last one, clipped, and three objects
    assert ((used[:, 2:] > used[:, :2]).all(1)).all()


def test_wrong_input():
    proposals, target = scene(0)
    with pytest.raises(ValueError, match="proposals: expected one tensor for each of 1 images, got 2"):
        drawn([proposals, proposals], [target])
    with pytest.raises(ValueError, match="proposals: expected finite numbers"):
        drawn([proposals * float("nan")], [target])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 96), st.integers(0, 3), st.integers(0, 3))
def test_padding_changes_nothing(seed, count, first, second):
    """An image beside another gives windows by the same rules as alone."""
    scenes = [scene(seed, first), scene(seed + 1, second, near=30, far=20)]
    both = drawn(*zip(*scenes, strict=True), count=count, seed=seed)
    for i, (proposals, target) in enumerate(scenes):
        labels = both.labels[i]
        real = labels >= 0
        candidates = torch.cat((proposals, target["boxes"]))
        clipped = clip_boxes_to_image(candidates, SIZES[0])
        assert all((row == clipped).all(1).any() for row in both.boxes[i][real])
        iou = box_iou(clipped, target["boxes"]).amax(1) if len(target["boxes"]) else torch.zeros(len(clipped))
        foreground = min(int((iou >= 0.5).sum()), count // 4)
        background = min(int(((iou >= 0.1) & (iou < 0.5)).sum()), count - foreground)
        assert (int((labels > 0).sum()), int((labels == 0).sum())) == (foreground, background)
        assert real.tolist() == sorted(real.tolist(), reverse=True)
