"""Complaints of decoders that run at the same time: heard, of the right frame, and in nobody's way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ros_kd_perception.candidates import check, shadow_process
from ros_kd_perception.candidates.check import CandidateRefused, check_in_child
from ros_kd_perception.candidates.shadow_process import ShadowFailed, ShadowProcess
from ros_kd_perception.images.compressed import decode_file
from ros_kd_perception.images.decoder_warnings import MAX_VISITS, hear, hear_each, standard_error
from ros_kd_perception.structures import BadFrame

TIMEOUT_S = 60.0
DAMAGE = b"Corrupt JPEG data: premature end of data segment\n"


@pytest.fixture(autouse=True)
def standard_error_is_put_back() -> Any:
    before = (os.readlink("/proc/self/fd/2"), len(os.listdir("/proc/self/fd")))
    yield
    assert (os.readlink("/proc/self/fd/2"), len(os.listdir("/proc/self/fd"))) == before


def picture(seed: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8), (5, 5), 0)


def jpeg(seed: int) -> bytes:
    return bytes(cv2.imencode(".jpg", picture(seed))[1].tobytes())


def damaged_jpeg() -> bytes:
    content = bytearray(jpeg(9))
    del content[len(content) // 2 : len(content) // 2 + 200]
    return bytes(content)


def refused(content: bytes) -> bool:
    try:
        decode_file(content)
    except BadFrame as error:
        return error.reason == "bad_data"
    return False


class Meeting:
    """In place of `cv2.imdecode`: the first decode of each thread and round begins and ends with those of the others.

    The decoder is the real one; without this nobody could say which threads had really been inside at the same time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
        self.barrier = threading.Barrier(threads, timeout=TIMEOUT_S)
        self.calls = 0
        self._lock = threading.Lock()
        self._round = threading.local()
        self._decode = cv2.imdecode
        monkeypatch.setattr(cv2, "imdecode", self)

    def begin_round(self) -> None:
        # Who waits in the decoder for one that wants to be alone there would wait for ever.
        self.barrier.wait()
        self._round.fresh = True

    def __call__(self, *arguments: Any) -> Any:
        fresh, self._round.fresh = self._round.fresh, False
        with self._lock:
            self.calls += 1
        if fresh:
            self.barrier.wait()
        image = self._decode(*arguments)
        if fresh:
            self.barrier.wait()
        return image


def rounds(meeting: Meeting, count: int, decode: Callable[[bytes], Any], content: bytes) -> list[Any]:
    results = []
    for _ in range(count):
        meeting.begin_round()
        results.append(decode(content))
    return results


def test_four_threads_are_in_the_decoder_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [jpeg(seed) for seed in range(4)]
    expected = [decode_file(content) for content in contents]
    meeting = Meeting(monkeypatch, 4)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(rounds, meeting, 5, decode_file, content) for content in contents]
        for future, image in zip(futures, expected, strict=True):
            for result in future.result(TIMEOUT_S):
                np.testing.assert_array_equal(result, image)
    assert meeting.calls == 20  # none twice


def test_damage_is_of_the_frame_that_has_it_however_many_are_decoded(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    contents = [jpeg(0), damaged_jpeg(), jpeg(1), damaged_jpeg()]
    meeting = Meeting(monkeypatch, 4)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(rounds, meeting, 25, refused, content) for content in contents]
        found = [set(future.result(TIMEOUT_S)) for future in futures]
    assert found == [{False}, {True}, {False}, {True}]
    assert meeting.calls == 200  # all were inside when somebody complained, so each was judged alone
    assert capfd.readouterr().err == ""


def test_damage_among_sound_frames_without_any_order() -> None:
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(refused, [jpeg(0), jpeg(1), damaged_jpeg(), jpeg(2), jpeg(3)] * 60))
    assert outcomes == [False, False, True, False, False] * 60


def test_each_of_several_decoders_has_complaints_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    lines = [b"Corrupt JPEG data: 1 extraneous bytes before marker 0xd9\n", b"from elsewhere\n", DAMAGE, b""]
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(refused, damaged_jpeg()) for _ in range(60)]
        heard = hear_each([lambda line=line: os.write(2, line) for line in lines])
        assert all(other.result(TIMEOUT_S) for other in others)
    assert heard == [(57, [lines[0].decode().strip()]), (15, []), (49, [DAMAGE.decode().strip()]), (0, [])]
    assert capfd.readouterr().err == "from elsewhere\n"


def test_other_threads_keep_their_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    def decode() -> None:
        os.write(2, b"from elsewhere\n" + DAMAGE)
        os.write(2, b"Corrupt JPEG data: 1 extraneous bytes before marker 0xd9\n")

    assert hear(decode)[1] == [DAMAGE.decode().strip()]
    assert capfd.readouterr().err == "from elsewhere\n"


def test_a_complaint_behind_half_a_line_of_another_decoder_is_heard() -> None:
    """libpng writes its text and the end of the line one after the other."""
    half, whole = threading.Event(), threading.Event()

    def warn() -> None:
        os.write(2, b"libpng warning: iCCP: known incorrect sRGB profile")
        half.set()
        assert whole.wait(TIMEOUT_S)
        os.write(2, b"\n")

    def complain(inside: threading.Event) -> None:
        inside.set()
        assert half.wait(TIMEOUT_S)
        os.write(2, DAMAGE)
        whole.set()

    inside = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        complaining = pool.submit(hear, lambda: complain(inside))
        assert inside.wait(TIMEOUT_S)
        warning = pool.submit(hear, warn)
        assert complaining.result(TIMEOUT_S)[1] == [DAMAGE.decode().strip()]
        assert warning.result(TIMEOUT_S)[1] == []


def test_harmless_bytes_of_a_webcam_cost_no_second_decode() -> None:
    both, calls = threading.Barrier(2, timeout=TIMEOUT_S), []

    def decode() -> None:
        calls.append(1)
        both.wait()
        os.write(2, b"Corrupt JPEG data: 2 extraneous bytes before marker 0xd9\n")
        both.wait()

    with ThreadPoolExecutor(2) as pool:
        assert [future.result(TIMEOUT_S)[1] for future in [pool.submit(hear, decode) for _ in range(2)]] == [[], []]
    assert len(calls) == 2


def test_a_decoder_that_raises_ends_its_part(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        os.write(2, b"from elsewhere\n")
        raise MemoryError

    with pytest.raises(MemoryError):
        hear(fail)
    assert capfd.readouterr().err == "from elsewhere\n"


def test_what_others_write_comes_out_though_decoders_never_pause(capfd: pytest.CaptureFixture[str]) -> None:
    inside, release, done = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        os.write(2, b"from elsewhere\n")
        inside.set()
        assert release.wait(TIMEOUT_S)

    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(hear, hold)
        assert inside.wait(TIMEOUT_S)
        for _ in range(MAX_VISITS - 1):
            hear(lambda: None)
        assert capfd.readouterr().err == ""
        next_one = pool.submit(hear, done.set)
        assert not done.wait(0.2)
        release.set()
        assert done.wait(TIMEOUT_S)
        holding.result(TIMEOUT_S)
        next_one.result(TIMEOUT_S)
    assert capfd.readouterr().err == "from elsewhere\n"


def test_frames_are_decoded_where_standard_error_is_closed() -> None:
    script = "import os; os.close(2); from ros_kd_perception.images.decoder_warnings import *; print(hear(lambda: 7))\n"
    script += "with standard_error() as errors: print(errors)"
    outcome = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert outcome.stdout == "(7, [])\nNone\n"


def test_children_that_start_during_a_decode_do_not_keep_the_redirection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, told = os.readlink("/proc/self/fd/2"), tmp_path / "told"
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nreadlink /proc/$$/fd/2 >> {told}\n")
    script.chmod(0o755)
    monkeypatch.setattr(check.sys, "executable", str(script))
    assert shadow_process.sys.executable == str(script)

    def start_shadow() -> None:
        shadow = ShadowProcess("x.onnx")
        with pytest.raises(ShadowFailed):
            shadow.wait_until_ready()
        shadow.close()

    def start_trial() -> None:
        with pytest.raises(CandidateRefused):
            check_in_child("x.onnx", {})

    hear(start_trial)
    hear(start_shadow)
    with standard_error() as errors:
        assert os.readlink(f"/proc/self/fd/{errors}") == own
    assert told.read_text().splitlines() == [own, own]
