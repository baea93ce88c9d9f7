"""An exported FPN gives what the detector gives, and what cannot be exported is told."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from rcnn_tutorial import build, load
from rcnn_tutorial.app import export as module
from rcnn_tutorial.app.cli import app
from rcnn_tutorial.app.export import Exported, export
from rcnn_tutorial.app.fixed import FixedFPN, axis, detections, greedy, overlaps
from rcnn_tutorial.detectors.fpn import FPN, FPNSettings
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.nms import nms
from rcnn_tutorial.ops.pooling import roi_align
from tests.detectors.scenes import scene

SIZE = (192, 256)


def same(answer, expected, boxes=1e-3, scores=1e-4):
    assert answer["labels"].tolist() == expected["labels"].tolist()
    assert (answer["boxes"] - expected["boxes"]).abs().max() <= boxes
    assert (answer["scores"] - expected["scores"]).abs().max() <= scores


@pytest.fixture(scope="module")
def detector():
    return load("fpn")


@torch.no_grad()
def test_fixed_shapes_give_what_the_detector_gives(detector):
    fixed, seen = FixedFPN(detector, SIZE).eval(), 0
    for index in range(4):
        image = scene(index)[0]
        outputs = fixed(image)
        assert [tuple(part.shape) for part in outputs] == [(100, 4), (100,), (100,)]
        assert not outputs[0][outputs[2] == 0].any() and not outputs[1][outputs[2] == 0].any()
        expected = detector([image])[0]
        same(detections(outputs), expected)
        seen += len(expected["scores"])
    assert seen > 10


@torch.no_grad()
def test_pictures_are_resized_padded_and_cut_as_in_the_detector():
    """A detector that is told to make small pictures larger, with few proposals, scores that all pass, odd sides."""
    settings = FPNSettings.tiny(min_size=90, max_size=130, divisor=32, least_score=0.0, detections=20)
    model = FPN(tiny_net(pretrained=True), ("background", "a", "b", "c"), settings, seed=3).eval()
    for parameter in model.head.parameters():
        parameter.mul_(3)  # scores that differ
    image = scene(2)[0][:, :61, :97]
    expected = model([image])[0]
    assert len(expected["scores"]) == 20
    same(detections(FixedFPN(model, (61, 97)).eval()(image)), expected)


def test_nms_without_branches_is_nms():
    generator = torch.Generator().manual_seed(0)
    corner = 60 * torch.rand(200, 2, generator=generator)
    boxes = torch.cat((corner, corner + 5 + 40 * torch.rand(200, 2, generator=generator)), dim=1)
    for threshold in (0.1, 0.3, 0.7):
        kept = greedy(overlaps(boxes) > threshold).nonzero()[:, 0]
        assert kept.tolist() == nms(boxes, torch.linspace(1, 0, 200), threshold).tolist()
    chain = torch.ones(6, 6).triu(1).tril(1) > 0  # each overlaps only the next: the first decides about all
    assert greedy(chain).tolist() == [True, False] * 3


def test_the_cells_of_an_axis_are_those_of_roi_align():
    features = torch.rand(1, 2, 9, 12, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[1.3, 0.2, 7.7, 8.9], [-3.0, -4.0, 2.0, 20.0], [4.0, 4.0, 4.1, 4.2]])
    side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    limits = torch.full((3,), 12), torch.full((3,), 9)
    (x, of_x), (y, of_y) = (axis(boxes[:, i], side[:, i], 3, 2, limits[i]) for i in range(2))
    dense = [torch.zeros(3, 3, n).scatter_add_(2, at, of) for at, of, n in ((x, of_x, 12), (y, of_y, 9))]
    pooled = torch.einsum("rjw,riy,cyw->rcij", dense[0], dense[1], features[0])
    assert torch.allclose(pooled, roi_align(features, [boxes], 3, 1.0, 2), atol=1e-6)


def test_what_cannot_be_exported(tmp_path):
    for name in ("faster_rcnn", "mask_rcnn", "retinanet"):
        with pytest.raises(ValueError, match=f"model: expected an FPN, .* got {name}"):
            export(name, path=tmp_path / "file.onnx")
    rounded = build("fpn", ("background", "a"), FPNSettings.tiny(sampling_ratio=None))
    with pytest.raises(ValueError, match="RoIAlign with a fixed number of points"):
        export(rounded, path=tmp_path / "file.onnx")
    with pytest.raises(ValueError, match="to: expected onnx or exported, got 'tflite'"):
        export("fpn", "tflite")
    with pytest.raises(ValueError, match="part: expected detector or network, got 'head'"):
        export("fpn", part="head")
    with pytest.raises(ValueError, match="size: expected height and width from 32 to 8192 pixels, got"):
        export("fpn", size=(16, 100))
    assert not any(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch, tmp_path, detector):
    def missing(*_, **__):
        raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")

    monkeypatch.setattr(torch.onnx, "export", missing)
    with pytest.raises(RuntimeError, match="pip install onnxscript"):
        export(detector, path=tmp_path / "file.onnx")


def test_a_detector_that_is_given_stays_as_it_is(detector, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_write_exported", lambda network, image, *_: [part + 0.5 for part in network(image)])
    detector.train()
    try:
        written = export(detector, "exported", (64, 96), tmp_path / "net.pt2", part="network")
        assert detector.training
    finally:
        detector.eval()
    assert written.largest == pytest.approx(dict.fromkeys(("logits", "offsets", "p2", "p3", "p4", "p5", "p6"), 0.5))
    assert (written.path, written.size, written.classes) == (tmp_path / "net.pt2", (64, 96), detector.classes)


def test_a_file_that_differs_says_so(tmp_path):
    (tmp_path / "file.onnx").write_bytes(b"")
    told = Exported(tmp_path / "file.onnx", "onnx", "detector", SIZE, ("background", "cat"), {"boxes": 3.0})
    assert "more than rounding" in str(told) and "labels: 1 cat" in str(told)
    assert "compared" not in str(Exported(tmp_path / "file.onnx", "onnx", "detector", SIZE, ("background",), {}))


def test_the_command_hands_everything_on(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "export", lambda *arguments, **options: calls.append((arguments, options)) or "written")
    arguments = ["export", "best.pt", "--to", "exported", "--size", "192x256", "--output", "a.pt2", "--part", "network"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and done.output == "written\n"
    CliRunner().invoke(app, ["export", "fpn"], catch_exceptions=False)
    assert calls == [
        (("best.pt", "exported", (192, 256), Path("a.pt2")), {"part": "network"}),
        (("fpn", "onnx", None, None), {"part": "detector"}),
    ]
    with pytest.raises(ValueError, match="--size: expected height and width such as 192x256, got '192'"):
        CliRunner().invoke(app, ["export", "fpn", "--size", "192"], catch_exceptions=False)


def test_help_does_not_load_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom rcnn_tutorial.app.cli import app\n"
        "done = CliRunner().invoke(app, ['export', '--help'])\n"
        "assert done.exit_code == 0 and 'other programs run' in done.output, done.output\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.whole
@torch.no_grad()
def test_the_program_writes_onnx_that_agrees_on_twenty_scenes(tmp_path, detector):
    program = Path(sys.executable).with_name("rcnn-tutorial")
    done = subprocess.run([program, "export", "fpn"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.startswith("fpn-192x256.onnx: detector for pictures 192 pixels high and 256 wide")
        and done.stderr == ""
    )
    assert [path.name for path in tmp_path.iterdir()] == ["fpn-192x256.onnx"]
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / "fpn-192x256.onnx").metadata_props}
    assert facts["classes"] == list(detector.classes) and facts["size"] == [192, 256]
    session = onnxruntime.InferenceSession(str(tmp_path / "fpn-192x256.onnx"))
    assert [output.name for output in session.get_outputs()] == ["boxes", "labels", "scores"]
    for index in range(20):
        image = scene(index)[0]
        same(detections(session.run(None, {"image": image.numpy()})), detector([image])[0])
    refused = subprocess.run([program, "export", "retinanet"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 1 and refused.stderr.startswith("rcnn-tutorial: model: expected an FPN")


@pytest.mark.whole
@torch.no_grad()
def test_the_program_writes_exported_programs(tmp_path, detector):
    program = Path(sys.executable).with_name("rcnn-tutorial")
    for options in (["--output", "whole.pt2"], ["--output", "net.pt2", "--part", "network", "--size", "64x96"]):
        arguments = ["export", "fpn", "--to", "exported", *options]
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and "compared with PyTorch" in done.stdout, done.stderr
    whole = torch.export.load(tmp_path / "whole.pt2").module()
    for index in range(3):
        image = scene(index)[0]
        same(detections(whole(image)), detector([image])[0])
    facts = {"facts.json": ""}
    network = torch.export.load(tmp_path / "net.pt2", extra_files=facts).module()
    assert json.loads(facts["facts.json"]) == {"classes": list(detector.classes), "size": [64, 96], "part": "network"}
    image = scene(0)[0][:, :64, :96]
    _, maps = detector.maps([image])
    predictions = detector.rpn(maps)
    expected = predictions.logits[0], predictions.offsets[0], *maps
    for given, right in zip(network(image), expected, strict=True):
        assert torch.allclose(given, right, atol=1e-4)
