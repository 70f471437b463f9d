"""Build the form of a student that a vehicle runs, from the settings of its export."""

from __future__ import annotations

from training.export.settings import ExportSettings
from training.networks.deployed import DeployedStudent
from training.networks.student import Student


def deployed_student(student: Student, settings: ExportSettings) -> DeployedStudent:
    """Return a fused copy of a student with the input size, rows, scales and views of an export."""
    return DeployedStudent(
        student,
        settings.height,
        settings.width,
        settings.rows,
        settings.score_scales,
        settings.half_view,
        settings.dropped_overlap,
    )
