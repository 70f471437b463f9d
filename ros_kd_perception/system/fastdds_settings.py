"""Fast DDS settings for processes that send camera images or masks.

The executables of this package choose them before they start the middleware: with its defaults large images are lost.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ros_kd_perception.system.orphaned_memory import SHARED_MEMORY
from ros_kd_perception.system.segment_room import NoSharedMemory, free_bytes, room_bytes

PROFILE_VARIABLE = "ROS_KD_PERCEPTION_FASTDDS_PROFILE"
"""Names the profile that our executables give Fast DDS in place of the shipped one; set to nothing, it is none."""

MAX_PROFILE_BYTES = 1 << 20


@dataclass(frozen=True)
class _FastDds:
    """What a version of Fast DDS reads: its variables, and a file in the folder that the process starts in."""

    variables: tuple[str, ...]
    default_file: str


_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
_FASTDDS_2 = _FastDds(("FASTRTPS_DEFAULT_PROFILES_FILE", _TRANSPORTS), "DEFAULT_FASTRTPS_PROFILES.xml")
# ROS takes the old variable, too, and warns about it.
_FASTDDS_3 = _FastDds(
    ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", _TRANSPORTS), "DEFAULT_FASTDDS_PROFILES.xml"
)


@dataclass(frozen=True)
class MiddlewareSettings:
    """The settings that the middleware of this process runs with.

    Attributes:
        sentence: one, for the log.
        may_lose_images: large images that are sent as best effort may be lost.
    """

    sentence: str
    may_lose_images: bool = False


def give_large_images_room(environment: MutableMapping[str, str], shipped_profile: Path) -> MiddlewareSettings:
    """Choose the Fast DDS settings for a process that sends camera images or masks, unless its caller chose some.

    The sender owns the shared memory that messages travel in, so the settings belong to it and not to who receives.

    Args:
        environment: of this process, `os.environ`; the chosen variable is added. Fast DDS reads it when the first
            participant is created, not before.
        shipped_profile: Fast DDS settings, unless PROFILE_VARIABLE names others.
    """
    if found := _found_settings(environment):
        return MiddlewareSettings(f"the middleware keeps the settings that it was started with: {found}")
    profile = environment.get(PROFILE_VARIABLE, str(shipped_profile))
    if reason := _why_unusable(profile):
        return MiddlewareSettings(
            f"Fast DDS may lose images of more than half a megabyte that are sent as best effort: {reason}", True
        )
    chosen = {fastdds_profile_variable(environment): profile}
    environment.update(chosen)
    return MiddlewareSettings(f"Fast DDS has room for large images: {_assignments(chosen)}")


def _why_unusable(profile: str) -> str:
    """Say why Fast DDS could not use a profile, or empty; it would do without shared memory then, and say nothing."""
    if not profile:
        return f"{PROFILE_VARIABLE} is empty"
    try:
        needed_bytes = room_bytes(_segment_bytes(Path(profile)))
    except (OSError, ValueError) as error:
        return f"expected the XML of its settings in {profile}, got: {error}"
    try:
        free = free_bytes()
    except NoSharedMemory as error:
        return f"{error}, where its shared memory would be"
    if free >= needed_bytes:
        return ""
    return (
        f"its profile takes {needed_bytes / 1e6:.0f} MB of {SHARED_MEMORY}, but {free / 1e6:.0f} MB are free; start a "
        "container with --shm-size=512m or --ipc=host"
    )


def _segment_bytes(profile: Path) -> int:
    """What the segments of a profile take together.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no XML, or a segment without a size in bytes.
    """
    if not profile.is_file():
        raise FileNotFoundError("there is no such file")
    with profile.open("rb") as file:
        content = file.read(MAX_PROFILE_BYTES + 1)
    if len(content) > MAX_PROFILE_BYTES:
        raise ValueError(f"it has more than {MAX_PROFILE_BYTES} bytes")
    try:
        elements = list(ElementTree.fromstring(content).iter())
    except ElementTree.ParseError as error:
        raise ValueError(error) from None
    # Names begin with the namespace: {http://www.eprosima.com}segment_size.
    return sum(int(element.text or "") for element in elements if element.tag.rpartition("}")[2] == "segment_size")


def _found_settings(environment: Mapping[str, str]) -> str:
    """What the caller chose of the middleware that a profile for large images would take the place of, or empty."""
    middleware = environment.get("RMW_IMPLEMENTATION")
    if middleware and not middleware.startswith("rmw_fastrtps"):
        return _assignments({"RMW_IMPLEMENTATION": middleware})
    release = _release(environment)
    # To a variable that is set to nothing, Fast DDS prefers its defaults, in which large images are lost.
    variables = {name: environment[name] for name in release.variables if environment.get(name)}
    files = [str(Path(release.default_file).absolute())] if Path(release.default_file).is_file() else []
    return ", ".join([*filter(None, [_assignments(variables)]), *files])


def _assignments(variables: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in variables.items())


def fastdds_profile_variable(environment: Mapping[str, str]) -> str:
    """Name the variable that Fast DDS reads its settings from.

    Args:
        environment: of the process; its ROS_DISTRO tells the version.
    """
    return _release(environment).variables[0]


def _release(environment: Mapping[str, str]) -> _FastDds:
    return _FASTDDS_2 if environment.get("ROS_DISTRO") in ("humble", "iron", "jazzy") else _FASTDDS_3
