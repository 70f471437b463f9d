"""Training step, optimiser, validation and checkpoint notes, as hooks of Lightning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from training.checkpoint import (
    INFO_KEY,
    CheckpointInfo,
    git_commit,
    set_noted_channels,
)
from training.config.licence import Licences, merged
from training.config.sections import OptimizerRecipe
from training.data.batch import Batch
from training.data.sample import Sample
from training.errors import CheckpointError, RecipeError
from training.evaluation.scoring import SCORE_FLOOR, FrameScorer
from training.evaluation.torch_model import TorchModel
from training.export.settings import ExportSettings
from training.networks.channels import noted_channels
from training.networks.quantization_aware import calibrate, quantization_aware
from training.networks.student import Student
from training.recipe import AP50_ENDING, MEAN_AP50, MEAN_IOU, Recipe
from training.run.ema import AveragedWeights
from training.run.inputs import RunInputs
from training.run.network import build_recipe_student
from training.run.objective import build_objective
from training.starting_weights import StartingPoint, load_weights_into


class StudentTraining(lightning.LightningModule):
    """Trains a student by a recipe, from labels only or from labels and a teacher.

    Attributes:
        student: The network that the optimiser trains.
        averaged: Moving average of the student, which is validated and exported.
        objective: The loss. Its own parameters, if any, are trained with the student and never exported.
        recipe: Recipe of the run.
        label_set: Classes of the student.
        inputs: Digests of the files that the run learns from.
        last_metrics: Metrics of the last validation.
    """

    def __init__(
        self, recipe: Recipe, steps_per_epoch: int, data_fingerprint: str, resumed: CheckpointInfo | None = None
    ) -> None:
        """Build the network and the loss, and load the weights that the run starts from.

        Args:
            recipe: Recipe of the run.
            steps_per_epoch: Optimiser steps in an epoch.
            data_fingerprint: Digest of the training frames.
            resumed: Notes of the checkpoint that Lightning will load the weights from, so that no others are read; None
                for a new run.

        Raises:
            CheckpointError: The weights to start from do not fit the network, or `resumed` has another shape.
            RecipeError: The network or the loss cannot be built.
        """
        super().__init__()
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.label_set = recipe.student_classes()
        torch.manual_seed(recipe.seed)
        self.student = build_recipe_student(recipe, pretrained=not recipe.starts and resumed is None)
        self._start = StartingPoint()
        if resumed is not None:
            set_noted_channels(self.student, resumed, recipe.name)
        elif recipe.starts:
            self._start = load_weights_into(self.student, self.label_set, *recipe.starts)
        self._channels = noted_channels(self.student)  # layers that round have no blocks
        if recipe.quantization_aware is not None:
            self.student = quantization_aware(self.student, recipe.quantization_aware)
        if recipe.trained_part == "detection":
            if self.student.detection is None:
                raise RecipeError("trained_part detection: expected a student with detection classes, it has none")
            self.student.requires_grad_(False)
            self.student.detection.requires_grad_(True)
        self.averaged = AveragedWeights(self.student, recipe.optimizer.ema_decay)
        self.objective = build_objective(recipe, self.student, self.label_set, data_fingerprint)
        self.train()
        self._git_commit = git_commit()
        self.inputs = RunInputs(data_fingerprint, self.objective.teacher_sha256, self._start.sha256)
        self._scorers: list[FrameScorer] = []
        self._perceiver: Perceiver | None = None
        self.last_metrics: dict[str, float | None] = {}
        self._validated_epoch = -1

    def calibrate(self, batches: Iterable[Batch]) -> int:
        """Find the ranges of a quantisation-aware student, and give them to its average, too.

        Args:
            batches: Frames of the training.

        Returns:
            Number of ranges.

        Raises:
            RecipeError: An activation is NaN or infinite.
        """
        found = calibrate(self.student, (batch.images for batch in batches))
        self.averaged.network.load_state_dict(self.student.state_dict())
        return found

    def train(self, mode: bool = True) -> StudentTraining:
        """Set the mode, but keep parts that are not trained in eval mode, or their running statistics would change."""
        super().train(mode)
        if self.recipe.trained_part == "detection":
            for child in self.student.children():
                child.train(mode and child is self.student.detection)
        return self

    def on_train_start(self) -> None:
        """Set the learning rate of the next step: a resumed run may be longer now than when its rate was saved."""
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        for group, rate, share in zip(
            scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = rate * share(scheduler.last_epoch)

    def on_train_epoch_start(self) -> None:
        """Seed the network's random numbers by seed, epoch and process, like those of the data, to resume exactly."""
        key = (self.recipe.seed, self.current_epoch, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the sum of the weighted loss terms."""
        del batch_index
        outputs = self.student(batch.images.float() / 255)
        terms: dict[str, Tensor] = self.objective(outputs, batch, self.current_epoch)
        total = torch.stack(list(terms.values())).sum()
        self.log("loss", total, prog_bar=True, batch_size=len(batch))
        self.log_dict({f"loss/{name}": value for name, value in terms.items()}, batch_size=len(batch))
        return total

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Update the average after the step. In a hook after the batch it would count as waiting for data."""
        super().optimizer_step(*arguments, **options)
        self.averaged.update(self.student)

    def on_train_epoch_end(self) -> None:
        """Check the weights before a checkpoint replaces an earlier one that can be resumed.

        Raises:
            CheckpointError: A weight is NaN or infinite.
        """
        if not all_finite(self.averaged.network):
            raise CheckpointError(
                f"{self.recipe.name}: expected finite weights, got NaN or infinity in epoch {self.current_epoch + 1}; "
                "the last checkpoint is of the epoch before: start a new run from it (initial_weights) with a lower "
                "optimizer.learning_rate, or with precision 32-true"
            )

    def configure_optimizers(self) -> Any:
        """Return AdamW without decay of normalisation, scales and biases; its learning rate follows `rate_share`."""
        settings, backbone = self.recipe.optimizer, self.recipe.backbone
        groups = parameter_groups(
            nn.ModuleList([self.student, self.objective]),
            settings,
            self.student.backbone,
            backbone.learning_rate_share if backbone else 1.0,
        )
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        schedule = rate_share(settings, self.recipe.epochs * self.steps_per_epoch)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_validation_epoch_start(self) -> None:
        """Fuse the averaged student and run it with the Perceiver of the vehicle."""
        settings = self.recipe.validation
        export = ExportSettings(self.label_set, height=settings.input_height, width=settings.input_width)
        model = TorchModel(cast(Student, self.averaged.network), export)
        # Perceiver uses only `contract` and `run` of an OnnxModel; TorchModel has both.
        self._perceiver = Perceiver(cast(OnnxModel, model), score_threshold=SCORE_FLOOR)
        self._scorers = [FrameScorer(model.contract) for _ in ("segmentation", "detection")]

    def validation_step(self, sample: Sample, batch_index: int, dataloader_idx: int = 0) -> None:
        """Score one frame; data loader 0 is for segmentation, 1 for detection."""
        del batch_index
        assert self._perceiver is not None
        self._scorers[dataloader_idx].score(self._perceiver, sample)

    def on_validation_epoch_end(self) -> None:
        """Log `miou` and the AP50 of each class (0..1) for which the frames have labels."""
        self._perceiver = None
        if self.trainer.sanity_checking:
            return  # metrics of one or two frames and an untrained network
        segmentation, detection = (scorer.results() for scorer in self._scorers)
        metrics: dict[str, float | None] = {}
        if segmentation["frames"] and "miou" in segmentation:
            metrics[MEAN_IOU] = segmentation["miou"]
        if detection["frames"] and "detection" in detection:
            found = detection["detection"]
            metrics[MEAN_AP50] = found["ap50"]
            metrics |= {f"{name}{AP50_ENDING}": entry["ap50"] for name, entry in found["per_class"].items()}
            metrics["duplicate_pair_share"] = found["duplicate_pair_share"]
            if "miou" in detection:
                metrics["miou_detection_frames"] = detection["miou"]
        self.last_metrics, self._validated_epoch = metrics, self.current_epoch
        self.log_dict({name: value for name, value in metrics.items() if value is not None}, prog_bar=False)
        shown = ", ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in metrics.items())
        self.print(f"\nepoch {self.current_epoch + 1}: {shown}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add notes on the origin of the weights, as plain values."""
        rounding = self.recipe.quantization_aware
        info = CheckpointInfo(
            size=self.recipe.size,
            recipe=self.recipe.to_yaml(),
            recipe_sha256=self.recipe.sha256,
            epoch=self.current_epoch + 1,
            git_commit=self._git_commit,
            # Those of an earlier epoch are of other weights.
            metrics=dict(self.last_metrics) if self._validated_epoch == self.current_epoch else {},
            earlier_teacher_sha256=self._start.taught_by,
            backbone=self.student.backbone.configuration,
            label_set=self.label_set.model_dump(mode="json"),
            quantization_aware=rounding.model_dump(mode="json") if rounding else None,
            channels=self._channels,
            licences=self._licences(),
            **asdict(self.inputs),
        )
        checkpoint[INFO_KEY] = asdict(info)

    def _licences(self) -> Licences:
        """Return the licences of all that the weights learnt from: frames, teachers, and the weights to start from."""
        frames = [source.licences for source in self.recipe.data.train if source.share > 0]
        others = [licence.noted for licence in self.recipe.licences]
        return merged([*frames, *others, self.objective.licences, self._start.licences])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the notes of the checkpoint that the run resumes from."""
        notes = checkpoint.get(INFO_KEY, {})
        # The weights come from the checkpoint, even if the files of initial_weights have changed since.
        self._start = StartingPoint(
            notes.get("earlier_teacher_sha256", ""),
            notes.get("initial_weights_sha256", ""),
            notes.get("licences") or {},
        )
        self.inputs = replace(self.inputs, initial_weights_sha256=self._start.sha256)
        self.last_metrics = dict(notes.get("metrics", {}))


def parameter_groups(
    network: nn.Module, settings: OptimizerRecipe, backbone: nn.Module, backbone_share: float
) -> list[dict[str, Any]]:
    """Return the parameter groups of the optimiser: with weight decay, without, and the same two of the backbone.

    The backbone has groups of its own only if its learning rate differs.

    Args:
        network: Everything that is trained, the backbone included.
        settings: Section of the recipe.
        backbone: Backbone of the student.
        backbone_share: Its learning rate as a share of that of the recipe.
    """
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "lr": settings.learning_rate}
        for parameters, decay in zip(split_by_decay(network), (settings.weight_decay, 0.0), strict=True)
    ]
    if backbone_share == 1.0:
        return groups
    slow = {id(parameter) for parameter in backbone.parameters()}
    apart = []
    for group in groups:
        chosen = [parameter for parameter in group["params"] if id(parameter) in slow]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in slow]
        apart.append({**group, "params": chosen, "lr": settings.learning_rate * backbone_share})
    return groups + apart


def split_by_decay(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split trainable parameters by whether weight decay applies.

    Returns:
        Kernels of convolutions and linear layers, which decay; and biases, parameters of normalisations, per-channel
        scales and position embeddings, which do not.
    """
    kernels = {id(module.weight) for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in network.parameters():
        if parameter.requires_grad:
            # Blocks that are fused for export hold their kernels directly. Scales are (C, 1, 1, 1) there, and (1, 1, 1,
            # C) in the normalisation of responses of ConvNeXt V2.
            held = parameter.ndim == 4 and len(parameter) > 1 and parameter[0].numel() > 1
            is_kernel = held or id(parameter) in kernels
            (decayed if is_kernel else free).append(parameter)
    return decayed, free


def all_finite(network: nn.Module) -> bool:
    """Return whether every weight and running statistic is finite, with one transfer from the device."""
    found = [value.isfinite().all() for value in network.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack(found).all())


def rate_share(settings: OptimizerRecipe, steps: int) -> Callable[[int], float]:
    """Return a function from a step to the share of the recipe's learning rate at that step.

    The share rises linearly during the warm-up, then decays to `final_share`.

    Args:
        settings: Section of the recipe.
        steps: Steps of the run.
    """
    warmup = min(settings.warmup_steps, steps // 2)
    shapes: Mapping[str, Callable[[float], float]] = {
        "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
        "poly": lambda done: (1 - done) ** 0.9,
        "constant": lambda done: 1.0,
    }
    shape = shapes[settings.schedule]

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return settings.final_share + (1 - settings.final_share) * shape(done)

    return share
