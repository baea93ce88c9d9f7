"""Exercises and guesses of the notebooks: `check`, `guess` and `reveal`."""

from rcnn_tutorial.course.exercises.core import check, guess, reveal

__all__ = ["check", "guess", "reveal"]
