"""Measure what the generated data set promises, and record it.

    python data_scripts/measure_shapes.py

Reads the default data set and writes rcnn_tutorial/course/records/shapes.json, which a test holds to bounds. What a
trained detector makes of the scenes is recorded by benchmarks/train_peer.py.
"""

import json
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from rcnn_tutorial.data import data_root, load_dataset
from rcnn_tutorial.data.generated.scene import HEIGHT, WIDTH
from rcnn_tutorial.data.generated.shapes import CLASSES, VERSION, ensure_shapes
from rcnn_tutorial.evaluation import recall
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.proposals.selective_search import selective_search

RECORD = Path(__file__).parents[1] / "rcnn_tutorial/course/records/shapes.json"
LIBRARIES = ("numpy", "pillow", "pycocotools", "scikit-image", "torch")
SEARCHED = 150  # test scenes, the first


def properties(scenes: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Shares of all objects (`empty`: of all scenes), and extremes, from (boxes, labels, difficult) of every scene."""
    close, counts, everything = [], [], []
    for boxes, labels, difficult in scenes:
        overlap = box_iou(torch.as_tensor(boxes), torch.as_tensor(boxes)).numpy() * (labels[:, None] == labels)
        np.fill_diagonal(overlap, 0)
        close += list(overlap.max(1, initial=0) > 0.3)
        counts.append(len(boxes))
        everything.append(np.column_stack((boxes, labels, difficult)))
    x1, y1, x2, y2, labels, difficult = np.concatenate(everything).T
    width, height, counts = x2 - x1, y2 - y1, np.array(counts)
    longer, shorter = np.maximum(width, height), np.minimum(width, height)
    shares = {
        "close_pair": close,
        "at_border": (x1 == 0) | (y1 == 0) | (x2 == WIDTH) | (y2 == HEIGHT),
        "elongated": longer > np.sqrt(2) * shorter,
        "large": longer > 96,
        "small": longer < 32,
        "difficult": difficult,
        "empty": counts == 0,
        **{name: labels == label for label, name in enumerate(CLASSES) if label > 0},
    }
    return {name: round(float(np.mean(flags)), 4) for name, flags in shares.items()} | {
        "scenes": len(counts),
        "objects": int(counts.sum()),
        "most_objects": int(counts.max()),
        "mean_objects": round(float(counts.mean()), 3),
        "shortest_side": int(shorter.min()),
        "longest_side": int(longer.max()),
    }


def read_scenes(path: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(boxes, labels, difficult) of every image of a COCO file."""
    content = json.loads(path.read_text())
    rows = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        rows[entry["image_id"]].append((x, y, x + width, y + height, entry["category_id"], entry["difficult"]))
    tables = [np.array(row, dtype=np.float32).reshape(-1, 6) for row in rows.values()]
    return [(table[:, :4], table[:, 4].astype(np.int64), table[:, 5] == 1) for table in tables]


def search(count: int = SEARCHED, top: int = 200) -> dict[str, float]:
    """How well selective search does on the first test scenes."""
    dataset = load_dataset("shapes", "test")
    images, targets = zip(*(dataset[index] for index in range(count)), strict=True)
    proposals = [selective_search(image) for image in images]
    good = [
        (box_iou(boxes, target["boxes"]) >= 0.5).any(1).float().mean().item()
        for boxes, target in zip(proposals, targets, strict=True)
    ]
    at_half, at_seven_tenths = recall(proposals, targets, (0.5, 0.7), top).tolist()
    return {
        "scenes": count,
        "recall_of_200_at_0.5": round(at_half, 4),
        "recall_of_200_at_0.7": round(at_seven_tenths, 4),
        "proposals_per_image": round(float(np.mean([len(boxes) for boxes in proposals])), 1),
        "share_with_iou_0.5": round(float(np.mean(good)), 4),
    }


def main() -> None:
    folder = ensure_shapes(data_root())
    splits = ("train", "val", "test")
    scenes = [scene for split in splits for scene in read_scenes(folder / f"annotations/instances_{split}.json")]
    record = {
        "settings": {"version": VERSION, "seed": 1, "splits": splits},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "properties": properties(scenes),
        "selective_search": search(),
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
