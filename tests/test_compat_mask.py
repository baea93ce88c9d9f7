"""Our Mask R-CNN beside torchvision's, such as `maskrcnn_resnet50_fpn`.

What stands in the way of equality, and holds here, is told in docs/equality.md.
"""

import pytest
import torch
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.models.detection import (
    MaskRCNN,
    MaskRCNN_ResNet50_FPN_Weights,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d

from rcnn_tutorial.detectors import load
from rcnn_tutorial.detectors import mask_rcnn as mask_rcnn_module
from rcnn_tutorial.detectors.fpn import from_torchvision
from rcnn_tutorial.detectors.mask_rcnn import MaskRCNN as Ours
from rcnn_tutorial.detectors.mask_rcnn import MaskRCNNSettings
from rcnn_tutorial.ops.masks import cut_masks, paste_masks
from tests.peers import (
    BLANK,
    CHANNELS,
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
    near,
    pooling,
    published,
    seeded,
    small,
    targets_of,
    thin_fpn,
)

NAME = MaskRCNN_ResNet50_FPN_Weights.COCO_V1


def small_masks():
    return small() | {"mask_roi_pool": pooling(14, canonical_scale=16), "box_detections_per_img": 25}


def usual():
    """Of a smaller network, so that it is quick, and with a mask head of the published layers."""
    settings = small_masks() | box_heads(width=128) | mask_heads((24,) * 4) | {"box_detections_per_img": 40}
    return condition(MaskRCNN(thin_fpn(), **settings), images_of(SIZES))


def mask_heads(channels):
    """torchvision's mask head of these channels, for 7 classes."""
    head = MaskRCNNHeads(CHANNELS, channels, 1)
    return {"mask_head": head, "mask_predictor": MaskRCNNPredictor(channels[-1], channels[-1], 7)}


def unusual(norm=nn.BatchNorm2d, **changes):
    levels = {"canonical_scale": 12, "canonical_level": 3}
    settings = {
        "rpn_anchor_generator": AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((0.6, 1.7),) * 5),
        "box_roi_pool": pooling(5, 3, **levels),
        "mask_roi_pool": pooling(6, 3, **levels),
    }
    settings |= box_heads(5) | mask_heads((24,) * 3)
    settings |= UNUSUAL | MORE | {"min_size": 100, "max_size": 150, "box_detections_per_img": 30}
    return MaskRCNN(thin_fpn(norm, trained=2), **(settings | changes))


PEERS = {"published heads": usual, "other settings": lambda: condition(unusual(), images_of(SIZES))}


@pytest.fixture(scope="module", params=PEERS)
def peers(request):
    """Torchvision's detector and ours, with the same weights."""
    theirs = seeded(PEERS[request.param]).eval()
    return theirs, from_torchvision(theirs)


def test_every_stage_equals_torchvisions(doubles):
    theirs, ours = doubles
    images = [image.double() for image in images_of(SIZES[:2], first=4)]
    assert_stages_equal(theirs, ours, images)
    with torch.no_grad():
        inputs, _ = theirs.transform(images)
        features = theirs.backbone(inputs.tensors)
        boxes = [torch.tensor([[3.0, 5, 60, 70], [10, 10, 14, 12]]).double(), torch.tensor([[0.0, 0, 90, 60]]).double()]
        pooled = theirs.roi_heads.mask_roi_pool(features, boxes, inputs.image_sizes)
        logits = theirs.roi_heads.mask_predictor(theirs.roi_heads.mask_head(pooled))[:, 1:]  # without the background's
        found = ours.mask_logits(list(features.values()), boxes)
    assert near(found, logits) and found.std() > 0.5 and found.shape[-1] == ours.mask_size


def test_losses_and_gradients_equal_torchvisions_on_its_samples(doubles, monkeypatch):
    """The loss of the masks too, from targets that both make of the same pixels."""
    theirs, ours = (model.train() for model in doubles)
    images = [image.double() for image in images_of(SIZES[:2], first=4)]
    assert_losses_equal(theirs, ours, images, targets_of(SIZES[:2], first=4, empty=True, masks=True), monkeypatch)


@pytest.mark.parametrize("sizes", [[(192, 256)], SIZES])
def test_detections_equal_torchvisions_end_to_end(peers, sizes):
    """At least 98 % of them, with a mask IoU above 0.99."""
    theirs, ours = (model.eval() for model in peers)
    images = images_of(sizes, first=8)
    assert_detections_equal(theirs, ours, images)
    for one, image in zip(ours(images), images, strict=True):
        share = one["masks"].double().mean()
        assert one["masks"].shape[1:] == (1, *image.shape[1:]) and 0.001 < share < 0.5


def test_states_go_there_and_back(peers):
    theirs, ours = (model.eval() for model in peers)
    assert_states_go_there_and_back(theirs, ours, images_of(SIZES[:1]))


def test_the_model_given_stays_as_it_is():
    assert_copied(unusual(), from_torchvision)


def test_by_the_name_of_the_weights(monkeypatch):
    """As published, of ResNet-50; only the download is left out."""
    asked, state = [], published(maskrcnn_resnet50_fpn, **small_masks())
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda weights, **kwargs: asked.append(weights) or state)
    ours = mask_rcnn_module.from_torchvision(NAME)
    assert asked == [NAME] and isinstance(ours, Ours)
    assert ours.settings.training == MaskRCNNSettings.training and ours.settings.mask_head == (4, 256, 28)
    assert ours.classes[1] == "person" and len(ours.classes) == 91 and ours.training and not ours.aligned
    theirs = maskrcnn_resnet50_fpn(weights=NAME, **small_masks())
    again = from_torchvision(theirs.eval())
    assert_detections_equal(theirs, again, images_of([(150, 200)], first=8))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in ours.state_dict().items())


def test_what_was_taken_over_is_saved_with_its_grid(tmp_path):
    ours = from_torchvision(unusual(FrozenBatchNorm2d).eval())
    ours.save(tmp_path / "some.pt")
    again = load(tmp_path / "some.pt")
    assert isinstance(again, Ours) and not again.aligned and again.settings == ours.settings
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in ours.state_dict().items())


REFUSED = {
    "another head": lambda: maskrcnn_resnet50_fpn_v2(**BLANK, rpn_score_thresh=0.0),
    "masks from other maps": lambda: unusual(mask_roi_pool=pooling(6, 3, canonical_scale=20)),
    "masks from other points": lambda: unusual(mask_roi_pool=pooling(6, canonical_scale=12, canonical_level=3)),
    "masks of no square": lambda: unusual(mask_roi_pool=pooling((6, 5), 3, canonical_scale=12, canonical_level=3)),
    "several widths": lambda: unusual(mask_head=MaskRCNNHeads(CHANNELS, (16, 24), 1)),
    "dilated": lambda: unusual(mask_head=MaskRCNNHeads(CHANNELS, (24, 24), 2)),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_over_is_refused(make):
    with torch.device("meta"):
        theirs = make()
    with pytest.raises(ValueError, match=r"^model: expected "):
        from_torchvision(theirs)


# The two rules


def boxes_in(height, width, dtype, count=60):
    """Boxes in a picture, large and small, some of them cut by its border."""
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=g, dtype=dtype) * torch.tensor([width - 2, height - 2])
    size = 0.02 + 60 * torch.rand(count, 2, generator=g, dtype=dtype) ** 3
    whole = torch.cat((corner, corner + size), dim=1).minimum(torch.tensor([width, height] * 2))
    return torch.cat((whole, torch.tensor([[0, 0, width, height], [3, 4, 5, 6], [2, 2, 30, 30]], dtype=dtype)))


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("size", [28, 14, 5])
def test_targets_and_pasted_masks_equal_torchvisions(dtype, error, size):
    g = torch.Generator().manual_seed(1)
    boxes = boxes_in(60, 80, dtype)
    objects = torch.rand(7, 60, 80, generator=g) > 0.5
    matched = torch.randint(7, (len(boxes),), generator=g)
    expected = project_masks_on_boxes(objects.to(dtype), boxes, matched, size)
    found = cut_masks(objects[matched], boxes, size, aligned=False)
    assert found.dtype == dtype and torch.allclose(found, expected, rtol=0, atol=error) and found.std() > 0.1
    assert not torch.allclose(cut_masks(objects[matched], boxes, size), expected, rtol=0, atol=0.1)

    masks = torch.rand(len(boxes), 1, size, size, generator=g, dtype=dtype)
    expected = paste_masks_in_image(masks, boxes, (60, 80))[:, 0]
    found = paste_masks(masks[:, 0], boxes, (60, 80), aligned=False, threshold=None)
    assert found.dtype == dtype and torch.allclose(found, expected, rtol=0, atol=error) and found.std() > 0.1
    assert not torch.allclose(paste_masks(masks[:, 0], boxes, (60, 80), threshold=None), expected, rtol=0, atol=0.1)
