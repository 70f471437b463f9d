"""A finished step is not done again, unless something that it depends on has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.compression.kept_stage import DONE, kept_stage, key_of
from training.compression.stage import Stage


class Step:
    """Counts how often it is done."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def __call__(self) -> Stage:
        self.count += 1
        self.folder.mkdir(exist_ok=True)
        (self.folder / "student.onnx").write_bytes(b"file")
        return Stage("prune", None, self.folder / "student.onnx", ("cut",), "abc", {"What was cut": "all"})


def test_a_finished_step_is_read_back_whole(tmp_path: Path) -> None:
    step = Step(tmp_path / "1_prune")
    made = kept_stage(step.folder, "key", step)
    assert kept_stage(step.folder, "key", step) == made
    assert step.count == 1


@pytest.mark.parametrize("damage", ["another key", "no file", "half a note", "no note"])
def test_a_step_is_done_again_if_it_cannot_be_trusted(tmp_path: Path, damage: str) -> None:
    step = Step(tmp_path / "1_prune")
    kept_stage(step.folder, "key", step)
    if damage == "no file":
        (step.folder / "student.onnx").unlink()
    elif damage == "half a note":
        (step.folder / DONE).write_text('{"key": "key", "stage": {')
    elif damage == "no note":
        (step.folder / DONE).unlink()
    kept_stage(step.folder, "other" if damage == "another key" else "key", step)
    assert step.count == 2


def test_an_interrupted_step_of_other_settings_leaves_no_finished_one(tmp_path: Path) -> None:
    step = Step(tmp_path / "1_prune")
    kept_stage(step.folder, "key", step)

    def interrupted() -> Stage:
        (step.folder / "student.onnx").write_bytes(b"of other settings")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_stage(step.folder, "other", interrupted)
    made = kept_stage(step.folder, "key", step)
    assert made.file.read_bytes() == b"file"
    assert step.count == 2


def test_the_key_follows_settings_and_content(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"1")
    other.write_bytes(b"1")
    key = key_of({"share": 0.5}, one, None)
    assert key == key_of({"share": 0.5}, other)
    other.write_bytes(b"2")
    assert len({key, key_of({"share": 0.5}, other), key_of({"share": 0.6}, one)}) == 3
