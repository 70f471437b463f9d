"""The SROS 2 policy against the interface of a running node: it allows everything that the node uses, and no more."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from built_messages import with_messages
from checkout import ROOT
from ros_graph import Peer

POLICY = ROOT / "config" / "sros2_policy.xml"
RULES = {("topics", "publish"), ("topics", "subscribe"), ("services", "reply")}

USES = {"publish": "publisher", "subscribe": "subscriber", "reply": "service"}


def expressions() -> dict[str, list[str]]:
    """Return the full names for each permission, resolved as sros2 resolves the names of a profile."""
    [profile] = ElementTree.parse(POLICY).getroot().findall("enclaves/enclave/profiles/profile")
    namespace = profile.attrib["ns"].rstrip("/")
    private = f"{namespace}/{profile.attrib['node']}"
    found: dict[str, list[str]] = {}
    for group in profile:
        [(what, rule)] = group.attrib.items()
        assert rule == "ALLOW"
        assert (group.tag, what) in RULES
        for item in group:
            assert item.tag == group.tag.removesuffix("s")
            name = item.text or ""
            full = {"~": private + name[1:], "/": name}.get(name[0], f"{namespace}/{name}")
            found.setdefault(what, []).append(full)
    return found


def test_the_policy_allows_what_the_node_does_and_nothing_else(
    peer: Peer, start_node: Any, environment: dict[str, str], with_bond: dict[str, str], foxglove_messages: Path
) -> None:
    environment.update(with_messages(with_bond, foxglove_messages))
    # Every option that adds a topic or a service.
    options = {
        "left.image_transport": "compressed", "front.scan.enabled": True, "front.ground_points.enabled": True,
        "front.ground_detections.enabled": True, "front.mounting.height_m": 1.5, "publish_confidence": True,
        "publish_camera_info": True,
    }  # fmt: skip
    start_node(cameras=["front", "left"], use_sim_time=True, **options)
    peer.until_active()
    allowed = expressions()

    def interface() -> dict[str, set[str]]:
        return {rule: set(peer.interface(what)) for rule, what in USES.items()}

    def refused(names: dict[str, set[str]]) -> list[str]:
        return [
            f"{what} {name}"
            for what, found in names.items()
            for name in sorted(found)
            if not any(fnmatchcase(name, expression) for expression in allowed[what])
        ]

    def unused(names: dict[str, set[str]]) -> list[str]:
        return [
            f"{what} {expression}"
            for what, found in allowed.items()
            for expression in found
            if not any(fnmatchcase(name, expression) for name in names[what])
        ]

    peer.until(
        lambda: not unused(interface()), f"the node does all that it is allowed to, but for {unused(interface())}"
    )
    assert refused(interface()) == []
    assert peer.interface("client") == {}


def test_worker_processes_use_only_names_that_the_policy_allows(peer: Peer, start_node: Any) -> None:
    """They have the enclave of the node, so its policy is theirs."""
    start_node(cameras=["front", "left"], use_sim_time=True, preparation_processes="1")
    peer.until_active()
    workers = ("_perception_worker_1", "_perception_worker_2")
    peer.until(lambda: set(workers) <= set(peer.node.get_node_names()), "both worker processes are on the graph")
    masks = ["/perception/front/segmentation", "/perception/left/segmentation"]

    def published() -> set[str]:
        return {name for worker in workers for name in peer.interface("publisher", worker)}

    peer.until(lambda: published() >= set(masks), "a worker process publishes the results")
    allowed = expressions()
    for worker in workers:
        for rule, what in USES.items():
            names = peer.interface(what, worker)
            refused = [name for name in names if not any(fnmatchcase(name, expression) for expression in allowed[rule])]
            assert refused == [], f"{worker}: {what}"


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("publish", "/cmd_vel"), ("publish", "/clock"), ("publish", "/front/image_raw"),
        ("publish", "/other/front/detections"),
        ("subscribe", "/cmd_vel"), ("subscribe", "/rosout"), ("reply", "/other/change_state"),
    ],
)  # fmt: skip
def test_names_that_the_node_does_not_use_are_denied(what: str, name: str) -> None:
    assert not any(fnmatchcase(name, expression) for expression in expressions()[what])
