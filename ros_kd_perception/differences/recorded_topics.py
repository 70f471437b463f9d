"""Finds the results of a perception node in a bag: topics by camera, and the classes that they have."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ros_kd_perception.bags.reader import BagError, BagReader, decode_message
from ros_kd_perception.bags.result_messages import class_names_of
from ros_kd_perception.differences.classes import UNLABELED_ID, SideClasses, classes_of_names
from ros_kd_perception.messages.builder import UNLABELED_NAME
from ros_kd_perception.messages.result_topics import FRAME_TOPICS, LABEL_TOPICS
from ros_kd_perception.model.contract import DETECTION, SEGMENTATION
from ros_kd_perception.structures import BadFrame

_RECORDED = {(topic.name, topic.type_name): topic.task for topic in FRAME_TOPICS if topic.recorded}
_LABELS = {topic.task: topic.name for topic in LABEL_TOPICS}
# Masks of a part of the image, such as `ground/segmentation`, are named like those of a camera one level below.
_PARTS = {topic.name.rpartition("/")[0] for topic in FRAME_TOPICS if "/" in topic.name}
_TOPIC = re.compile(r"(?P<node>/.+)/(?P<camera>[^/]+)/(?P<name>[^/]+)")
_MAX_NAMES = 8


@dataclass(frozen=True)
class RecordedTopics:
    """The results of one node in a bag.

    Attributes:
        node: Full name of the node.
        cameras: Topic by task, `SEGMENTATION` or `DETECTION`, by camera.
    """

    node: str
    cameras: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, bag: BagReader, option: str, node: str | None, cameras: Collection[str] = ()) -> RecordedTopics:
        """Find the topics.

        Args:
            bag: An open bag.
            option: Option that chooses a node, for the error.
            node: The node to take. None if there is only one.
            cameras: The cameras to take. Empty: all.

        Raises:
            BagError: There are no results, results of several nodes, or no results of the wanted node or cameras.
        """
        nodes: dict[str, dict[str, dict[str, str]]] = {}
        for topic in bag.topics:
            match = _TOPIC.fullmatch(topic.name)
            task = None if match is None else _RECORDED.get((match["name"], topic.message_type))
            if match is not None and task is not None and topic.count:
                nodes.setdefault(match["node"], {}).setdefault(match["camera"], {})[task] = topic.name
        nodes = _without_parts(nodes)
        if not nodes:
            raise BagError(
                f"expected results of a perception node in {bag.path}, found: {_some([t.name for t in bag.topics])}; "
                "give a bag of record_perception or replay_bag"
            )
        if node is None and len(nodes) > 1:
            raise BagError(
                f"expected results of one perception node in {bag.path}, found those of {_some(sorted(nodes))}; choose "
                f"one with {option}"
            )
        chosen = next(iter(nodes)) if node is None else node
        if chosen not in nodes:
            raise BagError(
                f"expected results of {chosen} in {bag.path}, found those of {_some(sorted(nodes))}; correct {option}"
            )
        found = nodes[chosen]
        if missing := sorted(set(cameras) - found.keys()):
            raise BagError(
                f"expected results of {', '.join(missing)} in {bag.path}, found those of {_some(sorted(found))}; "
                "correct --cameras"
            )
        return cls(chosen, {camera: found[camera] for camera in sorted(found) if not cameras or camera in cameras})

    def tasks(self) -> set[str]:
        """Return the tasks that there are results of."""
        return {task for topics in self.cameras.values() for task in topics}

    def of_tasks(self, tasks: Collection[str]) -> dict[str, tuple[str, str]]:
        """Return camera and task by topic, of some tasks."""
        return {
            topic: (camera, task)
            for camera, topics in self.cameras.items()
            for task, topic in topics.items()
            if task in tasks
        }


def _without_parts(nodes: Mapping[str, dict[str, dict[str, str]]]) -> dict[str, dict[str, dict[str, str]]]:
    """Return topic by task, by camera, by node without what looks like a node and belongs to a camera of another."""
    found = {}
    for node, cameras in nodes.items():
        parent, _, camera = node.rpartition("/")
        is_camera = camera in nodes.get(parent, {})
        own = {name: topics for name, topics in cameras.items() if not (is_camera and name in _PARTS)}
        if own:
            found[node] = own
    return found


def classes_in(bag: BagReader, topics: RecordedTopics, colors: dict[str, tuple[int, int, int]]) -> SideClasses:
    """Read the classes of a node's results from its latched label_info topics.

    Args:
        bag: The open bag.
        topics: The results.
        colors: Colours by name so far; new names are added.

    Raises:
        BagError: The names are missing, or those of two cameras or two moments differ.
    """
    names: dict[str, dict[int, str]] = {}
    wanted = {f"{topics.node}/{camera}/{_LABELS[task]}": task for camera in topics.cameras for task in topics.tasks()}
    for raw in bag.raw_messages(wanted):
        task = wanted[raw.topic]
        try:
            found = class_names_of(raw.topic, decode_message(raw))
        except BadFrame as error:
            raise BagError(f"{bag.path}: {error}") from None
        if names.setdefault(task, found) != found:
            raise BagError(
                f"expected one label set in {bag.path}, found another one on {raw.topic}: the model was changed; "
                "compare recordings of one model each"
            )
    for task in sorted(topics.tasks() - names.keys()):
        raise BagError(
            f"expected the class names of {topics.node} in {bag.path}, found no {_LABELS[task]} topic with a message; "
            "record it, too, as record_perception does"
        )
    return _side_classes(names, colors)


def _side_classes(names: Mapping[str, Mapping[int, str]], colors: dict[str, tuple[int, int, int]]) -> SideClasses:
    masks = boxes = None
    unlabeled_id = UNLABELED_ID
    if SEGMENTATION in names:
        unlabeled_id = next((i for i, name in names[SEGMENTATION].items() if name == UNLABELED_NAME), UNLABELED_ID)
        masks = classes_of_names({i: n for i, n in names[SEGMENTATION].items() if i != unlabeled_id}, colors)
    if DETECTION in names:
        boxes = classes_of_names(names[DETECTION], colors)
    return SideClasses(masks, boxes, unlabeled_id)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more if names else "nothing"
