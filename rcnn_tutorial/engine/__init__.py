"""What is no lesson: what makes a rule fast, with the rule as its test, and what refuses wrong input."""

import os


def plain() -> bool:
    """Whether RCNN_PLAIN=1 asks for the rules alone, without what makes them fast."""
    return os.environ.get("RCNN_PLAIN") == "1"
