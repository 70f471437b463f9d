"""No class has its name in code: classes come from label sets, contracts and parameters."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

FOLDERS = ("ros_kd_perception", "training")
# Those of streets: ADE20K and COCO also have classes like box, path or person.
STREETS = ("camvid11", "camvid32", "cityscapes", "bdd100k19", "coco_driving", "kitti", "mapillary66", "rendered")
LABEL_SETS = [ROOT / "training" / "label_sets" / f"{name}.yaml" for name in STREETS]
# The renderer makes objects of these classes. Parameters of the node have defaults that users can change.
ALLOWED = {
    "ros_kd_perception/sample_drive",
    "ros_kd_perception/free_space/parameters.py",
    "ros_kd_perception/ground_positions/parameters.py",
    "ros_kd_perception/demo",
}
# Names of classes that are also words for something else.
OTHER_MEANINGS = {"background", "other", "static", "dynamic", "ground", "person", "train", "object", "wall"}
# These name a reader of one data set, or the label set that a parameter has as its default.
DATA_SETS = re.compile(r"^(camvid|cityscapes|bdd100k|coco|kitti|mapillary|camvid11)$")


def class_names() -> set[str]:
    names: set[str] = set()
    for path in LABEL_SETS:
        content = yaml.safe_load(path.read_text())
        for task in ("segmentation", "detection"):
            names |= {row["name"].lower() for row in content.get(task) or ()}
    return names - OTHER_MEANINGS


def texts_in_code(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every text of a file that is not a docstring, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.lineno, node.value


def is_allowed(path: Path) -> bool:
    where = path.relative_to(ROOT).as_posix()
    return any(where == place or where.startswith(f"{place}/") for place in ALLOWED)


SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if not is_allowed(path)]


def test_there_is_something_to_look_for() -> None:
    assert {"sky", "pavement", "bicyclist", "car", "traffic light"} <= class_names()
    assert len(SOURCES) > 100


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_text_in_code_is_the_name_of_a_class(path: Path) -> None:
    names = class_names()
    found = [(line, text) for line, text in texts_in_code(path) if text.strip().lower() in names]
    assert not [item for item in found if not DATA_SETS.match(item[1])]
