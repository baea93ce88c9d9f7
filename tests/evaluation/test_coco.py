"""COCO AP: against pycocotools on a JSON file of the test's own, and against a slow 101-point AP."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rcnn_tutorial.evaluation import coco_ap, size_thirds, voc_ap

CLASSES = ("background", "disc", "bar", "star")
NAMES = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100"]
NAMES += ["AR_small", "AR_medium", "AR_large"]


def random_scene(seed, images=12, classes=3, crowds=False):
    """Detections near the truths, with wrong classes, duplicates, equal scores; some images without either."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    detections, targets = [], []
    for image in range(images):
        count = 0 if image % 5 == 1 else int(draw(1, 7))
        corner, size = draw(0, 120, count, 2), draw(8, 130, count, 2)
        boxes = torch.cat((corner, corner + size), 1).float()
        target = {"boxes": boxes, "labels": draw(1, classes + 1, count)}
        if crowds:
            target["iscrowd"] = draw(0, 5, count) == 0
        targets.append(target)
        chosen = draw(0, count, 3 * count) if count else torch.zeros(0, dtype=torch.int64)
        near = (boxes[chosen] + draw(-4, 5, len(chosen), 4)).reshape(-1, 4)
        labels = torch.where(draw(0, 5, len(chosen)) == 0, draw(1, classes + 1, len(chosen)), target["labels"][chosen])
        away = draw(0, 100, 0 if image % 5 == 2 else 3, 2).float()
        found = {
            "boxes": torch.cat((near, torch.cat((away, away + 30), 1))),
            "labels": torch.cat((labels, draw(1, classes + 1, len(away)))),
        }
        detections.append(found | {"scores": draw(1, 20, len(found["labels"])) / 20})
    return detections, targets


def by_pycocotools(folder, detections, targets, areas=None, category=None):
    """The twelve numbers of pycocotools, fed from JSON files as its own demo does."""
    annotations, results = [], []
    for image, (found, target) in enumerate(zip(detections, targets, strict=True)):
        for i, (x1, y1, x2, y2) in enumerate(target["boxes"].tolist()):
            crowd = int(target["iscrowd"][i]) if "iscrowd" in target else 0
            area = float(target["masks"][i].sum()) if "masks" in target else (x2 - x1) * (y2 - y1)
            row = {"image_id": 100 + image, "category_id": int(target["labels"][i]), "iscrowd": crowd, "area": area}
            annotations.append(row | {"id": 1 + len(annotations), "bbox": [x1, y1, x2 - x1, y2 - y1]})
        for (x1, y1, x2, y2), k, s in zip(*(found[key].tolist() for key in ("boxes", "labels", "scores")), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            results.append({"image_id": 100 + image, "category_id": k, "bbox": box, "score": s})
    images = [{"id": 100 + image} for image in range(len(targets))]
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES) if k]
    document = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(document))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "bbox")
        if category:
            evaluation.params.catIds = [category]
        if areas:
            low, high = areas
            evaluation.params.areaRng = [[0, 1e10], [0, low], [low, high], [high, 1e10]]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: math.nan if x == -1 else x for name, x in zip(NAMES, evaluation.stats, strict=True)}


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(tmp_path, seed):
    detections, targets = random_scene(seed, crowds=seed % 2 == 1)
    ours = coco_ap(detections, targets, CLASSES)
    per_class = ours.pop("per_class")
    expected = by_pycocotools(tmp_path, detections, targets)
    assert ours == pytest.approx(expected, nan_ok=True) and len({round(x, 6) for x in ours.values()}) > 8
    assert list(per_class) == list(CLASSES[1:])
    for k, name in enumerate(CLASSES[1:], start=1):
        assert per_class[name] == pytest.approx(by_pycocotools(tmp_path, detections, targets, category=k), nan_ok=True)


def test_areas_of_masks_and_other_bounds(tmp_path):
    detections, targets = random_scene(7)
    halves = [torch.zeros(len(t["boxes"]), 260, 260, dtype=torch.bool) for t in targets]
    for masks, target in zip(halves, targets, strict=True):
        for mask, (x1, y1, x2, y2) in zip(masks, target["boxes"].int().tolist(), strict=True):
            mask[y1 : (y1 + y2) // 2, x1:x2] = True
    masked = [t | {"masks": m} for t, m in zip(targets, halves, strict=True)]
    measured = [t | {"area": m.flatten(1).sum(1)} for t, m in zip(targets, halves, strict=True)]
    expected = by_pycocotools(tmp_path, detections, masked, (1500, 4000))
    for variant in (masked, measured):
        ours = coco_ap(detections, variant, CLASSES, areas=(1500, 4000))
        del ours["per_class"]
        assert ours == pytest.approx(expected, nan_ok=True)
    assert coco_ap(detections, targets, CLASSES, areas=(1500, 4000))["AP_small"] != expected["AP_small"]
    both = [t | {"masks": torch.ones_like(t["masks"])} for t in masked]  # with an area too, masks are not asked
    both = [t | {"area": m["area"]} for t, m in zip(both, measured, strict=True)]
    ours = coco_ap(detections, both, CLASSES, areas=(1500, 4000))
    del ours["per_class"]
    assert ours == pytest.approx(expected, nan_ok=True)


def slow_ap50(detections, targets, label):
    """101-point AP at IoU 0.5, each detection taking the best truth that is still free."""

    def iou(a, b):
        w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        inter = max(w, 0) * max(h, 0)
        return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)

    ranked, objects = [], 0
    for found, target in zip(detections, targets, strict=True):
        free = [b for b, k in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True) if k == label]
        objects += len(free)
        own = [(s, b) for s, b, k in zip(*(found[n].tolist() for n in ("scores", "boxes", "labels")), strict=True)
               if k == label]  # fmt: skip
        for score, box in sorted(own, key=lambda row: -row[0]):
            best = max(range(len(free)), key=lambda i: (iou(box, free[i]), i), default=None)  # noqa: B023
            hit = best is not None and iou(box, free[best]) >= 0.5
            if hit:
                del free[best]
            ranked.append((score, hit))
    ranked.sort(key=lambda row: -row[0])
    hits = np.cumsum([hit for _, hit in ranked])
    total = 0.0
    for level in np.linspace(0, 1, 101):
        total += max((h / (i + 1) for i, h in enumerate(hits) if h / objects >= level), default=0)
    return total / 101


@pytest.mark.parametrize("seed", range(10, 14))
def test_ap50_equals_a_slow_implementation(seed):
    detections, targets = random_scene(seed)
    per_class = coco_ap(detections, targets, CLASSES)["per_class"]
    for label, name in enumerate(CLASSES[1:], start=1):
        assert per_class[name]["AP50"] == pytest.approx(slow_ap50(detections, targets, label))


def one(boxes, labels, **more):
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4).float(),
        "labels": torch.tensor(labels, dtype=torch.int64),
        **more,
    }


def test_coco_lets_a_detection_take_the_second_best():
    # both detections overlap the first truth most; VOC calls the second a duplicate, COCO gives it the other truth
    target = one([[0, 0, 10, 10], [0, 4, 10, 10]], [1, 1])
    found = one([[0, 0, 10, 10], [0, 1, 10, 10]], [1, 1], scores=torch.tensor([0.9, 0.8]))
    assert voc_ap([found], [target], CLASSES).map == 0.5
    assert coco_ap([found], [target], CLASSES)["AP50"] == pytest.approx(1)


def test_undefined_is_nan(capsys):
    nothing, empty = one([], []), one([], [], scores=torch.zeros(0))
    target = one([[0, 0, 50, 50]], [1])
    missed = coco_ap([empty, empty], [target, nothing], CLASSES)
    assert missed["AP"] == 0 and missed["AR_100"] == 0 and missed["AP_medium"] == 0
    assert math.isnan(missed["AP_small"]) and math.isnan(missed["AR_large"])
    assert missed["per_class"]["disc"]["AP"] == 0 and math.isnan(missed["per_class"]["bar"]["AP"])
    wrong = coco_ap([one([[0, 0, 9, 9]], [1], scores=torch.ones(1))], [nothing], CLASSES)
    assert all(math.isnan(x) for name, x in wrong.items() if name != "per_class")
    assert math.isnan(coco_ap([empty], [nothing], CLASSES)["AP"]) and math.isnan(coco_ap([], [], CLASSES)["AP"])
    assert capsys.readouterr() == ("", "")


def test_the_first_object_can_be_found():
    target = one([[0, 0, 50, 50]], [1])
    found = target | {"scores": torch.ones(1)}
    result = coco_ap([found], [target], CLASSES)
    assert result["AP"] == pytest.approx(1) and result["AR_1"] == 1


def test_difficult_counts_neither_way():
    target = one([[0, 0, 50, 50], [60, 0, 90, 50]], [1, 1], difficult=torch.tensor([True, False]))
    easy = one([[60, 0, 90, 50]], [1], scores=torch.tensor([0.5]))
    both = one([[0, 0, 50, 50], [60, 0, 90, 50]], [1, 1], scores=torch.tensor([0.9, 0.5]))
    part = one([[0, 0, 50, 20], [60, 0, 90, 50]], [1, 1], scores=torch.tensor([0.9, 0.5]))  # within, IoU 0.4
    assert coco_ap([easy], [target], CLASSES)["AP"] == pytest.approx(1)
    assert coco_ap([both], [target], CLASSES)["AP"] == pytest.approx(1)
    assert coco_ap([part], [target], CLASSES)["AP"] == pytest.approx(0.5)
    crowd = target | {"iscrowd": target["difficult"]}  # of a crowd a part is enough
    assert coco_ap([part], [crowd], CLASSES)["AP"] == pytest.approx(1)


def test_size_thirds_part_the_objects():
    side = torch.arange(1, 31).float()
    boxes = torch.stack((0 * side, 0 * side, side, side), 1)
    target = {"boxes": boxes, "labels": torch.ones(30, dtype=torch.int64)}
    crowd = one([[0, 0, 500, 500]], [1], iscrowd=torch.tensor([True]))
    low, high = size_thirds([target, crowd, one([], [])])
    areas = side**2
    assert [int((areas <= low).sum()), int(((areas > low) & (areas <= high)).sum())] == [10, 10]
    assert size_thirds([target | {"area": 2 * areas}]) == pytest.approx((2 * low, 2 * high))
    with pytest.raises(ValueError, match="targets: expected at least one object"):
        size_thirds([crowd])


@pytest.mark.parametrize("areas", [(0, 5), (9, 4), (4, 4)])
def test_refused_areas(areas):
    with pytest.raises(ValueError, match="areas"):
        coco_ap([], [], CLASSES, areas=areas)
