"""Import rules: no training on a vehicle, ROS in one folder, and every other library in one place."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

PACKAGE = "ros_kd_perception"
TRAINING_LIBRARIES = {
    "torch",
    "lightning",
    "pytorch_lightning",
    "torchmetrics",
    "faster_coco_eval",
    "tensorboard",
    "onnx",
    "PIL",
}
ROS_LIBRARIES = {
    "rclpy", "ament_index_python", "bond", "builtin_interfaces", "cv_bridge", "diagnostic_msgs", "geometry_msgs",
    "launch", "launch_ros", "lifecycle_msgs", "rcl_interfaces", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs",
    "tf2_ros", "vision_msgs",
}  # fmt: skip
# Optional packages, imported only when they are needed, for example for rare encodings or the share directory.
LOOKED_FOR = {"cv_bridge", "ament_index_python", "bond", "tf2_ros"}
# RUNTIME_MODULE turns telemetry off before it imports ONNX Runtime. Its users open and run sessions. All other
# modules use `onnx_model`.
RUNTIME_MODULE = "model.onnx_runtime"
RUNTIME_USERS = {"model.execution_provider", "model.session", "model.session_start"}
# The quantiser imports ONNX Runtime itself. One module imports it, after RUNTIME_MODULE.
QUANTISER = "onnxruntime.quantization"
QUANTISER_MODULE = "training.quantization.onnx_quantizer"
# Serialisation and writing of bags. All other modules use `bags.reader`.
BAG_MODULES = {"bags.mcap_storage", "bags.message_types", "bags.writer"}
# The modules that import it judge the errors of simplejpeg.
JPEG_MODULE = "images.jpeg_decoder"
# Only keys sign and verify. It is imported when a signature is asked for.
KEY_MODULE = "model.signature_key"
# Matplotlib is not on a vehicle; only the report of the demo uses it.
PLOTS_MODULE = "drawing.plots"
# Rooms (wings and top-level modules) from the ground floor up. A room imports only rooms of the floors below it.
FLOORS = {
    PACKAGE: (
        {"structures", "playback_timeline", "system", "interfaces"},
        {"images", "model", "health", "parameters"},
        {"perceiver", "free_space", "drawing", "tracking"},
        {"ground_positions"},
        {"messages", "candidates"},
        {"scheduling", "bags"},
        {"sample_drive", "replay_summary", "replay_pipeline", "differences"},
        {"replay_network"},
        {"replay_outputs", "replay_ground"},
        {"bag_replay"},
        {"render_drive", "describe_model", "model_signature", "replay", "compare_replay", "compare_bags", "ros"},
        {"demo"},
        {"commands"},
    ),
    "training": (
        {"errors"},
        {"config", "whole_files"},
        {"label_sets", "weights_file"},
        {"arguments", "data", "networks", "foreign"},
        {"losses", "exported_student"},
        {"checkpoint"},
        {"mean_weights", "teachers"},
        {"starting_weights"},
        {"distillation"},
        {"recipe"},
        {"export", "label_tables"},
        {"adoption", "extraction", "inspection"},
        {"evaluation"},
        {"conditions", "pruning", "quantization", "stability"},
        {"run", "tracking"},
        {"compare", "keep_weights"},
        {"calibration", "compression", "report"},
        {"schema", "doctor", "bill_of_materials"},
        {"__main__"},
    ),
}
IMPORT_ALL = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ImportError(f"{name} may not be imported")

refused = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Refuse())
for module in sys.argv[2:]:
    importlib.import_module(module)
loaded = refused & {name.partition(".")[0] for name in sys.modules}
assert not loaded, loaded
"""
TELL_TELEMETRY = """
import importlib, os, sys

class Tell:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print(f"ORT_DISABLE_TELEMETRY={os.environ.get('ORT_DISABLE_TELEMETRY')}")

sys.meta_path.insert(0, Tell())
importlib.import_module(sys.argv[1])
"""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Yield every module that a file imports anywhere, with the import statement."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield (name if name in MODULES else str(node.module)), node


def top_levels(path: Path) -> set[str]:
    return {name.partition(".")[0] for name, _ in imports_of(path)}


MODULES = {module_name(path) for path in sources(PACKAGE)}
GRAPH = {module_name(path): {name for name, _ in imports_of(path)} for path in sources(PACKAGE)}


def reached_from(module: str) -> set[str]:
    """Return the modules of the package that importing one of them can lead to, including itself."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in GRAPH and name not in reached:
            reached.add(name)
            waiting += GRAPH[name]
    return reached


@pytest.mark.parametrize("path", sources(PACKAGE), ids=module_name)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    name = module_name(path)
    found = top_levels(path)

    assert not found & (TRAINING_LIBRARIES | {"training", "tests", "benchmarks", "pickle", "marshal", "shelve"})
    if not name.startswith(f"{PACKAGE}.ros"):
        assert not found & ROS_LIBRARIES - LOOKED_FOR
        assert not [module for module in GRAPH[name] if module.startswith(f"{PACKAGE}.ros.")], "no wing imports ros/"
    if name.removeprefix(f"{PACKAGE}.") not in BAG_MODULES:
        assert "rosbags" not in found
    if name != f"{PACKAGE}.{RUNTIME_MODULE}":
        assert "onnxruntime" not in found
    if name != f"{PACKAGE}.{KEY_MODULE}":
        assert "cryptography" not in found
    if name != f"{PACKAGE}.{JPEG_MODULE}":
        assert "simplejpeg" not in found
    if name != f"{PACKAGE}.{PLOTS_MODULE}":
        assert "matplotlib" not in found
    if name.removeprefix(f"{PACKAGE}.") not in RUNTIME_USERS:
        assert f"{PACKAGE}.{RUNTIME_MODULE}" not in GRAPH[name]


@pytest.mark.parametrize("folder", ["training", "benchmarks", "tests", "launch"])
def test_nothing_loads_onnx_runtime_with_its_telemetry(folder: str) -> None:
    for path in sources(folder):
        found = {name for name, _ in imports_of(path) if name.partition(".")[0] == "onnxruntime"}
        allowed = {QUANTISER} if module_name(path) == QUANTISER_MODULE else set()
        assert found <= allowed, f"{path}: import it from {PACKAGE}.{RUNTIME_MODULE}"


def test_the_quantiser_is_imported_after_the_telemetry_is_off() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", TELL_TELEMETRY, QUANTISER_MODULE]
    outcome = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert (outcome.returncode, outcome.stdout.strip()) == (0, "ORT_DISABLE_TELEMETRY=1"), outcome.stderr


def test_what_is_only_looked_for_is_never_imported_at_start() -> None:
    for path in sources(PACKAGE):
        at_start = {ast.dump(node) for node in ast.parse(path.read_text(encoding="utf-8")).body}
        for name, node in imports_of(path):
            assert name.partition(".")[0] not in LOOKED_FOR or ast.dump(node) not in at_start, path


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_every_room_imports_only_rooms_of_lower_floors(package: str) -> None:
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS[package]) for room in rooms}
    rooms = {
        path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert rooms - {"__init__"} == floor_of.keys(), "give each room a floor, and take out what is gone"
    for path in sources(package):
        room, *_ = path.relative_to(ROOT / package).with_suffix("").parts
        for name, node in imports_of(path):
            imported = name.split(".")
            if imported[0] == package and len(imported) > 1 and room not in ("__init__", imported[1]):
                assert floor_of[imported[1]] < floor_of[room], f"{path}:{node.lineno}: {room} imports {imported[1]}"


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_the_architecture_page_draws_these_floors(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(rf"^ +subgraph {package} (.*?)^ +end$", page, re.DOTALL | re.MULTILINE)
    floors = {name: text.split("<br/>") for name, text in re.findall(r'^ +(\w+)\["(.+)"\]$', drawn, re.MULTILINE)}
    (from_the_top,) = re.findall(r"^ +(\w+ --> .+)$", drawn, re.MULTILINE)

    rooms = [{line.partition(":")[0] for line in floors[name]} for name in reversed(from_the_top.split(" --> "))]
    assert rooms == list(FLOORS[package]), "draw each room on its floor in docs/architecture.md"


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_no_import_cycles(module: str) -> None:
    for imported in GRAPH[module] & set(GRAPH) - {PACKAGE, module}:
        assert module not in reached_from(imported), f"{module} and {imported} import each other"


def draws_plots(module: str) -> bool:
    return f"{PACKAGE}.{PLOTS_MODULE}" in reached_from(module)


def test_only_the_demo_draws_plots() -> None:
    drawing = {name for name in GRAPH if draws_plots(name) and not name.startswith(f"{PACKAGE}.demo")}

    assert drawing == {f"{PACKAGE}.{PLOTS_MODULE}"}


def test_everything_but_ros_imports_without_ros_and_training() -> None:
    modules = [name for name in GRAPH if name.split(".")[1:2] != ["ros"] and not draws_plots(name)]

    import_in_fresh_interpreter(modules, TRAINING_LIBRARIES | ROS_LIBRARIES | {"training"})


def test_what_leads_to_no_model_and_no_bag_imports_without_their_libraries() -> None:
    heavy = {f"{PACKAGE}.{name}" for name in {RUNTIME_MODULE, *BAG_MODULES}}
    heavy.add(f"{PACKAGE}.{PLOTS_MODULE}")
    modules = [name for name in GRAPH if not reached_from(name) & heavy and not name.startswith(f"{PACKAGE}.ros")]

    assert f"{PACKAGE}.images.message" in modules
    import_in_fresh_interpreter(modules, TRAINING_LIBRARIES | ROS_LIBRARIES | {"onnxruntime", "rosbags"})


def import_in_fresh_interpreter(modules: list[str], refused: set[str]) -> None:
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(sorted(refused)), *modules]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("path", sources(PACKAGE), ids=module_name)
def test_vehicle_code_is_python_3_10(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


@pytest.mark.parametrize("folder", [PACKAGE, "training", "benchmarks", "launch"])
def test_files_are_loaded_without_running_what_they_hold(folder: str) -> None:
    for path in sources(folder):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert function not in ("yaml.load", "yaml.full_load", "yaml.unsafe_load"), path
            assert function != "torch.load" or keywords.get("weights_only") == "True", path
            assert function not in ("np.load", "numpy.load") or keywords.get("allow_pickle") != "True", path


@pytest.mark.parametrize("folder", [PACKAGE, "training", "benchmarks"])
def test_what_is_written_as_json_is_json(folder: str) -> None:
    # Python writes NaN and Infinity, which are not JSON, so other readers refuse the whole file.
    for path in sources(folder):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump"):
                keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert path.stem == "build_vision_msgs" or keywords.get("allow_nan") == "False", path
