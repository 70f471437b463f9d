"""Settings of pruning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.config.settings import Settings
from training.data.readers.registry import AnySource
from training.errors import RecipeError


class PruneSettings(Settings):
    """Cut whole channels until what is left is small or fast enough."""

    kind: Literal["prune"] = "prune"
    """The step."""
    target: Literal["macs", "latency"] = "macs"
    """What is cut down: `macs`, the multiply-accumulates of one frame, or `latency`, the measured time of the exported
    file in ONNX Runtime on this machine."""
    share: Annotated[float, Field(ge=0.05, lt=1)] = 0.6
    """What may be left, as a share of the parent's."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of the runs that measure the latency."""
    importance: Literal["magnitude", "taylor"] = "magnitude"
    """What says which channels go first: the size of their weights, or the product of weight and gradient (Molchanov et
    al., Importance Estimation for Neural Network Pruning, 2019), which needs `frames`."""
    frames: AnySource | None = None
    """Labelled frames for the gradients of `taylor`."""
    batches: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Batches of frames for the gradients of `taylor`."""
    least_channels: Annotated[int, Field(ge=1, le=4096)] = 8
    """Each layer keeps at least this many channels."""
    round_to: Annotated[int, Field(ge=1, le=256)] = 8
    """Numbers of channels are multiples of this: kernels of CPUs and GPUs work on 8 or 16 channels at once."""
    largest_cut: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """Largest share of the channels of one layer that is cut."""

    @model_validator(mode="after")
    def _check_frames(self) -> PruneSettings:
        if self.importance == "taylor" and (self.frames is None or not self.frames.labeled):
            raise RecipeError("importance taylor needs frames with labels; name a labelled source, or use magnitude")
        if self.importance == "magnitude" and self.frames is not None:
            raise RecipeError("frames have no effect on importance magnitude; leave them out, or use taylor")
        return self
