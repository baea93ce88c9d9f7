"""The map of a network: its parts in boxes, shapes on the arrows, and the part that a section is about lit."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from rcnn_tutorial.course.draw.style import COLORS, ink

LIT, UNLIT = COLORS[0], "#E8E8E8"
WIDE, HIGH = 0.54, 0.6  # of a part, where the next column and the next row begin at 1


class NetworkMap(NamedTuple):
    """What `network_map` draws.

    Attributes:
        parts: for each name the column and the row where it stands, from 0; a name may have several lines.
        arrows: the part where an arrow begins, the part where it ends, and what flows between them.
        letters: size of the names, points; the shapes are a point smaller.
        high: inches from one row to the next.
        operations: what stands on an arrow and is done there, such as a convolution; it gets a box, the shapes do not.
    """

    parts: dict[str, tuple[float, float]]
    arrows: tuple[tuple[str, str, str], ...]
    letters: float = 18
    high: float = 1.3
    operations: tuple[str, ...] = ()


BOXES = NetworkMap(
    {
        "picture": (0, 0),
        "detector": (1, 0),
        "suppress": (2, 0),
        "match": (3, 0),
        "AP": (4, 0),
        "objects": (2, 1),
    },
    (
        ("picture", "detector", "(3, H, W)"),
        ("detector", "suppress", "(N, 4)"),
        ("suppress", "match", "(K, 4)"),
        ("objects", "match", "(M, 4)"),
        ("match", "AP", "hit or not\n(K,)"),
    ),
    letters=16,
)

FPN = NetworkMap(
    {
        **{f"P{k}": (3, 6 - k) for k in (6, 5, 4, 3, 2)},
        **{f"M{k}": (2, 6 - k) for k in (5, 4, 3, 2)},
        **{f"C{k}": (1, 6 - k) for k in (5, 4, 3, 2)},
        "picture": (0, 4),
        "RPN": (4, 2),
        "level": (5, 2),
        "head": (5, 0),
    },
    (
        ("picture", "C2", "H x W"),
        *((f"C{k}", f"C{k + 1}", "") for k in (2, 3, 4)),
        *((f"C{k}", f"M{k}", "1 x 1") for k in (2, 3, 4, 5)),
        *((f"M{k + 1}", f"M{k}", "x 2") for k in (2, 3, 4)),
        *((f"M{k}", f"P{k}", "3 x 3") for k in (2, 3, 4, 5)),
        ("P5", "P6", ""),
        *(
            (f"P{k}", "RPN", size)
            for k, size in zip((6, 5, 3, 2), ("3 x 4", "6 x 8", "24 x 32", "48 x 64"), strict=True)
        ),
        ("P4", "RPN", "12 x 16"),
        ("RPN", "level", "(N, 4)"),
        ("P2", "level", "P2 to P5"),
        ("level", "head", "(N, 64, 7, 7)"),
    ),
    letters=15,
    high=0.86,
    operations=("1 x 1", "3 x 3", "x 2"),
)

RETINANET = NetworkMap(
    {
        "picture": (0, 1),
        "pyramid": (1, 1),
        "class\nsubnet": (2.3, 0),
        "box\nsubnet": (2.3, 2),
        "scores": (3.7, 0),
        "offsets": (3.7, 2),
        "select": (4.8, 1),
    },
    (
        ("picture", "pyramid", "(3, H, W)"),
        ("pyramid", "class\nsubnet", "P3 to P7"),
        ("pyramid", "box\nsubnet", "P3 to P7"),
        ("class\nsubnet", "scores", "(N, K)"),
        ("box\nsubnet", "offsets", "(N, 4)"),
        ("scores", "select", ""),
        ("offsets", "select", ""),
    ),
    letters=15,
    high=1.05,
)

MASK_RCNN = NetworkMap(
    {
        "picture": (0, 1),
        "pyramid": (1, 1),
        "RPN": (1, 0),
        "RoIAlign\n(boxes)": (2.2, 0),
        "box\nhead": (3.4, 0),
        "class\nand box": (4.4, 0),
        "RoIAlign\n(masks)": (4.4, 1),
        "mask\nhead": (4.4, 2),
        "K masks": (5.4, 2),
        "paste": (5.4, 1),
    },
    (
        ("picture", "pyramid", "(3, H, W)"),
        ("pyramid", "RPN", ""),
        ("RPN", "RoIAlign\n(boxes)", "(N, 4)"),
        ("pyramid", "RoIAlign\n(boxes)", ""),
        ("pyramid", "RoIAlign\n(masks)", "P2 to P5"),
        ("RoIAlign\n(boxes)", "box\nhead", "(N, 64, 7, 7)"),
        ("box\nhead", "class\nand box", ""),
        ("class\nand box", "RoIAlign\n(masks)", "(D, 4)"),
        ("class\nand box", "paste", ""),
        ("RoIAlign\n(masks)", "mask\nhead", "(D, 64, 7, 7)"),
        ("mask\nhead", "K masks", ""),
        ("K masks", "paste", "14 x 14"),
    ),
    letters=14,
    high=1.05,
)

RCNN = NetworkMap(
    {
        "picture": (0, 0),
        "selective\nsearch": (1, 0),
        "warp": (2, 0),
        "conv net": (3, 0),
        "fc6, fc7": (3, 1),
        "SVMs": (4, 1),
        "ridge": (4, 0),
        "NMS": (5, 0),
    },
    (
        ("picture", "selective\nsearch", "(3, H, W)"),
        ("selective\nsearch", "warp", "(P, 4)"),
        ("warp", "conv net", "(P, 3,\n64, 64)"),
        ("conv net", "ridge", "pool5\n(P, 1536)"),
        ("conv net", "fc6, fc7", "pool5"),
        ("fc6, fc7", "SVMs", "fc7\n(P, 256)"),
        ("ridge", "NMS", "boxes\n(P, K, 4)"),
        ("SVMs", "NMS", "scores\n(P, K)"),
    ),
    letters=14,
)


def network_map(network: NetworkMap, lit: Sequence[str] | str = ()) -> None:
    """A network as boxes with the shapes on its arrows.

    Args:
        network: what to draw.
        lit: names of the parts that are spoken of, or one name; all others are grey.
    Raises:
        ValueError: a lit part that the network does not have.
    """
    lit = [lit] if isinstance(lit, str) else list(lit)
    if unknown := set(lit) - set(network.parts):
        raise ValueError(f"lit: expected some of {', '.join(network.parts)}, got {', '.join(sorted(unknown))}")
    columns, rows = (max(place[axis] for place in network.parts.values()) + 1 for axis in (0, 1))
    _, ax = plt.subplots(figsize=(10.9, network.high * rows))
    for name, (x, y) in network.parts.items():
        color = LIT if name in lit else UNLIT
        corner = x - WIDE / 2, y - HIGH / 2
        ax.add_patch(FancyBboxPatch(corner, WIDE, HIGH, "round,pad=0,rounding_size=0.06", fc=color, ec="black"))
        ax.text(x, y, name, ha="center", va="center", color=ink(color), fontsize=network.letters)
    arrow = dict(arrowstyle="-|>", color="black", lw=2, shrinkA=0, shrinkB=0, mutation_scale=18)
    framed = dict(bbox=dict(boxstyle="round,pad=0.25", fc="white", ec=LIT, lw=1.5), color=LIT, weight="bold")
    for first, last, shape in network.arrows:
        (x1, y1), (x2, y2) = network.parts[first], network.parts[last]
        start, end, style = (x1 + WIDE / 2, y1), (x2 - WIDE / 2, y2), arrow
        if x1 == x2:  # straight up or down
            way = 1 if y2 > y1 else -1
            ax.annotate("", (x2, y2 - way * HIGH / 2), (x1, y1 + way * HIGH / 2), arrowprops=arrow)
            aside, look = (0.09, framed) if shape in network.operations else (0.05, {})
            ax.text(x1 + aside, (y1 + y2) / 2, shape, ha="left", va="center", fontsize=network.letters - 1, **look)
            continue
        if y1 != y2:  # along its row, then up or down into the part
            end = x2, y2 + HIGH / 2 * (1 if y1 > y2 else -1)
            style = arrow | dict(connectionstyle="angle,angleA=0,angleB=90")
        ax.annotate("", end, start, arrowprops=style)
        turns_late = y1 != y2 and x2 - x1 > 1  # then the words stand in the gap before the last column
        middle = x2 - 0.5 if turns_late else (start[0] + end[0]) / 2
        if shape in network.operations:
            ax.text(middle - 0.03, y1, shape, ha="center", va="center", fontsize=network.letters - 2, **framed)
            continue
        ax.text(middle, y1 - 0.06, shape, ha="center", va="bottom", fontsize=network.letters - 1)
    ax.set(xlim=(-WIDE / 2 - 0.05, columns - 1 + WIDE / 2 + 0.05), ylim=(rows - 0.5, -0.5))
    ax.set_axis_off()
