"""Check what the node needs on a vehicle: `check_vehicle --params-file vehicle.yaml`.

It looks at the machine and listens to the graph for some seconds. Then it prints one line for each check: what is well,
what is not, and what to do. It publishes nothing and opens no session of the network, so it may run beside the node.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from ros_kd_perception.health.camera_checks import (
    LARGE_SEGMENT_BYTES,
    CameraSample,
    ClockFacts,
    check_calibration,
    check_camera,
    check_clock,
    check_frame_id,
    check_mounting,
    check_pictures,
    check_stamps,
)
from ros_kd_perception.health.finding import Finding, has_problem, summary, to_json
from ros_kd_perception.health.machine_checks import (
    ModelFacts,
    check_memory,
    check_middleware,
    check_model,
    check_processor,
    check_provider,
    check_shared_memory,
)
from ros_kd_perception.health.verdict import Level
from ros_kd_perception.model.contract_file import ContractFile
from ros_kd_perception.model.execution_provider import available_providers, wanted_provider
from ros_kd_perception.model.model_choice import choose_model
from ros_kd_perception.parameters.camera_names import parse_camera_topics
from ros_kd_perception.parameters.file import read_parameter_file, section_names
from ros_kd_perception.parameters.launch_arguments import remappings
from ros_kd_perception.parameters.sections import DEFAULT_NODE, full_name, only_node
from ros_kd_perception.ros.node_parameters import NodeParameters, ParameterError
from ros_kd_perception.ros.node_startup import own_arguments, start_node, stop_at_signals
from ros_kd_perception.ros.parameter_table import ParameterTable
from ros_kd_perception.ros.vehicle_watch import VehicleWatch, image_sizes
from ros_kd_perception.scheduling.process_count import process_count, processes_of_node
from ros_kd_perception.system.command_arguments import path_argument
from ros_kd_perception.system.fastdds_settings import (
    MiddlewareSettings,
    fastdds_profile_variable,
    give_large_images_room,
)
from ros_kd_perception.system.machine_facts import (
    SharedMemoryFacts,
    available_memory_bytes,
    has_gpu_device,
    processor_facts,
    shared_memory_facts,
)
from ros_kd_perception.system.shipped_files import FASTDDS_PROFILE, shipped_file

DEFAULT_SECONDS = 5.0
MAX_SECONDS = 600.0
EXIT_PROBLEM, EXIT_UNUSABLE, EXIT_INTERRUPTED = 1, 2, 130
_FAST_NETWORK_MS = 1.0  # for the largest number of worker processes


@dataclass(frozen=True)
class Before:
    """What is read before this process takes shared memory itself."""

    settings: MiddlewareSettings
    environment: dict[str, str]
    shared_memory: SharedMemoryFacts

    @classmethod
    def read(cls) -> Before:
        """Choose the settings of the middleware as the node does, and read the room in shared memory."""
        environment = dict(os.environ)
        settings = give_large_images_room(os.environ, shipped_file(FASTDDS_PROFILE))
        profile = os.environ.get(fastdds_profile_variable(environment), "")
        return cls(settings, environment, shared_memory_facts(Path(profile) if profile else None))

    @property
    def large_segments(self) -> int:
        """Number of segments with room for large images."""
        return sum(size >= LARGE_SEGMENT_BYTES for size in self.shared_memory.segments_bytes)


def machine_findings(parameters: NodeParameters, before: Before, node_runs: bool) -> list[Finding]:
    """Check processor, shared memory, middleware, model and GPU.

    Args:
        parameters: The parameters of the node.
        before: What was read at the start.
        node_runs: Whether the node runs already.
    """
    rates_hz = [settings.max_rate_hz for settings in parameters.camera_settings.values()]
    workers = process_count(parameters.preparation_processes, rates_hz, _FAST_NETWORK_MS)
    processes = processes_of_node(workers, len(parameters.cameras))
    available = available_providers()
    wanted = wanted_provider(parameters.device, available)
    model = model_facts(parameters)
    return [
        check_processor(processor_facts()),
        check_shared_memory(before.shared_memory, processes, node_runs),
        check_middleware(before.settings, before.environment),
        check_model(model),
        check_memory(model, available_memory_bytes()),
        check_provider(wanted, available, parameters.require_gpu, has_gpu_device(), parameters.device),
    ]


def model_facts(parameters: NodeParameters) -> ModelFacts:
    """Read the model file, and its signature if the parameters require one. No session is opened."""
    path = choose_model(parameters.model, parameters.device, parameters.precision).path
    key = parameters.signature_key
    try:
        contract = ContractFile.read(Path(path), key).contract
    except (ValueError, OSError, ImportError) as error:
        return ModelFacts(path, str(error))
    size = f"{contract.input.width}x{contract.input.height}"
    text = f"{contract.name} {contract.version}, {contract.precision}, {' and '.join(contract.tasks)}, input {size}"
    return ModelFacts(path, "", text, Path(path).stat().st_size, key)


def camera_findings(watch: VehicleWatch, camera: str, clock: ClockFacts, large_segments: int) -> list[Finding]:
    """Check one camera. Without images there is one finding only, and those of its calibration."""
    sample: CameraSample = watch.sample(camera)
    calibration = watch.calibration(camera)
    findings = [check_camera(sample, large_segments)]
    if sample.received and sample.is_enabled:
        findings += [check_pictures(sample), check_frame_id(sample), check_stamps(sample, clock)]
    if sample.is_enabled:
        findings.append(check_calibration(camera, calibration, image_sizes(sample.formats)))
        mounting = check_mounting(camera, calibration)
        findings += [mounting] if mounting else []
    return findings


def node_finding(name: str, count: int) -> Finding:
    """Say whether the node runs, and whether it does once."""
    if count > 1:
        sentence = f"{count} nodes are called {name}, their results mix"
        return Finding("node", Level.ERROR, sentence, "stop all but one, or give them names: docs/several_nodes.md")
    state = (
        "runs; its own findings are on /diagnostics" if count else "does not run; these are the checks before its start"
    )
    return Finding("node", Level.OK, f"{name} {state}")


def message_finding(failure: str) -> Finding:
    """Say that a message that came could not be handled, and why."""
    remedy = "look for a broken publisher on /clock, TF or the topics of the cameras; the node drops what it sends"
    return Finding("messages", Level.WARN, f"one could not be handled, {failure}", remedy)


def parameter_findings(table: ParameterTable) -> tuple[list[Finding], NodeParameters | None]:
    """Check the parameters by the rules of the node. Returns None in place of them if it would refuse to configure."""
    findings = [Finding("parameters", Level.WARN, sentence) for sentence in table.unknown_overrides()]
    try:
        parameters = table.read()
    except ParameterError as error:
        return [*findings, Finding("parameters", Level.ERROR, str(error))], None
    cameras = ", ".join(parameters.cameras)
    return [*findings, Finding("parameters", Level.OK, f"can be used, cameras: {cameras}")], parameters


def check(options: argparse.Namespace, arguments: Sequence[str], is_stopped: Any) -> tuple[str, list[Finding]]:
    """Run all checks.

    Returns:
        Full name of the node that was checked for, and the findings.

    Raises:
        StartError, ParameterError, ValueError: ROS does not start, or an option or the file cannot be used.
    """
    files = [Path(file) for file in (options.params_file, *_values_of(arguments, "--params-file")) if file]
    target = _target(options.node, files)
    before = Before.read()
    node = start_node(lambda: _make_node(target, files, parse_camera_topics(options.camera), arguments), arguments)
    try:
        findings, parameters = parameter_findings(ParameterTable(node, lambda changes: None))
        if parameters is None:
            return target, findings
        watch = VehicleWatch(node, parameters)
        watch.listen(options.seconds, is_stopped)
        count = watch.nodes_called(target)
        clock = watch.clock()
        findings = [node_finding(target, count), *findings, *machine_findings(parameters, before, count > 0)]
        findings.append(check_clock(clock))
        findings += [message_finding(failure) for failure in watch.failures]
        for camera in parameters.cameras:
            findings += camera_findings(watch, camera, clock, before.large_segments)
        return target, findings
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _target(node: str | None, files: Sequence[Path]) -> str:
    if node is not None:
        return full_name(node)
    return only_node(section_names(files[-1]), files[-1]) if files else f"/{DEFAULT_NODE}"


def _make_node(target: str, files: Sequence[Path], topics: dict[str, str], arguments: Sequence[str]) -> Node:
    """Make the node that listens: in the namespace of the perception node, with its parameters and remappings."""
    values: dict[str, Any] = {"cameras": list(topics)} if topics else {}
    for file in files:
        values |= read_parameter_file(file, target)
    for rule in (*_values_of(arguments, "-p"), *_values_of(arguments, "--param")):
        values.pop(rule.partition(":=")[0], None)  # rclpy reads it, and it overrides the files
    rules = [f"{name}:={topic}" for name, topic in remappings(topics)]
    return Node(
        "check_vehicle",
        namespace=target.rpartition("/")[0] or None,
        cli_args=["--ros-args", *(word for rule in rules for word in ("-r", rule))] if rules else None,
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        start_parameter_services=False,
    )


def _values_of(arguments: Sequence[str], option: str) -> list[str]:
    """Return the values of an option of ROS itself."""
    words = list(arguments)
    ros = words[words.index("--ros-args") :] if "--ros-args" in words else []
    return [value for word, value in itertools.pairwise(ros) if word == option]


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line, without its ROS arguments.

    Raises:
        ValueError: --seconds is out of range.
    """
    parser = argparse.ArgumentParser(
        prog="check_vehicle",
        description="Check what the perception node needs on this machine and this graph. Exit status 1: a problem.",
    )
    parser.add_argument("--params-file", type=path_argument, metavar="YAML", help="the node's parameter file")
    parser.add_argument("--node", help="full name of the node, for example /car1/perception")
    parser.add_argument(
        "--camera", action="append", default=[], metavar="NAME=TOPIC", help="topic of a camera, as camera_topics has it"
    )
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, metavar="S", help="how long to listen (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(arguments)
    if not (math.isfinite(options.seconds) and 0 < options.seconds <= MAX_SECONDS):
        raise ValueError(f"expected --seconds above 0 and up to {MAX_SECONDS:g}, got {options.seconds:g}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the vehicle and print the findings.

    Returns:
        Exit status: 0 without a problem, 1 with one, 2 if an option or the file cannot be used, 130 after Ctrl-C.
    """
    arguments = sys.argv if arguments is None else ["check_vehicle", *arguments]
    stop = stop_at_signals()
    try:
        options = parse_arguments(own_arguments(arguments)[1:])
        node, findings = check(options, arguments, stop.is_set)
    except (ValueError, OSError) as error:
        print(f"check_vehicle: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    if stop.is_set():
        print("check_vehicle: interrupted, nothing is known", file=sys.stderr)
        return EXIT_INTERRUPTED
    if options.json:
        print(to_json(node, findings))
    else:
        for finding in findings:
            print(finding)
        print(summary(findings))
    return EXIT_PROBLEM if has_problem(findings) else 0


if __name__ == "__main__":
    sys.exit(main())
