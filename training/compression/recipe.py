"""The recipe of a chain: which network is compressed, by which steps, and what may be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.compare.recipe import ScoreRecipe
from training.config.settings import FolderName, PathText, Settings
from training.errors import RecipeError
from training.pruning.settings import PruneSettings
from training.quantization.settings import QuantiseSettings

ORDER = ("prune", "distil", "quantise")
EXPORTED = ".onnx"


class DistilSettings(Settings):
    """Train the network of the step before, with the parent of the chain as its teacher."""

    kind: Literal["distil"] = "distil"
    """The step."""
    recipe: PathText
    """Recipe of the training. The chain sets its name, its start, and the parent as `distillation.teacher`, unless the
    recipe has `distillation.teachers`."""
    overrides: tuple[str, ...] = ()
    """Changes of the recipe as `key=value`, like `--override`."""


AnyStep = Annotated[PruneSettings | DistilSettings | QuantiseSettings, Field(discriminator="kind")]


class BudgetRecipe(Settings):
    """What the result may lose against the parent, on every set of frames of `scores`."""

    miou: Annotated[float, Field(ge=0, le=1)] = 0.003
    """Largest loss of the mean IoU, as a share 0..1."""
    ap50: Annotated[float, Field(ge=0, le=1)] = 0.003
    """Largest loss of the AP50, as a share 0..1."""
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Smallest share of the cells of the class map that must be those of the parent."""


class CompressionRecipe(Settings):
    """A chain: prune, distil, quantise. Each step is optional."""

    name: FolderName
    """Name of the chain, and of its folder under `folder`."""
    parent: PathText
    """Network to start from: a checkpoint, weights of `keep-weights`, or an exported file. A chain that prunes or
    trains needs a checkpoint or weights."""
    steps: Annotated[tuple[AnyStep, ...], Field(min_length=1, max_length=len(ORDER))]
    """Steps, in the order prune, distil, quantise."""
    scores: Annotated[tuple[ScoreRecipe, ...], Field(min_length=1)]
    """Frames with labels that parent, steps and result are scored on."""
    budget: BudgetRecipe = BudgetRecipe()
    """Largest loss. A result that loses more is not written."""
    output: PathText
    """File to write, an .onnx for a vehicle."""
    student_name: str = ""
    """Name in the contract of the result; empty = that of the parent."""
    version: str = ""
    """Version in the contract of the result; empty = that of the parent."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of the runs that are timed."""
    folder: PathText = Path("out/compression")
    """Folder of chains: the steps with their files, and the report."""

    @model_validator(mode="after")
    def _check_steps(self) -> CompressionRecipe:
        kinds = [step.kind for step in self.steps]
        if kinds != [kind for kind in ORDER if kind in kinds]:
            raise RecipeError(f"steps must be of {', '.join(ORDER)}, in this order and each once, got {kinds}")
        if self.output.suffix != EXPORTED:
            raise RecipeError(f"output must be an {EXPORTED} file, got {self.output}")
        return self

    @model_validator(mode="after")
    def _check_parent(self) -> CompressionRecipe:
        if self.parent.suffix == EXPORTED and (training := [step.kind for step in self.steps if _needs_weights(step)]):
            raise RecipeError(
                f"{' and '.join(training)} of a chain needs weights that can be trained on, the parent {self.parent} "
                "is an exported file; name its checkpoint, or only quantise it"
            )
        return self

    @model_validator(mode="after")
    def _check_scores(self) -> CompressionRecipe:
        names = [score.name for score in self.scores]
        if len(set(names)) < len(names):
            raise RecipeError(f"scores must have different names, got {names}")
        without = [score.name for score in self.scores if not score.frames.labeled]
        if without:
            raise RecipeError(f"scores must be of frames with labels, {', '.join(without)} has none; name others")
        return self


def _needs_weights(step: PruneSettings | DistilSettings | QuantiseSettings) -> bool:
    return not isinstance(step, QuantiseSettings) or step.aware is not None
