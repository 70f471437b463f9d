"""`python -m training doctor`: say what is installed, which devices there are, and what is missing."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.doctor.finding import Finding
from training.doctor.machine import device_findings, resource_findings
from training.doctor.packages import package_findings, probes_of
from training.doctor.probing import run_probes
from training.doctor.recipe_inputs import recipe_findings
from training.doctor.report import as_json, as_text
from training.doctor.requirements import read_extras


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="write the findings as JSON to standard output")
    parser.add_argument("--network", action="store_true", help="also ask the model hub for the weights of the recipes")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings. Return 0 if training works here, and 1 if a part that it needs is missing or broken."""
    findings = look(network=arguments.network)
    print(as_json(findings) if arguments.json else as_text(findings))
    return int(any(finding.stops_training for finding in findings))


def look(network: bool = False) -> list[Finding]:
    """Return the findings about this machine.

    Args:
        network: Whether to ask the model hub.

    Raises:
        DataError: setup.py cannot be read.
    """
    extras = read_extras()
    facts = run_probes([*probes_of(extras), "torch", "onnxruntime"])
    return [
        *package_findings(extras, facts),
        *device_findings(facts["torch"], facts["onnxruntime"]),
        *resource_findings(Path.cwd()),
        *recipe_findings(network=network),
    ]
