"""Every test has the markers that `make check` and `make test` select by, and a run says which tests it leaves out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from checkout import ROOT

OF_IMPORTS = {
    "ros_graph": "graph",
    "rclpy.context": "graph",
    "rclpy.executors": "graph",
    "rclpy.node": "graph",
    "lightning": "training",
    "torch": "training",
    "training": "training",
}
LEFT_OUT = re.compile(
    r"^(\d+) tests left out \((?:.*, )?(\d+) marked slow.*\); \.ci/run runs every test$", re.MULTILINE
)


@cache
def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports, and their packages."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return names | {name.partition(".")[0] for name in names}


def needed_markers(path: Path) -> set[str]:
    of_folder = {"ros": "graph", "training": "training"}.get(path.relative_to(ROOT / "tests").parts[0])
    return {marker for name, marker in OF_IMPORTS.items() if name in imports_of(path)} | ({of_folder} - {None})


def test_tests_are_marked_by_folder_and_by_what_they_import(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        missing = needed_markers(item.path) - {marker.name for marker in item.iter_markers()}
        assert not missing, f"{item.nodeid} needs the markers {missing}"


def test_a_run_says_what_it_leaves_out_whatever_the_number_of_workers() -> None:
    command = [sys.executable, "-m", "pytest", "-m", "not slow", "-k", "marker", "tests/packaging/test_doc_blocks.py"]
    printed = []
    for workers in ("0", "2"):
        outcome = subprocess.run(
            [*command, "-n", workers], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        printed.append(LEFT_OUT.findall(outcome.stdout))
    assert printed[0] == printed[1]
    ((number, slow),) = printed[0]
    assert int(number) > int(slow) > 0
