import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.ops.assign import BACKGROUND, FOREGROUND, UNUSED, match, sample
from rcnn_tutorial.ops.boxes import box_iou
from tests.strategies import boxes

RULES = {
    "fine-tuning": (0.5, (0.0, 0.5)),
    "SVM": (1.0, (0.0, 0.3)),
    "Fast": (0.5, (0.1, 0.5)),
    "RPN": (0.7, (0.0, 0.3)),
}


def states(iou, foreground, background, **kwargs):
    return match(torch.tensor(iou), foreground, background, **kwargs).state.tolist()


def test_bounds_belong_to_the_upper_interval(device):
    iou = torch.tensor([[0.09], [0.1], [0.49], [0.5], [0.51]], device=device)
    matches = match(iou, 0.5, (0.1, 0.5))
    assert matches.state.tolist() == [UNUSED, BACKGROUND, BACKGROUND, FOREGROUND, FOREGROUND]
    assert matches.truth.device.type == device.type


def test_an_iou_at_the_upper_bound_of_the_background_is_unused():
    assert states([[0.2], [0.25], [0.3]], 0.5, (0.0, 0.25)) == [BACKGROUND, UNUSED, UNUSED]


def test_the_object_of_highest_iou_wins():
    matches = match(torch.tensor([[0.6, 0.7], [0.8, 0.55]]), 0.5, (0.0, 0.5))
    assert matches.truth.tolist() == [1, 0]


def test_rules_of_fine_tuning_and_svm():
    iou = [[0.2], [0.35], [0.45], [0.5], [0.8], [1.0]]
    assert states(iou, *RULES["fine-tuning"]) == [0, 0, 0, 1, 1, 1]
    assert states(iou, *RULES["SVM"]) == [0, -1, -1, -1, -1, 1]


def test_rescue_by_hand():
    # Exercise 04-C: objects in rows there, in columns here
    iou = torch.tensor(
        [
            [0.75, 0.45, 0.20, 0.10, 0.05, 0.72, 0.10],
            [0.10, 0.30, 0.10, 0.45, 0.45, 0.05, 0],
            [0, 0.10, 0.25, 0.05, 0, 0, 0.10],
        ]
    ).t()
    rescued = match(iou, 0.7, (0.0, 0.3), allow_low_quality=True)
    assert rescued.state.tolist() == [1, -1, 1, 1, 1, 1, 0]
    assert match(iou, 0.7, (0.0, 0.3)).state.tolist() == [1, -1, 0, -1, -1, 1, 0]


def test_a_rescued_box_keeps_its_own_best_object():
    iou = torch.tensor([[0.6, 0.5], [0.65, 0.1]])  # box 0 is the best of object 1, but overlaps object 0 more
    rescued = match(iou, 0.7, (0.0, 0.3), allow_low_quality=True)
    assert rescued.state.tolist() == [1, 1] and rescued.truth.tolist() == [0, 0]


def test_an_object_that_nothing_overlaps_rescues_nothing():
    assert states([[0.0, 0.2], [0.0, 0.1]], 0.7, (0.0, 0.3), allow_low_quality=True) == [1, 0]


@given(boxes(1, 30), boxes(1, 6, area=True), st.sampled_from(list(RULES)), st.booleans())
def test_equals_torchvision(a, truths, rule, rescue):
    foreground, (low, high) = RULES[rule]
    iou = box_iou(a, truths)
    iou = iou + 1e-6  # torchvision lets an object that nothing overlaps rescue every box
    theirs = Matcher(foreground, high, allow_low_quality_matches=rescue)(iou.t().clone())
    mine = match(iou, foreground, (0.0, high), rescue)
    expected = torch.where(theirs >= 0, 1, torch.where(theirs == Matcher.BELOW_LOW_THRESHOLD, 0, -1))
    assert torch.equal(mine.state, expected)
    assert torch.equal(mine.truth[theirs >= 0], theirs[theirs >= 0])
    with_floor = match(iou, foreground, (low, high), rescue).state
    assert torch.equal(with_floor == BACKGROUND, (expected == 0) & (iou.max(1).values >= low))


def test_batches_with_padded_objects_equal_single_images():
    g = torch.Generator().manual_seed(0)
    iou = torch.rand(3, 20, 4, generator=g)
    counts = [4, 2, 0]
    for i, count in enumerate(counts):
        iou[i, :, count:] = -1
    together = match(iou, 0.7, (0.0, 0.3), allow_low_quality=True)
    for i, count in enumerate(counts):
        alone = match(iou[i, :, :count], 0.7, (0.0, 0.3), allow_low_quality=True)
        assert torch.equal(together.state[i], alone.state)
        assert torch.equal(together.truth[i][alone.state == 1], alone.truth[alone.state == 1])


def test_no_object_and_no_box():
    assert states([[], []], 0.5, (0.0, 0.5), allow_low_quality=True) == [0, 0]
    assert states([[], []], 0.5, (0.1, 0.5)) == [-1, -1]
    assert match(torch.zeros(0, 3), 0.5, (0.0, 0.5), allow_low_quality=True).state.shape == (0,)
    assert match(torch.zeros(0, 0), 0.5, (0.0, 0.5), allow_low_quality=True).state.shape == (0,)


@pytest.mark.parametrize(
    ("iou", "background"),
    [(torch.zeros(3), (0.0, 0.5)), (torch.zeros(3, 2), (0.0, 0.6)), (torch.zeros(3, 2), (0.5, 0.4))],
)
def test_bad_input_is_named(iou, background):
    with pytest.raises(ValueError, match="expected"):
        match(iou, 0.5, background)


def sampled(*args):
    """A mask of the boxes that `sample` draws."""
    index, drawn = sample(*args)
    assert (drawn.int().diff(dim=-1) <= 0).all() and index.shape[-1] == min(args[1], args[0].shape[-1])  # drawn first
    ascending = index.diff(dim=-1)[drawn[..., 1:]]
    assert (ascending > 0).all()
    return torch.zeros_like(args[0], dtype=torch.bool).scatter(-1, index, drawn)


def drawn(positives, negatives, size, share, seed=0):
    state = torch.tensor([FOREGROUND] * positives + [BACKGROUND] * negatives + [UNUSED] * 10)
    state = state[torch.randperm(len(state), generator=torch.Generator().manual_seed(99))]
    chosen = sampled(state, size, share, torch.Generator().manual_seed(seed))
    assert not (chosen & (state == UNUSED)).any()
    return (chosen & (state == FOREGROUND)).sum().item(), (chosen & (state == BACKGROUND)).sum().item(), chosen


@pytest.mark.parametrize(
    ("positives", "negatives", "size", "share", "expected"),
    [
        (300, 900, 256, 0.5, (128, 128)),
        (50, 900, 256, 0.5, (50, 206)),
        (0, 900, 256, 0.5, (0, 256)),
        (300, 900, 128, 0.25, (32, 96)),
        (300, 20, 128, 0.25, (32, 20)),
        (3, 4, 256, 0.5, (3, 4)),
        (0, 0, 256, 0.5, (0, 0)),
    ],
)
def test_counts(positives, negatives, size, share, expected):
    assert drawn(positives, negatives, size, share)[:2] == expected


@pytest.mark.parametrize(("size", "share"), [(256, 0.5), (7, 0.25), (10, 0.37), (90, 0.75), (30, 0.999)])
@pytest.mark.parametrize(("positives", "negatives"), [(300, 900), (2, 900), (300, 3), (300, 0)])
def test_counts_equal_torchvision(positives, negatives, size, share):
    """Where the share is no whole number of boxes both round it down."""
    labels = torch.tensor([1] * positives + [0] * negatives + [-1] * 10)
    theirs = [int(mask[0].sum()) for mask in BalancedPositiveNegativeSampler(size, share)([labels])]
    assert list(drawn(positives, negatives, size, share)[:2]) == theirs


def test_draws_follow_the_generator():
    first, second, other = (drawn(300, 900, 256, 0.5, seed)[2] for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_every_box_has_the_same_chance(device):
    state = torch.tensor([FOREGROUND] * 8 + [BACKGROUND] * 24, device=device).expand(4000, 32)
    chosen = sampled(state, 8, 0.5, torch.Generator().manual_seed(0)).float().mean(dim=0)
    assert chosen.device.type == device.type
    assert (chosen[:8] - 4 / 8).abs().max() < 0.04 and (chosen[8:] - 4 / 24).abs().max() < 0.04


def test_rows_are_drawn_on_their_own():
    state = torch.tensor([[FOREGROUND] * 5 + [BACKGROUND] * 5, [BACKGROUND] * 10, [UNUSED] * 10])
    chosen = sampled(state, 4, 0.5, torch.Generator().manual_seed(0))
    assert chosen.sum(dim=1).tolist() == [4, 4, 0] and chosen[0, :5].sum() == 2


@pytest.mark.parametrize(("size", "share"), [(-1, 0.5), (4, 1.5)])
def test_impossible_samples_are_refused(size, share):
    with pytest.raises(ValueError, match="size, share"):
        sample(torch.zeros(4, dtype=torch.int64), size, share)


def crowd():
    g = torch.Generator().manual_seed(0)
    truths = torch.tensor([[40, 40, 120, 100], [150, 60, 240, 180.0]])
    near = truths.repeat(150, 1)
    near = near + (torch.rand(near.shape, generator=g) - 0.5) * 90
    near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2] + 4)
    corner = torch.rand(700, 2, generator=g) * 200
    return torch.cat((truths, near, torch.cat((corner, corner + 20 + 60 * torch.rand(700, 2, generator=g)), 1))), truths


def test_one_matcher_labels_the_same_boxes_for_every_system():
    windows, truths = crowd()
    iou = box_iou(windows, truths)
    best = iou.amax(dim=1).tolist()
    table = {}
    for system, (foreground, (low, high)) in {**RULES, "RetinaNet": (0.5, (0.0, 0.4))}.items():
        state = match(iou, foreground, (low, high)).state.tolist()
        table[system] = (state.count(FOREGROUND), state.count(BACKGROUND), state.count(UNUSED))
        counted = (sum(b >= foreground for b in best), sum(low <= b < high for b in best))
        assert table[system][:2] == counted and sum(table[system]) == len(windows)
    text = ", ".join(f"{system} {'/'.join(map(str, counts))}" for system, counts in table.items())
    claim("X-05", condition=len(set(table.values())) == 5, note=f"foreground/background/unused: {text}")


def test_positive_share_of_the_mini_batches():
    windows, truths = crowd()
    iou, shares, positives = box_iou(windows, truths), {}, {}
    for system, size, most in (("fine-tuning", 128, 0.25), ("Fast", 64, 0.25), ("RPN", 256, 0.5)):
        state = match(iou, *RULES[system], allow_low_quality=system == "RPN").state
        drawn = sampled(state, size, most, torch.Generator().manual_seed(0))
        positive = int((state[drawn] == FOREGROUND).sum())
        natural = (state == FOREGROUND).sum().item() / (state != UNUSED).sum().item()
        assert positive == min(int(size * most), int((state == FOREGROUND).sum())) and drawn.sum() == size
        positives[system] = positive / size
        shares[system] = f"{system} {positive / size:.3f}, of all {natural:.3f}"
    told = positives["fine-tuning"] == positives["Fast"] == 0.25 and 0 < positives["RPN"] <= 0.5
    claim("X-06", condition=told, note="; ".join(shares.values()))
