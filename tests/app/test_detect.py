import logging
import shutil
from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image

import rcnn_tutorial
from rcnn_tutorial.app.detect import PROPOSALS, detect, model_of
from rcnn_tutorial.data.generated.shapes import scene
from rcnn_tutorial.detectors import load
from rcnn_tutorial.ops.boxes import box_iou
from tests.app.pictures import BOX, FindsColours, picture


@pytest.fixture
def folder(tmp_path):
    """Three pictures of different sizes, one of them in a subfolder and one without anything in it."""
    (tmp_path / "more").mkdir()
    picture().save(tmp_path / "1.png")
    picture((120, 90), (10, 20, 30, 50), (50, 20, 90, 70)).save(tmp_path / "more/1.png")
    picture((60, 40), None).save(tmp_path / "empty.png")
    return tmp_path


def told(detected):
    return [(d.path.name, d.size, d.names, d.boxes.tolist()) for d in detected]


def test_a_folder_with_its_subfolders_is_detected_on_in_the_order_of_its_names(folder):
    found = detect(FindsColours(), folder, progress=False)
    assert told(found) == [
        ("1.png", (100, 80), ("red",), [list(BOX)]),
        ("empty.png", (60, 40), (), []),
        ("1.png", (120, 90), ("red",), [[10, 20, 30, 50]]),
    ]
    assert found[2].path == folder / "more/1.png" and found[0].frame is None and found[0].masks is None
    assert found[0].labels.tolist() == [1] and found[0].scores.tolist() == pytest.approx([0.9])
    assert found[1].boxes.shape == (0, 4) and len(found[1]) == 0 and found[1]


def test_the_threshold_and_the_classes_decide_what_is_returned(folder):
    file = folder / "more/1.png"

    def names(**options):
        return detect(FindsColours(), file, progress=False, **options)[0].names

    assert names(threshold=0.3) == ("red", "blue") == names(threshold=0.0)
    assert names(threshold=0.3, classes=["blue"]) == ("blue",) and names(classes=["blue"]) == ()
    assert names(threshold=torch.tensor(0.9).item()) == ("red",)  # a score at the threshold stays
    assert names(threshold=0.91) == ()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_changes_how_many_pictures_go_through_at_once_and_nothing_else(folder, batch):
    model = FindsColours().train()
    found = detect(model, folder, batch=batch, progress=False)
    assert [len(sizes) for sizes in model.batches] == {1: [1, 1, 1], 2: [2, 1], 5: [3]}[batch]
    assert told(found) == told(detect(FindsColours(), folder, progress=False))
    assert model.training


def test_pixels_may_be_given_in_place_of_a_file():
    image = picture()
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for given in (image, pixels, pixels / 255, [image, pixels]):
        found = detect(FindsColours(), given, progress=False)
        assert len(found) == (2 if isinstance(given, list) else 1)
        assert all(d.boxes.tolist() == [list(BOX)] and d.path is None and d.size == (100, 80) for d in found)
    assert repr(found[0]) == "Detected(picture, 100x80: red 0.90)"


def test_a_rotated_photograph_is_seen_as_a_viewer_shows_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it by 90 degrees, clockwise
    picture().save(tmp_path / "turned.png", exif=exif)
    turned = [80 - BOX[3], BOX[0], 80 - BOX[1], BOX[2]]
    with Image.open(tmp_path / "turned.png") as image:
        for given in (tmp_path / "turned.png", image):
            (found,) = detect(FindsColours(), given, progress=False)
            assert found.size == (80, 100) and found.boxes.tolist() == [turned]


def test_a_bad_picture_is_left_out_with_a_warning_but_raises_where_it_is_alone(folder, caplog):
    bad = folder / "broken.png"
    bad.write_bytes((folder / "1.png").read_bytes()[:-60])
    with caplog.at_level(logging.WARNING):
        found = detect(FindsColours(), folder, progress=False)
    assert [d.path.name for d in found] == ["1.png", "empty.png", "1.png"]
    assert len(caplog.records) == 1 and str(bad) in caplog.text and "not a readable image" in caplog.text
    with pytest.raises(ValueError, match="broken.png: not a readable image"):
        detect(FindsColours(), bad, progress=False)
    (folder / "tiny.png").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 2 could be read, the first because of: not a readable image"):
        detect(FindsColours(), [bad, folder / "tiny.png"], progress=False)


def test_masks_come_as_booleans_of_the_picture(folder):
    found = detect(FindsColours(masks=True), folder, progress=False)
    x1, y1, x2, y2 = BOX
    expected = torch.zeros(1, 80, 100, dtype=torch.bool)
    expected[:, y1:y2, x1:x2] = True
    assert torch.equal(found[0].masks, expected) and found[1].masks.shape == (0, 40, 60)
    assert found[0].answer()["masks"] == found[0].runs
    assert set(detect(FindsColours(), folder / "1.png", progress=False)[0].answer()) == {"boxes", "labels", "scores"}


def test_a_model_without_names_gets_numbers_for_names(folder):
    assert detect(FindsColours(None), folder / "1.png", progress=False)[0].names == ("class 1",)
    with pytest.raises(ValueError, match="it names none"):
        detect(FindsColours(None), folder / "1.png", classes=["red"], progress=False)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(threshold=1.5), "threshold: expected a score from 0 to 1, got 1.5"),
        (dict(threshold=-0.1), "threshold"),
        (dict(batch=0), "batch: expected at least 1, got 0"),
        (dict(classes=["red", "green"]), "classes: expected some of red, blue, got 'green'"),
        (dict(classes=["background"]), "classes"),
        (dict(device="gpu"), "device: expected cpu, cuda"),
        (dict(every=0), "every: expected at least 1"),
    ],
)
def test_wrong_arguments_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        detect(FindsColours(), folder, progress=False, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(folder):
    with pytest.raises(ValueError, match="device: expected one that PyTorch finds on this machine, such as cpu"):
        detect(FindsColours(), folder, device="cuda")


def test_a_detector_is_found_by_its_name_its_file_and_the_folder_of_its_training(tmp_path):
    shutil.copy(resources.files("rcnn_tutorial.weights") / "faster_rcnn.pt", tmp_path / "best.pt")
    for place in ("faster_rcnn", tmp_path, str(tmp_path / "best.pt")):
        model = model_of(place)
        assert model.name == "faster_rcnn" and not model.training
    assert model_of(model, "cpu") is model
    with pytest.raises(FileNotFoundError, match="none.pt: no such file; the package has"):
        model_of(tmp_path / "none.pt")
    (tmp_path / "best.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="best.pt: cut short or damaged"):
        model_of(tmp_path)


def test_a_shipped_detector_detects_what_it_detects_without_this_function():
    drawn = scene(0, 300_000)
    image = torch.from_numpy(drawn.image).permute(2, 0, 1).float() / 255
    (found,) = rcnn_tutorial.detect("fpn", Image.fromarray(drawn.image), threshold=0.5, device="cpu", progress=False)
    with torch.no_grad():
        (answer,) = load("fpn")([image])
    stay = answer["scores"] >= 0.5
    assert torch.equal(found.boxes, answer["boxes"][stay]) and torch.equal(found.scores, answer["scores"][stay])
    assert len(found) and box_iou(found.boxes, torch.from_numpy(drawn.boxes)).max(dim=1).values.median() > 0.7


@pytest.mark.parametrize("name", ["fast_rcnn", "rcnn", "sppnet"])
def test_selective_search_proposes_where_the_detector_does_not(name, monkeypatch):
    from rcnn_tutorial.app import detect as module

    searched = []
    window = torch.tensor([[30, 20, 80, 60.0]])

    def search(images, top):
        searched.append((len(images), top))
        return [window for _ in images]

    monkeypatch.setattr(module, "selective_search_batch", search)
    found = detect(name, [picture(), picture((120, 90))], threshold=0.0, batch=2, device="cpu", progress=False)
    assert searched == [(2, PROPOSALS)] and [d.size for d in found] == [(100, 80), (120, 90)]
    assert all(0 < len(d) <= 6 for d in found)  # one window, and at most a box of it for each class
