"""WorkerQuestions: what a node asks its worker processes, and their answers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ros_kd_perception.scheduling.worker_link import WorkerLink

_ANSWER_S = 5.0


class WorkerQuestions:
    """Asks worker processes and waits for their answers. Messages of the processes come from other threads."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._asked: dict[int, WorkerLink] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._answered = threading.Condition()

    def ask(
        self, links: Sequence[WorkerLink], kind: str, descriptor: int | None = None, **fields: Any
    ) -> list[dict[str, Any]]:
        """Ask processes, and return the answers of those that do not end meanwhile.

        One that does not answer in time is ended. It would go on with what it knew before.

        Args:
            links: The processes.
            kind: Kind of the message.
            descriptor: Descriptor of a file to pass along.
            fields: Further fields of the message.

        Raises:
            ValueError: The question cannot be sent. No process is ended for it.
        """
        try:
            for link in links:
                self._ask_one(link, kind, descriptor, fields)
        except ValueError:
            with self._answered:
                self._asked.clear()
            raise
        with self._answered:
            self._answered.wait_for(lambda: self._asked.keys() <= self._answers.keys(), _ANSWER_S)
            late = [link for number, link in self._asked.items() if number not in self._answers]
            answers = [self._answers.pop(number) for number in self._asked if number in self._answers]
            self._asked.clear()
        for link in late:
            link.end_now()
        return answers

    def see_answer(self, message: dict[str, Any]) -> None:
        """Note an answer."""
        with self._answered:
            if message["number"] in self._asked:
                self._answers[message["number"]] = message
            self._answered.notify_all()

    def see_end(self, link: WorkerLink) -> None:
        """Wait no longer for the answers of a process that ended."""
        with self._answered:
            for number in [number for number, asked in self._asked.items() if asked is link]:
                del self._asked[number]
            self._answered.notify_all()

    def _ask_one(self, link: WorkerLink, kind: str, descriptor: int | None, fields: Mapping[str, Any]) -> None:
        number = next(self._numbers)
        if link.is_up:  # one that is starting has no frames yet, and reads it before its first one
            with self._answered:
                self._asked[number] = link
        if not link.try_send(kind, descriptor, number=number, **fields):
            link.end_now()
            # Take the question back here: the process may have ended before it was asked.
            with self._answered:
                self._asked.pop(number, None)
