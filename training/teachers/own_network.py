"""Runs a network of ours as a teacher: without gradients, in eval mode, on images of any size."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ros_kd_perception.model.contract import InputSpec
from training.checkpoint import digest_of_weights, load_student
from training.config.licence import Licences
from training.label_sets.label_set import LabelSet
from training.networks.heads import DetectionOutputs, decode_clipped_boxes
from training.networks.strides import SEGMENTATION_STRIDE
from training.networks.student import Student, StudentOutputs
from training.teachers.seen import Boxes, Seen

COARSEST_STRIDE = 32
BOXES_MAX = 300  # of an image
SCORE_MIN = 0.01


class OwnNetwork:
    """A network of ours that teaches.

    It is not an `nn.Module`: the methods of a training run that go through all modules (`train`, `parameters`,
    `state_dict`, the move to a device) must not find it.

    Attributes:
        label_set: Its classes.
        sha256: SHA-256 of its weights, see `digest_of_weights`.
        licences: Of what it learnt from; None if it does not note them.
    """

    def __init__(self, network: Student, label_set: LabelSet, licences: Licences | None = None) -> None:
        self._network = network.eval().requires_grad_(False)
        self.label_set = label_set
        self.sha256 = digest_of_weights(network)
        self.licences = licences

    @classmethod
    def load(cls, path: Path) -> OwnNetwork:
        """Load the averaged weights of a checkpoint.

        Raises:
            CheckpointError: The file is not a checkpoint of `train`.
        """
        network, info = load_student(path)
        return cls(network, info.classes, info.licences)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Seen:
        """See `training.teachers.seen.Teacher`; `outputs` are absent if a side is not a multiple of 32."""
        height, width = images.shape[-2:]
        down, right = (-side % COARSEST_STRIDE for side in (height, width))
        padded = functional.pad(images, (0, right, 0, down), value=InputSpec.pad_value) if down or right else images
        outputs = self.outputs(padded)
        probabilities = None
        if outputs.segmentation_logits is not None:
            rows, columns = (math.ceil(side / SEGMENTATION_STRIDE) for side in (height, width))
            probabilities = outputs.segmentation_logits.float().softmax(dim=1)[:, :, :rows, :columns]
        boxes = None if outputs.detection is None else boxes_of(outputs.detection, height, width)
        return Seen(probabilities, boxes, None if down or right else outputs)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> StudentOutputs:
        """Return the outputs for images uint8 [N, 3, H, W], sides multiples of 32, with both detection branches."""
        if next(self._network.parameters()).device != images.device:
            self._network.to(images.device)
        # Cheap, and other code may have put the network back into training mode.
        self._network.eval()
        outputs: StudentOutputs = self._network(images.float() / 255, with_one_to_many=True)
        return outputs


def boxes_of(detection: DetectionOutputs, height: int, width: int) -> list[Boxes]:
    """Return the boxes of the one-to-one branch, chosen like in an exported student, clipped to height x width."""
    logits, labels = detection.flat_peak_logits().float().max(dim=2)
    top, cells = logits.topk(min(BOXES_MAX, logits.shape[1]), dim=1)
    places = detection.cells()[cells]
    distances = detection.flat_distance_logits().float().gather(1, cells.unsqueeze(-1).expand(-1, -1, 4))
    limit = logits.new_tensor([float(width), float(height)])
    xyxy, ids, scores = decode_clipped_boxes(distances, places, limit), labels.gather(1, cells), top.sigmoid()
    kept = [frame >= SCORE_MIN for frame in scores]
    return [Boxes.of(xyxy[n][keep], ids[n][keep], scores[n][keep]) for n, keep in enumerate(kept)]
