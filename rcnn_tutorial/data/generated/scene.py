"""Where the shapes of a generated scene lie, and what of each stays visible.

A layout is drawn from its own random stream, in whole numbers where it decides about pixels; painting it comes after
and changes nothing. Figures are put down one on the other, and a figure that would make any of them undecidable for a
human being is put elsewhere.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from rcnn_tutorial.data.generated.outline import OUTLINES, Contours, Raster, area, fit, integer, rasterise

CLASSES = ("background", "square", "bar", "ring", "disc", "star5", "star6")
DISTRACTORS = ("broken_ring", "half_disc", "hexagon", "star4")
AUXILIARY_CLASSES = tuple(name for name in OUTLINES if name not in CLASSES + DISTRACTORS)

HEIGHT, WIDTH = 192, 256
SIZE = (12.0, 160.0)  # longer side of a whole object
ENLARGED = {"bar": 1.5, "star5": 1.45, "star6": 1.3}  # as they fill less of their box
MOST_OBJECTS = 10
EMPTY = 0.05  # share of scenes without an object
MOST_HIDDEN = 0.45  # of an object, behind others
RIBBONS = 0.3  # two are tried with this probability each
DISTRACTED = 0.35  # and two distractors with this one
FAINT = 0.12  # share of the figures
ROUND = ("ring", "broken_ring", "disc", "half_disc", "hexagon")


@dataclass(frozen=True)
class Figure:
    """A shape in its place.

    Attributes:
        name: of the outline.
        label: index into CLASSES; 0 for a distractor.
        contours: its outline, pixels of the image.
        raster: its pixels, hidden ones included, without partly covered ones.
        whole: its area with what the border cuts off, square pixels.
        size: longer side of its whole box, pixels.
        faint: to be painted with little contrast.
    """

    name: str
    label: int
    contours: Contours
    raster: Raster
    whole: float
    size: float
    faint: bool


@dataclass(frozen=True)
class Layout:
    """The figures of a scene, from back to front.

    Attributes:
        figures: objects and distractors.
        owner: (HEIGHT, WIDTH) int64, the index of the figure seen at each pixel; -1 for the background.
    """

    figures: tuple[Figure, ...]
    owner: np.ndarray

    def add(self, figure: Figure) -> "Layout":
        """The layout with one more figure in front."""
        owner = self.owner.copy()
        owner[figure.raster.window][figure.raster.mask] = len(self.figures)
        return Layout((*self.figures, figure), owner)

    def box(self, index: int) -> tuple[int, int, int, int]:
        """Tight box (x1, y1, x2, y2) around what is seen of a figure."""
        rows, columns = self.figures[index].raster.window
        seen = self.owner[rows, columns] == index
        ys, xs = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        return (
            int(columns.start + xs[0]),
            int(rows.start + ys[0]),
            int(columns.start + xs[-1] + 1),
            int(rows.start + ys[-1] + 1),
        )

    def seen(self, index: int) -> int:
        """Number of visible pixels of a figure."""
        return int((self.owner[self.figures[index].raster.window] == index).sum())


def _decidable(layout: Layout, index: int) -> bool:
    """Whether a human being could still name the figure."""
    figure = layout.figures[index]
    seen, inside = layout.seen(index), int(figure.raster.mask.sum())
    if figure.name == "ribbon":
        return True
    if figure.label == 0:  # all of it, and of the gap or corner that tells it from a class
        covered = (layout.owner[figure.raster.window] > index).mean()
        return covered < 0.02 and inside > 0.98 * figure.whole
    if seen < (1 - MOST_HIDDEN) * inside or seen < (0.45 if figure.size > 28 else 0.75) * figure.whole:
        return False
    if figure.name == "disc" and any(_encloses(figure, front) for front in layout.figures[index + 1 :]):
        return False
    if figure.name == "ring":
        hole = layout.owner[figure.raster.window][_hole(figure)]
        if (hole > index).sum() > 0.6 * hole.size:  # what fills it would make it a disc
            return False
    x1, y1, x2, y2 = layout.box(index)
    aspect = max(x2 - x1, y2 - y1) / min(x2 - x1, y2 - y1)
    return {"square": aspect < 1.35, "bar": aspect > 1.6}.get(figure.name, True)


def _encloses(disc: Figure, front: Figure) -> bool:
    """Whether a round shape lies wholly, or nearly, on a disc, which would then look like a ring."""
    if front.name not in ROUND:
        return False
    pixels = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
    pixels[0][disc.raster.window] = disc.raster.mask
    pixels[1][front.raster.window] = front.raster.mask
    return (pixels[0] & pixels[1]).sum() > 0.9 * pixels[1].sum()


def _hole(ring: Figure) -> np.ndarray:
    """(h, w) bool: the pixels of the window that have the ring on all four sides."""
    within = np.ones_like(ring.raster.mask)
    for turns in range(4):
        within = np.rot90(within) & np.logical_or.accumulate(np.rot90(ring.raster.mask, turns + 1))
    return within & ~ring.raster.mask


def _try(layout: Layout, figure: Figure | None) -> Layout | None:
    """The layout with the figure in front, or None where that leaves any figure undecidable."""
    if figure is None:
        return None
    rows, columns = figure.raster.window
    near = [
        index
        for index, (ys, xs) in enumerate(other.raster.window for other in layout.figures)
        if ys.start < rows.stop and rows.start < ys.stop and xs.start < columns.stop and columns.start < xs.stop
    ]
    grown = layout.add(figure)
    return grown if all(_decidable(grown, index) for index in (*near, len(layout.figures))) else None


def shaped(random: RandomState, name: str, size: float) -> Contours:
    """An outline of the given longer side in pixels, turned and stretched at random, centred on the origin.

    Squares and bars stay nearly upright: a box says nothing about the aspect of a slanted bar.
    """
    angle = random.uniform(-8, 8) if name in ("square", "bar") else random.uniform(0, 360)
    return fit(OUTLINES[name](random), angle, random.uniform(0.92, 1.08), size)


def _figure(name: str, contours: Contours, centre: np.ndarray, faint: bool) -> Figure | None:
    placed = [contour + centre for contour in contours]
    raster = rasterise(placed, HEIGHT, WIDTH, samples=1)
    if raster is None:
        return None
    label = CLASSES.index(name) if name in CLASSES else 0
    return Figure(name, label, placed, raster, area(contours), float(np.ptp(contours[0], axis=0).max()), faint)


def _ribbon(random: RandomState, layout: Layout) -> Contours:
    """A wavy band across the whole image, in its place: it hides a strip of one of the figures."""
    angle, width = random.uniform(0, np.pi), random.uniform(5, 12)
    along = np.linspace(-330, 330, 91)
    wave = random.uniform(8, 26) * np.sin(along * 2 * np.pi / random.uniform(120, 300) + random.uniform(0, 2 * np.pi))
    path = np.stack(
        (np.concatenate((along, along[::-1])), np.concatenate((wave - width / 2, wave[::-1] + width / 2))), 1
    )
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    box = layout.box(integer(random, 0, len(layout.figures))) if layout.figures else (0, 0, WIDTH, HEIGHT)
    through = box[:2] + random.uniform(0.2, 0.8, 2) * np.subtract(box[2:], box[:2])
    return [path @ turn - wave[45] * turn[1] + through]


def _centre(random: RandomState, contours: Contours, cut: bool) -> np.ndarray:
    """A place for the middle of the box: inside the image, or with a part of the box beyond one of its sides."""
    half = np.ptp(contours[0], axis=0) / 2
    frame = np.array([WIDTH, HEIGHT], dtype=np.float64)
    centre = half + random.uniform(0, 1, 2) * (frame - 2 * half)
    if cut:
        axis = 0 if random.uniform() < 0.45 else 1
        beyond = (2 * random.uniform(0.08, 0.5) - 1) * half[axis]
        centre[axis] = -beyond if random.uniform() < 0.5 else frame[axis] + beyond
    return centre


def _iou(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return width * height / (areas - width * height)


def _log_uniform(random: RandomState, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _coins(random: RandomState, count: int, share: float) -> int:
    """How many of `count` coins show heads, where that happens to each with probability `share`."""
    return int((random.uniform(size=count) < share).sum())


def _put(random: RandomState, layout: Layout, name: str, size: float, cut: bool, tries: int = 25) -> Layout | None:
    """Put a shape anywhere; None where no place is found."""
    faint = random.uniform() < FAINT and size > 28
    for _ in range(tries):
        if name == "ribbon":
            contours, centre = _ribbon(random, layout), np.zeros(2)
        else:
            contours = shaped(random, name, size)
            centre = _centre(random, contours, cut)
        grown = _try(layout, _figure(name, contours, centre, faint))
        if grown is not None:
            return grown
    return None


def _put_beside(random: RandomState, layout: Layout, least: float, most: float, tries: int = 40) -> Layout | None:
    """Put another of the front figure's class so close that their boxes' IoU is in [least, most]."""
    front = len(layout.figures) - 1
    figure, box = layout.figures[front], layout.box(front)
    corner, extent = np.array(box[:2]), np.subtract(box[2:], box[:2])
    faint = random.uniform() < FAINT
    for _ in range(tries):
        size = min(figure.size * random.uniform(0.65, 1.15), SIZE[1])
        contours = shaped(random, figure.name, size)
        centre = corner + extent / 2 + random.uniform(-1, 1, 2) * extent
        half = np.ptp(contours[0], axis=0) / 2
        if not least <= _iou(box, (*(centre - half), *(centre + half))) <= most:
            continue
        grown = _try(layout, _figure(figure.name, contours, centre, faint))
        if grown is not None and least <= _iou(grown.box(front), grown.box(front + 1)) <= most:
            return grown
    return None


def arrange(random: RandomState) -> Layout:
    """A scene of 0 to MOST_OBJECTS objects, up to two distractors and up to two ribbons."""
    result = Layout((), np.full((HEIGHT, WIDTH), -1))
    objects = 0 if random.uniform() < EMPTY else 1 + _coins(random, MOST_OBJECTS - 1, random.uniform(0.05, 0.65))
    parts = [(_log_uniform(random, *SIZE), CLASSES[integer(random, 1, len(CLASSES))]) for _ in range(objects)]
    parts += [
        (_log_uniform(random, 22, 110), DISTRACTORS[integer(random, 0, 4)])
        for _ in range(_coins(random, 2, DISTRACTED))
    ]
    parts += [(_log_uniform(random, 12, 40), "ribbon") for _ in range(_coins(random, 2, RIBBONS))]
    parts.sort(key=lambda part: -part[0] * random.uniform(0.6, 1.6))  # large ones tend to lie behind
    placed = 0
    for size, name in parts:
        wanted = name in CLASSES
        if wanted and placed == objects:
            continue
        size = min(ENLARGED.get(name, 1) * size, SIZE[1])
        grown = _put(random, result, name, size, cut=wanted and random.uniform() < 0.27)
        if grown is None:
            continue
        result, placed = grown, placed + wanted
        if wanted and placed < objects and size > 24 and random.uniform() < 0.14:
            bounds = (0.32, 0.8) if random.uniform() < 0.7 else (0.02, 0.15)
            grown = _put_beside(random, result, *bounds)
            if grown is not None:
                result, placed = grown, placed + 1
    return result


def difficult(scene: Layout, index: int) -> bool:
    """Whether an object is at the limit of what can be decided: tiny, a remnant, or faint and small."""
    figure, (x1, y1, x2, y2) = scene.figures[index], scene.box(index)
    short = min(x2 - x1, y2 - y1)
    least = 14 if figure.name in ("star5", "star6") else 16 if figure.faint else 6
    return short < least or scene.seen(index) < 0.5 * figure.whole
