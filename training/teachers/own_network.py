"""Runs a network of ours as a teacher: without gradients, in eval mode, on images of any size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ros_kd_perception.model.contract import InputSpec
from training.checkpoint import digest_of_weights, load_student
from training.config.licence import Licences
from training.label_sets.label_set import LabelSet
from training.label_sets.score_scales import score_scales_of
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
        sha256: SHA-256 of its weights, see `digest_of_weights`; with scales of scores, of both.
        licences: Of what it learnt from; None if it does not note them.
    """

    def __init__(
        self,
        network: Student,
        label_set: LabelSet,
        licences: Licences | None = None,
        score_scales: Sequence[tuple[float, float]] = (),
    ) -> None:
        """Take a network.

        Args:
            network: The network; it is put into eval mode.
            label_set: Its classes.
            licences: Of what it learnt from; None if it does not note them.
            score_scales: Scale and shift of the logit of each class's scores, as a calibration found them; empty =
                none. Boxes have them, and `outputs` do not.
        """
        self._network = network.eval().requires_grad_(False)
        self.label_set = label_set
        self._scales = torch.tensor(score_scales, dtype=torch.float32)
        self.sha256 = digest_of_weights(network)
        if score_scales:  # kept answers of other scales are not its own
            self.sha256 = hashlib.sha256(f"{self.sha256} {tuple(score_scales)}".encode()).hexdigest()
        self.licences = licences

    @classmethod
    def load(cls, path: Path) -> OwnNetwork:
        """Load the averaged weights of a checkpoint.

        Raises:
            CheckpointError: The file is not a checkpoint of `train`.
        """
        network, info = load_student(path)
        return cls(network, info.classes, info.licences, score_scales_of(info.confidence or {}, info.classes))

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
        boxes = None if outputs.detection is None else boxes_of(outputs.detection, height, width, self._scales)
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


def boxes_of(detection: DetectionOutputs, height: int, width: int, score_scales: Tensor) -> list[Boxes]:
    """Return the boxes of the one-to-one branch, chosen like in an exported student, clipped to height x width.

    Args:
        detection: Outputs for a batch.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        score_scales: Scale and shift of the logit of each class's scores, float32 [C, 2]; without rows = none.
    """
    logits, labels = detection.flat_peak_logits().float().max(dim=2)
    if len(score_scales):
        scales = score_scales.to(logits.device)[labels]
        logits = logits * scales[..., 0] + scales[..., 1]
    top, cells = logits.topk(min(BOXES_MAX, logits.shape[1]), dim=1)
    places = detection.cells()[cells]
    distances = detection.flat_distance_logits().float().gather(1, cells.unsqueeze(-1).expand(-1, -1, 4))
    limit = logits.new_tensor([float(width), float(height)])
    xyxy, ids, scores = decode_clipped_boxes(distances, places, limit), labels.gather(1, cells), top.sigmoid()
    kept = [frame >= SCORE_MIN for frame in scores]
    return [Boxes.of(xyxy[n][keep], ids[n][keep], scores[n][keep]) for n, keep in enumerate(kept)]
