"""The two bags of a comparison: which frames they share, and the results of these frames."""

from __future__ import annotations

from dataclasses import dataclass

from tqdm import tqdm

from ros_kd_perception.bags.reader import BagError, BagReader, RawMessage, decode_message
from ros_kd_perception.bags.result_messages import class_map_of, detections_of
from ros_kd_perception.differences.classes import ComparedClasses, SideClasses
from ros_kd_perception.differences.comparison import Comparison
from ros_kd_perception.differences.figures import NEW, OLD
from ros_kd_perception.differences.frames import FramePair
from ros_kd_perception.differences.recorded_frames import FrameCursor, FrameKey, StampIndex
from ros_kd_perception.differences.recorded_images import RecordedImages
from ros_kd_perception.differences.recorded_topics import RecordedTopics
from ros_kd_perception.model.contract import DETECTION, SEGMENTATION
from ros_kd_perception.playback_timeline import images_per_second
from ros_kd_perception.structures import BadFrame, Perception, Timing

_UNTIMED = Timing(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class RecordedSide:
    """One bag with results.

    Attributes:
        bag: The open bag.
        topics: The results of the chosen node.
    """

    bag: BagReader
    topics: RecordedTopics

    def perception_of(self, key: FrameKey, messages: dict[str, RawMessage], classes: SideClasses) -> Perception:
        """Decode the results of a frame.

        Args:
            key: Camera and stamp of the frame.
            messages: Its messages by task.
            classes: Classes of this side. Class ids of boxes may be their names.

        Raises:
            BagError: A message is damaged.
        """
        camera, stamp_ns = key
        try:
            decoded = {task: decode_message(raw) for task, raw in messages.items()}
            masks, boxes = decoded.get(SEGMENTATION), decoded.get(DETECTION)
            class_map = None if masks is None else class_map_of(camera, masks)
            id_of_name = {info.name: info.id for info in classes.boxes or ()}
            found = None if boxes is None else detections_of(camera, boxes, id_of_name)
        except (BadFrame, BagError) as error:
            raise BagError(f"{self.bag.path}: frame {stamp_ns} ns: {error}; record or replay the bag again") from None
        frame_id = next(iter(decoded.values())).header.frame_id
        return Perception(camera, stamp_ns, frame_id, class_map, found, None, _UNTIMED)


@dataclass(frozen=True)
class SharedFrames:
    """The frames that both bags have, and those that only one has.

    Attributes:
        shared: Frames with all compared tasks on both sides, in the order of the old bag, with these tasks.
        alone: Frames that only one side has, by side.
        tasks: The compared tasks.
        repeated: Number of messages that a bag has twice.
    """

    shared: dict[FrameKey, frozenset[str]]
    alone: dict[str, list[FrameKey]]
    tasks: frozenset[str]
    repeated: int

    @classmethod
    def of(cls, old: RecordedSide, new: RecordedSide, classes: ComparedClasses, quiet: bool = False) -> SharedFrames:
        """Find the frames by their stamps.

        Args:
            old: The bag of the old side.
            new: The bag of the new side.
            classes: What is compared.
            quiet: Show no progress bar.

        Raises:
            BagError: A bag is damaged, or the bags share no camera or no frame.
        """
        both = {SEGMENTATION: classes.masks, DETECTION: classes.boxes}
        tasks = frozenset(task for task, common in both.items() if common is not None)
        topics = [side.topics.of_tasks(tasks) for side in (old, new)]
        total = sum(side.bag.count(of_side) for side, of_side in zip((old, new), topics, strict=True))
        with tqdm(total=total, unit="message", desc="find frames", disable=quiet) as progress:
            indices = [
                StampIndex.of(side.bag, of_side, progress.update)
                for side, of_side in zip((old, new), topics, strict=True)
            ]
        cameras = [{camera for camera, _ in of_side.values()} for of_side in topics]
        if not cameras[0] & cameras[1]:
            raise BagError(
                f"expected a camera that {old.bag.path} and {new.bag.path} share, got {', '.join(sorted(cameras[0]))} "
                f"and {', '.join(sorted(cameras[1]))}; compare recordings of the same cameras"
            )
        # A camera may lack a task on one side, for example if only its masks were recorded.
        own_old, own_new = (
            {camera: tasks.intersection(side.topics.cameras.get(camera, ())) for camera in cameras[0] | cameras[1]}
            for side in (old, new)
        )
        common = {camera: own_old[camera] & own_new[camera] for camera in own_old}
        # Without a common task, and so for a camera of one side alone, the frames of each side are its own.
        old_frames, new_frames = (
            index.complete({camera: common[camera] or own[camera] for camera in common})
            for index, own in zip(indices, (own_old, own_new), strict=True)
        )
        in_new = set(new_frames)
        shared = {key: common[key[0]] for key in old_frames if key in in_new and common[key[0]]}
        if not shared:
            raise BagError(
                f"expected frames with the same camera and header stamp in {old.bag.path} and {new.bag.path}, got "
                f"{len(old_frames)} and {len(new_frames)} complete frames, and none of them is in both; compare "
                "recordings of the same drive"
            )
        alone = {
            OLD: [key for key in old_frames if key not in shared],
            NEW: [key for key in new_frames if key not in shared],
        }
        return cls(shared, alone, tasks, sum(index.repeated for index in indices))

    def cameras(self) -> list[str]:
        """Return the names of the cameras with shared frames."""
        return sorted({camera for camera, _ in self.shared})

    def per_second(self, old: RecordedSide) -> float:
        """Return the rate of the fastest camera."""
        topics = [topic for topic, (camera, _) in old.topics.of_tasks(self.tasks).items() if camera in self.cameras()]
        return max(images_per_second(old.bag.raw_messages([topic])) for topic in topics)

    def compare(
        self, old: RecordedSide, new: RecordedSide, images: RecordedImages, comparison: Comparison, quiet: bool
    ) -> None:
        """Read and compare every frame."""
        classes = comparison.classes
        cursors = [FrameCursor(side.bag, side.topics.of_tasks(self.tasks), self.shared) for side in (old, new)]
        for key in tqdm(self.shared, unit="frame", desc="compare", disable=quiet):
            messages = [cursor.take(key) for cursor in cursors]
            sides = zip((old, new), messages, (classes.old, classes.new), strict=True)
            seen = [side.perception_of(key, own, of_side) for side, own, of_side in sides]
            log_time_ns = min(raw.log_time_ns for raw in messages[0].values())
            comparison.add(FramePair(key[0], key[1], log_time_ns, seen[0], seen[1], images.image_of(key)))
        for side_name, keys in self.alone.items():
            for camera, stamp_ns in keys:
                comparison.figures.add_one_sided(side_name, camera, stamp_ns)
