"""From a COCO file to its twelve numbers, of boxes and of masks: ours beside pycocotools, which reads the same file."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rcnn_tutorial.data.coco import CocoDetection
from rcnn_tutorial.data.masks import encode_masks
from rcnn_tutorial.evaluation import coco_ap

SIDE = 320
NAMES = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100"]
NAMES += ["AR_small", "AR_medium", "AR_large"]
JUST_ABOVE = math.nextafter(32**2, math.inf)  # rounded to the nearest float32 it would count as small too
JUST_BELOW = math.nextafter(96**2, 0)  # and this one as large


def diamond(x, y, w, h):
    """Half of its box."""
    return {"segmentation": [[x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h, x, y + h / 2]], "area": w * h / 2}


def ellipse(x, y, w, h):
    """As runs: plain, and compressed at even x."""
    columns, rows = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    inside = ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 < 1
    rle = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    if int(x) % 2 == 0:
        counts = rle["counts"].decode()
    else:
        column_wise = inside.T.ravel()
        ends = [0, *(np.flatnonzero(np.diff(column_wise)) + 1), column_wise.size]
        counts = np.diff(ends).tolist()
    return {"segmentation": {"size": [SIDE, SIDE], "counts": counts}, "area": float(inside.sum())}


def rectangle(x, y, w, h):
    return {"segmentation": [], "area": w * h}


def bare(x, y, w, h):
    """Without a segmentation; of an area that is neither its box's nor that of a shape in it."""
    return {"area": 0.3 * w * h}


def at_the_bound(x, y, w, h):
    return {"area": (JUST_ABOVE, JUST_BELOW)[int(x) % 2], "segmentation": []}


FILES = {
    "polygons": [diamond],
    "runs": [ellipse],
    "rectangles": [rectangle],
    "no segmentation": [bare, at_the_bound],
    "mixed": [diamond, ellipse, rectangle, bare, at_the_bound],
}


def make(folder, shapes, seed):
    """A file, and a result file with detections near its objects."""
    random = np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for image in range(12):
        Image.new("RGB", (SIDE, SIDE)).save(folder / f"{image}.png")
        images.append({"id": 100 + image, "file_name": f"{image}.png", "width": SIDE, "height": SIDE})
        for _ in range(0 if image == 5 else 6):
            w, h = random.integers(16, 150, 2).tolist()
            x, y = random.integers(0, 160, 2).tolist()
            kind, crowd = int(random.integers(1, 4)), int(random.random() < 0.15)
            shape = (ellipse if crowd and len(shapes) > 1 else shapes[len(annotations) % len(shapes)])(x, y, w, h)
            ids = {"id": len(annotations) + 1, "image_id": 100 + image, "category_id": kind}
            annotations.append(ids | {"iscrowd": crowd, "bbox": [x, y, w, h]} | shape)
            for _ in range(int(random.integers(0, 4))):
                box = (np.array([x, y, w, h]) + random.integers(-5, 6, 4)).tolist()
                score = round(random.random(), 2)
                named = kind if random.random() < 0.8 else 1
                results.append({"image_id": 100 + image, "category_id": named, "bbox": box, "score": score})
    categories = [{"id": k, "name": name} for k, name in enumerate("abc", start=1)]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    return results


def by_pycocotools(folder, kind="bbox"):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(folder / "results.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: math.nan if x == -1 else x for name, x in zip(NAMES, evaluation.stats, strict=True)}


def by_us(folder, results):
    dataset = CocoDetection(folder, folder / "truth.json")
    targets = [dataset.target(i) for i in range(len(dataset))]
    detections = []
    for number in dataset.ids:
        rows = [row for row in results if row["image_id"] == number]
        boxes = torch.tensor([row["bbox"] for row in rows]).reshape(-1, 4).float()
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([dataset.category_ids.index(row["category_id"]) + 1 for row in rows], dtype=torch.int64)
        scores = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
        detections.append({"boxes": boxes, "labels": labels, "scores": scores})
    return coco_ap(detections, targets, dataset.classes), targets


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", FILES)
def test_a_file_s_numbers_are_pycocotools_s(tmp_path, kind, seed):
    results = make(tmp_path, FILES[kind], seed)
    ours, targets = by_us(tmp_path, results)
    per_class = ours.pop("per_class")
    assert ours == pytest.approx(by_pycocotools(tmp_path), nan_ok=True, abs=1e-12)
    assert len(per_class) == 3 and len({round(x, 6) for x in ours.values()}) > 8
    assert ("masks" in targets[0]) == (kind in ("polygons", "runs"))


# Masks


def rle(mask):
    code = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


def make_masks(folder, shapes, seed):
    """A file of objects with segmentations, and a result file with masks near theirs, which holds no boxes."""
    make(folder, shapes, seed)
    dataset = CocoDetection(folder, folder / "truth.json")
    random = np.random.default_rng(seed)
    detections, results = [], []
    for number, target in zip(dataset.ids, map(dataset.target, range(len(dataset))), strict=True):
        masks, labels, scores = [], [], []
        for mask, label in zip(target["masks"], target["labels"].tolist(), strict=True):
            for _ in range(int(random.integers(0, 4))):
                moved = mask.roll(random.integers(-5, 6, 2).tolist(), (0, 1))
                masks.append(moved & (torch.arange(SIDE) % int(random.integers(3, 12)) > 0))
                labels.append(label if random.random() < 0.8 else 1)
                scores.append(round(random.random(), 2))
        for mask, label, score in zip(masks, labels, scores, strict=True):
            row = {"image_id": number, "category_id": dataset.category_ids[label - 1], "score": score}
            results.append(row | {"segmentation": rle(mask)})
        detections.append({
            "boxes": torch.tensor([[0.0, 0, SIDE, SIDE]]).repeat(len(masks), 1),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores, dtype=torch.float64),
            "masks": torch.stack(masks) if masks else torch.zeros(0, SIDE, SIDE, dtype=torch.bool),
        })  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    return dataset, detections


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shapes", [[diamond], [ellipse], [diamond, ellipse]], ids=["polygons", "runs", "mixed"])
def test_the_numbers_of_masks_are_pycocotools_s(tmp_path, shapes, seed):
    dataset, detections = make_masks(tmp_path, shapes, seed)
    targets = [dataset.target(i) for i in range(len(dataset))]
    assert torch.cat([t["iscrowd"] for t in targets]).sum() > 4
    ours = coco_ap(detections, targets, dataset.classes, kind="segm")
    per_class = ours.pop("per_class")
    assert ours == pytest.approx(by_pycocotools(tmp_path, "segm"), nan_ok=True, abs=1e-12)
    assert len(per_class) == 3 and len({round(x, 6) for x in ours.values()}) > 8
    boxes = coco_ap(detections, targets, dataset.classes)
    assert boxes["AP"] < 0.1 < ours["AP"]  # the boxes, which are all of the picture, play no part


def test_masks_may_be_probabilities_or_run_lengths(tmp_path):
    dataset, detections = make_masks(tmp_path, [diamond, ellipse], 0)
    targets = [dataset.target(i) for i in range(len(dataset))]
    expected = coco_ap(detections, targets, dataset.classes, kind="segm")
    probable = [d | {"masks": torch.where(d["masks"], 0.6, 0.4)[:, None]} for d in detections]
    coded = [[item | {"masks": encode_masks(item["masks"])} for item in items] for items in (detections, targets)]
    for variant in ((probable, targets), coded, (detections, coded[1])):
        again = coco_ap(*variant, dataset.classes, kind="segm")
        assert again.pop("per_class")["b"] == pytest.approx(expected["per_class"]["b"], nan_ok=True)
        assert again == pytest.approx({name: expected[name] for name in NAMES}, nan_ok=True)


def test_difficult_masks_count_neither_way():
    masks = torch.zeros(2, 20, 20, dtype=torch.bool)
    masks[0, :10], masks[1, 10:] = True, True
    boxes = torch.tensor([[0.0, 0, 20, 10], [0, 10, 20, 20]])
    target = {"boxes": boxes, "labels": torch.ones(2).long(), "masks": masks, "difficult": torch.tensor([True, False])}
    detected = {"boxes": boxes, "labels": torch.ones(2).long(), "masks": masks, "scores": torch.tensor([0.9, 0.5])}
    assert coco_ap([detected], [target], ("background", "a"), kind="segm")["AP"] == pytest.approx(1)
    target["difficult"] = torch.tensor([False, False])
    detected["masks"] = masks.flip(0)  # the boxes are right, the masks exchanged: each finds the other's
    assert coco_ap([detected], [target], ("background", "a"), kind="segm")["AP"] == pytest.approx(1)
    detected["masks"] = torch.stack((masks[0], masks[0]))
    assert coco_ap([detected], [target], ("background", "a"), kind="segm")["AP"] == pytest.approx(51 / 101)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, t: d.pop("masks"), r'detections\[0\]: expected masks for kind="segm", got'),
        (lambda d, t: t.pop("masks"), r'targets\[0\]: expected masks for kind="segm", got'),
        (lambda d, t: d.update(masks=d["masks"][:1]), r"detections\[0\]\['masks'\]: expected 2, as boxes, got 1"),
        (lambda d, t: t.update(masks=encode_masks(t["masks"])[:1]), r"targets\[0\]\['masks'\]: expected 2"),
        (
            lambda d, t: d.update(masks=d["masks"][:, :9]),
            r"one size \(H, W\) in image 0, got \[\(9, 20\), \(20, 20\)\]",
        ),
        (lambda d, t: d.update(masks=d["masks"][0]), r"masks: expected \(N, H, W\) or \(N, 1, H, W\), got \(20, 20\)"),
    ],
)
def test_masks_that_cannot_be_compared_are_refused(change, message):
    target = {"boxes": torch.tensor([[0.0, 0, 9, 9]] * 2), "labels": torch.ones(2).long()}
    target["masks"] = torch.ones(2, 20, 20, dtype=torch.bool)
    detected = target | {"scores": torch.ones(2)}
    change(detected, target)
    with pytest.raises(ValueError, match=message):
        coco_ap([detected], [target], ("background", "a"), kind="segm")


@pytest.mark.parametrize("masks", [{}, {"masks": torch.zeros(0, 20, 20, dtype=torch.bool)}, {"masks": []}])
def test_images_without_objects_or_detections_need_no_masks(masks):
    one = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.ones(1).long(), "scores": torch.ones(1)}
    one["masks"] = torch.ones(1, 20, 20, dtype=torch.bool)
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)} | masks
    found = coco_ap([one, none, one], [one, none, none], ("background", "a"), kind="segm")
    assert found["AP"] == pytest.approx(1)  # the false one comes second
    assert coco_ap([none, one], [one, one], ("background", "a"), kind="segm")["AP"] == pytest.approx(51 / 101)


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match='kind: expected "bbox" or "segm", got \'keypoints\''):
        coco_ap([], [], ("background", "a"), kind="keypoints")


def test_the_stated_area_goes_first(tmp_path):
    results = make(tmp_path, FILES["polygons"], 0)
    content = json.loads((tmp_path / "truth.json").read_text())
    expected = [a["area"] for a in content["annotations"]]
    targets = by_us(tmp_path, results)[1]
    assert [v for t in targets for v in t["area"].tolist()] == expected
    assert targets[0]["area"].dtype == torch.float32 and targets[5]["area"].shape == (0,)


def test_an_area_that_rounds_to_a_bound_stays_on_its_side(tmp_path):
    stated = [JUST_ABOVE, 32**2, math.nextafter(32**2, 0), JUST_BELOW, 96**2, 702.1057499999998, 0.0, 3e8 + 0.4]
    assert [float(np.float32(area)) for area in (JUST_ABOVE, JUST_BELOW)] == [32**2, 96**2]
    results = make(tmp_path, FILES["no segmentation"], 0)
    content = json.loads((tmp_path / "truth.json").read_text())
    for annotation, area in zip(content["annotations"], stated, strict=False):
        annotation["area"] = area
    (tmp_path / "truth.json").write_text(json.dumps(content))
    read = [v for t in by_us(tmp_path, results)[1] for v in t["area"].tolist()]
    for area, ours in zip(stated, read, strict=False):
        assert ours == pytest.approx(area, rel=2e-7)
        assert all((ours > bound, ours < bound) == (area > bound, area < bound) for bound in (32**2, 96**2))


def test_an_area_that_is_not_stated_is_the_mask_s_or_the_box_s(tmp_path):
    make(tmp_path, FILES["mixed"], 0)
    content = json.loads((tmp_path / "truth.json").read_text())
    for annotation in content["annotations"]:
        del annotation["area"]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = COCO()
    truth.dataset = content
    truth.imgs = {image["id"]: image for image in content["images"]}
    dataset = CocoDetection(tmp_path, tmp_path / "truth.json")
    areas = [v for i in range(len(dataset)) for v in dataset.target(i)["area"].tolist()]
    boxes = 0
    for annotation, area in zip(content["annotations"], areas, strict=True):
        if annotation.get("segmentation"):
            assert area == int(coco_mask.area(truth.annToRLE(annotation)))
        else:
            assert area == annotation["bbox"][2] * annotation["bbox"][3]
            boxes += 1
    assert 10 < boxes < len(areas) - 10
