"""Test the types of command-line arguments, and that every command uses them."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from ros_kd_perception import compare_bags, compare_replay, describe_model, model_signature, replay
from ros_kd_perception.system.command_arguments import MAX_THREADS, path_argument, whole_number


def test_an_empty_path_is_not_the_working_directory() -> None:
    assert path_argument("a b/ä.mcap") == Path("a b/ä.mcap")
    for text in ("", " "):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a path, got an empty text; name a file"):
            path_argument(text)


def test_whole_numbers_have_limits() -> None:
    assert whole_number(0, 3)("3") == 3
    for text in ("-1", "4", "1.0", "", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"expected a whole number from 0 to 3, got {text!r}"):
            whole_number(0, 3)(text)


@pytest.mark.parametrize("folder", ["ros_kd_perception", "training"])
def test_no_command_takes_an_empty_text_for_a_path(folder: str) -> None:
    plain = [path for path in (ROOT / folder).rglob("*.py") if re.search(r"type=Path\b", path.read_text("utf-8"))]
    assert plain == [], "use path_argument"


@pytest.mark.parametrize(
    ("parse", "arguments"),
    [
        (replay.parse_arguments, ["", "-o", "out.mcap"]),
        (replay.parse_arguments, ["in.mcap", "-o", ""]),
        (compare_replay.parse_arguments, ["", "-o", "out"]),
        (compare_bags.parse_arguments, ["a.mcap", "", "-o", "out"]),
        (describe_model.parse_arguments, [""]),
        (model_signature.parse_arguments, ["keys", ""]),
    ],
)
def test_commands_refuse_an_empty_path(parse, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2
    assert "expected a path, got an empty text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parse", "arguments"),
    [
        (replay.parse_arguments, ["in.mcap", "-o", "out.mcap"]),
        (describe_model.parse_arguments, ["model.onnx", "--run"]),
    ],
)
def test_more_threads_than_any_machine_runs_are_refused(
    parse, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime would start each of a million threads, which takes minutes and cannot be interrupted."""
    assert parse([*arguments, "--threads", str(MAX_THREADS)]).threads == MAX_THREADS
    for threads in ("1000000", "-1", "all"):
        with pytest.raises(SystemExit) as stop:
            parse([*arguments, "--threads", threads])
        assert stop.value.code == 2
        assert f"expected a whole number from 0 to {MAX_THREADS}, got '{threads}'" in capsys.readouterr().err


def test_training_commands_refuse_an_empty_path() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training", "train", ""],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "expected a path, got an empty text" in done.stderr
