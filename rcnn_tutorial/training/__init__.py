"""One training loop for any module that returns a dict of scalar losses: ours and torchvision's alike."""

from rcnn_tutorial.engine.processes import join_processes
from rcnn_tutorial.training.history import History
from rcnn_tutorial.training.loop import train
from rcnn_tutorial.training.settings import TrainSettings, learning_rate

__all__ = ["History", "TrainSettings", "join_processes", "learning_rate", "train"]
