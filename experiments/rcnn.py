"""R-CNN's choices, each against its alternatives.

Each seed has training scenes of its own (150 of the 1,000), its own new classifier and its own mini-batches; all
are tested on the same scenes.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from experiments.measure import measure
from experiments.scenes import PROPOSALS, TEST, TRAIN, Experiment, device, kept, scenes, training
from rcnn_tutorial.course.rcnn_steps import detect
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors.rcnn import RCNN, RCNNSettings
from rcnn_tutorial.detectors.rcnn_windows import WindowFeatures, svm_negatives, svm_positives
from rcnn_tutorial.detectors.svm import SVMSettings, feature_scale, fit_svm
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.boxes import clip_boxes_to_image
from rcnn_tutorial.ops.nms import batched_nms

STEPS = 250
RULES = {  # of R-CNN: for the fine-tuning, and for the SVMs
    "IoU 0.5": {"foreground": 0.5, "background": 0.5},
    "truth alone": {"foreground": 1.0, "background": 0.3},
}
GRID = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
SETTINGS = {"train": TRAIN, "test": TEST, "proposals": PROPOSALS, "steps": STEPS}


def network(seed: int, pretrained: bool = True, tuned: bool = True, rule: str = "IoU 0.5", steps: int = STEPS) -> RCNN:
    """An R-CNN whose network is ready and whose SVMs are not; trained once for all experiments."""
    classes = load_dataset("shapes", "train").classes
    settings = RCNNSettings.tiny(steps, **RULES[rule])
    settings = replace(settings, fine_tuning=replace(settings.fine_tuning, seed=seed))
    torch.manual_seed(seed)
    net = tiny_net(pretrained=pretrained)
    net.replace_classifier(len(classes), torch.Generator().manual_seed(seed))
    model = RCNN(net, classes, settings).to(device()).eval()
    if tuned:

        def train() -> dict[str, Tensor]:
            model.fine_tune(training(seed), progress=False)
            return dict(net.state_dict())

        key = ("network", seed, TRAIN, PROPOSALS, pretrained, replace(settings, svm=SVMSettings()))
        net.load_state_dict(kept("networks").get(key, train))
    return model


def evaluated(model: RCNN, dataset: Dataset, **how) -> dict:
    """What the detector reaches on a data set."""
    targets = [dataset.target(index) for index in range(len(dataset))]
    return measure(detect(features(model, dataset), **how), targets, model.classes)


def features(model: RCNN, dataset: Dataset) -> WindowFeatures:
    """Features of a data set, kept for the next experiment."""
    return WindowFeatures(model, dataset, kept("features"))


def pre_training(seed: int) -> dict[str, dict]:
    """RCNN-06: random weights or pre-trained ones, with and without fine-tuning; SVMs on each."""
    found = {}
    for start in (False, True):
        for tuned in (False, True):
            model = network(seed, start, tuned)
            model.fit_svms(training(seed), kept("features"))
            name = f"{'pre-trained' if start else 'random'}{', fine-tuned' if tuned else ''}"
            found[name] = evaluated(model, scenes("test", 0, TEST), regression="none")
    return found


def negatives_bound(seed: int) -> dict[str, dict]:
    """RCNN-11: the IoU below which a window is a negative of an SVM; on validation scenes, as the paper did it."""
    model, found = network(seed), {}
    for bound in GRID:  # at 0: windows that do not touch an object
        model.settings = replace(model.settings, svm_background=max(bound, 1e-6))
        model.fit_svms(training(seed), kept("features"))
        found[f"{bound:g}"] = evaluated(model, scenes("val", 0, TEST), regression="none")
    return found


def two_rules(seed: int) -> dict[str, dict]:
    """RCNN-19: either rule of positives and negatives for the network, and for what scores its features."""
    found = {}
    for tuning in RULES:
        model = network(seed, rule=tuning)
        test = scenes("test", 0, TEST)
        found[f"{tuning} | softmax"] = evaluated(model, test, scores="softmax", regression="none")
        for rule, bounds in RULES.items():
            model.settings = replace(
                model.settings, svm_foreground=bounds["foreground"], svm_background=bounds["background"]
            )
            model.fit_svms(training(seed), kept("features"))
            found[f"{tuning} | SVM, {rule}"] = evaluated(model, test, regression="none")
    return found


def parts(seed: int) -> dict[str, dict]:
    """RCNN-12, RCNN-13, RCNN-18: what the SVMs, the mining and the regression add, one after the other."""
    model, test = network(seed), scenes("test", 0, TEST)
    known = training(seed)
    found = {"CNN": evaluated(model, test, scores="softmax", regression="none")}
    passes = model.fit_svms(known, kept("features"))
    mined = model.svm_weight.clone(), model.svm_bias.clone()
    unmined(features(model, known), int(passes[-1].cached.max()), torch.Generator().manual_seed(seed))
    found["+ SVM"] = evaluated(model, test, regression="none")
    model.svm_weight.copy_(mined[0])
    model.svm_bias.copy_(mined[1])
    found["+ mining"] = evaluated(model, test, regression="none")
    model.fit_regression(known, kept("features"))
    found["+ regression"] = evaluated(model, test)
    targets = [test.target(index) for index in range(len(test))]
    found["regression after NMS"] = measure(refined_late(features(model, test)), targets, model.classes)
    return found


@torch.no_grad()
def refined_late(known: WindowFeatures) -> list[dict[str, Tensor]]:
    """Detections whose boxes are moved after NMS, which compares the proposals themselves."""
    model, settings, detections = known.model, known.model.settings, []
    for item in known:
        proposals, pool5, fc7 = (part[len(item.truths) :] for part in (item.boxes, item.pool5, item.fc7))
        scores = model.svm_scores(fc7)  # (R, K)
        moved = clip_boxes_to_image(model.refine(pool5, proposals), item.size)  # (R, K, 4)
        likely = (scores > settings.least_score) & (moved[..., 2:] > moved[..., :2]).all(dim=-1)
        row, column = likely.nonzero(as_tuple=True)
        compared = clip_boxes_to_image(proposals, item.size)[row]
        kept_rows = batched_nms(compared, scores[row, column], column, float(model.nms_threshold))
        row, column = (index[kept_rows[: settings.detections]] for index in (row, column))
        detection = {"boxes": moved[row, column], "labels": column + 1, "scores": scores[row, column]}
        detections.append({key: value.cpu() for key, value in detection.items()})
    return detections


def unmined(known: WindowFeatures, count: int, generator: torch.Generator) -> None:
    """SVMs on negatives drawn blindly, as many for each class as mining kept at most."""
    model, items = known.model, list(known)
    positives, labels = (torch.cat(c) for c in zip(*(svm_positives(item, 1.0) for item in items), strict=True))
    negative = torch.cat([svm_negatives(item.boxes, item.truths, item.labels, model) for item in items])  # (W, K)
    chosen = torch.zeros_like(negative)
    for k, column in enumerate(negative.T):
        rows = column.nonzero()[:, 0]
        chosen[rows[torch.randperm(len(rows), generator=generator)[:count]], k] = True
    rows = chosen.any(dim=1)
    own = labels[:, None] == torch.arange(1, len(model.classes))  # (P, K)
    fc7 = torch.cat((positives, torch.cat([item.fc7 for item in items])[rows])) * feature_scale(positives)
    positive = torch.cat((own, torch.zeros_like(chosen[rows])))
    weight, bias = fit_svm(fc7, positive, torch.cat((own, chosen[rows])), model.settings.svm)
    model.svm_weight.copy_(weight)
    model.svm_bias.copy_(bias)


EXPERIMENTS = {
    "rcnn_06": Experiment("pre-training and fine-tuning", ("RCNN-06",), pre_training, SETTINGS),
    "rcnn_11": Experiment("bound of the SVMs' negatives", ("RCNN-11",), negatives_bound, SETTINGS | {"grid": GRID}),
    "rcnn_19": Experiment("two rules for positives and negatives", ("RCNN-19",), two_rules, SETTINGS),
    "rcnn_parts": Experiment("what each part adds", ("RCNN-12", "RCNN-13", "RCNN-18"), parts, SETTINGS),
}
