"""QUALITY_DECLARATION.md: its lists are those of the code, and it answers each requirement of Level 2."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable

import pytest
import yaml
from checkout import ROOT

import ros_kd_perception
from ros_kd_perception.free_space.parameters import camera_declarations
from ros_kd_perception.ground_positions.parameters import ground_camera_declarations
from ros_kd_perception.parameters.rules import CAMERA_PARAMETERS

TEXT = (ROOT / "QUALITY_DECLARATION.md").read_text(encoding="utf-8")
STATES = ("met", "partly", "not met")
# Requirements of Level 2, by section of REP-2004.
ROWS = {"1": 6, "2": 2, "3": 5, "4": 4, "5": 3, "6": 1}


def listed(name: str) -> list[str]:
    """Return the names of a list, which a comment precedes and an empty line ends."""
    (block,) = re.findall(rf"^\[//\]: # \({name}\)\n(.*?)(?:\n\n|\n?\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", block)


def commands() -> Iterable[str]:
    text = (ROOT / "ros_kd_perception" / "commands.py").read_text(encoding="utf-8")
    return re.findall(r'_run\("(\w+)", "', text)


def training_commands() -> Iterable[str]:
    text = (ROOT / "training" / "__main__.py").read_text(encoding="utf-8")
    return re.findall(r'^    "([\w-]+)": \("training\.', text, re.MULTILINE)


def policy(group: str, action: str) -> Callable[[], Iterable[str]]:
    """Return the names of the SROS 2 policy, which a test compares with a running node."""
    root = ElementTree.parse(ROOT / "config" / "sros2_policy.xml").getroot()
    return lambda: [str(item.text) for each in root.iter(group) if action in each.attrib for item in each]


def parameters() -> Iterable[str]:
    """Return the names of the parameter file, which a test compares with what the node declares."""
    document = yaml.safe_load((ROOT / "config" / "perception.yaml").read_text(encoding="utf-8"))
    return list(document["/**"]["ros__parameters"])


def camera_parameters() -> Iterable[str]:
    of_sinks = [*camera_declarations("front"), *ground_camera_declarations("front")]
    return [*CAMERA_PARAMETERS, *(name.removeprefix("front.") for name in of_sinks)]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("commands", commands),
        ("subscribed", policy("topics", "subscribe")),
        ("published", policy("topics", "publish")),
        ("services", policy("services", "reply")),
        ("parameters", parameters),
        ("camera parameters", camera_parameters),
        ("python", lambda: ros_kd_perception.__all__),
        ("training", training_commands),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lists_are_those_of_the_code(name: str, names: Callable[[], Iterable[str]]) -> None:
    found = listed(name)
    assert len(found) == len(set(found))
    assert set(found) == set(names()), f"bring the list '{name}' of QUALITY_DECLARATION.md up to date"


def test_each_requirement_of_level_2_has_a_state_and_a_reason() -> None:
    rows = re.findall(r"^\| (\d)\.(\d) [^|]+ \| ([^|]+) \| ([^|]+) \|$", TEXT, re.MULTILINE)
    assert [(section, number) for section, number, _, _ in rows] == [
        (section, str(number)) for section, count in ROWS.items() for number in range(1, count + 1)
    ]
    for section, number, state, reason in rows:
        assert state in STATES, f"{section}.{number}"
        assert len(reason) > 10, f"{section}.{number}"


def test_it_claims_no_level_while_a_row_is_not_met() -> None:
    states = re.findall(r"^\| \d\.\d [^|]+ \| ([^|]+) \|", TEXT, re.MULTILINE)
    assert ("does not claim Level 2" in TEXT) == (set(states) != {"met"})
    is_stable = int(ros_kd_perception.__version__.partition(".")[0]) >= 1
    assert ("| 1.2 stable version, 1.0.0 or later | met |" in TEXT) == is_stable


def test_the_readme_links_to_it() -> None:
    assert "](QUALITY_DECLARATION.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_coverage_that_it_names_is_the_one_that_is_checked() -> None:
    (percent,) = re.findall(r"^COVERAGE_PERCENT_MIN := (\d+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert f"fails below {percent} %" in TEXT
