"""Test a disk that fills while results are written: the file is named, the one from before stays, no part is left."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from labelled_by_a_file import dim, write_frames
from tiny_student import CONTRACT, write_tiny_model

from training.__main__ import main
from training.conditions.rendered import CLEAN, render_settings

ROOM_BYTES = 1500


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let writes beyond a size fail, like those to a full disk; the error differs by its number alone.

    Python would cut a compiled module at that size without an error, and no later process could import it. So none is
    kept, here and in the processes that start.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    write_tiny_model(folder / "right.onnx", CONTRACT)
    write_tiny_model(folder / "dim.onnx", CONTRACT, dim)
    write_frames(folder / "frames", folder / "right.onnx", 5)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_evaluate_names_the_file_and_keeps_the_one_before(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    out.write_text("figures from before")
    words = [
        "evaluate",
        str(place / "dim.onnx"),
        str(place / "frames"),
        "--source",
        "check_shares=false",
        "--no-memory",
    ]

    with no_file_larger_than(ROOM_BYTES):
        assert main([*words, "--json", str(out)]) == 2
    assert f"error: {out}: expected to read or write it" in capsys.readouterr().err
    assert files(tmp_path) == {"found.json": b"figures from before"}

    pictures = tmp_path / "pictures"
    with no_file_larger_than(ROOM_BYTES):
        assert main([*words, "--pictures", str(pictures)]) == 2
    assert f"error: {pictures / '000.jpg'}: expected to read or write it" in capsys.readouterr().err
    assert files(pictures) == {}


@pytest.mark.parametrize("asked", ["", "conditions: {frames: first, limit: 2, only: [dirt], severities: [1]}"])
def test_a_report_names_the_file_and_is_whole_or_not_there(
    place: Path, tmp_path: Path, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "recipe.yaml", tmp_path / "tried"
    path.write_text(
        f"name: tried\nmodel: {place / 'right.onnx'}\nfolder: {tmp_path}\nthreads: 1\n{asked}\nframes:\n"
        f"  - {{name: first, frames: {{kind: rendered, folder: {place / 'frames'}, check_shares: false}}}}\n"
    )
    with no_file_larger_than(100):
        assert main(["report", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"error: {folder / 'kept'}/" in said
    assert ".npz: expected to read or write it" in said
    assert files(folder) == {}

    assert main(["report", str(path)]) == 0
    whole = files(folder)
    assert {"report.json", "report.html", "card.md"} <= whole.keys()
    json.loads(whole["report.json"])
    capsys.readouterr()

    with no_file_larger_than(ROOM_BYTES):
        assert main(["report", str(path)]) == 2
    assert f"error: {folder / 'report.json'}: expected to read or write it" in capsys.readouterr().err
    assert files(folder) == whole


def test_rendered_frames_are_whole_or_not_there(tmp_path: Path) -> None:
    with no_file_larger_than(ROOM_BYTES), pytest.raises(OSError, match="File too large") as raised:
        render_settings(tmp_path / "rendered", [CLEAN], 1, 0)  # worker processes inherit the limit

    assert str(raised.value.filename).endswith(("000000.jpg", "000000.png"))
    assert files(tmp_path) == {}
