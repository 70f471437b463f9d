"""Test the metrics against plain computation, and the command on a checkpoint and on its export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from checkout import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ros_kd_perception.structures import Detections
from training.__main__ import main
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import BY_KIND
from training.data.readers.rendered import RenderedSource
from training.data.readers.source import Source
from training.data.sample import Sample
from training.evaluation.metrics import DetectionMetrics, SegmentationMetrics
from training.label_sets.label_set import LabelSet
from training.label_sets.mapping import LabelMapping
from training.recipe import load_recipe
from training.run.train import train

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(1, 5))
def test_iou_equals_a_plain_count(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    metrics = SegmentationMetrics(classes)
    frames = []
    for _ in range(2):
        truth = rng.choice([*range(classes), 255], size=(7, 9)).astype(np.uint8)
        predicted = rng.choice([*range(classes), 200], size=(7, 9)).astype(np.uint8)
        metrics.update(predicted, truth)
        frames.append((predicted[truth != 255], truth[truth != 255]))
    predicted, truth = (np.concatenate(parts) for parts in zip(*frames, strict=True))
    for label, value in enumerate(metrics.iou()):
        union = ((predicted == label) | (truth == label)).sum()
        both = ((predicted == label) & (truth == label)).sum()
        assert np.isnan(value) if union == 0 else value == pytest.approx(both / union)
    if len(truth):
        assert metrics.pixel_accuracy() == pytest.approx((predicted == truth).mean())


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be scored"):
        SegmentationMetrics(3).update(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


def truth(*boxes: tuple[float, float, float, float]) -> Sample:
    image, mask = np.zeros((200, 200, 3), np.uint8), np.full((200, 200), 255, np.uint8)
    return Sample("a", image, mask, np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64))


def test_perfect_boxes_score_one_and_shifted_ones_only_at_low_overlap() -> None:
    perfect, shifted = DetectionMetrics(["car", "sign"]), DetectionMetrics(["car", "sign"])
    perfect.update(detections((0, 0, 40, 40, 0.9, 0)), truth((0, 0, 40, 40)), score_threshold=0.3)
    # IoU 30 / 50 = 0.6: a hit at the thresholds 0.5, 0.55 and 0.6 of ten.
    shifted.update(detections((10, 0, 50, 40, 0.9, 0)), truth((0, 0, 40, 40)), score_threshold=0.3)
    assert perfect.results()["per_class"]["car"] == {"ap": pytest.approx(1), "ap50": pytest.approx(1), "boxes": 1}
    assert perfect.results()["per_class"]["sign"] == {"ap": None, "ap50": None, "boxes": 0}
    assert perfect.results()["ap"] == pytest.approx(1)
    assert shifted.results()["per_class"]["car"]["ap50"] == pytest.approx(1)
    assert shifted.results()["per_class"]["car"]["ap"] == pytest.approx(0.3)


def test_a_missed_box_halves_the_score_and_a_false_box_above_a_hit_costs_precision() -> None:
    metrics = DetectionMetrics(["car"])
    metrics.update(detections((0, 0, 40, 40, 0.9, 0)), truth((0, 0, 40, 40), (60, 0, 90, 40)), score_threshold=0.3)
    assert metrics.results()["ap50"] == pytest.approx(0.5, abs=0.01)
    metrics = DetectionMetrics(["car"])
    found = detections((100, 100, 140, 140, 0.95, 0), (0, 0, 40, 40, 0.9, 0))
    metrics.update(found, truth((0, 0, 40, 40)), score_threshold=0.3)
    assert metrics.results()["ap50"] == pytest.approx(0.5, abs=0.01)


def test_no_detections_and_no_objects() -> None:
    metrics = DetectionMetrics(["car"])
    assert metrics.results()["ap"] is None
    metrics.update(detections(), truth((0, 0, 40, 40)), score_threshold=0.3)
    assert metrics.results()["ap"] == 0
    metrics = DetectionMetrics(["car"])
    metrics.update(detections((0, 0, 9, 9, 0.9, 0)), truth(), score_threshold=0.3)
    assert metrics.results()["ap"] is None


def test_duplicates_are_same_class_pairs_above_the_threshold() -> None:
    metrics = DetectionMetrics(["car", "sign"])
    found = detections(
        (0, 0, 40, 40, 0.9, 0),
        (1, 0, 41, 40, 0.8, 0),  # repeats the first
        (80, 0, 120, 40, 0.7, 0),
        (0, 0, 40, 40, 0.6, 1),  # another class
        (2, 0, 42, 40, 0.2, 0),  # below the threshold
    )
    metrics.update(found, truth(), score_threshold=0.3)
    results = metrics.results()
    assert results["detections"] == 4
    assert results["duplicate_pair_share"] == pytest.approx(1 / 3)
    assert results["duplicate_detection_share"] == pytest.approx(1 / 4)


@pytest.fixture(scope="module")
def checkpoint(rendered_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = [f"data.train.0.folder={rendered_samples}", f"output={tmp_path_factory.mktemp('runs')}", "epochs=1"]
    overrides += ["validation.segmentation=null", "validation.detection=null", "size=n"]
    return train(load_recipe(RECIPE, overrides), accelerator="cpu") / "checkpoints" / "last.ckpt"


def test_checkpoint_and_its_export_score_the_same(
    checkpoint: Path, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "student.onnx"
    size = ["--height", "128", "--width", "192"]
    assert main(["export", str(checkpoint), "-o", str(exported), *size, "--max-detections", "50"]) == 0
    results = []
    for number, model in enumerate((checkpoint, exported)):
        outputs = ["--json", str(tmp_path / f"{number}.json"), "--pictures", str(tmp_path / f"pictures{number}")]
        assert main(["evaluate", str(model), str(rendered_samples), *size, *outputs]) == 0
        results.append(json.loads((tmp_path / f"{number}.json").read_text()))
    ours, theirs = results
    assert theirs["miou"] == pytest.approx(ours["miou"], abs=1e-4)
    assert theirs["multiply_accumulates"] == ours["multiply_accumulates"]
    # The export folds more than the fused student does, so it may have slightly fewer parameters.
    assert theirs["parameters"] == pytest.approx(ours["parameters"], rel=0.01)
    assert ours["frames"] == 8
    pictures = sorted((tmp_path / "pictures1").iterdir())
    assert len(pictures) == 8
    assert cv2.imread(str(pictures[0])).shape == (128, 2 * 192 + 4, 3)
    assert "mIoU" in capsys.readouterr().out


def test_palette_masks_score_like_plain_ones(checkpoint: Path, rendered_samples: Path, tmp_path: Path) -> None:
    palettes = tmp_path / "palettes"
    shutil.copytree(rendered_samples, palettes)
    for path in (palettes / "masks").iterdir():
        mask = Image.fromarray(np.asarray(Image.open(path))).convert("P")
        mask.putpalette([(37 * value) % 256 for value in range(3 * 256)])
        mask.save(path)
    results = []
    for number, folder in enumerate((rendered_samples, palettes)):
        words = ["--height", "128", "--width", "192", "--threads", "1", "--json", str(tmp_path / f"{number}.json")]
        assert main(["evaluate", str(checkpoint), str(folder), *words]) == 0
        results.append(json.loads((tmp_path / f"{number}.json").read_text()))
    plain, palette = results
    assert palette["iou"] == plain["iou"]


class Scenes(Source):
    """A kind without drives."""

    kind: Literal["scenes"] = "scenes"
    """Rendered frames."""

    def _rendered(self) -> RenderedSource:
        return RenderedSource(folder=self.folder, limit=self.limit)

    def mapping_to(self, student: LabelSet | None, where: str = "") -> LabelMapping:
        return self._rendered().mapping_to(student, where)

    def open(self, mapping: LabelMapping) -> FrameFolder:
        return self._rendered().open(mapping)


def test_a_kind_without_drives_is_scored(
    checkpoint: Path, rendered_samples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BY_KIND, "scenes", Scenes)
    monkeypatch.setattr("training.evaluation.source_arguments.recognize", lambda folder, otherwise: "scenes")
    words = ["evaluate", str(checkpoint), str(rendered_samples), "--height", "128", "--width", "192", "--limit", "2"]
    assert main(words) == 0
    assert main([*words, "--include-drives", "0"]) == 2
    assert "include_drives" in capsys.readouterr().err


def test_wrong_model_or_folder_is_refused_in_a_sentence(
    checkpoint: Path, rendered_samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    for words in (
        [str(tmp_path / "broken.onnx"), str(rendered_samples)],
        [str(tmp_path / "none.ckpt"), str(rendered_samples)],
        [str(checkpoint), str(tmp_path / "nowhere")],
    ):
        assert main(["evaluate", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert "Traceback" not in error
