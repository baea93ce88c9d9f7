from dataclasses import replace

import pytest
import torch
from torch import nn

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors import rcnn
from rcnn_tutorial.detectors.rcnn_windows import WindowFeatures, svm_negatives
from rcnn_tutorial.detectors.sppnet import PooledBatches, SPPnet, SPPnetSettings, closest_scale, project
from rcnn_tutorial.detectors.svm import SVMSettings
from rcnn_tutorial.evaluation import predict, voc_ap
from rcnn_tutorial.nets.backbones import TINY, ZF5, ConvNet, Field, receptive_field, tiny_net
from rcnn_tutorial.ops.boxes import box_iou
from tests.detectors.test_rcnn import CLASSES, Squares

LEVELS = (4, 2, 1)


def untrained(**changes):
    torch.manual_seed(0)
    net = tiny_net(pretrained=True)
    pyramid = tiny_net(len(CLASSES), levels=LEVELS)
    pyramid.convs.load_state_dict(net.convs.state_dict())
    small = SPPnetSettings.tiny(200, svm=SVMSettings(refit=200), scales=(96, 136), side=32, **changes)
    return SPPnet(pyramid, CLASSES, small, mean=(0.5, 0.5, 0.5)).eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    model = untrained()
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    cache = FeatureCache(tmp_path_factory.mktemp("features"))
    history, _ = model.fit(Squares(40), Squares(12, seed=1), cache, progress=False)
    return model, history, before


def test_it_learns(trained):
    model, history, _ = trained
    assert history.total[-1] < 0.5 * history.total[0]
    assert voc_ap(*predict(model, Squares(16, seed=2), progress=False), CLASSES).map > 0.8


def test_fine_tuning_changes_the_fully_connected_layers_alone(trained):
    model, _, before = trained
    after = model.net.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    frozen = all(torch.equal(before[name], after[name]) for name in before if name.startswith("convs"))
    claim(
        "SPP-15",
        condition=changed == {"fc6", "fc7", "classifier"} and frozen,
        note="fine-tuning changes fc6, fc7 and the new layer, no convolution",
    )
    assert after["classifier.weight"].shape[0] == len(CLASSES)


def test_no_way_to_fit_it_trains_the_convolutions():
    """R-CNN's methods, called by the name of its class, do what SPPnet does."""
    model = untrained()
    model.settings = replace(model.settings, fine_tuning=replace(model.settings.fine_tuning, steps=3, warmup=1))
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    rcnn.RCNN.fit(model, Squares(6), progress=False)
    changed = {
        name.split(".")[0] for name, value in model.net.state_dict().items() if not torch.equal(before[name], value)
    }
    assert changed == {"fc6", "fc7", "classifier"}


def test_one_pass_per_scale_serves_every_window(trained, monkeypatch):
    model, calls = trained[0], []
    image, target = Squares(3, seed=3)[1]
    hook = model.net.convs.register_forward_hook(lambda *_: calls.append(1))
    model.pooled(image, target["proposals"])
    five, calls[:] = len(calls), []
    monkeypatch.setattr(model, "settings", replace(model.settings, scales=(96,)))
    model.pooled(image, target["proposals"])
    hook.remove()
    claim("SPP-10", condition=(five, len(calls)) == (2, 1), note="passes of the convolutions: one for each scale")


def test_windows_are_pooled_from_their_own_cells_and_scale():
    """Each window on its own, by torch's adaptive pooling, equals the batched features."""
    model = untrained()
    image, target = Squares(3, seed=3)[1]
    boxes, size = target["proposals"], (96, 128)
    chosen = closest_scale(boxes, size, model.settings.scales, model.settings.side)
    assert set(chosen.tolist()) == {0, 1}
    maps = model.maps(image)
    for box, scale, row in zip(boxes, chosen.tolist(), model.pooled(image, boxes), strict=True):
        height = model.settings.scales[scale]
        ratio = torch.tensor([height * 128 // 96 / 128, height / 96] * 2)
        x1, y1, x2, y2 = project((box * ratio)[None], model.field, maps[scale].shape[-2:])[0].tolist()
        part = maps[scale][:, :, y1:y2, x1:x2]
        expected = torch.cat([nn.functional.adaptive_max_pool2d(part, n).flatten() for n in LEVELS])
        assert torch.allclose(row, expected, atol=1e-6)


def test_a_window_over_the_whole_crop_gives_what_the_classifier_was_trained_on():
    model = untrained()
    model.settings = replace(model.settings, scales=(64,))
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    pooled = model.pooled(image, torch.tensor([[0, 0, 64, 64.0]]))
    assert torch.allclose(pooled, model.net.pool5((image - 0.5)[None]), atol=1e-6)


def test_the_scale_makes_the_area_nearest():
    scales, side = (480, 576, 688, 864, 1200), 224
    boxes = torch.tensor([[0, 0, 180, 120], [0, 0, 500, 375], [0, 0, 20, 20], [0, 0, 300, 200.0]])
    chosen = closest_scale(boxes, (375, 500), scales, side)
    table = []
    for x1, y1, x2, y2 in boxes.tolist():
        areas = [(x2 - x1) * (y2 - y1) * (s / 375) ** 2 for s in scales]
        table.append(min(range(5), key=lambda i: abs(areas[i] - side**2)))
    claim("SPP-11", condition=chosen.tolist() == table, note="each window reads the scale of the nearest area")
    claim("SPP-11", scales[chosen[0]], 576, note="shorter side for a 180 x 120 window in 500 x 375")
    # between 688 and 864, where a ratio would choose the larger scale and the difference the smaller
    area = 0.786 * side**2
    window = torch.tensor([[0, 0, area**0.5 * 375 / 688, area**0.5 * 375 / 688]])
    assert closest_scale(window, (375, 500), scales, side).tolist() == [2]
    assert abs(area * (864 / 688) ** 2 / side**2) > 1 and area * (864 / 688) ** 2 / side**2 < side**2 / area


def test_projection_is_the_papers_where_the_first_cell_looks_at_pixel_0():
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(500, 2, generator=g, dtype=torch.float64) * 400
    boxes = torch.cat((corner, corner + 33 + 200 * torch.rand(500, 2, generator=g, dtype=torch.float64)), dim=1)
    boxes[::7] = (boxes[::7] / 16).round() * 16  # on the cells' centres
    cells = project(boxes, Field(139, 16, 0.0), (45, 45))
    low, high = (boxes[:, :2] / 16).floor() + 1, (boxes[:, 2:] / 16).ceil() - 1
    assert torch.equal(cells[:, :2], low.long()) and torch.equal(cells[:, 2:], high.long() + 1)


@pytest.mark.parametrize("layers", [TINY[:-1], ZF5])
def test_projection_takes_the_cells_whose_centres_lie_inside(layers):
    field = receptive_field(layers)
    g = torch.Generator().manual_seed(1)
    corner = torch.rand(300, 2, generator=g) * torch.tensor([400.0, 200])
    boxes = torch.cat((corner, corner + 2 + 150 * torch.rand(300, 2, generator=g)), dim=1)
    size = (40, 60)
    cells = project(boxes, field, size)
    assert (cells[:, 2:] > cells[:, :2]).all() and (cells >= 0).all()
    assert (cells[:, 2] <= 60).all() and (cells[:, 3] <= 40).all()
    for axis, length in ((0, 60), (1, 40)):
        centres = field.first + field.stride * torch.arange(length)
        for box, cell in zip(boxes[:, axis::2], cells[:, axis::2], strict=True):
            inside = ((centres > box[0]) & (centres < box[1])).nonzero()[:, 0]
            taken = list(range(*cell.tolist()))
            assert taken == inside.tolist() if len(inside) and len(taken) > 1 else len(taken) >= 1


def test_a_window_and_its_cells_agree_within_a_stride():
    field = Field(1, 8, 4.0)
    boxes = torch.tensor([[13.0, 40, 90, 57], [0, 0, 256, 192]])
    back = project(boxes, field, (24, 32)) * 8
    claim("SPP-10", condition=bool(((back - boxes).abs() < 8).all()), note="to the map and back within one stride")


def test_a_quarter_of_each_mini_batch_is_positive():
    model = untrained()
    batches = PooledBatches(model, Squares(8))
    labels = [batches[i][1] for i in range(3)]
    claim(
        "SPP-16",
        condition={(int((x > 0).sum()), len(x)) for x in labels} == {(32, 128)},
        note="32 of 128 windows are positive",
    )
    iou = []
    for i in range(8):
        boxes, own = batches.box[batches.image == i], batches.label[batches.image == i]
        truths = Squares(8)[i][1]["boxes"]
        if len(truths):
            best = box_iou(boxes, truths).amax(1)
            iou.append((best[own == 0], best[own > 0]))
    background, positive = (torch.cat(part) for part in zip(*iou, strict=True))
    assert ((background >= 0.1) & (background < 0.5)).all() and (positive >= 0.5).all() and len(background)
    assert batches[0][0].shape == (128, 96 * 21)


def test_rows_of_a_mini_batch_belong_to_their_labels(tmp_path):
    model, data = untrained(), Squares(6)
    batches = PooledBatches(model, data, FeatureCache(tmp_path))
    pooled, labels = batches[1]
    drawn, _ = batches.draw(1)
    for i, row in zip(drawn[:20].tolist(), pooled, strict=False):
        one = model.pooled(data[int(batches.image[i])][0], batches.box[[i]])[0]
        assert torch.allclose(row, one, rtol=2e-3, atol=2e-3)
    assert torch.equal(labels, batches.label[drawn])


def test_no_two_negatives_of_a_class_overlap_by_more_than_70_percent():
    g = torch.Generator().manual_seed(0)
    corner = 60 * torch.rand(300, 2, generator=g)
    boxes = torch.cat((corner, corner + 20 + 10 * torch.rand(300, 2, generator=g)), dim=1)
    truths, labels = torch.tensor([[10, 10, 40, 40.0]]), torch.tensor([2])
    model = untrained()
    all_of_them = svm_negatives(boxes, truths, labels, _with(model, svm_overlap=1.0))
    fewer = svm_negatives(boxes, truths, labels, model)
    for k in range(2):
        kept, dropped = boxes[fewer[:, k]], boxes[all_of_them[:, k] & ~fewer[:, k]]
        most = box_iou(kept, kept).fill_diagonal_(0).max().item()
        claim("SPP-17", condition=most <= 0.7, note="no two negatives of a class overlap by more than 0.7")
        assert len(dropped) > 20 and (box_iou(dropped, kept).amax(1) > 0.7).all()
    assert not (fewer & ~all_of_them).any()


def test_the_regression_learns_from_windows_of_half_overlap(monkeypatch):
    seen, model, data = {}, untrained(), Squares(8)
    monkeypatch.setattr(
        rcnn,
        "fit_ridge",
        lambda x, t, penalty: (seen.setdefault(len(seen), len(x)), (torch.zeros(4, x.shape[1]), torch.zeros(4)))[1],
    )
    used = {}
    for bound in (0.5, 0.6):
        seen.clear()
        model.settings = replace(model.settings, ridge_iou=bound)
        model.fit_regression(data)
        used[bound] = sum(seen.values())
    expected = {
        bound: sum(
            int((box_iou(t["proposals"], t["boxes"]).amax(1) >= bound).sum()) for _, t in data.items if len(t["boxes"])
        )
        for bound in (0.5, 0.6)
    }
    claim("SPP-18", condition=used == expected and used[0.5] > used[0.6], note="pairs of IoU >= 0.5, and of 0.6")
    assert SPPnetSettings().ridge_iou == 0.5


def test_gradients_reach_the_convolutions_through_the_pyramid():
    model = untrained()
    model.net.pool5(torch.rand(2, 3, 70, 90)).sum().backward()
    norms = [block[0].weight.grad.norm().item() for block in model.net.convs]
    claim("SPP-19", condition=min(norms) > 0, agrees="differs", source="one passage: they cannot be updated",
          note="no convolution's gradient is zero below the pyramid")  # fmt: skip


def test_a_network_without_a_pyramid_is_refused():
    with pytest.raises(ValueError, match="net: expected a network with levels"):
        SPPnet(tiny_net(len(CLASSES)), CLASSES)


def test_windows_without_area_and_images_without_windows():
    model = untrained()
    image = torch.zeros(3, 96, 128)
    assert model.pooled(image, torch.zeros(0, 4)).shape == (0, 96 * 21)
    with pytest.raises(ValueError, match="boxes: expected finite numbers with x1 < x2"):
        model.pooled(image, torch.tensor([[5, 5, 5, 9.0]]))
    assert model([image], proposals=[torch.zeros(0, 4)])[0]["boxes"].shape == (0, 4)
    outside = torch.tensor([[-30, -30, 20, 20], [120, 90, 200, 160.0]])
    assert model.pooled(image, outside).isfinite().all()


def changed(what):
    """The detector with one of the things changed that decide its pooled features."""
    if what in ("scales", "side"):
        return _with(untrained(), **{"scales": {"scales": (96,)}, "side": {"side": 48}}[what])
    model = untrained()
    if what == "weights":
        model.net.convs[0][0].bias.data[0] += 1
    elif what == "mean":
        model.mean[0] += 0.1
    elif what == "levels":
        model.net.levels = (1, 2, 4)
    elif what == "layers":  # a larger pooling, weights of the same shapes
        first, *others = model.net.layers
        layers = replace(first, pool=3, ceil=True), *others
        net = ConvNet(layers, 64, 256, len(CLASSES), dropout=0.0, levels=LEVELS)
        net.load_state_dict(model.net.state_dict())
        model = SPPnet(net, CLASSES, model.settings, mean=(0.5, 0.5, 0.5)).eval()
    return model


@pytest.mark.parametrize("what", ["weights", "layers", "levels", "mean", "scales", "side"])
def test_what_decides_the_features_is_in_their_key(what, tmp_path):
    """With anything that changes the features changed, the cache gives the new ones, and not those it kept before."""
    data, cache = Squares(2), FeatureCache(tmp_path)
    image, target = next(item for item in data.items if len(item[1]["boxes"]))
    before, after = untrained(), changed(what)
    boxes = target["proposals"]
    assert not torch.allclose(before.pooled(image, boxes), after.pooled(image, boxes), atol=1e-2)
    assert before.pooled_key() == untrained().pooled_key() != after.pooled_key()
    list(WindowFeatures(before, data, cache))
    for kept, fresh in zip(WindowFeatures(after, data, cache), WindowFeatures(after, data), strict=True):
        assert torch.allclose(kept.pool5, fresh.pool5, rtol=2e-3, atol=2e-3)


def _with(model, **changes):
    model = untrained() if model is None else model
    copy = SPPnet(model.net, CLASSES, replace(model.settings, **changes), mean=(0.5, 0.5, 0.5)).eval()
    return copy
