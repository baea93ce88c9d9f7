import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from rcnn_tutorial.course import draw


@pytest.fixture(autouse=True)
def close_figures():
    draw.setup()
    yield
    plt.close("all")
