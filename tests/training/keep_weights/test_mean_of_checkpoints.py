"""`keep-weights` of several checkpoints: the mean of their weights, with the origin of all, and clear refusals."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from training.__main__ import main
from training.checkpoint import CheckpointInfo, digest_of_weights, load_student
from training.export.provenance import provenance
from training.label_sets.loading import load_label_set
from training.networks.student import Student, build_student
from training.weights_file import write_weights

CAMVID = load_label_set("camvid11")


def network(seed: int, size: str = "n") -> Student:
    torch.manual_seed(seed)
    student = build_student(size, len(CAMVID.segmentation), len(CAMVID.detection))
    for name, value in student.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_()
    return student


def info(name: str, **changes: object) -> CheckpointInfo:
    notes = CheckpointInfo(
        "n", f"name: {name}", name, f"frames+{name}", 3, "", {"miou": 0.5}, f"teacher of {name}",
        label_set=CAMVID.model_dump(mode="json"), licences={name: {"terms": "MIT", "use": "any"}},
        confidence={"thresholds": {"car": 0.4}, "coverage": 0.9}, pretrained_share=0.2,
    )  # fmt: skip
    return replace(notes, **changes)  # type: ignore[arg-type]


def write(folder: Path, name: str, student: Student, notes: CheckpointInfo | None = None) -> Path:
    path = folder / f"{name}.safetensors"
    write_weights(path, student.state_dict(), asdict(notes or info(name)), digest_of_weights(student))
    return path


def test_the_mean_is_kept_with_the_origin_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write(tmp_path, name, network(seed)) for seed, name in enumerate(("day", "dusk", "night"))]
    states = [load_student(path)[0].state_dict() for path in paths]
    output = tmp_path / "mean.safetensors"
    assert main(["keep-weights", *map(str, paths), "-o", str(output)]) == 0
    assert "the mean of 3 checkpoints" in capsys.readouterr().out
    student, found = load_student(output)
    moved = 0
    for name, value in student.state_dict().items():
        if not value.is_floating_point():
            continue
        mean = (states[0][name] + states[1][name] + states[2][name]) / 3
        torch.testing.assert_close(value, mean, rtol=1e-3, atol=1e-6, msg=name)
        moved += not torch.equal(value, states[0][name])
    assert moved > 100
    assert found.mean_of == tuple(digest_of_weights(load_student(path)[0]) for path in paths)
    assert found.data_sha256 == "frames+day+dusk+night"
    assert found.taught_by == "teacher of day+teacher of dusk+teacher of night"
    assert found.licences is not None
    assert list(found.licences) == ["day", "dusk", "night"]
    assert (found.recipe, found.metrics, found.confidence, found.pretrained_share) == ("name: day", {}, None, 0.0)
    assert provenance(found)["mean_of_sha256"] == list(found.mean_of)
    assert "mean_of_sha256" not in provenance(info("day"))


def test_early_notes_state_no_licence_for_the_mean(tmp_path: Path) -> None:
    paths = [write(tmp_path, "old", network(0), info("old", licences=None)), write(tmp_path, "new", network(1))]
    assert main(["keep-weights", *map(str, paths), "-o", str(tmp_path / "mean.safetensors")]) == 0
    found = load_student(tmp_path / "mean.safetensors")[1].licences
    assert found is not None
    assert found["the weights old.safetensors"]["terms"] == "not stated"
    assert found["new"]["terms"] == "MIT"


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (lambda folder: write(folder, "again", network(0)), "expected other weights than in"),
        (lambda folder: write(folder, "m", network(1, "s"), info("m", size="s")), "weights of the same shapes as in"),
        (
            lambda folder: write(
                folder,
                "masks",
                build_student("n", len(CAMVID.segmentation), 0),
                info("masks", label_set=load_label_set("camvid11_masks").model_dump(mode="json")),
            ),
            "expected the label set of",
        ),
        (
            lambda folder: write(folder, "pruned", network(1), info("pruned", channels={"x": [[1], [1]]})),
            "its notes do not fit a pruned student",
        ),
    ],
    ids=["the same weights", "another size", "other classes", "damaged notes"],
)
def test_a_mean_that_makes_no_sense_is_refused(
    other: object, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(tmp_path, "first", network(0))
    second = other(tmp_path)  # type: ignore[operator]
    output = tmp_path / "mean.safetensors"
    assert main(["keep-weights", str(first), str(second), "-o", str(output)]) == 2
    said = capsys.readouterr().err
    assert f"{second}: " in said
    assert sentence in said
    assert not output.exists()
