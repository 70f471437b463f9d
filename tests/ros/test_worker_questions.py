"""Questions of the node to its worker processes: what cannot be asked ends no process and holds nothing up."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tiny_student import CONTRACT

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.ros.workers.remote_cameras import RemoteCameras, _contract_text
from ros_kd_perception.system.message_channel import MAX_MESSAGE_BYTES


@dataclass
class Process:
    """A worker process as the node sees it."""

    is_gone: bool = False
    is_up: bool = True
    ended: int = 0
    asked: int = 0

    def try_send(self, kind: str, descriptor: int | None = None, **fields: Any) -> bool:
        if fields["text"] == "too long":
            raise ValueError("expected a message of at most 1 byte, got more")
        self.asked += not self.is_gone
        return not self.is_gone

    def end_now(self) -> None:
        self.ended += 1


class Questions(RemoteCameras):
    """The part that asks, with processes that answer at once."""

    def __init__(self) -> None:
        self._questions = itertools.count(1)
        self._asked, self._answers, self._answered = {}, {}, threading.Condition()

    def ask(self, processes: list[Process], text: str = "") -> list[dict[str, Any]]:
        answering = threading.Timer(0.2, self._answer)
        answering.start()
        links: Any = processes
        answers = self._ask(links, "check_model", text=text)
        answering.join()
        return answers

    def _answer(self) -> None:
        with self._answered:
            self._answers |= {number: {} for number, one in self._asked.items() if one.asked}  # type: ignore[attr-defined]
            self._answered.notify_all()


def test_a_process_whose_end_was_seen_before_it_was_asked_holds_no_answer_up() -> None:
    alive, gone = Process(), Process(is_gone=True)
    started_s = time.monotonic()
    assert Questions().ask([alive, gone]) == [{}]
    assert time.monotonic() - started_s < 4.0
    assert (alive.ended, gone.ended) == (0, 1)


def test_a_question_that_cannot_be_sent_ends_no_process_now_or_later() -> None:
    questions, processes = Questions(), [Process(), Process()]
    with pytest.raises(ValueError, match="at most 1 byte"):
        questions.ask(processes, "too long")
    assert questions.ask(processes) == [{}, {}]
    assert [one.ended for one in processes] == [0, 0]


def test_notes_in_a_contract_may_be_longer_than_a_message() -> None:
    contract = replace(CONTRACT, provenance={"frames": "ü" * MAX_MESSAGE_BYTES}, metrics={"note": "x" * 500_000})
    text = _contract_text(contract)
    assert len(text) < 10_000
    assert ModelContract.from_json(text) == replace(CONTRACT, provenance={}, metrics={})
