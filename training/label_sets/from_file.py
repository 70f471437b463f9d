"""The label set of files that name their own classes, such as the categories of COCO or the names of a data.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.errors import RecipeError
from training.label_sets.label_set import LabelClass, LabelSet, NameTable


def label_set_of_names(
    name: str, base: LabelSet, *, detection: Mapping[int, str], segmentation: Mapping[int, str], strict: bool
) -> LabelSet:
    """Return a label set with the ids and names of a file, and all else from a set that has these names.

    A class that the file does not name is left out, since the file does not label it.

    Args:
        name: Name of the new set.
        base: Set that gives colours, regions, tables and usual shares.
        detection: Names of the classes of boxes, by their ids in the file.
        segmentation: Names of the classes of masks, by their ids in the file.
        strict: True refuses names that `base` lacks; False takes nothing from `base` if there are such names.

    Raises:
        RecipeError: `base` lacks a name, or ids and names do not make a label set.
    """
    names = {"segmentation": segmentation, "detection": detection}
    lost = {task: set(names[task].values()) - {info.name for info in base.by_task[task]} for task in names}
    if strict:
        _refuse_lost(name, base, lost)
    known = {} if any(lost.values()) else base.by_task
    content: dict[str, Any] = {
        task: [_entry(number, title, known.get(task, ())) for number, title in sorted(names[task].items())]
        for task in names
    }
    if known:
        content |= _parts_about(set(segmentation.values()), base)
        content["mappings"] = {
            target: NameTable(
                segmentation=_among(table.segmentation, segmentation), detection=_among(table.detection, detection)
            )
            for target, table in base.mappings.items()
        }
    for entry in content["detection"]:
        if entry.get("region") not in segmentation.values():
            entry.pop("region", None)
    return LabelSet.checked({"name": name, **content})


def _refuse_lost(name: str, base: LabelSet, lost: Mapping[str, set[str]]) -> None:
    strange = sorted(set().union(*lost.values()))
    if strange:
        has = sorted({info.name for classes in base.by_task.values() for info in classes})
        raise RecipeError(
            f"{name}: the label set {base.name} lacks {', '.join(strange[:10])}, which the file names; name another "
            f"set in `labels`, or leave it out to use the file's own names. {base.name} has {', '.join(has[:20])}"
        )


def _entry(number: int, title: str, classes: Sequence[LabelClass]) -> dict[str, Any]:
    """Return a class with the id of the file, and with the colour and region that the base has for its name."""
    found = next((info.model_dump() for info in classes if info.name == title), {})
    return {key: value for key, value in found.items() if value} | {"id": number, "name": title}


def _parts_about(names: set[str], base: LabelSet) -> dict[str, Any]:
    """Return what the base says about classes of masks, of the named ones only."""
    return {
        "rare": [name for name in base.rare if name in names],
        "drivable": [name for name in base.drivable if name in names],
        "usual_share": {name: share for name, share in base.usual_share.items() if name in names},
    }


def _among(table: Mapping[str, str], names: Mapping[int, str]) -> dict[str, str]:
    return {name: target for name, target in table.items() if name in set(names.values())}
