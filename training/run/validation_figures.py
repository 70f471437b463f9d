"""Chooses the figures that a run validates by, and checks before the training that its frames can yield them."""

from __future__ import annotations

from collections.abc import Sequence

from training.data.readers.frame_folder import FrameFolder
from training.errors import DataError
from training.recipe import AP50_ENDING, FIGURE_OF_TASK, ValidationRecipe, task_of_figure


def choose_figure(settings: ValidationRecipe, opened: Sequence[FrameFolder | None]) -> str:
    """Return the figure that chooses the best checkpoint: the recipe's, or the other one if only its frames are there.

    Args:
        settings: The section of the recipe.
        opened: Frames for segmentation, and frames for detection; None if there are none.

    Returns:
        The figure; empty without any frames.

    Raises:
        DataError: The labels of the frames cannot yield a figure.
    """
    there = [task for task, folder in zip(FIGURE_OF_TASK, opened, strict=True) if folder]
    best_by = settings.best_by
    if there and task_of_figure(best_by) not in there:
        best_by = FIGURE_OF_TASK[there[0]]
    if best_by != settings.best_by:
        print(f"the best checkpoint is chosen by {best_by}, because there are no frames for {settings.best_by}")
    segmentation, detection = opened
    if segmentation is not None and not segmentation.counts.any_pixels:
        raise _cannot_yield("validation.segmentation", segmentation, "pixels that have a class", "miou", "leave it out")
    if detection is not None and not detection.counts.any_boxes:
        raise _cannot_yield("validation.detection", detection, "boxes", "average precision", "leave it out")
    if detection is not None and not detection.all_boxes:
        raise DataError(
            f"validation.detection: expected a box of every object in {detection.folder}, by positives_only some have "
            "none, so that nothing says which boxes are wrong; name other frames, or leave it out"
        )
    class_name = best_by.removesuffix(AP50_ENDING)
    if detection is not None and best_by not in FIGURE_OF_TASK.values() and not detection.counts.boxes[class_name]:
        otherwise = "set validation.best_by to miou, with frames for validation.segmentation"
        raise _cannot_yield("validation.detection", detection, f"boxes of class {class_name}", best_by, otherwise)
    return best_by if there else ""


def check_scored(where: str, folder: FrameFolder) -> None:
    """Refuse frames whose labels yield no figure of any task.

    Raises:
        DataError: All pixels are void, and there are no boxes.
    """
    if not folder.counts.any_pixels and not folder.counts.any_boxes:
        raise _cannot_yield(where, folder, "pixels that have a class, or boxes,", "a figure", "leave it out")


def check_something_to_learn(folders: Sequence[FrameFolder], trained_part: str) -> None:
    """Refuse training frames without labels for the trained part, in a run without a teacher.

    Args:
        folders: Frames that the run draws from.
        trained_part: `all` or `detection`, from the recipe.

    Raises:
        DataError: No boxes count and, if all is trained, all pixels are void.
    """
    names = ", ".join(str(folder.folder) for folder in folders)
    if any(folder.counts.any_boxes and folder.box_weight > 0 for folder in folders):
        return
    if trained_part == "detection":
        raise DataError(
            f"data.train: expected boxes in {names} for trained_part: detection, no boxes count; name frames with "
            "boxes, give them a box_weight above 0, or train all"
        )
    if not any(folder.counts.any_pixels for folder in folders):
        raise DataError(
            f"data.train: expected labels in {names}, all pixels are void and no boxes count; label some frames, "
            "or add a distillation section, by which a teacher labels them"
        )


def _cannot_yield(where: str, folder: FrameFolder, expected: str, figure: str, otherwise: str) -> DataError:
    return DataError(
        f"{where}: expected {expected} in {folder.folder} to score {figure} on, found none in the {len(folder)} frames "
        f"that it takes; name other frames, take more of them (limit, include_drives), or {otherwise}"
    )
