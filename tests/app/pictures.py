"""Pictures with a red rectangle each, and a detector that finds it: what is detected is known to the pixel."""

import torch
from PIL import Image
from torch import nn

CLASSES = ("background", "red", "blue")
BOX = (30, 20, 80, 60)


class FindsColours(nn.Module):
    """Frames what is red with a score of 0.9 and what is blue with one of 0.4."""

    def __init__(self, classes=CLASSES, masks=False):
        super().__init__()
        self.weight, self.masks, self.batches = nn.Parameter(torch.zeros(1)), masks, []
        if classes:
            self.classes = classes

    def forward(self, images, targets=None, proposals=None):
        assert not self.training
        self.batches.append([tuple(image.shape[1:]) for image in images])
        return [self.answer(image) for image in images]

    def answer(self, image):
        found = []
        for label, score, plane in ((1, 0.9, 0), (2, 0.4, 2)):
            inside = (image[plane] > 0.6) & (image[1] < 0.4) & (image[2 - plane] < 0.4)
            if inside.any():
                rows, columns = inside.nonzero().unbind(1)
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                found.append((torch.stack([torch.as_tensor(v) for v in box]).float(), label, score, inside))
        boxes, labels, scores, masks = zip(*found, strict=True) if found else ((), (), (), ())
        answer = {
            "boxes": torch.stack(boxes) if found else torch.empty(0, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores),
        }
        if self.masks:
            answer["masks"] = torch.stack(masks)[:, None] if found else torch.empty(0, 1, *image.shape[1:]).bool()
        return answer


def picture(size=(100, 80), red=BOX, blue=None):
    image = Image.new("RGB", size, (60, 60, 60))
    for box, color in ((red, (220, 30, 30)), (blue, (30, 30, 220))):
        if box:
            image.paste(color, box)
    return image
