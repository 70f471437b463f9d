"""What the settings of all readers have in common: where the frames are and which of them to take."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from training.config.licence import Licence, Licences, not_stated
from training.config.settings import PathText, Settings
from training.data.data_set_root import check_folder
from training.data.image_listing import list_images
from training.errors import DataError
from training.label_sets.label_set import LabelSet, NameTable
from training.label_sets.loading import is_shipped, load_label_set
from training.label_sets.mapping import LabelMapping

if TYPE_CHECKING:
    from training.data.readers.frame_folder import FrameFolder


class Source(Settings):
    """Settings of a reader; each reader derives its own and names its `kind`.

    Attributes:
        labeled: Whether the frames have labels. Only labelled frames can be validated or scored on.
        exact_boxes: Whether the boxes are exact, or derived from masks.
        usual_licence: Licence of the data set that the kind is named after; None for a kind that reads any data.
    """

    labeled: ClassVar[bool] = True
    exact_boxes: ClassVar[bool] = True
    usual_licence: ClassVar[Licence | None] = None

    kind: str
    """Which reader reads the frames."""
    folder: PathText
    """Folder of the frames, relative to the working directory."""
    share: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Share of an epoch's samples that are drawn from here; the shares of all sources are scaled to sum to 1."""
    zoom: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """Factor on the zoom of the augmentation, for sources whose frames have other sizes: 2 for frames half as wide as
    those of the vehicle, so that their objects are as large."""
    taught: bool = True
    """False keeps the teachers from saying anything about these frames, where labels are exact and teachers never saw
    such pictures, as rendered ones. Needs `distillation.look: frame`."""
    limit: Annotated[int, Field(ge=0)] = 0
    """Take only this many frames, the first ones; 0 takes all."""
    required: bool = True
    """False leaves a source of training frames out, with a line, if its folder is missing; true refuses to train."""
    licence: Licence | None = None
    """Under which terms the frames may be used; null takes the licence of the data set that the kind is named after.
    Checkpoints and exported files note it."""

    @property
    def licences(self) -> Licences:
        """The licence of the frames, as notes hold it."""
        stated = self.licence or self.usual_licence
        return stated.noted if stated else not_stated(f"frames of kind {self.kind}")

    @abstractmethod
    def open(self, mapping: LabelMapping) -> FrameFolder:
        """Return the reader of the frames. Modules that decode images are imported here, not with the settings.

        Args:
            mapping: From the classes of the source to those of the student.

        Raises:
            DataError: Something is missing.
        """

    def mapping_to(self, student: LabelSet | None, where: str = "") -> LabelMapping:
        """Return the mapping from the classes of the source to those of a student.

        Args:
            student: Classes of the student; None = those of the source itself, with ids that count from 0.
            where: Begins errors, for example `data.train.0`.

        Raises:
            RecipeError: A class of the source maps to nothing, or the label set cannot be read.
            DataError: The folder of the source should say what its classes are, and does not.
        """
        nothing = LabelSet(name=self.kind)
        return LabelMapping.between(nothing, student or nothing, where=where)

    def image_files(self) -> list[Path]:
        """Return the image files that the source takes, in name order; none where the frames are not files.

        Raises:
            DataError: The folder is missing, or nothing is left in it.
        """
        return []

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder looks as if it were for this reader: how `evaluate` chooses without `--kind`."""
        del folder
        return False


BOXES_FILE, LABEL_SET_FILE = "boxes.json", "label_set.yaml"  # in folders in the format of this package


class FolderSource(Source):
    """A folder with frames in images/, whose names begin with the drive.

    Attributes:
        images: Name of the folder with the images.
    """

    images: ClassVar[str] = "images"

    include_drives: tuple[str, ...] = ()
    """Take only frames whose name starts with one of these; an empty list takes all."""
    exclude_drives: tuple[str, ...] = ()
    """Leave out frames whose name starts with one of these."""

    def images_path(self) -> Path:
        """Return the folder with the images."""
        return self.folder / self.images

    def image_files(self) -> list[Path]:
        """Return the images whose drive is taken, in name order.

        Raises:
            DataError: The folder or a drive is missing, two images have one name, or nothing is left.
        """
        folder = self.images_path()
        if not folder.is_dir():
            part = folder.relative_to(self.folder)
            check_folder(self.folder, f"{part}/")
            raise DataError(
                f"{self.folder}: expected a folder with {part}/, there is none; correct the path of the folder"
            )
        paths = list_images(folder)
        for path, following in pairwise(sorted(paths, key=lambda path: path.stem)):
            if path.stem == following.stem:
                raise DataError(
                    f"{path}: expected one image of the name {path.stem}, there is {following.name} too; remove or "
                    "rename one"
                )
        return self._of_chosen_drives(paths)

    def _of_chosen_drives(self, paths: Sequence[Path]) -> list[Path]:
        for drive in (*self.include_drives, *self.exclude_drives):
            if not any(path.stem.startswith(drive) for path in paths):
                raise DataError(
                    f"{self.folder}: expected frames of drive {drive}, no name starts with it; correct the recipe"
                )
        included = [path for path in paths if path.stem.startswith(self.include_drives or "")]
        chosen = [path for path in included if not (self.exclude_drives and path.stem.startswith(self.exclude_drives))]
        if not chosen:
            raise DataError(f"{self.folder}: include_drives and exclude_drives leave no frame; correct the recipe")
        return chosen[: self.limit or None]


class LabeledSource(FolderSource):
    """A folder with images and labels.

    Attributes:
        layout_tells_labels: Whether only one data set has these folders and names of files, so that its masks need no
            other sign of their label set.
    """

    layout_tells_labels: ClassVar[bool] = False

    labels: str
    """Label set of the frames: the name of one in training/label_sets/, or the path of a YAML file."""
    map: NameTable = NameTable()
    """What the classes of the frames become in the student's label set, before the tables of their own label set. A
    class of the same name needs no entry."""
    check_shares: bool = True
    """False trusts masks whose ids or shares of the pixels are unusual for their label set (`usual_share`). Kinds whose
    folders tell the data set do not ask."""
    box_weight: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How much the boxes of this source count in the loss; 0 ignores them."""

    @property
    def has_own_label_set(self) -> bool:
        """Whether a file of the user says what the labels mean: label_set.yaml, or the one that `labels` names."""
        return not is_shipped(self.labels) if self.labels else (self.folder / LABEL_SET_FILE).is_file()

    def label_set(self) -> LabelSet:
        """Return the label set that `labels` names; where it names none, that of label_set.yaml in the folder.

        Raises:
            RecipeError: There is no such label set, or the file is not one.
            DataError: There is no folder, or it should name its classes, and does not.
        """
        own = self.folder / LABEL_SET_FILE
        if not self.labels and not own.is_file():
            check_folder(self.folder)
            raise DataError(
                f"{self.folder}: expected the classes of the labels, in the recipe (labels: the name of a set or the "
                f"path of its file) or in {LABEL_SET_FILE} of the folder, there are none; write one of them"
            )
        return load_label_set(self.labels or own)

    def mapping_to(self, student: LabelSet | None, where: str = "") -> LabelMapping:
        """Return the mapping from the source's label set to the student's."""
        own = self.label_set()
        return LabelMapping.between(own, student or own.as_student(), self.map, where)
