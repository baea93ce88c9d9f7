import pytest
import torch

from rcnn_tutorial.proposals.windows import random_boxes, sliding_windows


def inside(boxes, height, width):
    assert boxes.dtype == torch.float32 and boxes.shape[1:] == (4,)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    return (boxes[:, 2:] <= torch.tensor([width, height])).all()


@pytest.mark.parametrize("size", [(192, 256), (256, 192), (320, 427)])
@pytest.mark.parametrize("n", [100, 300, 2000, 20000])
def test_windows_fill_the_number_and_stay_inside(size, n):
    boxes = sliding_windows(size, n)
    assert inside(boxes, *size)
    assert 0.85 * n < len(boxes) <= n and len(boxes.unique(dim=0)) == len(boxes)
    extent = boxes[:, 2:] - boxes[:, :2]
    area = extent.prod(1)
    assert (area.diff() < 1).all()  # the largest first
    assert area[-1].item() == pytest.approx(24**2, rel=1e-3) and area[0] > min(size) ** 2 / 2 - 1
    ratios = (extent[:, 1] / extent[:, 0]).log2().round(decimals=3)
    assert ratios.unique().tolist() == [-1, 0, 1]


def test_windows_by_hand():
    # Windows of 8, 5.66 and 4 pixels in 8 x 12. At steps of half their size: 1 x 2, 1 x 3 and 3 x 5 of them.
    boxes = sliding_windows((8, 12), 20, smallest=4, ratios=(1,))
    assert len(boxes) == 20
    assert boxes[:2].tolist() == [[1, 0, 9, 8], [3, 0, 11, 8]]
    assert boxes[2:5, 1].tolist() == pytest.approx([4 - 8**0.5] * 3)
    expected = torch.tensor([[x, 2 / 3, x + 4, 14 / 3] for x in (0.8, 2.4, 4, 5.6, 7.2)])
    assert torch.allclose(boxes[5:10], expected)
    fewest = sliding_windows((8, 12), 3, smallest=4, ratios=(1,))  # a lone window stands in the middle
    assert fewest[0].tolist() == [2, 0, 10, 8] and fewest[2].tolist() == [4, 2, 8, 6]


def test_windows_move_by_the_same_share_of_their_size():
    boxes = sliding_windows((400, 400), 5000, ratios=(1,))
    extent = (boxes[:, 2] - boxes[:, 0]).round()
    shares = []
    for side in (24, 48, 96):
        step = boxes[extent == side, 0].unique().diff()
        assert step.max() - step.min() < 1e-3
        shares.append(step[0].item() / side)
    assert max(shares) < 1.1 * min(shares)


def test_where_no_window_fits_the_image_is_one():
    assert sliding_windows((10, 300), 5).tolist() == [[0, 0, 300, 10]]


def test_random_boxes_by_their_generator():
    boxes = random_boxes((100, 300), 4000, torch.Generator().manual_seed(0))
    assert len(boxes) == 4000 and inside(boxes, 100, 300)
    assert torch.equal(boxes, random_boxes((100, 300), 4000, torch.Generator().manual_seed(0)))
    assert not torch.equal(boxes, random_boxes((100, 300), 4000, torch.Generator().manual_seed(1)))
    # Of two uniform corners: the lower lies at a third on average, the upper at two thirds.
    assert torch.allclose(boxes.mean(0) * 3, torch.tensor([300.0, 100, 600, 200]), rtol=0.05)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: sliding_windows((0, 10), 100), "size"),
        (lambda: sliding_windows((3, 10, 10), 100), "size"),
        (lambda: sliding_windows((200, 200), 0), "n"),
        (lambda: sliding_windows((200, 200), 5), "n"),
        (lambda: sliding_windows((200, 200), 100, smallest=0), "smallest"),
        (lambda: sliding_windows((200, 200), 100, ratios=()), "smallest, ratios"),
        (lambda: sliding_windows((200, 200), 100, ratios=(1, -1)), "smallest, ratios"),
        (lambda: random_boxes((10, 0), 5), "size"),
        (lambda: random_boxes((10, 10), 0), "n"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()
