"""The checkpoint that a run resumes from, and the checks that it belongs to this run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.checkpoint import CheckpointInfo, read_checkpoint, read_info
from training.errors import CheckpointError, RecipeError
from training.recipe import Recipe, is_noted_recipe, parse_noted_recipe
from training.run.frames import RunFrames
from training.run.inputs import has_other_classes
from training.run.lightning_module import StudentTraining

# The parts of a checkpoint that Lightning needs to resume, besides the weights.
_STATE_OF_TRAINING = {"epoch": int, "global_step": int, "loops": dict, "optimizer_states": list, "lr_schedulers": list}
_VERSION_KEY = "pytorch-lightning_version"


@dataclass(frozen=True)
class StoppedRun:
    """A checkpoint to resume from.

    Attributes:
        path: Path of the file.
        info: Notes of the checkpoint.
        state: Weights by name, of the trained network, of the average and of the loss.
    """

    path: Path
    info: CheckpointInfo
    state: dict[str, Any]

    @classmethod
    def read(cls, path: Path, recipe: Recipe) -> StoppedRun:
        """Read the checkpoint.

        The recipe may have more epochs than the one that the run began with. Then the run gets longer: the missing
        epochs are trained, and the learning rate follows the schedule of the new length from there.

        Raises:
            CheckpointError: It is not a checkpoint of `train`, has another recipe, or lacks the optimiser's state.
        """
        content = read_checkpoint(path)
        info = read_info(content, path)
        if not is_noted_recipe(recipe, info.recipe_sha256, info.recipe) and not _is_made_longer(info, recipe):
            raise CheckpointError(
                f"{path}: expected a checkpoint of this recipe, or of this recipe with fewer epochs, it was trained by "
                "another recipe (or other overrides); give the run's own recipe.yaml, or start a new run with "
                "initial_weights"
            )
        kinds = _STATE_OF_TRAINING | {_VERSION_KEY: str}
        unfit = [key for key, kind in kinds.items() if not isinstance(content.get(key), kind)]
        if unfit:
            raise CheckpointError(
                f"{path}: expected a whole checkpoint of train to resume from, {', '.join(unfit)} is missing or of "
                "another kind; give the run's own last.ckpt, or start a new run with initial_weights"
            )
        return cls(path, info, content["state_dict"])

    def check_data(self, frames: RunFrames) -> None:
        """Refuse to resume if the training data has changed.

        Raises:
            CheckpointError: Frames or labels were added, removed or changed, or the classes have other numbers.
        """
        if has_other_classes({"label_set": self.info.label_set}, frames.label_set):
            raise CheckpointError(
                f"{self.path}: expected the label set that the run began with, {frames.label_set.name} has other "
                "classes or numbers of them now; restore its file, or start a new run with initial_weights"
            )
        began_with = self.info.data_sha256 or frames.fingerprint
        if began_with != frames.fingerprint:
            pairs = zip(frames.sources, began_with.split("+"), frames.fingerprint.split("+"), strict=False)
            changed = ", ".join(str(source.folder) for source, before, now in pairs if before != now)
            raise CheckpointError(
                f"{self.path}: expected the frames and labels that the run began with, those of {changed} have "
                "changed; restore them, or start a new run with initial_weights"
            )

    def check_network(self, module: StudentTraining) -> None:
        """Refuse to resume if the teacher has changed or the weights do not fit the network.

        Raises:
            CheckpointError: The teacher has changed, or a weight is missing or has another shape.
        """
        began_with, found = self.info.teacher_sha256, module.inputs.teacher_sha256
        if began_with != found:
            settings = module.recipe.distillation
            names = ", ".join(one.name for one in settings.all_teachers) if settings else str(self.path)
            raise CheckpointError(
                f"{names}: expected the teachers that the run began with (weights "
                f"{began_with[:12]}), got {found[:12] or 'no teacher'}; restore it, or start a new run"
            )
        try:
            module.load_state_dict(self.state)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path}: expected the weights of this run, they do not fit its network "
                f"({str(error).splitlines()[-1].strip()[:200]}); give the run's own last.ckpt"
            ) from error


def _is_made_longer(info: CheckpointInfo, recipe: Recipe) -> bool:
    """Return whether a recipe is that of a checkpoint with more epochs and no other change."""
    try:
        began_with = parse_noted_recipe(info.recipe)
        return began_with.epochs < recipe.epochs and began_with.replace(epochs=recipe.epochs).sha256 == recipe.sha256
    except RecipeError:  # a recipe of another version
        return False
