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
    """

    parts: dict[str, tuple[float, float]]
    arrows: tuple[tuple[str, str, str], ...]


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
        ("match", "AP", "(K,)"),
    ),
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
    _, ax = plt.subplots(figsize=(10.9, 1.3 * rows))
    for name, (x, y) in network.parts.items():
        color = LIT if name in lit else UNLIT
        corner = x - WIDE / 2, y - HIGH / 2
        ax.add_patch(FancyBboxPatch(corner, WIDE, HIGH, "round,pad=0,rounding_size=0.06", fc=color, ec="black"))
        ax.text(x, y, name, ha="center", va="center", color=ink(color), fontsize=18)
    arrow = dict(arrowstyle="-|>", color="black", lw=2, shrinkA=0, shrinkB=0, mutation_scale=18)
    for first, last, shape in network.arrows:
        (x1, y1), (x2, y2) = network.parts[first], network.parts[last]
        start, end, style = (x1 + WIDE / 2, y1), (x2 - WIDE / 2, y2), arrow
        if y1 != y2:  # along its row, then up or down into the part
            end = x2, y2 + HIGH / 2 * (1 if y1 > y2 else -1)
            style = arrow | dict(connectionstyle="angle,angleA=0,angleB=90")
        ax.annotate("", end, start, arrowprops=style)
        ax.text((start[0] + end[0]) / 2, y1 - 0.06, shape, ha="center", va="bottom", fontsize=17)
    ax.set(xlim=(-WIDE / 2 - 0.05, columns - 1 + WIDE / 2 + 0.05), ylim=(rows - 0.5, -0.5))
    ax.set_axis_off()
