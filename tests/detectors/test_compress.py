import pytest
import torch
from torch import nn

from rcnn_tutorial.course.claims import claim
from rcnn_tutorial.detectors.fast_rcnn import compress, truncated_svd


class Network(nn.Module):
    """Named like the backbones: layers inside layers, and some that are not linear."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc6 = nn.Sequential(linear(144, 32), nn.ReLU())
        self.classifier = linear(32, 7)
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, crops):
        return self.classifier(self.fc6(self.conv(crops).flatten(1)))


def linear(inputs=30, outputs=20, bias=True, seed=0, **kwargs):
    layer = nn.Linear(inputs, outputs, bias=bias, **kwargs)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)))
    return layer


def weights(module):
    """Without biases, which the text does not count."""
    return sum(p.numel() for p in module.parameters() if p.ndim == 2)


def product(pair):
    return pair[1].weight @ pair[0].weight


def test_parameters_of_the_published_layers():
    fc6, fc7 = nn.Linear(25088, 4096, device="meta"), nn.Linear(4096, 4096, device="meta")
    thin6, thin7 = truncated_svd(fc6, 1024), truncated_svd(fc7, 256)
    claim("FAST-19", weights(fc6), 102_760_448, note="fc6, 25088x4096, weights")
    claim("FAST-19", weights(thin6), 29_884_416, note="fc6 with t = 1024, weights")
    claim("FAST-19", weights(fc6) / weights(thin6), 3.44, tol=0.005, note="fc6, times smaller")
    claim("FAST-19", weights(fc7), 16_777_216, note="fc7, 4096x4096, weights")
    claim("FAST-19", weights(thin7), 2_097_152, note="fc7 with t = 256, weights")
    claim("FAST-19", weights(fc7) / weights(thin7), 8.0, note="fc7, times smaller")
    before, after = weights(fc6) + weights(fc7), weights(thin6) + weights(thin7)
    claim("FAST-19", before, 119_537_664, note="both layers, weights")
    claim("FAST-19", after, 31_981_568, note="both factored, weights")
    claim("FAST-19", before / after, 3.74, tol=0.005, note="both, times smaller")


def test_rank_that_still_saves():
    claim("FAST-19", 4096 * 25088 // (4096 + 25088), 3521, note="largest rank that makes fc6 no larger")
    claim("FAST-19", 4096 * 4096 // (4096 + 4096), 2048, note="largest rank that makes fc7 no larger")
    fc6, fc7 = nn.Linear(25088, 4096, device="meta"), nn.Linear(4096, 4096, device="meta")
    # uv / (u + v) is 3521.1 and 2048: at 2048 fc7 is exactly as large as it was
    sizes = [weights(truncated_svd(fc6, t)) - weights(fc6) for t in (3521, 3522)]
    assert sizes[0] < 0 < sizes[1]
    sizes = [weights(truncated_svd(fc7, t)) - weights(fc7) for t in (2047, 2048, 2049)]
    claim("FAST-19", condition=sizes[0] < 0 == sizes[1] < sizes[2], note="fc7 breaks even at 2,048 and saves below")


def test_full_rank_is_exact(device):
    layer = linear().double().to(device)
    pair = truncated_svd(layer, 20)
    x = torch.randn(7, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    error = (pair(x) - layer(x)).abs().max().item()
    claim("FAST-20", error, 0.0, tol=1e-10, note="outputs at full rank, largest difference")


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_squared_error_is_what_was_dropped(shape):
    layer = linear(*shape).double()
    sigma = torch.linalg.svdvals(layer.weight.detach())
    for rank in (1, 7, 19):
        error = (product(truncated_svd(layer, rank)) - layer.weight).square().sum().item()
        dropped = sigma[rank:].square().sum().item()
        if shape == (30, 20):
            claim("FAST-20", error / dropped, 1.0, tol=1e-9, note=f"squared error / dropped sigma^2, rank {rank} of 20")
        assert error == pytest.approx(dropped, rel=1e-9) and error > 0.1


def test_order_of_the_two_layers():
    layer = linear()
    pair = truncated_svd(layer, 5)
    first, second = pair  # nothing between
    left, sigma, _ = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    shapes = tuple(first.weight.shape) == (5, 30) and tuple(second.weight.shape) == (20, 5)
    biases = first.bias is None and torch.equal(second.bias, layer.bias)
    # rows of S V^T have the singular values as lengths; columns of U have length 1
    scaled = torch.allclose(first.weight.norm(dim=1), sigma[:5], rtol=1e-5)
    unit = torch.allclose(second.weight.norm(dim=0), torch.ones(5), rtol=1e-5)
    holds = shapes and biases and scaled and unit
    claim("FAST-20", condition=holds, note="S V^T without bias, then U with the layer's bias, nothing between")
    assert second.bias.data_ptr() != layer.bias.data_ptr()
    assert torch.allclose((second.weight.T @ left[:, :5]).abs(), torch.eye(5), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float16, 0.02), (torch.bfloat16, 0.15), (torch.float32, 1e-4), (torch.float64, 1e-10)],
)
def test_type_device_and_mode_stay(dtype, tolerance, device):
    layer = linear(dtype=dtype, device=device).eval()
    pair = truncated_svd(layer, 20)
    assert all(p.dtype == dtype and p.device == layer.weight.device for p in pair.parameters())
    assert all(p.is_contiguous() and p.requires_grad for p in pair.parameters())
    assert not any(m.training for m in pair.modules())
    error = (product(pair).double() - layer.weight.double()).abs().max().item()
    assert error < tolerance


def test_no_bias_stays_none():
    assert [p.ndim for p in truncated_svd(linear(bias=False), 3).parameters()] == [2, 2]


def test_no_random_number_is_drawn():
    layer, before = linear(), torch.get_rng_state()
    truncated_svd(layer, 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rank", [0, -1, 21])
def test_impossible_ranks_are_refused(rank):
    with pytest.raises(ValueError, match=f"rank: expected 1 to 20, got {rank}"):
        truncated_svd(linear(), rank)


def test_a_compressed_network_is_a_copy():
    torch.manual_seed(0)
    net, crops = Network().double().eval(), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    scores = net(crops)
    full = compress(net, {"fc6.0": 32, "classifier": 7})
    assert torch.allclose(full(crops), scores, atol=1e-9)
    small = compress(net, {"fc6.0": 4})
    assert (small(crops) - scores).abs().max() > 0.1
    assert [tuple(layer.weight.shape) for layer in small.fc6[0]] == [(4, 144), (32, 4)]
    assert isinstance(small.classifier, nn.Linear) and not small.fc6.training

    with torch.no_grad():
        for p in full.parameters():
            p.zero_()
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["fc8", "fc6", "fc6.1", "conv", ""])
def test_names_of_other_layers_are_refused(name):
    with pytest.raises(ValueError, match=rf"ranks: .*\['fc6.0', 'classifier'\], got '{name}'"):
        compress(Network(), {name: 3})


def test_a_wrong_rank_is_refused():
    with pytest.raises(ValueError, match="rank: expected 1 to 32, got 33"):
        compress(Network(), {"fc6.0": 33})
