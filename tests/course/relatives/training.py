"""A short training on two pictures."""

from statistics import mean

from rcnn_tutorial.evaluation import predict, voc_ap
from rcnn_tutorial.training import TrainSettings, train
from tests.detectors.scenes import CLASSES, Scenes

STEPS = 30


def overfitted(model, lr):
    """Means of the first and of the last losses, and AP50 on the pictures that the model was trained on."""
    settings = TrainSettings(STEPS, batch_size=2, lr=lr, schedule="cosine", warmup=STEPS // 6, clip_norm=10.0)
    total = train(model, Scenes(2), settings, progress=False).total
    answers = predict(model, Scenes(2), progress=False)
    return (mean(total[:4]), mean(total[-4:])), voc_ap(*answers, CLASSES).map
