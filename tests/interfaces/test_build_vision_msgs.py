"""Test the vision_msgs that we define and build: types equal to the original on the wire, builds that break nothing."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ros_kd_perception.interfaces import build_vision_msgs
from ros_kd_perception.system.ros_environment import free_domain_id

TYPE_HASHES = json.loads((Path(__file__).with_name("type_hashes.json")).read_text(encoding="utf-8"))
PRINT_TYPE_HASHES = """
import importlib, json, sys
import rclpy
from rclpy.node import Node

rclpy.init(domain_id=int(sys.argv[1]))
node = Node("hashes")
hashes = {}
for number, name in enumerate(sys.argv[2:]):
    package, _, message = name.split("/")
    node.create_publisher(getattr(importlib.import_module(f"{package}.msg"), message), f"topic_{number}", 1)
    infos = []
    while not infos:
        infos = node.get_publishers_info_by_topic(f"/topic_{number}")
    hashes[name] = str(infos[0].topic_type_hash)
print(json.dumps(hashes))
"""


def run_builder(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", build_vision_msgs.__spec__.name]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_every_definition_has_an_expected_hash() -> None:
    ours = {f"vision_msgs/msg/{path.stem}" for path in build_vision_msgs.DEFINITIONS.glob("*.msg")}

    assert ours == {name for name in TYPE_HASHES if name.startswith("vision_msgs/")}


@pytest.mark.graph
def test_types_on_the_graph_are_those_of_the_original_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PRINT_TYPE_HASHES, str(free_domain_id()), *TYPE_HASHES]
    environment = {**os.environ, "ROS_LOG_DIR": str(tmp_path), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}

    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout) == TYPE_HASHES


def test_second_build_does_nothing() -> None:
    outcome = run_builder(CC="no-such-compiler")

    assert outcome.returncode == 0, outcome.stderr
    assert "up to date" in outcome.stdout


def test_vision_msgs_from_elsewhere_is_not_shadowed(tmp_path: Path) -> None:
    (tmp_path / "vision_msgs").mkdir()
    (tmp_path / "vision_msgs" / "__init__.py").touch()

    outcome = run_builder(PYTHONPATH=str(tmp_path))

    assert outcome.returncode == 0, outcome.stderr
    assert f"{tmp_path / 'vision_msgs'}; nothing built" in outcome.stdout


def test_system_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)

    with pytest.raises(build_vision_msgs.BuildError, match="virtual environment"):
        build_vision_msgs.build()


@pytest.mark.parametrize(
    ("name", "replacement", "sentence"),
    [
        ("GENERATOR_WHEELS", ("ros-no-such-wheel",), "expected the wheel ros-no-such-wheel"),
        ("_python_header", lambda: Path("/no/such/Python.h"), "expected the headers of Python at /no/such"),
    ],
)
def test_what_is_missing_is_named(
    name: str, replacement: object, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_vision_msgs, "_recorded_fingerprint", lambda installed: None)
    monkeypatch.setattr(build_vision_msgs, name, replacement)

    with pytest.raises(build_vision_msgs.BuildError, match=sentence):
        build_vision_msgs.build()


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_vision_msgs, "_recorded_fingerprint", lambda installed: None)
    monkeypatch.setenv("CC", "no-such-compiler")

    with pytest.raises(build_vision_msgs.BuildError, match=r"expected a compiler as \$CC"):
        build_vision_msgs.build()


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        ("this is not a message\n", "code generators failed"),
        ("geometry_msgs/NoSuchMessage member\n", "code generators failed"),
    ],
)
def test_failed_build_leaves_the_installed_package_alone(
    definition: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Bad.msg").write_text(definition, encoding="utf-8")
    monkeypatch.setattr(build_vision_msgs, "DEFINITIONS", tmp_path)
    installed = Path(importlib.import_module("vision_msgs").__path__[0])
    before = sorted(installed.rglob("*.py"))

    with pytest.raises(build_vision_msgs.BuildError, match=sentence):
        build_vision_msgs.build()

    assert sorted(installed.rglob("*.py")) == before
    assert not list(installed.parent.glob(".vision_msgs-*")), "a work folder was left behind"
