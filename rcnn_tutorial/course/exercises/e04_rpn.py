"""An exercise of 04_faster_rcnn: a region proposal network, its loss, and eight pictures that it learns by heart."""

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcnn_tutorial.course.exercises.core import Mistake, Part, agrees, agrees_any
from rcnn_tutorial.data import load_dataset
from rcnn_tutorial.detectors.fast_rcnn import without_pooling
from rcnn_tutorial.nets.backbones import tiny_net
from rcnn_tutorial.ops.anchors import anchor_grid, exact_anchors
from rcnn_tutorial.ops.assign import match, sample
from rcnn_tutorial.ops.boxes import box_iou, decode, encode
from rcnn_tutorial.ops.nms import nms

# 04-F: the head

CHANNELS, PER_PLACE, ROWS, COLUMNS = 16, 3, 7, 9
MIDDLE = (3, 4)  # the cell of the map that is changed


def _made(build: Callable, channels: int = CHANNELS, per_place: int = PER_PLACE) -> nn.Module:
    """What the learner builds, with random weights that do not depend on what came before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(channels, per_place)


@torch.no_grad()
def _outputs(build: Callable) -> tuple[Tensor, ...] | None:
    """Logits and offsets for a map, for the same map with one cell changed, for minus the map, and for nothing."""
    net = _made(build)
    if net is ... or net is None:
        return net
    base = torch.randn(1, CHANNELS, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    changed, nothing = base.clone(), torch.zeros_like(base)
    changed[0, :, MIDDLE[0], MIDDLE[1]] += 5
    given = (base, changed, -base, nothing)
    return tuple(part for each in given for part in net(each))


def _seen(build: Callable, what: int) -> Tensor:
    """(N,) bool: which logits (0) or offsets (1) depend on the cell that is changed."""
    outputs = _outputs(build)
    difference = (outputs[2 + what] - outputs[what])[0].abs() > 1e-7
    return difference if what == 0 else difference.any(dim=1)


def _around(reach: int, order: str = "places") -> Tensor:
    """(N,) bool: the anchors at the cells around the middle, in the order of the grid, or kind by kind."""
    near = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    near[MIDDLE[0] - reach : MIDDLE[0] + reach + 1, MIDDLE[1] - reach : MIDDLE[1] + reach + 1] = True
    if order == "kinds":
        return near.expand(PER_PLACE, -1, -1).flatten()
    near = near.T if order == "columns" else near
    return near[..., None].expand(-1, -1, PER_PLACE).flatten()


def _sees(logits: Tensor, offsets: Tensor) -> Callable[[Callable], bool]:
    """A test for heads: do these logits and these offsets depend on the cell?"""
    return lambda build: torch.equal(_seen(build, 0), logits) and torch.equal(_seen(build, 1), offsets)


def _is_linear(build: Callable) -> bool:
    plain, _, _, _, minus, _, nothing, _ = _outputs(build)
    return bool((plain + minus - 2 * nothing).abs().max() < 1e-4 * (plain - minus).abs().max())


def _are_probabilities(build: Callable) -> bool:
    logits = torch.cat([part.flatten() for part in _outputs(build)[::2]])
    return bool(((logits >= 0) & (logits <= 1)).all())


_NUMBER = ROWS * COLUMNS * PER_PLACE


def _fits(build: Callable) -> bool:
    outputs = _outputs(build)
    if outputs is ... or outputs is None:
        return agrees(bool, [()])(lambda: outputs)
    return [part.shape for part in outputs[:2]] == [(1, _NUMBER), (1, _NUMBER, 4)]


_good = _sees(_around(1), _around(1))


def _fault(build: Callable) -> str:
    """What is wrong with a head of the right shapes; an empty text if nothing is, or nothing that is known."""
    if not _fits(build):
        return ""
    found = {
        "kinds": any(torch.equal(_seen(build, what), _around(1, "kinds")) for what in (0, 1)),
        "cell": torch.equal(_seen(build, 0), _around(0)),
        "mixed": torch.equal(_seen(build, 0), _around(1)) and not torch.equal(_seen(build, 1), _around(1)),
        "probability": _good(build) and _are_probabilities(build),
        "linear": _good(build) and _is_linear(build),
    }
    return next((name for name, is_so in found.items() if is_so), "")


def _shows(fault: str) -> Callable[[Callable], bool]:
    return lambda build: _fault(build) == fault


HEAD = Part(
    "the head",
    lambda build: _fits(build) and _good(build) and not _fault(build),
    (
        Mistake(
            "The logits of one kind of anchor stand together.",
            "A convolution gives (B, A, h, w). Permute to (B, h, w, A) before you flatten.",
            _shows("kinds"),
        ),
        Mistake(
            "Each anchor sees its own cell alone.",
            "The first layer is a convolution of 3 x 3 with a padding of 1.",
            _shows("cell"),
        ),
        Mistake(
            "The four offsets of an anchor come from different places.",
            "Split the channels (4 A) into (A, 4) first, then permute to (B, h, w, A, 4), then flatten the places.",
            _shows("mixed"),
        ),
        Mistake(
            "All logits lie between 0 and 1.",
            "The head gives logits; the sigmoid belongs to the loss.",
            _shows("probability"),
        ),
        Mistake(
            "The logits are a linear function of the map.",
            "A ReLU stands between the 3 x 3 convolution and the two of 1 x 1.",
            _shows("linear"),
        ),
    ),
    "Print the two shapes for a map (1, 16, 7, 9) and 3 anchors: (1, 189) and (1, 189, 4), place by place.",
)

# 04-F: the loss


def _loss(
    logits: Tensor,
    offsets: Tensor,
    labels: Tensor,
    wanted: Tensor,
    ignored: int | None = None,
    of: str = "positive",
    over: str = "used",
    beta: float = 1 / 9,
    coordinates: int = 1,
) -> Tensor:
    """The RPN's loss on anchors that are labelled, with the mistakes one can make as options."""
    labels = labels if ignored is None else labels.masked_fill(labels == -1, ignored)
    used, positive = labels >= 0, labels == 1
    log_loss = F.binary_cross_entropy_with_logits(logits[used], positive[used].to(logits), reduction="sum")
    boxes = {"positive": positive, "used": used, "all": torch.ones_like(used)}[of]
    box_loss = F.smooth_l1_loss(offsets[boxes], wanted[boxes], beta=beta, reduction="sum") / coordinates
    count = {"used": used.sum(), "all": len(labels), "sum": 1}
    if over == "own":
        return log_loss / used.sum() + box_loss / positive.sum().clamp(min=1)
    return (log_loss + box_loss) / count[over]


def _batch(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([1, 1, 0, 0, 0, -1, -1])[torch.randperm(7, generator=generator)]
    labels = labels if seed % 5 else labels.clamp(max=0)
    return (
        torch.randn(7, generator=generator),
        torch.randn(7, 4, generator=generator),
        labels,
        torch.randn(7, 4, generator=generator) / 2,
    )


_BATCHES = [_batch(seed) for seed in range(12)]


def _loses(*options: dict) -> Callable[[Callable], bool]:
    return agrees_any(_BATCHES, *(partial(_loss, **each) for each in options))


LOSS = Part(
    "the loss",
    agrees(_loss, _BATCHES, tol=1e-4),
    (
        Mistake(
            "Anchors of label -1 take part.",
            "Leave out where labels == -1 before the log loss, and do not count them.",
            _loses({"ignored": 0}, {"ignored": 0, "over": "used", "of": "all"}, {"ignored": 1}),
        ),
        Mistake(
            "Negatives are asked for offsets.",
            "The second sum runs over the positives alone: p* is 0 for a negative.",
            _loses({"of": "used"}, {"of": "all"}),
        ),
        Mistake(
            "The loss is divided by the anchors that are ignored, too.",
            "N counts the anchors of label 1 and 0.",
            _loses({"over": "all"}),
        ),
        Mistake(
            "The loss is a sum.",
            "Divide both sums by N, the number of anchors of label 1 and 0.",
            _loses({"over": "sum"}),
        ),
        Mistake(
            "The offsets are divided by the number of positives.",
            "Both sums have the same N in this form of the loss.",
            _loses(*({"over": "own", "coordinates": c, "beta": b} for c in (1, 4) for b in (1 / 9, 1.0))),
        ),
        Mistake(
            "The offsets pull four times too weakly.",
            "A mean over (P, 4) divides by 4 as well: the four coordinates are added up.",
            _loses({"coordinates": 4}),
        ),
        Mistake(
            "Small errors of the offsets count too little.",
            "The parabola ends at beta = 1 / 9, and not at 1, as it does by default.",
            _loses({"beta": 1.0}),
        ),
    ),
    "Try the two anchors of section 5: with p = 0.8 and 0.4 and an error of 0.5 the two sums are 0.734 and 0.444.",
)

# 04-F: eight pictures

STEPS, SHOWN, ENOUGH = 50, 20, 0.9


@cache
def _eight() -> tuple[Tensor, Tensor, list[Tensor], Tensor, Tensor]:
    """Maps (8, 96, 12, 16) at a stride of 16, anchors, and the boxes, labels and offsets of eight scenes."""
    scenes = load_dataset("shapes", "train")
    chosen = [i for i in range(30) if len(scenes.target(i)["boxes"])][:8]
    body = without_pooling(tiny_net(pretrained=True))["body"].eval()
    with torch.no_grad():
        maps = F.avg_pool2d(body(torch.stack([scenes[i][0] for i in chosen]) - 0.45), 2)
    truths = [scenes.target(i)["boxes"] for i in chosen]
    anchors = anchor_grid(exact_anchors((24, 48, 96), (0.5, 1, 2), 16), (12, 16), 16)
    matches = [match(box_iou(anchors, boxes), 0.7, (0.0, 0.3), allow_low_quality=True) for boxes in truths]
    wanted = [encode(boxes[m.truth], anchors) for boxes, m in zip(truths, matches, strict=True)]
    return maps / maps.std(), anchors, truths, torch.stack([m.state for m in matches]), torch.stack(wanted)


def overfit(build: Callable, loss: Callable, steps: int = STEPS) -> float:
    """Train a head on eight scenes, and say which share of their objects its 20 best proposals cover.

    Args:
        build: gives the head for 96 channels and 9 anchors at a place.
        loss: of the logits (N,), offsets (N, 4), labels (N,) and wanted offsets (N, 4) of one scene.
        steps: of Adam.
    """
    maps, anchors, truths, labels, wanted = _eight()
    net, generator = _made(build, 96, 9), torch.Generator().manual_seed(0)
    if net is ...:
        return ...
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(steps):
        index, drawn = sample(labels, 128, 0.5, generator)  # (8, 128)
        batch = torch.full_like(labels, -1).scatter(1, index, labels.gather(1, index).masked_fill(~drawn, -1))
        losses = [loss(*scene) for scene in zip(*net(maps), batch, wanted, strict=True)]
        if losses[0] is ...:
            return ...
        adam.zero_grad()
        torch.stack(losses).sum().backward()
        adam.step()
    return _covered(*net(maps))


@torch.no_grad()
def _covered(logits: Tensor, offsets: Tensor) -> float:
    """The share of the objects that a proposal covers with an IoU of at least 0.5."""
    _, anchors, truths, _, _ = _eight()
    found = []
    for z, t, boxes in zip(logits, offsets, truths, strict=True):
        moved, best = decode(t, anchors), z.topk(300).indices
        kept = best[nms(moved[best], z[best], 0.7)][:SHOWN]
        found.append(box_iou(boxes, moved[kept]).amax(dim=1) >= 0.5)
    return torch.cat(found).double().mean().item()


def _is_enough(pair: tuple[Callable, Callable]) -> bool:
    """A head and a loss with mistakes can still learn eight pictures by heart, so both must be right, too."""
    share = overfit(*pair)
    if share is not ...:
        share = share >= ENOUGH and HEAD.right(pair[0]) and LOSS.right(pair[1])
    return agrees(lambda: True, [()])(lambda: share)


EIGHT = Part(
    "eight pictures",
    _is_enough,
    (),
    f"After {STEPS} steps the {SHOWN} best proposals cover too few objects, or a part above is not right. "
    "Make the two parts above right first.",
)

BUILD = (HEAD, LOSS, EIGHT)
