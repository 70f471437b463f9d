"""What to say of a camera: level, state and one sentence for everything that is amiss, from figures alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from ros_kd_perception.health.watch import WatchReport
from ros_kd_perception.structures import FrameCounts

STATES = (
    "inactive",
    "waiting",  # active, nothing yet, and not for long
    "ok",
    "missing",  # no publisher
    "silent",  # a publisher that fits, but nothing arrives
    "incompatible",  # a publisher whose QoS or type does not fit
    "failed",  # the network raised
    "wrong_encoding",
    "bad_frames",  # malformed in another way
    "stale",  # header stamps beyond the age limit
    "clocks_apart",  # the age limit cannot be applied
    "backward_stamps",
    "future_stamps",
    "duplicated",
    "frozen",  # new stamps, the same picture to the last bit
    "changed_size",
    "unusable_frame_id",  # that tf2 cannot look up
    "overloaded",  # the machine cannot keep up
)
"""Values of `state` in the diagnostics of a camera."""

_NOTHING_FOR_S = 2.0  # without one result although images come: an error rather than a slow machine
_BY_DESIGN = ("lost", "replaced", "too_old", "inactive")
_OWN_STATE = {
    "unknown_encoding": "wrong_encoding",
    "stale": "stale",
    "zero_stamp": "backward_stamps",
    "stamp_backwards": "backward_stamps",
    "stamp_ahead": "future_stamps",
    "duplicate": "duplicated",
}
_REMEDIES = (
    "large images need the Fast DDS profile config/fastdds_large_images.xml in the environment of the sender, the "
    "camera driver or bag player, or image_reliability: reliable here"
)


class Level(IntEnum):
    """How bad it is, in the numbers of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class CameraLink:
    """What the graph says of a camera's topic.

    Attributes:
        topic: fully qualified.
        publishers: how many there are, whether they fit or not.
        mismatch: why one of them cannot be heard (QoS or type), empty if all fit.
    """

    topic: str
    publishers: int
    mismatch: str = ""


@dataclass(frozen=True)
class CameraFacts:
    """What is known of an active camera.

    Attributes:
        recent: its frames of the window.
        span_s: length of the window.
        link: its topic.
        silent_s: since the last message, or since the activation.
        has_sent: whether anything has arrived since the activation.
        silence_timeout_ms: how long it may be silent.
        refusal: why a frame was refused last.
        watch: what was noticed of its frames.
        stamp_limit_suspended: whether an age limit on stamps was asked for that cannot be applied.
    """

    recent: FrameCounts
    span_s: float
    link: CameraLink
    silent_s: float
    has_sent: bool
    silence_timeout_ms: float
    refusal: str = ""
    watch: WatchReport = field(default_factory=WatchReport)
    stamp_limit_suspended: bool = False


@dataclass(frozen=True)
class Verdict:
    """Level and state of the worst finding, and a sentence for each, worst first; `state` is one of `STATES`."""

    level: Level
    state: str
    message: str


def judge(facts: CameraFacts) -> Verdict:
    """Say what is amiss with a camera, or at which rate it runs if nothing is."""
    if facts.silent_s * 1e3 > facts.silence_timeout_ms:
        return _why_silent(facts)
    findings = sorted(_findings(facts), key=lambda finding: -finding.level)
    if findings:
        return Verdict(findings[0].level, findings[0].state, "; ".join(finding.message for finding in findings))
    if not facts.recent.published:
        return Verdict(Level.OK, "waiting", "waiting for frames")
    return Verdict(Level.OK, "ok", _rates(facts))


def _findings(facts: CameraFacts) -> Iterator[Verdict]:
    recent, dropped, watch = facts.recent, facts.recent.dropped, facts.watch
    if dropped.get("failed", 0):
        text = f"inference failed on {dropped['failed']} of the last {recent.received} frames"
        yield Verdict(Level.ERROR, "failed", text)
    if facts.link.mismatch:
        text = f"a publisher on {facts.link.topic} cannot be heard: {facts.link.mismatch}"
        yield Verdict(Level.ERROR, "incompatible", text)
    refused = {r: n for r, n in dropped.items() if n and r not in (*_BY_DESIGN, "failed")}
    if refused:
        yield _refusal(facts, refused)
    if facts.stamp_limit_suspended:
        text = (
            "max_stamp_age_ms cannot be applied: header stamps are more than 10 s behind the clock, or ahead of it; "
            "synchronise the camera's clock, or for a bag set use_sim_time and play it with /clock; stamp_age_unknown "
            "says whether frames are published meanwhile"
        )
        yield Verdict(Level.WARN, "clocks_apart", text)
    if watch.time_jumps_s:
        text = (
            f"header stamps jumped back by {watch.time_jumps_s[-1]:.1f} s: a new time line counts, as with a looped bag"
        )
        yield Verdict(Level.WARN, "backward_stamps", text)
    if watch.wrongly_ahead_s:
        text = (
            f"a header stamp was {watch.wrongly_ahead_s[-1]:.1f} s ahead of those around it, and its frame published; "
            "look at what stamps the camera's images"
        )
        yield Verdict(Level.WARN, "future_stamps", text)
    if watch.frozen_s:
        text = f"the picture has not changed in one bit for {watch.frozen_s:.1f} s: the camera or its driver hangs"
        yield Verdict(Level.WARN, "frozen", text)
    if len(watch.sizes) > 1:
        yield Verdict(Level.WARN, "changed_size", f"frames changed their size: {' to '.join(watch.sizes[-4:])}")
    if watch.frame_id_problem:
        text = f"{watch.frame_id_problem}; set it in the camera's driver, results carry it unchanged"
        yield Verdict(Level.WARN, "unusable_frame_id", text)
    nothing = not recent.published and facts.span_s >= _NOTHING_FOR_S
    overloaded = Level.ERROR if nothing else Level.WARN
    if dropped.get("too_old", 0):
        text = f"{dropped['too_old']} of the last {recent.received} frames waited too long and were dropped"
        yield Verdict(overloaded, "overloaded", text)
    elif (replaced := dropped.get("replaced", 0) + (lost := dropped.get("lost", 0))) * 2 > recent.received:
        text = f"cannot keep up: {_rates(facts)}"
        if lost * 2 > replaced:
            text += (
                f"; {lost} of the last {recent.received} frames were lost before the node took them, on a machine that "
                f"is too busy or on their way: {_REMEDIES}"
            )
        yield Verdict(overloaded, "overloaded", text)


def _refusal(facts: CameraFacts, refused: dict[str, int]) -> Verdict:
    level = Level.WARN if facts.recent.published else Level.ERROR
    most = max(refused, key=lambda reason: refused[reason])
    reasons = ", ".join(f"{reason} {count}" for reason, count in refused.items())
    text = f"refused {sum(refused.values())} of the last {facts.recent.received} frames: {reasons}"
    if facts.refusal:
        text += f" ({facts.refusal})"
    if most in ("stamp_backwards", "duplicate") and facts.link.publishers > 1:
        text += f"; {facts.link.publishers} publishers send on {facts.link.topic}, one is too many"
    return Verdict(level, _OWN_STATE.get(most, "bad_frames"), text)


def _why_silent(facts: CameraFacts) -> Verdict:
    link, nothing = facts.link, f"nothing for {facts.silent_s:.1f} s"
    if link.publishers == 0:
        text = f"{nothing}: no publisher on {link.topic}; start the camera or remap the topic"
        return Verdict(Level.ERROR, "missing", text)
    if link.mismatch:
        text = f"{nothing}: a publisher on {link.topic} cannot be heard: {link.mismatch}"
        return Verdict(Level.ERROR, "incompatible", text)
    matched = f"{nothing} though {link.publishers} publisher(s) match on {link.topic}"
    why = "they have sent before, look at the camera" if facts.has_sent else _REMEDIES
    return Verdict(Level.ERROR, "silent", f"{matched}: {why}")


def _rates(facts: CameraFacts) -> str:
    recent, span_s = facts.recent, facts.span_s
    return f"{recent.published / span_s:.1f} of {recent.received / span_s:.1f} frames/s"
