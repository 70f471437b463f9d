"""Frames that the middleware replaced or lost are counted, by the sequence numbers of the messages."""

from __future__ import annotations

from typing import Any

from ros_graph import Peer, camera_picture, image_message
from sensor_msgs.msg import Image

from ros_kd_perception.ros.topics.lost_messages import LostMessages

T0 = 1_700_000_000_000_000_000
PICTURE = camera_picture()


def lost_of(numbers: list[int | None], gids: str = "", publishers: int = 1) -> list[int]:
    counter = LostMessages(lambda: publishers)
    infos: list[dict[str, Any]] = [{"publication_sequence_number": number} for number in numbers]
    for info, gid in zip(infos, gids, strict=False):
        info["publisher_gid"] = {"data": gid.encode()}
    return [counter.before(info) for info in infos]


def test_gaps_are_counted_from_the_first_message_on() -> None:
    assert lost_of([7, 8, 11, 12, 20], "aaaaa") == lost_of([7, 8, 11, 12, 20]) == [0, 0, 2, 0, 7]


def test_each_publisher_has_numbers_of_its_own() -> None:
    assert lost_of([1000, 5, 1001, 7, 1004], "ababa") == [0, 0, 0, 1, 2]


def test_a_publisher_that_was_started_anew_begins_anew() -> None:
    assert lost_of([1000, 1, 2, 5], "abbb") == [0, 0, 0, 2]
    assert lost_of([1000, 1, 2, 5]) == [0, 0, 0, 2]


def test_publishers_that_cannot_be_told_apart_make_no_gaps() -> None:
    assert lost_of([1000, 5, 1001, 7, 1004, 9], publishers=2) == [0] * 6


def test_middleware_without_numbers_makes_no_gaps() -> None:
    assert lost_of([None, None, None]) == [0, 0, 0]
    assert LostMessages(lambda: 1).before({}) == 0


def test_ever_new_publishers_take_no_memory() -> None:
    counter = LostMessages(lambda: 1)
    for number in range(1000):
        gid = {"data": number.to_bytes(4, "big")}
        assert counter.before({"publication_sequence_number": number, "publisher_gid": gid}) == 0
    assert len(counter._newest) <= 16


def test_every_frame_that_is_sent_is_counted(peer: Peer, start_node: Any) -> None:
    """Send as fast as possible. Every frame is perceived or dropped, also those that the middleware loses."""
    start_node(max_age_ms=0.0)
    publisher = peer.matched_publisher(Image, "/front/image_raw")
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            sent += 1
            publisher.publish(image_message(PICTURE, T0 + sent * 10**6))

    def uncounted() -> int:
        send(1)
        peer.until(lambda: not peer.count("front", "waiting"), "it is worked off")
        peer.spin_for(0.3)
        return sent - peer.count("front", "received")

    def first_arrives() -> bool:
        send(1)
        peer.spin_for(0.3)
        return bool(peer.count("front", "received"))

    # The node cannot count lost frames before the first one that it receives. It may match later than the publisher.
    peer.until(first_arrives, "the node receives the camera")
    peer.until(lambda: uncounted() == uncounted(), "the node counts every frame")
    before = uncounted()
    for _ in range(5):
        send(100)
        peer.until(lambda: uncounted() == before, "every frame is counted")
    drops = peer.drops("front")
    assert drops.get("lost", 0) > 0
    assert peer.count("front", "received") == peer.count("front", "published") + sum(drops.values())
