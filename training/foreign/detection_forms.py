"""The forms in which detectors return boxes. Each form is one `kind` of the section `detection` of a description."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.config.settings import Settings
from training.errors import RecipeError

Share = Annotated[float, Field(ge=0, le=1)]
OutputName = Annotated[str, Field(max_length=500)]
ClassNames = Annotated[tuple[str | None, ...], Field(min_length=1, max_length=1000)]
Corners = Literal["xyxy", "cxcywh", "xywh", "yxyx"]
ROW_LENGTHS = {"x1", "y1", "x2", "y2", "score", "label"}

NMS_ROWS_MAX = 1000
SET_ROWS_MAX = 300


class DetectionForm(Settings):
    """What every form has."""

    classes: str | ClassNames
    """Name of a label set, path of its file, or a list of names in the order of the network's classes. Null in the list
    stands for a number that the network never uses."""
    ignored: tuple[str, ...] = ()
    """Classes whose boxes are dropped."""
    score_threshold: Share = 0.3
    """Boxes with a lower score are dropped by default."""
    max_detections: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Boxes of a frame before duplicates are removed. Null: 1000 with `nms_iou`, 300 without; never more than there
    are."""
    nms_iou: Share | None = None
    """Of two boxes of one class that overlap by more than this IoU, the one with the lower score is dropped. Null for
    networks that report each object once."""

    @property
    def rows_max(self) -> int:
        """Rows of boxes that a frame may have at most."""
        return self.max_detections or (SET_ROWS_MAX if self.nms_iou is None else NMS_ROWS_MAX)


class DenseForm(DetectionForm):
    """One output with a row for each anchor or cell, [1, A, values] or [1, values, A]."""

    output: OutputName = ""
    """Name of the output; empty if the file has only one."""
    nms_iou: Share | None = 0.45
    """Of two boxes of one class that overlap by more than this IoU, the one with the lower score is dropped. Null keeps
    both."""
    classes_per_box: Literal["best", "all"] = "best"
    """Whether a box is reported for its best class only, or for every class with a high score."""


class YoloxForm(DenseForm):
    """YOLOX as its own export writes it: rows of x, y, w, h before grid and stride, objectness, classes.

    x = (x + column) * stride, y = (y + row) * stride, w = exp(w) * stride, h = exp(h) * stride; score = objectness *
    class. Objectness and classes are probabilities. Published: github.com/Megvii-BaseDetection/YOLOX.
    """

    kind: Literal["yolox"]
    strides: Annotated[tuple[Annotated[int, Field(ge=1, le=256)], ...], Field(min_length=1, max_length=8)] = (8, 16, 32)
    """Pixels between the cells of each level, in the order of the rows."""


class YoloV5Form(DenseForm):
    """YOLOv5, YOLOv7, and YOLOX with decoded boxes: centre x, centre y, w, h in input pixels, objectness, classes."""

    kind: Literal["yolov5"]


class YoloV8Form(DenseForm):
    """YOLOv8, YOLOv9, YOLO11: centre x, centre y, w, h in input pixels, then classes, without objectness."""

    kind: Literal["yolov8"]


class DetrForm(DetectionForm):
    """DETR, Deformable DETR, RT-DETR, D-FINE, YOLOS: logits [1, Q, classes] and boxes [1, Q, 4], relative cxcywh."""

    kind: Literal["detr"]
    logits: OutputName = "logits"
    """Name of the output with the class logits."""
    boxes: OutputName = "pred_boxes"
    """Name of the output with the boxes: centre x, centre y, w, h as shares of the network input."""
    scores: Literal["sigmoid", "softmax"] = "sigmoid"
    """`sigmoid`: RT-DETR, D-FINE, Deformable DETR. `softmax`: DETR and YOLOS, with "no object" as the last class, which
    `classes` leaves out."""
    classes_per_box: Literal["best", "all"] | None = None
    """Whether a box is reported for its best class only, or for every class with a high score. Null: all with sigmoid,
    best with softmax, as these networks are used by their authors."""


class BoxesScoresForm(DetectionForm):
    """SSD, RetinaNet, EfficientDet, YOLOv4 and others: boxes [1, A, 4] and class scores [1, A, classes] apart."""

    kind: Literal["boxes_scores"]
    boxes: OutputName = "boxes"
    """Name of the output with the boxes, [1, A, 4] or [1, A, 1, 4]."""
    scores: OutputName = "scores"
    """Name of the output with the scores, [1, A, classes]."""
    corners: Corners = "xyxy"
    """Meaning of the four values: two corners, centre and size, first corner and size, or corners with y first."""
    unit: Literal["pixels", "relative"] = "pixels"
    """`pixels` of the network input, or shares of its width and height."""
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    """What makes probabilities of the scores; `none` if they are probabilities."""
    background: Literal["none", "first", "last"] = "none"
    """Whether the scores have a column for "no object", which `classes` leaves out."""
    classes_per_box: Literal["best", "all"] = "all"
    """Whether a box is reported for its best class only, or for every class with a high score."""
    nms_iou: Share | None = 0.5
    """Of two boxes of one class that overlap by more than this IoU, the one with the lower score is dropped. Null keeps
    both."""


class NmsDoneForm(DetectionForm):
    """Detectors that remove duplicates themselves: one output with rows, or boxes, scores and labels apart.

    Rows: YOLOv10, YOLO26, exports with NMS inside. Apart: TensorFlow's detection_boxes, detection_scores,
    detection_classes and num_detections, torchvision, and exports for TensorRT.
    """

    kind: Literal["nms_done"]
    rows: OutputName = ""
    """Name of the output with a row for each box, [n, values] or [1, n, values]; empty if boxes, scores and labels are
    apart, or if it is the only output."""
    columns: tuple[str, ...] = ("x1", "y1", "x2", "y2", "score", "label")
    """Meaning of the values of a row. Other names than x1, y1, x2, y2, score and label stand for values to skip."""
    boxes: OutputName = ""
    """Name of the output with the boxes, [n, 4] or [1, n, 4]."""
    scores: OutputName = ""
    """Name of the output with the scores, [n] or [1, n]."""
    labels: OutputName = ""
    """Name of the output with the numbers of the classes, [n] or [1, n]."""
    count: OutputName = ""
    """Name of the output with the number of boxes that count; empty if all do."""
    corners: Corners = "xyxy"
    """Meaning of the four values of `boxes`: two corners, centre and size, first corner and size, or corners with y
    first."""
    unit: Literal["pixels", "relative"] = "pixels"
    """`pixels` of the network input, or shares of its width and height."""
    numbering: Literal["from_0", "from_1", "ids"] = "from_0"
    """What the network calls its classes: their places in `classes`, from 0 (YOLOv10) or from 1 (where 0 is the
    background), or the ids of the label set (TensorFlow and torchvision with the set `coco`)."""

    @model_validator(mode="after")
    def _check(self) -> NmsDoneForm:
        apart = [bool(name) for name in (self.boxes, self.scores, self.labels)]
        if any(apart) and not all(apart):
            raise RecipeError("detection: nms_done needs the names of boxes, scores and labels, or only that of rows")
        if self.rows and any(apart):
            raise RecipeError("detection: nms_done has either rows, or boxes, scores and labels; leave the others out")
        missing = sorted(ROW_LENGTHS - set(self.columns))
        if missing or len(set(self.columns)) != len(self.columns):
            raise RecipeError(
                f"detection.columns must name x1, y1, x2, y2, score and label once each, got {list(self.columns)}"
            )
        return self

    @property
    def in_rows(self) -> bool:
        """Whether one output holds boxes, scores and labels."""
        return not self.boxes


Detection = Annotated[
    YoloxForm | YoloV5Form | YoloV8Form | DetrForm | BoxesScoresForm | NmsDoneForm, Field(discriminator="kind")
]
