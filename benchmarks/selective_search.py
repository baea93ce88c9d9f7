"""Time and recall of selective search's fast mode, beside OpenCV's where it is installed.

    python -m benchmarks.selective_search

Photographs of blood cells (to be downloaded first), shorter side 320 pixels, and generated scenes. Both searches take
each image in turn, on one thread; OpenCV's with scales 50, 100 and 150. The grouping is also run with the loop that
the lesson tells. Writes benchmarks/records/selective_search-cpu.json.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import mean

import skimage
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import write
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.evaluation import recall
from rcnn_tutorial.ops.boxes import box_iou
from rcnn_tutorial.proposals.grouping import SIMILARITIES, group, grouping_steps, similarity_weights
from rcnn_tutorial.proposals.regions import convert, describe, pixel_bins, segment, touching
from rcnn_tutorial.proposals.selective_search import MODES, selective_search
from rcnn_tutorial.proposals.windows import random_boxes, sliding_windows

try:
    import cv2

    cv2.setNumThreads(1)
except ImportError:
    cv2 = None

TOPS = (100, 200, 300, 1000, 2000)
SCENES = 150


def photographs() -> list[tuple[Tensor, dict[str, Tensor]]]:
    examples = []
    for image, target in load_dataset("bccd", "test"):
        height, width = image.shape[1:]
        scale = 320 / min(height, width)
        size = round(height * scale), round(width * scale)
        image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
        factors = torch.tensor([size[1] / width, size[0] / height] * 2)
        examples.append((image, {**target, "boxes": target["boxes"] * factors}))
    return examples


def scenes() -> list[tuple[Tensor, dict[str, Tensor]]]:
    dataset = load_dataset("shapes", "test")
    return [dataset[index] for index in range(SCENES)]


def opencv(image: Tensor) -> Tensor:
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage((image.flip(0) * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
    search.switchToSelectiveSearchFast(50, 50, 0.8)
    x, y, width, height = torch.from_numpy(search.process()).float().unbind(1)
    return torch.stack((x, y, x + width, y + height), dim=1)


def seconds(call: Callable[[], object]) -> tuple[float, object]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def quality(proposals: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, object]:
    share = [
        (box_iou(boxes, target["boxes"]) >= 0.5).any(1).float().mean().item()
        for boxes, target in zip(proposals, targets, strict=True)
    ]
    found = recall(proposals, targets, (0.5, 0.7), TOPS).T
    return {
        "boxes": round(mean(len(boxes) for boxes in proposals), 1),
        "share_with_iou_0.5": round(mean(share), 4),
        "recall_0.5": dict(zip(TOPS, [round(value, 4) for value in found[0].tolist()], strict=True)),
        "recall_0.7": dict(zip(TOPS, [round(value, 4) for value in found[1].tolist()], strict=True)),
    }


def searches(images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, object]:
    """Ours and OpenCV's, image by image in turn."""
    calls = {"ours": selective_search} | ({"opencv": opencv} if cv2 else {})
    runs = {name: [] for name in calls}
    for image in images:
        for name, call in calls.items():
            runs[name].append(seconds(lambda call=call, image=image: call(image)))
    report = {}
    for name, pairs in runs.items():
        times, proposals = zip(*pairs, strict=True)
        report[name] = {"seconds": round(mean(times), 3), "fastest": round(min(times), 3)}
        report[name] |= quality(list(proposals), targets)
    return report


def strategies(images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, object]:
    report, fast = {}, MODES["fast"]
    for space in fast.colour_spaces:
        for scale in fast.scales:
            for names in fast.similarities:
                one = replace(fast, colour_spaces=(space,), scales=(scale,), similarities=(names,))
                report[f"{space} {scale} {'+'.join(names)}"] = quality(
                    [selective_search(i, one) for i in images], targets
                )
    return report


def others(images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    sizes = [tuple(image.shape[1:]) for image in images]
    sliding = [recall([sliding_windows(size, n) for size in sizes], targets, (0.5, 0.7)).tolist() for n in TOPS]
    return {
        "random": quality([random_boxes(size, max(TOPS), generator) for size in sizes], targets),
        "sliding": {
            "recall_0.5": {n: round(row[0], 4) for n, row in zip(TOPS, sliding, strict=True)},
            "recall_0.7": {n: round(row[1], 4) for n, row in zip(TOPS, sliding, strict=True)},
        },
    }


def stages(image: Tensor) -> dict[str, float]:
    """Milliseconds of CPU time, least of five, of one image's stages with one colour space and scale."""

    def least(call: Callable[[], object]) -> float:
        return round(1000 * min(seconds(call)[0] for _ in range(5)), 2)

    converted = convert(image, "hsv")
    labels, bins = segment(converted, 50, 50, 0.8), pixel_bins(converted)
    regions, pairs = describe(labels, bins), touching(labels)
    graph, weights = torch.zeros(len(regions.size), dtype=torch.int64), similarity_weights(tuple(SIMILARITIES))
    return {
        "regions": len(regions.size),
        "convert": least(lambda: convert(image, "hsv")),
        "segment": least(lambda: segment(converted, 50, 50, 0.8)),
        "pixel_bins": least(lambda: pixel_bins(converted)),
        "describe": least(lambda: describe(labels, bins)),
        "touching": least(lambda: touching(labels)),
        "group": least(lambda: group(regions, pairs, graph, weights[None])),
        "grouping_steps": least(lambda: grouping_steps(regions, pairs)),
    }


def main() -> None:
    torch.set_num_threads(1)
    content = {"what": "selective search, fast mode: CPU seconds per image, recall of the first boxes"}
    content |= {"scikit-image": skimage.__version__, "opencv": cv2.__version__ if cv2 else None}
    for name, examples in (("bccd", photographs()), ("shapes", scenes())):
        images, targets = zip(*examples, strict=True)
        content[name] = {
            "images": len(images),
            **searches(images, targets),
            "strategies": strategies(images, targets),
            **others(images, targets),
            "milliseconds": stages(images[0]),
        }
        for search in ("ours", "opencv", "random", "sliding"):
            if search in content[name]:
                print(name, search, content[name][search])
    print("written to", write("selective_search", "cpu", content))


if __name__ == "__main__":
    main()
