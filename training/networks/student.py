"""The network of students and teachers, as it is trained. `Student.fused` makes the form that is exported."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from training.networks.backbone import Backbone, FeatureBackbone
from training.networks.blocks import fuse_blocks
from training.networks.heads import DetectionBranch, DetectionOutputs, PixelClassifier, SegmentationHead
from training.networks.neck import FeaturePyramid
from training.networks.strides import DETECTION_STRIDES


@dataclass(frozen=True)
class StudentSize:
    """Channels and blocks of one size."""

    widths: tuple[int, int, int, int, int]
    depths: tuple[int, int, int, int, int]
    pyramid_channels: int
    segmentation_channels: int


SIZES = {
    "n": StudentSize((16, 32, 64, 128, 192), (1, 1, 2, 4, 1), 48, 32),
    "s": StudentSize((24, 48, 96, 160, 256), (1, 2, 3, 5, 1), 64, 32),
    "m": StudentSize((32, 64, 128, 224, 384), (1, 2, 4, 8, 1), 96, 48),
    "l": StudentSize((48, 96, 192, 320, 512), (1, 2, 4, 8, 2), 128, 64),  # a teacher without pretrained weights
}


@dataclass(frozen=True)
class StudentFeatures:
    """Features between neck and heads, float [N, C, H / stride, W / stride]; distillation losses compare them.

    Attributes:
        p3, p4, p5: Levels of the pyramid, of strides 8, 16 and 32; features of the backbone where there is no neck.
        segmentation: Features of the segmentation head, of stride 4; None for a student that does not segment.
    """

    p3: Tensor
    p4: Tensor
    p5: Tensor
    segmentation: Tensor | None


@dataclass(frozen=True)
class StudentOutputs:
    """Outputs of the network for a batch.

    Attributes:
        segmentation_logits: Class logits, float [N, segmentation classes, H / 4, W / 4]; None for a student that does
            not segment.
        detection: Outputs of the one-to-one branch, which is exported; None for a student that does not detect.
        detection_one_to_many: Outputs of a second branch with more positive cells; None outside training.
        features: Features that the heads got.
    """

    segmentation_logits: Tensor | None
    detection: DetectionOutputs | None
    detection_one_to_many: DetectionOutputs | None
    features: StudentFeatures

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the network, see `Student.tasks`."""
        return _present(segmentation=self.segmentation_logits, detection=self.detection)


class Student(nn.Module):
    """Segments and detects objects in driving scenes. A teacher is the same network in a larger size.

    The backbone is our own, of plain convolutions, or one that a recipe selects. Neck and heads are always ours. A
    student without segmentation classes, or without detection classes, does not have the parts of that task. Of a
    backbone that decodes, segmentation is a classifier only; without detection, it has no neck.

    Two detection branches use the same features. In the one-to-many branch, ten cells detect each object; its gradient
    trains the features. In the one-to-one branch, one cell detects each object, so that its best K cells need no
    non-maximum suppression (Wang et al., YOLOv10, 2024). Only this branch runs outside training.

    Attributes:
        pruned: Whether layers have fewer channels than size and backbone say; see `training.networks.channels`.
    """

    pruned: bool = False

    def __init__(
        self,
        backbone: FeatureBackbone,
        size: StudentSize,
        segmentation_classes: int,
        detection_classes: int,
    ) -> None:
        """Put neck and heads on a backbone.

        Args:
            backbone: Returns features of strides 4, 8, 16 and 32.
            size: Channels of neck and heads.
            segmentation_classes: Number of segmentation classes; 0 for a student that does not segment.
            detection_classes: Number of detection classes; 0 for a student that does not detect.

        Raises:
            ValueError: There are no classes at all.
        """
        super().__init__()
        if not segmentation_classes and not detection_classes:
            raise ValueError("a student needs segmentation classes or detection classes, got none; give it a task")
        channels = size.pyramid_channels
        fine, *coarse = backbone.widths
        self.backbone = backbone
        # Our segmentation head reads the finest level only, a classifier of pixels none.
        levels = len(DETECTION_STRIDES) if detection_classes else int(not backbone.decodes)
        self.neck = FeaturePyramid(coarse, channels, levels_read=levels) if levels else None
        self.segmentation: SegmentationHead | PixelClassifier | None = None
        self.detection: DetectionBranch | None = None
        self.detection_one_to_many: DetectionBranch | None = None
        if segmentation_classes and backbone.decodes:
            self.segmentation = PixelClassifier(fine, segmentation_classes)
        elif segmentation_classes:
            self.segmentation = SegmentationHead(fine, channels, size.segmentation_channels, segmentation_classes)
        else:
            self.backbone.exclude_finest()
        if detection_classes:
            self.detection = DetectionBranch(channels, detection_classes, DETECTION_STRIDES)
            self.detection_one_to_many = DetectionBranch(channels, detection_classes, DETECTION_STRIDES)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the student: `segmentation`, `detection` or both, in this order."""
        return _present(segmentation=self.segmentation, detection=self.detection)

    def forward(self, images: Tensor, with_one_to_many: bool | None = None) -> StudentOutputs:
        """Run the network.

        Args:
            images: Images, float [N, 3, H, W], channel order BGR, 0..1; H and W are multiples of 32.
            with_one_to_many: Whether to run the second branch, if there is one; None runs it only in training.

        Raises:
            ValueError: H or W is not a multiple of 32.
        """
        height, width = images.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(
                f"the student needs height and width in multiples of 32, got {height}x{width}; pad or crop"
            )
        fine, *coarse = self.backbone(images)
        pyramid = self.neck(coarse) if self.neck else coarse
        features, logits = self.segmentation(fine, pyramid[0]) if self.segmentation else (None, None)
        with_one_to_many = self.training if with_one_to_many is None else with_one_to_many
        one_to_one, one_to_many = self._detect(pyramid, with_one_to_many)
        return StudentOutputs(
            segmentation_logits=logits,
            detection=one_to_one,
            detection_one_to_many=one_to_many,
            features=StudentFeatures(pyramid[0], pyramid[1], pyramid[2], features),
        )

    def _detect(
        self, pyramid: list[Tensor], with_one_to_many: bool
    ) -> tuple[DetectionOutputs | None, DetectionOutputs | None]:
        """Return the outputs of the one-to-one and of the one-to-many branch."""
        if self.detection is None:
            return None, None
        one_to_many = None
        if with_one_to_many and self.detection_one_to_many is not None:
            one_to_many = self.detection_one_to_many(pyramid)
        if self.training:
            # The features are not trained by this branch, which must prefer one cell over its neighbour. With its
            # gradient, the mean IoU was 33 instead of 38 (size n, 300 steps on CamVid), and detection was no better.
            pyramid = [level.detach() for level in pyramid]
        return self.detection(pyramid), one_to_many

    def fused(self) -> Student:
        """Return a copy for inference, in eval mode, with every block as one convolution and no one-to-many branch."""
        student = copy.deepcopy(self).eval()
        student.detection_one_to_many = None
        fuse_blocks(student)
        return student


def _present(**parts: object | None) -> tuple[str, ...]:
    return tuple(task for task, part in parts.items() if part is not None)


def build_student(
    size: str, segmentation_classes: int, detection_classes: int, backbone: FeatureBackbone | None = None
) -> Student:
    """Build a network with random weights.

    Args:
        size: A key of `SIZES`.
        segmentation_classes: Number of segmentation classes; 0 for a student that does not segment.
        detection_classes: Number of detection classes; 0 for a student that does not detect.
        backbone: Backbone that a recipe selects; None builds our own.

    Raises:
        ValueError: The size is unknown, or there are no classes at all.
    """
    if size not in SIZES:
        raise ValueError(f"there is no student of size {size!r}; choose one of {', '.join(SIZES)}")
    if backbone is None:
        backbone = Backbone(SIZES[size].widths, SIZES[size].depths)
    return Student(backbone, SIZES[size], segmentation_classes, detection_classes)
