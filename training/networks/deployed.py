"""The student as it is exported, with the inputs and outputs of the model contract."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.duplicates import first_of_each_object
from training.networks.heads import DetectionOutputs, decode_clipped_boxes
from training.networks.strides import SEGMENTATION_STRIDE
from training.networks.student import Student
from training.networks.views import cells_of_views, run_views

UNCERTAINTY_BLOCK_PX = 32
DROPPED_LOGIT = -1e4  # its score is 0 exactly, in half precision, too
PIXEL_VALUES = 255.0  # the largest value of a pixel; the network is trained on images of 0..1
# The outputs of the model contract in the order of a file, with the task that each belongs to.
OUTPUT_TASKS = {
    "class_map": "segmentation",
    "boxes": "detection",
    "scores": "detection",
    "labels": "detection",
    "uncertainty": "segmentation",
}


class DeployedStudent(nn.Module):
    """A fused student that takes uint8 images and returns the outputs of the model contract.

    Outputs of a task that the student does not have are left out.

    Cells are ranked by their best class, so that no object appears twice with two classes. Only the boxes of the best
    cells are decoded. Scales of scores apply to the best class alone, so that no class takes cells of another.
    """

    def __init__(
        self,
        student: Student,
        height: int,
        width: int,
        max_detections: int,
        score_scales: Sequence[tuple[float, float]] = (),
        half_view: bool = False,
        overlap_max: float | None = None,
    ) -> None:
        """Fuse a copy of a student.

        Args:
            student: Trained network; it is not changed.
            height: Height of the input in pixels.
            width: Width of the input in pixels.
            max_detections: Number of detections in the output.
            score_scales: Scale and shift of the logit of each class's scores; empty = none.
            half_view: Whether it looks for boxes at half the size, too; see `run_views`.
            overlap_max: IoU above which a box is dropped for a better one of its class, 0..1; None = none is.

        Raises:
            ValueError: The input has fewer cells than `max_detections`.
        """
        super().__init__()
        self.student = student.fused()
        self.max_detections = max_detections
        self.half_view = half_view
        self.overlap_max = overlap_max
        cells = cells_of_views(height, width, half_view)
        if student.detection is not None and len(cells) < max_detections:
            raise ValueError(
                f"an input of {height}x{width} has {len(cells)} cells, fewer than the {max_detections} detections "
                "asked for; lower the number of detections"
            )
        # Constants of the graph, so that they are not computed again for each frame.
        self.register_buffer("cells", cells)
        self.cells: Tensor
        self.register_buffer("limit", torch.tensor([width, height], dtype=torch.float32))
        self.limit: Tensor
        scales = torch.tensor(score_scales, dtype=torch.float32)
        self.register_buffer("score_scales", scales if len(scales) and student.detection is not None else None)
        self.score_scales: Tensor | None
        self.student.backbone.prepare_export(PIXEL_VALUES)
        self.eval()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs in the model contract, in the order in which `forward` returns them."""
        return tuple(name for name, task in OUTPUT_TASKS.items() if task in self.student.tasks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the network.

        Args:
            images: Images, uint8 [N, H, W, 3], BGR.

        Returns:
            Those of `output_names`: class_map uint8 [N, H / 4, W / 4]; boxes float32 [N, K, 4], xyxy, clipped to the
            input; scores float32 [N, K], descending, 0 for a dropped box; labels int32 [N, K]; uncertainty float32
            [N, H / 32, W / 32].
        """
        outputs = run_views(self.student, images.permute(0, 3, 1, 2).float(), self.half_view)
        found: dict[str, Tensor] = {}
        if outputs.segmentation_logits is not None:
            found["class_map"] = outputs.segmentation_logits.argmax(dim=1).to(torch.uint8)
            found["uncertainty"] = block_uncertainty(outputs.segmentation_logits)
        if outputs.detection is not None:
            found |= self._best_cells(outputs.detection)
        return tuple(found[name] for name in self.output_names)

    def _best_cells(self, outputs: DetectionOutputs) -> dict[str, Tensor]:
        best_logits, best_labels = outputs.flat_peak_logits().max(dim=2)
        if self.score_scales is not None:
            scales = functional.embedding(best_labels, self.score_scales)
            best_logits = best_logits * scales[..., 0] + scales[..., 1]
        # Some of the rows may be dropped, so others must be there to take their place.
        rows = self.max_detections if self.overlap_max is None else min(2 * self.max_detections, len(self.cells))
        top_logits, top_cells = best_logits.topk(rows, dim=1)
        labels = best_labels.gather(1, top_cells)
        distance_logits = outputs.flat_distance_logits().gather(1, top_cells.unsqueeze(-1).expand(-1, -1, 4))
        # An embedding is exported as a plain Gather; indexing would become a GatherND.
        boxes = decode_clipped_boxes(distance_logits, functional.embedding(top_cells, self.cells), self.limit)
        if self.overlap_max is not None:
            kept = first_of_each_object(boxes, labels, self.overlap_max)
            top_logits, order = torch.where(kept > 0.5, top_logits, DROPPED_LOGIT).topk(self.max_detections, dim=1)
            labels = labels.gather(1, order)
            boxes = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
        return {"boxes": boxes, "scores": top_logits.sigmoid(), "labels": labels.to(torch.int32)}


def block_uncertainty(segmentation_logits: Tensor) -> Tensor:
    """Return the normalised entropy of the mean logits of blocks of 32x32 pixels, 0..1, [N, H / 32, W / 32].

    Args:
        segmentation_logits: Class logits, float [N, C, H / 4, W / 4].
    """
    logits = functional.avg_pool2d(segmentation_logits, UNCERTAINTY_BLOCK_PX // SEGMENTATION_STRIDE)
    # log_softmax stays finite for logits that are far apart; softmax().log() does not.
    log_probability = functional.log_softmax(logits, dim=1)
    entropy = -(log_probability.exp() * log_probability).sum(dim=1)
    # A single class is certain: its entropy is 0, and so is the logarithm of 1.
    return (entropy / math.log(max(segmentation_logits.shape[1], 2))).clamp(0.0, 1.0)
