"""The steps of a chain: each takes a stage, works in a folder of its own, and returns the next stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ros_kd_perception.model.contract_file import ContractFile
from training.compression.parent import export_weights
from training.compression.recipe import AnyStep, CompressionRecipe, DistilSettings
from training.compression.stage import Stage
from training.compression.training_step import recipe_of_step, train_step
from training.pruning.settings import PruneSettings
from training.quantization.settings import AwareSettings, QuantiseSettings

FILE = "student.onnx"
WEIGHTS = "student.safetensors"


@dataclass(frozen=True)
class ChainRun:
    """What every step of a run of a chain needs.

    Attributes:
        recipe: The chain.
        parent: The parent of the chain, which teaches.
        accelerator: Lightning's accelerator for steps that train.
        devices: Lightning's devices for steps that train.
    """

    recipe: CompressionRecipe
    parent: Stage
    accelerator: str = "auto"
    devices: str = "1"

    def run(self, settings: AnyStep, before: Stage, folder: Path) -> Stage:
        """Do a step.

        Args:
            settings: Settings of the step.
            before: What the step starts from.
            folder: Folder of the step.
        """
        if isinstance(settings, PruneSettings):
            return self._prune(settings, before, folder)
        if isinstance(settings, DistilSettings):
            return self._distil(settings, before, folder)
        return self._quantise(settings, before, folder)

    def _prune(self, settings: PruneSettings, before: Stage, folder: Path) -> Stage:
        from training.pruning.weights import prune_weights

        weights = folder / WEIGHTS
        report = prune_weights(_weights_of(before), settings, weights, *_input_size(before.file))
        stage = replace(before, kind=settings.kind, weights=weights, file=folder / FILE)
        export_weights(weights, stage.file, self.recipe.student_name, self.recipe.version)
        return stage.with_said(report.said, {"What was cut": report.table()})

    def _distil(self, settings: DistilSettings, before: Stage, folder: Path) -> Stage:
        checkpoint, epochs = self._train(settings, before, folder)
        stage = replace(before, kind=settings.kind, weights=checkpoint, file=folder / FILE)
        export_weights(checkpoint, stage.file, self.recipe.student_name, self.recipe.version)
        return stage.with_said(f"distil from the parent, {epochs} epochs of {settings.recipe.name}")

    def _quantise(self, settings: QuantiseSettings, before: Stage, folder: Path) -> Stage:
        from training.quantization.learned_ranges import learned_ranges
        from training.quantization.quantise_file import quantise_file

        float_file, ranges, said = before.file, None, before.said
        if settings.aware is not None:
            checkpoint, epochs = self._train(settings.aware, before, folder)
            float_file = folder / "float.onnx"
            export_weights(checkpoint, float_file, self.recipe.student_name, self.recipe.version)
            ranges = learned_ranges(checkpoint, float_file)
            name = settings.aware.recipe.name
            said = (*said, f"train for 8 bits with the parent as teacher, {epochs} epochs of {name}")
        file = folder / FILE
        report = quantise_file(float_file, settings, file, ranges=ranges)
        stage = replace(before, kind=settings.kind, file=file, said=said, data_sha256=report.data_sha256)
        for note in report.notes:
            print(note)
        table = "\n".join(_sensitivity_line(row) for row in report.sensitivity)
        return stage.with_said(report.said, {"What each layer loses": table} if table else {})

    def _train(self, settings: DistilSettings | AwareSettings, before: Stage, folder: Path) -> tuple[Path, int]:
        """Train by the recipe of a step; return its checkpoint and the number of epochs."""
        start, parent = _weights_of(before), _weights_of(self.parent)
        recipe = recipe_of_step(settings.recipe, settings.overrides, start, parent, folder)
        return train_step(recipe, self.accelerator, self.devices), recipe.epochs


def _sensitivity_line(row: Mapping[str, Any]) -> str:
    """Return a layer with what is lost if only it becomes integers: cells of the class map, and boxes."""
    return f"  {row['precision']}  {row['cells']:8.3%} of the cells  {row['boxes']:8.3%} of the boxes  {row['layer']}"


def _input_size(file: Path) -> tuple[int, int]:
    contract = ContractFile.read(file).contract
    return contract.input.height, contract.input.width


def _weights_of(stage: Stage) -> Path:
    assert stage.weights is not None  # CompressionRecipe refuses chains that would need them and have none
    return stage.weights
