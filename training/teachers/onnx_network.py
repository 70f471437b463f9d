"""Runs an ONNX file of others as a teacher, through a graph that decodes its outputs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ros_kd_perception.model.execution_provider import ProviderError, SessionRequest, open_session
from ros_kd_perception.model.letterbox import letterbox, letterbox_geometry
from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.structures import Float32Array, UInt8Array
from training.foreign.classes import own_label_set
from training.foreign.description import ForeignDescription, load_description
from training.foreign.detection import classes_per_box
from training.foreign.foreign_file import ForeignFile
from training.foreign.graph import build_graph
from training.teachers.seen import Boxes, Seen

if TYPE_CHECKING:
    from training.teachers.onnx_file import OnnxTeacher

CANDIDATES_MAX = 1000  # boxes of an image before duplicates are removed
SCORE_MIN = 0.01
TOLERANCE = 1e-3  # of probabilities in half precision


class OnnxNetwork:
    """An ONNX file that teaches. It runs one image after the other, because few files take several.

    Attributes:
        label_set: The classes that the description names.
        sha256: SHA-256 of the file and its description.
    """

    def __init__(self, file: ForeignFile, description: ForeignDescription, device: str) -> None:
        """Build the graph and open a session.

        Raises:
            ModelFileError: The file cannot be used, or is not as described.
            RecipeError: The description does not fit.
        """
        self._description = description
        self._path = file.path
        self.label_set = own_label_set(description, file.path.stem)
        graph = build_graph(file, description, batch=1, outputs="teacher")
        self._height, self._width = graph.height, graph.width
        content = graph.model.SerializeToString()
        self.sha256 = hashlib.sha256(content + description.model_dump_json().encode()).hexdigest()
        request = SessionRequest(content, self.sha256, device, "auto", graph.precision, (self._height, self._width, 3))
        try:
            self._session, _ = open_session(request, cuda_graph=False)
        except ProviderError as error:
            raise ModelFileError(f"{file.path}: expected a network that ONNX Runtime can run, got: {error}") from error
        self._names = [value.name for value in graph.model.graph.output]

    @classmethod
    def load(cls, settings: OnnxTeacher) -> OnnxNetwork:
        """Read a file and its description.

        Raises:
            ModelFileError: The file cannot be used, or is not as described.
            RecipeError: The description is not valid, or does not fit.
        """
        return cls(ForeignFile.read(settings.path), load_description(settings.describe), settings.device)

    def __call__(self, images: Tensor) -> Seen:
        """See `training.teachers.seen.Teacher`.

        Raises:
            ModelFileError: A probability or a score is outside of 0..1.
        """
        each = [self._look(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
        maps = [probabilities for probabilities, _ in each if probabilities is not None]
        boxes = [found for _, found in each if found is not None]
        probabilities = torch.from_numpy(np.stack(maps)).to(images.device) if maps else None
        placed = [
            Boxes(*(value.to(images.device) for value in (one.xyxy, one.ids, one.scores, one.cut))) for one in boxes
        ]
        return Seen(probabilities, placed if boxes else None)

    def _look(self, image_bgr: UInt8Array) -> tuple[Float32Array | None, Boxes | None]:
        """Return probabilities, float32 [C, h, w], and boxes of one image."""
        pixels = self._fitted(image_bgr)
        arrays = dict(zip(self._names, self._session.run(self._names, {"images": pixels[None]}), strict=True))
        self._check(arrays)
        rows, columns = image_bgr.shape[:2]
        geometry = letterbox_geometry(rows, columns, self._height, self._width)
        if self._description.input.resize == "stretch":
            placed = (self._height, self._width)
        else:
            placed = (geometry.placed_height, geometry.placed_width)
        probabilities = boxes = None
        if "probabilities" in arrays:
            whole = arrays["probabilities"][0]
            input_sides = (self._height, self._width)
            sides = zip(whole.shape[1:], placed, input_sides, strict=True)
            kept = [max(1, round(cells * part / side)) for cells, part, side in sides]
            probabilities = np.ascontiguousarray(whole[:, : kept[0], : kept[1]])
        if "boxes" in arrays:
            ratios = np.array([columns / placed[1], rows / placed[0]] * 2, np.float32)
            limits = np.array([columns, rows] * 2, np.float32)
            boxes = self._boxes(np.clip(arrays["boxes"][0] * ratios, 0, limits), arrays["scores"][0])
        return probabilities, boxes

    def _check(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        """Refuse numbers that are no probabilities: NaN would silently be background, and logits would all be sure.

        Raises:
            ModelFileError: A probability or a score is outside of 0..1.
        """
        for name in ("probabilities", "scores"):
            values = arrays.get(name, np.zeros(0, np.float32))
            if values.size and not (values.min() >= -TOLERANCE and values.max() <= 1 + TOLERANCE):  # False for NaN
                raise ModelFileError(
                    f"{self._path}: expected {name} from 0 to 1 by its description, got {values.min():.4g} to "
                    f"{values.max():.4g} for an image; correct what the description says about its outputs, or export "
                    "the file again"
                )

    def _fitted(self, image_bgr: UInt8Array) -> UInt8Array:
        settings = self._description.input
        pixels = np.empty((self._height, self._width, 3), np.uint8)
        if settings.resize == "stretch":
            shrinks = self._height * self._width < image_bgr.shape[0] * image_bgr.shape[1]
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            cv2.resize(image_bgr, (self._width, self._height), dst=pixels, interpolation=how)
        else:
            letterbox(image_bgr, pixels, settings.pad_value)
        return pixels if settings.channels == "bgr" else np.ascontiguousarray(pixels[:, :, ::-1])

    def _boxes(self, xyxy: Float32Array, scores: NDArray[np.float32]) -> Boxes:
        """Return the candidates that score, the best first, in the ids of the label set."""
        assert self._description.detection is not None
        known = np.array([info.id for info in self.label_set.detection_classes])
        if classes_per_box(self._description.detection) == "best":
            scores = np.where(scores == scores.max(axis=1, keepdims=True), scores, 0)
        place, channel = np.nonzero(scores >= SCORE_MIN)
        best = np.argsort(-scores[place, channel], kind="stable")[:CANDIDATES_MAX]
        place, channel = place[best], channel[best]
        arrays = (xyxy[place], known[channel], scores[place, channel])
        return Boxes.of(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
