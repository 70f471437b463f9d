"""Check that every command in a ```bash block of the docs names existing targets, files, options and arguments.

`test_doc_blocks` runs the blocks that can run. Other tests run the rest: test_colcon for colcon, test_launch_system for
launch files, and the tests of each command.
"""

import ast
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT
from doc_blocks import PAGES, blocks_of

# Programs of others. Any other first word must be a program of ours.
FOREIGN = {
    ".",
    "bloom-release",
    "cat",
    "cd",
    "colcon",
    "cp",
    "docker",  # test_containers.py checks its files, targets and arguments
    "export",
    "git",
    "mkdir",
    "pre-commit",
    "rerun",
    "rosdep",
    "source",
    "sudo",
    "touch",
}
# Subcommands of ros2 whose arguments are not checked: topics and nodes.
ROS2 = {"bag", "lifecycle", "node", "param", "pkg", "security", "service", "topic"}
# Packages of others that the docs launch or run.
FOREIGN_PACKAGES = {"foxglove_bridge", "perception_examples", "rviz2"}
EXECUTABLES = dict(
    re.findall(r'_run\("(\w+)", "([\w.]+)"', (ROOT / "ros_kd_perception" / "commands.py").read_text(encoding="utf-8"))
)


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and command line, with continued lines joined."""
    for page in PAGES:
        for block in blocks_of(page):
            for line in block.commands():
                for command in re.split(r"&&|;|\|", line):
                    yield block.page, command.strip()


COMMANDS = sorted(set(commands()))


@functools.cache
def help_of(*command: str) -> str:
    """Return the help text of a command of ours."""
    outcome = subprocess.run(
        [sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


@functools.cache
def launch_arguments(name: str) -> frozenset[str]:
    """Return the arguments that a launch file declares, including those of launch files that it includes."""
    text = (ROOT / "launch" / name).read_text(encoding="utf-8")
    declared = {
        ast.literal_eval(node.args[0])
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("_argument", "DeclareLaunchArgument")
        and isinstance(node.args[0], ast.Constant)
    }
    included = re.findall(r'with_name\("([\w.]+)"\)', text)
    return frozenset(declared.union(*[launch_arguments(other) for other in included]))


def check_options(words: list[str], *command: str) -> None:
    text = help_of(*command)
    for word in words:
        if word.startswith("-"):
            assert re.search(rf"(?<![\w-]){re.escape(word.partition('=')[0])}(?![\w-])", text), f"{word} is no option"


def check_ros2(words: list[str]) -> None:
    if words[:2] == ["launch", "ros_kd_perception"]:
        names = {word.partition(":=")[0] for word in words[3:] if ":=" in word}
        assert names <= launch_arguments(words[2]), f"not declared: {names - launch_arguments(words[2])}"
    elif words[:2] == ["run", "ros_kd_perception"]:
        assert words[2] in EXECUTABLES
    elif words[0] in ("launch", "run"):
        assert words[1] in FOREIGN_PACKAGES
    else:
        assert words[0] in ROS2


def check_python(words: list[str]) -> None:
    if words[:1] != ["-m"]:
        assert (ROOT / words[0]).is_file()
        check_options(words[1:], words[0])
    elif words[1] == "training":
        check_options(words[3:], "-m", "training", words[2])
        for recipe in (word for word in words if word.startswith("recipes/")):
            assert (ROOT / "training" / recipe).is_file()
    elif words[1].startswith(("ros_kd_perception", "training.")):
        check_options(words[2:], "-m", words[1])
    else:
        assert words[1] in ("pip", "venv", "colcon", "pytest")
        for path in (word for word in words if word.startswith("tests/")):
            assert (ROOT / path).is_file(), f"{path} is no file"


def check_pip(words: list[str]) -> None:
    for extra in re.findall(r"\w+", " ".join(re.findall(r"\[([\w,]+)\]", " ".join(words)))):
        assert f'"{extra}": [' in (ROOT / "setup.py").read_text(encoding="utf-8"), f"{extra} is no extra"


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_command_names_what_exists(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    while "=" in words[0] and not words[0].startswith("-"):
        words.pop(0)
    program, rest = words[0].removeprefix(".venv/bin/"), words[1:]

    if program == "make":
        assert subprocess.run(["make", "-n", *rest], cwd=ROOT, capture_output=True, check=False).returncode == 0
    elif program == "ros2":
        check_ros2(rest)
    elif program in ("python", "python3"):
        check_python(rest)
    elif program == "pip":
        check_pip(rest)
    elif program in EXECUTABLES:
        if program == "model_signature":
            check_options(rest[1:], "-m", EXECUTABLES[program], rest[0])
        elif program != "perception_node":
            check_options(rest, "-m", EXECUTABLES[program])
    else:
        assert program in FOREIGN or (ROOT / program).is_file(), f"{page} runs {program}"


def test_vehicle_guide_is_covered() -> None:
    assert [command for page, command in COMMANDS if page == "docs/vehicle.md" and "perception.launch.py" in command]
    assert Path(ROOT / "docs" / "vehicle.md") in PAGES
