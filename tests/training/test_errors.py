"""Test that a failed write ends every command with one sentence that names the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from training import __main__ as command_line
from training.data.data_set_root import check_folder
from training.errors import CheckpointError, DataError, sentence_about, writing_to
from training.evaluation import command as evaluate_command
from training.whole_files import write_text


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # like the error of `write`, which has no file name


def test_full_disk_while_figures_are_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, content: bytes) -> int:
        path.touch()
        raise no_space()

    def write_figures(arguments: object) -> int:
        write_text(tmp_path / "figures.json", "{}")
        return 0

    monkeypatch.setattr(Path, "write_bytes", fill)
    monkeypatch.setattr(evaluate_command, "run", write_figures)
    assert command_line.main(["evaluate", "model.onnx", "folder"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/figures.json: expected to read or write it, got: No space left")
    assert "make room" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_innermost_file_name_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, writing_to(tmp_path / "run"), writing_to(tmp_path / "log"):
        raise no_space()
    assert caught.value.filename == str(tmp_path / "log")


@pytest.mark.parametrize("error", [ConnectionResetError(errno.ECONNRESET, "reset"), OSError("no number")])
def test_an_error_that_is_not_about_a_file_keeps_its_traceback(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: object) -> int:
        raise error

    assert sentence_about(error) is None
    monkeypatch.setattr(evaluate_command, "run", broken)
    with pytest.raises(type(error)):
        command_line.main(["evaluate", "model.onnx", "folder"])


def test_an_interrupt_while_a_command_is_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line.importlib, "import_module", interrupted)
    assert command_line.main(["train", "recipe.yaml"]) == 130


def test_a_relative_path_is_looked_for_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe that is used in another folder than the checkout names paths that are not there."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"there is no such file below the working directory {tmp_path};"):
        CheckpointError.check_file(Path("models/x.ckpt"))
    with pytest.raises(CheckpointError, match="there is no such file; python"):
        CheckpointError.check_file(tmp_path / "x.ckpt")
    with pytest.raises(DataError, match=f"there is nothing below the working directory {tmp_path}; correct the path"):
        check_folder(Path("frames"))


def test_a_checkpoint_that_cannot_be_read_says_why() -> None:
    with pytest.raises(CheckpointError, match=r"mem: expected a checkpoint, it cannot be read: .+; check its perm"):
        CheckpointError.check_beginning(Path("/proc/self/mem"))  # permissions do not bind root, who may run the tests
