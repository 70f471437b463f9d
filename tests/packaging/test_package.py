"""Compare the requirements for pip and rosdep with the imports of the code."""

import ast
import email
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from checkout import ROOT, copy_checkout
from packaging.requirements import Requirement

from ros_kd_perception.system.shipped_files import SHIPPED_INT8_STUDENT, SHIPPED_STUDENT

# Rosdep keys of modules that are not ROS packages.
ROSDEP_KEYS = {
    **dict.fromkeys(("backports", "compression", "lz4"), "python3-rosbags-pip"),  # rosbags installs its decompressors
    "cryptography": "python3-cryptography",
    "cv2": "python3-opencv",
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "onnxruntime": "python3-onnxruntime-pip",
    "rosbags": "python3-rosbags-pip",
    "tf2_ros": "tf2_ros_py",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
# Not in apt and without a rosdep key: a vehicle installs them from PyPI, as docs/vehicle.md says.
WITHOUT_ROSDEP_KEY = {"simplejpeg"}
# Used only without a ROS install, where rosdep is not used.
BUILDER = ROOT / "ros_kd_perception" / "interfaces" / "build_vision_msgs.py"


@pytest.fixture(scope="module")
def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_checkout(folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=120)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def requirements_of(metadata: email.message.Message, extra: str) -> list[Requirement]:
    marked = re.compile(rf"""extra == ['"]{extra}['"]""")
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    return [requirement for requirement in requirements if marked.search(str(requirement.marker))]


def imported_modules(folder: Path) -> set[str]:
    modules = set()
    for path in folder.rglob("*.py"):
        if path == BUILDER:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module.partition(".")[0])
    return modules - sys.stdlib_module_names - {"ros_kd_perception"}


def test_package_xml_agrees_with_setup(package_xml: ElementTree.Element, metadata: email.message.Message) -> None:
    assert package_xml.get("format") == "3"
    assert package_xml.findtext("name") == metadata["Name"].replace("-", "_")
    assert package_xml.findtext("version") == metadata["Version"]
    assert package_xml.findtext("license") == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert package_xml.findtext("export/build_type") == "ament_python"


def test_rosdep_installs_every_module_that_a_vehicle_imports(package_xml: ElementTree.Element) -> None:
    named = {element.text for element in package_xml if element.tag.endswith("depend")}
    needed = imported_modules(ROOT / "ros_kd_perception") | imported_modules(ROOT / "launch")

    missing = {ROSDEP_KEYS.get(module, module) for module in needed - WITHOUT_ROSDEP_KEY} - named

    assert not missing
    assert {"vision_msgs", "cv_bridge", "lifecycle_msgs", "launch", "launch_ros"} <= named


@pytest.mark.parametrize("page", ["README.md", "docs/vehicle.md"])
def test_a_vehicle_is_told_to_install_what_rosdep_does_not(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = re.findall(r"python -m pip install 'numpy<2' [^`\n]+", text)
    assert commands
    for command in commands:
        assert set(command.split()) >= WITHOUT_ROSDEP_KEY, command


def test_nothing_on_a_vehicle_needs_torch(package_xml: ElementTree.Element, metadata: email.message.Message) -> None:
    assert not [element.text for element in package_xml if "torch" in str(element.text).lower()]
    for extra in ("cpu", "gpu", "bag", "ros"):
        assert "torch" not in {requirement.name for requirement in requirements_of(metadata, extra)}


def test_extras(metadata: email.message.Message) -> None:
    assert set(metadata.get_all("Provides-Extra")) == {
        "cpu",
        "gpu",
        "bag",
        "ros",
        "report",
        "rerun",
        "signature",
        "training",
        "mlflow",
        "test",
        "pretrained",
        "docs",
        "fuzz",
        "release",
    }
    assert "onnxruntime" in {requirement.name for requirement in requirements_of(metadata, "cpu")}
    assert "onnxruntime-gpu" in {requirement.name for requirement in requirements_of(metadata, "gpu")}
    for extra in ("ros", "rerun", "training", "mlflow", "pretrained", "test", "docs", "release", "fuzz"):
        loose = [str(r) for r in requirements_of(metadata, extra) if not re.fullmatch(r"==[\w.]+", str(r.specifier))]
        assert not loose, f"not pinned in [{extra}]"


def test_ros_wheels_are_asked_for_only_where_they_exist(metadata: email.message.Message) -> None:
    here = {"extra": "ros", "platform_system": "Linux", "platform_machine": "x86_64", "python_version": "3.12"}
    here["implementation_name"] = "cpython"
    elsewhere = here | {"platform_machine": "aarch64"}
    wheels = requirements_of(metadata, "ros")

    assert {"ros-rclpy", "ros-rmw-fastrtps-cpp", "ros-sensor-msgs", "ros-rosgraph-msgs", "ros-lifecycle-msgs"} <= {
        wheel.name for wheel in wheels if wheel.marker and wheel.marker.evaluate(here)
    }
    assert not [wheel.name for wheel in wheels if wheel.marker and wheel.marker.evaluate(elsewhere)]


def test_the_wheel_holds_the_students_of_model_auto_alone_and_stays_small(wheel: zipfile.ZipFile) -> None:
    shipped = (SHIPPED_STUDENT, SHIPPED_INT8_STUDENT)
    in_checkout = {Path(file).name for file in shipped if (ROOT / file).is_file()}
    assert {Path(name).name for name in wheel.namelist() if name.endswith(".onnx")} == in_checkout
    assert wheel.filename is not None
    assert Path(wheel.filename).stat().st_size <= 20_000_000


def test_the_wheel_holds_the_templates_of_its_pages(wheel: zipfile.ZipFile) -> None:
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ros_kd_perception").rglob("*.html")}
    assert len(templates) >= 2
    assert templates <= set(wheel.namelist())


def test_executables_lead_to_functions(wheel: zipfile.ZipFile) -> None:
    entry_points = ConfigParser()
    name = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    entry_points.read_string(wheel.read(name).decode())
    scripts = dict(entry_points["console_scripts"])

    assert set(scripts) == {
        "check_vehicle", "compare_bags", "compare_replay", "demo", "describe_model", "model_signature",
        "perception_node", "play_bag", "record_perception", "render_drive", "replay_bag",
    }  # fmt: skip
    functions = functions_of(ROOT / "ros_kd_perception" / "commands.py")
    for name, target in scripts.items():
        assert target == f"ros_kd_perception.commands:{name}"
        (module,) = re.findall(r'"(ros_kd_perception\.[\w.]+)"', ast.unparse(functions[name]).replace("'", '"'))
        assert "main" in functions_of(ROOT / f"{module.replace('.', '/')}.py")


def functions_of(path: Path) -> dict[str, ast.FunctionDef]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
