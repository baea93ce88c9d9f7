import pytest
import torch

from rcnn_tutorial.cache import FeatureCache
from rcnn_tutorial.course import rcnn_steps, records
from rcnn_tutorial.detectors.rcnn_windows import Windows
from rcnn_tutorial.detectors.svm import Pass
from rcnn_tutorial.ops.boxes import decode
from rcnn_tutorial.proposals.selective_search import selective_search


def test_five_regions_fit_together():
    picture, labels, regions, pairs = rcnn_steps.five_regions()
    assert picture.shape == (3, 6, 8) and labels.shape == (6, 8)
    assert {letter: int(region.size) for letter, region in regions.items()} == dict(A=16, B=12, C=8, D=9, E=3)
    assert regions["D"].box.tolist() == [4, 3, 8, 6] and pairs[0] == ("A", "B") and pairs[-1] == ("D", "E")
    assert (picture[:, labels == 3] == picture[:, 3, 4][:, None]).all()
    shared = torch.minimum(regions["D"].colour, regions["E"].colour).sum()
    assert shared.item() == pytest.approx(2 / 3)


def test_moments_have_as_many_regions_as_they_say():
    image = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))
    moments = rcnn_steps.moments(image, (1000, 3, 1))
    assert [count for _, count in moments][1:] == [3, 1] and moments[0][1] > 3
    assert [len(labels.unique()) for labels, _ in moments] == [count for _, count in moments]


def test_splits_come_with_proposals(tmp_path):
    few, two = rcnn_steps.splits_with_proposals("shapes", FeatureCache(tmp_path), train=1, test=2)
    assert (len(few), len(two)) == (1, 2) and few.classes[0] == "background"
    image, target = two[1]
    assert torch.equal(target["proposals"], selective_search(image, top=200))


def test_three_proposers_are_compared_on_the_same_pictures():
    image = torch.zeros(3, 60, 80)
    image[0, 20:40, 30:60] = 1
    target = {"boxes": torch.tensor([[30, 20, 60, 40.0]]), "labels": torch.tensor([1])}
    recalls, mean = rcnn_steps.compare_proposers([image, image], [target, target], (10, 50))
    assert list(recalls) == ["selective search", "random boxes", "sliding windows"] and mean >= 1
    assert all(recall.shape == (2, 2) for recall in recalls.values())
    assert recalls["selective search"].tolist() == [[1, 1], [1, 1]]
    assert recalls["random boxes"][0, 1] < 1


def test_proposers_are_compared_on_large_pictures_too(monkeypatch):
    box = torch.tensor([[0, 0, 240, 240.0]])
    monkeypatch.setattr(rcnn_steps, "selective_search", lambda picture: box)  # which takes seconds
    target = {"boxes": box, "labels": torch.tensor([1])}
    recalls, _ = rcnn_steps.compare_proposers([torch.zeros(3, 480, 640)], [target], (20, 50))
    assert recalls["sliding windows"].shape == (2, 2)


class Shifts:
    """Moves every window by (0.1, 0) of its sides if the class is 1, by (0.2, 0) if it is 2."""

    def refine(self, pool5, boxes):
        offsets = torch.tensor([[0.1, 0, 0, 0], [0.2, 0, 0, 0]])
        return decode(offsets[None].expand(len(boxes), 2, 4), boxes[:, None])


def test_windows_near_an_object_are_moved_by_its_class():
    truths = torch.tensor([[10, 0, 20, 10], [50, 0, 60, 10.0]])
    proposals = torch.tensor([[9, 0, 19, 10], [0, 50, 10, 60], [48, 0, 58, 10], [40, 0, 50, 10.0]])
    boxes = torch.cat((truths, proposals))
    item = Windows(boxes, truths, torch.tensor([1, 2]), torch.zeros(6, 3), torch.zeros(6, 3), (80, 80))
    raw, moved, before, after = rcnn_steps.refined_near(Shifts(), item)
    assert raw.tolist() == proposals[[0, 2]].tolist()
    assert moved.tolist() == [[10, 0, 20, 10], [50, 0, 60, 10]]
    assert before.tolist() == pytest.approx([9 / 11, 8 / 12]) and after.tolist() == [1, 1]
    nothing = item._replace(truths=truths[:0], labels=torch.tensor([], dtype=torch.int64))
    assert [len(part) for part in rcnn_steps.refined_near(Shifts(), nothing)] == [0, 0, 0, 0]


def test_as_many_detections_as_objects_the_best_ones():
    answer = {
        "boxes": torch.arange(12.0).view(3, 4),
        "labels": torch.tensor([1, 2, 3]),
        "scores": torch.tensor([-1, 2, 0.5]),
    }
    target = {"boxes": torch.zeros(2, 4)}
    (kept,) = rcnn_steps.best_of_each([answer], [target])
    assert kept["labels"].tolist() == [2, 3] and kept["boxes"].tolist() == answer["boxes"][1:].tolist()
    (few,) = rcnn_steps.best_of_each([kept], [{"boxes": torch.zeros(5, 4)}])
    assert len(few["scores"]) == 2


def test_kinds_are_means_over_the_trainings():
    record = records.load("rcnn_parts")
    kinds = rcnn_steps.mean_kinds(record, ["CNN", "+ regression"])
    runs = [run["variants"]["CNN"]["kinds"] for run in record["runs"].values()]
    assert kinds["CNN"]["place"] == round(sum(run["place"] for run in runs) / len(runs))
    assert list(kinds) == ["CNN", "+ regression"] and list(kinds["CNN"]) == [
        "correct",
        "class",
        "place",
        "duplicate",
        "background",
    ]


def test_the_share_of_hard_negatives_that_frame_an_object():
    truths = torch.tensor([[0, 0, 10, 10.0]])
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 40.0]])
    item = Windows(boxes, truths, torch.tensor([1]), torch.zeros(3, 3), torch.zeros(3, 3), (80, 80))
    empty = item._replace(truths=truths[:0], labels=torch.tensor([], dtype=torch.int64))
    report = Pass(
        image=torch.tensor([0, 0, 1, 0]), window=torch.tensor([2, 1, 0, 2]), label=torch.tensor([1, 2, 1, 2]),
        score=torch.tensor([-0.5, 2, 1, 0.0]), cached=torch.tensor([1, 1]),
    )  # fmt: skip
    rows, share, count = rcnn_steps.hardest_negatives(report, [item, empty], 3)
    assert rows == {"another\nclass": [1], "no object": [2, 3]} and share == pytest.approx(1 / 3) and count == 3
    rows, share, count = rcnn_steps.hardest_negatives(report, [item, empty])
    assert rows["no object"] == [2, 3] and share == 1 / 4 and count == 4  # of a picture the hardest alone


def test_pairs_of_a_merged_region_are_named_anew():
    pairs = [("A", "B"), ("A", "C"), ("C", "D"), ("D", "E")]
    assert rcnn_steps.joined(pairs, "D", "E") == [("A", "B"), ("A", "C"), ("C", "DE")]


def test_the_package_merges_the_five_regions():
    picture, labels, _, _ = rcnn_steps.five_regions()
    told = rcnn_steps.similarities_of_merges(picture, labels)
    assert told == pytest.approx([2 / 3 + 0.75 + 1, 2 / 3 + 0.5 + 1, 1.75, 1.49], abs=0.005)


def test_a_bar_and_a_square_carry_one_pattern():
    picture, boxes = rcnn_steps.bar_and_square()
    (a, b), areas = boxes, (boxes[:, 2:] - boxes[:, :2]).tolist()
    assert areas == [[160, 60], [90, 90]]
    for x1, y1, x2, y2 in (a.int().tolist(), b.int().tolist()):
        part = picture[:, y1:y2, x1:x2]
        assert part[0].min() == 1 and part[1, 0, 0] == 1 == part[1, -1, -1] and part[1, 0, -1] == 0
    assert picture.sum() == picture[0].sum() * 1.5


def test_negatives_are_named_by_what_they_frame():
    truths = torch.tensor([[0, 0, 10, 10.0]])
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 40.0]])
    item = Windows(boxes, truths, torch.tensor([2]), torch.zeros(3, 3), torch.zeros(3, 3), (80, 80))
    classes = ("background", "disc", "ring")
    assert [rcnn_steps.what_it_frames(item, i, classes) for i in (1, 2)] == ["ring", "no object"]


def test_pictures_with_few_objects_come_first():
    targets = [{"boxes": torch.zeros(n, 4)} for n in (9, 3, 1, 4)]
    assert rcnn_steps.few_objects(targets) == [1, 3] and rcnn_steps.few_objects(targets, 3) == [1, 3, 0]


def test_differences_of_the_parts_are_those_of_the_records():
    told = rcnn_steps.part_differences()
    d = records.difference(records.load("rcnn_parts"), "+ mining", "CNN", "AP50")
    assert f"AP50 + mining     minus CNN      {d.mean:+.3f}, 95 %: {d.interval[0]:+.3f} to {d.interval[1]:+.3f}" in told
    assert len(told) == 9 and "+0.026 to +0.065" in told[-1]


def test_before_and_after_show_the_best_of_two_pictures(tmp_path):
    (test,) = rcnn_steps.splits_with_proposals("shapes", FeatureCache(tmp_path), test=4)
    measure = rcnn_steps.Measure(rcnn_steps.new_model(test.classes, 1), test, FeatureCache(tmp_path)).first(3)
    assert len(measure.test) == len(measure.truths) == 3
    before = measure.detect(scores="softmax", regression="none")
    images, targets, first, last = rcnn_steps.before_and_after(measure, before)
    chosen = rcnn_steps.few_objects(measure.truths)
    assert all(torch.equal(image, test[i][0]) for image, i in zip(images, chosen, strict=True))
    assert [len(t["boxes"]) for t in targets] == [len(d["boxes"]) for d in first] == [len(d["boxes"]) for d in last]
    assert all(d["scores"].max() == before[i]["scores"].max() for d, i in zip(first, chosen, strict=True))


def test_the_window_that_gains_most():
    nothing = torch.zeros(0)
    moved = [
        (None, None, nothing, nothing),
        (None, None, torch.tensor([0.5, 0.6]), torch.tensor([0.6, 0.5])),
        (None, None, torch.tensor([0.7, 0.5, 0.9]), torch.tensor([0.8, 0.9, 0.9])),
    ]
    assert rcnn_steps.largest_gain(moved) == (2, 1)


def test_recorded_trainings_are_told_with_their_spread():
    assert rcnn_steps.recorded("CNN") == (
        "4 recorded trainings, 150 scenes and 250 steps: AP50 0.47 ± 0.02, AP75 0.25 ± 0.01"
    )
    assert records.load("rcnn_parts")["settings"] == {"train": 150, "test": 150, "proposals": 200, "steps": 250}


def test_of_two_objects_that_overlap_few_stay_at_a_low_threshold():
    truths = torch.tensor([[10, 10, 50, 50], [20, 10, 60, 50], [100, 10, 120, 30.0]])
    target = {"boxes": truths, "labels": torch.tensor([1, 1, 1])}

    class Scorer:
        """Its scores and boxes are what the pictures' windows would give."""

        def score(self, image, proposals):
            return truths, None

        def select(self, boxes, _, size, nms_threshold):
            count = 1 if nms_threshold < 0.5 else 2
            kept = torch.cat((boxes[:count], boxes[2:]))
            return {"boxes": kept, "labels": torch.ones(len(kept)), "scores": torch.ones(len(kept))}

    pair, stay = rcnn_steps.pair_by_threshold(Scorer(), torch.zeros(3, 60, 120), target, (0.1, 0.7))
    assert pair.tolist() == truths[:2].tolist()
    assert stay[0.1]["boxes"].tolist() == truths[:1].tolist() and stay[0.7]["boxes"].tolist() == truths[:2].tolist()
    assert stay[0.7]["iou"].tolist() == [1, 1]
