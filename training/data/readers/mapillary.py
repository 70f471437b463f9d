"""Mapillary Vistas 1.2 and 2.0: masks and instances, with the classes that the config.json of the data set lists.

In 1.2 the labels of a split lie in SPLIT/labels/ and SPLIT/instances/, in 2.0 in SPLIT/v2.0/, beside those of 1.2 in
SPLIT/v1.2/. A pixel of a mask holds the place of its class in the list. A pixel of instances/ holds that place x 256 +
the number of the object. demo.py, which comes with the data set, reads them so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from training.config.licence import Licence
from training.data.data_set_root import check_folder, check_root, check_split
from training.data.image_listing import list_images
from training.data.readers.labeled_folder import LabeledFolder
from training.data.readers.source import LabeledSource
from training.errors import DataError
from training.label_sets.label_set import LabelSet
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping
from training.label_sets.object_names import ObjectClass, ObjectNames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.data.labels import SourceBoxes

_KNOWN_SETS = ("mapillary66", "mapillary124")
_VERSIONS = ("v2.0", "v1.2")
_UNLABELED_SPLIT = "testing"
_NUMBERS = 256
MAX_CONFIG_BYTES = 1 << 20


class MapillarySource(LabeledSource):
    """Mapillary Vistas: training/, validation/ and testing/, named in `folder` by the folder above them."""

    usual_licence = Licence(of="Mapillary Vistas", terms="research edition, CC BY-NC-SA", use="research")
    layout_tells_labels = True

    kind: Literal["mapillary"] = "mapillary"
    """Mapillary Vistas."""
    labels: str = ""
    """Label set of the masks: the name of one in training/label_sets/, or the path of a YAML file. Empty takes the
    classes of the config.json of the data set, with the tables of mapillary66 or mapillary124."""
    split: str = "training"
    """Folder with the frames: training, validation, or testing, whose frames have no labels."""
    version: Literal["", "v1.2", "v2.0"] = ""
    """Version of the labels; empty takes the newest that the split has."""

    def image_files(self) -> list[Path]:
        """Return the images of the split, in name order.

        Raises:
            DataError: The folder is not Mapillary Vistas, has no such split, or no image is left.
        """
        if not any((self.folder / split / "images").is_dir() for split in ("training", "validation", "testing")):
            check_root(self.folder, "training/images", "the folder of Mapillary Vistas, with training/images/")
        check_split(self.folder, self.split)
        return self._of_chosen_drives(list_images(self.folder / self.split / "images"))

    def version_folder(self) -> str:
        """Return the folder below the split that has labels/: v2.0, v1.2, or an empty name in the layout of 1.2."""
        names = (self.version,) if self.version else _VERSIONS
        return next((name for name in names if (self.folder / self.split / name / "labels").is_dir()), "")

    def label_set(self) -> LabelSet:
        """Return the classes that config.json lists, or the set that `labels` names.

        Raises:
            RecipeError: There is no such label set, or config.json names a class twice.
            DataError: There is no config.json, or it is not a list of classes.
        """
        return load_label_set(self.labels) if self.labels else _label_set_of(self._config_file())

    def _config_file(self) -> Path:
        version = self.version or self.version_folder()
        names = [*([f"config_{version}.json"] if version else []), "config.json", "config_v1.2.json"]
        found = [self.folder / name for name in names if (self.folder / name).is_file()]
        if not found:
            check_folder(self.folder)
            raise DataError(
                f"{self.folder}: expected {' or '.join(dict.fromkeys(names))} with the classes of the masks, there is "
                "none; copy it from the data set, or name a label set (labels: mapillary66 or mapillary124)"
            )
        return found[0]

    def open(self, mapping: LabelMapping) -> MapillaryFolder:
        """Return the reader of the frames."""
        return MapillaryFolder(self, mapping)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Return whether a folder holds a config.json of Mapillary Vistas."""
        configs = ("config.json", *(f"config_{version}.json" for version in _VERSIONS))
        return any((folder / name).is_file() for name in configs) and (folder / "training").is_dir()


class MapillaryFolder(LabeledFolder):
    """Reads a split of Mapillary Vistas."""

    masks = None

    def __init__(self, source: MapillarySource, mapping: LabelMapping) -> None:
        """List the frames.

        Raises:
            DataError: The folder is not Mapillary Vistas, has no such split or version, or no image is left.
        """
        super().__init__(source, mapping)
        folder = source.folder / source.split / source.version_folder()
        self._labeled = source.split != _UNLABELED_SPLIT
        if self._labeled and not (folder / "labels").is_dir():
            raise DataError(
                f"{folder}: expected the masks in labels/, or in v1.2/labels/ or v2.0/labels/, there are none; unpack "
                "them, or correct the recipe's version"
            )
        self._parts = [folder / part for part in ("labels", "instances") if (folder / part).is_dir()]
        names = ObjectNames(mapping.source)
        self._classes = {info.id: names.find(info.name) for info in mapping.source.segmentation}
        self._boxes: dict[str, SourceBoxes] = {}

    def raw_mask(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the mask of a frame; None in the split without labels."""
        return self._read(self._parts[0], name) if self._labeled else None

    def raw_boxes(
        self, name: str, raw_mask: NDArray[np.uint8] | NDArray[np.uint16] | None, size: tuple[int, ...]
    ) -> SourceBoxes | None:
        """Return a box around each instance; None without instances/."""
        from training.data.object_extents import boxes_of_values

        if not self._labeled or len(self._parts) < 2:
            return None
        if name not in self._boxes:
            values = self._read(self._parts[1], name)
            if values.shape != size:
                raise DataError(
                    f"{self._parts[1] / name}.png: expected height and width {size} like its image, got "
                    f"{values.shape}; make them the same frame"
                )
            if raw_mask is not None and (values // _NUMBERS != raw_mask).any():
                raise DataError(
                    f"{self._parts[1] / name}.png: expected the classes of its mask (pixel / 256), got others in "
                    f"{(values // _NUMBERS != raw_mask).mean():.1%} of the pixels; fetch both of one version again"
                )
            self._boxes[name] = boxes_of_values(values, self._class_of_value)
        return self._boxes[name]

    def label_files(self, name: str) -> list[Path]:
        """Return the mask and the instances of a frame."""
        return [part / f"{name}.png" for part in self._parts] if self._labeled else []

    def _class_of_value(self, value: int) -> ObjectClass | None:
        return self._classes.get(value // _NUMBERS)

    def _read(self, folder: Path, name: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
        from training.data.image_files import read_class_ids

        path = folder / f"{name}.png"
        if not path.is_file():
            raise DataError(
                f"{name}: expected its labels at {path}, there is no such file; unpack it, or remove the image"
            )
        return read_class_ids(path)


def _label_set_of(path: Path) -> LabelSet:
    """Return the classes of a config.json, and all else from the shipped set with the same names."""
    from training.data.label_json import read_object

    rows = read_object(path, MAX_CONFIG_BYTES, "copy it from the data set again").get("labels")
    if not isinstance(rows, list) or not all(map(_is_class, rows)):
        raise DataError(
            f"{path}: expected labels, a list of objects with name, color and instances; copy it from the data set"
        )
    classes = [{"id": place, "name": row["name"], "color": row["color"]} for place, row in enumerate(rows)]
    content: dict[str, Any] = {
        "name": f"mapillary{len(rows)}",
        "segmentation": classes,
        "detection": [{"id": place, "name": row["name"]} for place, row in enumerate(rows) if row["instances"]],
    }
    names = {row["name"] for row in rows}
    for known in map(load_label_set, _KNOWN_SETS):
        if names == {info.name for info in known.segmentation}:
            content |= known.model_dump(exclude=set(content))
    return LabelSet.checked(content)


def _is_class(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("color"), list)
        and isinstance(row.get("instances"), bool)
    )
