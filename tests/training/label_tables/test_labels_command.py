"""`python -m training labels`: label sets, what maps to what, and the lines to paste for classes that are left."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from training.__main__ import main
from training.label_sets.label_set import LabelSet, NameTable
from training.label_sets.loading import load_label_set, shipped_names
from training.label_sets.mapping import LabelMapping
from training.label_sets.suggestions import suggest

OWN = {
    "name": "own",
    "segmentation": [
        {"id": 1, "name": "Road"},
        {"id": 2, "name": "sidewalk"},
        {"id": 300, "name": "yes"},
        {"id": 4, "name": "traffic_sign"},
        {"id": 6, "name": "sky"},
    ],
    "detection": [{"id": 1, "name": "car"}, {"id": 2, "name": "forklift"}],
    "void_ids": [9],
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(OWN))
    return path


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of each row of the tables by the first; columns are two spaces or more apart."""
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) > 1}


def test_without_a_source_the_shipped_sets_are_listed_with_the_numbers_of_their_classes(capsys):
    assert main(["labels"]) == 0
    listed = rows(capsys.readouterr().out)
    assert set(shipped_names()) <= listed.keys()
    assert listed["cityscapes19"][:2] == ["19", "8"]


def test_a_set_is_shown_with_ids_and_remarks(capsys, tmp_path):
    assert main(["labels", "camvid11", "--json", str(tmp_path / "set.json")]) == 0
    text = capsys.readouterr().out
    assert rows(text)["road"] == ["3", "drivable"]
    assert "not labelled in masks: 255, 11" in text
    content = json.loads((tmp_path / "set.json").read_text())
    assert content["segmentation"][3] == {"id": 3, "name": "road", "color": [128, 64, 128]}


def test_each_class_is_shown_with_what_it_becomes_and_why(capsys):
    assert main(["labels", "cityscapes19", "--to", "camvid11"]) == 0
    text = capsys.readouterr().out
    masks, boxes = (rows(part) for part in text.split("boxes  ")[:2])
    assert masks["road"] == ["0", "road", "3", "same name"]
    assert masks["wall"] == ["3", "building", "1", "table of cityscapes19"]
    assert masks["terrain"] == ["9", "ignored: teaches nothing", "table of cityscapes19"]
    assert boxes["motorcycle"] == ["6", "ignored: teaches nothing", "table of cityscapes19"]
    assert "camvid11: boxes that are not labelled here: sign" in text


def test_all_classes_that_are_left_are_shown_with_lines_that_mend_the_mapping(capsys, own, tmp_path):
    assert main(["labels", str(own), "--to", "camvid11"]) == 1
    text = capsys.readouterr().out
    assert {name for name, row in rows(text).items() if "LEFT" in row} == {
        "Road",
        "sidewalk",
        "yes",
        "traffic_sign",
        "forklift",
    }
    assert "5 classes map to nothing" in text
    pasted = yaml.safe_load(text[text.index("map:") :])["map"]
    assert pasted == {
        "segmentation": {"Road": "road", "sidewalk": "pavement", "yes": "ignore", "traffic_sign": "sign"},
        "detection": {"forklift": "ignore"},
    }
    LabelMapping.between(load_label_set(own), load_label_set("camvid11"), NameTable.checked(pasted))

    table = tmp_path / "map.yaml"
    table.write_text(yaml.safe_dump(pasted))
    assert main(["labels", str(own), "--to", "camvid11", "--map", str(table)]) == 0
    assert rows(capsys.readouterr().out)["yes"] == ["300", "ignored: teaches nothing", "table of the recipe"]


def test_json_has_the_mapping_with_what_is_left(own, tmp_path):
    assert main(["labels", str(own), "--to", "camvid11", "--json", str(tmp_path / "mapping.json")]) == 1
    (mapping,) = json.loads((tmp_path / "mapping.json").read_text())["mappings"]
    assert mapping["classes"]["segmentation"][0] == {
        "id": 1,
        "name": "Road",
        "becomes": None,
        "becomes_id": None,
        "via": "nothing",
    }
    assert mapping["left"]["detection"] == {"forklift": {"suggested": "ignore", "reason": "no close name"}}
    assert mapping["student_classes_without_labels"]["detection"] == ["pedestrian", "bicyclist", "sign"]


def test_a_student_with_one_task_leaves_nothing_of_the_other(capsys, own, tmp_path):
    student = tmp_path / "boxes.yaml"
    student.write_text(
        yaml.safe_dump({"name": "boxes", "detection": [{"id": 0, "name": "car"}, {"id": 1, "name": "forklift"}]})
    )
    assert main(["labels", str(own), "--to", str(student)]) == 0
    assert rows(capsys.readouterr().out)["Road"] == ["1", "ignored: teaches nothing", "task not learnt"]


def test_a_recipe_shows_each_of_its_sources_against_its_student(capsys, own, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    sources = [
        {"kind": "camvid", "folder": "first", "labels": "cityscapes19"},
        {"kind": "camvid", "folder": "second", "labels": str(own), "map": {"segmentation": {"Road": "road"}}},
        {"kind": "unlabeled", "folder": "third"},
    ]
    validation = {"segmentation": {"kind": "camvid", "folder": "fourth"}}
    recipe.write_text(yaml.safe_dump({"name": "r", "data": {"train": sources}, "validation": validation}))
    assert main(["labels", str(recipe), "--json", str(tmp_path / "recipe.json")]) == 1
    text = capsys.readouterr().out
    assert re.findall(r"^(.*): (\w+ to \w+)$", text, re.MULTILINE) == [
        ("data.train.0 (first)", "cityscapes19 to camvid11"),
        ("data.train.1 (second)", "own to camvid11"),
        ("validation.segmentation (fourth)", "camvid11 to camvid11"),
    ]
    _, second, _ = json.loads((tmp_path / "recipe.json").read_text())["mappings"]
    assert second["classes"]["segmentation"][0]["via"] == "table of the recipe"
    assert "Road" not in second["left"]["segmentation"]

    words = ["labels", str(recipe), "--override", "data.train.1.labels=camvid11", "--override", "data.train.1.map={}"]
    assert main(words) == 0
    assert main(["labels", "cityscapes19", "--to", str(recipe)]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["camvid12"], "there is no label set 'camvid12'; name one of"),
        (["own", "--to", "camvid11"], "there is no label set 'own'"),
        (["camvid11", "--to", "OWN"], "a student's ids of segmentation count from 0"),
        (["--to", "camvid11"], "need a SOURCE"),
        (["camvid11", "--map", "OWN"], "--map needs a label set as SOURCE and --to"),
        (["camvid11", "--override", "size=n"], "--override changes a recipe"),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_a_wrong_word_is_refused_with_one_sentence(capsys, own, words: list[str], sentence: str):
    assert main(["labels", *(str(own) if word == "OWN" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "task", "target"),
    [
        ("Traffic-Sign", "segmentation", "traffic sign"),
        ("object--traffic-sign--front", "segmentation", "traffic sign"),
        ("pavement", "segmentation", "sidewalk"),
        ("pedestrian", "detection", "person"),
        ("motorcycles", "detection", "motorcycle"),
        ("parked car", "detection", "car"),
        ("void--car-mounting", "detection", "ignore"),
        ("犬", "detection", "ignore"),
    ],
)
def test_suggestions_follow_spelling_then_shipped_tables_then_close_names(name: str, task: str, target: str):
    assert suggest(name, task, load_label_set("cityscapes19")).target == target


def test_tables_to_other_sets_help_with_a_set_of_ones_own():
    student = LabelSet.checked(
        {"name": "mine", "segmentation": [{"id": 0, "name": "pavement"}, {"id": 1, "name": "car"}]}
    )
    assert suggest("sidewalk", "segmentation", student).target == "pavement"
    assert suggest("truck", "segmentation", student).target == "car"
    assert suggest("terrain", "segmentation", student).reason == "no close name"


def test_names_in_other_scripts_are_not_taken_for_each_other():
    student = LabelSet.checked({"name": "zoo", "detection": [{"id": 0, "name": "猫"}, {"id": 1, "name": "犬"}]})
    assert suggest("鳥", "detection", student).target == "ignore"
    assert suggest("犬 ", "detection", student).target == "犬"


def test_a_terminal_sees_swatches_of_the_colours():
    terminal, end = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    command = [sys.executable, "-m", "training", "labels", "camvid11"]
    with subprocess.Popen(command, cwd=ROOT, stdout=end, env=environment) as process:
        os.close(end)
        shown = b""
        while chunk := _read(terminal):
            shown += chunk
    os.close(terminal)
    assert process.returncode == 0
    assert b"\x1b[48;2;128;64;128m  \x1b[0m road" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux: the other end is closed
        return b""


def test_the_page_shows_what_the_command_prints(capsys, monkeypatch, tmp_path):
    page = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
    (label_set,) = re.findall(r"cat > out/yard\.yaml << 'EOF'\n(.*?)^EOF$", page, re.DOTALL | re.MULTILINE)
    (shown,) = re.findall(
        r"^python -m training labels out/yard\.yaml --to cityscapes19\n```\n\n```\n(.*?)^```$",
        page,
        re.DOTALL | re.MULTILINE,
    )
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("out/yard.yaml").write_text(label_set)
    assert main(["labels", "out/yard.yaml", "--to", "cityscapes19"]) == 1
    assert capsys.readouterr().out == shown


def test_a_folder_of_frames_shows_the_classes_of_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("images", "masks"):
        (tmp_path / "frames" / part).mkdir(parents=True)
    (tmp_path / "frames" / "label_set.yaml").write_text("name: own\nsegmentation: [{id: 7, name: floor}]\n")
    assert main(["labels", str(tmp_path / "frames"), "--to", "camvid11"]) == 1
    assert "floor" in capsys.readouterr().out
    assert main(["labels", str(tmp_path)]) == 2
    assert "no reader recognizes it; name a label set instead" in capsys.readouterr().err
