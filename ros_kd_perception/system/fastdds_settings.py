"""Chooses Fast DDS settings for processes that send camera images or masks.

The executables of this package do this before they start the middleware, because its defaults lose large images.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ros_kd_perception.system.orphaned_memory import SHARED_MEMORY
from ros_kd_perception.system.segment_room import NoSharedMemory, free_bytes, room_bytes

PROFILE_VARIABLE = "ROS_KD_PERCEPTION_FASTDDS_PROFILE"
"""Environment variable with the path of a Fast DDS profile to use instead of ours. An empty value turns ours off."""

MAX_PROFILE_BYTES = 1 << 20


@dataclass(frozen=True)
class _FastDds:
    """The settings that a version of Fast DDS reads: environment variables, and a file in the working directory."""

    variables: tuple[str, ...]
    default_file: str


_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
_FASTDDS_2 = _FastDds(("FASTRTPS_DEFAULT_PROFILES_FILE", _TRANSPORTS), "DEFAULT_FASTRTPS_PROFILES.xml")
# ROS also accepts the old variable and warns about it.
_FASTDDS_3 = _FastDds(
    ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", _TRANSPORTS), "DEFAULT_FASTDDS_PROFILES.xml"
)


@dataclass(frozen=True)
class MiddlewareSettings:
    """The settings of the middleware in this process.

    Attributes:
        sentence: One sentence for the log.
        may_lose_images: Whether large images sent as best effort may be lost.
    """

    sentence: str
    may_lose_images: bool = False


def give_large_images_room(environment: MutableMapping[str, str], shipped_profile: Path) -> MiddlewareSettings:
    """Choose the Fast DDS settings for a process that sends camera images or masks, unless the user has chosen some.

    The sender owns the shared memory of a message, so the settings are needed in the sender, not in the receiver.

    Args:
        environment: The environment of this process, `os.environ`. The chosen variable is added to it. Fast DDS reads
            the variable when the first participant is created.
        shipped_profile: The profile to use if PROFILE_VARIABLE is not set.
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
    """Return why Fast DDS cannot use a profile, or an empty string. Fast DDS itself silently drops shared memory."""
    if not profile:
        return f"{PROFILE_VARIABLE} is empty"
    try:
        needed_bytes = room_bytes(segment_bytes(Path(profile)))
    except (OSError, ValueError) as error:
        return f"expected the XML of its settings in {profile}, got: {error}"
    try:
        free = free_bytes()
    except NoSharedMemory as error:
        return f"{error}, but its shared memory must be there"
    if free >= needed_bytes:
        return ""
    return (
        f"its profile needs {needed_bytes / 1e6:.0f} MB of {SHARED_MEMORY}, but {free / 1e6:.0f} MB are free; start a "
        "container with --shm-size=512m or --ipc=host"
    )


def segment_bytes(profile: Path) -> int:
    """Return the total size of a profile's shared memory segments.

    Raises:
        OSError: The profile cannot be read.
        ValueError: The profile is too large or not XML, or a segment has no size in bytes.
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
    # ElementTree puts the namespace before the name: {http://www.eprosima.com}segment_size.
    return sum(int(element.text or "") for element in elements if element.tag.rpartition("}")[2] == "segment_size")


def _found_settings(environment: Mapping[str, str]) -> str:
    """Return the middleware settings of the user that our profile would override, or an empty string."""
    middleware = environment.get("RMW_IMPLEMENTATION")
    if middleware and not middleware.startswith("rmw_fastrtps"):
        return _assignments({"RMW_IMPLEMENTATION": middleware})
    release = _release(environment)
    # An empty variable does not count: Fast DDS then uses its defaults, which lose large images.
    variables = {name: environment[name] for name in release.variables if environment.get(name)}
    files = [str(Path(release.default_file).absolute())] if Path(release.default_file).is_file() else []
    return ", ".join([*filter(None, [_assignments(variables)]), *files])


def _assignments(variables: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in variables.items())


def fastdds_profile_variable(environment: Mapping[str, str]) -> str:
    """Return the name of the environment variable that Fast DDS reads its settings from.

    Args:
        environment: The environment of the process. Its ROS_DISTRO determines the version of Fast DDS.
    """
    return _release(environment).variables[0]


def _release(environment: Mapping[str, str]) -> _FastDds:
    return _FASTDDS_2 if environment.get("ROS_DISTRO") in ("humble", "iron", "jazzy") else _FASTDDS_3
