"""The frames of a contact sheet: the extremes, the rarest classes, and the same picture in another file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.inspection.choice import choose_frames
from training.inspection.duplicates import drive_of, pairs_of, shared_drives
from training.inspection.facts import GRID_PX, FrameFacts
from training.inspection.figures import Figures
from training.label_sets.loading import load_label_set
from training.label_sets.mapping import LabelMapping

SET = load_label_set("camvid11")
MAPPING = LabelMapping.between(SET, SET)
ROAD, POLE = 3, 2


def facts(
    name: str = "frame",
    place: int = 0,
    brightness: float = 0.5,
    pixels: dict[int, int] | None = None,
    boxes: tuple[tuple[float, float, float, float], ...] = (),
    seed: int = 0,
) -> FrameFacts:
    random = np.random.default_rng(seed)
    return FrameFacts(
        path=Path(f"{name}.jpg"),
        place=place,
        height=100,
        width=100,
        brightness=brightness,
        pixels=pixels or {ROAD: 10_000},
        has_mask=True,
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.zeros(len(boxes), np.int64),
        has_boxes=True,
        ignored=0,
        sha256=str(seed).encode(),
        tiny=random.integers(0, 256, (GRID_PX, GRID_PX + 1), np.uint8),
    )


def test_extremes_and_rare_classes_are_chosen_with_their_reasons():
    frames = [facts(place=place, brightness=0.5, seed=place) for place in range(60)]
    frames[7] = facts(place=7, brightness=0.01)
    frames[23] = facts(place=23, brightness=0.99)
    frames[31] = facts(place=31, pixels={ROAD: 9_900, POLE: 100})
    frames[47] = facts(place=47, boxes=((0, 0, 90, 90), (1, 1, 5, 5)))
    chosen = choose_frames(frames, Figures.of(frames, MAPPING), 12)
    assert len(chosen) == 12
    assert chosen[7] == "darkest"
    assert chosen[23] == "brightest"
    assert "most pole" in chosen[31]
    assert all(reason in chosen[47] for reason in ("most boxes", "largest box", "smallest box", "most car boxes"))


def test_few_frames_are_all_chosen_and_none_of_none():
    frames = [facts(place=place, seed=place) for place in range(5)]
    assert sorted(choose_frames(frames, Figures.of(frames, MAPPING))) == [0, 1, 2, 3, 4]
    assert choose_frames([], Figures.of([], MAPPING)) == {}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 30), st.data())
def test_each_copy_is_found_among_other_pictures_and_nothing_else(
    train_count: int, val_count: int, data: st.DataObject
):
    training = [facts(f"train_{number}", seed=number) for number in range(train_count)]
    copied = data.draw(st.sets(st.integers(0, min(train_count, val_count) - 1)))
    validation = []
    for number in range(val_count):
        seed = number if number in copied else 1000 + number
        frame = facts(f"val_{number}", seed=seed)
        if number % 2:  # encoded once more: other bytes, nearly the same picture
            tiny = np.clip(frame.tiny.astype(int) + np.eye(GRID_PX, GRID_PX + 1, dtype=int), 0, 255).astype(np.uint8)
            frame = FrameFacts(**(vars(frame) | {"tiny": tiny, "sha256": b"other" + frame.sha256}))
        validation.append(frame)
    found = {(pair.training.stem, pair.validation.stem, pair.identical) for pair in pairs_of(training, validation)}
    assert found == {(f"train_{number}", f"val_{number}", number % 2 == 0) for number in copied}


def test_the_drive_is_what_stands_before_the_number_of_the_frame():
    names = {
        "0016E5_07961": "0016E5",
        "aachen_000000_000019_leftImg8bit": "aachen_000000",
        "000031": "",
        "frame": "",
        "drive-2-000001": "drive-2",
    }
    assert {name: drive_of(facts(name)) for name in names} == names


def test_a_drive_on_both_sides_is_counted():
    training = [facts(f"a_{number:03}") for number in range(3)] + [facts("b_001"), facts("b_002"), facts("000001")]
    validation = [facts("a_100"), facts("c_001"), facts("000002")]
    assert [(one.name, one.training, one.validation) for one in shared_drives(training, validation)] == [("a", 3, 1)]
