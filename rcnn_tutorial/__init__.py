"""Two-stage object detection, from R-CNN to FPN: the package behind the notebooks."""
