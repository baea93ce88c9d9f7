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
ODD = [None, True, -1, 0, 3, 10**9, 2**70, 0.5, float("nan"), float("inf"), "abc", "", b"\0", [], [1, 2], {}, {"a": 1},
       (), torch.zeros(2), [[]], set(), 1j]  # fmt: skip


SETTINGS = FasterRCNNSettings.tiny()


def detector():
    torch.manual_seed(0)
    return build("faster_rcnn", CLASSES, SETTINGS, ConvNet(LAYERS, 16, 4, 3, 0.0))


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
    """ "used", or "refused" where the error is one that names the file."""
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
    """A file that is taken is a detector, and detects."""
    model = load(path)
    assert isinstance(model.classes, tuple) and all(isinstance(name, str) for name in model.classes)
    if model.settings == SETTINGS:  # with others, such as pictures of 10**9 pixels, it may take any time
        (found,) = model([torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))])
        assert found["boxes"].shape[1:] == (4,)


def fuzz(saved, path, cases, seed=0):
    content, values = saved
    counts, wrong = Counter(), []
    for index in range(cases):
        random = Random(f"{seed}-{index}")
        make = random.choice([spoiled, spoiled, malicious, replaced, replaced, replaced])
        changed = as_file(replaced(random, deepcopy(values))) if make is replaced else make(random, content)
        path.write_bytes(changed)
        try:
            counts[make.__name__, attempt(path, detect)] += 1
        except Exception as error:
            wrong.append(f"case {index} of seed {seed}, {make.__name__}: {error!r}")
    assert not wrong, "\n".join(wrong[:20])
    return counts


def test_changed_files_of_a_detector(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").write_bytes(saved[0])
    assert attempt(tmp_path / "mine.pt", detect) == "used"
    counts = fuzz(saved, tmp_path / "mine.pt", 60)
    assert counts["malicious", "refused"] >= 3 and not counts["malicious", "used"]
    assert counts["replaced", "refused"] >= 10 and counts["spoiled", "refused"] >= 5


@pytest.mark.whole
def test_changed_files_of_a_detector_in_1000_cases(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sum(fuzz(saved, tmp_path / "mine.pt", 1000, seed=1).values()) == 1000


def edited(saved, tmp_path, change):
    values = deepcopy(saved[1])
    change(values)
    (tmp_path / "mine.pt").write_bytes(as_file(values))
    return tmp_path / "mine.pt"


def test_a_detector_whose_name_is_a_list(saved, tmp_path):
    """It raised a TypeError."""
    with pytest.raises(ValueError, match=r"mine\.pt: detector is a list, expected a detector that save"):
        load(edited(saved, tmp_path, lambda values: values.update(detector=["fpn"])))


def test_classes_that_are_no_names(saved, tmp_path):
    """They were taken, and drawing the first detection failed."""
    with pytest.raises(ValueError, match=r"mine\.pt: classes are \['background', 5, 6\], expected names"):
        load(edited(saved, tmp_path, lambda values: values.update(classes=["background", 5, 6])))


@pytest.mark.parametrize("mean", ["abc", (0.1, 0.2), (0.1, float("nan"), 0.1), 0.5, None])
def test_means_that_are_none(saved, tmp_path, mean):
    """An error told of dimensions and of no file, or the detector found nothing."""
    with pytest.raises(ValueError, match=r"mine\.pt: mean is .*, expected three numbers"):
        load(edited(saved, tmp_path, lambda values: values["normalise"].update(mean=mean)))


@pytest.mark.parametrize(
    ("name", "value"), [("min_size", "abc"), ("nms_threshold", "0.5"), ("rois", 0.5), ("rois", 2**70), ("training", 5),
                        ("background", (0.1,)), ("background", "ab"), ("sampling_ratio", [2]), ]
)  # fmt: skip
def test_settings_of_another_type(saved, tmp_path, name, value):
    """They were taken, and the first detection failed."""
    with pytest.raises(ValueError, match=rf"mine\.pt: settings, .*: settings: {name} of FasterRCNNSettings is "):
        load(edited(saved, tmp_path, lambda values: values["settings"].update({name: value})))


def test_settings_may_be_lists_and_whole_numbers():
    values = asdict(SETTINGS)
    values |= {"background": list(values["background"]), "nms_threshold": 1, "rois": 64.0}
    assert settings_from(FasterRCNNSettings, values).background == [0.0, 0.5]


@pytest.mark.parametrize("field", ["hidden", "channels"])
def test_a_network_that_would_fill_the_memory(saved, tmp_path, field):
    """A file of 8 kB could ask for all the memory that there is."""

    def change(values):
        (values["network"] if field == "hidden" else values["network"]["layers"][1])[field] = 30_000_000

    before = _peak()
    with pytest.raises(ValueError, match=r"mine\.pt: settings, network and weights do not fit .*: weights: \S+ is"):
        load(edited(saved, tmp_path, change))
    assert _peak() - before < MEGABYTES


def test_weights_of_another_kind(saved, tmp_path):
    """Whole numbers were taken for weights, and complex ones with a warning."""
    for kind in (torch.int64, torch.complex64):

        def change(values, kind=kind):
            name = next(name for name, value in values["weights"].items() if value.is_floating_point())
            values["weights"][name] = values["weights"][name].to(kind)

        with pytest.raises(ValueError, match=r"mine\.pt: .* weights: \S+ is torch\.(int64|complex64)"):
            load(edited(saved, tmp_path, change))


def test_an_archive_that_unpacks_to_more_than_it_can_mean(tmp_path):
    """A file of 200 kB was unpacked to 200 MB before it was looked at."""
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200_000_000))
    with pytest.raises(ValueError, match=r"a\.pt: cut short or damaged \(would take 200000000 bytes\)"):
        read_archive(tmp_path / "a.pt")


def test_errors_keep_their_file():
    for error in (KeyError("x"), ValueError("x"), IndexError("x"), OverflowError("x")):
        with pytest.raises(ValueError, match="a.pt: does not fit: "), fitting("a.pt", "does not fit"):
            raise error
    with pytest.raises(ValueError, match="^a.pt: it$"), fitting("a.pt", "does not fit"):
        raise ValueError("a.pt: it")
    with pytest.raises(MemoryError), fitting("a.pt", "does not fit"):
        raise MemoryError


class Numbers(torch.utils.data.Dataset):
    classes = CLASSES

    def __len__(self):
        return 4


@pytest.mark.parametrize("cases", [50, pytest.param(300, marks=pytest.mark.whole)])
def test_changed_checkpoints(tmp_path, monkeypatch, cases):
    """A checkpoint of other content raised a KeyError, a TypeError or an IndexError."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    settings = TrainSettings(steps=3, batch_size=2)
    path = tmp_path / "checkpoint.pt"
    Run(torch.nn.Linear(2, 2), Numbers(), settings).save(path)
    content, values = path.read_bytes(), read_archive(path)
    counts, wrong = Counter(), []
    for index in range(cases):
        random = Random(f"checkpoint-{index}")
        make = random.choice([spoiled, malicious, replaced, replaced])
        if make is replaced:
            path.write_bytes(as_file(replaced(random, deepcopy(values))))
        else:
            path.write_bytes(make(random, content))
        try:
            run = Run(torch.nn.Linear(2, 2), Numbers(), settings)
            counts[make.__name__, attempt(path, run.load)] += 1
        except Exception as error:
            wrong.append(f"case {index}, {make.__name__}: {error!r}")
    assert not wrong, "\n".join(wrong[:10])
    assert counts["replaced", "refused"] > cases / 5 and not counts["malicious", "used"]
    write_archive(values, path)
    Run(torch.nn.Linear(2, 2), Numbers(), settings).load(path)
