"""The files of docker/, as far as they can be checked without a container engine.

The sources that the Dockerfile copies are built with colcon as it builds them, and the script of the health check runs
with a stand-in for ros2.
"""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from checkout import ROOT
from packaging.markers import default_environment
from packaging.requirements import Requirement

FOLDER = ROOT / "docker"
# Executable packages that rosdep installs from PyPI, and those for the health check and for the middleware.
FROM_PYPI = {"python3-onnxruntime-pip", "python3-rosbags-pip"}
BESIDE_PACKAGE_XML = {"rmw_fastrtps_cpp", "ros2lifecycle"}
COMPOSE_KEYS = {
    "build", "cap_drop", "command", "deploy", "environment", "image", "init", "ipc", "network_mode", "profiles",
    "restart", "security_opt", "stop_grace_period",
}  # fmt: skip
STUDENTS = {"student.onnx", "student_int8.onnx"}


@dataclass
class Stage:
    """A stage of the Dockerfile: its base, and its instructions as pairs of keyword and arguments."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, keyword: str) -> list[str]:
        return [arguments for word, arguments in self.instructions if word == keyword]


def read_stages() -> tuple[list[str], dict[str, Stage]]:
    """Return the arguments before the first stage, and the stages by name, in order."""
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    arguments: list[str] = []
    stages: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # type: ignore[union-attr]
            current = stages[name] = Stage(base)
        elif not stages:
            assert keyword == "ARG"
            arguments.append(rest)
        else:
            current.instructions.append((keyword, " ".join(rest.split())))
    return arguments, stages


ARGUMENTS, STAGES = read_stages()


def is_ignored(path: str) -> bool:
    """Apply .dockerignore to a file: the last pattern that matches it or a folder above it decides."""
    parts = path.split("/")
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    ignored = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        names = parts if pattern.startswith("**/") else above
        if any(fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) for name in names):
            ignored = not line.startswith("!")
    return ignored


def copied() -> list[tuple[str, str]]:
    """Return the sources in the checkout and the destinations of every COPY."""
    pairs = []
    for stage in STAGES.values():
        for arguments in stage.all("COPY"):
            words = [word for word in arguments.split() if not word.startswith("--")]
            if "--from=" not in arguments:
                pairs += [(source, words[-1]) for source in words[:-1]]
    return pairs


def files_of(source: str) -> list[Path]:
    """Return the files below a source that the build gets, as git tracks them and .dockerignore lets them through."""
    path = ROOT / source
    found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [file for file in found if not is_ignored(file.relative_to(ROOT).as_posix())]


def test_every_source_of_a_copy_exists_and_reaches_the_build() -> None:
    assert len(copied()) > 10
    for source, _ in copied():
        assert files_of(source), f"{source} is missing, or .dockerignore keeps it out"


def test_the_build_gets_no_data_no_weights_and_no_caches() -> None:
    for path in ("data/camvid/a.png", "out/a.onnx", "training/recipe.py", "models/weights/a.safetensors", ".git/HEAD",
                 ".venv/bin/python", "ros_kd_perception/__pycache__/structures.pyc"):  # fmt: skip
        assert is_ignored(path), path
    assert {file.name for file in files_of("models") if file.suffix == ".onnx"} == STUDENTS


def test_copies_between_stages_name_stages_before_them() -> None:
    names = list(STAGES)
    for name, stage in STAGES.items():
        for other in re.findall(r"--from=(\S+)", " ".join(stage.all("COPY"))):
            assert names.index(other) < names.index(name)
        assert stage.base in names or re.fullmatch(r"ros:\$\{ROS_DISTRO\}-ros-\w+-\$\{UBUNTU\}", stage.base)
    assert names[-1] == "cpu", "a build without --target makes the last stage"


def test_apt_installs_what_rosdep_would_for_package_xml() -> None:
    [run] = [run for run in STAGES["vehicle"].all("RUN") if "apt-get" in run]
    ros = {name.replace("-", "_") for name in re.findall(r'"ros-\$ROS_DISTRO-([\w-]+)"', run)}
    debian = set(re.findall(r" (python3-[\w-]+)", run))
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    needed = {element.text for element in root.findall("exec_depend")} - FROM_PYPI

    assert ros | debian == needed | BESIDE_PACKAGE_XML
    assert not ros & debian


def test_nothing_of_a_package_manager_stays_in_a_layer() -> None:
    runs = [run for stage in STAGES.values() for run in stage.all("RUN")]
    assert sum("apt-get install" in run for run in runs) == 2
    for run in runs:
        if "apt-get" in run:
            assert run.endswith("rm -rf /var/lib/apt/lists/*")
            assert run.count("apt-get install") == run.count("-y --no-install-recommends")
        if "pip install" in run:
            assert "--no-cache-dir" in run


def requirements(name: str) -> list[Requirement]:
    found = []
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found += requirements(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            found.append(Requirement(line))
    return found


def extras() -> dict[str, list[Requirement]]:
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    [table] = [node.value for node in setup.body if isinstance(node, ast.Assign)
               and ast.unparse(node.targets[0]) == "EXTRAS"]  # fmt: skip
    assert isinstance(table, ast.Dict)
    rows = zip(table.keys, table.values, strict=True)
    return {ast.literal_eval(key): [Requirement(text) for text in ast.literal_eval(value)] for key, value in rows
            if key is not None and isinstance(value, ast.List)}  # fmt: skip


@pytest.mark.parametrize("python", ["3.10", "3.12"], ids=["humble", "jazzy"])
@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_pinned_versions_are_those_that_setup_allows(extra: str, python: str) -> None:
    environment = {**default_environment(), "python_version": python}
    allowed = {requirement.name: requirement.specifier for name in (extra, "bag") for requirement in extras()[name]}
    # From apt: python3-opencv and so on; PyAV writes videos, which no vehicle does.
    wanted = set(allowed) - {"opencv-python-headless", "PyYAML", "av", "tqdm"}

    pinned = {}
    for requirement in requirements(f"requirements-{extra}.txt"):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in pinned, f"{requirement.name} is named twice for Python {python}"
            pinned[requirement.name] = str(requirement.specifier)

    assert pinned.pop("numpy") == "<2"
    assert set(pinned) == wanted
    for name, specifier in pinned.items():
        assert specifier.startswith("=="), f"{name} is not pinned"
        assert specifier.removeprefix("==") in allowed[name]


def test_the_gpu_image_brings_cuda_12_with_the_wheels() -> None:
    for requirement in requirements("requirements-gpu.txt"):
        if requirement.name == "onnxruntime-gpu":
            assert requirement.extras == {"cuda", "cudnn"}
            # Later ones want CUDA 13: docs/vehicle.md.
            assert tuple(map(int, str(requirement.specifier).removeprefix("==").split("."))) < (1, 27)


def test_images_run_as_a_user_that_is_not_root_and_start_the_launch_file() -> None:
    vehicle = STAGES["vehicle"]
    assert vehicle.all("USER") == ["$PERCEPTION_UID"]
    assert vehicle.all("ARG") == ["PERCEPTION_UID=1000"]
    [command] = vehicle.all("CMD")
    program, action, package, launch_file = json.loads(command)
    assert (program, action, package) == ("ros2", "launch", "ros_kd_perception")
    assert (ROOT / "launch" / launch_file).is_file()
    scripts = [*json.loads(vehicle.all("ENTRYPOINT")[0]), *json.loads(vehicle.all("HEALTHCHECK")[0].split("CMD ")[1])]
    for script in scripts:
        assert os.access(FOLDER / Path(script).name, os.X_OK)
        assert str(Path(script).parent) == "/opt/perception/bin"
    for name in ("cpu", "gpu"):
        assert STAGES[name].base == "vehicle"
        assert not STAGES[name].all("USER")


def test_compose_file() -> None:
    loaded = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    assert set(loaded) == {"name", "x-perception", "services"}
    assert set(loaded["services"]) == {"cpu", "gpu"}
    for name, service in loaded["services"].items():
        assert set(service) <= COMPOSE_KEYS
        build = service["build"]
        assert set(build) == {"context", "dockerfile", "target", "args"}
        assert (FOLDER / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
        assert build["target"] == name in STAGES
        declared = {argument.partition("=")[0] for stage in STAGES.values() for argument in stage.all("ARG")}
        assert set(build["args"]) <= declared
        assert service["profiles"] == [name]
        assert service["image"] == f"ros_kd_perception:{name}"
        assert (service["ipc"], service["network_mode"]) == ("host", "host")
        assert all(isinstance(value, str) for value in service["environment"].values())
        assert service["command"][:4] == json.loads(STAGES["vehicle"].all("CMD")[0])
    [gpu] = loaded["services"]["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert "deploy" not in loaded["services"]["cpu"]


def test_launch_arguments_of_the_compose_file_are_declared() -> None:
    service = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]["cpu"]
    declared = (ROOT / "launch" / service["command"][3]).read_text(encoding="utf-8")
    names = [argument.partition(":=")[0] for argument in service["command"][4:]]
    assert names
    for name in names:
        assert f'_argument("{name}"' in declared


def test_the_page_names_stages_and_files_that_exist() -> None:
    text = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--target (\w+)", text)) == {"cpu", "gpu"}
    assert set(re.findall(r"--profile (\w+)", text)) == {"cpu", "gpu"}
    for name in re.findall(r"-f (\S+)", text):
        assert (ROOT / name).is_file()
    arguments = {argument.partition("=")[0] for argument in ARGUMENTS} | {"PERCEPTION_UID"}
    assert set(re.findall(r"--build-arg (\w+)=", text)) == arguments


@pytest.fixture
def state_of_ros2(tmp_path: Path) -> Path:
    """The file whose content a stand-in for ros2 prints, as `ros2 lifecycle get` prints a state."""
    state = tmp_path / "state"
    ros2 = tmp_path / "ros2"
    ros2.write_text(
        f'#!/bin/bash\necho "$@" > {shlex.quote(str(tmp_path / "arguments"))}\ncat {shlex.quote(str(state))}\n'
    )
    ros2.chmod(0o755)
    return state


@pytest.mark.parametrize(
    ("state", "status"),
    [("active [3]", 0), ("inactive [2]", 1), ("activating [13]", 1), ("unconfigured [1]", 1), ("Node not found", 1),
     ("", 1)],
)  # fmt: skip
def test_the_health_check_asks_for_the_state_of_the_node(state: str, status: int, state_of_ros2: Path) -> None:
    state_of_ros2.write_text(state)
    environment = os.environ | {"PATH": f"{state_of_ros2.parent}:{os.environ['PATH']}",
                                "PERCEPTION_NODE": "/robot/perception"}  # fmt: skip

    check = subprocess.run([FOLDER / "is_active.sh"], env=environment, capture_output=True, text=True, check=False)

    assert check.returncode == status
    assert "/robot/perception" in (state_of_ros2.parent / "arguments").read_text()
    got = state or "no answer"
    assert check.stdout == ("" if status == 0 else f"expected /robot/perception to be active, got: {got}\n")


def test_what_the_dockerfile_copies_is_enough_for_colcon(tmp_path: Path) -> None:
    workspace, install = tmp_path / "workspace", tmp_path / "install"
    for source, destination in copied():
        if not destination.startswith("src/"):
            continue
        is_folder = (ROOT / source).is_dir()
        for file in files_of(source):
            target = workspace / destination / (file.relative_to(ROOT / source) if is_folder else file.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    [run] = STAGES["workspace"].all("RUN")
    command = run.partition(" && ")[2].replace("/opt/perception/install", str(install))
    program, *options = shlex.split(command)
    assert program == "/opt/perception/venv/bin/python"
    environment = os.environ | {"AMENT_PREFIX_PATH": sys.prefix, "PYTHONPATH": ""}

    subprocess.run(
        [sys.executable, *options], cwd=workspace, env=environment, check=True, capture_output=True, timeout=180
    )

    share = install / "share" / "ros_kd_perception"
    for path in ("launch/perception.launch.py", "config/perception.yaml", "models/student.onnx", "package.xml"):
        assert (share / path).is_file(), path
    assert (install / "lib" / "ros_kd_perception" / "perception_node").is_file()
    assert (install / "local_setup.bash").is_file()
