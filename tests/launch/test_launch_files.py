"""Test the launch files and what they pass to the node. `test_launch_system` runs them."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.model.onnx_model import DEVICES
from ros_kd_perception.parameters.launch_arguments import (
    LaunchArgumentError,
    base_name,
    camera_topics,
    cameras_of_bag,
    check_names,
    check_section,
    node_name,
    node_of,
    node_parameters,
    remappings,
    seconds,
)
from ros_kd_perception.ros.node_parameters import PARAMETERS, problem_with

LEFT_EMPTY = {
    "autostart": "true", "model": "", "cameras": "", "camera_topics": "", "image_transport": "", "device": "",
    "use_sim_time": "",
}  # fmt: skip
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))


def parameters(**arguments: str) -> dict[str, object]:
    return node_parameters(LEFT_EMPTY | arguments)


def test_arguments_left_empty_leave_the_parameter_file_alone() -> None:
    assert parameters() == {"autostart": True}


def test_given_arguments_become_parameters() -> None:
    topics = "{front: /front_camera/image_raw, left: /left_camera/jpeg}"

    result = parameters(
        autostart="False", model="models/student.onnx", camera_topics=topics, image_transport="{left: compressed}",
        device="cuda", use_sim_time="True",
    )  # fmt: skip

    assert result == {
        "autostart": False,
        "model": str(Path("models/student.onnx").absolute()),
        "cameras": ["front", "left"],
        "left.image_transport": "compressed",
        "device": "cuda",
        "use_sim_time": True,
    }


def test_a_model_that_is_left_to_the_node_is_no_path() -> None:
    assert parameters(model=" auto ") == {"autostart": True, "model": "auto"}


@pytest.mark.parametrize("cameras", ["[front, left]", "front, left", "front,left", '["front", "left"]'])
def test_cameras_in_any_common_spelling(cameras: str) -> None:
    assert parameters(cameras=cameras)["cameras"] == ["front", "left"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("camera_topics", "{front: }"),
        ("camera_topics", "front"),
        ("camera_topics", "{front: /a"),
        ("camera_topics", "{front camera: /a}"),
        ("cameras", "{front: 1}"),
        ("cameras", "[]"),
        ("cameras", "[1, 2]"),
        ("cameras", "[front/raw]"),
        ("image_transport", "[raw]"),
        ("image_transport", "2026-99-99"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_in_one_sentence(name: str, text: str) -> None:
    with pytest.raises(LaunchArgumentError, match=r"^expected [^\n]*, got [^\n]*$"):
        parameters(**{name: text})


def test_topic_of_a_camera_that_is_not_named_is_refused() -> None:
    with pytest.raises(LaunchArgumentError, match="left"):
        parameters(cameras="[front]", camera_topics="{front: /a, left: /b}")


def test_cameras_choose_some_of_a_bag() -> None:
    found = {"front": {}, "left": {}, "rear": {}}
    assert cameras_of_bag("", found) == ["front", "left", "rear"]
    assert cameras_of_bag("rear, front", found) == ["rear", "front"]
    with pytest.raises(LaunchArgumentError, match=r"which has front, left, rear, got right, top; name"):
        cameras_of_bag("[right, rear, top]", found)
    text = (ROOT / "launch" / "replay.launch.py").read_text(encoding="utf-8")
    assert 'cameras_of_bag(given.get("cameras", ""), found)' in text


@given(st.text(max_size=40), st.sampled_from(["cameras", "camera_topics", "image_transport"]))
def test_any_text_is_read_or_refused(text: str, name: str) -> None:
    try:
        result = parameters(**{name: text})
    except LaunchArgumentError:
        return
    for camera in result.get("cameras", []):  # type: ignore[attr-defined]
        assert problem_with("cameras", [camera], PARAMETERS["cameras"]) is None


def test_all_inputs_of_a_camera_are_remapped() -> None:
    assert remappings(camera_topics("{front: /cam0/image}")) == [
        ("front/image_raw", "/cam0/image"),
        ("front/image_raw/compressed", "/cam0/image"),
        ("front/camera_info", "/cam0/camera_info"),
    ]
    assert remappings({"front": "image_raw"})[2] == ("front/camera_info", "camera_info")


def test_parameter_file_holds_every_parameter_with_its_default_and_one_comment() -> None:
    text = (ROOT / "config" / "perception.yaml").read_text(encoding="utf-8")
    loaded = yaml.safe_load(text)

    assert loaded == {"/**": {"ros__parameters": {name: row.default for name, row in PARAMETERS.items()}}}
    for name in PARAMETERS:
        assert re.search(rf"\n    # [^\n]+\n    {name}:", text), f"{name} has no comment"
        assert ("Read-only." in text.split(f"\n    {name}:")[0].rsplit("\n", 1)[-1]) == PARAMETERS[name].read_only


def test_fastdds_profile_gives_large_images_room() -> None:
    root = ElementTree.parse(ROOT / "config" / "fastdds_large_images.xml").getroot()
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    transports = {item.findtext("transport_id"): item for item in root.iter("transport_descriptor")}
    participant = root.find("participant")

    assert participant is not None
    assert participant.get("is_default_profile") == "true"
    assert participant.findtext("rtps/useBuiltinTransports") == "false"
    used = {item.text for item in participant.findall("rtps/userTransports/transport_id")}
    assert used == set(transports)
    sizes = {item.findtext("type"): item.findtext("segment_size") for item in transports.values()}
    assert int(sizes["SHM"] or 0) >= 4 * 1920 * 1080 * 3
    assert "UDPv4" in sizes


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_start_executables_that_are_installed(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "executable"]
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (installed,) = [
        ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMANDS"
    ]

    assert keywords
    for keyword in keywords:
        assert ast.literal_eval(keyword.value) in {*installed, "rviz2"}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DEVICES":
            assert ast.literal_eval(node.value) == DEVICES


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_need_nothing_but_ros_and_yaml(path: Path) -> None:
    """`ros2 launch` runs them with the system's interpreter, which has no access to a virtual environment."""
    modules = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
    imports = "\n".join(f"import {module}" for module in sorted(modules) if module.startswith("ros_kd_perception"))
    blocked = "import sys\nfor name in ('rosbags', 'numpy', 'cv2', 'onnxruntime', 'rclpy'): sys.modules[name] = None\n"
    assert imports
    subprocess.run([sys.executable, "-c", blocked + imports], cwd=ROOT, check=True)


def test_the_node_is_relaunched_after_a_pause_if_respawn_is_set() -> None:
    tree = ast.parse((ROOT / "launch" / "perception.launch.py").read_text(encoding="utf-8"))
    keywords = {node.arg: ast.unparse(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword)}

    assert "respawn" in keywords["respawn"]
    assert float(keywords["respawn_delay"]) >= 1


@pytest.mark.parametrize("text", ["soon", "", "-1", "nan", "inf", "1e9"])
def test_a_duration_that_is_none_is_refused_in_one_sentence(text: str) -> None:
    assert seconds("wait_for_node_s", "2.5") == 2.5
    with pytest.raises(LaunchArgumentError, match=r"^expected wait_for_node_s to be 0 to 86400 seconds, got [^\n]*$"):
        seconds("wait_for_node_s", text)


@pytest.mark.parametrize(
    ("namespace", "name"), [("", "/perception"), ("robot", "/robot/perception"), ("/a/b/", "/a/b/perception")]
)
def test_the_node_is_named_by_its_namespace(namespace: str, name: str) -> None:
    assert node_name(namespace) == name


def test_the_name_of_the_node_can_be_chosen() -> None:
    assert node_name("/car1/", base_name(" front_perception ")) == "/car1/front_perception"
    assert base_name("") == "perception"


@pytest.mark.parametrize(
    ("namespace", "pushed", "node"),
    [
        ("", "", "/rear"),
        ("", "/car1", "/car1/rear"),
        ("sub", "/car1", "/car1/sub/rear"),
        ("/sub", "/car1", "/sub/rear"),
        ("sub", "", "/sub/rear"),
    ],
)
def test_the_node_has_the_name_that_the_launch_system_gives_it(namespace: str, pushed: str, node: str) -> None:
    arguments = {"name": "rear", "namespace": namespace} | ({"ros_namespace": pushed} if pushed else {})
    assert node_of(arguments) == node


@pytest.mark.parametrize("text", ["front-perception", "1st", "car1/perception", "/perception", "a b"])
def test_a_name_that_ros_refuses_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(LaunchArgumentError, match=r"^expected name to be [^\n]*, got [^\n]*$"):
        base_name(text)


LAUNCH_FILE = ROOT / "launch" / "perception.launch.py"
KNOWN = ("camera_topics", "cameras", "model", "params_file", "name", "namespace")


@pytest.mark.parametrize(
    "command_line",
    [
        ["/opt/ros/jazzy/bin/ros2", "launch", "ros_kd_perception", "perception.launch.py", "camera_topic:={front: /a}"],
        ["ros2", "launch", "-n", "ros_kd_perception", "--debug", "perception.launch.py", "camera_topic:={front: /a}"],
        ["ros2", "launch", str(LAUNCH_FILE), "camera_topic:={front: /a}"],
    ],
    ids=["package", "options", "path"],
)
def test_a_mistyped_argument_is_refused_with_the_nearest_ones(command_line: list[str]) -> None:
    with pytest.raises(LaunchArgumentError) as refusal:
        check_names(["model", "camera_topic"], KNOWN, LAUNCH_FILE, command_line)

    assert str(refusal.value) == (
        "expected only arguments of perception.launch.py, got camera_topic, which would have no effect; did you mean "
        "camera_topics or cameras? --show-args lists all"
    )


@pytest.mark.parametrize(
    "command_line",
    [
        ["ros2", "launch", "my_vehicle", "bringup.launch.py", "camera_topic:=1"],
        ["ros2", "launch", "my_vehicle", "perception.launch.py", "camera_topic:=1"],
        ["ros2", "launch", "bringup.launch.py", f"camera_topic:={LAUNCH_FILE}"],
        [],
    ],
)
def test_arguments_of_a_launch_file_that_includes_ours_are_left_alone(command_line: list[str]) -> None:
    check_names(["camera_topic"], KNOWN, LAUNCH_FILE, command_line)


def test_arguments_of_the_launch_system_and_known_ones_pass() -> None:
    check_names([*KNOWN, "launch-prefix", "sigterm_timeout"], KNOWN, LAUNCH_FILE, [str(LAUNCH_FILE)])


@given(st.lists(st.text(max_size=30), max_size=8))
def test_any_unknown_argument_is_refused_in_one_short_sentence(names: list[str]) -> None:
    unknown = [name for name in names if name not in KNOWN]
    if not unknown:
        check_names(names, KNOWN, LAUNCH_FILE, [str(LAUNCH_FILE)])
        return
    with pytest.raises(LaunchArgumentError) as refusal:
        check_names(names, KNOWN, LAUNCH_FILE, [str(LAUNCH_FILE)])
    assert len(str(refusal.value)) < 500


def test_a_parameter_file_without_a_section_for_the_node_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vehicle.yaml"
    path.write_text("/car1/perception: {ros__parameters: {cameras: [front]}}")

    check_section(path, "/car1/perception")
    with pytest.raises(LaunchArgumentError, match=r"^expected a section of [^\n]* for the node /car1/rear[^\n]*$"):
        check_section(path, "/car1/rear")
    check_section(ROOT / "config" / "perception.yaml", "/car1/rear")
    path.write_text("perception: {ros__parameters: [}")
    check_section(path, "/rear")  # the node reports it


def test_rviz_is_off_and_takes_no_other_value_than_a_flag() -> None:
    tree = ast.parse((ROOT / "launch" / "perception.launch.py").read_text(encoding="utf-8"))
    [argument] = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "_argument"
        and ast.unparse(node.args[0]) == "'rviz'"
    ]
    assert ast.literal_eval(argument.args[2]) == "false"
    assert {keyword.arg: ast.unparse(keyword.value) for keyword in argument.keywords} == {"choices": "FLAG"}


def test_the_replay_passes_on_the_arguments_of_the_node_with_rviz_among_them() -> None:
    text = (ROOT / "launch" / "replay.launch.py").read_text(encoding="utf-8")
    assert "IncludeLaunchDescription(PythonLaunchDescriptionSource(str(perception)))" in text
    assert "rviz:=true" in text.partition('"""\n\n')[0]
