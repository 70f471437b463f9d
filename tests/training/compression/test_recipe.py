"""A chain is refused in a sentence before anything slow starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.compression.recipe import CompressionRecipe
from training.compression.training_step import check_steps, recipe_of_step
from training.config.loading import parse_settings
from training.errors import RecipeError

QUANTISE = {"kind": "quantise", "calibration": {"frames": {"kind": "unlabeled", "folder": "frames"}}}
LEARNER = """
name: recovery
size: n
epochs: 2
data: {train: [{kind: rendered, folder: frames}]}
distillation: {teacher: other.ckpt, terms: [{kind: temperature_kl}]}
"""


def chain(**changes: Any) -> dict[str, Any]:
    return {
        "name": "trial",
        "parent": "parent.ckpt",
        "steps": [{"kind": "prune"}, {"kind": "distil", "recipe": "recovery.yaml"}, QUANTISE],
        "scores": [{"name": "left out", "frames": {"kind": "rendered", "folder": "frames"}}],
        "output": "small.onnx",
    } | changes


def test_a_chain_of_all_steps_is_read() -> None:
    recipe = CompressionRecipe.checked(chain())
    assert [step.kind for step in recipe.steps] == ["prune", "distil", "quantise"]
    assert (recipe.budget.miou, recipe.budget.ap50) == (0.003, 0.003)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"steps": [QUANTISE, {"kind": "prune"}]}, "in this order and each once, got ['quantise', 'prune']"),
        ({"steps": [{"kind": "prune"}, {"kind": "prune"}]}, "each once"),
        ({"steps": []}, "steps"),
        ({"steps": [{"kind": "shrink"}]}, "shrink"),
        ({"output": "small.engine"}, "output must be an .onnx file, got small.engine"),
        ({"parent": "parent.onnx"}, "prune and distil of a chain needs weights that can be trained on"),
        ({"name": "../trial"}, "name becomes a folder"),
        ({"scores": []}, "scores"),
        ({"budget": {"miou": 2.0}}, "budget.miou"),
        ({"scores": [{"name": "a", "frames": {"kind": "unlabeled", "folder": "x"}}]}, "a has none"),
        ({"steps": [{"kind": "prune", "importance": "taylor"}]}, "taylor needs frames with labels"),
        ({"steps": [{"kind": "quantise"}]}, "form cpu needs calibration"),
        ({"steps": [{**QUANTISE, "form": "fp16"}]}, "calibration has no effect"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_key(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        CompressionRecipe.checked(chain(**changes))
    assert expected in str(refusal.value)


def test_an_exported_file_can_be_quantised_without_weights() -> None:
    assert CompressionRecipe.checked(chain(parent="parent.onnx", steps=[QUANTISE])).parent == Path("parent.onnx")


def test_the_chain_sets_start_teacher_and_folder_of_a_step_that_trains(tmp_path: Path) -> None:
    (tmp_path / "recovery.yaml").write_text(LEARNER)
    recipe = recipe_of_step(
        tmp_path / "recovery.yaml",
        ["epochs=3"],
        Path("pruned, cut.safetensors"),
        Path("parent.ckpt"),
        tmp_path / "step",
    )
    assert recipe.starts == ("pruned, cut.safetensors",)
    assert recipe.distillation is not None
    assert (recipe.distillation.teacher, recipe.epochs) == ("parent.ckpt", 3)
    assert recipe.output / recipe.name == tmp_path / "step" / "run"


def test_teachers_of_the_recipe_stay_the_teachers(tmp_path: Path) -> None:
    teachers = "distillation: {teachers: [{kind: checkpoint, path: big.ckpt}], terms: [{kind: temperature_kl}]}"
    (tmp_path / "recovery.yaml").write_text(LEARNER.replace(LEARNER.splitlines()[-1], teachers))
    recipe = recipe_of_step(tmp_path / "recovery.yaml", [], Path("a"), Path("parent.ckpt"), tmp_path)
    assert recipe.distillation is not None
    assert recipe.distillation.checkpoints == ("big.ckpt",)


@pytest.mark.parametrize("text", ["name: a\ndata: {}\n", "- a\n", "distillation: 3\n", "a: [\n"])
def test_a_step_that_trains_needs_something_to_learn_from_the_parent(tmp_path: Path, text: str) -> None:
    (tmp_path / "recovery.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"recovery\.yaml: expected a"):
        recipe_of_step(tmp_path / "recovery.yaml", [], Path("a"), Path("b"), tmp_path)


def test_a_recipe_for_8_bits_belongs_to_the_step_quantise(tmp_path: Path) -> None:
    (tmp_path / "recovery.yaml").write_text(LEARNER + "quantization_aware: {}\n")
    text = (
        f"{{name: a, parent: a.ckpt, output: {tmp_path}/a.onnx, steps: [{{kind: distil, recipe: "
        f"{tmp_path}/recovery.yaml}}], scores: [{{name: a, frames: {{kind: rendered, folder: x}}}}]}}"
    )
    with pytest.raises(RecipeError, match="expected a recipe without quantization_aware for the step distil"):
        check_steps(parse_settings(text, CompressionRecipe))
