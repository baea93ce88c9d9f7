import pytest
import torch

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.data.generated.auxiliary import AuxiliaryBatches, accuracy, prepare
from rcnn_tutorial.nets.backbones import tiny_net


@pytest.fixture(scope="module")
def batches():
    return AuxiliaryBatches(0, 40, 3, batch=8, sizes=(64, 52), processes=0)


def test_a_mini_batch_depends_on_its_epoch_and_index_alone(batches):
    batches.set_epoch(0)
    first, again, other = batches[0], batches[0], batches[1]
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])
    assert first[0].shape == (8, 3, 64, 64) and first[1].shape == (8,) and len(batches) == 3
    batches.set_epoch(2)
    assert batches[0][0].shape == first[0].shape and not torch.equal(batches[0][0], first[0])
    batches.set_epoch(0)


def test_sizes_take_turns_and_show_the_same_content(batches):
    sizes = []
    for epoch in range(4):
        batches.set_epoch(epoch)
        sizes.append(batches[0][0].shape[-1])
    batches.set_epoch(0)
    small = prepare(batches.images[:8], 52)
    again = torch.nn.functional.interpolate(small, size=(64, 64), mode="bilinear")
    apart = (again - prepare(batches.images[:8])).abs().mean().item()
    other = (prepare(batches.images[8:16]) - prepare(batches.images[:8])).abs().mean().item()
    claim(
        "SPP-08",
        condition=sizes == [64, 52, 64, 52] and apart < other / 5,
        note="an epoch at each size in turn; the same crops, resized",
    )


def test_pictures_are_those_of_the_series_and_the_mean_is_subtracted(batches):
    more = AuxiliaryBatches(10, 5, 0, processes=0)
    assert torch.equal(more.images, batches.images[10:15]) and torch.equal(more.labels, batches.labels[10:15])
    black = prepare(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert torch.allclose(black[0, :, 0, 0], -torch.tensor([0.485, 0.456, 0.406]))


def test_half_of_the_pictures_are_mirrored(batches):
    images = {tuple(image.flatten()[:300].tolist()) for image in prepare(batches.images)}
    straight = [tuple(crop.flatten()[:300].tolist()) in images for i in range(3) for crop in batches[i][0]]
    assert 4 < sum(straight) < 20


def test_the_shipped_pyramid_knows_the_shapes_at_both_sizes():
    fresh = AuxiliaryBatches(10**6, 300, 0, processes=0)
    net = tiny_net(pretrained=True, levels=(4, 2, 1)).eval()
    plain = tiny_net(pretrained=True)
    for one, other in zip(net.convs.parameters(), plain.convs.parameters(), strict=True):
        assert torch.equal(one, other)  # the convolutions are those of the backbone
    assert accuracy(net, fresh) > 0.8 and accuracy(net, fresh, 52) > 0.75
