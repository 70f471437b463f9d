"""Leaves out of a recipe the sources that it can do without and that are not on this machine."""

from __future__ import annotations

from training.errors import DataError
from training.recipe import Recipe


def with_present_sources(recipe: Recipe) -> Recipe:
    """Return the recipe without missing sources that are not `required`, and print a line about each.

    A run notes this recipe, so its notes and licences name what it learns from, and nothing else.

    Raises:
        DataError: No source is left.
        RecipeError: What is left has nothing to teach.
    """
    missing = [source for source in recipe.data.train if not source.required and not source.folder.exists()]
    if not missing:
        return recipe
    present = tuple(source for source in recipe.data.train if source not in missing)
    if not present:
        names = ", ".join(str(source.folder) for source in missing)
        raise DataError(f"{recipe.name}: expected at least one of its sources, {names} are missing; copy one there")
    for source in missing:
        print(f"{recipe.name}: {source.folder} is missing and not required: the run goes on without it")
    return recipe.replace(data=recipe.data.replace(train=present))
