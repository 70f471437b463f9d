"""The network that a recipe asks for."""

from __future__ import annotations

from training.networks.class_transfer import start_classifier
from training.networks.selected_backbone import build_backbone
from training.networks.student import Student, build_student
from training.recipe import Recipe


def build_recipe_student(recipe: Recipe, pretrained: bool = True) -> Student:
    """Build the network that a recipe asks for, with the classes of its label set.

    Args:
        recipe: Recipe of a student or a teacher.
        pretrained: Whether a selected backbone gets the weights that the recipe names, and the classes the outputs of
            a classifier that comes with them.

    Raises:
        RecipeError: The label set cannot be read, or the backbone cannot be built, its weights are not available, or it
            does not take images of the sizes that the recipe trains and validates on.
    """
    backbone = build_backbone(recipe.backbone, pretrained) if recipe.backbone else None
    if backbone is not None:
        backbone.check_size(min(recipe.batch_size, 2), recipe.data.crop_height, recipe.data.crop_width)
        backbone.check_size(1, recipe.validation.input_height, recipe.validation.input_width)
    classes = recipe.student_classes()
    student = build_student(recipe.size, len(classes.segmentation), len(classes.detection), backbone)
    start_classifier(student, classes)
    return student
