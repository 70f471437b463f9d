"""Memory that processes share: slots that do not overlap, and clear refusals."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from hypothesis import given
from hypothesis import strategies as st

from ros_kd_perception.system.frame_memory import FrameMemory, NoFrameMemory

OUTPUTS = {"class_map": (np.uint8, (3, 5)), "boxes": (np.float32, (7, 4)), "labels": (np.int64, (7,))}


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    counts=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    slots=st.integers(1, 5),
)
def test_what_is_written_to_one_place_stays_there(size: tuple[int, int], counts: list[int], slots: int) -> None:
    outputs = {f"output {n}": (np.float32 if n % 2 else np.uint8, (count, 2)) for n, count in enumerate(counts)}
    memory = FrameMemory((*size, 3), outputs, slots)
    places = [memory.network_input(slot) for slot in range(slots)]
    places += [memory.outputs(slot)[name][0] for slot in range(slots) for name in outputs]
    for number, place in enumerate(places):
        place[...] = number
    assert all((place == number).all() for number, place in enumerate(places))
    assert all(place.ctypes.data % 64 == 0 for place in places)


def test_another_process_sees_the_same_memory() -> None:
    script = """
import sys
import numpy as np
from ros_kd_perception.system.frame_memory import FrameMemory
memory = FrameMemory((2, 2, 3), {"boxes": (np.float32, (3,))}, 2, int(sys.argv[1]))
assert memory.network_input(1)[0, 0, 0] == 7
memory.outputs(1)["boxes"][0][...] = 0.5
"""
    memory = FrameMemory((2, 2, 3), {"boxes": (np.float32, (3,))}, 2)
    memory.network_input(1)[0, 0, 0] = 7
    command = [sys.executable, "-c", script, str(memory.descriptor)]
    subprocess.run(command, cwd=ROOT, pass_fds=[memory.descriptor], check=True, timeout=60)
    np.testing.assert_array_equal(memory.outputs(1)["boxes"][0], [0.5] * 3)
    assert {name: values.shape for name, values in memory.outputs(1).items()} == {"boxes": (1, 3)}
    with pytest.raises(IndexError, match="slot from 0 to 1, got 2"):
        memory.network_input(2)


def test_memory_has_no_name_and_ends_with_its_last_user() -> None:
    before = len(os.listdir("/proc/self/fd"))
    memory = FrameMemory((64, 64, 3), OUTPUTS, 4)
    view = memory.network_input(0)
    assert not [name for name in os.listdir("/dev/shm") if "ros_kd_perception" in name]
    assert "memfd:ros_kd_perception frames" in Path("/proc/self/maps").read_text()
    del memory
    view[...] = 1  # a view keeps the memory, not the descriptor
    del view
    gc.collect()
    assert "ros_kd_perception frames" not in Path("/proc/self/maps").read_text()
    assert len(os.listdir("/proc/self/fd")) == before


def test_memory_that_cannot_be_had_is_refused_with_a_sentence() -> None:
    with pytest.raises(NoFrameMemory, match="expected shared frames of at most 4096 MiB, got 12288 MiB"):
        FrameMemory((1 << 15, 1 << 15, 3), {}, 4)
    small = FrameMemory((2, 2, 3), {}, 1)
    with pytest.raises(NoFrameMemory, match="expected 192 bytes of shared frames, got 64"):
        FrameMemory((8, 8, 3), {}, 1, os.dup(small.descriptor))


def test_memory_that_the_machine_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(NoFrameMemory, match=r"2 MiB of free memory for frames.*No space left.*preparation_processes"):
        FrameMemory((512, 512, 3), {}, 2)
    assert len(os.listdir("/proc/self/fd")) == before
