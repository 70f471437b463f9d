"""The network, student and teacher alike: one definition for training; `Student.fused` is what gets exported."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from training.networks.auto_backbone import TransformersBackbone
from training.networks.backbone import Backbone
from training.networks.blocks import fuse_blocks
from training.networks.heads import DetectionBranch, DetectionOutputs, SegmentationHead
from training.networks.neck import FeaturePyramid
from training.networks.strides import DETECTION_STRIDES


@dataclass(frozen=True)
class StudentSize:
    """Channels and blocks of one member of the family."""

    widths: tuple[int, int, int, int, int]
    depths: tuple[int, int, int, int, int]
    pyramid_channels: int
    segmentation_channels: int


SIZES = {
    "n": StudentSize((16, 32, 64, 128, 192), (1, 1, 2, 4, 1), 48, 32),
    "s": StudentSize((24, 48, 96, 160, 256), (1, 2, 3, 5, 1), 64, 32),
    "m": StudentSize((32, 64, 128, 224, 384), (1, 2, 4, 8, 1), 96, 48),
    "l": StudentSize((48, 96, 192, 320, 512), (1, 2, 4, 8, 2), 128, 64),  # a teacher without ImageNet's weights
}


@dataclass(frozen=True)
class StudentFeatures:
    """Features between neck and heads, float [N, C, H / stride, W / stride], for losses that compare them."""

    p3: Tensor
    p4: Tensor
    p5: Tensor
    segmentation: Tensor


@dataclass(frozen=True)
class StudentOutputs:
    """What the student says of a batch.

    Attributes:
        segmentation_logits: float [N, segmentation classes, H / 4, W / 4].
        detection: the one-to-one branch, the one that is exported.
        detection_one_to_many: a second branch with richer supervision; None outside training.
        features: where the outputs came from.
    """

    segmentation_logits: Tensor
    detection: DetectionOutputs
    detection_one_to_many: DetectionOutputs | None
    features: StudentFeatures


class Student(nn.Module):
    """Segmentation and detection of driving scenes; a teacher is the same network, only larger.

    The backbone is ours, of plain convolutions, or one of the transformers library; neck and heads are always ours.

    Two detection branches stand on the same features. In the one-to-many branch ten cells answer for each object; it
    teaches the features. In the one-to-one branch one cell does, so that its best K need no non-maximum suppression
    (Wang et al., YOLOv10, 2024); only this branch is run outside training.
    """

    def __init__(
        self,
        backbone: Backbone | TransformersBackbone,
        backbone_widths: Sequence[int],
        size: StudentSize,
        segmentation_classes: int,
        detection_classes: int,
    ) -> None:
        """Put neck and heads of a size on a backbone with features of `backbone_widths` at strides 4, 8, 16 and 32."""
        super().__init__()
        channels = size.pyramid_channels
        fine, *coarse = backbone_widths
        self.backbone = backbone
        self.neck = FeaturePyramid(coarse, channels)
        self.segmentation = SegmentationHead(fine, channels, size.segmentation_channels, segmentation_classes)
        self.detection = DetectionBranch(channels, detection_classes, DETECTION_STRIDES)
        self.detection_one_to_many: DetectionBranch | None = DetectionBranch(
            channels, detection_classes, DETECTION_STRIDES
        )

    def forward(self, images: Tensor, with_one_to_many: bool | None = None) -> StudentOutputs:
        """Run the network.

        Args:
            images: float [N, 3, H, W], channel order BGR, 0..1; H and W multiples of 32.
            with_one_to_many: run the second branch too, where there is one; None = only in training.
        """
        height, width = images.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(
                f"the student needs height and width in multiples of 32, got {height}x{width}; pad or crop"
            )
        fine, *coarse = self.backbone(images)
        pyramid = self.neck(coarse)
        segmentation_features, segmentation_logits = self.segmentation(fine, pyramid[0])
        one_to_many = None
        wanted = self.training if with_one_to_many is None else with_one_to_many
        if wanted and self.detection_one_to_many is not None:
            one_to_many = self.detection_one_to_many(pyramid)
        seen_by_one_to_one = pyramid
        if self.training:
            # That one cell and not its neighbour must answer is a matter for the branch alone. With its gradient in the
            # features the mean IoU was 33 instead of 38 (size n, 300 steps on CamVid) and detection no better.
            seen_by_one_to_one = [level.detach() for level in pyramid]
        return StudentOutputs(
            segmentation_logits=segmentation_logits,
            detection=self.detection(seen_by_one_to_one),
            detection_one_to_many=one_to_many,
            features=StudentFeatures(pyramid[0], pyramid[1], pyramid[2], segmentation_features),
        )

    def fused(self) -> Student:
        """A copy for inference: every block one convolution, no one-to-many branch, in eval mode."""
        student = copy.deepcopy(self).eval()
        student.detection_one_to_many = None
        fuse_blocks(student)
        return student


def build_student(
    size: str, segmentation_classes: int, detection_classes: int, backbone: TransformersBackbone | None = None
) -> Student:
    """A freshly initialised network of size "n", "s", "m" or "l", on our own backbone unless another is given.

    Raises:
        ValueError: there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"there is no student of size {size!r}; choose one of {', '.join(SIZES)}")
    widths = SIZES[size].widths
    if backbone is not None:
        return Student(backbone, backbone.widths, SIZES[size], segmentation_classes, detection_classes)
    own = Backbone(widths, SIZES[size].depths)
    return Student(own, widths[1:], SIZES[size], segmentation_classes, detection_classes)
