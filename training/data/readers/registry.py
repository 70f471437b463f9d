"""The table of readers. A reader is its file in this folder and its line in READERS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from training.config.loading import apply_override
from training.data.readers.bag import BagSource
from training.data.readers.bdd100k import Bdd100kSource
from training.data.readers.camvid import CamVidSource
from training.data.readers.cityscapes import CityscapesSource
from training.data.readers.coco import CocoSource
from training.data.readers.folder import OwnFolderSource
from training.data.readers.frames import FramesSource
from training.data.readers.kitti import KittiSemanticsSource, KittiSource
from training.data.readers.mapillary import MapillarySource
from training.data.readers.rendered import RenderedSource
from training.data.readers.source import Source
from training.data.readers.unlabeled import UnlabeledSource
from training.data.readers.yolo import YoloSource
from training.label_sets.label_set import LabelSet

if TYPE_CHECKING:
    from training.data.readers.frame_folder import FrameFolder

READERS: tuple[type[Source], ...] = (
    # First: a folder that brings its label set is read by it, whatever else it holds.
    FramesSource,
    OwnFolderSource,
    RenderedSource,
    CamVidSource,
    CityscapesSource,
    Bdd100kSource,
    MapillarySource,
    KittiSource,
    KittiSemanticsSource,
    CocoSource,
    YoloSource,
    UnlabeledSource,
    BagSource,
)
BY_KIND: dict[str, type[Source]] = {reader.model_fields["kind"].default: reader for reader in READERS}
RENDERED_KIND: str = RenderedSource.model_fields["kind"].default
OWN_FOLDER_KIND: str = OwnFolderSource.model_fields["kind"].default
BAG_KIND: str = BagSource.model_fields["kind"].default
KINDS = tuple(BY_KIND)
LABELED_KINDS = tuple(kind for kind, reader in BY_KIND.items() if reader.labeled)

if TYPE_CHECKING:
    AnySource = Source
else:
    # What a recipe may name as a source: the settings of one of the readers, chosen by `kind`.
    AnySource = Annotated[Union[READERS], Field(discriminator="kind")]  # noqa: UP007


def source_of(kind: str, keys: Mapping[str, object], changes: Sequence[str] = ()) -> Source:
    """Return the settings of a folder that a command line names.

    Args:
        kind: Kind of the reader.
        keys: Keys of the source with their values.
        changes: More of them as `key=value`, for example `split=val`.

    Raises:
        RecipeError: The kind has no such key, or a value is not valid.
    """
    content = dict(keys)
    for change in changes:
        apply_override(content, change, "--source")
    return BY_KIND[kind].checked(content)


def open_source(source: Source, student: LabelSet | None = None) -> FrameFolder:
    """Open a source and check all of its files.

    Args:
        source: Settings of the source.
        student: Classes of the samples; None = those of the source itself.

    Raises:
        DataError: Something is missing, broken or outside the label set.
        RecipeError: A class of the source maps to nothing in the student's label set.
    """
    folder = source.open(source.mapping_to(student, str(source.folder)))
    folder.check()
    return folder


def recognize(folder: Path, otherwise: str = RENDERED_KIND) -> str:
    """Return the kind of a labelled folder, by the files in it; `otherwise` if none fits."""
    return next((kind for kind in LABELED_KINDS if BY_KIND[kind].recognizes(folder)), otherwise)
