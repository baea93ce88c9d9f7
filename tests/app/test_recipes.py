"""The recipes of published results: what they state, that it is in effect, and that each of them starts."""

import json
import math
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn, retinanet_resnet50_fpn
from typer.testing import CliRunner

from rcnn_tutorial.app.cli import app
from rcnn_tutorial.app.following import follow
from rcnn_tutorial.app.planning import Plan, Wishes
from rcnn_tutorial.app.published import RECIPES
from rcnn_tutorial.app.published.recipe import Network
from rcnn_tutorial.app.recipes import command, described, recipe_named
from rcnn_tutorial.app.train import fit, resume
from rcnn_tutorial.cache import read_archive
from rcnn_tutorial.compat import from_torchvision, settings_of
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.data.voc import VOC_CLASSES, write_annotation
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.training import learning_rate, train
from rcnn_tutorial.training.checkpoint import Run

VOC = ("background", *VOC_CLASSES)
WIDTH, HEIGHT = 96, 72
# what the sources say, once more: figures; steps, pictures to a step, rate; steps at which it falls; weight decay
PUBLISHED = {
    "rcnn_alexnet_voc2007": ((58.5,), (70_000, 1, 0.001), (20_000, 40_000, 60_000), 5e-4),
    "sppnet_zf5_voc2007": ((59.2,), (300_000, 1, 0.0001), (250_000,), 5e-4),
    "fast_rcnn_vgg16_voc2007": ((66.9,), (40_000, 2, 0.001), (30_000,), 5e-4),
    "faster_rcnn_vgg16_voc2007": ((69.9,), (70_000, 2, 0.001), (50_000,), 5e-4),
    "faster_rcnn_zf5_voc2007": ((59.9,), (70_000, 2, 0.001), (50_000,), 5e-4),
    "fpn_resnet50_coco2017": ((37.0,), (190_554, 16, 0.02), (117_264, 161_238), 1e-4),
    "mask_rcnn_resnet50_coco2017": ((37.9, 34.6), (190_554, 16, 0.02), (117_264, 161_238), 1e-4),
    "retinanet_resnet50_coco2017": ((36.4,), (190_554, 16, 0.01), (117_264, 161_238), 1e-4),
}
# layers of the pre-trained network that are not trained: VGG16 below conv3_1, ResNet-50's stem and first stage
BELOW_CONV3 = ("body.0.", "body.1.", "body.2.", "body.3.")
FROZEN = {"VGG16": BELOW_CONV3, "ResNet-50": ("body.bottom_up.stem.", "body.bottom_up.stages.0.")}
EVERY = pytest.mark.parametrize("name", RECIPES)


def picture(random):
    """A bright rectangle on a dark ground, and its box."""
    pixels = random.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    x, y = (int(value) for value in random.integers(4, 20, 2))
    pixels[y : y + 40, x : x + 50] = random.integers(150, 255, 3)
    return Image.fromarray(pixels), [x, y, x + 50, y + 40]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """Folders of a few pictures, laid out as VOC 2007 and COCO 2017."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    voc, coco = folder / "VOC2007", folder / "coco2017"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (voc / part).mkdir(parents=True)
    for split, names in {"trainval": ("a", "b", "c"), "val": ("c",), "test": ("d", "e")}.items():
        (voc / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            image, box = picture(random)
            image.save(voc / "JPEGImages" / f"{name}.jpg")
            write_annotation(
                voc / "Annotations" / f"{name}.xml", f"{name}.jpg", (WIDTH, HEIGHT), torch.tensor([box]), ["cat"]
            )
    (coco / "annotations").mkdir(parents=True)
    for split, count in (("train2017", 5), ("val2017", 2)):
        (coco / split).mkdir()
        images, annotations = [], []
        for number in range(1, count + 1):
            image, (x1, y1, x2, y2) = picture(random)
            image.save(coco / split / f"{number}.jpg")
            images.append({"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT})
            annotation = {"id": number, "image_id": number, "category_id": 1 + number % 2, "iscrowd": 0}
            annotation |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            annotation["segmentation"] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            if number != 2:  # which has no object
                annotations.append(annotation)
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (coco / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return {"voc2007": voc, "coco2017": coco}


def small(recipe):
    """The recipe with what makes it big made small: sizes of pictures, windows and mini-batches, and two steps."""
    settings, steps = recipe.settings, {"steps": 2, "batch_size": min(recipe.training.batch_size, 2)}
    training = replace(recipe.training, **steps, milestones=(), warmup=min(1, recipe.training.warmup))
    if recipe.detector in ("rcnn", "sppnet"):
        changes = {"fine_tuning": training, "positives": 2, "negatives": 6}
        if recipe.detector == "sppnet":
            changes["scales"] = (96, 112, 128)
    else:
        changes = {"training": training, "min_size": 72, "max_size": 96}
        changes |= {"rois": 16} if hasattr(settings, "rois") else {}
    proposals = recipe.proposals and {**recipe.proposals, "mode": "single", "top": 12}
    return replace(recipe, settings=replace(settings, **changes), proposals=proposals)


@EVERY
def test_a_recipe_states_what_was_published(name):
    recipe = RECIPES[name]
    figures, (steps, batch_size, lr), milestones, weight_decay = PUBLISHED[name]
    training = recipe.training
    assert tuple(round(100 * value, 1) for value in recipe.expected.values()) == figures
    assert (training.steps, training.batch_size, training.lr) == (steps, batch_size, lr)
    assert (training.milestones, training.weight_decay, training.momentum) == (milestones, weight_decay, 0.9)
    assert name == f"{recipe.detector}_{recipe.network.title.replace('-', '').lower()}_{recipe.data}"
    assert recipe.hours > 0 and recipe.memory > 0 and re.search("[Pp]ublished|[Ee]stimate", recipe.cost)


@EVERY
def test_the_rate_falls_where_the_source_says(name):
    training, (_, (steps, _, lr), milestones, _) = RECIPES[name].training, PUBLISHED[name]
    for number, milestone in enumerate(milestones):
        assert math.isclose(learning_rate(milestone - 1, training), lr / 10**number)
        assert math.isclose(learning_rate(milestone, training), lr / 10 ** (number + 1))
    assert math.isclose(learning_rate(steps - 1, training), lr / 10 ** len(milestones))
    if RECIPES[name].data == "coco2017":
        assert math.isclose(learning_rate(0, training), lr / 1000) and learning_rate(999, training) == lr


@EVERY
def test_a_recipe_can_be_read(name, capsys):
    """Figures, cost and every value of the settings stand in the text, each stated value with its source."""
    recipe = RECIPES[name]
    command(name)
    text = capsys.readouterr().out
    words = " ".join(text.split())
    for value in recipe.expected.values():
        assert f"{100 * value:.1f}" in text
    for part in (recipe.source, recipe.cost, recipe.command, recipe.network.title, *recipe.differences):
        assert " ".join(part.split()) in words
    training = "fine_tuning" if recipe.detector in ("rcnn", "sppnet") else "training"
    assert f"{training}.milestones = {recipe.training.milestones}" in text and "None at" not in text
    assert recipe.code.count("#") >= 8 and recipe.code.rstrip() in text


def test_the_list_names_them_all(capsys):
    command(None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(RECIPES)]] == list(RECIPES) == list(PUBLISHED)
    assert "AP 37.9, mask AP 34.6" in lines[7]


def test_an_unknown_recipe_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"There is no recipe 'yolo'\. There are: rcnn_alexnet_voc2007, .*coco2017\."):
        recipe_named("yolo")


def test_a_network_without_weights_says_so():
    """Nothing trains from random weights in silence where the published run was pre-trained."""
    recipe = RECIPES["faster_rcnn_zf5_voc2007"]
    with pytest.raises(ValueError, match=r"starts from ZF-5, and torchvision has no weights of it.*Caffe.*net=\.\.\."):
        recipe.build(VOC)
    assert "none at torchvision" in described(recipe)


def test_a_network_of_your_own(monkeypatch):
    """It is used in place of torchvision's, which is then not asked for its weights."""
    asked = []
    network = Network("AlexNet", asked.append, "AlexNet_Weights.IMAGENET1K_V1")
    net = tiny_net(classes=7)
    model = replace(RECIPES["rcnn_alexnet_voc2007"], network=network).build(VOC, net=net)
    assert model.net is net and net.classifier.out_features == len(VOC) and not asked


def test_pretrained_weights_are_asked_for_by_name():
    asked = []
    network = Network("AlexNet", lambda weights: asked.append(weights) or tiny_net(), "AlexNet_Weights.IMAGENET1K_V1")
    for pretrained in (True, False):
        replace(RECIPES["rcnn_alexnet_voc2007"], network=network).build(VOC, pretrained)
    assert asked == ["AlexNet_Weights.IMAGENET1K_V1", None]


def read(recipe, stand_in):
    """The pictures that a recipe trains on."""
    splits = recipe.splits_of(stand_in[recipe.data])
    return splits.classes, recipe.prepared(splits.train, training=True)


def test_the_data_of_voc(stand_in):
    """All pictures of trainval; mirrored ones for the training alone; proposals where the detector needs them."""
    recipe = small(RECIPES["fast_rcnn_vgg16_voc2007"])
    splits = recipe.splits_of(stand_in["voc2007"])
    assert [len(part) for part in splits.parts().values()] == [3, 1, 2] and splits.classes == VOC
    assert "too good" in splits.notes[0] and recipe.splits_of(stand_in["voc2007"].parent).train.ids == ("a", "b", "c")
    training, test = recipe.prepared(splits.train, training=True), recipe.prepared(splits.test, training=False)
    assert isinstance(training, Augment) and (training.flip, training.jitter, training.scale) == (0.5, 0, (1, 1))
    assert isinstance(test, WithProposals) and 0 < len(test[0][1]["proposals"]) <= 12
    image, original = training[0][0], training.dataset[0][0]
    assert torch.equal(image, original) or torch.equal(image, original.flip(-1))
    assert RECIPES["fast_rcnn_vgg16_voc2007"].proposals == {"mode": "fast", "top": 2000}
    assert "proposals" not in read(RECIPES["faster_rcnn_vgg16_voc2007"], stand_in)[1][0][1]


def test_the_data_of_coco(stand_in):
    """Pictures without an object are left out of the training, and only there; Mask R-CNN gets its masks."""
    recipe = RECIPES["mask_rcnn_resnet50_coco2017"]
    splits = recipe.splits_of(stand_in["coco2017"])
    assert [len(part) for part in splits.parts().values()] == [5, 2]
    assert splits.classes == ("background", "cat", "dog")
    training = recipe.prepared(splits.train, training=True)
    assert isinstance(training, Augment) and training.flip == 0.5 and len(training) == 4
    assert {int(target["image_id"]) for _, target in training} == {1, 3, 4, 5}
    assert all("masks" in target for _, target in training) and len(recipe.prepared(splits.val, training=False)) == 2


def test_a_folder_without_voc_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="no VOC 2007 in .*data fetch voc2007"):
        RECIPES["fast_rcnn_vgg16_voc2007"].splits_of(tmp_path)


def test_torchvisions_settings_are_those_of_the_recipe():
    """What its Faster R-CNN carries; the others need weights, and follow below."""
    with torch.device("meta"):
        theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    recipe = RECIPES["fpn_resnet50_coco2017"]
    for key, value in asdict(settings_of(theirs, recipe.training)).items():
        assert asdict(recipe.settings)[key] == value, key


@pytest.mark.whole
@pytest.mark.parametrize(
    ("name", "make"),
    [("mask_rcnn_resnet50_coco2017", maskrcnn_resnet50_fpn), ("retinanet_resnet50_coco2017", retinanet_resnet50_fpn)],
)
def test_torchvisions_other_settings_are_those_of_the_recipe(name, make):
    theirs = make(weights=None, weights_backbone=None, num_classes=3)
    recipe = RECIPES[name]
    ours = from_torchvision(theirs, training=recipe.training).settings
    if name.startswith("retinanet"):  # `beta` is of the smooth L1 loss, and not of the L1 loss
        ours = replace(ours, beta=recipe.settings.beta)
    assert ours == recipe.settings


@pytest.mark.whole
@EVERY
def test_a_recipe_starts(name, stand_in):
    """Two steps from random weights, with finite losses; and what the recipe states is what the run has."""
    recipe = small(RECIPES[name])
    classes, chosen = read(recipe, stand_in)
    torch.manual_seed(0)
    model = recipe.build(classes, pretrained=False)
    for part, value in model.state_dict().items():  # random residual blocks add up to numbers no trained network has
        if part.endswith("bn3.weight"):
            value.mul_(0.2)
    if recipe.detector in ("rcnn", "sppnet"):
        history, passes = model.fit(chosen, progress=False)
        assert passes and torch.isfinite(model.svm_weight).all()
    else:
        if recipe.detector == "fast_rcnn":
            model.normalise_targets(chosen)
        seen = []
        model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
        history = train(model, chosen, recipe.training, progress=False)
        assert seen == [recipe.training.batch_size] * 2
    assert history.steps == 2 and all(math.isfinite(value) for value in history.total)
    assert all(rate == pytest.approx(PUBLISHED[name][1][2]) for rate in history.lr)
    assert_in_effect(RECIPES[name], recipe, model, chosen)


def assert_in_effect(recipe, started, model, dataset):
    """The model has the stated settings, and so has all in it that computes by them; the optimiser has the training's.

    The published batch does not fit the few pictures: the rest of the training's settings is looked at.
    """
    assert model.settings is started.settings
    for key, value in asdict(recipe.settings).items():
        changed = {"fine_tuning", "training", "positives", "negatives", "scales", "min_size", "max_size", "rois"}
        if key not in changed - ({"scales"} if recipe.detector == "retinanet" else set()):
            assert asdict(model.settings)[key] == value, key
    for part in model.modules():
        if hasattr(part, "settings") and part is not model:
            assert part.settings in (model.settings, model.settings.rpn if hasattr(model.settings, "rpn") else None)
    run = Run(model, dataset, replace(recipe.training, batch_size=1))
    momenta = {group["momentum"] for group in run.optimizer.param_groups}
    assert momenta == {0.9}
    assert [group["weight_decay"] for group in run.optimizer.param_groups] == [recipe.training.weight_decay, 0.0]
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    starts = FROZEN.get(recipe.network.title, ())
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(starts)}
    assert bool(frozen) == bool(starts)


def wishes(**changes):
    return Wishes("data", **({"recipe": "fpn_resnet50_coco2017", "device": "cpu"} | changes))


def test_a_training_follows_a_recipe():
    """The plan has the recipe's settings; what is changed is changed in proportion, and said."""
    recipe = RECIPES["fpn_resnet50_coco2017"]
    plan = follow(recipe, wishes(), range(100))
    kept = ("steps", "batch_size", "lr", "milestones", "warmup", "weight_decay", "momentum")
    assert all(getattr(plan.training, key) == getattr(recipe.training, key) for key in kept)
    assert replace(plan.settings, training=recipe.training) == recipe.settings
    assert (plan.recipe, plan.detector, plan.pretrained) == (recipe.name, "fpn", True) and "AP 37.0" in plan.notes[0]
    assert not any("changed" in note for note in plan.notes) and Plan.read(plan.values()) == plan
    plan = follow(recipe, wishes(batch=2, min_size=400, pretrained=False), range(100))
    assert plan.training.lr == pytest.approx(0.0025) and plan.training.steps == 8 * 190_554
    assert (plan.settings.min_size, plan.settings.max_size) == (400, 666)
    assert plan.notes[-1].endswith("you changed: batch, min_size, pretrained.")
    assert follow(recipe, wishes(batch=2, epochs=3), range(100)).training.steps == 150


@pytest.mark.parametrize(
    ("change", "option"),
    [({"backbone": "tiny"}, "backbone"), ({"augment": True}, "augment"), ({"on_error": "skip"}, "on-error")],
)
def test_a_wish_that_makes_it_another_recipe_is_refused(change, option):
    with pytest.raises(ValueError, match=f"--{option} does not go with --recipe"):
        follow(RECIPES["fpn_resnet50_coco2017"], wishes(**change), range(100))


@pytest.fixture
def narrow(monkeypatch):
    """FPN's recipe with the laptop's network and few channels, which trains in seconds."""
    recipe = small(RECIPES["fpn_resnet50_coco2017"])
    settings = replace(recipe.settings, channels=16, hidden=32)
    recipe = replace(recipe, network=Network("tiny", lambda _: tiny_net(), "of the package"), settings=settings)
    monkeypatch.setitem(RECIPES, recipe.name, recipe)
    return recipe


def test_train_follows_a_recipe(narrow, stand_in, tmp_path):
    """The run has the network, the data and the settings that the recipe says; and it goes on from its checkpoint."""
    folder = tmp_path / "run"
    fitted = fit(stand_in["coco2017"], recipe=narrow.name, folder=folder, device="cpu", steps=1, progress=False)
    assert fitted.model.name == "fpn" and fitted.history.steps == 1
    assert replace(fitted.model.settings, training=narrow.training) == narrow.settings
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["plan"]["recipe"] == narrow.name and settings["pictures"] == {"train": 5, "val": 2}
    assert read_archive(folder / "checkpoint.pt", ("identity",), "")["identity"]["images"] == 4  # those with objects
    assert resume(folder, steps=2, progress=False).history.steps == 2


def test_the_option_of_the_command(stand_in, tmp_path):
    """An unknown recipe, and a detector beside a recipe, are refused before anything is read."""
    arguments = ["train", str(stand_in["coco2017"]), "--folder", str(tmp_path / "run"), "--device", "cpu"]
    for more, words in (
        (["--recipe", "yolo"], "There is no recipe 'yolo'"),
        (["--recipe", "fpn_resnet50_coco2017", "--detector", "fpn"], "--detector does not go with --recipe"),
        (["--recipe", "faster_rcnn_zf5_voc2007"], "There is no VOC 2007 in"),
        (["--recipe", "fpn_resnet50_coco2017", "--backbone", "tiny"], "--backbone does not go with --recipe"),
    ):
        assert words in str(CliRunner().invoke(app, [*arguments, *more]).exception)


@pytest.mark.whole
def test_the_command(tmp_path):
    """The console script lists the recipes and shows one, and tells an unknown name in one line."""
    script = Path(sys.executable).with_name("rcnn-tutorial")

    def run(*arguments):
        return subprocess.run(
            [script, "recipes", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=240
        )

    listed, shown, unknown = run(), run("fpn_resnet50_coco2017"), run("yolo")
    assert listed.returncode == shown.returncode == 0 and "retinanet_resnet50_coco2017" in listed.stdout
    assert "torchrun --nproc_per_node=8 -m rcnn_tutorial train coco2017 --recipe fpn_resnet50_coco2017" in shown.stdout
    assert unknown.returncode == 1 and len(unknown.stderr.splitlines()) == 1 and "no recipe 'yolo'" in unknown.stderr


def test_help_is_told_without_torch():
    code = "import sys; import rcnn_tutorial.app.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=240).returncode == 0
