"""A region of interest: the network sees the cropped frame, and its results come back in their place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_student import CONTRACT, contract_with, write_tiny_model

from ros_kd_perception.model.contract import InputSpec
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.structures import WHOLE_IMAGE, BadFrame, Frame, RegionOfInterest

UNLABELED = 255


@st.composite
def pictures_and_regions(draw: st.DrawFn) -> tuple[np.ndarray, RegionOfInterest]:
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    region = RegionOfInterest(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))
    picture = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return picture, region


@pytest.fixture(scope="module", params=["letterbox", "stretch"])
def perceiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Perceiver:
    contract = contract_with(input=InputSpec(64, 96, channels="rgb", resize=request.param))
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", contract)
    # Memory of the class maps that already holds a class, as it does when it is used again.
    return Perceiver(
        OnnxModel.open(path, device="cpu"), new_class_map=lambda rows, columns: np.full((rows, columns), 7, np.uint8)
    )


def frame(picture: np.ndarray, camera: str = "front") -> Frame:
    return Frame(camera, 123, "front_optical", picture)


@given(pictures_and_regions())
@settings(deadline=None, max_examples=60)
def test_a_region_gives_what_the_cropped_frame_gives_in_its_place(
    perceiver: Perceiver, sample: tuple[np.ndarray, RegionOfInterest]
) -> None:
    picture, region = sample
    perceiver.regions = {}
    crop = picture[region.y : region.y + region.height, region.x : region.x + region.width]
    [expected] = perceiver.perceive([frame(np.ascontiguousarray(crop))])

    perceiver.regions = {"front": region}
    [found] = perceiver.perceive([frame(picture)])

    mask = found.require_class_map()
    outside = np.ones(mask.shape, bool)
    outside[region.y : region.y + region.height, region.x : region.x + region.width] = False
    assert mask.shape == picture.shape[:2]
    assert mask.flags.c_contiguous
    assert (mask[outside] == UNLABELED).all()
    assert np.array_equal(mask[~outside].reshape(crop.shape[:2]), expected.require_class_map())
    boxes, seen = found.require_detections(), expected.require_detections()
    assert np.array_equal(boxes.boxes_xyxy, seen.boxes_xyxy + np.float32([region.x, region.y, region.x, region.y]))
    assert np.array_equal(boxes.scores, seen.scores)
    assert np.array_equal(boxes.labels, seen.labels)
    assert found.uncertainty is not None
    assert np.array_equal(found.uncertainty, expected.uncertainty)


@given(pictures_and_regions())
@settings(deadline=None, max_examples=30)
def test_frame_and_results_cropped_to_the_region_are_those_of_the_cropped_frame(
    perceiver: Perceiver, sample: tuple[np.ndarray, RegionOfInterest]
) -> None:
    picture, region = sample
    perceiver.regions = {"front": region}
    [found] = perceiver.perceive([frame(picture)])

    cropped = frame(picture).cropped(region)
    perceiver.regions = {}
    [expected] = perceiver.perceive([cropped])

    assert np.array_equal(found.cropped(region).require_class_map(), expected.require_class_map())
    # Adding and subtracting the origin may round the last bit.
    boxes = found.cropped(region).require_detections().boxes_xyxy
    assert np.allclose(boxes, expected.require_detections().boxes_xyxy, atol=1e-4)


def test_each_camera_has_its_own_region_and_the_others_see_the_whole_image(perceiver: Perceiver) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    perceiver.regions = {"front": RegionOfInterest(8, 0, 80, 40), "left": WHOLE_IMAGE}
    front, left, rear = perceiver.perceive([frame(picture, camera) for camera in ("front", "left", "rear")])
    assert (front.require_class_map()[40:] == UNLABELED).all()
    assert not (left.require_class_map() == UNLABELED).any()
    assert np.array_equal(left.require_class_map(), rear.require_class_map())


@pytest.mark.parametrize("region", [RegionOfInterest(0, 0, 97, 1), RegionOfInterest(90, 10, 10, 10)])
def test_a_frame_that_does_not_hold_the_region_is_refused(perceiver: Perceiver, region: RegionOfInterest) -> None:
    perceiver.regions = {"front": region}
    with pytest.raises(BadFrame, match=r"expected images of front that hold .* got 96x64; change front\.region") as bad:
        perceiver.prepare(frame(np.zeros((64, 96, 3), np.uint8)))
    assert bad.value.reason == "bad_size"


def test_a_frame_that_is_prepared_again_for_the_next_model_keeps_its_region(
    perceiver: Perceiver, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = write_tiny_model(tmp_path_factory.mktemp("next") / "bgr.onnx", CONTRACT)
    after = Perceiver(OnnxModel.open(other, device="cpu"))
    picture = np.random.default_rng(2).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    perceiver.regions = {"front": RegionOfInterest(10, 20, 60, 40)}

    [found] = after.perceive_prepared([perceiver.prepare(frame(picture))])

    after.regions = perceiver.regions
    [expected] = after.perceive([frame(picture)])
    assert np.array_equal(found.require_class_map(), expected.require_class_map())


def test_outside_of_the_region_the_mask_holds_the_unlabeled_id_of_the_contract(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    contract = contract_with(class_map=replace(CONTRACT.class_map, unlabeled_id=200))
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "id.onnx", contract)
    perceiver = Perceiver(OnnxModel.open(path, device="cpu"))
    perceiver.regions = {"front": RegionOfInterest(10, 10, 20, 20)}
    mask = perceiver.perceive([frame(np.zeros((64, 96, 3), np.uint8))])[0].require_class_map()
    assert (mask[0, 0], mask[15, 15]) == (200, 0)


@pytest.mark.parametrize("numbers", [(-1, 0, 5, 5), (0, 0, 5, 0), (0, 0, 0, 5), (3, 0, 0, 0), (0, 0, -5, 5)])
def test_a_rectangle_without_pixels_is_no_region(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected a region of interest"):
        RegionOfInterest(*numbers)
