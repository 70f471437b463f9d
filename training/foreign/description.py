"""ForeignDescription: what the input and the outputs of an ONNX file of others mean, in a few lines of YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from training.config.loading import load_settings
from training.config.settings import Settings
from training.errors import RecipeError
from training.foreign.detection_forms import ClassNames, Detection, OutputName

Factor = Annotated[float, Field(gt=0, le=1e6)]
Side = Annotated[int, Field(ge=8, le=8192)]
PerChannel = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]


class InputDescription(Settings):
    """The network's input. A pixel value x, 0..255, enters the network as (x / divide - mean) / std."""

    name: OutputName = ""
    """Name of the input; empty if the file has only one."""
    layout: Literal["nchw", "nhwc"] = "nchw"
    """Order of the axes: channels before rows (PyTorch) or after columns (Keras and TensorFlow)."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the colours."""
    height: Side | None = None
    """Rows of the input; null takes those of the file."""
    width: Side | None = None
    """Columns of the input; null takes those of the file."""
    resize: Literal["letterbox", "stretch"] = "letterbox"
    """How a frame is fitted: with its aspect ratio kept, at the top left, or stretched to the whole input."""
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114
    """Value beside the frame in a letterbox, before the normalisation."""
    divide: Factor = 1.0
    """What pixel values are divided by: 255 for networks that take 0..1, 1 for those that take 0..255."""
    mean: PerChannel = (0.0, 0.0, 0.0)
    """Subtracted after the division, in the order of `channels`."""
    std: Annotated[tuple[Factor, ...], Field(min_length=3, max_length=3)] = (1.0, 1.0, 1.0)
    """What is divided by after the subtraction, in the order of `channels`."""
    batch: Literal["dynamic", 1] | None = None
    """Whether the network takes several frames at once. Null finds out."""

    @property
    def is_normalized(self) -> bool:
        """Whether pixel values are changed before they enter the network."""
        return self.divide != 1.0 or any(self.mean) or any(value != 1.0 for value in self.std)


class SegmentationDescription(Settings):
    """The output with a class, or a value for each class, for each pixel."""

    output: OutputName = ""
    """Name of the output; empty if the file has only one."""
    layout: Literal["nchw", "nhwc"] = "nchw"
    """Order of the axes: classes before rows or after columns."""
    meaning: Literal["logits", "probabilities", "class_ids"] = "logits"
    """What a value is: a score before the softmax, a probability, or the number of a class."""
    classes: str | ClassNames
    """Name of a label set, path of its file, or a list of names in the order of the network's classes. Null in the list
    stands for a number that the network never uses."""
    numbering: Literal["from_0", "from_1", "ids"] = "from_0"
    """For class_ids: whether the numbers are places in `classes`, from 0 or from 1, or the ids of the label set."""
    ignored: tuple[str, ...] = ()
    """Classes whose pixels become unlabelled (255), such as a network's class for everything else."""
    enlarge_to_stride: Literal[1, 2, 4, 8] | None = None
    """Enlarge the values bilinearly to one cell for each square of this many input pixels, before the best class is
    chosen. 1 is what SegFormer's and DeepLab's own code does. Null takes the cells as the network gives them."""


class ForeignDescription(Settings):
    """What the input and the outputs of a foreign ONNX file mean."""

    name: Annotated[str, Field(max_length=64)] = ""
    """Name of the network; empty takes the name of the file."""
    input: InputDescription = InputDescription()
    """The input."""
    segmentation: SegmentationDescription | None = None
    """The output with classes of pixels; null if the network has none."""
    detection: Detection | None = None
    """The outputs with boxes; null if the network has none."""

    @field_validator("segmentation", "detection", mode="after")
    @classmethod
    def _check_ignored(cls, part: SegmentationDescription | Detection | None) -> object:
        if part and not isinstance(part.classes, str):
            names = [name for name in part.classes if name is not None]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise RecipeError(f"classes must differ, got {', '.join(twice)} twice; write null for unused numbers")
        return part

    @model_validator(mode="after")
    def _check_tasks(self) -> ForeignDescription:
        if self.segmentation is None and self.detection is None:
            raise RecipeError("expected the section segmentation or detection, or both, there is neither")
        return self


def load_description(path: Path) -> ForeignDescription:
    """Read a description.

    Raises:
        RecipeError: The file cannot be read, a key is unknown or missing, or a value is not valid.
    """
    return load_settings(path, ForeignDescription)
