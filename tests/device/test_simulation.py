"""The simulated device refuses what CUDA refuses, notes what it waits for and works for, and changes nothing else."""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.device import COPY, CUDA, LAUNCH, WAIT, DeviceMix, DeviceTensor, on_device, on_host, simulated_cuda


def numbers(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def calls(log, kind=WAIT):
    """What was noted since the last look."""
    names = [event.call for event in log.events if event.kind == kind]
    log.clear()
    return names


# The device and its tensors


def test_it_is_there_only_inside():
    before = {name: getattr(torch.cuda, name) for name in ("is_available", "_lazy_init", "default_generators")}
    with pytest.raises(KeyError), simulated_cuda():
        assert torch.cuda.is_available() and torch.cuda.device_count() == 1
        tensor = torch.zeros(2, device="cuda")
        assert torch.tensor(1, device="cuda").is_cuda
        raise KeyError
    assert all(getattr(torch.cuda, name) is value for name, value in before.items())
    assert not torch._C._only_lift_cpu_tensors()
    assert not isinstance(torch.zeros(2) + 1, DeviceTensor)
    with pytest.raises(RuntimeError, match="simulated_cuda"):
        tensor + 1
    assert on_host([tensor])[0].tolist() == [0, 0]


def test_a_tensor_says_where_it_is(log):
    made = [
        torch.zeros(2, device="cuda"),
        torch.arange(3, device=CUDA),
        torch.full((2,), 3, device=torch.device("cuda")),
        torch.tensor([1.0, 2.0], device="cuda:0"),
        torch.as_tensor((1, 2), device=CUDA),
        numbers(3).to("cuda"),
        numbers(3).cuda(),
        numbers(3).to(CUDA, torch.float64),
        numbers(3).to(torch.zeros(1, device="cuda")),
    ]
    made += [made[0] + 1, made[0].new_zeros(3), made[0].new_tensor([1, 2]), torch.ones_like(made[0]), made[0][1:]]
    made += [made[0].double(), made[0].to(made[1]), torch.as_tensor(made[0]), made[0].data, made[0].detach()]
    for tensor in made:
        assert isinstance(tensor, DeviceTensor) and tensor.device == CUDA and tensor.device.type == "cuda"
        assert tensor.is_cuda and not tensor.is_cpu and tensor.get_device() == 0
    back = [made[0].cpu(), made[0].to("cpu"), made[0].to(torch.zeros(1)), torch.zeros_like(made[0], device="cpu")]
    assert not any(isinstance(tensor, DeviceTensor) for tensor in back)
    assert made[0].to(CUDA) is made[0] and made[0].to(CUDA, copy=True) is not made[0]
    assert made[7].dtype == made[14].dtype == torch.float64 and made[15].dtype == torch.int64


def test_what_is_written_is_seen_through_views(log):
    tensor = torch.zeros(2, 3, device="cuda")
    row = tensor[1]
    row += 1
    row[0] = 5
    tensor[:, 2].copy_(torch.full((2,), 7.0, device="cuda"))
    torch.add(row, row, out=tensor[0])
    assert on_host(tensor).tolist() == [[10, 2, 14], [5, 1, 7]]
    assert row.mul_(2) is row
    tensor.data = torch.ones(2, 3, device="cuda")
    assert on_host(tensor).tolist() == [[1, 1, 1], [1, 1, 1]]
    column = tensor[:, 0].unsqueeze_(1)
    column += column.clone().squeeze_(1).unsqueeze_(1)
    assert column.shape == (2, 1) and on_host(tensor).tolist() == [[2, 1, 1], [2, 1, 1]]
    with pytest.raises(NotImplementedError):
        tensor.data = torch.ones(3, device="cuda")


def test_a_module_moves_there_and_back(log):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = copy.deepcopy(net.state_dict())
    assert net.to("cuda") is net and calls(log)
    for parameter in net.parameters():
        assert isinstance(parameter, nn.Parameter) and parameter.is_cuda and parameter.requires_grad
    assert all(buffer.is_cuda for buffer in net.buffers())
    twin = copy.deepcopy(net)
    assert all(isinstance(p, nn.Parameter) and p.is_cuda for p in twin.parameters())
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    for state in (net.cpu().state_dict(), torch.load(file, weights_only=True), on_host(dict(twin.state_dict()))):
        assert all(torch.equal(value, state[name]) for name, value in before.items())
    assert all(p.is_cuda for p in on_device(net).parameters())


# What is refused


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: there + here,
        lambda here, there: here * there,
        lambda here, there: torch.cat((here, there)),
        lambda here, there: torch.stack((there[0], here[0])),  # no call that works number by number
        lambda here, there: here @ there,
        lambda here, there: here[there.long()],
        lambda here, there: here.index_put_((there.long(),), there),
        lambda here, there: there.index_put_((there.long(),), here),
        lambda here, there: torch.where(there > 0, there, here),
        lambda here, there: here[0].add_(there[0]),
        lambda here, there: here.add_(there[0]),
        lambda here, there: torch._foreach_add([there], [here]),
        lambda here, there: F.conv1d(there.view(1, 1, -1), here.view(1, 1, -1)),
        lambda here, there: there.masked_fill(here > 0, 1.0),
        lambda here, there: there.gather(0, here.long()),
    ],
)
def test_tensors_of_two_devices_are_refused(log, mix):
    here = numbers(3)
    with pytest.raises(DeviceMix, match="same device"):
        mix(here, on_device(here))
    mix(here.clone(), here.clone()), mix(on_device(here), on_device(here))  # nothing else is wrong with it


def test_other_things_that_cuda_refuses(log):
    there = on_device(numbers(3))
    for call in (there.numpy, lambda: np.asarray(there)):
        with pytest.raises(TypeError, match="numpy"):
            call()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device="cuda", generator=torch.Generator())


def test_numbers_of_the_host_are_allowed(log):
    there, one = on_device(numbers(3)), torch.tensor(1.0)
    results = [there + one, one * there, there.clamp(min=one), torch.where(there > 0, there, one), one + there[0]]
    results += [there.clone().fill_(one), there.masked_fill(there > 2, one), there.clone().add_(one)]
    assert all(result.is_cuda for result in results) and not calls(log)


# What the host waits for


@pytest.mark.parametrize(
    "wait, call",
    [
        (lambda t: t[0].item(), "item"),
        (lambda t: float(t[0]), "item"),
        (lambda t: bool(t[0] > 0), "item"),
        (lambda t: [0, 1][t[0].long()], "item"),
        (lambda t: "some" if (t > 0).any() else "none", "item"),
        (lambda t: torch.allclose(t, t), "allclose"),
        (lambda t: t[t[0].long()], "item"),
        (lambda t: torch.equal(t, t), "equal"),
        (lambda t: t.tolist(), "copy to the host"),
        (lambda t: t.cpu(), "copy to the host"),
        (lambda t: t.to("cpu", torch.float64), "copy to the host"),
        (lambda t: torch.empty(4).copy_(t), "copy to the host"),
        (lambda t: torch.ones(4).to(t), "copy to the device"),
        (lambda t: torch.ones(4).cuda(), "copy to the device"),
        (lambda t: torch.tensor([1, 2], device=t.device), "copy to the device"),
        (lambda t: torch.as_tensor([1, 2], device=t.device), "copy to the device"),
        (lambda t: t.new_tensor([1, 2]), "copy to the device"),
        (lambda t: t.copy_(torch.ones(4)), "copy to the device"),
        (lambda t: t[[1, 0]], "copy to the device"),
        (lambda t: t.view(2, 2)[:, [1, 0]], "copy to the device"),
        (lambda t: t[np.array([1, 0])], "copy to the device"),
        (lambda t: t.__setitem__(-1, 2.0), "copy to the device"),  # a single number is copied, not filled in
        (lambda t: t[torch.tensor([1, 0])], "index on the host, which is copied"),
        (lambda t: t[torch.ones(4, dtype=torch.bool)], "index on the host, which is copied"),
        (lambda t: t.__setitem__(t.long(), 2.0), "index assigned a number, which is copied"),
        (lambda t: t[t > 0.5], "index by a mask"),
        (lambda t: t.__setitem__(t > 0.5, t[:1]), "index by a mask"),
        (lambda t: t.nonzero(), "nonzero"),
        (lambda t: torch.where(t > 0.5), "nonzero"),
        (lambda t: t.masked_select(t > 0.5), "masked_select"),
        (lambda t: t.unique(), "_unique2"),
        (lambda t: t.view(2, 2).unique(dim=0), "unique_dim"),
        (lambda t: t.unique_consecutive(), "unique_consecutive"),
        (lambda t: t.long().bincount(), "bincount"),
        (lambda t: t.histc(4), "histc"),
        (lambda t: t.repeat_interleave(t.long()), "repeat_interleave without output_size"),
        (lambda t: torch.sparse_coo_tensor(t.long()[None], t, (1,), check_invariants=False).coalesce(), "_coalesce"),
        (
            lambda t: (
                torch.sparse_coo_tensor(t.new_zeros(2, 4).long(), t, (1, 1), check_invariants=False) @ t[:1, None]
            ),
            "mm of a sparse matrix, which is coalesced",
        ),
        (lambda t: torch.linalg.solve(torch.eye(2, device="cuda"), t[:2]), "_linalg_check_errors"),
    ],
)
def test_the_host_waits(log, wait, call):
    tensor = on_device(numbers(4))
    wait(tensor)
    assert calls(log) == [call]


@pytest.mark.parametrize(
    "work",
    [
        lambda t: t.add_(1),
        lambda t: torch.zeros(3, device="cuda"),
        lambda t: t.to("cpu", non_blocking=True),
        lambda t: torch.tensor([1, 2]).to("cuda", non_blocking=True),
        lambda t: torch.ones(4).pin_memory().cuda(non_blocking=True),
        lambda t: t.copy_(torch.ones(4), non_blocking=True),
        lambda t: t.__setitem__(slice(2), 2.0),
        lambda t: t.__setitem__(t > 0.5, 2.0),  # masked_fill_
        lambda t: t[t.long()],
        lambda t: t.repeat_interleave(2),
        lambda t: t.repeat_interleave(t.long(), output_size=0),
        lambda t: t.topk(2).indices,
        lambda t: t.sort(stable=True),
        lambda t: t.new_zeros(3),
        lambda t: torch.linalg.solve_ex(torch.eye(4, device="cuda"), t),
    ],
)
def test_the_host_does_not_wait(log, work):
    work(on_device(numbers(4)))
    assert calls(log) == [] and all(event.kind in (COPY, LAUNCH) for event in log.events)


def test_copies_that_nobody_waits_for_are_noted(log):
    torch.ones(4).to("cuda", non_blocking=True)
    assert log.count(COPY) == 1 and log.count(WAIT) == 0


def test_torchvisions_nms_waits(log):
    torchvision = pytest.importorskip("torchvision")
    torchvision.ops.nms(on_device(torch.tensor([[0.0, 0, 1, 1]])), on_device(numbers(1)), 0.5)
    assert calls(log) == ["nms"]


def test_the_line_of_the_package_is_noted(log):
    from rcnn_tutorial.ops.boxes import remove_small_boxes

    boxes = on_device(torch.tensor([[0.0, 0, 2, 2]]))
    boxes.tolist()
    remove_small_boxes(boxes, 1.0)
    assert list(log.lines(WAIT).values()) == [1, 1]
    (elsewhere, _), (line, call) = log.lines(WAIT)
    assert elsewhere == "elsewhere:0"
    assert line.startswith("ops/boxes.py:") and line.endswith(" remove_small_boxes") and call == "nonzero"


# What the device does


def test_launches_are_counted(log):
    tensor = on_device(numbers(3, 4))
    F.relu(tensor @ tensor.t() + 1)
    assert calls(log, LAUNCH) == ["mm", "add", "relu"]
    numbers(3) + 1
    torch.cat((numbers(3), numbers(2)))
    assert log.events == []


def test_views_and_memory_are_no_launches(log):
    tensor, index = on_device(numbers(3, 4)), on_device(torch.zeros(2, 1, dtype=torch.int64))
    tensor.t()[1:].view(-1, 1, 3).expand(3, 2, 3).unbind(1), tensor.detach(), tensor.shape
    torch.empty(3, device="cuda"), torch.empty_like(tensor), torch.empty_strided((2,), (1,), device="cuda")
    tensor.new_empty(3), tensor.new_empty_strided((2,), (1,)), torch.ops.aten._unsafe_view(tensor, (4, 3))
    sparse = torch.sparse_coo_tensor(index, tensor[0, :1], (1, 1), check_invariants=False)
    sparse._indices(), sparse._values(), sparse.sparse_dim(), sparse.dense_dim()
    tensor.is_pinned(), tensor.is_same_size(tensor)
    assert calls(log, LAUNCH) == []


def test_a_device_is_copied_with_what_knows_it(log):
    known = {"device": torch.device("cuda", 0), "tensor": on_device(numbers(2))}
    copied = copy.deepcopy(known)
    assert copied["device"] == known["device"] and copied["tensor"].device == known["tensor"].device
