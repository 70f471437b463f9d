"""ParameterTable: declares the parameters on a node, checks them and reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from ros_kd_perception.parameters.camera_settings import CAMERA_DECLARATIONS, CameraSettings
from ros_kd_perception.parameters.rules import (
    CAMERA_PARAMETERS,
    as_declared,
    required_signature_key,
    unknown_parameter,
)
from ros_kd_perception.ros.node_parameters import (
    PARAMETERS,
    TRANSPORTS,
    Declaration,
    NodeParameters,
    ParameterError,
    problem_with,
)
from ros_kd_perception.ros.topics.sinks import SINKS
from ros_kd_perception.system.shipped_files import AUTO_MODEL


class ParameterTable:
    """Declares all parameters on a node, checks them and reads them.

    Overrides are checked here and not by rclpy, whose exceptions would end the process. A parameter with a wrong
    override is declared with its default, and `read` raises an error until the parameter is set to a correct value.

    Args:
        node: The node.
        on_change: Called with names and new values of parameters that are set later, before the node returns the new
            values.
    """

    def __init__(self, node: Node, on_change: Callable[[Mapping[str, Any]], None]) -> None:
        self._node = node
        self._on_change = on_change
        # Not public, but unchanged since Foxy. The public ways to see overrides raise for a wrong type.
        self._overrides: Mapping[str, Parameter[Any]] = dict(getattr(node, "_parameter_overrides", {}))
        self._declarations = dict(PARAMETERS)
        self._problems: dict[str, str] = {}
        for name, declaration in PARAMETERS.items():
            self._declare(name, declaration)
        for camera in self._get("cameras"):
            self._declare_camera(camera)
        node.add_on_set_parameters_callback(self._judge_changes)

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self._get("autostart"))

    @property
    def model(self) -> str:
        """Path of the model, or `auto`, also if the parameter is empty."""
        return self._get("model") or AUTO_MODEL

    @property
    def diagnostics_period_s(self) -> float:
        """Seconds between two messages on /diagnostics."""
        return float(self._get("diagnostics_period_s"))

    def unknown_overrides(self) -> list[str]:
        """Return one sentence for each override of an unknown parameter, with the nearest known name."""
        cameras = self._get("cameras")
        of_cameras = [
            name
            for camera in cameras
            for name in (*_sink_parameters(camera), *(f"{camera}.{name}" for name in CAMERA_PARAMETERS))
        ]
        known = [*self._declarations, *of_cameras]
        return [
            unknown_parameter(name, known, cameras)
            for name in self._overrides
            if name not in known and not self._node.has_parameter(name) and not name.startswith("qos_overrides.")
        ]

    def read(self) -> NodeParameters:
        """Return the current values.

        Raises:
            ParameterError: One of them cannot be used.
        """
        for problem in self._problems.values():
            raise ParameterError(problem)
        cameras = tuple(self._get("cameras"))
        transport = self._get("image_transport")
        values = {name: self._get(name) for name in self._declarations}
        for sink in SINKS:
            sink.check_parameters(values, cameras)
        return NodeParameters(
            model=self.model,
            cameras=cameras,
            image_transports={
                c: self._get(name) if (name := f"{c}.image_transport") in self._declarations else transport
                for c in cameras
            },
            camera_settings={c: CameraSettings().updated(c, values) for c in cameras},
            image_reliability=self._get("image_reliability"),
            device=self._get("device"),
            precision=self._get("precision"),
            require_gpu=self._get("require_gpu"),
            intra_op_threads=self._get("intra_op_threads"),
            score_threshold=self._get("score_threshold"),
            max_age_ms=self._get("max_age_ms"),
            max_stamp_age_ms=self._get("max_stamp_age_ms"),
            stamp_age_unknown=self._get("stamp_age_unknown"),
            silence_timeout_ms=self._get("silence_timeout_ms"),
            preparation_processes=self._get("preparation_processes"),
            signature_key=required_signature_key(values),
            values=values,
        )

    def _get(self, name: str) -> Any:
        return self._node.get_parameter(name).value

    def _declare(self, name: str, declaration: Declaration) -> None:
        value = declaration.default
        if name in self._overrides:
            override = as_declared(self._overrides[name].value, declaration)
            problem = problem_with(name, override, declaration)
            if problem is None:
                value = override
            else:
                self._problems[name] = problem
        self._node.declare_parameter(name, value, _descriptor(declaration), ignore_override=True)

    def _declare_camera(self, camera: str) -> None:
        transport = Declaration("raw", f"image_transport of {camera} alone.", choices=TRANSPORTS)
        if_set = {f"{camera}.image_transport": transport, **_sink_parameters(camera)}
        always = {f"{camera}.{name}": declaration for name, declaration in CAMERA_DECLARATIONS.items()}
        for name in (*if_set, *always):
            if name in PARAMETERS:
                self._problems["cameras"] = (
                    f"expected other names in parameter cameras, got {camera!r}, whose {name} is a parameter of the "
                    "node; choose another name and remap its topic"
                )
                return
        for name, declaration in {**if_set, **always}.items():
            if name in always or name in self._overrides:
                self._declarations[name] = declaration
                self._declare(name, declaration)

    def _judge_changes(self, changes: Sequence[Parameter[Any]]) -> SetParametersResult:
        for change in changes:
            declaration = self._declarations.get(change.name)
            if declaration is not None:
                problem = problem_with(change.name, change.value, declaration)
                if problem is None and declaration.is_file:
                    problem = _problem_with_file(change.name, change.value)
                if problem is not None:
                    return SetParametersResult(successful=False, reason=problem)
        for change in changes:
            self._problems.pop(change.name, None)
        self._on_change({change.name: change.value for change in changes})
        return SetParametersResult(successful=True)


def _sink_parameters(camera: str) -> dict[str, Declaration]:
    """Return the parameters of all sinks that may be set for one camera."""
    return {name: declaration for sink in SINKS for name, declaration in sink.camera_parameters(camera).items()}


def _problem_with_file(name: str, path: str) -> str | None:
    # Not for overrides: such a file may appear before the node is configured.
    if path in ("", AUTO_MODEL) or Path(path).is_file():
        return None
    return f"expected parameter {name} to be the path of an ONNX file, found none at {path[:200]!r}"


def _descriptor(declaration: Declaration) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=declaration.description, read_only=declaration.read_only)
    low, high = declaration.minimum, declaration.maximum
    if declaration.choices:
        descriptor.additional_constraints = f"one of {', '.join(declaration.choices)}"
    if low is not None and high is not None:
        if isinstance(declaration.default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    return descriptor
