"""Right answers pass; each wrong answer gets its own hint and no other."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.poolers import LevelMapper

from rcnn_tutorial.course.exercises import check, e05, e05_maps
from rcnn_tutorial.course.exercises.e05 import EXERCISES
from rcnn_tutorial.nets.fpn import roi_levels
from tests.course.exercises.judging import hints, judging, nudged, with_

(LEVEL,) = EXERCISES["05-1"]
(MERGE,) = EXERCISES["05-2"]
(NUMBER,) = EXERCISES["05-3"]
(POOL,) = EXERCISES["05-4"]
(ORDER,) = EXERCISES["05-5"]
(FIND,) = EXERCISES["05-6"]

BEST_FIRST = ("top-down", "finest", "single", "hierarchy", "no laterals")
SMALL = {name: (0.3 - 0.05 * i, 0.31 - 0.05 * i, 0.305 - 0.05 * i) for i, name in enumerate(BEST_FIRST)}


def record_of(values):
    seeds = zip(*values.values(), strict=True)
    metrics = [{name: {"AP_small_third": v} for name, v in zip(values, each, strict=True)} for each in seeds]
    return {"runs": {str(seed): {"variants": each} for seed, each in enumerate(metrics)}}


@pytest.fixture(autouse=True)
def record(monkeypatch):
    """A record made up of these values, in place of the one that is shipped."""
    values = SMALL | {"images": (0.4, 0.4, 0.4)}
    monkeypatch.setattr(e05.records, "load", lambda name: {"fpn_07": record_of(values)}[name])
    return values


def level(width, height, side=lambda w, h: (w * h) ** 0.5, log=math.log2, cut=math.floor, low=2, high=5, s0=224):
    k = cut(4 + log(side(width, height) / s0))
    if low is not None and k < low:
        return low
    return high if high is not None and k > high else k


def level_of_torchvision(width, height):
    return LevelMapper(2, 5)([torch.tensor([[0, 0, width, height]])])[0] + 2


def repeat(map, size):
    return map.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., : size[0], : size[1]]


def resize(map, size, mode="nearest", **options):
    return F.interpolate(map, size=tuple(size), mode=mode, **options)


def twice(map, size):
    return F.interpolate(map, scale_factor=2.0)


def merge(maps, smooth, up=resize, down="sum", order="finest first", returned="smoothed"):
    sums = [maps[-1]]  # the coarsest first
    for i, map in enumerate(maps[-2::-1]):
        above = {"sum": sums[-1], "smoothed": smooth(sums[-1]), "given": maps[-1 - i]}.get(down)
        sums.append(map + up(above, map.shape[-2:]) if down != "none" else map)
    out = [smooth(each) for each in sums] if returned == "smoothed" else sums
    return out[::-1] if order == "finest first" else out


def merge_smoothed_once_more(maps, smooth):
    """The list is written over while it is read."""
    out = [smooth(maps[-1])]
    for map in maps[-2::-1]:
        out.insert(0, smooth(map + resize(out[0], map.shape[-2:])))
    return out


def merge_in_place(maps, smooth):
    for i in range(len(maps) - 2, -1, -1):
        maps[i] += resize(maps[i + 1], maps[i].shape[-2:])
    return tuple(map(smooth, maps))


def merge_of_torchvision(maps, smooth):
    """Laterals that change nothing, and for the 3 x 3 convolutions the mean that `smooth` takes."""
    channels = maps[0].shape[1]
    fpn = FeaturePyramidNetwork([channels] * len(maps), channels)
    with torch.no_grad():
        for blocks, value in ((fpn.inner_blocks, 1), (fpn.layer_blocks, 1 / 9)):
            for (conv,) in blocks:
                conv.weight.copy_(value * torch.eye(channels)[..., None, None].expand_as(conv.weight))
                conv.bias.zero_()
        return list(fpn({str(i): map for i, map in enumerate(maps)}).values())


def by_mask(rois, levels, pool, which=lambda levels: levels.unique().tolist()):
    out = torch.zeros(len(rois), 2, 2)
    for level in which(levels):
        out[levels == level] = pool(level, rois[levels == level])
    return out


def by_sorting(rois, levels, pool, back=torch.argsort):
    order = levels.argsort(stable=True)
    pooled = torch.cat([pool(level, rois[levels == level]) for level in levels.unique()])
    return pooled[back(order)]


def joined(rois, levels, pool, which=lambda levels: levels.unique().tolist()):
    return torch.cat([pool(level, rois[levels == level]) for level in which(levels)])


def all_levels(levels):
    return range(2, 6)


def exchanged(*places):
    """The right order of the designs, with neighbours exchanged, one pair after the other."""
    names = list(BEST_FIRST)
    for i in places:
        names[i : i + 2] = names[i + 1], names[i]
    return names


FAULTS = e05.FAULTS

RIGHT = [
    (LEVEL, level),
    (LEVEL, level_of_torchvision),
    (LEVEL, lambda w, h: roi_levels(torch.tensor([0, 0, w, h]), 2, 5)),
    (LEVEL, lambda w, h: torch.tensor(math.sqrt(w * h) / 224).log2().add(4).floor().clamp(2, 5)),
    (LEVEL, with_(level, cut=int)),
    (MERGE, merge),
    (MERGE, with_(merge, up=repeat)),
    (MERGE, merge_in_place),
    (MERGE, merge_of_torchvision),
    (NUMBER, 12_276),
    (NUMBER, 3 * sum(256 // s * (192 // s) for s in (4, 8, 16, 32, 64))),
    (POOL, by_mask),
    (POOL, by_sorting),
    (POOL, lambda rois, levels, pool: torch.cat([pool(k, rois[i : i + 1]) for i, k in enumerate(levels)])),
    (ORDER, BEST_FIRST),
    (ORDER, list(BEST_FIRST)),
    (FIND, FAULTS),
    (FIND, list(FAULTS)),
]

WRONG = [
    (LEVEL, with_(level, cut=round), "160 x 160"),
    (LEVEL, with_(level, cut=lambda v: int(v + 0.5)), "160 x 160"),
    (LEVEL, with_(level, cut=math.ceil), "160 x 160"),
    (LEVEL, with_(level, log=math.log), "448 x 448"),
    (LEVEL, with_(level, log=math.log10), "448 x 448"),
    (LEVEL, with_(level, s0=112), "112 x 112 is read from level 4"),
    (LEVEL, with_(level, side=lambda w, h: w * h), "Nearly all"),
    (LEVEL, with_(level, side=lambda w, h: w * h / 224), "two levels lower"),
    (LEVEL, with_(level, low=None, high=None), "below 2 or above 5"),
    (LEVEL, with_(level, low=None), "below 2 or above 5"),
    (LEVEL, with_(level, high=None), "below 2 or above 5"),
    (MERGE, with_(merge, up=with_(resize, mode="bilinear")), "soft"),
    (MERGE, with_(merge, up=with_(resize, mode="bilinear", align_corners=True)), "soft"),
    (MERGE, with_(merge, up=with_(resize, mode="bicubic")), "soft"),
    (MERGE, lambda maps, smooth: merge(maps, smooth, lambda m, size: F.interpolate(m, None, 2, "bilinear")), "soft"),
    (MERGE, with_(merge, down="smoothed"), "smoother than"),
    (MERGE, merge_smoothed_once_more, "smoother than"),
    (MERGE, with_(merge, down="none"), "no finer one"),
    (MERGE, lambda maps, smooth: maps, "no finer one"),
    (MERGE, with_(merge, down="given"), "none after it"),
    (MERGE, with_(merge, up=twice), "75 rows"),
    (MERGE, with_(merge, up=lambda m, size: m.repeat_interleave(2, -2).repeat_interleave(2, -1)), "75 rows"),
    (NUMBER, 61_380, "15 anchors"),
    (NUMBER, 9216, "finest level"),
    *((NUMBER, 12_276 - 3 * 256 // s * (192 // s), "missing") for s in (4, 8, 16, 32, 64)),
    (NUMBER, 4092, "number of places"),
    (POOL, joined, "where they belong"),
    (POOL, with_(joined, which=all_levels), "where they belong"),
    (POOL, with_(by_sorting, back=lambda order: order), "where they belong"),
    (POOL, with_(by_mask, which=all_levels), "no RoI"),
    (ORDER, exchanged(1), ": 9 of 10"),
    (ORDER, exchanged(0, 2), ": 8 of 10"),
    (ORDER, exchanged(0, 1, 3), ": 7 of 10"),
    (ORDER, exchanged(0, 1, 2, 3), ": 6 of 10"),
    (ORDER, exchanged(0, 1, 2, 3, 0), ": 5 of 10"),
    (ORDER, exchanged(0, 1, 2, 3, 0, 1), ": 4 of 10"),
    (ORDER, exchanged(0, 1, 2, 3, 0, 1, 2), ": 3 of 10"),
    (ORDER, exchanged(0, 1, 2, 3, 0, 1, 2, 0), ": 2 of 10"),
    (ORDER, exchanged(0, 1, 2, 3, 0, 1, 2, 0, 1), ": 1 of 10"),
    (ORDER, BEST_FIRST[::-1], ": 0 of 10"),
    (FIND, ("no lateral", "wrong level rule", "no top-down"), "the other two"),
    (FIND, ("wrong level rule", "no top-down", "no lateral"), "another one"),
    (FIND, ("no top-down", "no lateral", "wrong level rule"), "another one"),
]

OTHER = [
    (LEVEL, lambda width, height: 4),
    (LEVEL, with_(level, side=lambda w, h: w)),
    (LEVEL, with_(level, s0=56)),
    (LEVEL, with_(level, cut=lambda k: k)),
    (MERGE, with_(merge, order="coarsest first")),
    (MERGE, with_(merge, returned="sums")),
    (MERGE, lambda maps, smooth: [map.flatten() for map in merge(maps, smooth)]),
    (MERGE, with_(merge, up=with_(resize, mode="nearest-exact"))),
    (NUMBER, 12_000),
    (POOL, lambda rois, levels, pool: pool(2, rois)),
    (POOL, lambda rois, levels, pool: by_mask(rois, levels, pool)[0]),
    (POOL, lambda rois, levels, pool: rois.sum()),
    (POOL, lambda rois, levels, pool: by_mask(rois, levels, pool) * (len(levels.unique()) < 4)),
    (POOL, lambda rois, levels, pool: by_mask(rois, levels, pool) if len(levels.unique()) > 3 else torch.zeros(0)),
]

TWICE = [
    ("05-1", (with_(level, cut=round),)),
    ("05-2", (with_(merge, up=twice),)),
    ("05-3", (61_380,)),
    ("05-4", (joined,)),
    ("05-5", (exchanged(1),)),
    ("05-6", (("no lateral", "wrong level rule", "no top-down"),)),
]

CAUSES = [
    (LEVEL, "160 x 160", "floor, and not round"),
    (LEVEL, "448 x 448", "base 2"),
    (LEVEL, "112 x 112 is read from level 4", "small pictures of the notebook"),
    (LEVEL, "Nearly all", "divided by 224 pixels"),
    (LEVEL, "two levels lower", "quarter of the area"),
    (LEVEL, "below 2 or above 5", "smaller ones go to P2"),
    (MERGE, "soft", "mode nearest"),
    (MERGE, "smoother than", "the sum as it is"),
    (MERGE, "no finer one", "top-down path is missing"),
    (MERGE, "none after it", "the map that was given"),
    (MERGE, "75 rows", "Twice 38"),
    (NUMBER, "15 anchors", "five scales lie on five levels"),
    (NUMBER, "finest level", "the coarse ones too"),
    (NUMBER, "missing", "P6"),
    (NUMBER, "number of places", "Each place has 3"),
    (POOL, "where they belong", "in the order of the levels"),
    (POOL, "no RoI", "levels that occur"),
    *((ORDER, f": {pairs} of 10", "two designs at a time") for pairs in range(10)),
    (FIND, "the other two", "sharp without meaning"),
    (FIND, "another one", "large objects suffer"),
]

NEARLY = [
    (LEVEL, nudged(level)),
    (MERGE, nudged(merge)),
    (NUMBER, 12_277),
    (POOL, nudged(by_mask)),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


def test_levels_of_the_question():
    rules = {"right": {}, "round": {"cut": round}, "natural": {"log": math.log}, "area": {"side": lambda w, h: w * h}}
    found = {name: [level(*size, **rule) for size in e05._GIVEN] for name, rule in rules.items()}
    assert found == {
        "right": [4, 3, 3, 2, 5, 5],
        "round": [4, 4, 4, 2, 5, 5],
        "natural": [4, 3, 3, 2, 4, 5],
        "area": [5, 5, 5, 5, 5, 5],
    }
    assert level(32, 32, low=None, high=None) == 1 and level(112, 448) == level(224, 224) == 4
    assert math.floor((4 + math.log2(160 / 224)) * 100) == 351
    assert level(112, 112) == 3 and level(112, 112, side=lambda w, h: w * h / 224) == 2


def test_numbers_of_the_anchors():
    places = [256 // s * (192 // s) for s in (4, 8, 16, 32, 64)]
    assert [3 * sum(places), 15 * sum(places), 3 * places[0], 3 * sum(places[:4])] == [12_276, 61_380, 9216, 12_240]


def test_cases_are_of_several_kinds():
    sizes = e05._SIZES[len(e05._GIVEN) :]
    assert len(sizes) == len(e05_maps._EVEN + e05_maps._ODD) == len(e05_maps._ALL_LEVELS + e05_maps._SOME_LEVELS) == 20
    raw = {level(*size, low=None, high=None) for size in sizes}
    assert raw >= {2, 3, 4, 5} and min(raw) < 2 and max(raw) > 5
    assert {width > height for width, height in sizes} == {True, False}
    assert all(abs(4 + math.log2((w * h) ** 0.5 / 224) - k) > 1e-4 for w, h in sizes for k in range(9))
    for cases, odd in ((e05_maps._EVEN, False), (e05_maps._ODD, True)):
        for maps, _ in cases:
            sides = [side for map in maps[:-1] for side in map.shape[-2:]]
            assert any(side % 2 for side in sides) == odd and min(maps[-1].shape[-2:]) > 1
            assert all(b.shape[i] == -(-a.shape[i] // 2) for a, b in itertools.pairwise(maps) for i in (-1, -2))
        assert {len(maps) for maps, _ in cases} == {3, 4}
    assert [map.shape[-2] for map in e05_maps._ODD[0][0]] == [75, 38, 19]
    for cases, full in ((e05_maps._ALL_LEVELS, True), (e05_maps._SOME_LEVELS, False)):
        assert all((len(levels.unique()) == 4) == full and {*levels.tolist()} <= {2, 3, 4, 5} for _, levels, _ in cases)
    assert all((levels.diff() < 0).any() for _, levels, _ in e05_maps._ALL_LEVELS)
    assert {len(levels.unique()) for _, levels, _ in e05_maps._SOME_LEVELS} == {1, 2, 3}


def test_the_answers_leave_the_cases_as_they_were():
    def overwriting(rois, levels, pool, pooling):
        out = pooling(rois, levels, pool)
        rois.zero_(), levels.zero_()
        return out

    def flat():
        maps = [map for maps, _ in e05_maps._EVEN + e05_maps._ODD for map in maps]
        return maps + [each for case in e05_maps._ALL_LEVELS + e05_maps._SOME_LEVELS for each in case[:2]]

    before = [each.clone() for each in flat()]
    assert MERGE.right(merge_in_place) and POOL.right(with_(overwriting, pooling=by_mask))
    assert not hints(MERGE, merge_in_place) and len(hints(POOL, with_(overwriting, pooling=joined))) == 1
    assert all(map(torch.equal, before, flat()))


def test_an_order_is_judged_by_its_pairs():
    for names in itertools.permutations(BEST_FIRST):
        places = [BEST_FIRST.index(name) for name in names]
        right = sum(a < b for a, b in itertools.combinations(places, 2))
        assert e05._right_pairs(names) == right and ORDER.right(names) == (right == 10)


def test_a_pair_closer_than_its_spread_counts_either_way(record):
    record["hierarchy"], record["single"] = (0.20, 0.23, 0.20), (0.21, 0.21, 0.21)  # differ by 0.00 +- 0.017
    assert ORDER.right(BEST_FIRST) and ORDER.right(exchanged(2))
    assert not ORDER.right(exchanged(1)) and ": 8 of 10" in hints(ORDER, exchanged(1, 2, 1))[0]


def test_the_spread_of_a_pair_is_that_of_its_differences(record):
    record["finest"], record["single"] = (0.1, 0.2, 0.3), (0.09, 0.19, 0.28)  # lower by 0.013 +- 0.006, seed by seed
    record["hierarchy"], record["no laterals"] = (0.05, 0.05, 0.05), (0.04, 0.04, 0.04)
    assert ORDER.right(BEST_FIRST) and not ORDER.right(exchanged(1))


def test_the_record_is_read_at_each_check(record):
    assert ORDER.right(BEST_FIRST)
    record["top-down"] = (0.0, 0.01, 0.005)
    assert not ORDER.right(BEST_FIRST) and ORDER.right((*BEST_FIRST[1:], "top-down"))


def test_of_all_permutations_one_is_right_and_the_others_have_one_hint():
    for answer in itertools.permutations(FAULTS):
        assert len(hints(FIND, answer)) + FIND.right(answer) == 1
        level_found = answer.index("wrong level rule") == FAULTS.index("wrong level rule")
        assert FIND.right(answer) or ("another one" in hints(FIND, answer)[0]) != level_found


@pytest.mark.parametrize(
    ("part", "answer"),
    [
        (MERGE, lambda maps, smooth: merge(maps, smooth)[0]),
        (MERGE, lambda maps, smooth: merge(maps, smooth)[:1]),
        (MERGE, lambda maps, smooth: 1),
        (MERGE, lambda maps, smooth: [None for _ in maps]),
        (ORDER, BEST_FIRST[:4]),
        (ORDER, (*BEST_FIRST[:4], "images")),
        (ORDER, (*BEST_FIRST, "single")),
        (FIND, ("no lateral", "no lateral", "no top-down")),
        (FIND, ("A", "B", "C")),
        (FIND, FAULTS * 2),
    ],
)
def test_another_form_is_told(part, answer):
    with pytest.raises(ValueError, match="expected"):
        part.right(answer)


@pytest.mark.parametrize(
    ("id", "answer"), [("05-2", lambda maps, smooth: maps[9]), ("05-4", lambda rois, levels, pool: pool(2, rois[:0]))]
)
def test_errors_that_are_always_there_are_told(id, answer, capsys):
    check(id, answer)
    assert "It raises" in capsys.readouterr().out


def test_untouched_is_open(capsys):
    check("05-1", lambda width, height: ...)
    check("05-2", lambda maps, smooth: ...)
    check("05-3", ...)
    check("05-4", lambda rois, levels, pool: ...)
    check("05-5", (..., ..., ..., ..., ...))
    check("05-5", ("single", ..., ..., ..., ...))
    check("05-6", (..., ..., ...))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and all(line.endswith(": open") for line in lines)


@pytest.mark.parametrize("id", ["05-1", "05-2", "05-4"])
def test_no_result_is_told(id, capsys):
    check(id, lambda *case: None)
    assert "returns nothing" in capsys.readouterr().out
