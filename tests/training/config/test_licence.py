"""Licences go from sources and teachers into checkpoints, and say what weights may be used for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.checkpoint import load_student
from training.config.licence import Licence, Licences, merged, not_stated, use_of
from training.data.readers.registry import source_of
from training.errors import RecipeError
from training.label_sets.loading import load_label_set
from training.recipe import parse_recipe
from training.run.lightning_module import StudentTraining
from training.teachers.checkpoint import CheckpointTeacher
from training.teachers.ensemble import Ensemble
from training.teachers.settings import FusionSettings

KEPT = Path(__file__).parents[3] / "models" / "weights" / "student_n_rendered_short.safetensors"
CAMVID = Licence(of="CamVid", terms="research use only", use="research").noted
KITTI = Licence(of="KITTI", terms="CC BY-NC-SA 3.0", use="research").noted
MOTORWAY = {"of": "CarND", "terms": "MIT", "use": "any"}
FREE = Licence.checked(MOTORWAY).noted


@pytest.mark.parametrize("wide", [Licence(of="CamVid", terms="MIT", use="any").noted, not_stated("CamVid")])
def test_of_two_licences_of_one_name_the_narrower_counts(wide: Licences) -> None:
    for parts in ([CAMVID, wide], [wide, CAMVID]):
        assert merged(parts) == CAMVID
    free = Licence(of="CamVid", terms="MIT", use="any").noted
    assert merged([not_stated("CamVid"), free]) == merged([free, not_stated("CamVid")]) == not_stated("CamVid")


@pytest.mark.parametrize(
    ("licences", "use"),
    [
        ([FREE], "any"),
        ([FREE, KITTI, CAMVID], "research only, because of CamVid, KITTI"),
        ([FREE, not_stated("frames of kind folder")], "not stated for frames of kind folder"),
        ([CAMVID, not_stated("frames of kind folder")], "research only, because of CamVid"),
    ],
)
def test_the_narrowest_licence_decides(licences: list[Licences], use: str) -> None:
    assert use_of(merged(licences)) == use


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"kind": "camvid"}, CAMVID),
        ({"kind": "kitti"}, KITTI),
        ({"kind": "camvid", "licence": MOTORWAY}, FREE),
        ({"kind": "unlabeled", "licence": MOTORWAY}, FREE),
        ({"kind": "unlabeled"}, not_stated("frames of kind unlabeled")),
    ],
)
def test_a_source_has_the_licence_of_its_data_set_or_of_the_recipe(source: dict[str, Any], expected: Licences) -> None:
    assert source_of(source["kind"], {**source, "folder": Path("x")}).licences == expected


def test_a_teacher_has_the_licence_of_the_recipe_or_none() -> None:
    content = {"kind": "checkpoint", "path": str(KEPT)}
    student = load_label_set("camvid11")
    plain, stated = (
        Ensemble.open([CheckpointTeacher.checked(content | keys)], FusionSettings(), student)
        for keys in ({}, {"licence": MOTORWAY})
    )
    assert load_student(KEPT)[1].licences is None  # an early version wrote it
    assert plain.licences == not_stated("a teacher of kind checkpoint")
    assert stated.licences == FREE
    assert stated.key == plain.key  # what was kept of the teacher stays valid


def test_a_checkpoint_notes_the_licences_of_frames_teachers_and_start() -> None:
    recipe = parse_recipe(
        f"""
        {{name: x, size: n, initial_weights: {KEPT}, licences: [{{of: start, terms: MIT, use: any}}],
          data: {{train: [{{kind: camvid, folder: x}}, {{kind: kitti, folder: x, share: 0}}]}},
          distillation: {{terms: [{{kind: temperature_kl}}], teachers: [
            {{kind: checkpoint, path: {KEPT}, licence: {{of: teacher, terms: Apache-2.0, use: any}}}}]}}}}
        """
    )
    content: dict[str, Any] = {}
    StudentTraining(recipe, 1, "").on_save_checkpoint(content)
    noted = content["ros_kd_perception"]["licences"]
    assert list(noted) == ["CamVid", "start", "teacher", f"the weights {KEPT.name}"]
    assert use_of(noted) == "research only, because of CamVid"
    resumed = StudentTraining(recipe.replace(initial_weights=""), 1, "")
    resumed.on_load_checkpoint(content)
    again: dict[str, Any] = {}
    resumed.on_save_checkpoint(again)
    assert again["ros_kd_perception"]["licences"] == noted


def test_a_use_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"licence.use must be one of any, research, got 'commercial'"):
        source_of("unlabeled", {"folder": Path("x"), "licence": MOTORWAY | {"use": "commercial"}})
