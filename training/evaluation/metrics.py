"""Metrics: COCO's average precision and duplicate boxes for detection, intersection over union for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from ros_kd_perception.model.boxes import iou_xyxy
from ros_kd_perception.structures import Detections
from training.data.sample import Sample
from training.evaluation.box_matching import labeled_truth, of_labeled_classes

DUPLICATE_IOU = 0.7


class DetectionMetrics:
    """Collects detections and true boxes of frames; `results` scores them."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []
        self._pairs = self._overlapping_pairs = self._outputs = self._repeated_outputs = 0

    def update(self, found: Detections, sample: Sample, score_threshold: float) -> None:
        """Add one frame.

        Detections in its ignored regions count as neither right nor wrong, as in COCO's crowds. A class that its
        source does not label is not scored on it.

        Args:
            found: Detections with scores down to nearly 0, because average precision needs them.
            sample: Frame with the true boxes.
            score_threshold: Duplicates are counted among detections with at least this score.
        """
        found, sample = of_labeled_classes(found, sample), labeled_truth(sample)
        image_id = len(self._images) + 1
        self._images.append({"id": image_id})
        for box, label in zip(sample.boxes_xyxy.tolist(), sample.labels.tolist(), strict=True):
            self._add_truth(image_id, box, label, crowd=0)
        if sample.ignored_xyxy is not None and sample.ignored_labels is not None:
            for box, label in zip(sample.ignored_xyxy.tolist(), sample.ignored_labels.tolist(), strict=True):
                for each in range(len(self.class_names)) if label < 0 else (label,):
                    self._add_truth(image_id, box, each, crowd=1)
        for box, label, score in zip(
            found.boxes_xyxy.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
        ):
            self._found.append(_annotation(image_id, box, label) | {"id": len(self._found) + 1, "score": score})
        self._count_duplicates(found, score_threshold)

    def _add_truth(self, image_id: int, box_xyxy: list[float], label: int, crowd: int) -> None:
        entry = _annotation(image_id, box_xyxy, label)
        self._truth.append(entry | {"id": len(self._truth) + 1, "iscrowd": crowd})

    def _count_duplicates(self, found: Detections, score_threshold: float) -> None:
        kept = found.scores >= score_threshold
        boxes, labels = found.boxes_xyxy[kept], found.labels[kept]
        overlaps = iou_xyxy(boxes, boxes) > DUPLICATE_IOU
        same_class = np.triu(labels[:, None] == labels[None, :], k=1)
        repeated = overlaps & same_class
        self._pairs += int(same_class.sum())
        self._overlapping_pairs += int(repeated.sum())
        self._outputs += len(labels)
        self._repeated_outputs += int(repeated.any(axis=0).sum())

    def results(self) -> dict[str, Any]:
        """Return AP (mean over IoU 0.5..0.95), AP50, counts and duplicates.

        Returns:
            `per_class`: name -> {`ap`, `ap50`, `boxes`}, None for a class without true boxes; `ap`, `ap50`: means over
            the
            classes that have boxes; `detections`: number of outputs above the score threshold; `duplicate_pair_share`:
            share of
            the pairs of same-class detections in a frame that have an IoU over 0.7; `duplicate_detection_share`: share
            of the
            detections that repeat a better one of their class. A mean or share over nothing is None.
        """
        precision = self._precision()
        per_class: dict[str, dict[str, float | int | None]] = {}
        for label, name in enumerate(self.class_names):
            boxes = sum(entry["category_id"] == label and not entry["iscrowd"] for entry in self._truth)
            ap = float(precision[:, :, label].mean()) if boxes else None
            ap50 = float(precision[0, :, label].mean()) if boxes else None
            per_class[name] = {"ap": ap, "ap50": ap50, "boxes": boxes}
        scored = [entry for entry in per_class.values() if entry["boxes"]]
        return {
            "per_class": per_class,
            "ap": float(np.mean([entry["ap"] for entry in scored])) if scored else None,
            "ap50": float(np.mean([entry["ap50"] for entry in scored])) if scored else None,
            "detections": self._outputs,
            "duplicate_pair_share": self._overlapping_pairs / self._pairs if self._pairs else None,
            "duplicate_detection_share": self._repeated_outputs / self._outputs if self._outputs else None,
        }

    def _precision(self) -> NDArray[np.float64]:
        """Return COCO's precision `[IoU threshold, recall level, class]`: 100 detections a frame, any size."""
        if not self._truth or not self._found:
            return np.zeros((10, 101, len(self.class_names)))
        categories = [{"id": label, "name": name} for label, name in enumerate(self.class_names)]
        truth = COCO({"images": self._images, "annotations": self._truth, "categories": categories})
        evaluation = COCOeval_faster(truth, truth.loadRes(self._found), "bbox", print_function=_silent)
        evaluation.params.maxDets = [1, 10, 100]
        evaluation.evaluate()
        evaluation.accumulate()
        # [threshold, recall, class, area, limit]; -1 marks classes without boxes, which `results` leaves out.
        return np.asarray(evaluation.eval["precision"], np.float64)[:, :, :, 0, -1]


def _annotation(image_id: int, box_xyxy: list[float], label: int) -> dict[str, Any]:
    x0, y0, x1, y1 = box_xyxy
    width, height = x1 - x0, y1 - y0
    return {"image_id": image_id, "category_id": label, "bbox": [x0, y0, width, height], "area": width * height}


def _silent(*words: object) -> None:
    del words


class SegmentationMetrics:
    """Counts pixels by true and predicted class. Pixels whose true value is not a class do not count.

    A prediction outside the classes counts as a miss.

    Attributes:
        classes: Number of classes.
        confusion: int64 (classes, classes + 1), pixels by true and predicted class; the last column is outside the
            classes.
        labeled: bool (classes,), whether a frame so far has labels of the class.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.confusion = np.zeros((classes, classes + 1), np.int64)
        self.labeled = np.zeros(classes, np.bool_)

    def update(
        self, predicted: NDArray[np.uint8], truth: NDArray[np.uint8], labeled: NDArray[np.bool_] | None = None
    ) -> None:
        """Add one frame.

        Args:
            predicted: Class ids, uint8 (h, w).
            truth: Class ids, uint8 (h, w).
            labeled: bool (classes,), False for a class that the source of the frame does not label. It is not scored on
                the frame; a labelled pixel that is predicted as it counts as a miss of its own class. None = all are
                labelled.
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"a class map of {predicted.shape} cannot be scored against a mask of {truth.shape}")
        valid = truth < self.classes
        self.labeled |= True if labeled is None else labeled
        columns = self.classes + 1
        guess = np.minimum(predicted[valid], self.classes).astype(np.int64)
        if labeled is not None and not labeled.all():
            guess = np.where(np.append(labeled, True)[guess], guess, self.classes)
        pairs = truth[valid].astype(np.int64) * columns + guess
        self.confusion += np.bincount(pairs, minlength=self.classes * columns).reshape(self.classes, columns)

    def iou(self) -> NDArray[np.float64]:
        """Return the intersection over union of each class, 0..1; NaN for a class without pixels.

        A class has no pixels if it neither occurs nor is predicted, or if no frame has labels of it.
        """
        hits = np.diag(self.confusion).astype(np.float64)
        union = self.confusion.sum(axis=1) + self.confusion[:, : self.classes].sum(axis=0) - hits
        scored = (union > 0) & self.labeled
        iou: NDArray[np.float64] = np.divide(hits, union, out=np.full(self.classes, np.nan), where=scored)
        return iou

    def mean_iou(self) -> float | None:
        """Return the mean over the classes that occur; None if no pixel was counted."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else None

    def pixel_accuracy(self) -> float | None:
        """Return the share of labelled pixels with the right class; None if no pixel was counted."""
        total = self.confusion.sum()
        return float(np.diag(self.confusion).sum() / total) if total else None
