import pytest
import torch

from rcnn_tutorial.proposals.grouping import (
    SIMILARITIES,
    group,
    grouping_steps,
    labels_at,
    merged,
    similarity_weights,
)
from rcnn_tutorial.proposals.regions import Regions, describe, pixel_bins, touching
from tests.proposals.scenes import patches, scene
from tests.proposals.test_regions import random_image

ALL = tuple(SIMILARITIES)


def described(seed, **size):
    labels = patches(seed, **size)
    return labels, describe(labels, pixel_bins(random_image(seed, *labels.shape))), touching(labels)


def row(size, box, colour=(1, 0), texture=(1, 0), image_size=100):
    values = [float(size), box, colour, texture, float(image_size)]
    return Regions(*(torch.tensor(value, dtype=torch.float32) for value in values))


def stacked(*rows):
    return Regions(*(torch.stack(values) for values in zip(*rows, strict=True)))


def alone(regions, pairs, names=ALL):
    """`group` of one graph."""
    graph = torch.zeros(len(regions.size), dtype=torch.int64)
    return group(regions, pairs, graph, similarity_weights(names)[None])


def members(children, n):
    """The initial regions inside each region of a hierarchy."""
    inside = [frozenset([region]) for region in range(n)]
    for a, b in children:
        inside.append(inside[a] | inside[b])
    return inside


def test_similarities_by_hand():
    a = row(10, (0, 0, 5, 2), colour=(0.5, 0.25, 0.25), texture=(1, 0))
    b = row(6, (4, 1, 6, 5), colour=(0.2, 0.2, 0.6), texture=(0.3, 0.7))
    values = {name: similarity(a, b).item() for name, similarity in SIMILARITIES.items()}
    assert values == pytest.approx({"colour": 0.65, "texture": 0.3, "size": 0.84, "fill": 0.86})  # box of 6 x 5


def test_merged_by_hand():
    a = row(10, (0, 0, 5, 2), colour=(0.5, 0.5), texture=(1, 0))
    b = row(30, (4, 1, 6, 5), colour=(0.1, 0.9), texture=(0, 1))
    both = merged(a, b)
    assert both.size == 40 and both.box.tolist() == [0, 0, 6, 5] and both.image_size == 100
    assert both.colour.tolist() == pytest.approx([0.2, 0.8]) and both.texture.tolist() == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("seed", range(4))
def test_merged_equals_a_description_from_the_pixels(seed):
    labels, regions, pairs = described(seed)
    bins = pixel_bins(random_image(seed))
    a, b = pairs.unbind(1)
    many = merged(Regions(*(v[a] for v in regions)), Regions(*(v[b] for v in regions)))
    for index, (first, second) in enumerate(pairs.tolist()):
        expected = describe(labels.where(labels != second, first), bins)
        for values, other in zip(many, expected, strict=True):
            assert torch.allclose(values[index], other[first], atol=1e-6)


def test_four_regions_in_a_row():
    # Two pairs of one colour each; the one that is smaller goes first, the size decides.
    a, b = row(10, (0, 0, 10, 1)), row(10, (10, 0, 20, 1))
    c, d = row(40, (20, 0, 60, 1), (0, 1)), row(40, (60, 0, 100, 1), (0, 1))
    regions, pairs = stacked(a, b, c, d), torch.tensor([[0, 1], [1, 2], [2, 3]])
    steps = grouping_steps(regions, pairs)
    assert [(step.a, step.b) for step in steps] == [(0, 1), (2, 3), (4, 5)]
    assert [step.similarity for step in steps] == pytest.approx([1 + 1 + 0.8 + 1, 1 + 1 + 0.2 + 1, 0 + 1 + 0 + 1])
    assert [step.box.tolist() for step in steps] == [[0, 0, 20, 1], [20, 0, 100, 1], [0, 0, 100, 1]]
    hierarchy = alone(regions, pairs)
    assert hierarchy.children.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert hierarchy.position.tolist() == [7, 6, 5, 4, 3, 2, 1] and hierarchy.graph.tolist() == [0] * 7
    assert torch.equal(hierarchy.box[4:], torch.stack([step.box for step in steps]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("names", [ALL, ("texture", "size", "fill"), ("colour",)])
def test_steps_always_merge_the_most_similar_neighbours(seed, names):
    """Against the definition: at every step all pairs that touch, described from the pixels anew."""
    labels, regions, pairs = described(seed)
    bins = pixel_bins(random_image(seed))
    steps = grouping_steps(regions, pairs, names)
    n = len(regions.size)
    assert len(steps) == n - 1
    for left, step in zip(range(n, 1, -1), steps, strict=True):
        numbers, compact = labels_at(labels, steps, left).unique(return_inverse=True)
        now = describe(compact, bins)
        a, b = touching(compact).unbind(1)
        parts = Regions(*(v[a] for v in now)), Regions(*(v[b] for v in now))
        similar = sum(SIMILARITIES[name](*parts) for name in names)
        assert step.similarity == pytest.approx(similar.max().item(), abs=1e-5)
        mine = (numbers[a] == step.a) & (numbers[b] == step.b)
        assert similar[mine].item() == pytest.approx(step.similarity, abs=1e-5)
        y, x = ((compact == a[mine]) | (compact == b[mine])).nonzero().unbind(1)
        assert step.box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


@pytest.mark.parametrize("seed", range(10))
def test_both_versions_agree_where_the_order_does_not_matter(seed):
    # By size alone a merge never makes a neighbour more similar; random sizes leave no ties.
    labels, regions, pairs = described(seed, height=40, width=50, count=60)
    size = 10 + 1000 * torch.rand(len(regions.size), generator=torch.Generator().manual_seed(seed))
    regions = regions._replace(size=size, image_size=size.sum().expand_as(size))
    steps = grouping_steps(regions, pairs, ("size",))
    hierarchy = alone(regions, pairs, ("size",))
    n = len(size)
    told = members([(step.a, step.b) for step in steps], n)
    found = members(hierarchy.children.tolist(), n)
    position = dict(zip(found, hierarchy.position.tolist(), strict=True))
    assert set(told) == set(found)
    assert [position[inside] for inside in told[n:]] == list(range(n - 1, 0, -1))


def test_both_versions_mostly_agree_on_pictures():
    """Most merges are the same; where they are not, a merge made a neighbour more similar."""
    same = total = 0
    for seed in range(12):
        labels = patches(seed, 60, 80, 80)
        regions, pairs = describe(labels, pixel_bins(scene(seed, 60, 80)[0])), touching(labels)
        told = members([(step.a, step.b) for step in grouping_steps(regions, pairs)], len(regions.size))
        found = members(alone(regions, pairs).children.tolist(), len(regions.size))
        same += len(set(told[len(regions.size) :]) & set(found))
        total += len(regions.size) - 1
    assert 0.6 < same / total < 1


@pytest.mark.parametrize("seed", range(4))
def test_a_hierarchy_is_a_tree_of_tight_boxes(seed):
    labels, regions, pairs = described(seed, count=40)
    hierarchy = alone(regions, pairs)
    n = len(regions.size)
    assert sorted(hierarchy.children.flatten().tolist()) == list(range(2 * n - 2))  # all but the root, once each
    assert sorted(hierarchy.position.tolist()) == list(range(1, 2 * n))
    assert hierarchy.box[-1].tolist() == [0, 0, 31, 24] and hierarchy.position[-1] == 1
    assert (hierarchy.position[:n] >= n).all()
    assert (hierarchy.position[n:, None] < hierarchy.position[hierarchy.children]).all()
    for inside, box in zip(members(hierarchy.children.tolist(), n), hierarchy.box, strict=True):
        y, x = torch.isin(labels, torch.tensor(sorted(inside))).nonzero().unbind(1)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_many_graphs_equal_each_on_its_own(device):
    names = [ALL, ("size",), ("texture", "size", "fill"), ("colour",), ALL]
    parts = [described(seed, count=5 + 9 * seed)[1:] for seed in range(4)]
    one = row(12, (0, 0, 3, 4), (1, *[0] * 74), (1, *[0] * 239), 12)
    parts.append((stacked(one), torch.zeros(0, 2, dtype=torch.int64)))
    starts = [0]
    for regions, _ in parts:
        starts.append(starts[-1] + len(regions.size))
    union = Regions(*(torch.cat(values).to(device) for values in zip(*(part[0] for part in parts), strict=True)))
    pairs = torch.cat([part[1] + start for part, start in zip(parts, starts[:-1], strict=True)])
    graph = torch.arange(5).repeat_interleave(torch.tensor(starts).diff())
    weights = torch.stack([similarity_weights(each) for each in names])
    together = group(union, pairs.to(device), graph.to(device), weights)
    assert together.box.device.type == device.type
    for number, (regions, own) in enumerate(parts):
        expected = alone(regions, own, names[number])
        mine = (together.graph == number).cpu()
        assert torch.equal(together.box.cpu()[mine], expected.box)
        assert torch.equal(together.position.cpu()[mine], expected.position)


def test_grouping_leaves_its_input_alone():
    _, regions, pairs = described(0)
    before = [values.clone() for values in (*regions, pairs)]
    alone(regions, pairs), grouping_steps(regions, pairs)
    assert all(torch.equal(a, b) for a, b in zip((*regions, pairs), before, strict=True))


def test_ties_end():
    # A checkerboard of equal squares: every pair is as similar as any other.
    labels = torch.arange(36).view(6, 6).repeat_interleave(4, 0).repeat_interleave(4, 1)
    regions, pairs = describe(labels, pixel_bins(torch.full((3, 24, 24), 0.5))), touching(labels)
    assert len(alone(regions, pairs).children) == len(grouping_steps(regions, pairs)) == 35


def test_moments_of_the_grouping():
    labels, regions, pairs = described(1)
    steps = grouping_steps(regions, pairs)
    n = len(regions.size)
    assert torch.equal(labels_at(labels, steps, n), labels)
    before = labels
    for left in range(n - 1, 0, -1):
        now = labels_at(labels, steps, left)
        step = steps[n - 1 - left]
        assert len(now.unique()) == left
        assert torch.equal(now != before, (before == step.a) | (before == step.b))
        assert (now[now != before] == 2 * n - 1 - left).all()
        before = now
    for wrong in (0, n + 1):
        with pytest.raises(ValueError, match=f"^n: .* {n} regions, got {wrong}"):
            labels_at(labels, steps, wrong)


def test_one_region_is_a_hierarchy():
    _, regions, pairs = described(0, count=1)
    assert grouping_steps(regions, pairs) == []
    assert alone(regions, pairs).position.tolist() == [1]
    assert labels_at(torch.zeros(2, 2, dtype=torch.int64), [], 1).tolist() == [[0, 0], [0, 0]]


def test_weights():
    assert similarity_weights(("fill", "colour")).tolist() == [1, 0, 0, 1]
    for wrong in ((), ("shape",), "size"):
        with pytest.raises(ValueError, match="^similarities: "):
            similarity_weights(wrong)
    _, regions, pairs = described(0)
    with pytest.raises(ValueError, match="^similarities: "):
        grouping_steps(regions, pairs, ("shape",))
