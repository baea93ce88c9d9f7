"""Right answers pass; each wrong answer gets its own hint and no other."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from rcnn_tutorial.course.exercises import check, e05, e05_maps
from rcnn_tutorial.course.exercises.e05 import EXERCISES
from rcnn_tutorial.nets.fpn import FeaturePyramid, roi_levels
from tests.course.exercises.judging import hints, judging, nudged, with_

LEVEL, ANCHORS, BOTTOM_UP, REACH, FIND, RETINA = (EXERCISES[f"05-{letter}"] for letter in "ABCDEF")
FAULTS = e05.FAULTS


def level(width, height, k0=4, s0=224):
    return roi_levels(torch.tensor([0.0, 0, width, height]), 2, 5, k0, s0).item()


def sides(k, k0, s0, grow=2.0, cut=0.0, open_below=True, open_above=True):
    low, high = s0 * grow ** (k - k0 + cut), s0 * grow ** (k + 1 - k0 + cut)
    return (0 if k == 2 and open_below else low), (math.inf if k == 5 and open_above else high)


def half(map):
    return map[:, :, ::2, ::2]


def climb(maps, down=half, up="sum"):
    out = [maps[0]]
    for i, map in enumerate(maps[1:]):
        out.append(map + down(out[-1] if up == "sum" else maps[i]))
    return out


def climb_in_place(maps):
    for finer, coarser in itertools.pairwise(maps):
        coarser += F.max_pool2d(finer, 1, stride=2)
    return maps


def from_the_top(maps):
    out = [maps[-1]]
    for map in maps[-2::-1]:
        out.insert(0, map + F.interpolate(out[0], size=tuple(map.shape[-2:]), mode="nearest"))
    return out


def resize(map, size, mode="nearest", **options):
    return F.interpolate(map, size=tuple(size), mode=mode, **options)


def twice(map, size):
    return F.interpolate(map, scale_factor=2.0)


def retina(c3, c4, c5, layer, up=resize, down="sums", ends=True, of="c5", relu="between"):
    m5 = layer["lateral5"](c5)
    p5 = layer["smooth5"](m5)
    m4 = layer["lateral4"](c4)
    if down != "none":
        m4 = m4 + up(p5 if down == "smoothed" else m5, m4.shape[-2:])
    p4 = layer["smooth4"](m4)
    m3 = layer["lateral3"](c3)
    if down != "none":
        m3 = m3 + up(p4 if down == "smoothed" else m4, m3.shape[-2:])
    p3 = layer["smooth3"](m3)
    if not ends:
        p3, p4, p5 = m3, m4, m5
    p6 = layer["P6"](c5 if of == "c5" else p5)
    p7 = layer["P7"](p6 if relu == "none" else torch.relu(p6))
    return [p3, p4, p5, torch.relu(p6) if relu == "returned" else p6, p7]


def retina_of_torchvision(c3, c4, c5, layer):
    fpn = FeaturePyramidNetwork([2, 3, 4], 4, extra_blocks=LastLevelP6P7(4, 4))
    fpn.extra_blocks.use_P5 = False  # where both have as many channels, torchvision would take P5
    for i, k in enumerate("345"):
        fpn.inner_blocks[i][0].load_state_dict(layer[f"lateral{k}"].state_dict())
        fpn.layer_blocks[i][0].load_state_dict(layer[f"smooth{k}"].state_dict())
    fpn.extra_blocks.p6.load_state_dict(layer["P6"].state_dict())
    fpn.extra_blocks.p7.load_state_dict(layer["P7"].state_dict())
    return list(fpn({"0": c3, "1": c4, "2": c5}).values())


RIGHT = [
    (LEVEL[0], 3),
    (LEVEL[0], level(900, 36)),
    (LEVEL[1], sides),
    (LEVEL[1], lambda k, k0, s0: (k > 2 and s0 / 2 ** (k0 - k), float("inf") if k == 5 else 2 * s0 * 2**k / 2**k0)),
    (ANCHORS[0], 15_354),
    (ANCHORS[0], 9 * sum(-(-320 // s) * -(-256 // s) for s in (8, 16, 32, 64, 128))),
    (ANCHORS[1], 5),
    (ANCHORS[2], 0.551),
    (ANCHORS[2], (95 / 128) ** 2),
    (BOTTOM_UP[0], climb),
    (BOTTOM_UP[0], climb_in_place),
    (REACH[0], (36, 16, 9, 0)),
    (REACH[0], [36, 16, 9, 0]),
    (FIND[0], FAULTS),
    (FIND[0], list(FAULTS)),
    (RETINA[0], retina),
    (RETINA[0], retina_of_torchvision),
]  # fmt: skip

WRONG = [
    (LEVEL[0], 4, "coarser level"),
    (LEVEL[0], 5, "as many pixels and is read from another"),
    (LEVEL[0], 2, "finer level than one of"),
    (LEVEL[0], 1, "finer level than one of"),
    (LEVEL[1], with_(sides, open_below=False), "from no level"),
    (LEVEL[1], with_(sides, open_above=False), "from no level"),
    (LEVEL[1], with_(sides, open_below=False, open_above=False), "from no level"),
    (LEVEL[1], with_(sides, cut=-1), "k0 - 1"),
    (LEVEL[1], with_(sides, cut=-0.5), "in the middle"),
    (LEVEL[1], with_(sides, grow=4.0), "does not double"),
    (LEVEL[1], with_(sides, grow=2**0.5), "does not double"),
    (LEVEL[1], with_(sides, grow=math.e), "does not double"),
    (LEVEL[1], lambda k, k0, s0: sides(k, 4, 224.0), "does not depend"),
    (ANCHORS[0], 15_336, "too few places"),
    *((ANCHORS[0], 15_354 - 9 * n, "level is missing") for n in (1280, 320, 80, 20, 6)),
    *((ANCHORS[0], 9 * n, "one level alone") for n in (1280, 320, 80, 20, 6)),
    (ANCHORS[0], 5118, "this notebook"),
    (ANCHORS[0], 1706, "number of places"),
    (ANCHORS[0], 61_380, "P2 to P6"),
    (ANCHORS[1], 4, "nearer to 95"),
    (ANCHORS[2], 0.742, "ratio of the sides"),
    (ANCHORS[2], 0.454, "square of P4"),
    (BOTTOM_UP[0], from_the_top, "the coarsest does not"),
    (BOTTOM_UP[0], with_(climb, up="given"), "none after it"),
    (BOTTOM_UP[0], lambda maps: maps, "as they were"),
    (BOTTOM_UP[0], with_(climb, down=lambda m: F.avg_pool2d(m, 2)), "mixes four"),
    (BOTTOM_UP[0], with_(climb, down=lambda m: F.max_pool2d(m, 2)), "mixes four"),
    (BOTTOM_UP[0], with_(climb, down=lambda m: F.interpolate(m, None, 0.5, "bilinear")), "mixes four"),
    (BOTTOM_UP[0], with_(climb, down=lambda m: m[..., 1::2, 1::2]), "never read"),
    (BOTTOM_UP[0], with_(climb, down=lambda m: F.interpolate(m, scale_factor=0.5)), "75 rows"),
    (REACH[0], (16, 4, 1, 0), "too few cells"),
    (REACH[0], (324, 64, 9, 0), "stay the same"),
    (REACH[0], (0, 0, 9, 0), "Nothing comes down"),
    (REACH[0], (0, 0, 1, 0), "Nothing comes down"),
    (REACH[0], (0, 16, 9, 0), "after one level"),
    (REACH[0], (0, 4, 1, 0), "after one level"),
    *((REACH[0], (36, 16, 9, up), "P5 changes") for up in (1, 4, 9)),
    (REACH[0], (6, 4, 3, 0), "along one side"),
    (FIND[0], ("no lateral", "wrong level rule", "no top-down"), "the other two"),
    (FIND[0], ("wrong level rule", "no top-down", "no lateral"), "another one"),
    (FIND[0], ("no top-down", "no lateral", "wrong level rule"), "another one"),
    (RETINA[0], with_(retina, of="p5"), "P6 and P7 are wrong"),
    (RETINA[0], with_(retina, of="p5", relu="none"), "P6 and P7 are wrong"),
    (RETINA[0], with_(retina, relu="none"), "P7 alone"),
    (RETINA[0], with_(retina, relu="returned"), "no negative numbers"),
    (RETINA[0], with_(retina, down="smoothed"), "P4 and P3 are not"),
    (RETINA[0], with_(retina, down="none"), "neither P4 nor P3"),
    (RETINA[0], with_(retina, ends=False), "are the sums"),
    (RETINA[0], with_(retina, up=with_(resize, mode="bilinear")), "soft"),
    (RETINA[0], with_(retina, up=with_(resize, mode="bilinear", align_corners=True)), "soft"),
    (RETINA[0], with_(retina, up=twice), "15 rows"),
]  # fmt: skip

OTHER = [
    (LEVEL[0], 7),
    (LEVEL[1], lambda k, k0, s0: (s0, 2 * s0)),
    (ANCHORS[0], 15_000),
    (ANCHORS[1], 3),
    (ANCHORS[2], 0.3),
    (BOTTOM_UP[0], lambda maps: climb(maps)[::-1]),
    (BOTTOM_UP[0], lambda maps: climb(maps)[:-1]),
    (REACH[0], (4, 4, 4, 4)),
    (RETINA[0], lambda *case: retina(*case)[::-1]),
    (RETINA[0], lambda *case: retina(*case)[:3]),
]

TWICE = [
    ("05-A", (4, with_(sides, cut=-1))),
    ("05-B", (15_336, 4, 0.742)),
    ("05-C", (from_the_top,)),
    ("05-D", ((16, 4, 1, 0),)),
    ("05-E", (("no lateral", "wrong level rule", "no top-down"),)),
    ("05-F", (with_(retina, relu="none"),)),
]

CAUSES = [
    (LEVEL[0], "coarser level", "k is 3.68"),
    (LEVEL[0], "as many pixels and is read from another", "longer side alone"),
    (LEVEL[0], "finer level than one of", "shorter side"),
    (LEVEL[1], "from no level", "up to math.inf"),
    (LEVEL[1], "k0 - 1", "the logarithm is 0"),
    (LEVEL[1], "in the middle", "rounding to the nearest"),
    (LEVEL[1], "does not double", "area grows by a factor of 4"),
    (LEVEL[1], "does not depend", "its own k0 and s0"),
    (ANCHORS[0], "too few places", "2.5 cells"),
    (ANCHORS[0], "level is missing", "are five levels"),
    (ANCHORS[0], "one level alone", "anchors of its own"),
    (ANCHORS[0], "this notebook", "and not 3"),
    (ANCHORS[0], "number of places", "Each place has 9"),
    (ANCHORS[0], "P2 to P6", "P7 one of 128"),
    (ANCHORS[1], "nearer to 95", "two squares with one centre"),
    (ANCHORS[2], "ratio of the sides", "square the ratio"),
    (ANCHORS[2], "square of P4", "overlaps the object more"),
    (BOTTOM_UP[0], "the coarsest does not", "from the top down"),
    (BOTTOM_UP[0], "none after it", "the map that was given"),
    (BOTTOM_UP[0], "as they were", "Add to each map"),
    (BOTTOM_UP[0], "mixes four", "no maximum"),
    (BOTTOM_UP[0], "never read", "not 1::2"),
    (BOTTOM_UP[0], "75 rows", "makes 38"),
    (REACH[0], "too few cells", "by one cell on every side"),
    (REACH[0], "stay the same", "after the 3 x 3 convolution"),
    (REACH[0], "Nothing comes down", "added to the next finer one"),
    (REACH[0], "after one level", "handed down to P2"),
    (REACH[0], "P5 changes", "C5 stays"),
    (REACH[0], "along one side", "has 9 cells"),
    (FIND[0], "the other two", "sharp without meaning"),
    (FIND[0], "another one", "large objects suffer"),
    (RETINA[0], "P6 and P7 are wrong", "made from C5"),
    (RETINA[0], "P7 alone", "stands between P6"),
    (RETINA[0], "no negative numbers", "returned without it"),
    (RETINA[0], "P4 and P3 are not", "after its 3 x 3"),
    (RETINA[0], "neither P4 nor P3", "top-down path is missing"),
    (RETINA[0], "are the sums", "still goes through"),
    (RETINA[0], "soft", "mode nearest"),
    (RETINA[0], "15 rows", "Twice 8"),
]

NEARLY = [
    (LEVEL[1], nudged(lambda *case: [torch.tensor(float(v)) for v in sides(*case)])),
    (ANCHORS[0], 15_355),
    (ANCHORS[2], 0.556),
    (BOTTOM_UP[0], nudged(climb)),
    (REACH[0], (36, 16, 10, 0)),
    (RETINA[0], nudged(retina)),
]

TestJudging = judging(EXERCISES, RIGHT, WRONG, OTHER, TWICE, CAUSES, NEARLY)


def test_the_region_of_the_question():
    k = 4 + math.log2(math.sqrt(900 * 36) / 224)
    assert math.floor(k * 100) == 368 and level(900, 36) == 3 and math.sqrt(900 * 36) == 180
    assert level(900, 900) == 5 and level(36, 36) == 2 and math.floor(4 + math.log2(36 / 224)) == 1


def test_the_sides_are_those_of_the_rule():
    for k, k0, s0 in e05._LEVELS:
        low, high = sides(k, k0, s0)
        inside = [max(low, 0.5), 0.999 * min(high, 10_000.0)]
        assert [level(side, side, k0, s0) for side in inside] == [k, k]
        assert low == 0 or level(0.999 * low, 0.999 * low, k0, s0) == k - 1
        assert high == math.inf or level(high, high, k0, s0) == k + 1
    assert len(e05._LEVELS) == 20 and {k for k, _, _ in e05._LEVELS} == {2, 3, 4, 5}


def test_the_square_that_fits_best():
    overlap = {
        k: min(side, 95) ** 2 / max(side, 95) ** 2 for k, side in zip(range(2, 7), (16, 32, 64, 128, 256), strict=True)
    }
    assert max(overlap, key=overlap.get) == 5 and overlap[5] == pytest.approx((95 / 128) ** 2)
    assert abs(64 - 95) < abs(128 - 95)  # and the square that is nearest in pixels is another one


def test_the_cells_that_change():
    fpn = FeaturePyramid((1, 1, 1, 1), channels=1)
    with torch.no_grad():
        for values in fpn.parameters():
            values.fill_(1)
        maps = [torch.zeros(1, 1, 256 // 2**k, 256 // 2**k) for k in range(4)]
        before = fpn(maps)
        maps[2][0, 0, 20, 20] = 1
        changed = tuple(int((a != b).sum()) for a, b in zip(fpn(maps), before, strict=True))
    assert changed == (36, 16, 9, 0) and REACH[0].right(changed)


def test_cases_are_of_several_kinds():
    assert len(e05_maps._EVEN + e05_maps._ODD) == 20
    for cases, odd in ((e05_maps._EVEN, False), (e05_maps._ODD, True)):
        for (maps,) in cases:
            lengths = [side for map in maps[:-1] for side in map.shape[-2:]]
            assert any(side % 2 for side in lengths) == odd and min(maps[-1].shape[-2:]) > 1
        assert {len(maps) for (maps,) in cases} == {3, 4}
    assert [map.shape[-2] for map in e05_maps._ODD[0][0]] == [75, 38, 19]
    for cases, odd in ((e05_maps._EVEN_STAGES, 0), (e05_maps._ODD_STAGES, 1)):
        assert all(c4.shape[-2] % 2 == odd and c3.shape[-1] == 2 * c4.shape[-1] for c3, c4, _, _ in cases)
        assert all(isinstance(each, nn.Conv2d) for case in cases for each in case[3].values())


def test_the_answers_leave_the_cases_as_they_were():
    before = [map.clone() for (maps,) in e05_maps._EVEN + e05_maps._ODD for map in maps]
    assert BOTTOM_UP[0].right(climb_in_place) and not hints(BOTTOM_UP[0], climb_in_place)
    after = [map for (maps,) in e05_maps._EVEN + e05_maps._ODD for map in maps]
    assert all(map(torch.equal, before, after))


def test_of_all_permutations_one_is_right_and_the_others_have_one_hint():
    for answer in itertools.permutations(FAULTS):
        assert len(hints(FIND[0], answer)) + FIND[0].right(answer) == 1


@pytest.mark.parametrize(
    ("id", "answers"),
    [
        ("05-A", (..., lambda k, k0, s0: ...)),
        ("05-B", (..., ..., ...)),
        ("05-C", (lambda maps: ...,)),
        ("05-D", ((..., ..., ..., ...),)),
        ("05-E", ((..., ..., ...),)),
        ("05-F", (lambda c3, c4, c5, layer: ...,)),
    ],
)
def test_untouched_answers_are_open(id, answers, capsys):
    check(id, *answers)
    assert all(line.endswith(": open") for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("part", "answer"),
    [(FIND[0], ("no lateral", "no lateral", "no top-down")), (REACH[0], (36, 16)), (BOTTOM_UP[0], lambda maps: 1)],
)
def test_an_answer_of_another_form_is_refused(part, answer):
    with pytest.raises(ValueError, match="expected"):
        part.right(answer)
