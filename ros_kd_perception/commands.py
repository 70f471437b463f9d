"""Start the installed commands. If a package is missing, they end with one sentence.

The executables that pip and colcon install call the functions below. Each function imports its command itself, so that
a missing package is reported and not left as a traceback.
"""

from __future__ import annotations

import importlib
import sys

from ros_kd_perception.system.missing_package import MissingPackage

_INSTALL_EXTRAS = "install ros_kd_perception with its extras [cpu,bag], or its dependencies with rosdep"
_INSTALL_ROS = "source a ROS 2 installation, or install ros_kd_perception with its extras [cpu,bag,ros]"
_INSTALL_DEMO = "in a checkout run `make demo`, or install ros_kd_perception with its extras [cpu,bag,ros,report]"


def perception_node() -> int:
    """Run the lifecycle node; return its exit status."""
    return _run("perception_node", "ros_kd_perception.ros.perception_node", _INSTALL_ROS)


def play_bag() -> int:
    """Play a bag on the ROS graph; return the exit status."""
    return _run("play_bag", "ros_kd_perception.ros.play_bag", _INSTALL_ROS)


def record_perception() -> int:
    """Record the results of the node; return the exit status."""
    return _run("record_perception", "ros_kd_perception.ros.record_perception", _INSTALL_ROS)


def check_vehicle() -> int:
    """Check what the node needs on this machine and graph; return the exit status."""
    return _run("check_vehicle", "ros_kd_perception.ros.check_vehicle", _INSTALL_ROS)


def replay_bag() -> int:
    """Run a student on every frame of a bag, without ROS; return the exit status."""
    return _run("replay_bag", "ros_kd_perception.replay", _INSTALL_EXTRAS)


def compare_replay() -> int:
    """Compare two students on the frames of a bag, without ROS; return the exit status."""
    return _run("compare_replay", "ros_kd_perception.compare_replay", _INSTALL_EXTRAS)


def compare_bags() -> int:
    """Compare the results that two bags hold for the same frames, without ROS; return the exit status."""
    return _run("compare_bags", "ros_kd_perception.compare_bags", _INSTALL_EXTRAS)


def render_drive() -> int:
    """Render a drive into a bag, or training samples into a folder; return the exit status."""
    return _run("render_drive", "ros_kd_perception.render_drive", _INSTALL_EXTRAS)


def describe_model() -> int:
    """Say what is inside a model file, without ROS; return the exit status."""
    return _run("describe_model", "ros_kd_perception.describe_model", _INSTALL_EXTRAS)


def model_signature() -> int:
    """Make keys, sign models and verify them, without ROS; return the exit status."""
    return _run("model_signature", "ros_kd_perception.model_signature", _INSTALL_EXTRAS)


def demo() -> int:
    """Run the live demo; return the exit status."""
    return _run("demo", "ros_kd_perception.demo.command", _INSTALL_DEMO)


def _run(command: str, module: str, remedy: str) -> int:
    try:
        main = importlib.import_module(module).main
    except KeyboardInterrupt:  # imports take seconds on a busy machine
        print(f"{command}: interrupted", file=sys.stderr)
        return 130
    except MissingPackage as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == "ros_kd_perception":
            raise
        print(f"{command}: expected the Python package {package}, found none; {remedy}", file=sys.stderr)
        return 2
    status: int = main()
    return status
