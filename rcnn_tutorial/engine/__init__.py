"""What makes the rules of `ops` fast and is no lesson; each has its rule as its test."""

import os


def plain() -> bool:
    """Whether RCNN_PLAIN=1 asks for the rules alone, without what makes them fast."""
    return os.environ.get("RCNN_PLAIN") == "1"
