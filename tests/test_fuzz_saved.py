"""Files of detectors and of trainings, changed: whatever they hold, a ValueError or OSError names them."""

import io
import os
import pickle
import time
import warnings
import zipfile
from collections import Counter
from copy import deepcopy
from dataclasses import asdict
from random import Random

import pytest
import torch

from rcnn_tutorial.cache import fitting, read_archive, write_archive
from rcnn_tutorial.detectors import build, load
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNNSettings
from rcnn_tutorial.nets.backbones import Conv, ConvNet
from rcnn_tutorial.saving import settings_from
from rcnn_tutorial.training import TrainSettings
from rcnn_tutorial.training.checkpoint import Run
from tests.data.fuzz import MEGABYTES, SECONDS, _peak

CLASSES = ("background", "cat", "dog")
LAYERS = (Conv(4, 3, padding=1, pool=2), Conv(4, 3, padding=1, pool=2), Conv(4, 3, padding=1, pool=2))
ODD = [None, True, -1, 0, 3, 10**9, 2**70, 0.5, float("nan"), float("inf"), "abc", "", b"\0", [], [1, 2], {}, {"a": 1}, (),
       torch.zeros(2), [[]], set(), 1j]  # fmt: skip


def detector():
    torch.manual_seed(0)
    return build("faster_rcnn", CLASSES, FasterRCNNSettings.tiny(), ConvNet(LAYERS, 16, 4, 3, 0.0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector as bytes, and as what the file holds."""
    path = tmp_path_factory.mktemp("saved") / "mine.pt"
    detector().save(path)
    return path.read_bytes(), read_archive(path)


class Harm:
    """What a malicious pickle asks to be called."""

    def __reduce__(self):
        return os.system, ("touch marker",)


def spoiled(random, content):
    """Some bytes of a file, changed."""
    kind = random.randrange(6)
    place = random.randrange(len(content))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes(random.randrange(256) for _ in range(random.choice((1, 50)))) + content[place:]
    if kind == 2:
        return content[place:] + content[:place]
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 8))):
        # half of the flips in the directory at the end, where no checksum is
        where = random.randrange(len(content) - 1500, len(content)) if kind == 3 else random.randrange(len(content))
        changed[where] ^= 1 << random.randrange(8)
    return bytes(changed)


def malicious(random, content):
    """A pickle that would run a command: plain, as torch wrote it before it wrote archives, and within one."""
    kind = random.randrange(5)
    out = io.BytesIO()
    if kind == 0:
        return pickle.dumps(Harm())
    if kind == 1:
        torch.save({"weights": Harm()}, out, _use_new_zipfile_serialization=False)
    elif kind == 2:
        torch.save({"detector": Harm(), "classes": Harm()}, out)
    elif kind == 3:
        with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as changed:
            for entry in source.infolist():
                harm = entry.filename.endswith("data.pkl")
                changed.writestr(entry.filename, pickle.dumps(Harm(), protocol=2) if harm else source.read(entry))
    else:
        with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as changed:
            for entry in source.infolist():
                changed.writestr(entry.filename, source.read(entry))
            changed.writestr("archive/data/99", bytes(80_000_000))
    return out.getvalue()


def replaced(random, value, depth=0):
    """A value somewhere in nested content, changed in place; the new content."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or (depth and random.random() < 0.15):
        return another(random, value)
    key = random.choice(keys)
    change = random.random()
    if change < 0.1 and isinstance(value, dict):
        value[random.choice(["other", 5, None])] = value.pop(key)
    elif change < 0.15:
        del value[key]
    else:
        value[key] = replaced(random, value[key], depth + 1)
    return value


def another(random, value):
    if isinstance(value, torch.Tensor) and random.random() < 0.7:
        shape = list(value.shape)
        return random.choice(
            [value[None], value.reshape(-1)[:1], value.long(), value.bool(), value.to(torch.complex64), value.tolist(),
             value.to_sparse(), torch.zeros(1).expand([10**9, *shape]), torch.empty(shape, device="meta"), value[:0]]
        )  # fmt: skip
    return random.choice(ODD)


def as_file(content):
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def attempt(path, use):
    """"used", or "refused" where the error is one that names the file."""
    before, started = _peak(), time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            use(path)
            result = "used"
        except (ValueError, OSError) as error:
            assert path.name in str(error), error
            assert len(str(error)) < 5000
            result = "refused"
    assert not caught, caught[0].message
    assert not os.path.exists("marker")
    assert time.process_time() - started < SECONDS and _peak() - before < MEGABYTES
    return result


def detect(path):
    """A file that is taken is a detector that detects."""
    model = load(path)
    (found,) = model([torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))])
    assert found["boxes"].shape[1:] == (4,) and len(model.classes) >= 2


def fuzz(saved, path, cases, seed=0):
    content, values = saved
    counts = Counter()
    for index in range(cases):
        random = Random(f"{seed}-{index}")
        make = random.choice([spoiled, spoiled, malicious, replaced, replaced, replaced])
        changed = as_file(replaced(random, deepcopy(values))) if make is replaced else make(random, content)
        path.write_bytes(changed)
        try:
            counts[make.__name__, attempt(path, detect)] += 1
        except Exception as error:
            raise AssertionError(f"case {index} of seed {seed}, {make.__name__}: {error!r}") from error
    return counts


def test_changed_files_of_a_detector(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").write_bytes(saved[0])
    assert attempt(tmp_path / "mine.pt", detect) == "used"
    counts = fuzz(saved, tmp_path / "mine.pt", 100)
    assert counts["malicious", "refused"] >= 10 and not counts["malicious", "used"]
    assert counts["replaced", "refused"] >= 20 and counts["spoiled", "refused"] >= 15


@pytest.mark.whole
def test_changed_files_of_a_detector_in_1000_cases(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sum(fuzz(saved, tmp_path / "mine.pt", 1000, seed=1).values()) == 1000
