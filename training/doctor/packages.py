"""Findings about Python packages: which are there, in which version, and whether they can be imported."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from training.doctor.finding import Finding
from training.doctor.probe import IMPORT, Facts
from training.doctor.requirements import Requirement

PYTHON_MIN = (3, 11)
NEEDED, OPTIONAL, ROS = "Packages that training needs", "Optional packages", "ROS 2"
EXTRAS = ("training", "cpu", "bag", "pretrained")
_MODULE_OF = {
    "faster-coco-eval": "faster_coco_eval",
    "onnxruntime-gpu": "onnxruntime",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "PyYAML": "yaml",
}
# Distributions that bring the same module as the one that an extra names.
_SAME_MODULE = {
    "onnxruntime": ("onnxruntime-gpu",),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
# What does not work without a package; training by labels and frames of folders works without all of them.
_USES = {
    "av": "overlay videos that browsers play",
    "matplotlib": "plots of comparisons and of the demo's report",
    "rosbags": "frames out of bags",
    "scipy": "intervals of comparisons",
    "simplejpeg": "JPEG frames that are checked for damage by libjpeg itself",
    "transformers": "backbones and teachers of the transformers library",
}


@dataclass(frozen=True)
class Other:
    """A module that no extra of this check names.

    Attributes:
        module: Name for `import`.
        use: What does not work without it.
        remedy: What to do if it is missing, in one sentence.
        section: Heading of the report.
    """

    module: str
    use: str
    remedy: str
    section: str = OPTIONAL


_ROS_REMEDY = "source a ROS 2 installation, or run pip install -e '.[ros]' on x86-64 Linux"
OTHERS = (
    Other("mlflow", "the log of runs on an MLflow server (train --mlflow)", "run pip install -e '.[mlflow]'"),
    Other("keras", "the export of Keras networks to ONNX", "run pip install keras, best in an environment of its own"),
    Other("rclpy", "the node, on this machine", _ROS_REMEDY, ROS),
    Other("sensor_msgs", "the node, on this machine", _ROS_REMEDY, ROS),
    Other(
        "vision_msgs", "detections on topics", "install its apt package, or run make demo once, which builds it", ROS
    ),
    Other("cv_bridge", "rare image encodings", "install ros-DISTRO-cv-bridge; PyPI does not have it", ROS),
)


def probes_of(extras: Mapping[str, Sequence[Requirement]]) -> list[str]:
    """Return the probes that the findings need: one import for each module."""
    modules = [_module_of(requirement.package) for requirement in _of_extras(extras)]
    return [f"{IMPORT}{module}" for module in dict.fromkeys([*modules, *(other.module for other in OTHERS)])]


def package_findings(extras: Mapping[str, Sequence[Requirement]], facts: Mapping[str, Facts]) -> list[Finding]:
    """Return a finding for Python and for each package of the extras, and those about ROS.

    Args:
        extras: Result of `read_extras`.
        facts: Results of `probes_of`.
    """
    found = [_python()]
    pretrained = {requirement.package for requirement in extras.get("pretrained", ())}
    for requirement in _of_extras(extras):
        use = _USES.get(requirement.package, "")
        if requirement.package in pretrained:
            use = "this pretrained backbone"
        found.append(_of_package(requirement, use, facts[f"{IMPORT}{_module_of(requirement.package)}"]))
    found += [_both_runtimes()] if all(map(version_of, ("onnxruntime", "onnxruntime-gpu"))) else []
    found += [_of_other(other, facts[f"{IMPORT}{other.module}"]) for other in OTHERS]
    return sorted(
        [*found, _ros_wheels(extras.get("ros", ()))], key=lambda item: (NEEDED, OPTIONAL, ROS).index(item.section)
    )


def version_of(package: str) -> str:
    """Return the installed version of a distribution; empty if there is none."""
    try:
        return metadata.version(package)
    except Exception:  # a damaged installation raises other errors than PackageNotFoundError
        return ""


def _of_extras(extras: Mapping[str, Sequence[Requirement]]) -> list[Requirement]:
    by_package = {requirement.package: requirement for extra in EXTRAS for requirement in extras.get(extra, ())}
    pinned = {requirement.package: requirement for requirement in extras.get("training", ())}
    return [Requirement("numpy"), *(by_package | pinned).values()]


def _module_of(package: str) -> str:
    return _MODULE_OF.get(package, package.replace("-", "_"))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= PYTHON_MIN:
        return Finding(NEEDED, "Python", "ok", version, required=True)
    remedy = "make a virtual environment with Python 3.11 to 3.13"
    return Finding(NEEDED, "Python", "broken", version, remedy, required=True)


def _of_package(requirement: Requirement, use: str, facts: Facts) -> Finding:
    section, name, required = (OPTIONAL if use else NEEDED), requirement.package, not use
    needed_for = f" for {use}" if use else ""
    install = f"run pip install '{requirement.text}'{needed_for}"
    installed = next(filter(None, map(version_of, (name, *_SAME_MODULE.get(name, ())))), "")
    version = installed or facts.get("version", "")
    if facts.get("missing"):
        return Finding(section, name, "missing", "", install, required)
    if facts.get("error"):
        remedy = f"run pip install --force-reinstall '{requirement.text}'{needed_for}"
        return Finding(
            section, name, "broken", f"{version} cannot be imported: {facts['error']}".strip(), remedy, required
        )
    if not requirement.accepts(version or "0"):
        asked = "pins" if requirement.operator == "==" else "asks for"
        return Finding(section, name, "note", version, f"setup.py {asked} {requirement.text}; {install}", required)
    return Finding(section, name, "ok", version, required=required)


def _both_runtimes() -> Finding:
    remedy = "uninstall onnxruntime and onnxruntime-gpu, then install one of them: both write the same files"
    return Finding(NEEDED, "onnxruntime", "note", "onnxruntime and onnxruntime-gpu are both installed", remedy)


def _of_other(other: Other, facts: Facts) -> Finding:
    if facts.get("missing"):
        return Finding(other.section, other.module, "missing", "", f"{other.remedy}, for {other.use}")
    if facts.get("error"):
        found = f"cannot be imported: {facts['error']}"
        return Finding(other.section, other.module, "broken", found, f"{other.remedy}, for {other.use}")
    return Finding(other.section, other.module, "ok", version_of(other.module) or facts.get("version", ""))


def _ros_wheels(pinned: Sequence[Requirement]) -> Finding:
    versions = {requirement: version_of(requirement.package) for requirement in pinned}
    absent = [wheel.package for wheel, version in versions.items() if not version]
    other = [wheel.package for wheel, version in versions.items() if version and not wheel.accepts(version)]
    name, there = "ROS 2 wheels", f"{len(pinned) - len(absent)} of {len(pinned)}"
    if pinned and len(absent) == len(pinned):
        return Finding(ROS, name, "missing", "", f"{_ROS_REMEDY}; a ROS 2 installation needs no wheels")
    if absent or other:
        names = ", ".join((absent or other)[:3])
        what = f"{there}; {'without' if absent else 'in another version'} {names}"
        return Finding(ROS, name, "note", what, "run pip install -e '.[ros]'")
    return Finding(ROS, name, "ok", there)
