"""The teacher kind `transformers`: a segmentation or detection model of the transformers library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from training.errors import RecipeError
from training.teachers.settings import TeacherSettings

if TYPE_CHECKING:
    from training.teachers.transformers_network import TransformersNetwork

Side = Annotated[int, Field(ge=0, le=8192)]


class TransformersTeacher(TeacherSettings):
    """A whole model of the transformers library: SegFormer, Mask2Former, UperNet, DeepLabV3, RT-DETR, D-FINE, DETR."""

    kind: Literal["transformers"]
    """A model of the transformers library that segments or detects."""
    model: Annotated[str, Field(min_length=1, max_length=4096)]
    """Name on the model hub, or a local folder with config.json and model.safetensors."""
    label_set: str = ""
    """Name or path of the label set of its classes, in the order of their ids. Empty takes the names from its
    config.json; if a set that comes with the package has these names, its tables count."""
    height: Side = 0
    """Height of the network's input in pixels. 0 takes the size of preprocessor_config.json if it names height and
    width, else the size of each view."""
    width: Side = 0
    """Width of the network's input in pixels, or 0."""

    @model_validator(mode="after")
    def _check_size(self) -> TransformersTeacher:
        if (self.height == 0) != (self.width == 0):
            raise RecipeError(
                f"height {self.height} and width {self.width} of a teacher come together; give both or none"
            )
        return self

    @property
    def name(self) -> str:
        """See `TeacherSettings.name`."""
        return self.model

    def open(self) -> TransformersNetwork:
        """See `TeacherSettings.open`."""
        from training.teachers.transformers_network import TransformersNetwork

        return TransformersNetwork.load(self)
