from dataclasses import replace

import pytest
import torch

from experiments.variants import TwoScores
from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.fast_rcnn import FastRCNNSettings
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNNSettings
from rcnn_tutorial.detectors.rcnn import RCNNSettings
from rcnn_tutorial.detectors.two_stage import TwoStageSettings, draw_samples
from rcnn_tutorial.nets.rpn import RPN, Predictions, RPNHead, RPNSettings
from tests.nets.rpn_peer import ONE, SETTINGS, SIZES, generator, objects, pair, random, random_predictions, set_head


def test_images_of_a_batch_do_not_touch_each_other():
    """Two images with the same boxes, one with few: each as it is alone, and the best of each remain."""
    ours, _ = pair(ONE, replace(SETTINGS, nms_threshold=0.5))
    for mode in (True, False):
        ours.train(mode)
        found = random_predictions(ours, ONE)
        logits, offsets = found.logits.clone(), found.offsets.clone()
        logits[1], offsets[1] = logits[0] - 3, offsets[0]  # same boxes, lower scores
        offsets[2, 20:] = torch.tensor([0.0, 0, -20, -20])
        found = found._replace(logits=logits, offsets=offsets)
        sizes = [SIZES[i] for i in (0, 0, 2)]
        together = ours.propose(found, sizes)
        assert torch.equal(together.boxes[0], together.boxes[1])
        for i, boxes in enumerate(together.unpad()):
            part = found._replace(logits=found.logits[i : i + 1], offsets=found.offsets[i : i + 1])
            assert torch.equal(ours.propose(part, sizes[i : i + 1]).unpad()[0], boxes)
        assert 0 < len(together.unpad()[2]) < len(together.unpad()[0]) == SETTINGS.after_nms[not mode]


@pytest.mark.parametrize("most", [40, 5000])  # all of an image's anchors are looked at, and still none beyond it
def test_padding_of_the_batch_changes_nothing(most):
    """An image's labels and proposals in a batch are those on a map of its own size."""
    ours, _ = pair(ONE, replace(SETTINGS, anchors="exact", before_nms=(2 * most, 2 * most), after_nms=(most, most)))
    found, boxes = random_predictions(ours, ONE), [objects(3, i, (40, 32)) for i in range(3)]
    sizes = [(96, 128), (72, 128), (96, 40)]
    together, state = ours.propose(found, sizes).unpad(), ours.label(found.anchors, boxes, sizes).state
    for i, (height, width) in enumerate((h // 8, w // 8) for h, w in sizes):
        own = torch.zeros(12, 16, 9, dtype=torch.bool)
        own[:height, :width] = True
        own = own.flatten()
        alone = Predictions(
            found.logits[i : i + 1, own], found.offsets[i : i + 1, own], found.anchors[own], (int(own.sum()),)
        )
        assert torch.equal(together[i], ours.propose(alone, sizes[i : i + 1]).unpad()[0]) and len(together[i])
        assert torch.equal(state[i, own], ours.label(alone.anchors, boxes[i : i + 1], sizes[i : i + 1]).state[0])
        assert (state[i, ~own] == -1).all() and (state[i] == 1).any()


def test_nothing_large_enough_is_no_proposal():
    rpn = RPN(8, (16,), replace(SETTINGS, least_side=500.0), generator())
    found = rpn.propose(rpn([random(2, 8, 3, 4, dtype=torch.float32)]), SIZES[:2])
    assert not found.counts.any() and [each.shape for each in found.unpad()] == [(0, 4)] * 2


def test_a_proposal_of_the_least_side_stays():
    rpn = RPN(8, (16,), replace(SETTINGS, scales=(16,), ratios=(1.0,), least_side=16.0)).eval()
    found = rpn([torch.zeros(1, 8, 3, 4)])
    assert rpn.propose(found, [(48, 64)]).counts.tolist() == [2 * 3]  # the others are clipped


def test_gradients_of_proposals_reach_the_offsets_alone():
    rpn = set_head(RPN(8, (16,), SETTINGS, generator()))
    proposals = rpn.propose(rpn([random(2, 8, 6, 8, dtype=torch.float32)]), SIZES[:2])
    (proposals.boxes.sum() + proposals.scores.sum()).backward()
    assert rpn.head.offsets.weight.grad.abs().sum() > 0 and rpn.head.score.weight.grad is None


def test_scores_that_rank():
    features = 2 * torch.randn(2, 200, generator=generator()).abs().view(1, 2, 10, 20)
    heads = TwoScores(2, 1), RPNHead(2, 1)
    for head, outputs in zip(heads, (torch.eye(2), torch.tensor([[0.0, 1]])), strict=True):
        head.conv.weight.data.zero_()
        head.conv.weight.data[range(2), range(2), 1, 1] = 1
        head.score.weight.data = outputs[:, :, None, None]
    two, one = (head.score(head.conv(features).relu())[0].flatten(1) for head in heads)  # background first
    ranked = [head([features])[0][0].argsort() for head in heads]
    probability = two.softmax(dim=0)[1]
    differ = not torch.equal(two[1].argsort(), probability.argsort())
    claim("FRCNN-27", condition=differ, agrees="differs", source="ranked by raw scores",
          note="of two outputs the foreground's raw one orders otherwise than its probability")  # fmt: skip
    same = torch.equal(ranked[0], probability.argsort())
    claim("FRCNN-27", condition=same, agrees="differs", source="ranked by raw scores",
          note="the head ranks by their difference, which orders as the probability does")  # fmt: skip
    single = torch.equal(ranked[1], one[0].sigmoid().argsort()) and torch.equal(ranked[1], one[0].argsort())
    claim("FRCNN-27", condition=single, source="ranked by raw scores",
          note="a raw score that is the only one orders as its probability does")  # fmt: skip
    assert torch.equal(ranked[0], (features[0, 1] - features[0, 0]).flatten().argsort())


@pytest.mark.parametrize("rois", [64, 128, 256])
def test_proposals_for_the_head_are_not_repeated(rois):
    truths = objects(2).float() * 5
    near = (truths.repeat(10, 1) + 20 * torch.rand(20, 4, generator=generator())).clamp(0, 600)
    target = {"boxes": truths, "labels": torch.tensor([1, 2])}
    size, settings = [(600, 1000)], TwoStageSettings(rois=rois, background=(0.0, 0.5))
    few = draw_samples([near], [target], size, settings, generator())
    real = few.boxes[few.labels >= 0]
    once = len(real.unique(dim=0)) == len(real) < rois
    claim("FRCNN-28", condition=once, agrees="differs", source="repeated if there are too few",
          note=f"{rois} wanted of 22 windows: {len(real)} drawn, none of them twice")  # fmt: skip
    many = torch.cat((near, objects(2000, 5, (600, 1000)).float()))
    drawn = draw_samples([many], [target], size, settings, generator())
    claim("FRCNN-28", int((drawn.labels >= 0).sum()), rois, note="drawn of 2,022 windows")
    assert len(drawn.boxes[0].unique(dim=0)) == rois


def test_thresholds_of_nms():
    table = {
        "proposals": RPNSettings().nms_threshold,
        "Faster R-CNN's detections": FasterRCNNSettings().nms_threshold,
        "Fast R-CNN's": FastRCNNSettings().nms_threshold,
        "RetinaNet's": 0.5,  # Lin et al., ICCV 2017: the literature's
    }
    tried = RCNNSettings().nms_thresholds
    told = list(table.values()) == [0.7, 0.3, 0.3, 0.5] and 0.3 in tried and len(tried) > 3
    text = ", ".join(f"{name} {value}" for name, value in table.items())
    claim("X-03", condition=told, note=f"{text}; R-CNN's is picked on validation from {tried[0]} to {tried[-1]}")

    kept = {}
    for threshold in (0.0, 0.3, 0.5, 0.7, 0.9, 1.0):
        ours, _ = pair(ONE, replace(SETTINGS, nms_threshold=threshold, after_nms=(5000, 5000)))
        kept[threshold] = ours.propose(random_predictions(ours, ONE), SIZES).counts.sum().item()
    counts = list(kept.values())
    rising = counts == sorted(counts) and len(set(counts)) == len(counts)
    claim("X-03", condition=rising, note=f"boxes left by threshold: {kept}")


def test_anchors_on_the_padding_neither_propose_nor_train():
    rpn = RPN(8, (16,), replace(SETTINGS, anchors="exact"), generator()).eval()
    small = random(1, 8, 3, 4, seed=1).float()
    both = torch.cat((torch.nn.functional.pad(small, (0, 8, 0, 5)), random(1, 8, 8, 12, seed=2).float()))
    alone = rpn([small])
    sizes = [(48, 64), (128, 192)]
    said = rpn([both])
    mine = (said.anchors[:, :2] + said.anchors[:, 2:] < 2 * torch.tensor([64, 48])).all(dim=1)
    said.logits[0, mine] = alone.logits[0]  # the convolution looks one cell into the padding
    said.offsets[0, mine] = alone.offsets[0]
    said.logits[0, ~mine] = 30.0
    in_batch, by_itself = rpn.propose(said, sizes).unpad()[0], rpn.propose(alone, sizes[:1]).unpad()[0]
    assert len(by_itself) > 5 and torch.equal(in_batch, by_itself)
    truth = torch.tensor([[20.0, 10, 60, 40]])
    state = rpn.label(said.anchors, [truth, truth], sizes).state
    assert (state[0, ~mine] == -1).all() and (state[0, mine] != -1).any() and (state[1] == 0).any()
    theirs = RPN(8, (16,), SETTINGS, generator()).eval()
    assert not torch.equal(theirs.propose(said, sizes).unpad()[0], by_itself)
    assert (theirs.label(said.anchors, [truth, truth], sizes).state[0, ~mine] == 0).any()
