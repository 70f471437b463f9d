"""Questions of the node to its worker processes: what cannot be asked ends no process and holds nothing up."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tiny_student import CONTRACT

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.ros.workers.remote_cameras import _contract_text
from ros_kd_perception.ros.workers.worker_questions import WorkerQuestions
from ros_kd_perception.system.message_channel import MAX_MESSAGE_BYTES


@dataclass
class Process:
    """A worker process as the node sees it. It answers when `answer` is called."""

    is_gone: bool = False
    is_up: bool = True
    ended: int = 0
    questions: list[int] = field(default_factory=list)

    def try_send(self, kind: str, descriptor: int | None = None, **fields: Any) -> bool:
        if fields["text"] == "too long":
            raise ValueError("expected a message of at most 1 byte, got more")
        if not self.is_gone:
            self.questions.append(fields["number"])
        return not self.is_gone

    def end_now(self) -> None:
        self.ended += 1


def ask(questions: WorkerQuestions, processes: list[Process], text: str = "") -> list[dict[str, Any]]:
    def answer() -> None:
        for number in [number for one in processes for number in one.questions]:
            questions.see_answer({"number": number})

    answering = threading.Timer(0.2, answer)
    answering.start()
    links: Any = processes
    answers = questions.ask(links, "check_model", text=text)
    answering.join()
    return answers


def test_a_process_whose_end_was_seen_before_it_was_asked_holds_no_answer_up() -> None:
    alive, gone = Process(), Process(is_gone=True)
    started_s = time.monotonic()
    assert len(ask(WorkerQuestions(), [alive, gone])) == 1
    assert time.monotonic() - started_s < 4.0
    assert (alive.ended, gone.ended) == (0, 1)


def test_a_question_that_cannot_be_sent_ends_no_process_now_or_later() -> None:
    questions, processes = WorkerQuestions(), [Process(), Process()]
    with pytest.raises(ValueError, match="at most 1 byte"):
        ask(questions, processes, "too long")
    assert [answer["number"] for answer in ask(questions, processes)] == [one.questions[-1] for one in processes]
    assert [one.ended for one in processes] == [0, 0]


def test_notes_in_a_contract_may_be_longer_than_a_message() -> None:
    contract = replace(CONTRACT, provenance={"frames": "ü" * MAX_MESSAGE_BYTES}, metrics={"note": "x" * 500_000})
    text = _contract_text(contract)
    assert len(text) < 10_000
    assert ModelContract.from_json(text) == replace(CONTRACT, provenance={}, metrics={})
