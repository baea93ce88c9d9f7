"""Our detector on a feature pyramid beside torchvision's, such as `fasterrcnn_resnet50_fpn`.

Stage by stage in double precision and end to end in single precision, on small inputs; once by the name of the weights
and at full size.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.models.detection import (
    FasterRCNN,
    FasterRCNN_ResNet50_FPN_Weights,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
    fcos_resnet50_fpn,
    keypointrcnn_resnet50_fpn,
    ssdlite320_mobilenet_v3_large,
)
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
from torchvision.models.resnet import Bottleneck
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from benchmarks.peer import tiny_faster_rcnn
from rcnn_tutorial.detectors.fpn import FPNSettings, from_torchvision
from rcnn_tutorial.nets import resnet
from tests.peers import (
    BLANK,
    CHANNELS,
    CLASSES,
    MORE,
    SIZES,
    UNUSUAL,
    assert_copied,
    assert_detections_equal,
    assert_losses_equal,
    assert_stages_equal,
    assert_states_go_there_and_back,
    box_heads,
    condition,
    images_of,
    pooling,
    published,
    seeded,
    small,
    targets_of,
    thin_fpn,
)

COCO = "FasterRCNN_ResNet50_FPN_Weights.COCO_V1"


def batch_norm():
    model = FasterRCNN(thin_fpn(nn.BatchNorm2d, Bottleneck), **box_heads(classes=91), **small())
    return condition(model, images_of(SIZES), spread=3.0)


def frozen():
    """With normalisations as the COCO weights have them."""
    model = FasterRCNN(thin_fpn(block=Bottleneck), **box_heads(classes=91), **small())
    model.load_state_dict({name: v for name, v in batch_norm().state_dict().items() if "num_batches" not in name})
    overwrite_eps(model, 0.0)
    return model


def unusual():
    scales = ((10, 14), (20, 29), (40, 57), (80, 110), (150, 200))
    model = FasterRCNN(
        thin_fpn(nn.BatchNorm2d, trained=2),
        rpn_anchor_generator=AnchorGenerator(scales, ((0.6, 1.7),) * 5),
        box_roi_pool=pooling(5, 3, canonical_scale=12, canonical_level=3),
        image_mean=(0.3, 0.4, 0.5),
        image_std=(0.3, 0.2, 0.1),
        **box_heads(5),
        **(UNUSUAL | MORE | {"min_size": 100, "max_size": 150, "box_detections_per_img": 60}),
    )
    return condition(model, images_of(SIZES))


PEERS = {"BatchNorm": batch_norm, "frozen, eps 0": frozen, "other settings": unusual}


@pytest.fixture(scope="module", params=PEERS)
def peers(request):
    """Torchvision's detector and ours, with the same weights."""
    theirs = seeded(PEERS[request.param]).eval()
    return theirs, from_torchvision(theirs)


def test_every_stage_equals_torchvisions(doubles):
    theirs, ours = doubles
    proposals = assert_stages_equal(theirs, ours, [image.double() for image in images_of(SIZES[:2], first=4)])
    assert len(ours.strides) == 5 and set(ours.levels(torch.cat(proposals)).tolist()) == {2, 3, 4, 5}


def test_losses_and_gradients_equal_torchvisions_on_its_samples(doubles, monkeypatch):
    theirs, ours = (model.train() for model in doubles)
    images = [image.double() for image in images_of(SIZES[:2], first=4)]
    assert_losses_equal(theirs, ours, images, targets_of(SIZES[:2], first=4, empty=True), monkeypatch)


@pytest.mark.parametrize("sizes", [[(192, 256)], SIZES, [(37, 53), (25, 131)]])
def test_detections_equal_torchvisions_end_to_end(peers, sizes):
    theirs, ours = (model.eval() for model in peers)
    assert_detections_equal(theirs, ours, images_of(sizes, first=8))


def test_states_go_there_and_back(peers):
    theirs, ours = (model.eval() for model in peers)
    assert_states_go_there_and_back(theirs, ours, images_of(SIZES[:1]))


def little(backbone=None, **settings):
    """Of hardly any weights, drawn at random."""
    return FasterRCNN(backbone or thin_fpn(), **(box_heads(width=16) | settings))


def test_the_model_given_stays_as_it_is():
    assert_copied(little(), lambda theirs: from_torchvision(theirs, CLASSES))


def test_by_the_name_of_the_weights_and_at_full_size(monkeypatch):
    """As published, of 208 x 1333 px; only the download is left out."""
    asked, state = [], published(fasterrcnn_resnet50_fpn, **small())
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda weights, **kwargs: asked.append(weights) or state)
    ours = from_torchvision(COCO)
    assert ours.settings.training == FPNSettings.training and ours.settings.min_size == 800
    theirs = fasterrcnn_resnet50_fpn(weights=COCO)
    assert asked == [FasterRCNN_ResNet50_FPN_Weights.COCO_V1] * 2
    assert ours.classes == ("background", *FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:])
    assert len(ours.classes) == 91 and ours.classes[1] == "person" and ours.classes[-1] == "toothbrush"
    norms = [layer for layer in ours.modules() if isinstance(layer, resnet.FrozenBatchNorm2d)]
    assert len(norms) == 53 and {norm.eps for norm in norms} == {0.0} and ours.training
    trained = [sum(value.numel() for value in model.parameters() if value.requires_grad) for model in (theirs, ours)]
    assert trained[0] - trained[1] == 4 * 1024 + 4  # the offsets of the background
    image = F.interpolate(images_of([(38, 256)], first=8)[0][None], (100, 640), mode="bilinear")[0]
    assert ours.preprocess([image]).sizes == [(208, 1333)]
    assert_detections_equal(theirs.eval(), ours.eval(), [image])


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_regions_are_read_from_torchvisions_levels(dtype, error):
    """Also those whose size is a bound between two levels, or a rounding error below it."""
    theirs = little().to(dtype)
    ours = from_torchvision(theirs)
    g = torch.Generator().manual_seed(0)
    near = torch.tensor([1 - 3e-6, 1 - 3e-7, 1, 1 + 3e-7])
    sides = (torch.tensor([112, 224, 448, 896])[:, None] * near).flatten().to(dtype)
    corner = torch.rand(2, 300, 2, generator=g, dtype=dtype) * 300
    boxes = torch.cat((corner, corner + 4 * 150 ** torch.rand(2, 300, 2, generator=g, dtype=dtype)), dim=2)
    at_bounds = F.pad(torch.stack((sides / 1.5, sides * 1.5), dim=1), (2, 0)).expand(2, -1, -1)
    boxes = torch.cat((boxes, at_bounds), dim=1)
    maps = {str(i): torch.randn(2, 3, 800 // 2**i, 1088 // 2**i, generator=g, dtype=dtype) for i in range(2, 7)}
    levels = LevelMapper(2, 5)(list(boxes)) + 2
    assert torch.equal(ours.levels(boxes).flatten(), levels) and levels.unique().tolist() == [2, 3, 4, 5]
    theirs.roi_heads.box_roi_pool.featmap_names = list("2345")
    expected = theirs.roi_heads.box_roi_pool(maps, list(boxes), [(800, 1066), (600, 1088)])
    assert torch.allclose(ours.pool(list(maps.values()), boxes), expected, rtol=0, atol=error)


REFUSED = {
    "another head": lambda: fasterrcnn_resnet50_fpn_v2(**BLANK),
    "another network": lambda: fasterrcnn_mobilenet_v3_large_fpn(**BLANK, rpn_score_thresh=0.0),
    "a threshold for proposals": lambda: little(rpn_score_thresh=0.05),
    "inputs that the strides do not divide": lambda: little(size_divisible=1),
    "inputs of one size": lambda: little(fixed_size=(200, 100)),
    "another detector": lambda: fcos_resnet50_fpn(**BLANK),
    "a detector of one stage": lambda: ssdlite320_mobilenet_v3_large(**BLANK),
    "keypoints": lambda: keypointrcnn_resnet50_fpn(**BLANK),
    "no detector": lambda: nn.Linear(1, 1),
    "no pyramid": lambda: tiny_faster_rcnn(7, head=16),
    "normalised pyramid": lambda: little(thin_fpn(norm_layer=nn.BatchNorm2d)),
    "three stages": lambda: little(
        thin_fpn(maps=(2, 3, 4)), rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,), (256,)), ((1.0,),) * 4)
    ),
    "two convolutions in the RPN": lambda: little(rpn_head=RPNHead(CHANNELS, 3, conv_depth=2)),
    "heads on two maps": lambda: little(box_roi_pool=MultiScaleRoIAlign(["0", "1"], 7, 2)),
    "bins of no square": lambda: little(box_roi_pool=pooling((7, 5)), box_head=TwoMLPHead(CHANNELS * 7 * 5, 16)),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_over_is_refused(make):
    with torch.device("meta"):
        theirs = make()
    with pytest.raises(ValueError, match=r"^\w+: "):
        from_torchvision(theirs)


def test_another_number_of_classes_is_refused():
    with pytest.raises(ValueError, match="classes: expected 7, got 6"):
        from_torchvision(little(), CLASSES[1:])


@pytest.mark.parametrize(
    "name",
    [
        "FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
        "FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1",
        "FCOS_ResNet50_FPN_Weights.COCO_V1",
        "ResNet50_Weights.IMAGENET1K_V1",
        "FasterRCNN_ResNet50_FPN_Weights.COCO_V9",
        "FasterRCNN_ResNet50_FPN_Weights",
        "COCO",
    ],
)
def test_other_weights_are_refused_before_they_are_fetched(name, monkeypatch):
    monkeypatch.setattr(WeightsEnum, "get_state_dict", None)
    with pytest.raises(ValueError, match=f"model: .*{name}"):
        from_torchvision(name)
