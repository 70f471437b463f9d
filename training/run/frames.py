"""Opens the frames of a run and checks all of them before torch is loaded."""

from __future__ import annotations

from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.data.readers.source import Source
from training.data.shares import split_by_shares
from training.errors import DataError
from training.label_sets.label_set import LabelSet
from training.recipe import Recipe
from training.run.validation_figures import check_something_to_learn, choose_figure


class RunFrames:
    """The training and validation frames of a recipe.

    Attributes:
        sources: Readers of the training frames, in the order of the recipe.
        validation: Readers of the frames for segmentation and for detection; None if there are none.
        best_by: The figure that chooses the best checkpoint; empty if nothing is validated.
        label_set: Classes of the samples.
        fingerprint: Digest of all images and labels of the training. Checkpoints note it.
        samples_per_epoch: Number of samples that the recipe asks for, or of all frames.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Open and check all folders and bags that the recipe names.

        Raises:
            DataError: A file is missing or damaged, frames do not have the labels that they are for, or an epoch does
                not fill a batch.
        """
        self.label_set = recipe.student_classes()
        self.sources = [open_source(source, self.label_set) for source in recipe.data.train]
        self.fingerprint = "+".join(source.fingerprint()[:16] for source in self.sources)
        if not recipe.has_teachers:
            pairs = zip(recipe.data.train, self.sources, strict=True)
            drawn_from = [folder for source, folder in pairs if source.share > 0]
            check_something_to_learn(drawn_from, recipe.trained_part)
        settings = recipe.validation
        self.validation = [
            _open_validation(source, settings.required, self.label_set)
            for source in (settings.segmentation, settings.detection)
        ]
        self.best_by = choose_figure(settings, self.validation)
        self.samples_per_epoch = recipe.data.samples_per_epoch or sum(len(source) for source in self.sources)
        if self.samples_per_epoch < recipe.batch_size:
            raise DataError(
                f"an epoch of {self.samples_per_epoch} samples does not fill one batch of {recipe.batch_size}; "
                "lower batch_size or raise data.samples_per_epoch"
            )
        self._say_what_is_never_drawn(recipe)

    def _say_what_is_never_drawn(self, recipe: Recipe) -> None:
        shares = [source.share for source in recipe.data.train]
        counts = split_by_shares(self.samples_per_epoch, shares)
        for source, share, count in zip(recipe.data.train, shares, counts, strict=True):
            if share > 0 and not count:
                print(
                    f"{source.folder}: no frame of it is drawn, for share {share:g} is less than a sample of the "
                    f"{self.samples_per_epoch} in an epoch; raise its share or data.samples_per_epoch"
                )


def _open_validation(recipe: Source | None, required: bool, label_set: LabelSet) -> FrameFolder | None:
    if recipe is None:
        return None
    if not (required and recipe.required) and not recipe.folder.is_dir():
        print(f"{recipe.folder} is missing: it is left out of the validation")
        return None
    return open_source(recipe, label_set)
