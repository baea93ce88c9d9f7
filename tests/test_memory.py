"""What passes at the papers' scale keep in memory, counted without computing anything."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rcnn_tutorial.detectors.fpn import FPNSettings
from rcnn_tutorial.detectors.rcnn import RCNN
from rcnn_tutorial.nets.backbones import vgg16
from rcnn_tutorial.nets.rpn import RPN

GIB = 2**30


class Memory(TorchDispatchMode):
    """Bytes that are alive of what is made inside, now and at most."""

    def __init__(self):
        super().__init__()
        self.now, self.most, self.users = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        known = {tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if torch.is_tensor(tensor)}
        for tensor in filter(torch.is_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if storage._cdata in known and storage._cdata not in self.users:
                continue  # of a tensor from outside
            if storage._cdata not in self.users:
                self.users[storage._cdata] = 0
                self.now += storage.nbytes()
            self.users[storage._cdata] += 1
            weakref.finalize(tensor, self.drop, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.now)
        return out

    def drop(self, key, size):
        self.users[key] -= 1
        if not self.users[key]:
            del self.users[key]
            self.now -= size


def test_the_count_of_memory():
    outside = torch.zeros(100)
    with Memory() as memory:
        first = torch.zeros(1000)
        view = first[:10]
        del first
        assert memory.now == 4000 and outside[:5].sum() == 0
        del view
        assert memory.now == 0 and memory.most >= 4000


def test_labels_of_300_objects_on_a_pyramid():
    """Of 268,569 anchors and 300 objects of two images at 800 x 1344; a matrix of all pairs has 0.3 GiB."""
    rpn = RPN(1, (4, 8, 16, 32, 64), FPNSettings().rpn)
    with torch.no_grad():
        anchors = rpn([torch.zeros(2, 1, 800 // stride, 1344 // stride) for stride in (4, 8, 16, 32, 64)]).anchors
    objects = torch.zeros(300, 4, device="meta")
    with Memory() as memory:
        rpn.label(anchors.to("meta"), [objects, objects], [(800, 1333)] * 2)
    assert 0.6 * GIB < memory.most < 1.4 * GIB, f"{memory.most / GIB:.2f} GiB"


@pytest.mark.parametrize("windows", [64, 200])
def test_crops_in_vgg16(windows):
    with torch.device("meta"):
        model = RCNN(vgg16(21).eval(), ("background", *map(str, range(20)))).eval()
        image, boxes = torch.zeros(3, 375, 500), torch.zeros(windows, 4)
        with Memory() as memory:
            model.pooled(image, boxes)
    assert 0.1 * GIB < memory.most < 1 * GIB, f"{memory.most / GIB:.2f} GiB"
