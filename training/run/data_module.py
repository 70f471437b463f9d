"""The data of a run: its training set and its loaders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.data.augmentation import augment
from training.data.batch import Batch, collate
from training.data.readers.frame_folder import FrameFolder
from training.data.sample import Sample
from training.data.sampling import Draw, EpochSampler, draw_epoch
from training.distillation.kept_frames import KeptFrames
from training.label_sets.label_set import LabelSet
from training.recipe import Recipe
from training.run.frames import RunFrames

_AUGMENTATION_STREAM = 1  # separates the random numbers of augmentation from those of the sampler


class TrainingSet(Dataset[Sample]):
    """Makes the sample of a Draw: the frame, augmented by a generator that is seeded by the run and the draw only.

    With `kept`, what teachers said about the frame comes with it.
    """

    def __init__(
        self, sources: list[FrameFolder], recipe: Recipe, label_set: LabelSet, kept: KeptFrames | None = None
    ) -> None:
        self.sources = sources
        self.kept = kept
        self.recipe = recipe
        self.label_set = label_set
        self._augmentations = [recipe.augmentation.zoomed(source.zoom) for source in recipe.data.train]

    def __getitem__(self, draw: Draw) -> Sample:
        source, settings = self.sources[draw.source], self._augmentations[draw.source]
        views, view = self.recipe.data.views_per_frame, ""
        key: tuple[int, ...] = (draw.epoch, draw.position)
        if views:
            key = (draw.source, draw.index, draw.turn % views)
            view = "_".join(map(str, key))
        rng = np.random.default_rng((self.recipe.seed, _AUGMENTATION_STREAM, *key))
        donor = None
        if rng.random() < settings.rare_paste:
            donor = self._frame(draw.source, int(rng.integers(len(source))))
        data, frame = self.recipe.data, self._frame(draw.source, draw.index)
        sample = augment(frame, donor, data.crop_height, data.crop_width, settings, rng, self.label_set)
        sample = replace(sample, view=view)
        return sample if sample.box_weight > 0 else replace(sample, has_boxes=False)

    def _frame(self, source: int, index: int) -> Sample:
        frame = self.sources[source][index]
        if self.kept is None:
            return frame
        if self.recipe.data.train[source].taught:
            return replace(frame, taught=self.kept.of(source, index))
        return replace(frame, taught=self.kept.silence(*frame.mask.shape))


class DrivingData(lightning.LightningDataModule):
    """Loads the training batches and validation frames of a recipe.

    Attributes:
        first_epoch: Epoch that the run starts or resumes with.
        kept: What teachers said about the training frames; None if they look at views, or there are none.
        sources, validation, label_set, best_by, fingerprint, samples_per_epoch: See `RunFrames`.
    """

    def __init__(self, recipe: Recipe, frames: RunFrames, first_epoch: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        self.first_epoch = first_epoch
        self.kept: KeptFrames | None = None
        self.sources, self.validation, self.label_set = frames.sources, frames.validation, frames.label_set
        self.best_by, self.fingerprint = frames.best_by, frames.fingerprint
        self.samples_per_epoch = frames.samples_per_epoch

    def steps_per_epoch(self, world_size: int) -> int:
        """Return the number of optimiser steps in an epoch."""
        return self.samples_per_epoch // world_size // self.recipe.batch_size

    def first_batches(self, count: int) -> Iterator[Batch]:
        """Yield the first batches of the run, or all of its first epoch, in this process; the same in each process."""
        frames, size = self.samples_per_epoch, self.recipe.batch_size
        samples = TrainingSet(self.sources, self.recipe, self.label_set)
        shares = [source.share for source in self.recipe.data.train]
        draws = draw_epoch([len(source) for source in self.sources], shares, frames, self.recipe.seed, epoch=0)
        for start in range(0, min(count, frames // size) * size, size):
            yield collate([samples[draw] for draw in draws[start : start + size]])

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move training batches to the device; leave validation frames in memory, where the Perceiver reads them."""
        del dataloader_idx
        return batch.to(device, non_blocking=True) if isinstance(batch, Batch) else batch

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process; Lightning tells its sampler the epoch."""
        trainer = self.trainer
        sampler = EpochSampler(
            sizes=[len(source) for source in self.sources],
            shares=[source.share for source in self.recipe.data.train],
            samples_per_epoch=self.samples_per_epoch,
            seed=self.recipe.seed,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        # On resuming, Lightning iterates the loader, and workers fetch ahead, before it tells the sampler the epoch.
        sampler.set_epoch(self.first_epoch)
        workers = self.recipe.data.workers
        options: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
        if workers:
            # After a resize in this process, a fork would copy OpenCV's thread pool without its threads and hang.
            options["multiprocessing_context"] = "spawn"
        loader: DataLoader[Any] = DataLoader(
            TrainingSet(self.sources, self.recipe, self.label_set, self.kept),
            batch_size=self.recipe.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_single_threaded,
            # Otherwise the loader draws a seed from torch's generator, whose state differs in a resumed run.
            generator=torch.Generator().manual_seed(self.recipe.seed),
            **options,
        )
        return loader

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Return the loaders for segmentation and detection, one sample at a time; a loader can be empty."""
        return [DataLoader(_Frames(source), batch_size=None, collate_fn=_unchanged) for source in self.validation]


class _Frames(Dataset[Sample]):
    """The frames of a folder, without augmentation; empty without a folder."""

    def __init__(self, folder: FrameFolder | None) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return len(self.folder) if self.folder else 0

    def __getitem__(self, index: int) -> Sample:
        assert self.folder is not None
        return self.folder[index]


def _unchanged(sample: Any) -> Any:
    return sample


def _single_threaded(worker: int) -> None:
    """Use one thread in a worker: workers already use all cores."""
    del worker
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
