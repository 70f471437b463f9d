"""Turns the figures of a camera into a verdict: level, state and one sentence for each fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from ros_kd_perception.health.watch import WatchReport
from ros_kd_perception.structures import FrameCounts

STATES = (
    "inactive",
    "disabled",  # by its parameter
    "waiting",  # active, no frame yet, within the silence timeout
    "ok",
    "missing",  # no publisher
    "silent",  # a matching publisher, but no messages
    "incompatible",  # a publisher whose QoS or type does not fit
    "failed",  # inference raised an error
    "wrong_encoding",
    "bad_frames",  # malformed in another way
    "stale",  # header stamps beyond the age limit
    "clocks_apart",  # the age limit cannot be applied
    "backward_stamps",
    "future_stamps",
    "duplicated",
    "frozen",  # new stamps, but an identical picture
    "changed_size",
    "unusable_frame_id",  # tf2 cannot look it up
    "overloaded",  # the machine cannot keep up
)
"""Values of `state` in the diagnostics of a camera."""

_NOTHING_FOR_S = 2.0  # images but no result for this long is an error; less can be a slow machine
_BY_DESIGN = ("lost", "replaced", "over_rate", "too_old", "inactive")
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
    """Severity, with the numbers of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class CameraLink:
    """The publishers on a camera's topic.

    Attributes:
        topic: Fully qualified name of the topic.
        publishers: Number of publishers, whether they match or not.
        mismatch: Why a publisher does not match (QoS or type). Empty if all match.
    """

    topic: str
    publishers: int
    mismatch: str = ""


@dataclass(frozen=True)
class CameraFacts:
    """The figures of an active camera, from which `judge` makes a verdict.

    Attributes:
        recent: Counts of its frames in the window.
        span_s: Length of the window in seconds.
        link: The publishers on its topic.
        silent_s: Seconds since the last message or since the activation.
        has_sent: Whether a message has arrived since the activation.
        silence_timeout_ms: How long the camera may be silent.
        refusal: Why the latest faulty frame was refused.
        watch: Faults that show only across frames.
        stamp_limit_suspended: Whether an age limit on stamps is set but cannot be applied.
        max_rate_hz: Limit on the frames a second that are taken; 0 for no limit.
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
    max_rate_hz: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """The result of judging a camera.

    Attributes:
        level: Level of the worst finding.
        state: State of the worst finding, one of `STATES`.
        message: One sentence for each finding, worst first.
    """

    level: Level
    state: str
    message: str


def judge(facts: CameraFacts) -> Verdict:
    """Return the faults of a camera, or its frame rates if it has none."""
    if facts.silent_s * 1e3 > facts.silence_timeout_ms:
        return _why_silent(facts)
    findings = sorted(_findings(facts), key=lambda finding: -finding.level)
    if findings:
        return Verdict(findings[0].level, findings[0].state, "; ".join(finding.message for finding in findings))
    if not facts.recent.published and not facts.recent.dropped.get("over_rate", 0):
        return Verdict(Level.OK, "waiting", "waiting for frames")
    return Verdict(Level.OK, "ok", _rates(facts))


def _findings(facts: CameraFacts) -> Iterator[Verdict]:
    recent, dropped, watch = facts.recent, facts.recent.dropped, facts.watch
    if dropped.get("failed", 0):
        text = f"inference failed on {dropped['failed']} of the last {recent.received} frames"
        yield Verdict(Level.ERROR, "failed", text)
    if facts.link.mismatch:
        text = f"messages of a publisher on {facts.link.topic} cannot be received: {facts.link.mismatch}"
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
            f"header stamps jumped back by {watch.time_jumps_s[-1]:.1f} s: a new time line begins, as with a looped bag"
        )
        yield Verdict(Level.WARN, "backward_stamps", text)
    if watch.wrongly_ahead_s:
        text = (
            f"a header stamp was {watch.wrongly_ahead_s[-1]:.1f} s ahead of its neighbours, its frame was published; "
            "check the driver that stamps the camera's images"
        )
        yield Verdict(Level.WARN, "future_stamps", text)
    if watch.frozen_s:
        text = f"no bit of the picture has changed for {watch.frozen_s:.1f} s: the camera or its driver hangs"
        yield Verdict(Level.WARN, "frozen", text)
    if len(watch.sizes) > 1:
        yield Verdict(Level.WARN, "changed_size", f"frames changed their size: {' to '.join(watch.sizes[-4:])}")
    if watch.frame_id_problem:
        text = f"{watch.frame_id_problem}; set it in the camera's driver, because results carry it unchanged"
        yield Verdict(Level.WARN, "unusable_frame_id", text)
    wanted = recent.received - dropped.get("over_rate", 0)
    nothing = not recent.published and facts.span_s >= _NOTHING_FOR_S
    overloaded = Level.ERROR if nothing else Level.WARN
    if dropped.get("too_old", 0):
        text = f"{dropped['too_old']} of the last {recent.received} frames waited too long and were dropped"
        yield Verdict(overloaded, "overloaded", text)
    elif (replaced := dropped.get("replaced", 0) + (lost := dropped.get("lost", 0))) * 2 > wanted:
        text = f"cannot keep up: {_rates(facts)}"
        if lost * 2 > replaced:
            text += (
                f"; {lost} of the last {recent.received} frames were lost before the node received them, because the "
                f"machine is too busy or in the middleware: {_REMEDIES}"
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
        text += f"; {facts.link.publishers} publishers send on {facts.link.topic}, expected one"
    return Verdict(level, _OWN_STATE.get(most, "bad_frames"), text)


def _why_silent(facts: CameraFacts) -> Verdict:
    link, nothing = facts.link, f"nothing for {facts.silent_s:.1f} s"
    if link.publishers == 0:
        text = f"{nothing}: no publisher on {link.topic}; start the camera or remap the topic"
        return Verdict(Level.ERROR, "missing", text)
    if link.mismatch:
        text = f"{nothing}: messages of a publisher on {link.topic} cannot be received: {link.mismatch}"
        return Verdict(Level.ERROR, "incompatible", text)
    matched = f"{nothing} though {link.publishers} publisher(s) match on {link.topic}"
    why = "it has sent before, check the camera" if facts.has_sent else _REMEDIES
    return Verdict(Level.ERROR, "silent", f"{matched}: {why}")


def _rates(facts: CameraFacts) -> str:
    recent, span_s = facts.recent, facts.span_s
    limit = f", max_rate_hz is {facts.max_rate_hz:g}" if facts.max_rate_hz else ""
    return f"{recent.published / span_s:.1f} of {recent.received / span_s:.1f} frames/s{limit}"
