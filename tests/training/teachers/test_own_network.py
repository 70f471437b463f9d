"""A network of ours as a teacher: its boxes have the scores that its file gives on a vehicle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from training.checkpoint import CheckpointInfo, digest_of_weights, load_student
from training.label_sets.loading import load_label_set
from training.label_sets.score_scales import score_scales_of
from training.networks.deployed import DeployedStudent
from training.networks.student import build_student
from training.teachers.own_network import SCORE_MIN, OwnNetwork
from training.weights_file import write_weights

CLASSES = load_label_set("camvid11")
CONFIDENCE = {"box_scores": {"car": {"scale": 2.0, "shift": 1.5}, "sign": {"scale": 0.5, "shift": -0.5}}}
HEIGHT, WIDTH = 96, 128


def kept_weights(folder: Path, confidence: dict[str, Any] | None) -> Path:
    torch.manual_seed(3)
    student = build_student("n", len(CLASSES.segmentation), len(CLASSES.detection))
    info = CheckpointInfo("n", "", "", "", 1, "", {}, label_set=CLASSES.model_dump(mode="json"), confidence=confidence)
    write_weights(folder / "kept.safetensors", student.state_dict(), asdict(info), digest_of_weights(student))
    return folder / "kept.safetensors"


def test_a_calibrated_teacher_gives_the_scores_of_its_file(tmp_path: Path) -> None:
    torch.manual_seed(5)
    images = torch.randint(0, 256, (2, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    path = kept_weights(tmp_path, CONFIDENCE)
    deployed = DeployedStudent(load_student(path)[0], HEIGHT, WIDTH, 100, score_scales_of(CONFIDENCE, CLASSES))
    names = deployed.output_names
    with torch.no_grad():
        expected = dict(zip(names, deployed(images.permute(0, 2, 3, 1)), strict=True))

    seen = OwnNetwork.load(path)(images).boxes

    assert seen is not None
    for boxes, xyxy, scores, labels in zip(seen, *(expected[n] for n in ("boxes", "scores", "labels")), strict=True):
        has_area = (xyxy[:, 2:] > xyxy[:, :2]).all(dim=1)  # a teacher leaves the others out
        kept = (scores >= SCORE_MIN) & has_area
        count = int(kept.sum())
        assert count > 10
        torch.testing.assert_close(boxes.scores[:count], scores[kept], rtol=1e-3, atol=1e-4)
        assert set(boxes.ids[:count].tolist()) == set(labels[kept].tolist())


def test_scales_of_scores_are_part_of_what_a_teacher_is(tmp_path: Path) -> None:
    def sha256_with(confidence: dict[str, Any] | None) -> str:
        return OwnNetwork.load(kept_weights(tmp_path, confidence)).sha256

    plain = digest_of_weights(load_student(kept_weights(tmp_path, None))[0])
    assert sha256_with(None) == sha256_with({"coverage": 0.9}) == plain  # so answers that were kept stay valid
    assert sha256_with(CONFIDENCE) != plain
