"""A training on the simulated device is that of the CPU, and what happens in its backward pass is seen."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.device import LAUNCH, on_device, on_host
from tests.device.test_simulation import calls, numbers


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))


def steps(net, device, scaler=None):
    """Losses and weights of three steps of SGD with momentum."""
    net.to(device)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
    values = []
    for step in range(3):
        images, labels = numbers(2, 1, 5, 5, seed=step).to(device), torch.tensor([0, 1]).to(device)
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        values.append(loss.detach())
    return on_host([*values, *net.state_dict().values()])


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def test_a_training_is_that_of_the_cpu(log):
    expected = steps(network(), "cpu")
    assert log.events == []
    assert_same(steps(network(), "cuda"), expected)
    assert log.count(LAUNCH) > 50


def test_a_training_with_a_scaled_loss_is_that_of_the_cpu(log):
    expected = steps(network(), "cpu", torch.amp.GradScaler("cpu"))
    assert_same(steps(network(), "cuda", torch.amp.GradScaler("cuda")), expected)
    assert "item" in calls(log)  # whether a step is left out


def test_what_happens_in_backward_is_seen(log):
    class Wait(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            grad.sum().item()
            return grad * 2

    leaf = on_device(numbers(3)).requires_grad_()
    Wait.apply(leaf).sum().backward()
    assert calls(log) == ["item"] and leaf.grad.is_cuda and on_host(leaf.grad).tolist() == [2, 2, 2]
    here = numbers(3).requires_grad_()
    (here.cuda() * 3).sum().backward()  # back through the copy
    assert here.grad.tolist() == [3, 3, 3] and not here.grad.is_cuda and "copy to the host" in calls(log)
