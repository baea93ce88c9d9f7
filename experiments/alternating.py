"""Faster R-CNN's four steps: the RPN and the head trained in turns, until they share the convolutions.

step  trained        starts from               proposals  convolutions
1     RPN            classifier                           its own, trained
2     head           classifier                of step 1  its own, trained: nothing is shared yet
3     RPN            step 2                               those of step 2, fixed
4     head           step 2 and its RPN        of step 3  the same, fixed: one network
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from rcnn_tutorial.detectors.two_stage import TwoStage, to_input
from rcnn_tutorial.proposals.dataset import WithProposals
from rcnn_tutorial.training import TrainSettings, train


class RPNAlone(nn.Module):
    """A detector of which the RPN alone is trained; in eval mode it proposes."""

    def __init__(self, model: TwoStage):
        super().__init__()
        self.model = model

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]] | None = None):
        """The RPN's losses in training mode, else proposals (P_i, 4) of each image."""
        if not self.training:
            return self.model.proposals(images)
        batch, maps = self.model.maps(images)
        boxes = [target["boxes"] for target in to_input(batch, targets or ())]
        rpn, predictions = self.model.rpn, self.model.rpn(maps)
        anchors = rpn.sample(predictions.anchors, boxes, batch.sizes, self.model.generator)
        return rpn.losses(predictions, anchors, boxes)


def alternate(
    make: Callable[[], TwoStage],
    dataset: Dataset,
    settings: Sequence[TrainSettings],
    augment: Callable[[Dataset], Dataset] = lambda dataset: dataset,
    rounds: int = 1,
    after: Callable[[int, TwoStage, TwoStage], None] | None = None,
) -> TwoStage:
    """The four steps of training.

    Args:
        make: a new detector, on the pre-trained classifier; each time with weights of its own.
        dataset: of (image, target), without random changes.
        settings: of the four steps.
        augment: put around the data set, with its proposals.
        rounds: how often steps 3 and 4 are done; their number in `after` goes on.
        after: called after each step with its number, the detector, and the one whose RPN proposes for it.
    Returns:
        The detector of the last step.
    Raises:
        ValueError: not four settings, or detectors that share weights.
    Source: Faster R-CNN, section 3.2.
    """
    if len(settings) != 4:
        raise ValueError(f"settings: expected those of 4 steps, got {len(settings)}")
    after = after or (lambda step, model, proposer: None)
    proposer, model = make(), make()
    if {id(parameter) for parameter in proposer.parameters()} & {id(parameter) for parameter in model.parameters()}:
        raise ValueError("make: expected a new classifier each time, got detectors that share weights")
    train(RPNAlone(proposer), augment(dataset), settings[0], progress=False)
    after(1, proposer, proposer)
    train(model, augment(_proposed(dataset, proposer)), settings[1], progress=False)
    after(2, model, proposer)
    free = [parameter for parameter in model.body.parameters() if parameter.requires_grad]
    for parameter in free:
        parameter.requires_grad_(False)
    for number in range(rounds):
        for parameter in model.head.parameters():
            parameter.requires_grad_(False)
        train(RPNAlone(model), augment(dataset), settings[2], progress=False)
        after(3 + 2 * number, model, model)
        for parameter in model.head.parameters():
            parameter.requires_grad_(True)
        train(model, augment(_proposed(dataset, model)), settings[3], progress=False)
        after(4 + 2 * number, model, model)
    for parameter in free:
        parameter.requires_grad_(True)
    return model


def _proposed(dataset: Dataset, proposer: TwoStage) -> WithProposals:
    """The data set with the proposals of the RPN as it is now, as many as in training."""
    device = next(proposer.parameters()).device

    def propose(image: Tensor) -> Tensor:
        was = proposer.training, proposer.rpn.training
        proposer.eval().rpn.train()
        with torch.no_grad():
            (proposals,) = proposer.proposals([image.to(device)])
        proposer.train(was[0]).rpn.train(was[1])
        return proposals.cpu()

    proposed = WithProposals(dataset, propose)
    for index in range(len(proposed)):
        proposed.target(index)
    return proposed
