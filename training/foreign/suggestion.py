"""Writes a draft of a description from what an ONNX file declares. What a file cannot say is marked as a guess."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ros_kd_perception.model.onnx_file import ModelFileError
from training.errors import RecipeError
from training.foreign.description import InputDescription
from training.foreign.foreign_file import ForeignFile, TensorInfo
from training.foreign.network import Network
from training.label_sets.loading import shipped_names

GUESSED_SIDE = 512

# Where the number of classes is that of a well-known data set.
_KNOWN_CLASSES = {
    11: "camvid11",
    19: "cityscapes19",
    21: "the 21 of Pascal VOC",
    80: "coco",
    91: "the 91 numbers of COCO",
    150: "the 150 of ADE20K",
}
_CLASS_COUNT_MAX = 1000
_BOX_NAMES = ("box", "bbox")
_NOTE_ON_VALUES = """\
  # The file does not say how pixel values are normalised: (x / divide - mean) / std. Common are
  # divide: 255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] for networks trained on ImageNet in PyTorch,
  # divide: 127.5, mean: [1, 1, 1] for Keras' MobileNetV2 and InceptionV3, divide: 255 for YOLOv5 and YOLOv8,
  # and no key at all for networks that take 0..255, such as YOLOX."""


def suggest_description(file: ForeignFile) -> str:
    """Return a draft in YAML, to be checked and completed by an engineer.

    The network is run once, for the shapes of outputs that the file leaves open. If it does not run, they stay open.
    """
    draft = [f"# A draft for {file.path.name}: check every line that says guess.", *_input(file), *_outputs(file)]
    return "\n".join([*draft, ""])


def _input(file: ForeignFile) -> Iterator[str]:
    for source in file.inputs.values():
        yield f"# input {source}"
    if len(file.inputs) != 1:
        yield f"# Networks with {len(file.inputs)} inputs cannot be adopted; export it with one."
        return
    (source,) = file.inputs.values()
    nhwc, shape = _is_nhwc(source), source.shape or ()
    yield "input:"
    yield f"  layout: {'nhwc' if nhwc else 'nchw'}"
    yield "  channels: rgb  # guess: bgr for networks trained with OpenCV, such as YOLOX"
    for key, axis in (("height", 1 if nhwc else 2), ("width", 2 if nhwc else 3)):
        if len(shape) != 4 or shape[axis] is None:
            yield f"  {key}: {GUESSED_SIDE}  # guess: the file leaves it open"
    yield "  resize: letterbox  # guess: stretch for networks that were trained on stretched frames"
    if source.dtype != np.uint8:
        yield _NOTE_ON_VALUES
        yield "  divide: 255  # guess"


def _is_nhwc(source: TensorInfo) -> bool:
    return source.shape is not None and len(source.shape) == 4 and source.shape[3] == 3


def _outputs(file: ForeignFile) -> Iterator[str]:
    outputs = _known_outputs(file)
    for output in outputs:
        yield f"# output {output}"
    masks = [output for output in outputs if _is_mask(output, len(outputs))]
    if masks:
        yield from _segmentation(masks[0], _final_operator(file, masks[0].name), alone=len(outputs) == 1)
    boxes = [output for output in outputs if output not in masks]
    if boxes:
        yield from _detection(boxes)


def _known_outputs(file: ForeignFile) -> list[TensorInfo]:
    """Return the outputs with the shapes of a run; as declared if the network does not run on a guess."""
    if len(file.inputs) != 1:
        return list(file.outputs.values())
    (source,) = file.inputs.values()
    nhwc, shape = _is_nhwc(source), source.shape or (None,) * 4
    rows, columns = (1, 2) if nhwc else (2, 3)
    known = len(shape) == 4
    guess = InputDescription(
        layout="nhwc" if nhwc else "nchw",
        height=shape[rows] if known and shape[rows] else GUESSED_SIDE,
        width=shape[columns] if known and shape[columns] else GUESSED_SIDE,
    )
    try:
        network = Network.of(file, guess, 1)
    except (ModelFileError, RecipeError):
        return list(file.outputs.values())
    return [TensorInfo(output.name, output.dtype, output.shape) for output in network.outputs.values()]


def _final_operator(file: ForeignFile, name: str) -> str:
    """Return the operator that an output comes from."""
    return next((node.op_type for node in file.model.graph.node if name in node.output), "")


def _is_mask(output: TensorInfo, outputs: int) -> bool:
    """Return whether an output has rows and columns: a map of scores, or of integers that are not lists of boxes."""
    if output.shape is None:
        return outputs == 1
    if len(output.shape) == 4:
        return output.shape[2] != 1 or output.shape[3] != 4  # boxes may have the shape [1, A, 1, 4]
    return len(output.shape) == 3 and output.dtype is not None and output.dtype.kind in "iu"


def _segmentation(output: TensorInfo, operator: str, *, alone: bool) -> Iterator[str]:
    shape = output.shape or ()
    yield "segmentation:"
    if not alone:
        yield f"  output: {_quoted(output.name)}"
    if len(shape) == 3 or (output.dtype is not None and output.dtype.kind in "iu"):
        yield "  meaning: class_ids  # guess"
        yield _classes(None)
        return
    known = [size for size in shape[1:] if size is not None]
    count = min(known) if known else None
    nhwc = len(shape) == 4 and count is not None and shape[3] == count
    yield f"  layout: {'nhwc' if nhwc else 'nchw'}"
    ends_in_shares = operator in ("Softmax", "Sigmoid")
    yield f"  meaning: {'probabilities' if ends_in_shares else 'logits'}  # guess, by the last operator, {operator}"
    yield "  # enlarge_to_stride: 1 enlarges the values bilinearly before the best class is chosen, as SegFormer does"
    yield _classes(count)


def _detection(outputs: list[TensorInfo]) -> Iterator[str]:
    yield "detection:"
    if len(outputs) == 1:
        yield from _one_output(outputs[0])
        return
    names = {output.name.lower(): output for output in outputs}
    boxes = next((one for name, one in names.items() if any(word in name for word in _BOX_NAMES)), outputs[0])
    logits = next((one for name, one in names.items() if "logit" in name), None)
    scores = next((one for name, one in names.items() if "score" in name), outputs[-1])
    if logits is not None:
        yield "  kind: detr"
        yield f"  logits: {_quoted(logits.name)}"
        yield f"  boxes: {_quoted(boxes.name)}"
        yield "  scores: sigmoid  # guess: softmax for DETR and YOLOS, whose last class is no object"
        yield _classes((logits.shape or (None,))[-1])
        return
    labels = next((one for name, one in names.items() if "label" in name or "class" in name), None)
    count = next((one for name, one in names.items() if "num" in name), None)
    yield f"  kind: {'boxes_scores' if labels is None else 'nms_done'}"
    for key, one in (("boxes", boxes), ("scores", scores), ("labels", labels), ("count", count)):
        if one is not None:
            yield f"  {key}: {_quoted(one.name)}"
    yield "  corners: xyxy  # guess: yxyx for TensorFlow"
    yield "  unit: pixels  # guess: relative for TensorFlow"
    yield _classes((scores.shape or (None,))[-1] if labels is None else None)


def _one_output(output: TensorInfo) -> Iterator[str]:
    shape = [size for size in (output.shape or ()) if size is not None]
    values = min(shape[-2:]) if len(shape) > 1 else None
    if values in (6, 7) and shape[-1] == values:
        yield "  kind: nms_done"
        if values == 7:
            yield "  columns: [frame, x1, y1, x2, y2, label, score]  # guess: YOLOv7"
        yield _classes(None)
    elif values is not None and len(output.shape or ()) == 3 and output.shape and output.shape[1] == values:
        yield "  kind: yolov8  # guess: [1, 4 + classes, A]"
        yield _classes(values - 4)
    else:
        yield "  kind: yolox  # guess: [1, A, 5 + classes]; yolov5 if the file decodes the boxes itself"
        yield _classes(values - 5 if values else None)


def _classes(count: int | None) -> str:
    if count is None or not 0 < count <= _CLASS_COUNT_MAX:
        return "  classes: []  # name them in the order of the network, or name a label set"
    known = _KNOWN_CLASSES.get(count)
    if known in shipped_names():
        return f"  classes: {known}  # guess, by the number of classes: {count}"
    names = ", ".join(f"class_{number}" for number in range(count))
    origin = f"; guess, by their number: {known}" if known else ""
    return f"  classes: [{names}]  # {count}{origin}: put the names in, or name a label set"


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
