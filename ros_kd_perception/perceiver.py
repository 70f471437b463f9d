"""Perceiver: frames in, perceptions out. Start reading here.

A frame is fitted into the network's input (`model/letterbox.py`), the model runs (`model/onnx_model.py`), and its
outputs are mapped back to the geometry of the frame. The node (`ros/`) and `replay.py` both use this class, so a
replay of a bag gives the results that the vehicle had. This module does not depend on ROS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ros_kd_perception.model.boxes import best_of_each_object
from ros_kd_perception.model.contract import UNCERTAINTY_BLOCK_PX, InputSpec
from ros_kd_perception.model.letterbox import (
    InputGeometry,
    boxes_to_source,
    class_map_to_source,
    letterbox,
    letterbox_geometry,
    stretch,
    stretch_geometry,
)
from ros_kd_perception.model.model_choice import choose_model
from ros_kd_perception.model.onnx_model import NetworkOutputs, OnnxModel
from ros_kd_perception.structures import (
    WHOLE_IMAGE,
    Detections,
    Float32Array,
    Frame,
    Perception,
    RegionOfInterest,
    Timing,
    UInt8Array,
    UncertaintyCells,
)
from ros_kd_perception.system.shipped_files import AUTO_MODEL

_WARM_UP_RUNS = 3


class DivergedOutput(ValueError):
    """The network output for a frame contains NaN or infinity. The text is one sentence."""


@dataclass(frozen=True)
class PreparedFrame:
    """A frame with its network input.

    Attributes:
        frame: The frame.
        network_input: uint8 `[H, W, 3]`, channels in the order of the contract. Must not change until the network has
            run.
        input_spec: Input of the contract for which it was prepared.
        geometry: Position and size of the frame in the network input.
        preprocess_ms: Duration of the preparation, milliseconds.
    """

    frame: Frame
    network_input: UInt8Array
    input_spec: InputSpec
    geometry: InputGeometry
    preprocess_ms: float


class Perceiver:
    """Runs one model on frames of any size.

    Use it from one thread. Only `prepare` may be called from several threads, and on a CPU also `perceive_prepared`.

    Attributes:
        model: The model that it runs.
        score_threshold: Boxes with a lower score are left out, 0..1. May be changed between frames.
        score_thresholds: Thresholds of single cameras, in place of `score_threshold`. May be replaced between frames.
        regions: Region of interest by camera; the whole image for cameras that are not in it. May be replaced between
            frames.

    Args:
        model: The verified model to run.
        score_threshold: First value of the attribute; None for the threshold of the contract.
        new_class_map: Returns the memory for a class map, uint8 `[rows, columns]`. None to allocate new memory for each
            frame.
    """

    def __init__(
        self,
        model: OnnxModel,
        score_threshold: float | None = None,
        new_class_map: Callable[[int, int], UInt8Array] | None = None,
    ) -> None:
        self.model = model
        contract = model.contract
        self.score_threshold = contract.score_threshold if score_threshold is None else score_threshold
        self.score_thresholds: Mapping[str, float] = {}
        self.regions: Mapping[str, RegionOfInterest] = {}
        # Used for every frame, because a new buffer costs page faults.
        self._input = np.empty((1, contract.input.height, contract.input.width, 3), np.uint8)
        self._new_class_map = new_class_map
        self._stride = 1 if contract.class_map is None else contract.class_map.stride
        self._nms_iou = None if contract.detections is None else contract.detections.nms_iou
        self._label_ids = np.array([c.id for c in contract.detection_classes], np.int32)

    @classmethod
    def open(cls, model: str | Path | None = None, *, device: str = "auto", **options: Any) -> Perceiver:
        """Open a student and verify it: in one call what node and replay do step by step.

        Args:
            model: The `.onnx` file; None or `auto` for the shipped student that is fastest here.
            device: `auto`, `tensorrt`, `cuda` or `cpu`.
            **options: Handed on to `OnnxModel.open`, for example `require_gpu=True`.

        Raises:
            ModelError: The file cannot be run as asked; one sentence.
        """
        path = choose_model(str(model or AUTO_MODEL), device, options.get("precision", "auto")).path
        return cls(OnnxModel.open(path, device=device, **options))

    def threshold_of(self, camera: str) -> float:
        """Return the score threshold of a camera."""
        return self.score_thresholds.get(camera, self.score_threshold)

    def warm_up(self) -> float:
        """Run on empty frames until buffers and kernels of every batch size are set up.

        Returns:
            Duration of the last run, on one frame, in milliseconds.
        """
        self._input.fill(self.model.contract.input.pad_value)
        started = time.perf_counter()
        for size in range(self.model.max_batch, 0, -1):
            images = np.repeat(self._input, size, axis=0)
            for _ in range(_WARM_UP_RUNS):
                started = time.perf_counter()
                self.model.run(images)
        return (time.perf_counter() - started) * 1e3

    def prepare(
        self, frame: Frame, out: UInt8Array | None = None, region: RegionOfInterest | None = None
    ) -> PreparedFrame:
        """Make the network input of a frame. Safe in several threads if each has its own `out`.

        Args:
            frame: A frame of any size.
            out: Buffer to overwrite, uint8 `[H, W, 3]`, C-contiguous. A new one is allocated if it is None or has
                another shape.
            region: The part of the frame that the network sees. None for the region of the frame's camera.

        Raises:
            BadFrame: The region reaches beyond the frame.
        """
        started = time.perf_counter()
        spec = self.model.contract.input
        region = self._region_in(frame, region)
        if out is None or out.shape != (spec.height, spec.width, 3):
            out = np.empty((spec.height, spec.width, 3), np.uint8)
        if spec.resize == "stretch":
            geometry = stretch(frame.image_bgr, out, region)
        else:
            geometry = letterbox(frame.image_bgr, out, spec.pad_value, region)
        if spec.channels == "rgb":
            out[:] = out[:, :, ::-1].copy()
        return PreparedFrame(frame, out, spec, geometry, (time.perf_counter() - started) * 1e3)

    def geometry_of(self, frame: Frame) -> InputGeometry:
        """Return how `prepare` fits a frame into the network input.

        Raises:
            BadFrame: The region of interest reaches beyond the frame.
        """
        spec = self.model.contract.input
        fit = stretch_geometry if spec.resize == "stretch" else letterbox_geometry
        return fit(frame.height, frame.width, spec.height, spec.width, self._region_in(frame))

    def _region_in(self, frame: Frame, region: RegionOfInterest | None = None) -> RegionOfInterest:
        wanted = self.regions.get(frame.camera, WHOLE_IMAGE) if region is None else region
        return wanted.within(frame.camera, frame.height, frame.width)

    def perceive(self, frames: Sequence[Frame]) -> list[Perception]:
        """Perceive frames one after the other, because batches are slower on a CPU.

        Returns:
            A perception for each frame, in the order of the frames.

        Raises:
            BadFrame: The region of interest of a camera reaches beyond its frame.
            DivergedOutput: The network output for one of the frames contains NaN or infinity.
        """
        return [self._perceive_one(self.prepare(frame, self._input[0])) for frame in frames]

    def fitted(self, prepared: PreparedFrame) -> PreparedFrame:
        """Return a prepared frame as this model needs it.

        A frame that was prepared for a different model is prepared again, with the region that it had. Its old network
        input stays as it is.
        """
        if prepared.input_spec == self.model.contract.input:
            return prepared
        return self.prepare(prepared.frame, region=prepared.geometry.region)

    def perceive_prepared(self, prepared: Sequence[PreparedFrame]) -> list[Perception]:
        """Perceive prepared frames, in batches of up to the model's `max_batch`, which is 1 on a CPU.

        Frames that were prepared for a different model are prepared again (`fitted`).

        Raises:
            DivergedOutput: The network output for one of the frames contains NaN or infinity.
        """
        size = self.model.max_batch
        perceptions: list[Perception] = []
        for first in range(0, len(prepared), size):
            batch = [self.fitted(one) for one in prepared[first : first + size]]
            perceptions += [self._perceive_one(batch[0])] if len(batch) == 1 else self._perceive_batch(batch)
        return perceptions

    def restore(self, prepared: PreparedFrame, outputs: NetworkOutputs, inference_ms: float) -> Perception:
        """Make the perception of a frame whose network ran elsewhere.

        Args:
            prepared: The frame.
            outputs: Outputs of the network for this frame alone.
            inference_ms: How long the network ran, milliseconds.

        Raises:
            DivergedOutput: The network output contains NaN or infinity.
        """
        return self._perception(prepared, outputs, 0, 0.0, inference_ms / 1e3)

    def _perceive_one(self, prepared: PreparedFrame) -> Perception:
        started = time.perf_counter()
        outputs = self.model.run(prepared.network_input[None])
        return self._perception(prepared, outputs, 0, started, time.perf_counter())

    def _perceive_batch(self, batch: Sequence[PreparedFrame]) -> list[Perception]:
        started = time.perf_counter()
        outputs = self.model.run(np.stack([one.network_input for one in batch]))
        inferred = time.perf_counter()
        return [self._perception(one, outputs, row, started, inferred) for row, one in enumerate(batch)]

    def _perception(
        self, prepared: PreparedFrame, outputs: NetworkOutputs, row: int, started: float, inferred: float
    ) -> Perception:
        restored = time.perf_counter()
        _check_finite(outputs, row)
        frame, geometry = prepared.frame, prepared.geometry
        class_map = self._class_map(outputs.cells(row), geometry)
        detections = self._select_detections(outputs.rows(row), geometry, self.threshold_of(frame.camera))
        uncertainty = _crop_uncertainty(outputs, row, geometry)
        finished = time.perf_counter()
        return Perception(
            camera=frame.camera,
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            class_map=class_map,
            detections=detections,
            uncertainty=uncertainty,
            timing=Timing(prepared.preprocess_ms, (inferred - started) * 1e3, (finished - restored) * 1e3),
            uncertainty_cells=None if uncertainty is None else _uncertainty_cells(geometry),
        )

    def _class_map(self, cells: UInt8Array | None, geometry: InputGeometry) -> UInt8Array | None:
        if cells is None:
            return None
        size = geometry.source_height, geometry.source_width
        out = self._new_class_map(*size) if self._new_class_map else None
        return class_map_to_source(cells, self._stride, geometry, out, self.model.contract.unlabeled_id)

    def _select_detections(
        self, found: Detections | None, geometry: InputGeometry, score_threshold: float
    ) -> Detections | None:
        if found is None:
            return None
        kept = found.scores >= score_threshold
        kept &= (found.labels[:, None] == self._label_ids).any(axis=1)  # np.isin takes as long as the whole rest
        found = found.rows(kept)
        if self._nms_iou is not None:
            # In network-input pixels, before boxes are clipped, as the network's own post-processing would do it.
            best = best_of_each_object(found.boxes_xyxy, found.scores, found.labels, self._nms_iou)
            found = found.rows(best)
        boxes = boxes_to_source(found.boxes_xyxy, geometry)
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # a box in the padding has none after clipping
        return Detections(boxes[has_area], found.scores[has_area], found.labels[has_area])


def _check_finite(outputs: NetworkOutputs, row: int) -> None:
    # Comparisons with NaN are false, so an overflowing network would report no boxes. Its class map cannot hold NaN and
    # would show the first class everywhere; the uncertainty is computed from the same logits and shows the NaN.
    for name, values in (
        ("scores", outputs.scores),
        ("boxes", outputs.boxes_xyxy),
        ("uncertainty", outputs.uncertainty),
    ):
        if values is not None and not np.isfinite(values[row]).all():
            wrong = int(np.count_nonzero(~np.isfinite(values[row])))
            raise DivergedOutput(
                f"expected finite {name} of the network, got {wrong} of {values[row].size} that are not: it overflowed "
                "on this frame; use precision fp32, or export the model again"
            )


def _crop_uncertainty(outputs: NetworkOutputs, row: int, geometry: InputGeometry) -> Float32Array | None:
    if outputs.uncertainty is None:
        return None
    rows = -(-geometry.placed_height // UNCERTAINTY_BLOCK_PX)
    columns = -(-geometry.placed_width // UNCERTAINTY_BLOCK_PX)
    return outputs.uncertainty[row, :rows, :columns]


def _uncertainty_cells(geometry: InputGeometry) -> UncertaintyCells:
    region = geometry.region
    return UncertaintyCells(
        region,
        UNCERTAINTY_BLOCK_PX * region.height / geometry.placed_height,
        UNCERTAINTY_BLOCK_PX * region.width / geometry.placed_width,
    )
