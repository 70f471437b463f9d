"""Test which variables make keeps away from its recipes, and its errors if something is missing."""

import itertools
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT, copy_checkout

SOURCED = {
    "PYTHONPATH": "/opt/ros/humble/lib/python3.10/site-packages",
    "LD_LIBRARY_PATH": "/opt/ros/humble/lib",
    "AMENT_PREFIX_PATH": "/opt/ros/humble",
    "ROS_DISTRO": "humble",
    "ROS_DOMAIN_ID": "42",
    "ROS_LOCALHOST_ONLY": "1",
    "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
    "CYCLONEDDS_URI": "file:///vehicle/cyclonedds.xml",
    "FASTRTPS_DEFAULT_PROFILES_FILE": "/vehicle/fastdds.xml",
    "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("make") / "checkout")


def make(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # The options of the run that this test belongs to, as CI gives them, are not those of the recipes that are tested.
    options = {"PYTEST_OPTIONS", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"}  # make hands its own words on in the latter
    own = {name: value for name, value in os.environ.items() if name not in options}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=own | variables, capture_output=True, text=True, check=False
    )


def test_sourced_ros_environment_does_not_reach_the_recipes(checkout: Path) -> None:
    outcome = make(checkout, "-s", "--eval=print-environment: ; @env", "print-environment", **SOURCED)

    names = {line.partition("=")[0] for line in outcome.stdout.splitlines()}
    assert "PATH" in names
    assert not names & set(SOURCED)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PYTHON": "no-such-python"}, "expected Python 3.11, 3.12 or 3.13"),
        ({"PYTHON": "false"}, "expected Python 3.11, 3.12 or 3.13"),
        ({"CC": "no-such-compiler"}, "found no gcc and g++"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(checkout: Path, variables: dict[str, str], sentence: str) -> None:
    arguments = [f"{name}={value}" for name, value in variables.items() if name == "PYTHON"]
    outcome = make(checkout, "environment", *arguments, **variables)

    assert outcome.returncode == 2
    printed = [line for line in outcome.stderr.splitlines() if line.startswith("make: ") and "***" not in line]
    assert len(printed) == 1
    assert sentence in printed[0]
    assert not (checkout / ".venv").exists()


def test_bag_and_cameras_are_handed_to_the_demo(checkout: Path) -> None:
    outcome = make(checkout, "-n", "demo", "BAG=my drive.mcap", "CAMERAS=front=/cam0/image_raw left=/cam1/image_raw")

    command = " ".join(outcome.stdout.replace("\\\n", " ").split())
    assert "-m ros_kd_perception.demo" in command
    assert "--bag 'my drive.mcap' --camera 'front=/cam0/image_raw' --camera 'left=/cam1/image_raw'" in command


def test_demo_installs_no_torch(checkout: Path) -> None:
    installed = [
        line for line in make(checkout, "-n", "demo").stdout.splitlines() if "pip" in line and "install" in line
    ]

    assert installed
    assert not [line for line in installed if "training" in line or "torch" in line]


def test_compiled_modules_are_kept_whatever_the_shell_says(checkout: Path) -> None:
    """Compiling torch and its dependencies again takes longer than most tests."""
    outcome = make(checkout, "-s", "--eval=print-environment: ; @env", "print-environment", PYTHONDONTWRITEBYTECODE="1")

    assert "PATH=" in outcome.stdout
    assert "PYTHONDONTWRITEBYTECODE" not in outcome.stdout


def pytest_command(checkout: Path, target: str) -> str:
    (command,) = [line for line in make(checkout, "-n", target).stdout.splitlines() if " -m pytest" in line]
    return command


def test_each_target_runs_the_tests_that_it_names(checkout: Path) -> None:
    assert pytest_command(checkout, "check").endswith("-m 'not graph and not training and not slow' ")
    assert pytest_command(checkout, "test").endswith("-m 'not slow' ")
    assert "not " not in pytest_command(checkout, "test-all")
    assert "--cov" in pytest_command(checkout, "coverage")
    assert "--fail-under 90" in make(checkout, "-n", "coverage").stdout


def test_ci_runs_each_test_once(checkout: Path) -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = [line.removeprefix("make ") for line in script.splitlines() if re.match("make (test|coverage)", line)]
    assert targets == ["coverage", "test-uncounted"]
    parts = [shlex.split(pytest_command(checkout, target)) for target in targets]
    # Of pytest's expressions, those of `not`, `and` and `or` are expressions of Python, too.
    counted, uncounted = (
        compile(part[part.index("-m", part.index("pytest")) + 1], "markers", "eval") for part in parts
    )
    for slow, training, alone in itertools.product([False, True], repeat=3):
        markers = {"slow": slow, "training": training, "alone": alone}
        assert eval(counted, markers) != eval(uncounted, markers)
