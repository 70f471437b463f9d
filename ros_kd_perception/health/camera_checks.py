"""Checks of cameras, clock and mountings for `check_vehicle`: each takes facts and returns a finding."""

from __future__ import annotations

from dataclasses import dataclass

from ros_kd_perception.health.finding import Finding
from ros_kd_perception.health.stamp_age import AHEAD_MS, APART_S, FUTURE_S
from ros_kd_perception.health.verdict import CameraLink, Level
from ros_kd_perception.health.watch import frame_id_problem

LARGE_SEGMENT_BYTES = 4 << 20
"""The default segments of Fast DDS are smaller, those for images are larger."""
USUAL_LIMIT_MS = 500.0
"""Age of an image on its arrival from which on it is hardly of use to a vehicle."""


@dataclass(frozen=True)
class CameraSample:
    """What came from one camera while somebody listened.

    Attributes:
        camera: Name of the camera.
        link: The publishers on its topic.
        listened_s: For how long somebody listened.
        received: Number of messages that came.
        span_s: Seconds from the first to the last arrival.
        formats: Encodings and sizes that came, for example `bgr8 1280x720`.
        message_bytes: Size of the largest message.
        refused: Number of messages that cannot be decoded or whose stamps are refused.
        refusal: Why, for the first of them, one sentence.
        frame_ids: Frame ids that came.
        youngest_ms: Smallest age of a header stamp on arrival, by the clock of the node. Negative: ahead of it. None
            without a message or without a time.
        oldest_ms: Largest age.
        is_enabled: Whether the node subscribes to the camera.
        max_rate_hz: The parameter, 0 for no limit.
    """

    camera: str
    link: CameraLink
    listened_s: float
    received: int = 0
    span_s: float = 0.0
    formats: tuple[str, ...] = ()
    message_bytes: int = 0
    refused: int = 0
    refusal: str = ""
    frame_ids: tuple[str, ...] = ()
    youngest_ms: float | None = None
    oldest_ms: float | None = None
    is_enabled: bool = True
    max_rate_hz: float = 0.0

    @property
    def rate_hz(self) -> float | None:
        """Messages a second, None for fewer than two messages."""
        return (self.received - 1) / self.span_s if self.received > 1 and self.span_s > 0 else None


@dataclass(frozen=True)
class ClockFacts:
    """The clock of the graph.

    Attributes:
        use_sim_time: The parameter of the node.
        publishers: Number of publishers on /clock.
        ticks: Number of messages that came on it.
    """

    use_sim_time: bool
    publishers: int = 0
    ticks: int = 0


@dataclass(frozen=True)
class CalibrationFacts:
    """The calibration and the mounting of one camera.

    Attributes:
        topic: Topic of the CameraInfo.
        is_needed: Whether the camera has an output that needs it: one on the ground, or the CameraInfo itself.
        publishers: Number of publishers on it.
        received: Whether a CameraInfo came.
        problem: Why it cannot be used, one sentence. Empty if it can.
        doubt: What is possible but unlikely, one sentence.
        size: Its image size, for example `1280x720`.
        mounting: Why TF does not give the mounting, one sentence. Empty if it does. None if TF is not asked.
    """

    topic: str
    is_needed: bool
    publishers: int = 0
    received: bool = False
    problem: str = ""
    doubt: str = ""
    size: str = ""
    mounting: str | None = None


def check_camera(sample: CameraSample, large_segments: int) -> Finding:
    """Check that images come, and at which rate.

    Args:
        sample: What came from the camera.
        large_segments: Number of processes with room for large images in their shared memory.
    """
    check, link = f"camera {sample.camera}", sample.link
    if not sample.is_enabled:
        return Finding(check, Level.OK, f"disabled by the parameter {sample.camera}.enabled")
    if sample.received:
        rate = sample.rate_hz
        what = f"{', '.join(sample.formats)}, " if sample.formats else ""
        speed = "one message" if rate is None else f"{rate:.1f} images/s"
        several = f" from {link.publishers} publishers" if link.publishers > 1 else ""
        sentence = f"{what}{speed} on {link.topic}{several}"
        if link.publishers > 1:
            return Finding(check, Level.WARN, sentence, "keep one publisher: a relay or a second driver mixes images")
        return Finding(check, Level.OK, sentence)
    nothing = f"nothing came on {link.topic} in {sample.listened_s:.1f} s"
    if not link.publishers:
        return Finding(check, Level.ERROR, f"{nothing}: it has no publisher", "start the camera or remap the topic")
    if link.mismatch:
        sentence, _, remedy = link.mismatch.partition("; ")
        return Finding(check, Level.ERROR, f"{nothing}: a publisher does not match, {sentence}", remedy)
    remedy = (
        "check the camera; give its driver the Fast DDS profile config/fastdds_large_images.xml, or set "
        "image_reliability: reliable"
    )
    sentence = f"{nothing} though {link.publishers} publisher(s) match"
    if not large_segments:
        sentence += ", and no process here has shared memory for large images"
    return Finding(check, Level.ERROR, sentence, remedy)


def check_pictures(sample: CameraSample) -> Finding:
    """Check that the images can be read, and keep encoding and size."""
    check = f"camera {sample.camera}: pictures"
    if sample.refused:
        level = Level.ERROR if sample.refused == sample.received else Level.WARN
        return Finding(check, level, f"{sample.refused} of {sample.received} are refused: {sample.refusal}")
    if len(sample.formats) > 1:
        remedy = "set the camera's driver to one encoding and size"
        return Finding(check, Level.WARN, f"they change: {', '.join(sample.formats)}", remedy)
    return Finding(check, Level.OK, f"can be read, {sample.message_bytes / 1e6:.2f} MB each")


def check_frame_id(sample: CameraSample) -> Finding:
    """Check that tf2 can look up the frame ids."""
    check = f"camera {sample.camera}: frame_id"
    problem = next(filter(None, map(frame_id_problem, sample.frame_ids)), "")
    if problem:
        return Finding(check, Level.WARN, problem, "set it in the camera's driver, results carry it unchanged")
    if len(sample.frame_ids) > 1:
        sentence = f"it changes: {', '.join(sample.frame_ids)[:200]}"
        return Finding(check, Level.WARN, sentence, "look for a second publisher on the topic")
    return Finding(check, Level.OK, ", ".join(sample.frame_ids)[:200])


def check_stamps(sample: CameraSample, clock: ClockFacts) -> Finding:
    """Check the header stamps against the clock of the node."""
    check = f"camera {sample.camera}: stamps"
    youngest_ms, oldest_ms = sample.youngest_ms, sample.oldest_ms
    if youngest_ms is None or oldest_ms is None:
        return Finding(check, Level.WARN, "cannot be compared with a clock, no time has come", "play /clock")
    name = "/clock" if clock.use_sim_time else "the system clock"
    if youngest_ms < -FUTURE_S * 1e3 or oldest_ms > APART_S * 1e3:
        far_ms = oldest_ms if oldest_ms > -youngest_ms else youngest_ms
        remedy = _remedy_for_clocks(clock)
        return Finding(check, Level.ERROR, f"{_apart(far_ms)} {name}, so no age of an image is known", remedy)
    if youngest_ms < -AHEAD_MS:
        remedy = "synchronise the clocks of camera and computer (PTP, chrony)"
        return Finding(check, Level.WARN, f"{_apart(youngest_ms)} {name}", remedy)
    if youngest_ms > USUAL_LIMIT_MS:
        sentence = f"images are {youngest_ms:.0f} ms old or older when they arrive, by {name}"
        remedy = "look for a queue or a slow encoder between camera and node, or for clocks that differ"
        return Finding(check, Level.WARN, sentence, remedy)
    return Finding(
        check, Level.OK, f"images are {youngest_ms:.0f} to {oldest_ms:.0f} ms old when they arrive, by {name}"
    )


def check_clock(facts: ClockFacts) -> Finding:
    """Check that `use_sim_time` fits what is on /clock."""
    if facts.use_sim_time and not facts.ticks:
        why = "it has no publisher" if not facts.publishers else "nothing came on it"
        remedy = "play /clock with the bag, or set use_sim_time: false"
        return Finding("clock", Level.ERROR, f"use_sim_time is true, but there is no time on /clock: {why}", remedy)
    if facts.use_sim_time:
        return Finding("clock", Level.OK, f"use_sim_time is true, {facts.ticks} messages came on /clock")
    if facts.publishers:
        sentence = "use_sim_time is false, but /clock has a publisher: other nodes follow a simulated time"
        return Finding("clock", Level.WARN, sentence, "set use_sim_time: true for a bag or a simulator")
    return Finding("clock", Level.OK, "the system clock, /clock has no publisher")


def check_calibration(camera: str, facts: CalibrationFacts, image_sizes: tuple[str, ...] = ()) -> Finding:
    """Check the CameraInfo of a camera. Only outputs on the ground need one, and `publish_camera_info`.

    Args:
        camera: Name of the camera.
        facts: What came.
        image_sizes: Sizes of its images, for example `1280x720`.
    """
    check = f"camera {camera}: camera_info"
    bad = Level.ERROR if facts.is_needed else Level.OK
    use = "" if facts.is_needed else ", and only outputs on the ground need it"
    if not facts.received:
        why = "it has no publisher" if not facts.publishers else "nothing came on it"
        remedy = "publish the calibration beside the images" if facts.is_needed else ""
        return Finding(check, bad, f"none on {facts.topic}: {why}{use}", remedy)
    if facts.problem:
        return Finding(check, bad, f"{facts.problem}{use}")
    if image_sizes and facts.size not in image_sizes and facts.is_needed:
        sentence = f"it is for {facts.size} px, the images have {', '.join(image_sizes)}"
        return Finding(check, Level.ERROR, sentence, "send the calibration of the images' size")
    if facts.doubt and facts.is_needed:
        return Finding(check, Level.WARN, facts.doubt)
    return Finding(check, Level.OK, f"{facts.size} px on {facts.topic}")


def check_mounting(camera: str, facts: CalibrationFacts) -> Finding | None:
    """Check the mounting from TF. Returns None for a camera whose mounting does not come from TF."""
    if facts.mounting is None:
        return None
    level = Level.ERROR if facts.mounting else Level.OK
    return Finding(f"camera {camera}: mounting", level, facts.mounting or "TF has it")


def _remedy_for_clocks(clock: ClockFacts) -> str:
    if clock.publishers and not clock.use_sim_time:
        return "set use_sim_time: true, because the images of a bag or a simulator follow /clock"
    if clock.use_sim_time:
        return "play the images and /clock from the same bag"
    return "synchronise the clock of the camera (PTP, chrony); for a bag play /clock and set use_sim_time: true"


def _apart(age_ms: float) -> str:
    return f"{abs(age_ms) / 1e3:.3g} s {'behind' if age_ms > 0 else 'ahead of'}"
