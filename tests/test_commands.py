"""Test what the installed commands say before their own module is there."""

from __future__ import annotations

import importlib

import pytest

from ros_kd_perception import commands


def interrupted(name: str) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_while_a_command_is_loaded_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert commands.replay_bag() == 130
    assert capsys.readouterr().err == "replay_bag: interrupted\n"
