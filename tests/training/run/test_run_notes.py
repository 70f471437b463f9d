"""Test what a run leaves behind for a reader: environment.json, and curves.png from its logs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smoke_runs import StopAfter, smoke

from training.checkpoint import read_checkpoint
from training.errors import DataError
from training.run.curves import SMOOTHED_STEPS, _smoothed, picture_of, read_curves
from training.run.environment import read_starts
from training.run.train import train


def test_every_start_of_a_run_is_noted_and_its_curves_are_drawn(rendered_samples: Path, tmp_path: Path) -> None:
    recipe = smoke(rendered_samples, tmp_path, "size=n", "epochs=2")
    with pytest.raises(RuntimeError, match="stopped by the test"):
        train(recipe, accelerator="cpu", callbacks=(StopAfter(epoch=1, batch=1),))
    folder = tmp_path / recipe.name
    last = folder / "checkpoints" / "last.ckpt"
    (first,) = read_starts(folder)
    assert (folder / "curves.png").is_file(), "after the first epoch"

    train(recipe, resume=last, accelerator="cpu")

    starts = read_starts(folder)
    assert starts[0] == first
    assert [start["resumed_from"] for start in starts] == [None, "last.ckpt"]
    assert [start["log_version"] for start in starts] == [0, 1]
    notes = read_checkpoint(last)["ros_kd_perception"]
    for start in starts:
        assert start["recipe_sha256"] == notes["recipe_sha256"]
        assert start["data_sha256"] == notes["data_sha256"]
        assert start["git_commit"] == notes["git_commit"]
        assert start["devices"] == ["cpu"]
        assert start["packages"]["torch"]
        assert start["threads"] >= 1
    curves = read_curves(folder)
    assert {"loss", "miou"} <= set(curves)
    steps = [step for step, _ in curves["loss"]]
    assert steps == sorted(set(steps))
    picture = cv2.imread(str(folder / "curves.png"))
    assert picture is not None
    assert picture.std() > 10


def test_a_damaged_note_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for text in ("{", json.dumps({"other": 1}), "[]"):
        (tmp_path / "environment.json").write_text(text)
        with pytest.raises(DataError, match=r"expected .*environment\.json.*delete it"):
            read_starts(tmp_path)


def test_of_steps_that_come_twice_the_later_log_counts_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    for version, rows in ((2, "0,1,9.0\n0,3,8.0\n"), (10, "1,3,7.0\n1,5,nan\n1,7,\n1,9,x\n1,11,6.0\n")):
        log = tmp_path / "csv" / f"version_{version}" / "metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text(f"epoch,step,loss\n{rows}")

    assert read_curves(tmp_path) == {"loss": [(1.0, 9.0), (3.0, 7.0), (11.0, 6.0)]}
    assert read_curves(tmp_path / "nowhere") == {}


def test_the_curves_of_a_run_that_was_overwritten_are_not_drawn_into_those_of_the_new_one(tmp_path: Path) -> None:
    for version, rows in ((0, "0,1,9.0\n9,99,8.0\n"), (1, "0,1,7.0\n"), (2, "1,3,6.0\n")):
        log = tmp_path / "csv" / f"version_{version}" / "metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text(f"epoch,step,loss\n{rows}")
    (tmp_path / "environment.json").write_text(json.dumps({"starts": [{"log_version": 1}, {"log_version": 2}]}))

    assert read_curves(tmp_path) == {"loss": [(1.0, 7.0), (3.0, 6.0)]}


def test_a_loss_of_zero_and_names_of_classes_are_drawn() -> None:
    points = [(1.0, 0.0), (2.0, 1.0)]
    curves = {"loss": points, "loss/$x_{$": points, "lr-AdamW/pg1": points, "<b>_ap50": points[:1]}
    assert picture_of(curves).startswith(b"\x89PNG")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=80))
def test_a_running_mean_is_that_of_the_last_steps(values: list[float]) -> None:
    found = _smoothed(values)
    for place in range(len(values)):
        part = values[max(0, place + 1 - SMOOTHED_STEPS) : place + 1]
        assert found[place] == pytest.approx(sum(part) / len(part), abs=1e-6)
