"""Which reader a recipe's `kind` of source stands for; needs no torch."""

from __future__ import annotations

from dataclasses import replace

from training.config.recipe import SourceRecipe
from training.data.readers.base import FrameFolder, RenderedFolder
from training.data.readers.camvid import CamVidFolder
from training.data.readers.unlabeled import UnlabeledFolder, take_frames_out

FOLDERS: dict[str, type[FrameFolder]] = {
    "rendered": RenderedFolder,
    "camvid": CamVidFolder,
    "unlabeled": UnlabeledFolder,
    "bag": UnlabeledFolder,
}


def open_source(recipe: SourceRecipe) -> FrameFolder:
    """The reader of a recipe's source, everything about its files checked.

    Raises:
        DataError: something is missing, broken or outside the class tables.
    """
    if recipe.kind == "bag":
        recipe = replace(recipe, folder=take_frames_out(recipe))
    folder = FOLDERS[recipe.kind](recipe)
    folder.check()
    return folder
