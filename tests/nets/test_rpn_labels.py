from dataclasses import replace

import pytest
import torch

from experiments.variants import DividedByPlaces
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.nets.rpn import RPN, AnchorSamples, Predictions, RPNSettings
from rcnn_tutorial.ops.anchors import anchor_grid, exact_anchors, inside
from rcnn_tutorial.ops.boxes import box_iou, decode, encode
from tests.nets.rpn_peer import SETTINGS, SIZES, generator, objects, random, set_head


def labelled(anchors, truths, **changes):
    settings = RPNSettings(**({"inside": False} | changes))
    rpn = RPN(4, (16,), settings)
    return rpn.label(torch.tensor(anchors).float(), [torch.tensor(truths).float()], [(600, 1000)]).state[0]


def test_positives_by_rank_and_by_overlap():
    truth = [[100, 100, 200, 200]]
    tied = labelled([[60, 100, 160, 200], [140, 100, 240, 200], [0, 0, 20, 20]], truth)
    claim("FRCNN-15", condition=tied.tolist() == [1, 1, 0], note="two anchors tied for the best IoU")
    low = labelled([[100, 100, 200, 145], [100, 100, 200, 140], [0, 0, 20, 20]], truth)
    claim("FRCNN-15", condition=low.tolist() == [1, -1, 0], note="the best anchor has IoU 0.45")
    exact = labelled([[100, 100, 200, 200], [100, 100, 200, 170], [100, 100, 200, 169]], truth)
    claim("FRCNN-15", condition=exact.tolist() == [1, 1, -1], note="an anchor of IoU 0.70")
    several = labelled([[100, 100, 200, 200], [100, 100, 200, 180], [100, 110, 200, 200], [95, 95, 200, 200]], truth)
    claim("FRCNN-15", condition=several.tolist() == [1] * 4, note="one object labels four anchors")
    both = labelled([[100, 100, 200, 200], [400, 100, 500, 145]], [*truth, [400, 100, 500, 200]])
    assert both.tolist() == [1, 1]  # an object well met does not keep another from its rescue


def test_ties_of_a_small_object():
    anchors = anchor_grid(exact_anchors((128, 256, 512), (0.5, 1, 2), 16), (37, 62), 16)
    corners = torch.tensor([[400.0 + 3 * step, 250 + 5 * step] for step in range(16)])
    truths = torch.cat((corners, corners + 48), dim=1)
    iou = box_iou(anchors, truths)
    ties = (iou > iou.amax(dim=0) - 1e-5).sum(dim=0)
    claim("FRCNN-15", iou.amax(dim=0).mean().item(), 0.14, tol=1e-3, note="best IoU of a 48-px object, exact areas")
    claim("FRCNN-15", ties.float().mean().item(), 69, tol=3, note="anchors of that IoU, to 1e-5")
    state = RPN(4, (16,), RPNSettings(inside=False)).label(anchors, list(truths[:, None]), [(592, 992)] * 16).state
    positive = (state == 1).sum(dim=1)
    assert (positive > 1).all() and (positive <= ties).all()  # the rounding of float32 parts some of them


def test_negatives_and_what_is_neither():
    truth = [[100, 100, 200, 200]]
    state = labelled([[100, 100, 200, 200], [100, 100, 200, 130], [100, 100, 200, 129], [100, 100, 200, 169]], truth)
    claim(
        "FRCNN-17", condition=state.tolist() == [1, -1, 0, -1], note="IoU 0.29 is negative, 0.30 and 0.69 are neither"
    )
    rescued = labelled([[100, 100, 200, 120], [100, 100, 200, 119]], truth)
    claim("FRCNN-17", condition=rescued.tolist() == [1, 0], note="a best anchor of IoU 0.2 stays positive")

    rpn = RPN(8, (16,), replace(SETTINGS, samples=4000), generator())
    found = rpn([random(1, 8, 6, 8, dtype=torch.float32)])
    boxes = [torch.tensor([[20.0, 20, 70, 60], [60, 40, 90, 90]])]
    state = rpn.label(found.anchors, boxes, SIZES[:1]).state
    logits, offsets = (each.detach().clone().requires_grad_() for each in found[:2])
    samples = rpn.sample(found.anchors, boxes, SIZES[:1], generator())
    sum(rpn.losses(found._replace(logits=logits, offsets=offsets), samples, boxes).values()).backward()
    drawn = logits.grad != 0
    claim(
        "FRCNN-17",
        condition=bool((state == -1).any() and not drawn[state == -1].any() and drawn[state == 1].all()),
        note="ignored anchors get no gradient",
    )
    assert drawn[state == 0].all() and (samples.labels == -1).any()  # those are left over, and are padding
    moved = (offsets.grad != 0).any(dim=2)
    claim("FRCNN-18", condition=torch.equal(moved, state == 1), note="regression gradient 0 where p* = 0")


def test_targets():
    anchors = RPN(4, (16,), RPNSettings())([torch.zeros(1, 4, 10, 12)]).anchors.double()
    truths = objects(len(anchors), size=(600, 1000))
    offsets = encode(truths, anchors)
    back = (decode(offsets, anchors, clamp=None) - truths).abs().max().item()
    claim("FRCNN-20", back, 0, tol=1e-4, note="an object, to offsets of an anchor, and back: px")
    claim("FRCNN-20", encode(anchors, anchors).abs().max().item(), 0, note="offsets of an anchor to itself")
    scaled = (encode(3 * truths, 3 * anchors) - offsets).abs().max().item()
    claim("FRCNN-20", scaled, 0, tol=1e-9, note="both scaled by 3: change of the offsets")
    by_hand = encode(torch.tensor([[20.0, 30, 60, 130]]), torch.tensor([[10.0, 20, 30, 70]]))[0].tolist()
    assert by_hand == pytest.approx([1.0, 0.7, 0.693147, 0.693147], abs=1e-5)  # x, y, w, h

    rpn = RPN(4, (16,), replace(SETTINGS, scales=(64,)))
    found, boxes = rpn([torch.zeros(1, 4, 6, 8)]), objects(3)
    samples = rpn.sample(found.anchors, [boxes], SIZES[:1], generator())
    positive, anchor = samples.labels[0] == 1, found.anchors[samples.chosen[0]].double()
    wanted = box_iou(anchor, boxes).argmax(dim=1)
    assert positive.any() and (samples.matched[0][~positive] == -1).all()
    assert torch.equal(samples.matched[0][positive], wanted[positive])


def test_few_positives_in_an_image():
    rpn = RPN(4, (16,), RPNSettings())
    anchors, size = anchor_grid(rpn.cell_anchors[0], (38, 63), 16), [(600, 1000)]
    g, found = generator(), []
    for _ in range(20):
        count = int(torch.randint(1, 7, (), generator=g))
        sides = 48 + 402 * torch.rand(count, 2, generator=g)
        corner = torch.rand(count, 2, generator=g) * (torch.tensor([1000.0, 600]) - sides)
        boxes = torch.cat((corner, corner + sides), dim=1)
        state = rpn.label(anchors, [boxes], size).state[0]
        iou = box_iou(anchors, boxes).amax(dim=1)
        drawn = rpn.sample(anchors, [boxes], size, g).labels[0]
        found.append([(state == 1).sum(), ((state == 1) & (iou >= 0.7)).sum(), (state == 0).sum(), (drawn == 1).sum()])
    positive, overlap, negative, drawn = torch.tensor(found).float().mean(dim=0).tolist()
    claim("FRCNN-23", positive, 53, tol=20, note="positives of an image")
    claim("FRCNN-23", overlap, 8, tol=8, note="those of IoU 0.7")
    claim("FRCNN-23", negative, 7100, tol=300, note="negatives")
    claim("FRCNN-23", negative / positive, 135, tol=60, note="negatives for each positive")
    claim("FRCNN-23", 100 * drawn / 256, 20, tol=7, note="positives in a sampled mini-batch, %")


def test_anchors_beyond_the_border_train_nothing():
    rpn = set_head(RPN(8, (16,), replace(SETTINGS, inside=True, scales=(16, 32, 64)), generator()))
    found = rpn([random(3, 8, 6, 8, dtype=torch.float32)])
    boxes = [torch.tensor([[0.0, 0, 30, 30]]), torch.tensor([[50.0, 10, 128, 70]]), torch.zeros(0, 4)]
    state = rpn.label(found.anchors, boxes, SIZES).state
    outside = ~inside(found.anchors, torch.tensor(SIZES))
    assert outside.any(dim=1).all() and not torch.equal(outside[0], outside[1])
    claim("FRCNN-24", condition=bool((state[outside] == -1).all()), note="anchors that cross the border are ignored")
    assert (state[~outside] == 0).any() and [(row == 1).any().item() for row in state] == [True, True, False]
    alone = [rpn.label(found.anchors, boxes[i : i + 1], SIZES[i : i + 1]).state[0] for i in range(3)]
    assert torch.equal(torch.stack(alone), state)
    kept = RPN(8, (16,), SETTINGS).label(found.anchors, boxes, SIZES).state
    assert (kept[outside] != -1).any()
    proposals = rpn.propose(found, SIZES)
    limit = torch.tensor(SIZES)[:, None, [1, 0, 1, 0]]
    claim(
        "FRCNN-24",
        condition=bool((proposals.boxes >= 0).all() and (proposals.boxes <= limit).all()),
        note="all proposals lie in their image, and not in the padding",
    )
    assert (proposals.boxes == limit).any() and proposals.counts.all()


def test_an_object_is_rescued_by_an_anchor_inside():
    anchors = [[-10, 0, 90, 100], [0, 0, 50, 100]]
    assert labelled(anchors, [[0, 0, 90, 100]], inside=True).tolist() == [-1, 1]
    assert labelled(anchors, [[0, 0, 90, 100]]).tolist() == [1, -1]


@pytest.mark.parametrize(("positives", "expected"), [(300, (128, 128)), (50, (50, 206)), (0, (0, 256))])
def test_mini_batches(positives, expected):
    anchors = torch.cat((torch.tensor([[10.0, 10, 60, 60]]).expand(positives, 4),
                         torch.tensor([[100.0, 10, 160, 60]]).expand(900, 4)))  # fmt: skip
    anchors = anchors[torch.randperm(len(anchors), generator=generator())]
    boxes = torch.tensor([[10.0, 10, 60, 60]])[: min(positives, 1)]
    samples = RPN(4, (16,), RPNSettings()).sample(anchors, [boxes], [(200, 200)], generator())
    counts = tuple(int((samples.labels == label).sum()) for label in (1, 0))
    claim("FRCNN-22", condition=counts == expected, note=f"{positives} positives: {expected} drawn")
    assert samples.chosen.unique().numel() == 256


def test_positives_beyond_their_share_are_padding():
    anchors = torch.tensor([[10.0, 10, 60, 60]] * 300 + [[100.0, 10, 160, 60]] * 20)
    samples = RPN(4, (16,), RPNSettings()).sample(anchors, [anchors[:1]], [(200, 200)], generator())
    assert [int((samples.labels == label).sum()) for label in (1, 0, -1)] == [128, 20, 108]
    assert (samples.matched[samples.labels < 1] == -1).all() and not samples.matched[samples.labels == 1].any()


def test_the_same_generator_draws_the_same(device):
    rpn = RPN(8, (8,), SETTINGS)
    anchors = anchor_grid(rpn.cell_anchors[0], (12, 16), 8, device=device)
    boxes = [objects(n, n).float().to(device) for n in (5, 0, 500)]
    first, second, other = (rpn.sample(anchors, boxes, SIZES, generator(s)) for s in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.chosen, other.chosen) and first.chosen.device.type == device.type
    on_cpu = rpn.sample(anchors.cpu(), [b.cpu() for b in boxes], SIZES, generator(3))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(on_cpu, first, strict=True))


def test_losses_by_hand():
    """Two images of one place and three anchors; of the second image one anchor is in no mini-batch."""
    settings = RPNSettings(scales=(32,), samples=4)
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 20], [0, 0, 10, 20]])
    found = Predictions(
        torch.tensor([[2.0, -1, 0.5], [0, 3, 9]]),
        torch.tensor([[[0.5, 0, 0, -2], [7, 7, 7, 7], [1, 1, 1, 1]], [[0, 0, 0, 1], [7, 7, 7, 7], [7, 7, 7, 7]]]),
        anchors,
        (3,),
    )
    samples = AnchorSamples(
        torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.tensor([[1, 0, 1], [1, 0, -1]]),
        torch.tensor([[1, -1, 0], [0, -1, -1]]),
    )  # fmt: skip
    # objects at the offsets (1, 1, 1, 0) of the third anchor and (0, 0, 0, 0) of the first; (0, 0, 0, 1) of the first
    boxes = [
        torch.cat((decode(torch.tensor([[1.0, 1, 1, 0]]), anchors[2:]), anchors[:1])),
        decode(torch.tensor([[0.0, 0, 0, 1]]), anchors[:1]),
    ]
    # -log of sigmoid(2), 1 - sigmoid(-1), sigmoid(0.5); sigmoid(0), 1 - sigmoid(3): the last anchor is padding
    logs = 0.126928 + 0.313262 + 0.474077 + 0.693147 + 3.048587
    off = 0.125 + 1.5 + 0.5
    losses = RPN(4, (16,), settings).losses(found, samples, boxes)
    claim(
        "FRCNN-18", losses["objectness"].item(), logs / 5, tol=1e-5, note="log loss by hand, over the 5 samples drawn"
    )
    claim("FRCNN-18", losses["rpn_box"].item(), off / 5, tol=1e-5, note="box loss by hand, over the 5 samples drawn")
    published = DividedByPlaces(4, (16,), settings).losses(found, samples, boxes)
    claim("FRCNN-18", published["rpn_box"].item(), 10 * off / 2, tol=1e-5, note="as published, over 2 places")
    sharp = RPN(4, (16,), replace(settings, beta=1 / 9)).losses(found, samples, boxes)
    assert sharp["rpn_box"].item() == pytest.approx(((0.5 + 2 + 1) - 3 / 18) / 5, abs=1e-5)


def test_the_published_box_loss_counts_places_of_all_maps():
    settings = replace(SETTINGS, scales=((16, 32), (32, 64)))
    rpn = RPN(8, (8, 16), settings, generator())
    found = rpn([random(2, 8, 4, 6, dtype=torch.float32), random(2, 8, 2, 3, dtype=torch.float32)])
    boxes = [objects(3, size=(32, 48)).float()] * 2
    samples = rpn.sample(found.anchors, boxes, SIZES[:2], generator())
    by_places, by_samples = (
        kind(8, (8, 16), settings).losses(found, samples, boxes)["rpn_box"] for kind in (DividedByPlaces, RPN)
    )
    drawn = (samples.labels >= 0).sum().item()
    assert (by_samples / by_places).item() == pytest.approx(2 * (4 * 6 + 2 * 3) / drawn / 10, rel=1e-5) and drawn < 512


def test_padding_is_in_no_loss():
    rpn = RPN(8, (16,), replace(SETTINGS, inside=True), generator())
    found, boxes = rpn([random(1, 8, 5, 5, dtype=torch.float32)]), [torch.tensor([[4.0, 4, 25, 25]])]
    samples = rpn.sample(found.anchors, boxes, [(80, 80)], generator())
    padding = samples.labels == -1
    assert padding.any() and (samples.labels == 1).any() and (samples.labels == 0).any()
    before = rpn.losses(found, samples, boxes)
    logits, offsets = found.logits.clone(), found.offsets.clone()
    logits[0, samples.chosen[padding]], offsets[0, samples.chosen[padding]] = 50.0, float("nan")
    after = rpn.losses(found._replace(logits=logits, offsets=offsets), samples, boxes)
    assert all(torch.equal(before[name], after[name]) for name in before)
