"""Tests class maps in the memory of messages: the memory is reused only after the last view of it is gone."""

from collections.abc import Callable

import numpy as np
import pytest
from tiny_student import CONTRACT, write_tiny_student

from ros_kd_perception.bags.reader import rosbags_message_types
from ros_kd_perception.messages.builder import MessageBuilder, MessageTypes
from ros_kd_perception.messages.mask_memory import MaskMessages
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from ros_kd_perception.ros.installed_messages import rclpy_message_types
from ros_kd_perception.structures import Frame


def new_masks(types: Callable[[], MessageTypes] = rclpy_message_types) -> MaskMessages:
    return MessageBuilder(types(), CONTRACT, reuse_parts=True).masks


@pytest.mark.parametrize("types", [rclpy_message_types, rosbags_message_types])
def test_memory_is_reused_when_the_last_view_is_gone(types: Callable[[], MessageTypes]):
    masks = new_masks(types)
    first = masks.new_class_map(4, 6)
    message = masks.message_of(first)
    corner = first[1:, ::2].T  # a view of a view
    del first
    second = masks.new_class_map(4, 6)
    assert masks.message_of(second) is not message
    second[:] = 9
    corner[:] = 7
    assert (second == 9).all()
    del corner
    third = masks.new_class_map(4, 6)
    assert masks.message_of(third) is message


def test_only_a_whole_class_map_has_a_message():
    masks = new_masks()
    class_map = masks.new_class_map(4, 6)
    class_map[:] = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert masks.message_of(class_map).data.tolist() == list(range(24))
    for other in (class_map[:2], class_map.T, class_map.copy(), class_map.reshape(6, 4)):
        assert masks.message_of(other) is None


def test_memory_for_many_different_sizes_is_bounded():
    masks = new_masks()
    for side in range(1, 60):
        kept = [masks.new_class_map(side, side) for _ in range(6)]
        del kept
    assert sum(len(spare) for spare in masks._spare.values()) <= 32
    assert not masks._lent


def test_the_mask_message_has_the_memory_of_its_class_map(tmp_path):
    model = OnnxModel.open(write_tiny_student(tmp_path / "tiny.onnx"), device="cpu")
    builder = MessageBuilder(rclpy_message_types(), CONTRACT, reuse_parts=True)
    perceiver, apart = Perceiver(model, new_class_map=builder.masks.new_class_map), Perceiver(model)
    kept = []
    for seed, size in enumerate([(100, 192), (100, 192), (64, 96), (100, 192)]):
        frame = Frame("front", seed, "", np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
        [perception], [expected] = perceiver.perceive([frame]), apart.perceive([frame])
        message = builder.segmentation(perception)
        pixels = np.frombuffer(message.data, np.uint8).reshape(size)
        assert (message.height, message.width, message.step, message.header.stamp.nanosec) == (*size, size[1], seed)
        assert np.shares_memory(pixels, perception.class_map)
        assert (pixels == expected.class_map).all()
        kept.append((perception, expected))
    # A thread that keeps all class maps, such as the overlay's, sees them unchanged.
    for perception, expected in kept:
        assert (perception.class_map == expected.class_map).all()
    copied = builder.segmentation(kept[0][1])
    assert bytes(copied.data) == kept[0][1].class_map.tobytes()
    assert not np.shares_memory(np.frombuffer(copied.data, np.uint8), kept[0][1].class_map)
