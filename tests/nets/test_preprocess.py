import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from rcnn_tutorial.nets.preprocess import Preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COCO = {"min_size": 800, "max_size": 1333, "divisor": 32}


def pictures(*sizes, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, h, w, generator=generator, dtype=torch.float64).to(device, dtype) for h, w in sizes]


def boxes(n, dtype=torch.float64, device="cpu"):
    corner = torch.rand(n, 2, generator=torch.Generator().manual_seed(n), dtype=torch.float64) * 300
    return torch.cat((corner, corner * 1.5 + 1), dim=1).to(device, dtype)


@pytest.mark.parametrize(("size", "expected"), [((480, 640), (800, 1066)), ((301, 199), (1210, 799)),
                                                ((300, 1000), (399, 1333)), ((1, 1), (800, 800)),
                                                ((1, 3000), (1, 1333))])  # fmt: skip
def test_sizes_by_hand(size, expected):
    assert Preprocess(**COCO).new_size(size) == expected  # rounded down, but never to nothing


@pytest.mark.parametrize(("settings", "expected"), [({}, (120, 80)), ({"max_size": 60}, (60, 40)),
                                                    ({"max_size": 200}, (120, 80)), ({"min_size": 160}, (240, 160)),
                                                    ({"min_size": 160, "max_size": 180}, (180, 120)),
                                                    ({"min_size": 40}, (60, 40))])  # fmt: skip
def test_bounds_of_the_sides(settings, expected):
    batch = Preprocess(**settings)(pictures((120, 80)))
    assert batch.sizes == [expected] and batch.originals == [(120, 80)]
    assert batch.tensor.shape == (1, 3, *expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("sizes", "settings"),
    [
        ([(48, 64)], {"min_size": 80, "max_size": 133, "divisor": 32}),
        ([(31, 19), (48, 64), (20, 90)], {"min_size": 80, "max_size": 133, "divisor": 32}),
        ([(301, 199)], COCO),
        ([(64, 80), (80, 64)], {"min_size": 64, "max_size": 80, "divisor": 16}),  # nothing to resize
        ([(150, 201), (99, 301)], {"min_size": 60, "max_size": 100, "divisor": 32}),  # smaller, no antialiasing
        ([(8, 8), (9, 13)], {"min_size": 80, "max_size": 110, "divisor": 1}),
    ],
)
def test_equals_torchvision(sizes, settings, dtype, device):
    images = pictures(*sizes, dtype=dtype, device=device)
    given = [boxes(5 * i, dtype, device) for i in range(len(images))]  # the first image has none
    peer = GeneralizedRCNNTransform(
        settings["min_size"], settings["max_size"], list(MEAN), list(STD), size_divisible=settings["divisor"]
    ).eval()
    expected, targets = peer(images, [{"boxes": b} for b in given])
    batch = Preprocess(MEAN, STD, **settings)(images)
    assert batch.sizes == expected.image_sizes and batch.originals == sizes
    assert batch.tensor.dtype == dtype and batch.tensor.shape == expected.tensors.shape
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    assert torch.allclose(batch.tensor, expected.tensors, rtol=0, atol=tolerance)

    for mine, target in zip(batch.to_input(given), targets, strict=True):
        assert mine.dtype == dtype and torch.allclose(mine, target["boxes"], rtol=0, atol=tolerance)
    back = peer.postprocess([{"boxes": b} for b in given], batch.sizes, batch.originals)
    for mine, result in zip(batch.to_original(given), back, strict=True):
        assert torch.allclose(mine, result["boxes"], rtol=0, atol=tolerance * 100)


def test_boxes_follow_each_axis(device):
    """The corner of the image stays its corner, though both new sides were rounded down."""
    batch = Preprocess(**COCO)(pictures((301, 199), dtype=torch.float32, device=device))
    corner = torch.tensor([[0.0, 0, 199, 301]], device=device)
    assert batch.to_input([corner])[0].tolist() == [pytest.approx([0, 0, 799, 1210], abs=1e-3)]
    assert batch.to_original(batch.to_input([corner]))[0].tolist() == [pytest.approx([0, 0, 199, 301], abs=1e-4)]


def test_boxes_as_padded_tensor(device):
    batch = Preprocess(min_size=64, max_size=90)(pictures((40, 70), (31, 19), device=device))
    padded = boxes(6, device=device).view(2, 3, 4)
    for move in (batch.to_input, batch.to_original):
        assert torch.equal(move(padded), torch.stack(move(list(padded))))
        assert torch.equal(move(padded[:, :, None].expand(2, 3, 5, 4))[:, :, 2], move(padded))
        assert move(padded[:, :0]).shape == (2, 0, 4)
    assert torch.equal(batch.to_input(padded)[1], resize_boxes(padded[1], (31, 19), batch.sizes[1]))


def test_a_batch_pads_with_zeros(device):
    images = pictures((20, 33), (41, 9), device=device)
    batch = Preprocess(MEAN, STD, divisor=16)(images)
    assert batch.tensor.shape == (2, 3, 48, 48)
    mean, std = (torch.tensor(v, dtype=torch.float64, device=device)[:, None, None] for v in (MEAN, STD))
    for image, padded in zip(images, batch.tensor, strict=True):
        h, w = image.shape[1:]
        assert torch.equal(padded[:, :h, :w], (image - mean) / std)
        assert not padded[:, h:].any() and not padded[:, :, w:].any()


def test_an_image_in_a_batch_is_as_it_is_alone():
    images = pictures((20, 33), (41, 27))
    preprocess = Preprocess(min_size=30, max_size=40, divisor=8)
    together = preprocess(images)
    for i, image in enumerate(images):
        h, w = together.sizes[i]
        assert torch.equal(preprocess([image]).tensor[0, :, :h, :w], together.tensor[i, :, :h, :w])


def test_images_stay_as_they_are_and_get_gradients():
    (image,) = pictures((8, 9))
    before = image.clone()
    image.requires_grad_()
    Preprocess(std=STD, min_size=16)([image]).tensor.sum().backward()
    assert torch.equal(image, before) and (image.grad > 0).all()


def test_nothing_in_the_state_dict():
    preprocess = Preprocess(MEAN, STD, **COCO)
    assert not preprocess.state_dict() and "min_size=800" in repr(preprocess)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_pixels_that_are_not_finite_are_named(value):
    images = pictures((4, 4), (4, 4))
    images[1][2, 3, 1] = value
    with pytest.raises(ValueError, match=r"images\[1\]: expected finite pixels, got 1 "):
        Preprocess()(images)


@pytest.mark.gpu
def test_the_device_is_never_waited_for(without_waiting):
    images = pictures((40, 60), (31, 19), dtype=torch.float32, device="cuda")
    padded = boxes(4, torch.float32, "cuda").view(2, 2, 4)
    preprocess = Preprocess(MEAN, STD, min_size=64, divisor=32)
    with without_waiting():
        batch = preprocess(images)
        batch.to_original(batch.to_input(padded))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images: expected at least one"),
        ([torch.zeros(4, 4)], r"images\[0\]: .*\(3, H, W\), got \(4, 4\)"),
        (torch.zeros(3, 4, 4), r"images\[0\]: .*\(3, H, W\), got \(4, 4\)"),  # one image, and no list
        ([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)], r"images\[1\]: .*got \(1, 4, 4\)"),
        ([torch.zeros(4, 4, 3)], r"images\[0\]: .*got \(4, 4, 3\)"),
        ([torch.zeros(1, 3, 4, 4)], r"images\[0\]: .*got \(1, 3, 4, 4\)"),
        ([torch.zeros(3, 0, 4)], r"images\[0\]: .*got \(3, 0, 4\)"),
        ([[[0.0]]], r"images\[0\]: .*got list"),
        ([torch.zeros(3, 4, 4, dtype=torch.uint8)], r"images\[0\]: expected floats in \[0, 1\], got torch.uint8"),
        ([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 254.0)], r"images\[1\]: .*in \[0, 1\], got up to 254: divide by"),
        ([torch.zeros(3, 4, 4), torch.zeros(3, 4, 4).double()], r"images\[1\]: expected torch.float32 on cpu"),
    ],
)
def test_bad_images_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        Preprocess()(images)


def test_images_that_are_too_small_are_named():
    preprocess = Preprocess(min_size=100, max_size=200, divisor=32, smallest=16)
    assert preprocess(pictures((8, 100), (8, 8))).sizes == [(16, 200), (100, 100)]
    with pytest.raises(ValueError, match=r"images\[1\]: expected 8 pixels .*, got 7 x 90 "):
        preprocess(pictures((20, 20), (7, 90)))
    with pytest.raises(
        ValueError, match=r"images\[1\]: expected 16 pixels .* after resizing.* 14 x 200 from 10 x 142 "
    ):
        preprocess(pictures((20, 20), (10, 142)))


@pytest.mark.parametrize("wrong", [[torch.zeros(2, 4)], torch.zeros(1, 2, 4), [torch.zeros(2, 5)] * 2])
def test_bad_boxes_are_named(wrong):
    batch = Preprocess()(pictures((8, 8), (9, 10)))
    with pytest.raises(ValueError, match="boxes: expected .* each of 2 images"):
        batch.to_input(wrong)


@pytest.mark.parametrize("wrong", [{"mean": (0.5,)}, {"std": (1, 1)}, {"std": (1, 0, 1)}, {"min_size": 0},
                                   {"max_size": -3}, {"divisor": 0}, {"smallest": 0}])  # fmt: skip
def test_bad_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.*: expected"):
        Preprocess(**wrong)
