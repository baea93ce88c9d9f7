import matplotlib.pyplot as plt
import torch

from rcnn_tutorial import draw
from rcnn_tutorial.evaluation import failures
from tests.draw.figures import CLASSES, IMAGE, TARGET, fills, legend, render, texts


def test_kinds_and_bars():
    detection = {"boxes": TARGET["boxes"][:1], "labels": torch.tensor([2]), "scores": torch.tensor([0.9])}
    target = TARGET | {"difficult": torch.tensor([False, False])}
    found = failures([detection], [target])
    ax = draw.kinds(IMAGE, detection, found.kinds[0], target, found.missed[0], CLASSES)
    render()
    assert texts(ax) == ["missed", "missed", "class: ring"]
    draw.kind_bars(found.counts)
    render()
    assert [t.get_text() for t in plt.gca().get_yticklabels()] == list(found.counts)


def test_kind_stacks_pile_up_the_failures():
    counts = {
        "CNN": {"correct": 90, "class": 50, "place": 30, "missed": 20},
        "+ SVM": {"correct": 95, "class": 40, "place": 2, "missed": 10},
    }
    draw.kind_stacks(counts)
    render()
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["CNN", "+ SVM"]
    assert [(p.get_y(), p.get_height()) for p in ax.patches[::2]] == [(0, 50), (50, 30), (80, 20)]
    assert [(p.get_y(), p.get_height()) for p in ax.patches[1::2]] == [(0, 40), (40, 2), (42, 10)]
    assert fills(ax)[::2] == [draw.KIND_COLORS["class"], draw.KIND_COLORS["place"], "#000000"]
    assert texts(ax) == ["50", "40", "30", "", "20", "10"]  # no room for the 2
    assert legend(ax.get_legend()) == ["missed", "place", "class"]
    assert ax.texts[-1].get_color() == "white" and ax.texts[0].get_color() == "black"
