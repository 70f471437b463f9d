"""Asks teachers about every whole frame of a run once, and keeps what they say; see `kept_frames`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from training.data.readers.frame_folder import FrameFolder
from training.distillation.frame_words import frame_of
from training.distillation.kept_frames import PARTS, KeptFrames, bytes_of
from training.distillation.refused_sizes import refused_sizes
from training.teachers.ensemble import Ensemble

FORM = 2  # of the files; a new one gets folders of its own


class WholeFrames:
    """The whole frames of a run and what teachers say about them.

    Attributes:
        kept: What they say.
        folder: Folder of all that is kept.
        missing: Source and index of each frame about which they still have to say something, by its digest.
    """

    def __init__(self, ensemble: Ensemble, folder: Path, sources: Sequence[FrameFolder | None]) -> None:
        """List the frames that the teachers have not seen yet.

        Args:
            ensemble: The teachers. They are asked for classes of pixels and for boxes, whatever the terms of a run
                need, so that runs with other terms find the same files.
            folder: Folder of all that is kept.
            sources: The frames; None for a source of which none is drawn.

        Raises:
            OSError: An image cannot be read.
        """
        self.folder = folder
        self._ensemble = ensemble
        self._sources = sources
        digests = [
            [] if source is None else [source.image_sha256(index) for index in range(len(source))] for source in sources
        ]
        folders = {part: folder / f"{part}-{FORM}-{ensemble.key_of(part)[:16]}" for part in PARTS}
        self.kept = KeptFrames(folders, digests)
        places = {digest: (n, index) for n, source in enumerate(digests) for index, digest in enumerate(source)}
        self._missing_parts = {digest: self.kept.missing_parts(digest) for digest in places}
        self.missing = {digest: place for digest, place in places.items() if self._missing_parts[digest]}

    @property
    def growth(self) -> tuple[Path, int]:
        """The folder and the bytes that it will grow by, if all frames of a source have the size of its first.

        Boxes need next to nothing, and neither do masks of which no teacher speaks.
        """
        if not any(member.speaks_of("pixels") for member in self._ensemble.members):
            return self.folder, 0
        classes = len(self._ensemble.student.segmentation_classes)
        found = 0
        for number, source in enumerate(self._sources):
            missing = sum(
                place[0] == number and "pixels" in self._missing_parts[digest] for digest, place in self.missing.items()
            )
            if source is not None and missing:
                height, width = source.image_bgr(0).shape[:2]
                found += missing * bytes_of(height, width, classes)
        return self.folder, found

    @property
    def plan(self) -> str:
        """How many frames the teachers will look at, and how much is written, in words."""
        total = len({digest for source in self.kept.digests for digest in source})
        if not self.missing:
            return f"what the teachers say about {total} frames is kept in {self.folder}"
        folder, growth = self.growth
        missing = {part for parts in self._missing_parts.values() for part in parts}
        known = "" if missing == set(PARTS) else f" for {missing.pop()}, the rest is kept already"
        return (
            f"the teachers look at {len(self.missing)} of {total} frames once{known}; about {growth / 1e6:.0f} MB will "
            f"be kept in {folder}"
        )

    def look(self, device: torch.device, rank: int = 0, processes: int = 1) -> None:
        """Ask the teachers about the missing frames, with a progress bar.

        Each frame is kept as soon as it was seen, so after an interrupt the next run goes on where this one stopped.

        Args:
            device: Device of teachers that run in PyTorch.
            rank: Number of this process. Each process begins at another frame and leaves out what others have kept.
            processes: Number of processes of the run.

        Raises:
            DataError: An image cannot be read.
            OSError: A file cannot be written.
            RecipeError: There is not enough memory, or a teacher does not look at frames of such a size.
        """
        digests = list(self.missing)
        start = rank * len(digests) // processes
        for digest in tqdm(
            digests[start:] + digests[:start],
            desc="teachers look at frames",
            unit="frame",
            disable=True if rank or not digests else None,
        ):
            parts = self._missing_parts[digest] if processes == 1 else self.kept.missing_parts(digest)
            if parts:
                self._look_at(digest, frozenset(parts), device)

    def _look_at(self, digest: str, parts: frozenset[str], device: torch.device) -> None:
        number, index = self.missing[digest]
        source = self._sources[number]
        assert source is not None
        image = torch.from_numpy(np.ascontiguousarray(source.image_bgr(index).transpose(2, 0, 1)))[None].to(device)
        with refused_sizes(image, f"leave {source.names[index]} of {source.folder} out"):
            taught = self._ensemble(image, parts)
        self.kept.write(digest, frame_of(taught, self._ensemble.student), parts)
