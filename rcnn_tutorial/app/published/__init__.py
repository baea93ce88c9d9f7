"""The recipes of published results: one file for each data set, one function for the settings of each result.

A recipe states every value that its source states, with the place where it stands there. What papers leave open is
taken from their released code.
"""

from rcnn_tutorial.app.published import coco, voc
from rcnn_tutorial.app.published.recipe import Network, Recipe

__all__ = ["RECIPES", "Network", "Recipe"]

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (*voc.RECIPES, *coco.RECIPES)}
