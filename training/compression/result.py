"""Write the result of a chain, with the proof inside: what it was made from, by which steps, and what it lost."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import onnx

from ros_kd_perception.model.contract import CONTRACT_KEY, ModelContract
from ros_kd_perception.model.golden import GOLDEN_KEY, golden_from_text
from ros_kd_perception.model.onnx_file import read_model_file
from training.compression.figures import Row
from training.compression.losses import agreement_of, losses_of
from training.compression.recipe import CompressionRecipe
from training.compression.stage import Stage
from training.export.derived_file import derived_section, write_derived_file


def write_result(recipe: CompressionRecipe, stage: Stage, row: Row) -> None:
    """Write the file of the last step as the result of a chain.

    Args:
        recipe: The chain.
        stage: What is there after its last step.
        row: What was measured of it.

    Raises:
        ModelError: The file cannot be opened.
    """
    file = read_model_file(stage.file)
    contract = ModelContract.from_json(file.metadata[CONTRACT_KEY])
    golden = golden_from_text(file.metadata[GOLDEN_KEY], contract)
    parent_sha256 = hashlib.sha256(recipe.parent.read_bytes()).hexdigest()
    derived = derived_section(parent_sha256, recipe.parent.name, stage.said, stage.data_sha256, **_measured(row))
    contract = replace(
        contract,
        name=recipe.student_name or contract.name,
        version=recipe.version or contract.version,
        derived=derived,
        metrics=_metrics(row),
    )
    graph = onnx.ModelProto.FromString(file.content)
    write_derived_file(graph, recipe.output, contract, [frame.image for frame in golden])


def _measured(row: Row) -> dict[str, Any]:
    """Return the measured part of the section `derived`. A metric on further frames has their name in its key."""
    loss: dict[str, float] = {}
    parent: dict[str, float] = {}
    frames: dict[str, str] = {}
    for each in losses_of(row):
        key = each.metric if each.metric not in loss else f"{each.metric} on {each.frames}"
        loss[key], parent[key], frames[key] = round(each.change, 6), round(each.parent, 6), each.frames
    agreement = agreement_of(row)
    shared = {} if agreement is None else {"agreement": round(agreement, 6)}
    return {"loss": loss, "parent": parent, "frames": frames, **shared}


def _metrics(row: Row) -> dict[str, Any]:
    """Return the figures of the file itself, by the name of the frames."""
    return {
        name: {metric: figure.value for metric, figure in scores.means.items()} for name, scores in row.scores.items()
    }
