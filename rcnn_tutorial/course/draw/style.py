"""Colours, widths and formats that all pictures share."""

from collections.abc import Callable
from functools import wraps
from io import BytesIO
from typing import NamedTuple, ParamSpec, TypeVar

import matplotlib.pyplot as plt
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from rcnn_tutorial.engine.devices import mapped
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND, UNUSED

# Okabe and Ito's colours, which colour-blind people can tell apart
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
GOOD, BAD, PALE = "#009E73", "#D55E00", "#767676"
# one colour for each thing that a picture speaks of; where it speaks of classes, `class_color` gives each its own
TRUTH, PROPOSAL, DETECTION, MISTAKE, IGNORED = "#000000", COLORS[0], GOOD, BAD, PALE
KIND_COLORS = {"correct": GOOD, "class": "#E69F00", "place": "#56B4E9", "duplicate": "#CC79A7", "background": BAD}
STATES = {FOREGROUND: ("foreground", GOOD), BACKGROUND: ("background", BAD), UNUSED: ("unused", PALE)}


class Style(NamedTuple):
    """How a box is drawn."""

    color: str
    width: float = 2.5
    dashes: str = "-"


PLAIN = Style(GOOD)
Params = ParamSpec("Params")
Result = TypeVar("Result")


def on_cpu(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """Let a drawing function take tensors of any device, since matplotlib reads those of the CPU alone."""

    @wraps(function)
    def drawn(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        args, kwargs = mapped((args, kwargs), lambda tensor: tensor.detach().cpu())
        return function(*args, **kwargs)

    return drawn


def style_handles(styles: dict[str, Style]) -> list[Line2D]:
    """What a legend shows: a line in each style, with its name."""
    return [Line2D([], [], color=s.color, lw=s.width, ls=s.dashes, label=name) for name, s in styles.items()]


def class_color(label: int) -> str:
    """Colour of the objects with that label, 1 or more."""
    return COLORS[(label - 1) % len(COLORS)]


def contrast(first: str, second: str) -> float:
    """How well one colour stands out from another, from 1 to 21 (WCAG 2.2, "contrast ratio")."""
    dark, light = sorted(_luminance(color) for color in (first, second))
    return (light + 0.05) / (dark + 0.05)


def ink(color: str) -> str:
    """Black or white, whichever is easier to read on that colour."""
    return max("black", "white", key=lambda letters: contrast(letters, color))


def words(color: str) -> str:
    """The colour of words on white that belong to a line of that colour: as dark as reading needs, 4.5 : 1."""
    red, green, blue = to_rgb(color)
    while contrast(to_hex((red, green, blue)), "white") < 4.5:
        red, green, blue = 0.97 * red, 0.97 * green, 0.97 * blue
    return to_hex((red, green, blue))


def _luminance(color: str) -> float:
    parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(color)]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def percent(share: float) -> str:
    """A share in [0, 1] as text, small ones with two digits."""
    if 0 < share < 1e-4:
        return "<0.01 %"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def setup() -> None:
    """Style of all figures, and in a notebook JPEG for figures that show a photograph, PNG for the others.

    What `describe` says of a figure goes with it, for those who cannot see it.
    """
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 14,
            "axes.titlesize": 15,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.linewidth": 2.5,
        }
    )
    if (shell := get_ipython()) is None:
        return
    formatters = shell.display_formatter.formatters
    plt.close(plt.figure())  # the first figure sets up the inline backend, which would take the formats back
    formatters["image/png"].for_type(Figure, _png)
    formatters["image/jpeg"].for_type(Figure, _jpeg)


def describe(figure: Figure) -> str:
    """What a figure says in words, panel by panel: title, axes, legend, and the first words written in it."""
    panels = [said for ax in figure.axes if ax.get_visible() and (said := _said(ax))]
    count = f"{len(panels)} panels. " if len(panels) > 1 else ""
    title = f"{figure.get_suptitle()}. " if figure.get_suptitle() else ""
    panels += [f"legend: {', '.join(text.get_text() for text in legend.get_texts())}" for legend in figure.legends]
    return title + count + ". ".join(panels) if panels or title else "A picture without words"


def _said(ax: Axes) -> str:
    legend, parts = ax.get_legend(), [ax.get_title() or ax.get_title("left")]
    if ax.axison:
        parts += [
            f"{name}: {text}" for name, text in zip("xy", (ax.get_xlabel(), ax.get_ylabel()), strict=True) if text
        ]
    if legend:
        parts.append("legend: " + ", ".join(text.get_text() for text in legend.get_texts()))
    written = dict.fromkeys(text.get_text() for text in ax.texts if text.get_text())
    if written:
        parts.append("words in it: " + ", ".join(list(written)[:12]) + (", ..." if len(written) > 12 else ""))
    return "; ".join(part.replace("\n", " ") for part in parts if part)


def _png(figure: Figure) -> tuple[bytes, dict] | None:
    return None if _has_photo(figure) else (_few_colors(print_figure(figure, "png")), {"alt": describe(figure)})


def _jpeg(figure: Figure) -> tuple[bytes, dict] | None:
    if not _has_photo(figure):
        return None
    return print_figure(figure, "jpeg", pil_kwargs={"quality": 70}), {"alt": describe(figure)}


def _few_colors(png: bytes) -> bytes:
    """The same picture in 64 colours, which is enough for lines and bars and a third of the bytes."""
    small = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").quantize(64).save(small, "png", optimize=True)
    return small.getvalue()


def _has_photo(figure: Figure) -> bool:
    return sum(image.get_array().size for ax in figure.axes for image in ax.images) > 20_000
