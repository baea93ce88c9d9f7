import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from rcnn_tutorial.cache import FeatureCache, fingerprint

ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Settings:
    size: int = 227
    context: float = 16.0
    scales: tuple[int, ...] = (1, 2)


class Pictures(Dataset):
    classes = ("background", "ring")
    transform = None

    def __init__(self, folder, boxes=((1.0, 2, 3, 4),)):
        self.folder, self.boxes = folder, boxes
        self.ids = tuple(f"{index:03d}" for index in range(3))
        for name in self.ids:
            (folder / name).write_bytes(b"pixels")

    def __len__(self):
        return len(self.ids)

    def target(self, index):
        return {"boxes": torch.tensor(self.boxes), "labels": torch.ones(len(self.boxes), dtype=torch.int64)}

    def path(self, index):
        return self.folder / self.ids[index]


class Counted:
    """A computation that knows how often it was done."""

    def __init__(self, value):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return self.value


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def test_computed_once(tmp_path, device):
    value = {"features": torch.rand(5, 3, device=device, requires_grad=True), "boxes": [torch.zeros(0, 4)], "n": 5}
    compute = Counted(value)
    for _ in range(3):
        found = FeatureCache(tmp_path).get(("weights", 1), compute)
        assert torch.equal(found["features"], value["features"].cpu()) and found["n"] == 5
        assert found["features"].device.type == "cpu" and not found["features"].requires_grad
        assert found["boxes"][0].shape == (0, 4)
    assert compute.calls == 1
    assert FeatureCache(tmp_path).get(("weights", 1), compute, device)["features"].device.type == device.type


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_types_are_kept(dtype, tmp_path):
    value = torch.arange(6).reshape(2, 3).to(dtype)
    for _ in range(2):
        found = FeatureCache(tmp_path).get(str(dtype), lambda: (value, None, "text"))
        assert found[0].dtype == dtype and torch.equal(found[0], value) and found[1:] == (None, "text")


def test_changed_weights_settings_or_data_are_computed_again(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    model, settings, data = network(), Settings(), Pictures(tmp_path)
    compute = Counted(torch.zeros(1))

    def look(model=model, settings=settings, data=data):
        cache.get((model, settings, data), compute)
        return compute.calls

    assert look() == look() == look(model=network(), settings=Settings(), data=Pictures(tmp_path)) == 1
    with torch.no_grad():
        model[2].weight[0, 0] += 1e-6
    assert look() == 2
    model[1].running_mean[0] = 1
    assert look() == 3
    assert look(settings=Settings(context=8.0)) == 4
    assert look(data=Pictures(tmp_path, boxes=((1.0, 2, 3, 5),))) == 5
    assert look(data=Subset(data, [0, 1])) == 6
    assert look(data=Subset(data, [0, 2])) == 7
    assert look() == 7
    data.path(1).write_bytes(b"other pixels")
    assert look() == 8


def test_different_things_have_different_fingerprints():
    zeros = torch.zeros(2, 3)
    things = [
        1, 1.0, True, "1", b"1", None, [], {}, "", [1], [[1]], [1, 1], ["ab", "c"], ["a", "bc"], ["abc"],
        {"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": {"b": 1}}, [["a", 1], ["b", 2]],
        zeros, zeros.t(), zeros.half(), zeros.long(), zeros.reshape(6), torch.zeros(0), torch.zeros(0, 4),
        torch.tensor(0.0), torch.tensor([0.0]), zeros.numpy(), zeros.numpy().T,
        Settings(), Settings(size=226), Settings(scales=(1,)), dataclasses.asdict(Settings()),
        torch.float16, torch.float32, torch.device("cpu"), Path("a"), Path("b"),
    ]  # fmt: skip
    assert len({fingerprint(thing) for thing in things}) == len(things)


def test_equal_things_have_equal_fingerprints(device):
    values = torch.arange(12.0).reshape(3, 4)
    assert fingerprint(values) == fingerprint(values.t().contiguous().t()) == fingerprint(values.to(device))
    assert fingerprint(values) == fingerprint(values.clone().requires_grad_())
    assert fingerprint({"a": 1, "b": values}) == fingerprint({"b": values, "a": 1})
    assert fingerprint([1, (2,)]) == fingerprint((1, [2])) and fingerprint(np.int64(3)) == fingerprint(3)
    assert fingerprint(network()) == fingerprint(network().state_dict()) == fingerprint(network().to(device))


def test_fingerprints_outlive_the_process():
    # Python's own hash of a text does not.
    found = fingerprint({"b": torch.arange(6).reshape(2, 3), "a": [1, 2.5, None, "text"]})
    assert found == "c34d2e41b39e70abc58622ea3c0550b9465a2d6d167e7ed98d18e21c4ad08e7e"


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "other", "no tensors"])
def test_a_damaged_entry_is_computed_again(damage, tmp_path):
    cache, compute = FeatureCache(tmp_path), Counted(torch.arange(10000.0))
    cache.get("key", compute)
    path = tmp_path / f"{fingerprint('key')}.pt"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "no tensors":
        torch.save(Counted, path)
    else:
        path.write_bytes(b"" if damage == "empty" else b"something else")
    with pytest.warns(UserWarning, match=path.name):
        found = cache.get("key", compute)
    assert torch.equal(found, compute.value) and compute.calls == 2
    assert torch.equal(cache.get("key", compute), compute.value) and compute.calls == 2


def test_a_failing_computation_leaves_nothing(tmp_path):
    cache = FeatureCache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 / 0)
    assert cache.size() == 0
    assert cache.get("key", lambda: torch.ones(1)) == 1


def test_a_killed_writer_leaves_no_entry(tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.replace", die)
        cache.get("key", lambda: torch.zeros(1))
    assert cache.size() == 0 and cache.get("key", lambda: torch.ones(1)) == 1
    assert not list(tmp_path.glob("*.part"))


def test_entries_may_ask_for_entries(tmp_path):
    cache = FeatureCache(tmp_path)
    assert cache.get("outer", lambda: cache.get("inner", lambda: torch.ones(1)) + 1) == 2
    assert cache.get("inner", lambda: 1 / 0) == 1


def test_size_and_clear(tmp_path):
    cache = FeatureCache(tmp_path / "new")
    assert cache.size() == 0
    cache.clear()
    features = torch.rand(1000, 64)
    cache.get("float32", lambda: features)
    whole = cache.size()
    assert 256_000 < whole < 260_000
    cache.get("float16", lambda: features.half())
    assert 128_000 < cache.size() - whole < 132_000
    before = cache.size()
    cache.get("slice", lambda: features[:1])  # stored without the other 999 rows
    assert cache.size() - before < 4_000
    cache.clear()
    assert cache.size() == 0 and not list((tmp_path / "new").iterdir())
    compute = Counted(features)
    cache.get("float32", compute)
    assert compute.calls == 1


WORKER = """
import sys, time, torch
from pathlib import Path
from rcnn_tutorial.cache import FeatureCache
folder, name = Path(sys.argv[1]), sys.argv[2]

def compute():
    with open(folder / "calls", "a") as file:
        file.write(name)
    time.sleep(0.5)
    return torch.full((3,), 7.0)

(folder / f"ready-{name}").touch()
while not (folder / "go").exists():
    time.sleep(0.005)
assert FeatureCache(folder / "cache").get("key", compute).tolist() == [7, 7, 7]
"""


def test_two_processes_compute_once(tmp_path):
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, tmp_path, name], cwd=ROOT) for name in "ab"]
    limit = time.monotonic() + 60
    while not all((tmp_path / f"ready-{name}").exists() for name in "ab"):
        assert time.monotonic() < limit and all(worker.poll() is None for worker in workers)
        time.sleep(0.005)
    (tmp_path / "go").touch()
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    assert len((tmp_path / "calls").read_text()) == 1
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".pt"]


class Wrapped(Dataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __getattr__(self, name):
        return getattr(self.dataset, name)


def test_datasets_that_change_their_images_are_refused(tmp_path):
    data = Pictures(tmp_path)
    with pytest.raises(ValueError, match="^key: Wrapped gives other images"):
        fingerprint(Wrapped(data))
    data.transform = abs
    with pytest.raises(ValueError, match="^key: Pictures gives other images"):
        fingerprint(data)


@pytest.mark.parametrize("key", [object(), abs, {1, 2}, torch.Generator(), Settings, Dataset(), np.array([object()])])
def test_keys_without_stable_content_are_refused(key, tmp_path):
    with pytest.raises(ValueError, match="^key: "):
        FeatureCache(tmp_path).get((key,), lambda: torch.zeros(1))


@pytest.mark.parametrize("value", [object(), np.zeros(3), [torch.Size([1])], {"a": {1}}])
def test_results_that_are_no_tensors_are_refused(value, tmp_path):
    with pytest.raises(ValueError, match="^compute: expected tensors"):
        FeatureCache(tmp_path).get("key", lambda: value)
