"""Cityscapes: masks of label ids or train ids, and boxes from the polygons or the PNGs of instances.

The layout is that of the README of github.com/mcordts/cityscapesScripts. The split `test` has files of labels too, but
they hold only the border of the pictures and the bonnet of the car: its frames count as not labelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.config.licence import Licence
from training.data.data_set_root import check_root, check_split
from training.data.image_listing import list_images
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import LabeledSource
from training.errors import DataError
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping
from training.label_sets.object_names import ObjectClass, ObjectNames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.labels import SourceBoxes

_IMAGES = "leftImg8bit"
_IMAGE_ENDING = "_leftImg8bit"
_UNLABELED_SPLITS = ("test", "demoVideo")
_TRAIN_IDS, _LABEL_IDS = "cityscapes19", "cityscapes"
_BOX_ENDINGS = ("polygons.json", "instanceIds.png")
_LABEL_IDS_ENDING = "labelIds.png"
_MASK_ENDINGS = {_TRAIN_IDS: "labelTrainIds.png"}
_OF_ONE_INSTANCE = 1000  # values of instanceIds.png from here on: class x 1000 + number of the object
_GROUP_ENDING = "group"


class CityscapesSource(LabeledSource):
    """Cityscapes: leftImg8bit/SPLIT/CITY/ and gtFine/SPLIT/CITY/, named in `folder` by the folder above both."""

    usual_licence = Licence(of="Cityscapes", terms="Cityscapes terms of use, not commercial", use="research")
    layout_tells_labels = True

    kind: Literal["cityscapes"] = "cityscapes"
    """Cityscapes."""
    labels: str = _LABEL_IDS
    """Label set of the masks. `cityscapes` reads ..._labelIds.png, `cityscapes19` reads ..._labelTrainIds.png; any
    other set, by the path of its YAML file, describes the ids of ..._labelIds.png."""
    split: str = "train"
    """Folder below leftImg8bit/: train, val, or test, whose frames have no labels; train_extra with gtCoarse."""
    annotations: Literal["gtFine", "gtCoarse"] = "gtFine"
    """Folder of the labels. gtCoarse leaves objects out, so its frames have masks only."""

    def image_files(self) -> list[Path]:
        """Return the images of all cities of the split, in the order of the names of their cities.

        Raises:
            DataError: The folder is not Cityscapes, has no such split, or no image is left.
        """
        check_root(self.folder, _IMAGES, f"the folder of Cityscapes, with {_IMAGES}/ and {self.annotations}/")
        check_split(self.folder / _IMAGES, self.split)
        folder = self.folder / _IMAGES / self.split
        cities = sorted(path for path in folder.iterdir() if path.is_dir() and any(path.iterdir()))
        if not cities:
            raise DataError(
                f"{folder}: expected folders of cities with ..._leftImg8bit.png, there are none; unpack "
                "leftImg8bit_trainvaltest.zip, or correct the recipe's split"
            )
        return self._of_chosen_drives([path for city in cities for path in list_images(city)])

    def open(self, mapping: LabelMapping) -> CityscapesFolder:
        """Return the reader of the frames."""
        return CityscapesFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds leftImg8bit/."""
        return (folder / _IMAGES).is_dir()


class CityscapesFolder(LabeledFolder):
    """Reads a split of Cityscapes."""

    masks = None

    def __init__(self, source: CityscapesSource, mapping: LabelMapping) -> None:
        """List the frames.

        Raises:
            DataError: The folder is not Cityscapes, has no such split, or no image is left.
        """
        super().__init__(source, mapping)
        self._labels_folder = source.folder / source.annotations / source.split
        self._mask_ending = _MASK_ENDINGS.get(source.labels, _LABEL_IDS_ENDING)
        self._type = source.annotations
        self._labeled = source.split not in _UNLABELED_SPLITS
        self._paths = dict(zip(self.names, self._images, strict=True))
        self._names = ObjectNames(mapping.source, group_ending=_GROUP_ENDING)
        self._label_names = {info.id: info.name for info in load_label_set(_LABEL_IDS).segmentation}
        self._box_ending = self._ending_of_boxes()
        self._boxes: dict[str, SourceBoxes] = {}  # drawing the polygons of a frame takes 70 ms

    def raw_mask(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the mask of a frame; None in a split without labels."""
        from training.data.image_files import read_class_ids

        return read_class_ids(self._existing(name, self._mask_ending)) if self._labeled else None

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return the objects of a frame; None without polygons and PNGs of instances, and for gtCoarse."""
        if self._box_ending and name not in self._boxes:
            path = self._existing(name, self._box_ending)
            self._boxes[name] = self._read_boxes(path, size)
        return self._boxes.get(name)

    def label_files(self, name: str) -> list[Path]:
        """Return the mask of a frame, and the file of its boxes."""
        endings = [self._mask_ending, *([self._box_ending] if self._box_ending else [])]
        return [self._file(name, ending) for ending in endings] if self._labeled else []

    def _ending_of_boxes(self) -> str:
        """Return the kind of files of boxes that the split has; a frame without its own is refused then."""
        if not self._labeled or self._type != "gtFine" or not self.mapping.source.detection:
            return ""
        kinds = (ending for ending in _BOX_ENDINGS if any(self._file(name, ending).is_file() for name in self.names))
        return next(kinds, "")

    def _read_boxes(self, path: Path, size: tuple[int, ...]) -> SourceBoxes:
        from training.data.cityscapes_polygons import read_polygon_boxes
        from training.data.image_files import read_class_ids
        from training.data.object_extents import boxes_of_values

        if path.suffix == ".json":
            return read_polygon_boxes(path, size, self._names)
        values = read_class_ids(path)
        if values.shape != size:
            raise DataError(
                f"{path}: expected height and width {size} like its image, got {values.shape}; make them the same frame"
            )
        return boxes_of_values(values, self._class_of_value)

    def _class_of_value(self, value: int) -> ObjectClass | None:
        """Return the class of a value of instanceIds.png; a value without a number stands for a group."""
        class_id = value // _OF_ONE_INSTANCE or value
        try:
            found = self._names.find(self._label_names.get(class_id, ""))
        except KeyError:  # the label set of the user lacks this class
            return None
        return ObjectClass(found.id, ignored=True) if found is not None and value < _OF_ONE_INSTANCE else found

    def _file(self, name: str, ending: str) -> Path:
        image = self._paths[name]
        frame = image.stem.removesuffix(_IMAGE_ENDING)
        return self._labels_folder / image.parent.name / f"{frame}_{self._type}_{ending}"

    def _existing(self, name: str, ending: str) -> Path:
        path = self._file(name, ending)
        if not path.is_file():
            hint = "remove the image, or unpack the labels beside the images"
            if ending == _MASK_ENDINGS[_TRAIN_IDS] and self._file(name, _LABEL_IDS_ENDING).is_file():
                hint = "make it with csCreateTrainIdLabelImgs of cityscapesScripts, or set labels: cityscapes"
            raise DataError(f"{name}: expected its labels at {path}, there is no such file; {hint}")
        return path
