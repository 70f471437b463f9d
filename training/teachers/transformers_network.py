"""Runs a segmentation or detection model of the transformers library as a teacher.

The image processors of the library need torchvision, which is not installed. What they do is done here: scale, mean and
deviation come from preprocessor_config.json, or are those of ImageNet.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import RecipeError
from training.label_sets.label_set import BoxClass, LabelClass, LabelSet
from training.label_sets.loading import is_shipped, load_label_set, shipped_names
from training.networks.selectable_backbone import IMAGENET_DEVIATION_RGB, IMAGENET_MEAN_RGB
from training.teachers.memory import is_memory_error
from training.teachers.seen import Boxes, Seen, of_tasks

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from training.teachers.transformers_model import TransformersTeacher

COARSEST_STRIDE = 32
BOXES_MAX = 300  # of an image
SCORE_MIN = 0.01
PREPROCESSOR_FILE = "preprocessor_config.json"
MAX_PREPROCESSOR_BYTES = 1 << 20
PLACEHOLDER = "N/A"  # COCO's numbers have gaps, which the library names like this
# Automatic classes of the library and the tables of the architectures that they build. DETR, which is in the last two,
# is used as a detector.
_OUTPUTS = ("logits", "pred_boxes", "class_queries_logits", "masks_queries_logits")
_TASK_CLASSES = {
    "AutoModelForSemanticSegmentation": "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING",
    "AutoModelForObjectDetection": "MODEL_FOR_OBJECT_DETECTION_MAPPING",
    "AutoModelForUniversalSegmentation": "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING",
}


@dataclass(frozen=True)
class Preparation:
    """What happens to an image before the network: (x * factor - mean) / deviation of RGB, and the size.

    Attributes:
        factor: Of pixel values 0..255.
        mean: Three values, RGB.
        deviation: Three values, RGB.
        size: Height and width that every image is resized to; None takes images as they are.
    """

    factor: float = 1 / 255
    mean: tuple[float, ...] = IMAGENET_MEAN_RGB
    deviation: tuple[float, ...] = IMAGENET_DEVIATION_RGB
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, content: dict[str, Any]) -> Preparation:
        """Read the content of a preprocessor_config.json.

        Raises:
            ValueError, TypeError: A value is not valid.
        """
        rescales, normalizes = content.get("do_rescale", True), content.get("do_normalize", True)
        size = content.get("size")
        fixed = isinstance(size, dict) and {"height", "width"} <= size.keys() and content.get("do_resize", True)
        found = cls(
            float(content.get("rescale_factor", 1 / 255)) if rescales else 1.0,
            tuple(map(float, content.get("image_mean", IMAGENET_MEAN_RGB))) if normalizes else (0.0, 0.0, 0.0),
            tuple(map(float, content.get("image_std", IMAGENET_DEVIATION_RGB))) if normalizes else (1.0, 1.0, 1.0),
            (int(size["height"]), int(size["width"])) if isinstance(size, dict) and fixed else None,
        )
        numbers = (found.factor, *found.mean, *found.deviation)
        if len(numbers) != 7 or not all(map(math.isfinite, numbers)) or min(found.factor, *found.deviation) <= 0:
            raise ValueError(
                "rescale_factor, image_mean and image_std must be a positive number and three numbers each"
            )
        if found.size and not all(8 <= side <= 8192 for side in found.size):
            raise ValueError(f"size must be from 8 to 8192 pixels a side, got {found.size}")
        return found

    def of_images(self, images_bgr: Tensor) -> Tensor:
        """Return the input of the network for images uint8 [N, 3, H, W], float32 [N, 3, h, w]."""
        rgb = images_bgr.flip(1).float()
        if self.size is not None and tuple(rgb.shape[-2:]) != self.size:
            shrinks = self.size[0] < rgb.shape[-2] or self.size[1] < rgb.shape[-1]
            rgb = functional.interpolate(rgb, size=self.size, mode="bilinear", align_corners=False, antialias=shrinks)
        mean, deviation = (rgb.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.deviation))
        inputs = (rgb * self.factor - mean) / deviation
        if self.size is None:
            down, right = (-side % COARSEST_STRIDE for side in inputs.shape[-2:])
            inputs = functional.pad(inputs, (0, right, 0, down))
        return inputs


class TransformersNetwork:
    """A model of the transformers library that teaches.

    Attributes:
        label_set: Its classes.
        sha256: SHA-256 of its weights, its configuration, the preparation of images, and the numbers of its classes
            where a file of the user says them.
    """

    def __init__(
        self, model: PreTrainedModel, preparation: Preparation, label_set: LabelSet, *, own_numbers: bool = False
    ) -> None:
        self._model = model.train(False).requires_grad_(False)
        self.preparation = preparation
        self.label_set = label_set
        self.sha256 = _digest(model, preparation, label_set if own_numbers else None)

    @classmethod
    def load(cls, settings: TransformersTeacher) -> TransformersNetwork:
        """Load a model from a folder or from the hub.

        Raises:
            RecipeError: It is not available, not a model for segmentation or detection, or lacks weights.
        """
        config = _read_config(settings.model)
        preparation = _read_preparation(settings.model)
        if settings.height:
            preparation = Preparation(
                preparation.factor, preparation.mean, preparation.deviation, (settings.height, settings.width)
            )
        return cls(
            _read_model(settings.model, config),
            preparation,
            _label_set(settings, config),
            own_numbers=bool(settings.label_set) and not is_shipped(settings.label_set),
        )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Seen:
        """See `training.teachers.seen.Teacher`.

        Raises:
            RecipeError: The model's outputs contain NaN or infinity.
        """
        if self._model.device != images.device:
            self._model.to(images.device)
        inputs = self.preparation.of_images(images)
        outputs = self._model(pixel_values=inputs)
        self._check_finite(outputs)
        height, width = images.shape[-2:]
        # What part of the input is image and not padding.
        shares = (1.0, 1.0) if self.preparation.size else (height / inputs.shape[-2], width / inputs.shape[-1])
        if "pred_boxes" in outputs:
            return Seen(None, self._boxes(outputs.logits, outputs.pred_boxes, height, width, shares))
        if "masks_queries_logits" in outputs:
            probabilities = _of_queries(outputs.class_queries_logits, outputs.masks_queries_logits)
        else:
            probabilities = outputs.logits.float().softmax(dim=1)
        rows, columns = (
            max(1, math.ceil(side * share - 1e-6)) for side, share in zip(probabilities.shape[-2:], shares, strict=True)
        )
        return Seen(probabilities[:, :, :rows, :columns], None)

    def _check_finite(self, outputs: Mapping[str, Any]) -> None:
        """Refuse NaN, which compares as less than every score and would silently be background."""
        for name in _OUTPUTS:
            if name in outputs and not outputs[name].isfinite().all():
                raise RecipeError(
                    f"{self._model.name_or_path}: expected finite outputs of the teacher, got NaN or infinity in "
                    f"{name}; use other weights, or leave the teacher out"
                )

    def _boxes(
        self, logits: Tensor, centred: Tensor, height: int, width: int, shares: tuple[float, float]
    ) -> list[Boxes]:
        """Return the boxes of all queries, a box for each class that scores; duplicates of sets are rare."""
        known = [info.id for info in self.label_set.detection_classes]
        # DETR and YOLOS have one channel more, "no object", and a softmax; the others a sigmoid for each class.
        closed = logits.shape[2] == len(self._model.config.id2label) + 1
        scores = (logits.float().softmax(dim=2) if closed else logits.float().sigmoid())[:, :, known]
        x, y, w, h = centred.float().unbind(dim=2)
        sides = (
            (x - w / 2, width, shares[1]),
            (y - h / 2, height, shares[0]),
            (x + w / 2, width, shares[1]),
            (y + h / 2, height, shares[0]),
        )
        xyxy = torch.stack([(side * limit / share).clamp(0, limit) for side, limit, share in sides], dim=2)
        ids = torch.tensor(known, device=logits.device)
        found = []
        for frame_scores, frame_xyxy in zip(scores, xyxy, strict=True):
            top, places = frame_scores.flatten().topk(min(BOXES_MAX, frame_scores.numel()))
            places = places[top >= SCORE_MIN]
            query, channel = places // len(known), places % len(known)
            found.append(Boxes.of(frame_xyxy[query], ids[channel], frame_scores[query, channel]))
        return found


def _of_queries(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Return class probabilities [N, C, h, w] of queries with a class [N, Q, C + 1] and a mask [N, Q, h, w] each.

    A pixel's value for a class is the sum of class probability times mask probability over the queries, as in
    MaskFormer's semantic inference (Cheng et al., Per-Pixel Classification is Not All You Need, 2021); then the values
    are divided by their sum.
    """
    classes = class_logits.float().softmax(dim=2)[:, :, :-1]
    values = torch.einsum("nqc,nqhw->nchw", classes, mask_logits.float().sigmoid())
    return values / values.sum(dim=1, keepdim=True).clamp(min=1e-6)


def _read_config(name: str) -> PreTrainedConfig:
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the readers raise many types of errors for damaged files
        raise RecipeError(_unavailable(name, error)) from error
    return config


def _read_model(name: str, config: PreTrainedConfig) -> PreTrainedModel:
    import transformers
    from transformers.models.auto import modeling_auto

    tables = {cls: getattr(modeling_auto, table) for cls, table in _TASK_CLASSES.items()}
    chosen = next((cls for cls, table in tables.items() if type(config) in table), "")
    if not chosen:
        raise RecipeError(
            f"expected a model of transformers for semantic segmentation or object detection, {name} is a "
            f"{config.model_type}; name one such as segformer, mask2former, upernet, mobilenet_v2, rt_detr or d_fine"
        )
    try:
        model, loaded = getattr(transformers, chosen).from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # the readers raise many types of errors for damaged files
        if is_memory_error(error):
            raise
        raise RecipeError(_unavailable(name, error)) from error
    missing = sorted(loaded["missing_keys"]) + sorted(str(entry[0]) for entry in loaded["mismatched_keys"])
    if missing:
        raise RecipeError(
            f"{name} lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}, which would stay "
            "random; name a model that was trained for this task"
        )
    built: PreTrainedModel = model
    return built


def _read_preparation(name: str) -> Preparation:
    """Read how the model's own images were prepared; those of ImageNet without a file."""
    path = Path(name) / PREPROCESSOR_FILE
    if not Path(name).is_dir():
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(name, PREPROCESSOR_FILE))
        except Exception:  # the hub raises many types of errors; the model itself has been found before
            return Preparation()
    if not path.is_file():
        return Preparation()
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_PREPROCESSOR_BYTES))
        return Preparation.of(content)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"{path}: expected how images are prepared, as transformers writes it, got: {str(error)[:200]}; correct or "
            "remove it"
        ) from error


def _label_set(settings: TransformersTeacher, config: PreTrainedConfig) -> LabelSet:
    """Return the classes that the recipe names, or those of the configuration."""
    task = "detection" if _detects(config) else "segmentation"
    names = {int(number): str(name) for number, name in (config.id2label or {}).items()}
    if settings.label_set:
        found = load_label_set(settings.label_set)
        ids = sorted(info.id for info in found.by_task[task])
        strange = [number for number in ids if number not in names]
        if strange or (task == "segmentation" and len(ids) != len(names)):
            raise RecipeError(
                f"label_set {found.name}: expected the {len(names)} classes of {settings.model} for {task}, it has "
                f"{len(ids)}; name another set, or leave it out to take the names from its config.json"
            )
        return of_tasks(found, (task,))
    found_set = next((one for one in map(load_label_set, shipped_names()) if _same(one, task, names)), None)
    return of_tasks(found_set, (task,)) if found_set else _of_names(settings.model, task, names)


def _detects(config: PreTrainedConfig) -> bool:
    from transformers.models.auto import modeling_auto

    return type(config) in modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING


def _same(label_set: LabelSet, task: str, names: dict[int, str]) -> bool:
    return {info.id: info.name for info in label_set.by_task[task]} == names


def _of_names(model: str, task: str, names: dict[int, str]) -> LabelSet:
    kind = BoxClass if task == "detection" else LabelClass
    real = {number: name for number, name in names.items() if task == "segmentation" or name != PLACEHOLDER}
    repeated = {name for name in real.values() if list(real.values()).count(name) > 1}
    classes = tuple(
        kind(id=number, name=(f"{name} {number}" if name in repeated else name)[:100] or f"class {number}")
        for number, name in sorted(real.items())
    )
    return LabelSet.checked({"name": Path(model).name[:100] or "teacher", task: classes})


def _digest(model: nn.Module, preparation: Preparation, numbered: LabelSet | None = None) -> str:
    digest = hashlib.sha256(repr(preparation).encode())
    digest.update(str(getattr(model, "config", "")).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    if numbered is not None:
        named = [sorted((info.id, info.name) for info in classes) for classes in numbered.by_task.values()]
        digest.update(repr(named).encode())
    return digest.hexdigest()


def _unavailable(name: str, error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return (
        f"expected a model of transformers on the hub, or a local folder with config.json and model.safetensors, but "
        f"{name} is not available ({text}); correct the name, connect this machine to the hub, or download the "
        "model elsewhere and name its folder"
    )
