"""A short training on eight pictures."""

from statistics import mean

from rcnn_tutorial.evaluation import predict, voc_ap
from rcnn_tutorial.training import TrainSettings, train
from tests.detectors.scenes import CLASSES, Scenes

STEPS = 60


def overfitted(model, lr):
    """Means of the first and of the last losses, and AP50 on the pictures that the model was trained on."""
    settings = TrainSettings(STEPS, batch_size=4, lr=lr, schedule="cosine", warmup=10, clip_norm=10.0)
    total = train(model, Scenes(8), settings, progress=False).total
    answers = predict(model, Scenes(8), progress=False)
    return (mean(total[:4]), mean(total[-4:])), voc_ap(*answers, CLASSES).map
