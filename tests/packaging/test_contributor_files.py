"""Test the files for contributors: hooks before a commit, CI, and the forms of the forge."""

import re
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

GITHUB = ROOT / ".github"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def test_hooks_run_the_versions_that_lint_runs() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = {hook["id"]: hook for repository in config["repos"] for hook in repository["hooks"]}

    assert set(hooks) == {"ruff-check", "ruff-format", "mypy"}
    assert hooks["mypy"]["entry"].startswith(".venv/bin/python")
    (pinned,) = set(re.findall(r'"(ruff==[\w.]+)"', setup))  # one version for lint and for the site
    for name in ("ruff-check", "ruff-format"):
        assert hooks[name]["additional_dependencies"] == [pinned]


def test_workflow_runs_what_is_run_here() -> None:
    jobs = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]

    assert commands == [".ci/run"]
    assert (ROOT / commands[0]).stat().st_mode & 0o111
    script = (ROOT / commands[0]).read_text(encoding="utf-8")
    assert [line for line in script.splitlines() if line.startswith("make ")][-2:] == ["make lint", "make docs"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_has_what_the_forge_asks_for(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))

    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    for field in fields:
        assert field["type"] in ("input", "textarea")
        assert field["attributes"]["label"]
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_both_forms_are_found() -> None:
    assert [path.stem for path in FORMS] == ["bug", "feature"]
