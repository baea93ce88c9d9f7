"""What makes the rules fast and is no lesson; `RCNN_PLAIN=1` runs every detector without it."""

import os


def plain() -> bool:
    """Whether RCNN_PLAIN=1 asks for the rules alone, without what makes them fast."""
    return os.environ.get("RCNN_PLAIN") == "1"
