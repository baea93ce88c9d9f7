"""Fast R-CNN's choices, each against its alternatives, and the three detectors beside each other.

Each seed has training scenes of its own, the same for all variants, its own new layers and its own mini-batches; all
start from the same backbone and are tested on the same scenes.
"""

from dataclasses import replace

import torch

from experiments import rcnn
from experiments.measure import measure
from experiments.scenes import PROPOSALS, TEST, TRAIN, Experiment, device, kept, scenes, training
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.detectors.fast_rcnn import FastRCNN, FastRCNNSettings
from rcnn_tutorial.detectors.sppnet import SPPnet, SPPnetSettings
from rcnn_tutorial.evaluation import predict
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.training import History, train

WINDOWS = 128  # in a mini-batch, of all its images
STEPS, FEWER_STEPS = 800, 150
SETTINGS = {"train": TRAIN, "test": TEST, "proposals": PROPOSALS, "steps": STEPS}


def mirrored(seed: int) -> Augment:
    """The training scenes of a seed, mirrored at random: the one augmentation (FAST-14)."""
    return Augment(training(seed), seed, jitter=0, scale=(1, 1))


class ClassAlone(FastRCNN):
    """Without the loss of the boxes."""

    def head_losses(self, *stages) -> dict:
        """As TwoStage's, that of the boxes times 0."""
        losses = super().head_losses(*stages)
        return losses | {"box": 0 * losses["box"]}


def untrained(seed: int, steps: int = STEPS, images: int = 2, kind: type = FastRCNN, **changes) -> FastRCNN:
    """A detector that has seen the targets' statistics and nothing else of the scenes."""
    settings = FastRCNNSettings.tiny(steps, **({"rois": WINDOWS // images} | changes))
    settings = replace(settings, training=replace(settings.training, seed=seed, batch_size=images))
    data = training(seed)
    classes = data.dataset.dataset.classes
    model = kind(tiny_net(pretrained=True), classes, settings, seed=seed).to(device())
    model.normalise_targets(data)
    return model


def trained(
    seed: int, steps: int = STEPS, images: int = 2, frozen: int = 0, kind: type = FastRCNN, **changes
) -> tuple[FastRCNN, dict]:
    """A detector, trained once for all experiments, with the last losses and the seconds of its training.

    The first convolutions, as many as are `frozen`, stay as they were pre-trained.
    """
    model = untrained(seed, steps, images, kind, **changes)
    model.body[:frozen].requires_grad_(False)

    def compute() -> dict:
        history = train(model, mirrored(seed), model.settings.training, progress=False)
        return {"weights": dict(model.state_dict()), "notes": notes(history)}

    found = kept("networks").get((kind.__name__, seed, TRAIN, PROPOSALS, frozen, model.settings), compute)
    model.load_state_dict(found["weights"])
    return model.eval(), found["notes"]


def notes(history: History) -> dict:
    """What is recorded of a training."""
    losses = {name: round(sum(each[-50:]) / len(each[-50:]), 4) for name, each in history.losses.items()}
    return {"losses": losses, "seconds": round(sum(history.seconds), 1)}


def tested(model: torch.nn.Module, training_notes: dict) -> dict:
    """What the detector reaches on the test scenes, and the notes of its training."""
    return measure(*predict(model, scenes("test", 0, TEST), progress=False), model.classes) | training_notes


def pooled(seed: int) -> SPPnet:
    """An SPPnet trained on the scenes of a seed."""
    data = training(seed)
    classes = data.dataset.dataset.classes
    net = tiny_net(pretrained=True, levels=(4, 2, 1))
    net.replace_classifier(len(classes), torch.Generator().manual_seed(seed))
    settings = SPPnetSettings.tiny(STEPS)
    settings = replace(settings, fine_tuning=replace(settings.fine_tuning, seed=seed))
    model = SPPnet(net, classes, settings).to(device())
    model.fit(data, scenes("val", 0, TEST), kept("features"), progress=False)
    return model


def three(seed: int) -> dict[str, dict]:
    """FAST-24: R-CNN, SPPnet and Fast R-CNN on the same scenes, proposals, convolutions and number of steps."""
    first = rcnn.network(seed, steps=STEPS)
    first.fit_on_features(training(seed), scenes("val", 0, TEST), kept("features"))
    test = scenes("test", 0, TEST)
    found = {"R-CNN": rcnn.evaluated(first, test), "SPPnet": rcnn.evaluated(pooled(seed), test)}
    found["Fast R-CNN"] = tested(*trained(seed))
    return found


def longer(seed: int) -> dict[str, dict]:
    """FAST-24: Fast R-CNN with three times the steps, about the seconds that R-CNN takes for all its stages."""
    return {f"{steps} steps": tested(*trained(seed, steps)) for steps in (STEPS, 3 * STEPS)}


def shorter(seed: int) -> dict[str, dict]:
    """FAST-24: Fast R-CNN with half the steps, as notebook 03 trains it."""
    return {f"{STEPS // 2} steps": tested(*trained(seed, STEPS // 2))}


def frozen(seed: int) -> dict[str, dict]:
    """FAST-16: the first convolutions kept as they were pre-trained, none, two or all five of them."""
    return {f"{count} frozen": tested(*trained(seed, frozen=count)) for count in (0, 2, 5)}


def floor(seed: int) -> dict[str, dict]:
    """FAST-13: background from an IoU of 0 or of 0.1 on."""
    return {f"from {low:g}": tested(*trained(seed, background=(low, 0.5))) for low in (0.0, 0.1)}


def images(seed: int) -> dict[str, dict]:
    """FAST-11: the same number of windows per step, from one image or from many, of their own size."""
    return {f"N = {count}": tested(*trained(seed, FEWER_STEPS, count, min_size=None)) for count in (1, 2, 8, 32)}


def stagewise(seed: int) -> dict[str, dict]:
    """FAST-23: both losses at once, the class alone, and the boxes learnt afterwards on what the class has shaped."""
    found = {"joint": tested(*trained(seed))}
    model, cost = trained(seed, kind=ClassAlone)
    torch.nn.init.zeros_(model.head.offsets.weight)
    torch.nn.init.zeros_(model.head.offsets.bias)
    model.target_mean.zero_()
    found["class alone"] = tested(model, cost)
    after = untrained(seed)
    after.load_state_dict(model.state_dict() | {"target_mean": after.target_mean})
    for name, parameter in after.named_parameters():
        parameter.requires_grad_(name.startswith("head.offsets"))
    history = train(after, mirrored(seed), after.settings.training, progress=False)
    found["stage-wise"] = tested(after, notes(history))
    return found


EXPERIMENTS = {
    "fast_24": Experiment("R-CNN, SPPnet and Fast R-CNN on equal terms", ("FAST-24",), three, SETTINGS),
    "fast_24_longer": Experiment("Fast R-CNN trained for longer", ("FAST-24",), longer, SETTINGS),
    "fast_24_shorter": Experiment(
        "Fast R-CNN as notebook 03 trains it", ("FAST-24",), shorter, SETTINGS | {"steps": STEPS // 2}
    ),
    "fast_16": Experiment("convolutions frozen or trained", ("FAST-16", "SPP-19"), frozen, SETTINGS),
    "fast_13": Experiment("lowest IoU of background windows", ("FAST-13",), floor, SETTINGS),
    "fast_11": Experiment(
        "images per mini-batch of 128 windows", ("FAST-11",), images, SETTINGS | {"steps": FEWER_STEPS}
    ),
    "fast_23": Experiment("joint or stage-wise training", ("FAST-23",), stagewise, SETTINGS),
}
