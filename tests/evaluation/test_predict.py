"""Running a detector over a data set, the bootstrap over its images, and the interval of few runs."""

from statistics import mean, stdev

import pytest
import scipy.stats
import torch
from torch import nn

from rcnn_tutorial.data.masks import decode_masks, encode_masks, mask_areas
from rcnn_tutorial.evaluation import bootstrap, coco_ap, predict, student_interval, voc_ap


class Detector(nn.Module):
    """Finds one box as wide as the image; keeps what it was called with."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.norm = nn.BatchNorm2d(3)
        self.norm.eval()  # frozen, as after pre-training
        self.calls = []

    def forward(self, images, targets=None, proposals=None):
        assert not self.training and not self.norm.training and targets is None
        self.calls.append((len(images), proposals))
        if any(image.shape[2] == 13 for image in images):
            raise RuntimeError("out of luck")
        return [
            {
                "boxes": torch.tensor([[0.0, 0.0, image.shape[2], 1.0]]) * self.weight,
                "labels": torch.ones(1, dtype=torch.int64),
                "scores": torch.rand(1),
            }
            for image in images
        ]


def data(widths, **more):
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [(torch.zeros(3, 4, w), target | {"image_id": torch.tensor(w)} | more) for w in widths]


def test_predict_keeps_order_and_limits():
    model = Detector()
    detections, targets = predict(model, data(range(20, 30)), batch_size=4, progress=False)
    assert [d["boxes"][0, 2].item() for d in detections] == list(range(20, 30))
    assert [int(t["image_id"]) for t in targets] == list(range(20, 30))
    assert [size for size, _ in model.calls] == [4, 4, 2] and all(more is None for _, more in model.calls)
    assert not detections[0]["boxes"].requires_grad
    detections, targets = predict(model, data(range(20, 30)), batch_size=2, limit=3, progress=False)
    assert len(detections) == len(targets) == 3
    assert predict(model, [], progress=False) == ([], [])


@pytest.mark.parametrize("mode", [True, False])
def test_predict_restores_every_mode_even_after_an_error(mode):
    model = Detector()
    model.training = mode
    predict(model, data([20]), progress=False)
    assert model.training == mode and not model.norm.training
    with pytest.raises(RuntimeError, match="out of luck"):
        predict(model, data([13]), progress=False)
    assert model.training == mode and not model.norm.training


def test_predict_leaves_the_random_numbers_of_training_alone():
    model = Detector()
    model.forward = lambda images: [{"boxes": torch.zeros(0, 4)} for _ in images]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    predict(model, data(range(20, 30)), progress=False)
    assert torch.equal(before, torch.get_rng_state())


def test_predict_hands_proposals_on_and_turns_masks_into_areas():
    model = Detector()
    masks = torch.zeros(2, 4, 20, dtype=torch.bool)
    masks[0, :2, :5] = True
    objects = {"boxes": torch.tensor([[0, 0, 5, 2], [3, 1, 3, 1.0]]), "labels": torch.tensor([1, 1]), "masks": masks}
    dataset = data([20, 20], proposals=torch.ones(7, 4), **objects)
    _, targets = predict(model, dataset, batch_size=2, progress=False)
    ((_, proposals),) = model.calls
    assert [tuple(p.shape) for p in proposals] == [(7, 4), (7, 4)]
    assert targets[0]["area"].tolist() == [10, 0] and "masks" not in targets[0]
    assert "masks" in dataset[0][1] and "area" not in dataset[0][1]  # the data set's own dict is as it was


class Segmenter(Detector):
    """Gives two masks per image, as probabilities in torchvision's shape."""

    def forward(self, images, targets=None, proposals=None):
        detections = super().forward(images, targets, proposals)
        for image, detected in zip(images, detections, strict=True):
            masks = torch.full((2, 1, *image.shape[1:]), 0.2)
            masks[0, 0, 1:3, :7] = 0.9
            detected |= {key: value.repeat(2, *[1] * (value.ndim - 1)) for key, value in detected.items()}
            detected |= {"masks": masks, "scores": torch.tensor([0.9, 0.1])}
        return detections


def test_predict_keeps_masks_small_and_those_of_the_targets_to_compare():
    masks = torch.zeros(1, 4, 20, dtype=torch.bool)
    masks[0, 1:3, :7] = True
    objects = {"boxes": torch.tensor([[0, 1, 7, 3.0]]), "labels": torch.tensor([1]), "masks": masks}
    detections, targets = predict(Segmenter(), data([20, 20, 20], **objects), batch_size=2, progress=False)
    for detected, target in zip(detections, targets, strict=True):
        assert [set(code) for code in detected["masks"] + target["masks"]] == [{"size", "counts"}] * 3
        assert decode_masks(detected["masks"]).tolist() == [*masks.tolist(), torch.zeros(4, 20).bool().tolist()]
        assert torch.equal(decode_masks(target["masks"]), masks) and target["area"].tolist() == [14]
    assert coco_ap(detections, targets, ("background", "disc"), kind="segm")["AP"] == pytest.approx(1)
    assert voc_ap(detections, targets, ("background", "disc")).map == 0  # other measures pass the masks by
    with pytest.raises(ValueError, match=r"dataset\[0\]\['masks'\]: expected \(1, 4, 21\), as the picture"):
        predict(Segmenter(), data([21], **objects), progress=False)


def test_masks_of_a_large_data_set_take_little_memory():
    masks = torch.zeros(100, 480, 640, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[i : i + 200, 2 * i : 2 * i + 300] = True
    codes = encode_masks(masks)
    assert sum(len(code["counts"]) for code in codes) < masks.numel() / 300
    assert torch.equal(decode_masks(codes), masks) and mask_areas(codes).tolist() == mask_areas(masks).tolist()
    assert decode_masks([], (4, 5)).shape == (0, 4, 5) and encode_masks(masks[:0]) == []


def test_predict_shows_a_bar_only_if_asked(capsys):
    predict(Detector(), data([20, 21]), progress=True)
    assert "/2 [" in capsys.readouterr().err
    predict(Detector(), data([20, 21]), progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"limit": 0}])
def test_predict_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        predict(Detector(), data([20]), progress=False, **wrong)


@pytest.mark.gpu
def test_predict_on_a_gpu_returns_to_the_cpu():
    model = Detector().cuda()
    model.forward = lambda images: [{"boxes": torch.zeros(1, 4, device=image.device)} for image in images]
    detections, _ = predict(model, data([20]), progress=False)
    assert detections[0]["boxes"].device.type == "cpu"


def share(detections, targets):
    """A metric that is the mean over images, so that the bootstrap's spread is known."""
    return sum(float(d["value"]) - float(t["value"]) for d, t in zip(detections, targets, strict=True)) / len(targets)


def values(numbers):
    return [{"value": torch.tensor(float(x))} for x in numbers]


def test_bootstrap_finds_the_standard_error():
    numbers = [0, 1] * 50  # standard deviation 0.5, of the mean 0.05
    result = bootstrap(share, values(numbers), values([0] * 100), 500, torch.Generator().manual_seed(0))
    assert result.value == 0.5 and result.mean == pytest.approx(0.5, abs=0.01) and result.samples.shape == (500,)
    assert result.samples.std().item() == pytest.approx(0.05, rel=0.15)
    assert result.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert result.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)
    assert str(result).startswith("0.500 [0.4")


def test_bootstrap_of_a_difference_is_paired():
    numbers = torch.rand(60, generator=torch.Generator().manual_seed(1)).tolist()
    better, zero = values(x + 0.1 for x in numbers), values([0] * 60)
    result = bootstrap(share, better, zero, 50, torch.Generator().manual_seed(0), against=values(numbers))
    assert result.low == pytest.approx(0.1) and result.high == pytest.approx(0.1)  # the same on every draw


def test_bootstrap_repeats_with_its_generator_and_takes_ap():
    box = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    label = torch.ones(1, dtype=torch.int64)
    targets = [{"boxes": box, "labels": label}] * 6
    found = [{"boxes": box + 20 * (i % 3), "labels": label, "scores": torch.ones(1)} for i in range(6)]

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return bootstrap(lambda d, t: voc_ap(d, t, ("background", "disc")).map, found, targets, 30, generator)

    assert torch.equal(run(0).samples, run(0).samples) and not torch.equal(run(0).samples, run(1).samples)
    assert run(0).low < run(0).value < run(0).high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap(share, values([1]), values([1, 2])), "detections: expected one dict per image, 2, got 1"),
        (lambda: bootstrap(share, values([1]), values([1]), against=[]), "against: expected one dict per image, 1"),
        (lambda: bootstrap(share, [], []), "targets, samples"),
        (lambda: bootstrap(share, values([1]), values([1]), samples=0), "targets, samples"),
    ],
)
def test_bootstrap_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.15], [0.1, 0.2, 0.15, -0.4, 2.0], [3.0, 3.1]])
def test_an_interval_of_few_runs_is_scipys(values):
    for share in (0.9, 0.95):
        expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(share)
        found = student_interval(mean(values), stdev(values), len(values), share)
        assert found == pytest.approx(tuple(expected), rel=1e-9)


def test_one_run_has_no_interval():
    with pytest.raises(ValueError, match="runs: expected at least 2, got 1"):
        student_interval(0.5, 0.1, 1)
