"""Our region proposal network and torchvision's, with the same weights, for the tests of every stage."""

from dataclasses import replace

import torch
from torchvision.models.detection import rpn as peer
from torchvision.models.detection.anchor_utils import AnchorGenerator

from rcnn_tutorial.nets.rpn import RPN, RPNSettings

# torchvision's
SETTINGS = RPNSettings(
    anchors="torchvision", scales=(16, 32, 64), inside=False, beta=1 / 9, before_nms=(150, 90), after_nms=(60, 40),
    least_side=1e-3,
)  # fmt: skip
ONE, THREE = [(12, 16)], [(12, 16), (6, 8), (3, 4)]
SIZES = [(96, 128), (70, 128), (96, 41)]  # of three images in one batch of 96 x 128


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def pair(shapes, settings=SETTINGS, channels=8):
    """Ours and torchvision's, with the same weights, in float64."""
    strides = [96 // height for height, _ in shapes]
    scales = [settings.scales] if len(shapes) == 1 else [(8, 16), (16, 32), (32, 64)]
    ours = RPN(channels, strides, replace(settings, scales=tuple(scales)), generator()).double()
    theirs = peer.RegionProposalNetwork(
        AnchorGenerator(tuple(scales), (settings.ratios,) * len(scales)),
        peer.RPNHead(channels, len(scales[0]) * 3),
        0.7, 0.3, settings.samples, 0.5,
        dict(zip(("training", "testing"), settings.before_nms, strict=True)),
        dict(zip(("training", "testing"), settings.after_nms, strict=True)),
        settings.nms_threshold,
    ).double()  # fmt: skip
    for mine, other in (("conv", theirs.head.conv[0][0]), ("score", theirs.head.cls_logits),
                        ("offsets", theirs.head.bbox_pred)):  # fmt: skip
        layer = getattr(ours.head, mine)
        layer.weight.data = random(*layer.weight.shape, seed=1) * 0.2
        layer.bias.data = random(*layer.bias.shape, seed=2) * 0.2
        other.load_state_dict(layer.state_dict())
    return ours, theirs


def maps_of(shapes, images=3, channels=8, seed=0):
    return [random(images, channels, *shape, seed=seed + i) for i, shape in enumerate(shapes)]


def objects(count, seed=0, size=(96, 128)):
    """(count, 4) boxes of 4 to 60 px, float64."""
    g = generator(seed)
    corner = torch.rand(count, 2, generator=g, dtype=torch.float64) * torch.tensor([size[1] - 5, size[0] - 5])
    sides = 4 * 15 ** torch.rand(count, 2, generator=g, dtype=torch.float64)
    return torch.cat((corner, torch.minimum(corner + sides, torch.tensor([size[1], size[0]]))), dim=1)


def set_head(rpn, scale=3.0):
    """Weights whose scores spread and whose boxes move."""
    for layer in (rpn.head.conv, rpn.head.score, rpn.head.offsets):
        spread = scale / layer.weight[0].numel() ** 0.5
        layer.weight.data = spread * random(*layer.weight.shape, seed=3).to(layer.weight)
    return rpn


def random_predictions(ours, shapes, seed=0, levels=None, growth=0.3):
    """Anchors of the maps, with offsets and logits drawn at random; of `levels` values where ties are wanted."""
    anchors = ours(maps_of(shapes, 1))
    count = len(anchors.anchors)
    logits = 2 * random(3, count, seed=seed)
    if levels:
        logits = (logits * levels).round() / levels
    offsets = random(3, count, 4, seed=seed + 1) * growth
    offsets[:, ::17] = torch.tensor([0.0, 0, -12, -12])  # nearly nothing is left of these
    offsets[:, 5::23] += torch.tensor([9.0, 9, 0, 0])  # beyond the border
    offsets[:, 7::29] += torch.tensor([0.0, 0, 9, 9])  # larger than exp lets them be
    return anchors._replace(logits=logits, offsets=offsets)


def of_torchvision(theirs, found, sizes):
    decoded = theirs.box_coder.decode(found.offsets.flatten(0, 1), [found.anchors] * len(found.logits))
    decoded = decoded.view(*found.offsets.shape)
    return theirs.filter_proposals(decoded, found.logits, list(sizes), list(found.counts))
