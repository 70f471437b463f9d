"""The loss of a distilled student: the weighted sum of the labels' loss and the terms with teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path

from torch import Tensor, nn

from training.data.batch import Batch
from training.distillation.base import Comparison, DistillationTerm
from training.distillation.settings import DistillationRecipe, balance_at
from training.distillation.teacher import Teachers
from training.losses import SupervisedLoss
from training.networks.student import StudentOutputs
from training.teachers.ensemble import Ensemble


class Term(nn.Module):
    """A term of a recipe and the adapter that it trains, if it needs one."""

    def __init__(
        self, settings: DistillationTerm, student_channels: Mapping[str, int], teacher_channels: Mapping[str, int]
    ) -> None:
        """Build the adapter; channels are by place, see `channels_of`."""
        super().__init__()
        self.settings = settings
        self.adapter: nn.Module | None = None
        place = settings.adapted_place
        if place is not None:
            self.adapter = nn.Conv2d(student_channels[place], teacher_channels[place], kernel_size=1)

    def forward(self, seen: Comparison, temperature_factor: float) -> Tensor:
        """Return the value of the term, with its temperature multiplied by `temperature_factor`."""
        settings = self.settings.with_temperature_factor(temperature_factor)
        return settings.compare(seen, self.adapter)


class DistillationLoss(nn.Module):
    """Adds the loss of the labels (`hard`) and all terms up.

    loss = alpha * hard + (1 - alpha) * sum of (weight * term), where alpha is the recipe's `hard_weight`. The adapters
    of the terms are parameters of this module: they are trained and checkpointed with the run, and not exported.

    Attributes:
        names: Names of the terms in logs, in the order of the recipe.
        teacher_sha256: SHA-256 of the teachers, joined by `+`.
        licences: Licences of the teachers.
    """

    def __init__(
        self,
        recipe: DistillationRecipe,
        hard: SupervisedLoss,
        teachers: Teachers,
        examples: tuple[StudentOutputs, StudentOutputs | None],
        look_again: Callable[[Tensor], StudentOutputs] | None = None,
    ) -> None:
        """Build the terms.

        Args:
            recipe: Distillation section of the recipe.
            hard: Loss of the labels.
            teachers: The networks that teach.
            examples: Outputs of the student and of a teacher of ours, from `check_teachers`; the terms take the numbers
                of channels from them.
            look_again: Runs the student on images, for terms that show it more than the batch.
        """
        super().__init__()
        self.recipe = recipe
        self.hard = hard
        self._teachers = teachers
        self._look_again = look_again
        self.teacher_sha256 = teachers.ensemble.sha256
        self.licences = teachers.ensemble.licences
        student_channels, teacher_channels = (channels_of(outputs) if outputs else {} for outputs in examples)
        self.terms = nn.ModuleList(Term(term, student_channels, teacher_channels) for term in recipe.terms)
        self.names = [f"soft_{number}_{term.kind}" for number, term in enumerate(recipe.terms)]

    @property
    def ensemble(self) -> Ensemble:
        """The teachers."""
        return self._teachers.ensemble

    def cache_growth(self, views: int, pixels_per_view: int) -> tuple[Path, int] | None:
        """Return the cache folder and the bytes that it will grow by; see `Teachers.cache_growth`."""
        return self._teachers.cache_growth(views, pixels_per_view)

    def forward(self, outputs: StudentOutputs, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Return all terms by name, weights included, as float32 scalars; their sum is the loss.

        Args:
            outputs: Outputs of the student for the batch.
            batch: Frames with labels.
            epoch: Epoch of the run, from 0; it selects the stage of the recipe.
        """
        balance = balance_at(self.recipe, epoch)
        seen = Comparison(outputs, self._teachers(batch), batch, self._look_again)
        weighted = {name: balance.hard_weight * value for name, value in self.hard(outputs, batch, epoch).items()}
        for name, term, weight in zip(self.names, self.terms, balance.weights, strict=True):
            # Terms of weight 0 are computed too: training on several devices waits for the gradient of every parameter.
            weighted[name] = (1 - balance.hard_weight) * weight * term(seen, balance.temperature_factor)
        return weighted


def channels_of(outputs: StudentOutputs) -> dict[str, int]:
    """Return the number of channels of each place that the network has."""
    maps = {item.name: getattr(outputs.features, item.name) for item in fields(outputs.features)}
    maps["logits"] = outputs.segmentation_logits
    return {place: int(features.shape[1]) for place, features in maps.items() if features is not None}
