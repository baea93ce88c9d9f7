"""Colours, widths and formats that all pictures share."""

from collections.abc import Callable
from functools import wraps
from io import BytesIO
from typing import NamedTuple, ParamSpec, TypeVar

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from rcnn_tutorial.engine.devices import mapped
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND, UNUSED

# Okabe and Ito's colours, which colour-blind people can tell apart
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
GOOD, BAD, PALE = "#009E73", "#D55E00", "#999999"
KIND_COLORS = {"correct": GOOD, "class": "#E69F00", "place": "#56B4E9", "duplicate": "#CC79A7", "background": BAD}
STATES = {FOREGROUND: ("foreground", GOOD), BACKGROUND: ("background", BAD), UNUSED: ("unused", PALE)}


class Style(NamedTuple):
    """How a box is drawn."""

    color: str
    width: float = 2.5
    dashes: str = "-"


PLAIN = Style(GOOD)
Params, Result = ParamSpec("Params"), TypeVar("Result")


def on_cpu(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """Let a drawing function take tensors of any device, since matplotlib reads those of the CPU alone."""

    @wraps(function)
    def drawn(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        args, kwargs = mapped((args, kwargs), lambda tensor: tensor.detach().cpu())
        return function(*args, **kwargs)

    return drawn


def class_color(label: int) -> str:
    """Colour of the objects with that label, 1 or more."""
    return COLORS[(label - 1) % len(COLORS)]


def ink(color: str) -> str:
    """Black or white, whichever is easier to read on that colour."""
    red, green, blue = to_rgb(color)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.4 else "white"


def percent(share: float) -> str:
    """A share in [0, 1] as text, small ones with two digits."""
    if 0 < share < 1e-4:
        return "<0.01 %"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def setup() -> None:
    """Style of all figures, and in a notebook JPEG for figures that show a photograph, PNG for the others."""
    plt.rcParams.update(
        {
            "figure.dpi": 75,
            "figure.constrained_layout.use": True,
            "font.size": 14,
            "axes.titlesize": 15,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.linewidth": 2.5,
        }
    )
    try:
        from IPython import get_ipython
        from IPython.core.pylabtools import print_figure
    except ImportError:
        return
    if (shell := get_ipython()) is None:
        return
    formatters = shell.display_formatter.formatters
    plt.close(plt.figure())  # the first figure sets up the inline backend, which would take the formats back
    formatters["image/png"].for_type(Figure, lambda f: None if _has_photo(f) else _few_colors(print_figure(f, "png")))
    formatters["image/jpeg"].for_type(
        Figure, lambda f: print_figure(f, "jpeg", pil_kwargs={"quality": 70}) if _has_photo(f) else None
    )


def _few_colors(png: bytes) -> bytes:
    """The same picture in 64 colours, which is enough for lines and bars and a third of the bytes."""
    small = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").quantize(64).save(small, "png", optimize=True)
    return small.getvalue()


def _has_photo(figure: Figure) -> bool:
    return sum(image.get_array().size for ax in figure.axes for image in ax.images) > 20_000
