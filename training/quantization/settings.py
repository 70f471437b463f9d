"""Settings of quantisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.config.settings import PathText, Settings
from training.data.readers.registry import AnySource
from training.errors import RecipeError


class CalibrationSettings(Settings):
    """Frames that show which values the activations take, and the rule that makes a range of them."""

    frames: AnySource
    """Source of the frames: any folder, or a bag. Labels are not read."""
    count: Annotated[int, Field(ge=8, le=4096)] = 90
    """Number of frames, spread evenly over the source."""
    method: Literal["minmax", "percentile", "entropy"] = "minmax"
    """`minmax` takes all values, `percentile` leaves out the largest, `entropy` loses the least information."""
    percentile: Annotated[float, Field(ge=90, lt=100)] = 99.99
    """Share of the values inside the range of `percentile`, in percent."""


class MixedSettings(Settings):
    """Layers that lose the most stay in fp32, one after the other, until the loss is within a budget."""

    frames: AnySource
    """Labelled frames to choose on. They should not be those of the report."""
    miou: Annotated[float, Field(ge=0, le=1)] = 0.003
    """Largest loss of the mean IoU, as a share 0..1."""
    ap50: Annotated[float, Field(ge=0, le=1)] = 0.003
    """Largest loss of the AP50, as a share 0..1."""
    most_layers: Annotated[int, Field(ge=1, le=1000)] = 8
    """Most layers that may stay in fp32."""

    @model_validator(mode="after")
    def _check_frames(self) -> MixedSettings:
        if not self.frames.labeled:
            raise RecipeError(
                f"mixed.frames must have labels, kind {self.frames.kind} has none; name a labelled source"
            )
        return self


class AwareSettings(Settings):
    """Train with quantised weights and activations before the file is quantised, with the parent as teacher."""

    recipe: PathText
    """Recipe of the training, with a section `quantization_aware`. The chain sets its start and its teacher."""
    overrides: tuple[str, ...] = ()
    """Changes of the recipe as `key=value`, like `--override`."""


class QuantiseSettings(Settings):
    """Make a file of 8-bit integers or of half precision."""

    kind: Literal["quantise"] = "quantise"
    """The step."""
    form: Literal["cpu", "tensorrt", "fp16"] = "cpu"
    """What the file is for. `cpu`: unsigned activations and signed weights, as the integer kernels of CPUs want them.
    `tensorrt`: both signed and symmetric, placed where TensorRT fuses. `fp16`: half precision for CUDA, without
    calibration."""
    calibration: CalibrationSettings | None = None
    """Frames and rule of the ranges of activations. Every form but `fp16` needs it."""
    mixed: MixedSettings | None = None
    """Automatic mixed precision; null = every layer is quantised."""
    aware: AwareSettings | None = None
    """Quantisation-aware distillation before the file is made; null = none."""

    @model_validator(mode="after")
    def _check_form(self) -> QuantiseSettings:
        if self.form == "fp16":
            given = [key for key in ("calibration", "mixed", "aware") if getattr(self, key) is not None]
            if given:
                raise RecipeError(f"form fp16 has no ranges to find: {', '.join(given)} has no effect, leave it out")
        elif self.calibration is None:
            raise RecipeError(f"form {self.form} needs calibration: name frames like those that the vehicle will see")
        return self
