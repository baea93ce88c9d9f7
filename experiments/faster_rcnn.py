"""Faster R-CNN's choices, each against its alternatives.

Each seed has training scenes of its own, the same for all variants, its own new layers and its own mini-batches; all
start from the same backbone and are tested on the same scenes.
"""

from collections.abc import Callable
from dataclasses import replace
from time import process_time

from torch.utils.data import Dataset, Subset

from experiments.alternating import alternate
from experiments.fast_rcnn import notes
from experiments.measure import by_size, measure
from experiments.one_stage import OneStage
from experiments.scenes import TEST, TRAIN, Experiment, device, kept
from experiments.variants import MovingFasterRCNN, weighed
from rcnn_tutorial.cache import fingerprint
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.data.transforms import Augment
from rcnn_tutorial.detectors.faster_rcnn import FasterRCNN, FasterRCNNSettings
from rcnn_tutorial.detectors.two_stage import TwoStage, TwoStageSettings
from rcnn_tutorial.evaluation import predict, recall
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.training import train

STEPS, LONGER = 400, 1000
SETTINGS = {"train": TRAIN, "test": TEST, "steps": STEPS}
COUNTS = (10, 30, 100, 300)
SHAPES = {
    "1 scale, 1 ratio": ((48,), (1.0,)),
    "1 scale, 3 ratios": ((48,), (0.5, 1.0, 2.0)),
    "3 scales, 1 ratio": ((24, 48, 96), (1.0,)),
    "3 scales, 3 ratios": ((24, 48, 96), (0.5, 1.0, 2.0)),
}


def scenes(split: str, first: int, count: int) -> Dataset:
    """Some scenes of a split, without proposals."""
    return Subset(load_dataset("shapes", split), range(first, first + count))


def mirrored(dataset: Dataset, seed: int) -> Dataset:
    """Mirrored at random: the one augmentation."""
    return Augment(dataset, seed, jitter=0, scale=(1, 1))


def settings(seed: int, rpn: dict | None = None, steps: int = STEPS, **changes) -> FasterRCNNSettings:
    """The laptop's, with changes of the RPN's settings and of the detector's."""
    own = FasterRCNNSettings.tiny(steps, **changes)
    return replace(own, rpn=replace(own.rpn, **(rpn or {})), training=replace(own.training, seed=seed))


def untrained(chosen: TwoStageSettings, kind: type[TwoStage] = FasterRCNN) -> TwoStage:
    """A detector on the pre-trained classifier."""
    classes = load_dataset("shapes", "train").classes
    return kind(tiny_net(pretrained=True), classes, chosen, seed=chosen.training.seed).to(device())


def trained(
    chosen: TwoStageSettings, kind: type[TwoStage] = FasterRCNN, begin: Callable[[TwoStage], None] | None = None
) -> tuple[TwoStage, dict]:
    """A detector, trained once for all experiments, with the last losses and the seconds of its training.

    Args:
        chosen: settings, with the seed.
        kind: of detector.
        begin: called with the detector before its training; its name tells the kept detector from the others.
    """
    seed, model = chosen.training.seed, untrained(chosen, kind)
    if begin:
        begin(model)

    def compute() -> dict:
        data = mirrored(scenes("train", seed * TRAIN, TRAIN), seed)
        start = process_time()  # other users of the machine do not count
        history = train(model, data, chosen.training, progress=False)
        spent = {"seconds": round(process_time() - start, 1)}
        return {"weights": dict(model.state_dict()), "notes": notes(history) | spent}

    key = (kind.__name__, TRAIN, chosen, *([begin.__name__] if begin else []))
    found = kept("networks").get(key, compute)
    model.load_state_dict(found["weights"])
    return model.eval(), found["notes"]


def tested(model: TwoStage, more: dict | None = None, proposer: TwoStage | None = None) -> dict:
    """What the detector reaches on the test scenes, how many objects the proposals cover, and other notes."""
    data = scenes("test", 0, TEST)
    own = WithProposals(data, lambda image: (proposer or model).proposals([image.to(device())])[0].cpu())
    start = process_time()
    found, targets = predict(model, own if proposer else data, progress=False)
    covered = {"milliseconds": round(1000 * (process_time() - start) / TEST, 1)}
    if not isinstance(model, OneStage):
        covers = recall([own.target(i)["proposals"] for i in range(TEST)], targets, top=COUNTS).tolist()
        for count, shares in zip(COUNTS, covers, strict=True):
            for threshold, share in zip((0.5, 0.7), shares, strict=True):
                covered[f"recall {count} at {threshold}"] = round(share, 4)
    return measure(found, targets, model.classes) | by_size(found, targets, model.classes) | covered | (more or {})


def schemes(seed: int) -> dict[str, dict]:
    """FRCNN-30, -31 and -32: the three ways to train, each stage of the first with as many steps as the others."""
    found = {}
    for name, kind in {"approximate joint": FasterRCNN, "non-approximate joint": MovingFasterRCNN}.items():
        found[name] = tested(*trained(settings(seed), kind))
    chosen, spent = settings(seed), 0.0
    start = process_time()

    def after(step: int, model: TwoStage, proposer: TwoStage) -> None:
        nonlocal spent, start
        spent += process_time() - start
        if step % 2 == 0:
            notes = {"seconds": round(spent, 1), "body": fingerprint(dict(model.body.state_dict()))}
            found[f"alternating, step {step}"] = tested(model.eval(), notes, None if model is proposer else proposer)
        start = process_time()

    alternate(
        lambda: untrained(chosen), scenes("train", seed * TRAIN, TRAIN), (chosen.training,) * 4,
        lambda data: mirrored(data, seed), rounds=2, after=after,
    )  # fmt: skip
    return found


def longer(seed: int) -> dict[str, dict]:
    """FRCNN-31: joint training for about the seconds that the four steps take."""
    return {f"{steps} steps": tested(*trained(settings(seed, steps=steps))) for steps in (STEPS, LONGER)}


def stages(seed: int) -> dict[str, dict]:
    """FRCNN-35: with and without the second stage."""
    return {
        "two stages": tested(*trained(settings(seed, steps=LONGER))),
        "one stage": tested(*trained(settings(seed, steps=LONGER), OneStage)),
    }


def shapes(seed: int) -> dict[str, dict]:
    """FRCNN-34: one or three scales and ratios of anchors."""
    return {
        name: tested(*trained(settings(seed, rpn={"scales": scales, "ratios": ratios})))
        for name, (scales, ratios) in SHAPES.items()
    }


def border(seed: int) -> dict[str, dict]:
    """FRCNN-25: anchors that cross the image's border, trained or left out."""
    return {
        "all anchors": tested(*trained(settings(seed))),
        "inside alone": tested(*trained(settings(seed, rpn={"inside": True}))),
    }


def counts(seed: int) -> dict[str, dict]:
    """FRCNN-26: the same detector with other numbers of proposals, and without NMS among them."""
    model, _ = trained(settings(seed))
    rpn, found = model.rpn.settings, {}
    for count in (10, 30, 100, 300, 1000):
        model.rpn.settings = replace(rpn, before_nms=(3000, 3000), after_nms=(count, count))
        found[f"{count} proposals"] = tested(model)
    model.rpn.settings = replace(rpn, before_nms=(3000, 3000), after_nms=(3000, 3000), nms_threshold=1.0)
    found["3000 without NMS"] = tested(model)
    return found


def weights(seed: int) -> dict[str, dict]:
    """FRCNN-19: lambda, with the published normalisation: the box loss is divided by the places of the map."""
    return {f"lambda = {weight:g}": tested(*trained(settings(seed), weighed(weight))) for weight in (0.1, 1, 10, 100)}


EXPERIMENTS = {
    "frcnn_30": Experiment("the three ways to train", ("FRCNN-30", "FRCNN-31", "FRCNN-32"), schemes, SETTINGS),
    "frcnn_31": Experiment("joint training for the time of the four steps", ("FRCNN-31",), longer, SETTINGS),
    "frcnn_35": Experiment("the second stage dropped", ("FRCNN-35",), stages, SETTINGS | {"steps": LONGER}),
    "frcnn_34": Experiment("scales and ratios of the anchors", ("FRCNN-34",), shapes, SETTINGS),
    "frcnn_25": Experiment("anchors that cross the border", ("FRCNN-25",), border, SETTINGS),
    "frcnn_26": Experiment("number of proposals, and NMS among them", ("FRCNN-26",), counts, SETTINGS),
    "frcnn_19": Experiment("lambda", ("FRCNN-19",), weights, SETTINGS),
}
